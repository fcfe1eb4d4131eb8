"""The scheduler: which sequences compute how many tokens in the next step, on which pages.

One road for every token: "compute n more tokens of this sequence". A prompt, a chunk of one, what
remains after a prefix hit, and decoding differ only in n. No torch, no tensors, no text; it
runs in the engine's thread and is driven like this, any number of plans ahead of their results:

    plan = scheduler.plan()                          # None: nothing can run now
    deltas = scheduler.update(plan, result)          # in the order of the plans
    deltas = scheduler.take_deltas()                 # refusals, aborts and errors since then

What the device must hold to (see `core.plan`): plans are executed in order, and within a step
every row's keys and values of a layer are written before any row attends in it. So a sequence
may share pages that another fills in the same step, and pages may change hands between plans
while earlier ones are still running.

Why it cannot livelock: sequences are totally ordered (`policies.order_key`). The first running
one is planned first and can take the pages of all others; when it is alone and still does not
fit, it ends with an error. So it advances in every step until it ends.
"""

import time
from collections import deque
from collections.abc import Callable

from quire.core.errors import ConfigError, RequestError
from quire.core.messages import AbortRequests, AddRequest, EngineStats, EngineView, SequenceDelta
from quire.core.outputs import FinishReason
from quire.core.plan import StepPlan, StepResult
from quire.kv.cache import KVCache
from quire.scheduler import policies
from quire.scheduler.endings import (
    append_tokens,
    does_not_fit,
    finish_reason,
    last_delta,
    named_stop_token,
    why_refused,
)
from quire.scheduler.policies import Policy
from quire.scheduler.running import Running, best_prefix_hit
from quire.scheduler.sequence import Sequence, SequenceStatus
from quire.scheduler.structured import StructuredSequences, has_ended
from quire.scheduler.view import engine_view
from quire.scheduler.waiting import WaitingQueue
from quire.structured.grammars import Grammars
from quire.structured.state import GrammarState


