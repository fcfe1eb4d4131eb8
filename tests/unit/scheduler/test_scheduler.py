"""The scheduler's rules one by one. `test_properties.py` has them all at once."""

import pytest

from quire.core.errors import ConfigError, RequestError
from quire.core.plan import StepResult
from quire.core.sampling_params import RepetitionDetection
from quire.scheduler.running import best_prefix_hit
from quire.scheduler.sequence import sequence_seed


def finish(engine, request_id="a", index=0):
    """Run to the end; the sequence's last delta."""
    engine.run()
    return engine.deltas[request_id, index][-1]


def agrees(engine, request_id="a", index=0, seed=None):
    """Got the tokens it would have got alone."""
    key = (request_id, index)
    return (engine.output[key], engine.finished[key]) == engine.alone(request_id, index, seed)


# --- what a plan says ---


def test_a_prompt_then_one_token_a_step(bench):
    engine = bench()
    message = engine.add(prompt=[1, 2, 3, 4, 5], max_tokens=3, stop_token_ids=[])
    first = engine.step()
    (start,) = first.starts
    assert (start.row, list(start.token_ids), start.num_prompt_tokens) == (0, [1, 2, 3, 4, 5], 5)
    assert (start.params, start.seed) == (message.params, message.seed)
    (delta,) = first.pages
    assert (delta.group, delta.row, delta.column, len(delta.page_ids)) == (0, 0, 0, 2)
    assert (first.rows, first.query_lens, first.num_computed) == ([0], [5], [0])
    assert first.samples == [True]
    second = engine.step()
    assert (second.starts, second.pages, second.released) == ([], [], [])
    assert (second.query_lens, second.num_computed) == ([1], [5])
    last = finish(engine)
    assert last.finish_reason == "length"
    assert agrees(engine)


def test_chunks_of_a_long_prompt(bench):
    engine = bench(budget=8)
    engine.add(prompt=range(7, 27), max_tokens=1)
    plans = [engine.step() for _ in range(3)]
    assert [plan.query_lens for plan in plans] == [[8], [8], [4]]
    assert [plan.num_computed for plan in plans] == [[0], [8], [16]]
    assert [plan.samples for plan in plans] == [[False], [False], [True]]
    assert [[d.column for d in plan.pages] for plan in plans] == [[0], [2], [4]]
    assert agrees(engine)


def test_a_long_prompt_never_stalls_those_that_decode(bench):
    engine = bench(budget=6)
    for i in range(3):
        engine.add(f"decode{i}", prompt=[i, i], max_tokens=20)
    engine.step()
    engine.add("long", prompt=range(40, 70), arrival_time=-1.0, max_tokens=2)
    engine.step()
    plan = engine.step()
    # The long one came first by arrival, yet each of the others has its token.
    assert sorted(plan.query_lens) == [1, 1, 1, 3]
    engine.run()
    assert all(agrees(engine, request_id) for request_id in engine.messages)


def test_the_budget_and_the_rows_bound_a_step(bench):
    engine = bench(budget=7, max_num_seqs=3)
    for i in range(5):
        engine.add(f"r{i}", prompt=[i, i, i], max_tokens=5)
    plan = engine.step()
    assert plan.query_lens == [3, 3, 1]
    assert engine.scheduler.stats().num_running == 3
    assert engine.scheduler.stats().num_waiting == 2
    assert engine.scheduler.has_waiting
    engine.run()
    assert not engine.scheduler.has_waiting
    assert all(agrees(engine, f"r{i}") for i in range(5))


def test_without_chunks_a_prompt_waits_for_a_step_that_takes_it_whole(bench):
    engine = bench(budget=40, max_model_len=40, chunked_prefill=False, max_num_seqs=4)
    engine.add("a", prompt=range(30), max_tokens=3)
    engine.add("b", prompt=range(50, 65), max_tokens=3)
    assert engine.step().query_lens == [30]
    assert sorted(engine.step().query_lens) == [1, 15]
    engine.run()
    assert agrees(engine, "a")
    assert agrees(engine, "b")


def test_without_chunks_the_budget_must_take_any_prompt(bench):
    with pytest.raises(ConfigError, match=r"max_num_batched_tokens=32 is below max_model_len=64"):
        bench(budget=32, max_model_len=64, chunked_prefill=False)


