"""One sequence's life as the scheduler sees it. Integers; no pages are moved here.

How far a sequence has come is told by two numbers, and everything else follows:

    known      = len(token_ids)          prompt and output tokens the host has seen
    computed   = num_computed_tokens     tokens whose keys and values planned steps compute

Prefilling: computed < known, nothing is pending. Decoding: the step that computed the last
token also samples the next one, so computed + 1 tokens exist; those past `known` are pending
(on the device, their ids on the way to the host).
"""

import enum

from quire.core.messages import AddRequest
from quire.core.plan import TokenLogprobs
from quire.kv.cache import PageTable
from quire.kv.hashing import extend_page_hashes
from quire.structured.state import GrammarState

OrderKey = tuple[int, float, int, int]

_MASK = 2**64 - 1


class SequenceStatus(enum.Enum):
    """Waiting sequences hold no pages and no row."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"


class Sequence:
    """One continuation of a request. Changed by the scheduler alone.

    `decode_end` and `quiet_end` let a steady step pass over a sequence after one comparison:
    while num_computed_tokens < decode_end the next token can be planned, and while
    len(token_ids) < quiet_end a token can be appended, without looking further.
    """

    def __init__(self, message: AddRequest, index: int, key: OrderKey, max_model_len: int) -> None:
        delivered = message.delivered[index] if index < len(message.delivered) else []
        self.message = message
        self.request_id = message.request_id
        self.index = index
        self.key = key
        self.token_ids = [*message.prompt_token_ids, *delivered]
        self.num_prompt_tokens = len(message.prompt_token_ids)
        self.pooling = message.pooling
        # The sequence ends when it has this many tokens. One that pools stands, once its prompt
        # is planned, like one that waits for its last token; it may fill max_model_len.
        self.limit = min(self.num_prompt_tokens + message.max_tokens, max_model_len)
        if self.pooling is not None:
            self.limit = self.num_prompt_tokens + 1
        self.stop_ids = frozenset(message.stop_token_ids)
        # Host-side logits processors and grammars need every earlier token: no planning ahead.
        params = message.params
        self.sync = bool(params.logits_processors) or params.structured_outputs is not None
        self.repetition = params.repetition_detection
        self.grammar: GrammarState | None = None
        self.seed = sequence_seed(message.seed, index)
        self.status = SequenceStatus.WAITING
        self.num_computed_tokens = 0
        self.num_late = 0  # while waiting: tokens of its last life that are still to arrive
        self.row = -1
        self.table: PageTable | None = None
        self.page_hashes: list[bytes] = []
        self.num_cached_tokens = 0  # of the first prefix hit
        self.num_preemptions = 0
        self.scheduled_time: float | None = None
        self.reported = False  # its first delta has been sent
        # None: not wanted, or delivered. The prompt belongs to the request: index 0 reports it.
        wanted = message.params.prompt_logprobs is not None and index == 0 and not delivered
        self.prompt_logprobs: list[TokenLogprobs] | None = [] if wanted else None
        self.children: list[Sequence] = []  # held back until this one has computed the prompt
        self.parent: Sequence | None = None
        self.decode_end = 0
        self.quiet_end = 0

    @property
    def num_output_tokens(self) -> int:
        """Known tokens after the prompt."""
        return len(self.token_ids) - self.num_prompt_tokens

    @property
    def num_pending(self) -> int:
        """Tokens that planned steps have sampled or will sample, not yet known to the host."""
        if self.status is SequenceStatus.RUNNING:
            return max(0, self.num_computed_tokens + 1 - len(self.token_ids))
        return self.num_late

    @property
    def total_tokens(self) -> int:
        """Known and pending tokens of a running sequence."""
        return max(len(self.token_ids), self.num_computed_tokens + 1)

    def hash_pages(self, num_tokens: int, page_size: int) -> list[bytes]:
        """Hashes of the full pages of the first `num_tokens` known tokens, or of more."""
        num_pages = num_tokens // page_size
        if len(self.page_hashes) < num_pages:
            extend_page_hashes(
                self.page_hashes, self.token_ids, num_pages, page_size, self.message.cache_salt
            )
        return self.page_hashes

    def add_prompt_logprobs(self, start: int, entries: list[TokenLogprobs] | None) -> None:
        """Put a chunk's prompt log-probabilities in their place: entry j came from the logits
        at position start + j.

        Chunks computed again after a preemption overwrite what they already gave.
        """
        collected = self.prompt_logprobs
        if collected is not None and entries is not None:
            assert start <= len(collected), "results come in the order of plans"
            collected[start : start + len(entries)] = entries


def sequence_seed(seed: int, index: int) -> int:
    """The seed of a request's index-th sequence, as a signed 64-bit integer.

    Index 0 uses the request's seed unchanged, so that `n` does not change what the first
    sequence is. The others use SplitMix64's index-th output from that seed (Steele, Lea and
    Flood, 2014): neighbouring seeds and indices give unrelated streams.
    """
    if index == 0:
        return seed
    z = (seed + index * 0x9E3779B97F4A7C15) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    z ^= z >> 31
    return z - 2**64 if z >= 2**63 else z
