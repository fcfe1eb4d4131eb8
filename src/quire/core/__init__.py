"""Plain data and rules that every part of Quire shares. Imports no torch.

Glossary (each word means one thing in this code base):

request      what a user sent: one prompt, one `SamplingParams`, `n` continuations
sequence     one continuation of a request
step         one pass of the model over a ragged batch: plan, forward, sample
step plan    who computes how many tokens in a step, on which pages (`core.plan`)
page         a fixed number of token slots of KV cache (other engines: block)
page table   a sequence's page ids, one list per KV group
slot         one token's place in a KV group: page_id * page_size + offset
KV group     layers whose cache lives and dies together (full attention; one window size)
row          a running sequence's index in the runner's device tensors
computed     a token is computed when its keys and values are in the cache
prefix hit   leading pages of a prompt found in the cache instead of being computed
preempt      take a running sequence's pages away; it waits and resumes later
recipe       a model family's architecture as data (`models.recipe`)
format       how a checkpoint stores weights;  layout: how Quire holds them
op           a function with a fixed signature;  kernel: one implementation of it;
reference    the op in a few lines of plain torch
executor     runs the workers;  worker: one device's process;  rank: its index
runner       a worker's engine room: device rows, KV tensors, forward, sample
prefill, decode   not modes: a row that computes many tokens, or one

Shapes: T tokens in the step, R rows, S sequences in the step, H query heads, K KV heads,
D head dim, E hidden, F MLP width, V vocabulary, N pages in the pool, P tokens per page,
M page-table width, X experts, L maximum sequence length. Batches are ragged: there is no
batch dimension.
"""