def test_rows_are_reused_after_they_are_released(bench):
    engine = bench(max_num_seqs=1)
    engine.add("a", max_tokens=2)
    engine.add("b", max_tokens=2)
    plans = []
    while engine.scheduler.has_work():
        plans.append(engine.step())
    assert [plan.released for plan in plans] == [[], [], [0], []]
    assert agrees(engine, "b")


# --- ends ---


def test_no_token_is_planned_beyond_the_last(bench):
    for depth in (0, 1, 2):
        engine = bench(depth=depth)
        engine.add(prompt=[1, 2, 3], max_tokens=5)
        engine.run()
        assert engine.runner.num_tokens == 3 + 4, "the last token is never computed"
        assert agrees(engine)


def test_max_model_len_ends_a_sequence(bench):
    engine = bench(max_model_len=8, depth=1)
    engine.add(prompt=[1, 2, 3], max_tokens=50)
    assert finish(engine).finish_reason == "length"
    assert len(engine.output["a", 0]) == 5


def until_stop(bench, depth=0, **options):
    """A request that ends at its third token, whatever that is."""
    probe = bench()
    probe.add(prompt=[4, 4, 1], max_tokens=30)
    probe.run()
    output = probe.output["a", 0]
    stop = next(t for i, t in enumerate(output) if i >= 2 and t not in output[:i])
    engine = bench(depth=depth)
    engine.add(prompt=[4, 4, 1], max_tokens=30, **{"stop_token_ids": [stop], **options})
    return engine, stop, output[: output.index(stop) + 1]


def test_the_stop_token_is_part_of_the_output(bench):
    engine, stop, expected = until_stop(bench)
    delta = finish(engine)
    assert engine.output["a", 0] == expected
    assert (delta.finish_reason, delta.stop_token_id) == ("stop", None)
    assert delta.token_ids == [stop]


def test_a_stop_token_the_user_named_is_told(bench):
    _, stop, _ = until_stop(bench)
    engine = bench()
    message = engine.add(prompt=[4, 4, 1], max_tokens=30, stop_token_ids=[stop])
    message.params.stop_token_ids.append(stop)
    assert finish(engine).stop_token_id == stop


def test_min_tokens_comes_before_stop(bench):
    engine, _, expected = until_stop(bench, min_tokens=12)
    engine.run()
    assert len(engine.output["a", 0]) > 12 > len(expected)
    assert agrees(engine)


def test_a_stop_token_within_min_tokens_ends_nothing(bench):
    engine = bench()
    engine.add(prompt=[1], max_tokens=9, min_tokens=2, stop_token_ids=[5])
    scheduler = engine.scheduler
    for tokens, reason in (([5], None), ([5], None), ([5], "stop")):
        (delta,) = scheduler.update(scheduler.plan(), StepResult([tokens]))
        assert delta.finish_reason == reason


def test_what_was_computed_beyond_the_end_is_dropped(bench):
    for depth in (1, 2):
        engine, _, expected = until_stop(bench, depth=depth)
        while ("a", 0) not in engine.finished:
            engine.step()
        # Its row and pages are free at once, though a step of it is still outstanding.
        assert engine.in_flight
        assert engine.cache.num_free == (64,)
        assert engine.scheduler.has_work()
        engine.run()
        assert engine.output["a", 0] == expected


def test_not_a_number_ends_one_and_spares_the_others(bench):
    engine = bench(depth=1)
    engine.add("bad", prompt=range(10), max_tokens=9)
    engine.add("good", prompt=range(20, 30), max_tokens=9)
    engine.step()
    bad_row = 0
    engine.runner.fail.add(bad_row)
    engine.run()
    delta = engine.deltas["bad", 0][-1]
    assert delta.finish_reason == "error"
    assert delta.error == "not a number (choosing the token at position 11)"
    assert agrees(engine, "good")
    engine.add("again", prompt=range(10), max_tokens=2)
    engine.run()
    assert engine.deltas["again", 0][0].num_cached_tokens == 0, "its pages must not be found"


