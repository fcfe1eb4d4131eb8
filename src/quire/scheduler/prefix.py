"""What sequences share: finding computed pages for one, and making its own findable."""

from quire.kv.cache import KVCache, PrefixHit
from quire.scheduler.sequence import Sequence


def best_prefix_hit(cache: KVCache, seq: Sequence) -> PrefixHit:
    """What a waiting sequence need not compute: the longer of what the cache finds and, for
    `n > 1`, what a running sibling that has computed the prompt can share."""
    known = len(seq.token_ids)
    # Prompt log-probabilities need the logits at every position of the prompt, some poolings
    # the hidden states.
    every_token = seq.prompt_logprobs is not None or (
        seq.pooling is not None and seq.pooling.needs_every_token
    )
    if every_token or not cache.enable_prefix_caching:
        hit = cache.match_prefix((), known)
    else:
        hit = cache.match_prefix(seq.hash_pages(known - 1, cache.page_size), known)
    parent, num_prompt = seq.parent, seq.num_prompt_tokens
    if parent is None or parent.table is None or parent.num_computed_tokens < num_prompt:
        return hit
    fork = cache.fork(parent.table, num_prompt)
    return fork if fork.num_tokens > hit.num_tokens else hit


def commit_known_pages(cache: KVCache, seq: Sequence) -> None:
    """Make a running sequence's full pages findable, as far as their tokens are known to the
    host and computed by this or an earlier plan. A pending token's page has no hash yet."""
    if cache.enable_prefix_caching:
        assert seq.table is not None
        num_tokens = min(len(seq.token_ids), seq.num_computed_tokens)
        num_pages = num_tokens // cache.page_size
        if num_pages > seq.table.num_committed:
            cache.commit(seq.table, seq.hash_pages(num_tokens, cache.page_size), num_pages)
