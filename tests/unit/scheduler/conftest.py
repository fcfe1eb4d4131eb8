"""A runner and a model in pure Python, strict about everything the step plan promises.

The "model" keeps its KV cache in real pages: a slot holds a digest of all tokens up to its
position, written when the token is computed. To compute a token it reads every slot the token
can see through the page table and checks each; the next token is a function of what it read.
A leak, a page used twice, a stale column or a wrong prefix hit shows as a wrong slot or token.
"""

from collections import deque
from types import SimpleNamespace

import pytest

from quire.core.kv_spec import KVGroup
from quire.core.messages import AbortRequests, AddRequest
from quire.core.plan import RowStart, StepPlan, StepResult, TokenLogprobs
from quire.core.sampling_params import SamplingParams
from quire.kv.cache import KVCache
from quire.scheduler.scheduler import Scheduler

VOCABULARY = 7


def _next_token(digest: int, seed: int, masked: frozenset[int]) -> int:
    token = hash((digest, seed, 17)) % VOCABULARY
    while token in masked:
        token = (token + 1) % VOCABULARY
    return token


class _Row:
    """Device state of one row."""

    def __init__(self, start: RowStart, num_groups: int) -> None:
        self.start = start
        self.tokens: list[int] = []
        self.digests: list[int] = []
        self.pooled: list[int] = []
        self.num_computed: int | None = None  # the first plan tells: a prefix hit skips tokens
        self.pages: list[list[int]] = [[] for _ in range(num_groups)]
        for token in start.token_ids:
            self.append(token)

    def append(self, token: int) -> None:
        self.tokens.append(token)
        self.digests.append(hash((self.digests[-1] if self.digests else 0, token)))