def test_a_failed_sequence_that_lost_its_pages_leaves_none_to_be_found(bench) -> None:
    engine = bench(num_pages=5, max_num_seqs=2, budget=16)
    engine.add("good", prompt=range(20, 27), max_tokens=9)
    engine.add("bad", prompt=range(8), max_tokens=9)
    engine.step()
    engine.runner.fail.add(1)
    engine.plan()
    engine.plan()  # takes the pages of "bad" before its failure is known
    assert engine.scheduler.stats().num_preemptions == 1
    engine.run()
    assert engine.finished["bad", 0] == "error"
    engine.add("again", prompt=range(8), max_tokens=2)
    engine.run()
    assert engine.deltas["again", 0][0].num_cached_tokens == 0


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ([], ["empty"]),
        (range(64), ["64 tokens", "max_model_len=64", "truncate_prompt_tokens"]),
        (range(40), ["40 tokens", "40 tokens of one sequence", "gpu_memory_utilization"]),
    ],
)
def test_what_can_never_run_is_refused(bench, prompt, words):
    engine = bench(max_model_len=64, num_pages=10)
    engine.add(prompt=prompt, n=2)
    assert engine.scheduler.has_work()
    engine.run()
    for index in range(2):
        (delta,) = engine.deltas["a", index]
        assert delta.finish_reason == "error"
        assert all(word in delta.error for word in words), delta.error


def test_outgrowing_the_whole_cache_is_an_error_with_the_numbers(bench):
    engine = bench(num_pages=4, max_model_len=64)
    engine.add("big", prompt=range(10), max_tokens=40)
    engine.add("small", prompt=[1, 2], max_tokens=6)
    engine.run()
    delta = engine.deltas["big", 0][-1]
    assert delta.finish_reason == "error"
    assert "17 tokens does not fit the KV cache of 4 pages of 4 tokens" in delta.error
    assert "num_gpu_blocks_override" in delta.error
    assert engine.output["big", 0] == engine.alone("big")[0][:7]
    assert agrees(engine, "small")


def test_a_request_id_in_use_is_refused(bench):
    engine = bench()
    engine.add("a")
    with pytest.raises(RequestError, match="request_id 'a' is in use"):
        engine.add("a")
    engine.run()
    assert agrees(engine)


# --- aborts ---


def test_abort_takes_effect_at_once_wherever_the_sequence_is(bench):
    engine = bench(max_num_seqs=1, depth=1)
    engine.add("running", max_tokens=50)
    engine.add("waiting", max_tokens=50)
    engine.step()
    engine.step()
    engine.abort("waiting")
    engine.abort("running")
    engine.abort("unknown")
    assert engine.cache.num_free == (64,)
    engine.run()
    assert set(engine.finished.values()) == {"abort"}
    assert engine.output["waiting", 0] == []


def test_abort_of_one_sequence_leaves_its_siblings(bench):
    engine = bench(caching=False)
    engine.add(prompt=range(9), n=3, max_tokens=6)
    engine.step()
    engine.abort("a", 1)
    engine.run()
    assert engine.finished == {("a", 0): "length", ("a", 1): "abort", ("a", 2): "length"}
    assert agrees(engine, "a", 2, sequence_seed(11, 2))


# --- memory ---


def test_the_last_come_gives_up_its_pages_and_resumes(bench):
    engine = bench(num_pages=8, caching=True)
    engine.add("first", prompt=range(8), max_tokens=16)
    engine.add("second", prompt=range(50, 58), max_tokens=16)
    preempted = None
    while engine.scheduler.has_work():
        engine.step()
        stats = engine.scheduler.stats()
        if stats.num_preemptions and preempted is None:
            preempted = stats
            assert [s.request_id for s in engine.scheduler._waiting] == ["second"]
    assert preempted is not None
    assert agrees(engine, "first")
    assert agrees(engine, "second")


def test_by_priority_the_least_important_gives_way(bench):
    engine = bench(num_pages=8, policy="priority")
    engine.add("low", prompt=range(8), max_tokens=16, priority=5)
    engine.step()
    engine.add("high", prompt=range(50, 58), max_tokens=16, priority=0)
    while not engine.scheduler.stats().num_preemptions:
        engine.step()
    assert [s.request_id for s in engine.scheduler._waiting] == ["low"]
    engine.run()
    assert agrees(engine, "low")
    assert agrees(engine, "high")


def test_priority_decides_who_is_admitted(bench):
    for policy, order in (("fcfs", "abc"), ("priority", "cba")):
        engine = bench(policy=policy, max_num_seqs=1)
        for name, priority in zip("abc", (3, 2, 1)):
            engine.add(name, max_tokens=1, priority=priority)
        engine.run()
        assert "".join(key[0] for key in engine.finished) == order