class Scheduler:
    """Continuous batching under a token budget.

    Args:
        kv_cache: the pages; this scheduler is its only user.
        max_num_seqs: rows, so the most sequences running at once.
        max_num_batched_tokens: the token budget of a step.
        max_model_len: no sequence grows beyond that many tokens.
        policy: "fcfs", or "priority" (lower numbers first, then by arrival).
        chunked_prefill: False admits a prompt only when the step's budget takes all that is left
            of it; the budget must then be at least `max_model_len`.
        grammars: for requests with structured outputs; without it they end with an error.

    Raises:
        ConfigError: `chunked_prefill` is False and the budget is below `max_model_len`.
    """

    def __init__(
        self,
        kv_cache: KVCache,
        max_num_seqs: int,
        max_num_batched_tokens: int,
        max_model_len: int,
        policy: Policy = "fcfs",
        chunked_prefill: bool = True,
        clock: Callable[[], float] = time.monotonic,
        grammars: Grammars | None = None,
    ) -> None:
        if not chunked_prefill and max_num_batched_tokens < max_model_len:
            raise ConfigError(
                f"max_num_batched_tokens={max_num_batched_tokens} is below max_model_len="
                f"{max_model_len}; raise it, or leave enable_chunked_prefill on"
            )
        self._cache = kv_cache
        self._budget = max_num_batched_tokens
        self._max_model_len = max_model_len
        self._policy = policy
        self._chunked = chunked_prefill
        self._clock = clock
        self._page_size = kv_cache.page_size
        max_chunk = min(max_num_batched_tokens, max_model_len)
        self._cache_tokens = kv_cache.max_tokens_of_one_sequence(max_chunk)
        self._requests: dict[str, dict[int, Sequence]] = {}  # unfinished ones, by id and index
        self._running = Running(kv_cache, max_num_seqs)
        self._waiting = WaitingQueue()
        self._in_flight: deque[tuple[StepPlan, list[Sequence]]] = deque()
        self._outbox: list[SequenceDelta] = []
        self._structured = StructuredSequences(grammars)
        self._under_pressure = False  # this plan found no page for a running sequence
        self._blocked: tuple[Sequence, tuple[int, ...]] | None = None  # (who, free pages then)
        self._num_added = self._num_live = self._num_planned = self._num_steps = 0
        self._num_preemptions = self._prefix_queries = self._prefix_hits = 0

    # --- requests come and go ---

    def add(self, message: AddRequest) -> None:
        """Queue a request's sequences. One that can never run is refused by an error delta.

        Raises:
            RequestError: a request of this id is still unfinished.
        """
        if message.request_id in self._requests:
            raise RequestError(
                f"request_id '{message.request_id}' is in use; wait for it to finish or choose "
                "another",
                "request_id",
                message.request_id,
            )
        n, num_prompt = message.params.n, len(message.prompt_token_ids)
        refusal = why_refused(
            num_prompt, self._max_model_len, self._cache_tokens, message.pooling is not None
        )
        if refusal is not None:
            self._outbox += [
                SequenceDelta(message.request_id, index, [], "error", error=refusal)
                for index in range(n)
            ]
            return
        self._num_added += 1
        sequences = []
        for index in range(n):
            key = policies.order_key(
                self._policy, message.priority, message.arrival_time, self._num_added, index
            )
            sequences.append(Sequence(message, index, key, self._max_model_len))
        self._requests[message.request_id] = dict(enumerate(sequences))
        self._num_live += len(sequences)
        self._structured.open(message, sequences)
        first, *others = sequences
        first.children = others
        for other in others:
            other.parent = first
        self._waiting.push(first)
        for seq in sequences:
            # Only a resumed sequence can be complete already.
            reason = finish_reason(seq)
            if reason is not None:
                self._end(seq, reason)

    def abort(self, message: AbortRequests) -> None:
        """Stop sequences, giving each an "abort" delta. Those already finished are ignored."""
        live = self._requests.get(message.request_id, {})
        for index in message.indices or list(live):
            seq = live.get(index)
            if seq is not None:
                self._end(seq, "abort")

    def take_deltas(self) -> list[SequenceDelta]:
        """What has been said outside `update`; `update` says it too, whichever comes first."""
        deltas, self._outbox = self._outbox, []
        return deltas

    def reset_prefix_cache(self) -> bool:
        """Make nothing findable any more; False, and nothing done, while sequences hold pages."""
        return self._cache.reset_prefix_cache()

    def wait_for_grammars(self, timeout: float) -> None:
        """Wait a little for what keeps constrained sequences from running, if anything does."""
        self._structured.wait(timeout)

    def shutdown(self) -> None:
        """End the threads that work on grammars."""
        self._structured.close()

    def has_work(self) -> bool:
        """Whether a sequence is unfinished, a result outstanding, or a delta not yet taken."""
        return bool(self._num_live or self._in_flight or self._outbox)

    @property
    def has_waiting(self) -> bool:
        return self._waiting.head() is not None

    # --- planning ---

    def plan(self) -> StepPlan | None:
        """The next step: running sequences first, in order, then waiting ones. None if nothing
        can run before a result arrives or a request is added."""
        plan = StepPlan(self._num_planned)
        planned: list[Sequence] = []
        rows, num_computed = plan.rows, plan.num_computed
        longer: list[int] = []  # indices of sequences that were not passed over quickly
        budget = self._budget
        self._under_pressure = False
        self._take_grammar_news()
        for seq in self._running.sequences:  # loses sequences behind this one when pages run out
            if not budget:
                break
            computed = seq.num_computed_tokens
            if computed < seq.decode_end:
                seq.num_computed_tokens = computed + 1
                budget -= 1
            else:
                count = self._extend(seq, budget, plan)
                if not count:
                    continue
                longer.append(len(rows))
                budget -= count
            planned.append(seq)
            rows.append(seq.row)
            num_computed.append(computed)
        if not self._under_pressure:
            self._admit(budget, plan, planned, longer)
        if not rows:
            return None
        plan.query_lens = [1] * len(rows)
        plan.samples = [True] * len(rows)
        for i in longer:
            seq = planned[i]
            plan.query_lens[i] = seq.num_computed_tokens - num_computed[i]
            plan.samples[i] = seq.pooling is None and seq.num_computed_tokens >= len(seq.token_ids)
            if seq.grammar is not None and plan.samples[i]:
                assert seq.grammar.mask is not None
                plan.masks[i] = seq.grammar.mask
        plan.released = self._running.take_released()
        self._num_planned += 1
        self._in_flight.append((plan, planned))
        return plan

    def _extend(self, seq: Sequence, budget: int, plan: StepPlan) -> int:
        """Plan more tokens of a running sequence; how many, 0 if it must sit this step out."""
        computed, total = seq.num_computed_tokens, seq.total_tokens
        if total >= seq.limit or (seq.sync and total > len(seq.token_ids)):
            return 0  # until its pending tokens arrive
        if seq.grammar is not None and not seq.grammar.ready:
            return 0  # until it is known what may follow
        count = total - computed
        if count > 1:
            running = self._running.sequences
            num_after = len(running) - 1 - running.index(seq)
            count = min(count, policies.chunk_limit(budget, num_after))
        end = computed + count
        if not self._running.grow(seq, end, plan) and not self._make_room(seq, end, plan):
            return 0
        self._running.advance(seq, count)
        if seq.children:
            self._release_children_of_prefilled(seq)
        return count

    def _make_room(self, seq: Sequence, end: int, plan: StepPlan) -> bool:
        """Pages for positions [0, end), taken from those behind it in order.

        If it is itself the last, it keeps what it has and sits the step out: those before it
        go on, and free pages by finishing. If it is alone, it can never fit.
        """
        self._under_pressure = True
        running = self._running
        while (victim := policies.preemption_victim(running.sequences)) is not seq:
            self._preempt(victim)
            if running.grow(seq, end, plan):
                return True
        if len(running.sequences) == 1:
            self._fail_for_memory(seq)
            self._under_pressure = False  # every page is free now
        return False

    # --- admission ---

    def _admit(
        self, budget: int, plan: StepPlan, planned: list[Sequence], longer: list[int]
    ) -> None:
        """Start waiting sequences, strictly in order, while rows, pages and budget last."""
        running = self._running
        while budget and running.free_rows and (seq := self._waiting.head()) is not None:
            if seq.num_late or self._still_blocked(seq):
                return
            if seq.grammar is not None and not seq.grammar.ready:
                self._waiting.pop()
                self._structured.hold(seq.grammar)  # others pass it
                continue
            hit = best_prefix_hit(self._cache, seq)
            known = len(seq.token_ids)
            count = min(known - hit.num_tokens, budget)
            if not self._chunked and hit.num_tokens + count < known:
                return
            headroom = policies.admission_headroom(len(running.sequences))
            if not self._cache.can_admit(hit, hit.num_tokens + count, known, headroom):
                if running.sequences:
                    self._blocked = (seq, self._cache.num_free)
                    return
                self._fail_for_memory(seq)
                continue
            self._waiting.pop()
            running.start(seq, hit, count, plan)
            self._count_start(seq, hit.num_tokens)
            running.advance(seq, count)
            if seq.children:
                self._release_children_of_prefilled(seq)
            longer.append(len(plan.rows))
            planned.append(seq)
            plan.rows.append(seq.row)
            plan.num_computed.append(hit.num_tokens)
            budget -= count

    def _still_blocked(self, seq: Sequence) -> bool:
        """Found no room before, and no page has come free since: spares looking it all up."""
        if self._blocked is None or self._blocked[0] is not seq:
            return False
        return all(now <= then for now, then in zip(self._cache.num_free, self._blocked[1]))

    def _count_start(self, seq: Sequence, num_cached: int) -> None:
        """Take note of a sequence's first start; later ones say nothing about the cache."""
        if seq.scheduled_time is None:
            seq.scheduled_time = self._clock()
            seq.num_cached_tokens = num_cached
            if self._cache.enable_prefix_caching:
                self._prefix_queries += len(seq.token_ids)
                self._prefix_hits += num_cached

    # --- results ---

    def update(self, plan: StepPlan, result: StepResult) -> list[SequenceDelta]:
        """Take in the result of the oldest outstanding plan: what each sequence gained from it."""
        expected, planned = self._in_flight.popleft()
        assert expected is plan, f"step {expected.step}'s result comes before step {plan.step}'s"
        deltas = self.take_deltas()
        self._num_steps += 1
        careful = bool(result.failed or result.logprobs or result.prompt_logprobs)
        for i, (seq, new_ids) in enumerate(zip(planned, result.token_ids)):
            token_ids = seq.token_ids
            if (
                len(new_ids) != 1
                or len(token_ids) >= seq.quiet_end
                or new_ids[0] in seq.stop_ids
                or careful
            ):
                delta = self._absorb(seq, i, plan, result)
                if delta is not None:
                    deltas.append(delta)
            else:
                token_ids.append(new_ids[0])
                deltas.append(SequenceDelta(seq.request_id, seq.index, new_ids))
        return deltas + self.take_deltas() if self._outbox else deltas

    def _absorb(
        self, seq: Sequence, i: int, plan: StepPlan, result: StepResult
    ) -> SequenceDelta | None:
        """`update` for one sequence, with every rule. None: nothing to say."""
        if seq.status is SequenceStatus.FINISHED:
            return None  # it was one step further than its end
        if i in result.failed:
            error = result.failed[i]
            if seq.pooling is None:
                position = plan.num_computed[i] + plan.query_lens[i]
                error = f"{error} (choosing the token at position {position})"
            return self._fail_without_token(seq, error)
        seq.add_prompt_logprobs(plan.num_computed[i], result.prompt_logprobs.get(i))
        if i in result.pooled:
            return self._finish_pooled(seq, result.pooled[i])
        new_ids = result.token_ids[i]
        if not new_ids:
            return None
        taken, reason = append_tokens(seq, new_ids)
        delta = SequenceDelta(seq.request_id, seq.index, taken, reason)
        logprobs = result.logprobs.get(i)
        if logprobs is not None:
            delta.logprobs = logprobs[: len(taken)]
        if not seq.reported:
            seq.reported = True
            delta.num_cached_tokens = seq.num_cached_tokens
            delta.first_scheduled_time = seq.scheduled_time
            delta.prompt_logprobs, seq.prompt_logprobs = seq.prompt_logprobs, None
        if reason is not None:
            if reason == "stop":
                delta.stop_token_id = named_stop_token(seq)
            delta.num_preemptions = seq.num_preemptions
            self._finish(seq)
        elif seq.grammar is not None and self._structured.advance(seq.grammar, taken):
            self._end_by_grammar(seq, seq.grammar)
        elif seq.status is SequenceStatus.WAITING:
            seq.num_late -= 1
        else:
            self._running.settle(seq)
        return delta

    # --- endings ---

    def _finish(self, seq: Sequence) -> None:
        """Forget a sequence. Its row and pages are free at once: later plans run later."""
        if seq.status is SequenceStatus.RUNNING:
            self._running.vacate(seq)
        seq.status = SequenceStatus.FINISHED
        self._num_live -= 1
        live = self._requests[seq.request_id]
        del live[seq.index]
        if not live:
            del self._requests[seq.request_id]
        self._release_children(seq)
        if seq.grammar is not None:
            self._structured.forget(seq.grammar)

    def _end(self, seq: Sequence, reason: FinishReason, error: str | None = None) -> None:
        """Finish a sequence otherwise than by a token of a step, and say so."""
        self._finish(seq)
        self._outbox.append(last_delta(seq, reason, error))

    def _take_grammar_news(self) -> None:
        """Queue or end the sequences whose grammars are there, at their end, or unusable."""
        for seq, state in self._structured.news():
            if has_ended(state):
                self._end_by_grammar(seq, state)
            elif self._structured.take_back(state):
                self._waiting.push(seq)

    def _end_by_grammar(self, seq: Sequence, state: GrammarState) -> None:
        self._end(seq, "stop" if state.error is None else "error", state.error)

    def _finish_pooled(self, seq: Sequence, embedding: list[float]) -> SequenceDelta:
        """Its prompt has been computed, and a vector was all it wanted."""
        self._finish(seq)
        delta = last_delta(seq, "stop")
        delta.embedding = embedding
        delta.num_cached_tokens = seq.num_cached_tokens
        delta.first_scheduled_time = seq.scheduled_time
        return delta

    def _preempt(self, seq: Sequence) -> None:
        """Take a running sequence's pages away. Tokens still to come are waited for."""
        seq.num_late = seq.num_pending
        self._running.vacate(seq)
        seq.status = SequenceStatus.WAITING
        seq.num_computed_tokens = 0
        seq.num_preemptions += 1
        self._num_preemptions += 1
        self._waiting.push(seq)

    def _release_children_of_prefilled(self, seq: Sequence) -> None:
        if seq.num_computed_tokens >= seq.num_prompt_tokens:
            self._release_children(seq)

    def _release_children(self, seq: Sequence) -> None:
        """Let the siblings that waited for its prompt be admitted."""
        children, seq.children = seq.children, []
        for child in children:
            if child.status is SequenceStatus.WAITING:
                child.page_hashes = seq.page_hashes[: seq.num_prompt_tokens // self._page_size]
                self._waiting.push(child)

    def _fail_for_memory(self, seq: Sequence) -> None:
        """It is alone and the whole cache does not hold it."""
        num_pages = [pool.num_pages for pool in self._cache.pools]
        error = does_not_fit(seq.total_tokens, num_pages, self._page_size)
        self._end(seq, "error", error)

    def _fail_without_token(self, seq: Sequence, error: str) -> SequenceDelta:
        """Its logits are not numbers, so its keys and values may not be either: nobody else
        may find them, even if it has lost its pages since."""
        self._cache.forget(seq.page_hashes)
        self._finish(seq)
        return last_delta(seq, "error", error)

    # --- watching ---

    def stats(self) -> EngineStats:
        num_running = len(self._running.sequences)
        return EngineStats(
            num_running=num_running,
            num_waiting=self._num_live - num_running,
            kv_usage=self._cache.usage,
            prefix_queries=self._prefix_queries,
            prefix_hits=self._prefix_hits,
            num_preemptions=self._num_preemptions,
            num_steps=self._num_steps,
        )

    def view(self) -> EngineView:
        live = (seq for sequences in self._requests.values() for seq in sequences.values())
        waiting = (seq for seq in live if seq.status is SequenceStatus.WAITING)
        return engine_view(self._cache, self._running.sequences, waiting, self.stats())

    def check_integrity(self) -> None:
        """Assert that rows, pages and queues account for every sequence exactly once."""
        self._running.check_integrity()
        live = [seq for sequences in self._requests.values() for seq in sequences.values()]
        held_back = [child for seq in live for child in seq.children if child in live]
        everyone = [*self._running.sequences, *self._waiting, *self._structured.held(), *held_back]
        assert len(everyone) == len(live) == self._num_live, "a sequence is lost or doubled"
        assert {id(seq) for seq in everyone} == {id(seq) for seq in live}