class FakeRunner:
    """Executes plans in order. The next logits of a row in `fail` are not numbers."""

    def __init__(self, cache: KVCache, max_num_seqs: int, budget: int) -> None:
        self.page_size = cache.page_size
        self.windows = cache.windows
        self.slots = [[None] * (pool.num_pages * self.page_size) for pool in cache.pools]
        self.rows: dict[int, _Row] = {}
        self.max_num_seqs = max_num_seqs
        self.budget = budget
        self.next_step = 0
        self.fail: set[int] = set()
        self.num_tokens = 0

    def execute(self, plan: StepPlan) -> StepResult:
        assert plan.step == self.next_step
        self.next_step += 1
        for row in plan.released:
            del self.rows[row]
        for start in plan.starts:
            assert 0 <= start.row < self.max_num_seqs
            assert start.row not in self.rows, "a row was started without being released"
            self.rows[start.row] = _Row(start, len(self.windows))
        for delta in plan.pages:
            pages = self.rows[delta.row].pages[delta.group]
            assert delta.column == len(pages), "a page delta leaves a gap or overwrites"
            pages.extend(delta.page_ids)
        count = len(plan.rows)
        assert count > 0
        assert len(plan.query_lens) == len(plan.num_computed) == len(plan.samples) == count
        assert len(set(plan.rows)) == count, "a row is planned twice"
        assert {start.row for start in plan.starts} <= set(plan.rows)
        assert plan.num_tokens <= self.budget
        self.num_tokens += plan.num_tokens
        steps = list(zip(plan.rows, plan.num_computed, plan.query_lens, plan.samples))
        for row, computed, length, samples in steps:
            self._write(self.rows[row], computed, length, samples)
        result = StepResult([[] for _ in range(count)])
        for i, (row, computed, length, samples) in enumerate(steps):
            self._attend(i, self.rows[row], computed, length, samples, result)
            if samples and row in self.fail:
                self.fail.discard(row)
                result.failed[i] = "not a number"
                result.token_ids[i] = []
        return result

    def _write(self, row: _Row, computed: int, length: int, samples: bool) -> None:
        assert length >= 1
        assert row.num_computed in (None, computed), "the plan skips or repeats tokens"
        assert computed + length <= len(row.tokens), "a token that does not exist is computed"
        pools = row.start.pooling is not None
        assert samples == (computed + length == len(row.tokens) and not pools)
        row.num_computed = computed + length
        for position in range(computed, computed + length):
            for group in range(len(self.windows)):
                self.slots[group][self._slot(row, group, position)] = row.digests[position]

    def _attend(self, i, row: _Row, computed, length, samples, result: StepResult) -> None:
        end = computed + length
        digest = 0
        for group, window in enumerate(self.windows):
            # The chunk's first query sees furthest back, its last one decides the next token.
            first = 0 if window is None else max(0, computed - window + 1)
            seen = [self.slots[group][self._slot(row, group, p)] for p in range(first, end)]
            assert seen == row.digests[first:end], "a slot holds another sequence's token"
            first_of_last = 0 if window is None else max(0, end - window)
            digest = hash((digest, tuple(seen[first_of_last - first :])))
        start = row.start
        if start.params.prompt_logprobs is not None:
            successors = row.tokens[computed + 1 : min(end + 1, start.num_prompt_tokens)]
            result.prompt_logprobs[i] = [TokenLogprobs([t], [-1.0], 1) for t in successors]
        if start.pooling is not None:
            # What a mean pooler adds up: everything this row computed since its prompt began.
            row.pooled = seen[-length:] if computed == 0 else row.pooled + seen[-length:]
            if end == start.num_prompt_tokens:
                result.pooled[i] = row.pooled if start.pooling.needs_every_token else seen[-1:]
        if samples:
            num_output = len(row.tokens) - start.num_prompt_tokens
            early = num_output < start.params.min_tokens
            masked = frozenset(start.stop_token_ids) if early else frozenset()
            token = _next_token(digest, start.seed, masked)
            row.append(token)
            result.token_ids[i] = [token]
            if start.params.logprobs is not None:
                result.logprobs[i] = [TokenLogprobs([token], [-0.5], 1)]

    def _slot(self, row: _Row, group: int, position: int) -> int:
        page = row.pages[group][position // self.page_size]
        return page * self.page_size + position % self.page_size


def tokens_alone(windows, message: AddRequest, seed: int, index: int, max_model_len: int):
    """What the model gives a sequence that has the machine to itself: (output ids, reason)."""
    delivered = message.delivered[index] if index < len(message.delivered) else []
    tokens = [*message.prompt_token_ids, *delivered]
    digests: list[int] = []
    for token in tokens:
        digests.append(hash((digests[-1] if digests else 0, token)))
    output: list[int] = []
    stops = frozenset(message.stop_token_ids)
    num_prompt = len(message.prompt_token_ids)
    if message.pooling is not None:
        return output, "stop"
    if len(tokens) - num_prompt >= message.max_tokens or len(tokens) >= max_model_len:
        return output, "length"
    while True:
        digest = 0
        for window in windows:
            first = 0 if window is None else max(0, len(tokens) - window)
            digest = hash((digest, tuple(digests[first:])))
        early = len(tokens) - num_prompt < message.params.min_tokens
        token = _next_token(digest, seed, stops if early else frozenset())
        tokens.append(token)
        digests.append(hash((digests[-1], token)))
        output.append(token)
        num_output = len(tokens) - num_prompt
        if token in stops and num_output > message.params.min_tokens:
            return output, "stop"
        if num_output >= message.max_tokens or len(tokens) >= max_model_len:
            return output, "length"


class Bench:
    """A scheduler and a fake runner wired together; collects what the front end would get."""

    def __init__(
        self,
        *,
        windows=(None,),
        num_pages=64,
        page_size=4,
        max_num_seqs=8,
        budget=32,
        max_model_len=128,
        policy="fcfs",
        chunked_prefill=True,
        caching=True,
        depth=0,
        runner_class=FakeRunner,
        grammars=None,
    ) -> None:
        groups = tuple(KVGroup(window, ()) for window in windows)
        if isinstance(num_pages, int):
            num_pages = [num_pages] * len(groups)
        self.windows = windows
        self.max_model_len = max_model_len
        self.cache = KVCache(groups, num_pages, page_size, caching)
        self.now = 100.0
        self.scheduler = Scheduler(
            self.cache,
            max_num_seqs,
            budget,
            max_model_len,
            policy,
            chunked_prefill,
            clock=lambda: self.now,
            grammars=grammars,
        )
        self.runner = runner_class(self.cache, max_num_seqs, budget)
        self.grammars = grammars
        self.depth = depth
        self.in_flight: deque = deque()
        self.num_steps = 0
        self.output: dict[tuple[str, int], list[int]] = {}
        self.finished: dict[tuple[str, int], str] = {}
        self.deltas: dict[tuple[str, int], list] = {}
        self.messages: dict[str, AddRequest] = {}

    def add(self, request_id="a", prompt=(1, 2, 3), *, max_tokens=4, **options) -> AddRequest:
        """Add a request; keywords of `AddRequest` go there, the others to `SamplingParams`."""
        own = {k: options.pop(k) for k in list(options) if k in AddRequest.__struct_fields__}
        params = SamplingParams(max_tokens=max_tokens or 1, **options)
        own.setdefault("stop_token_ids", list(params.stop_token_ids))
        own.setdefault("arrival_time", float(len(self.messages)))
        own.setdefault("seed", 11)
        message = AddRequest(request_id, list(prompt), params, max_tokens=max_tokens, **own)
        self.messages[request_id] = message
        self.scheduler.add(message)
        return message

    def abort(self, request_id, *indices) -> None:
        self.scheduler.abort(AbortRequests(request_id, list(indices)))

    def plan(self) -> StepPlan | None:
        """Plan one step and execute it; its result waits in `in_flight`."""
        plan = self.scheduler.plan()
        self.scheduler.check_integrity()
        if plan is not None:
            self.in_flight.append((plan, self.runner.execute(plan)))
        self.collect(self.scheduler.take_deltas())
        return plan

    def update(self) -> None:
        plan, result = self.in_flight.popleft()
        self.collect(self.scheduler.update(plan, result))
        self.scheduler.check_integrity()

    def step(self) -> StepPlan | None:
        """What an engine does in one turn: plan ahead as far as allowed, then read a result."""
        self.num_steps += 1
        plan = self.plan()
        if self.in_flight and (plan is None or len(self.in_flight) > self.depth):
            self.update()
        elif plan is None and self.grammars is None:
            stats = self.scheduler.stats()
            assert stats.num_running == stats.num_waiting == 0, "stuck"
        return plan

    def run(self, max_steps=2000) -> None:
        """Step until nothing is left; then every page must be free."""
        while self.scheduler.has_work():
            assert self.num_steps < max_steps, "livelock"
            self.step()
        assert self.cache.num_free == tuple(pool.num_pages for pool in self.cache.pools)
        self.scheduler.check_integrity()

    def collect(self, deltas) -> None:
        for delta in deltas:
            key = (delta.request_id, delta.index)
            assert key not in self.finished, "a delta after the last one"
            self.deltas.setdefault(key, []).append(delta)
            self.output.setdefault(key, []).extend(delta.token_ids)
            if delta.finish_reason is not None:
                self.finished[key] = delta.finish_reason

    def alone(self, request_id, index=0, seed=None):
        message = self.messages[request_id]
        seed = message.seed if seed is None else seed
        return tokens_alone(self.windows, message, seed, index, self.max_model_len)


@pytest.fixture
def bench():
    """The `Bench` class."""
    return Bench


@pytest.fixture
def fakes():
    """The fake runner's parts, for tests that change one."""
    return SimpleNamespace(FakeRunner=FakeRunner, VOCABULARY=VOCABULARY)
