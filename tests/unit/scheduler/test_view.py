"""What people are shown of the scheduler: every page accounted for, whatever the cache's size."""

from quire.core.kv_spec import KVGroup, LayerKV
from quire.core.messages import AddRequest, EngineView
from quire.core.sampling_params import SamplingParams
from quire.kv.cache import KVCache
from quire.scheduler.scheduler import Scheduler
from quire.scheduler.view import MAX_CELLS, MAX_SHOWN

P = 4
PROMPT = list(range(9))


def make(num_pages: int, max_num_seqs: int = 4) -> Scheduler:
    cache = KVCache([KVGroup(None, (LayerKV(0, 1, 8),))], [num_pages], P)
    return Scheduler(cache, max_num_seqs, 4096, 1024)


def add(scheduler: Scheduler, request_id: str, prompt: list[int], n: int = 1) -> None:
    params = SamplingParams(n=n, seed=0)
    scheduler.add(AddRequest(request_id, prompt, params, 0, [], 0.0, max_tokens=5))


def test_an_idle_engine_is_all_free() -> None:
    view = make(6).view()
    assert view.pools[0].cells == [0] * 6
    assert (view.pools[0].num_pages, view.pools[0].stride) == (6, 1)
    assert view.running == view.waiting == []


def test_cells_say_who_holds_them() -> None:
    scheduler = make(16, max_num_seqs=2)
    for request_id, prompt in (("a", PROMPT), ("b", [0, 1, 2, 3, 9, 9]), ("c", PROMPT)):
        add(scheduler, request_id, prompt)
        scheduler.plan()
    view: EngineView = scheduler.view()
    assert [(v.request_id, v.num_pages) for v in view.running] == [("a", 3), ("b", 2)]
    assert [(v.request_id, v.num_pages) for v in view.waiting] == [("c", 0)]
    assert view.running[1].num_cached_tokens == P
    cells = view.pools[0].cells
    # a's first page is b's too; two more are a's alone, one b's.
    assert sorted(cells) == [0] * 12 + [2, 2, 3, 4]
    assert (view.stats.num_running, view.stats.num_waiting) == (2, 1)


def test_a_large_cache_is_sampled_and_many_sequences_are_cut() -> None:
    scheduler = make(3 * MAX_CELLS, max_num_seqs=MAX_SHOWN + 6)
    for number in range(MAX_SHOWN + 6):
        add(scheduler, str(number), [number] * (3 * P + 1))
    while scheduler.plan():
        pass
    view = scheduler.view()
    assert len(view.pools[0].cells) == MAX_CELLS
    assert view.pools[0].stride == 3
    assert len(view.running) == MAX_SHOWN
    held = [cell for cell in view.pools[0].cells if cell > 1]
    others = [cell for cell in held if cell >= 2 + 2 * MAX_SHOWN]
    assert held
    assert others
    assert set(others) == {2 + 2 * MAX_SHOWN}