def test_a_preempted_sequence_waits_for_its_pending_token(bench):
    engine = bench(num_pages=8, depth=2, caching=False)
    engine.add("first", prompt=range(8), max_tokens=16)
    engine.add("second", prompt=range(50, 58), max_tokens=16)
    while engine.plan() and not engine.scheduler.stats().num_preemptions:
        if len(engine.in_flight) > 2:
            engine.update()
    (second,) = engine.scheduler._waiting
    known = len(second.token_ids)
    assert second.num_pending == 2
    engine.abort("first")  # now there is room
    # Its results arrive two steps late; until then nothing can be planned.
    while second.num_pending:
        assert engine.plan() is None
        engine.update()
    assert len(second.token_ids) == known + 2
    assert engine.plan() is not None
    engine.run()
    assert agrees(engine, "second")


def test_a_sequence_longer_than_its_window_fits_a_few_pages(bench):
    engine = bench(windows=(6,), num_pages=6, budget=8, max_model_len=500)
    engine.add(prompt=range(60), max_tokens=100)
    engine.run()
    assert agrees(engine)
    assert engine.scheduler.stats().num_preemptions == 0


def test_pages_may_leave_a_window_before_their_tokens_are_known(bench):
    for depth in (1, 2):
        engine = bench(windows=(None, 1), page_size=1, depth=depth)
        for name in "abc":
            engine.add(name, prompt=[1, 2, 3], max_tokens=12)
        engine.run()
        assert all(agrees(engine, name) for name in "abc")


def test_who_finds_no_room_looks_again_only_when_pages_come_free(bench):
    engine = bench(num_pages=8)
    engine.add("a", prompt=range(13), max_tokens=13)
    engine.add("b", prompt=range(40, 64), max_tokens=2)
    lookups = []
    match_prefix = type(engine.cache).match_prefix
    engine.cache.match_prefix = lambda *args: lookups.append(1) or match_prefix(engine.cache, *args)
    for _ in range(12):
        engine.step()
    assert len(lookups) == 2, "one each, though b has waited for many steps"
    engine.run()
    assert agrees(engine, "b")


# --- shared prefixes ---


def test_a_second_request_finds_the_first_ones_prompt(bench):
    engine = bench()
    engine.add("a", prompt=range(20), max_tokens=2)
    engine.run()
    engine.add("b", prompt=[*range(18), 60, 61, 62], max_tokens=2)
    engine.run()
    assert engine.deltas["a", 0][0].num_cached_tokens == 0
    assert engine.deltas["b", 0][0].num_cached_tokens == 16
    assert engine.deltas["b", 0][1].num_cached_tokens is None
    stats = engine.scheduler.stats()
    assert (stats.prefix_queries, stats.prefix_hits) == (41, 16)
    assert agrees(engine, "b")


def test_two_arriving_together_compute_their_prefix_once(bench):
    engine = bench()
    engine.add("a", prompt=[*range(16), 30], max_tokens=2)
    engine.add("b", prompt=[*range(16), 40], max_tokens=2)
    assert engine.step().query_lens == [17, 1]
    engine.run()
    assert agrees(engine, "a")
    assert agrees(engine, "b")


def test_generated_tokens_are_found_too(bench):
    for depth in (0, 1, 2):
        engine = bench(depth=depth)
        engine.add("a", prompt=range(6), max_tokens=20)
        engine.run()
        engine.add("b", prompt=[*range(6), *engine.output["a", 0], 1], max_tokens=2)
        engine.run()
        # 26 tokens of which the last was never computed: 24 in whole pages.
        assert engine.deltas["b", 0][0].num_cached_tokens == 24
        assert agrees(engine, "b")


def test_different_salts_share_nothing(bench):
    engine = bench()
    for name, salt in (("a", "x"), ("b", "y"), ("c", "x")):
        engine.add(name, prompt=range(20), max_tokens=1, cache_salt=salt)
        engine.run()
    assert [engine.deltas[name, 0][0].num_cached_tokens for name in "abc"] == [0, 0, 16]


def test_without_caching_nothing_is_shared(bench):
    engine = bench(caching=False)
    for name in "ab":
        engine.add(name, prompt=range(20), max_tokens=1)
        engine.run()
    assert engine.deltas["b", 0][0].num_cached_tokens == 0
    assert engine.scheduler.stats().prefix_queries == 0


def test_reset_prefix_cache(bench):
    engine = bench()
    engine.add("a", prompt=range(20), max_tokens=3)
    engine.step()
    assert not engine.scheduler.reset_prefix_cache()
    engine.run()
    assert engine.scheduler.reset_prefix_cache()
    engine.add("b", prompt=range(20), max_tokens=1)
    engine.run()
    assert engine.deltas["b", 0][0].num_cached_tokens == 0


# --- n > 1 ---


@pytest.mark.parametrize("caching", [True, False])
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_siblings_share_the_prompts_pages(bench, caching, depth):
    engine = bench(caching=caching, depth=depth, budget=16)
    engine.add(prompt=range(22), n=3, max_tokens=1)
    engine.run()
    # The prompt once, and what is past its last full page twice more.
    assert engine.runner.num_tokens == 22 + 2 + 2
    for index in range(3):
        assert agrees(engine, "a", index, sequence_seed(11, index))


def test_siblings_go_on_alone_when_the_first_is_gone(bench):
    engine = bench(caching=False, budget=8)
    engine.add(prompt=range(20), n=2, max_tokens=4)
    engine.step()
    engine.abort("a", 0)
    engine.run()
    assert agrees(engine, "a", 1, sequence_seed(11, 1))


@pytest.mark.parametrize("caching", [True, False])
def test_siblings_outlive_preemptions(bench, caching):
    engine = bench(caching=caching, num_pages=12, budget=8, max_num_seqs=3)
    engine.add("old", prompt=range(40, 50), max_tokens=34)
    for _ in range(6):
        engine.step()
    engine.add(prompt=range(22), n=3, max_tokens=5)
    engine.run()
    assert engine.scheduler.stats().num_preemptions > 0
    for index in range(3):
        assert agrees(engine, "a", index, sequence_seed(11, index))


def test_nothing_is_shared_with_a_sibling_that_has_not_computed_the_prompt(bench):
    engine = bench(caching=False, budget=8)
    engine.add(prompt=range(20), n=2, max_tokens=5)
    child = engine.scheduler._requests["a"][1]
    engine.step()
    assert best_prefix_hit(engine.cache, child).num_tokens == 0
    engine.step()
    assert engine.step().num_computed == [16, 16], "the rest of the prompt, and the child's fork"


def test_seeds_of_siblings():
    assert sequence_seed(42, 0) == 42
    assert sequence_seed(-(2**63), 0) == -(2**63)
    seeds = {sequence_seed(seed, index) for seed in range(-4, 4) for index in range(1, 100)}
    assert len(seeds) == 8 * 99
    assert all(-(2**63) <= seed < 2**63 for seed in seeds)
    # The same everywhere and for ever: a resumed request must draw the same noise.
    assert sequence_seed(0, 1) == -2152535657050944081


# --- what results bring ---


def test_a_resumed_request_goes_on_where_the_client_is(bench):
    whole = bench()
    whole.add(prompt=range(5), max_tokens=12)
    whole.run()
    output = whole.output["a", 0]
    engine = bench()
    engine.add(prompt=range(5), max_tokens=12, delivered=[output[:7]])
    plan = engine.step()
    assert plan.starts[0].num_prompt_tokens == 5
    assert list(plan.starts[0].token_ids) == [*range(5), *output[:7]]
    engine.run()
    assert engine.output["a", 0] == output[7:]


def test_a_request_resumed_after_its_last_token_ends_at_once(bench):
    engine = bench()
    engine.add("full", max_tokens=3, delivered=[[0, 0, 0]])
    engine.add("stopped", max_tokens=3, stop_token_ids=[5], delivered=[[0, 5]])
    assert engine.plan() is None
    assert engine.finished == {("full", 0): "length", ("stopped", 0): "stop"}
    engine.run()


def test_prompt_logprobs_cover_the_prompt_in_the_first_delta(bench):
    engine = bench(budget=8)
    engine.add("warm", prompt=range(20), max_tokens=1)
    engine.run()
    engine.add(prompt=range(20), max_tokens=3, prompt_logprobs=0, logprobs=1)
    engine.run()
    first, *others = engine.deltas["a", 0]
    assert [entry.token_ids for entry in first.prompt_logprobs] == [[t] for t in range(1, 20)]
    assert first.num_cached_tokens == 0, "every position must be computed"
    assert all(delta.prompt_logprobs is None for delta in others)
    assert all(len(delta.logprobs) == 1 for delta in [first, *others])


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_prompt_logprobs_survive_preemption_in_mid_prompt(bench, depth):
    engine = bench(num_pages=12, budget=3, depth=depth)
    engine.add("old", prompt=range(40, 52), max_tokens=30)
    for _ in range(9):
        engine.step()
    engine.add(prompt=range(22), max_tokens=2, prompt_logprobs=0)
    while not engine.scheduler.stats().num_preemptions:
        engine.step()
    assert ("a", 0) not in engine.output, "it was still computing its prompt"
    engine.run()
    entries = engine.deltas["a", 0][0].prompt_logprobs
    assert [entry.token_ids[0] for entry in entries] == list(range(1, 22))
    assert agrees(engine)


def test_host_side_logits_processors_see_every_token(bench):
    engine = bench(depth=2)
    engine.add("sync", prompt=range(6), max_tokens=6, logits_processors=[max])
    engine.add("free", prompt=range(6), max_tokens=6)
    (sync,) = engine.scheduler._requests["sync"].values()
    while engine.scheduler.has_work():
        known = sync.num_pending
        plan = engine.step()
        if known and plan is not None:
            assert sync.row not in plan.rows, "planned while a token was pending"
    assert agrees(engine, "sync")
    assert agrees(engine, "free")


def test_several_tokens_may_come_from_one_step(bench):
    engine = bench()
    engine.add(prompt=[1, 2, 3], max_tokens=5)
    scheduler = engine.scheduler
    deltas = scheduler.update(scheduler.plan(), StepResult([[4, 5, 6]]))
    assert deltas[0].token_ids == [4, 5, 6]
    plan = scheduler.plan()
    assert (plan.num_computed, plan.query_lens, plan.samples) == ([3], [3], [True])
    (delta,) = scheduler.update(plan, StepResult([[7, 8, 9]]))
    # The fifth token is the last; what follows it is cut.
    assert (delta.token_ids, delta.finish_reason) == ([7, 8], "length")
    assert not scheduler.has_work()


def test_times_and_counts_for_reporting(bench):
    engine = bench(max_num_seqs=1)
    engine.add("a", max_tokens=2)
    engine.add("b", max_tokens=2)
    engine.step()
    engine.now = 200.0
    engine.run()
    times = [engine.deltas[name, 0][0].first_scheduled_time for name in "ab"]
    assert times == [100.0, 200.0]
    assert engine.deltas["a", 0][1].first_scheduled_time is None
    stats = engine.scheduler.stats()
    assert (stats.num_running, stats.num_waiting, stats.num_steps) == (0, 0, 4)
    assert stats.kv_usage == 0.0


def test_results_must_come_in_the_order_of_plans(bench):
    engine = bench(depth=2)
    engine.add(max_tokens=9)
    first, second = engine.scheduler.plan(), engine.scheduler.plan()
    assert first is not second
    with pytest.raises(AssertionError, match="comes before"):
        engine.scheduler.update(second, StepResult([[1]]))


def test_aborted_sequences_behind_a_blocked_head_do_not_pile_up(bench) -> None:
    engine = bench(max_num_seqs=1, max_model_len=4000, num_pages=1000)
    engine.add("running", max_tokens=3000)
    engine.step()
    engine.add("head")
    for number in range(1000):
        engine.add(f"gone {number}")
        engine.abort(f"gone {number}")
    assert len(engine.scheduler._waiting._heap) <= 64
    assert [s.request_id for s in engine.scheduler._waiting] == ["head"]


def test_a_repetition_ends_a_sequence(bench, fakes) -> None:
    class Counting(fakes.FakeRunner):
        """Says 0 1 2 and then 5 6 5 6 ..."""

        def execute(self, plan):
            result = super().execute(plan)
            for i, token_ids in enumerate(result.token_ids):
                row = self.rows[plan.rows[i]]
                for place, _ in enumerate(token_ids):
                    number = len(row.tokens) - row.start.num_prompt_tokens - 1
                    token = number if number < 3 else 5 + number % 2
                    row.tokens[-1] = token_ids[place] = token
                    row.digests[-1] = hash((row.digests[-2], token))
            return result

    engine = bench(runner_class=Counting)
    detection = RepetitionDetection(max_pattern_size=3, min_count=3)
    engine.add("a", prompt=[5, 6, 5, 6], max_tokens=30, repetition_detection=detection)
    engine.add("later", max_tokens=30, repetition_detection=detection, min_tokens=12)
    engine.run()
    assert engine.finished == {("a", 0): "repetition", ("later", 0): "repetition"}
    assert engine.output["a", 0] == [0, 1, 2, 6, 5, 6, 5, 6, 5]
    assert len(engine.output["later", 0]) == 12
