"""ServerMetrics: the names that dashboards know, and the figures behind them."""

import time
from dataclasses import dataclass

import pytest
from prometheus_client.parser import text_string_to_metric_families

from quire.core.config import EngineConfig
from quire.core.errors import ConfigError
from quire.core.messages import ModelInfo
from quire.core.pooling_params import PoolingParams
from quire.engine.remote import EngineState
from quire.metrics.config import ObservabilityConfig
from quire.metrics.registry import ServerMetrics
from quire.metrics.setup import make_metrics

# vLLM 0.33's names after the prefix, their types, and the labels beside model_name and engine.
VLLM = {
    "num_requests_running": ("gauge", ()),
    "num_requests_waiting": ("gauge", ()),
    "num_requests_waiting_by_reason": ("gauge", ("reason",)),
    "kv_cache_usage_perc": ("gauge", ()),
    "engine_sleep_state": ("gauge", ("sleep_state",)),
    "prefix_cache_queries": ("counter", ()),
    "prefix_cache_hits": ("counter", ()),
    "external_prefix_cache_queries": ("counter", ()),
    "external_prefix_cache_hits": ("counter", ()),
    "mm_cache_queries": ("counter", ()),
    "mm_cache_hits": ("counter", ()),
    "num_preemptions": ("counter", ()),
    "prompt_tokens": ("counter", ()),
    "prompt_tokens_by_source": ("counter", ("source",)),
    "prompt_tokens_cached": ("counter", ()),
    "prompt_tokens_cached_by_source": ("counter", ("source",)),
    "generation_tokens": ("counter", ()),
    "request_success": ("counter", ("finished_reason",)),
    "time_to_first_token_seconds": ("histogram", ()),
    "inter_token_latency_seconds": ("histogram", ()),
    "request_time_per_output_token_seconds": ("histogram", ()),
    "e2e_request_latency_seconds": ("histogram", ()),
    "request_queue_time_seconds": ("histogram", ()),
    "request_inference_time_seconds": ("histogram", ()),
    "request_prefill_time_seconds": ("histogram", ()),
    "request_decode_time_seconds": ("histogram", ()),
    "request_prompt_tokens": ("histogram", ()),
    "request_generation_tokens": ("histogram", ()),
    "request_max_num_generation_tokens": ("histogram", ()),
    "request_params_n": ("histogram", ()),
    "request_params_max_tokens": ("histogram", ()),
    "iteration_tokens_total": ("histogram", ()),
    "request_prefill_kv_computed_tokens": ("histogram", ()),
    "request_num_preemptions": ("histogram", ()),
}


@dataclass
class Engine:
    """What the metrics read of an engine's handle."""

    state: EngineState = EngineState.READY
    model_info: ModelInfo | None = None
    num_restarts: int = 0
    num_resumed: int = 0
    num_invalid: int = 0


def model_info(max_model_len: int = 300) -> ModelInfo:
    return ModelInfo(
        model="m",
        architecture="",
        vocab_size=10,
        max_model_len=max_model_len,
        dtype="float32",
        device="cpu",
        eos_token_ids=(),
        generation_defaults={},
        page_size=16,
        num_pages=(7,),
        max_num_seqs=4,
        max_num_batched_tokens=64,
        enable_prefix_caching=True,
        seed=0,
    )


def values(metrics: ServerMetrics) -> dict[str, float]:
    """Every sample: `name{label="value",…}` without the fixed labels -> value."""
    found = {}
    for family in text_string_to_metric_families(metrics.exposition()[0].decode()):
        for sample in family.samples:
            labels = {k: v for k, v in sample.labels.items() if k not in ("model_name", "engine")}
            inside = ",".join(f"{k}={v}" for k, v in sorted(labels.items()))
            found[f"{sample.name}{{{inside}}}" if inside else sample.name] = sample.value
    return found


@pytest.mark.parametrize("prefix", ["quire", "vllm"])
def test_vllms_metrics_are_there(prefix) -> None:
    metrics = ServerMetrics("the-model", prefix, 4096)
    families = {f.name: f for f in text_string_to_metric_families(metrics.exposition()[0].decode())}
    for name, (kind, labels) in VLLM.items():
        family = families[f"{prefix}:{name}"]
        assert family.type == kind, name
        assert family.samples, name
        for sample in family.samples:
            own = {"model_name", "engine", *labels, *(["le"] if "_bucket" in sample.name else [])}
            assert set(sample.labels) == own, sample
            assert sample.labels["model_name"] == "the-model"
            assert sample.labels["engine"] == "0"
            if kind == "counter":
                assert sample.name.endswith("_total")
    assert set(families[f"{prefix}:admission_rejections"].samples[0].labels) == {
        "model_name",
        "reason",
    }
    reasons = {s.labels["finished_reason"] for s in families[f"{prefix}:request_success"].samples}
    assert reasons == {"stop", "length", "abort", "error", "repetition"}


def test_buckets() -> None:
    found = values(ServerMetrics("m", "quire", 700))

    def bounds(name: str) -> list[str]:
        start = f"quire:{name}_bucket{{le="
        return [key[len(start) : -1] for key in found if key.startswith(start)]

    assert bounds("request_prompt_tokens") == [
        *("1.0", "2.0", "5.0", "10.0", "20.0", "50.0", "100.0", "200.0", "500.0", "+Inf")
    ]
    ttft = bounds("time_to_first_token_seconds")
    assert (ttft[0], ttft[6], ttft[-2], len(ttft)) == ("0.001", "0.08", "2560.0", 23)
    assert bounds("e2e_request_latency_seconds")[:3] == ["0.3", "0.5", "0.8"]
    assert bounds("inter_token_latency_seconds")[-2:] == ["80.0", "+Inf"]


def test_a_request_from_arrival_to_end(make_request, step) -> None:
    metrics = ServerMetrics("m", "quire", 4096)
    request = make_request()
    metrics.on_request_arrived(request, "alice")
    metrics.on_step(step(num_running=1, kv_usage=0.25, num_steps=1))
    metrics.on_first_token(request, "alice")
    metrics.on_tokens(request, 1, None)
    for number in range(2, 6):
        metrics.on_step(step(num_running=1, kv_usage=0.25, num_steps=number))
        metrics.on_tokens(request, 1, 0.02)
    metrics.on_finished(request, "stop", "alice")
    found = values(metrics)
    expected = {
        "requests_arrived_total": 1,
        "prompt_tokens_total": 10,
        "prompt_tokens_cached_total": 4,
        "prompt_tokens_by_source_total{source=local_compute}": 6,
        "prompt_tokens_by_source_total{source=local_cache_hit}": 4,
        "prompt_tokens_cached_by_source_total{source=device}": 4,
        "generation_tokens_total": 5,
        "request_success_total{finished_reason=stop}": 1,
        "time_to_first_token_seconds_sum": 1.0,
        "time_to_first_token_seconds_bucket{le=0.75}": 0,
        "time_to_first_token_seconds_bucket{le=1.0}": 1,  # a bound belongs to its bucket
        "inter_token_latency_seconds_count": 4,
        "inter_token_latency_seconds_bucket{le=0.025}": 4,
        "request_time_per_output_token_seconds_sum": 0.5,
        "e2e_request_latency_seconds_sum": 4.0,
        "request_queue_time_seconds_sum": 0.5,
        "request_prefill_time_seconds_sum": 0.5,
        "request_decode_time_seconds_sum": 2.0,
        "request_inference_time_seconds_sum": 2.5,
        "request_prompt_tokens_sum": 10,
        "request_generation_tokens_sum": 5,
        "request_max_num_generation_tokens_sum": 5,
        "request_params_n_sum": 1,
        "request_num_preemptions_sum": 2,
        "request_num_preemptions_bucket{le=1.0}": 0,
        "request_params_max_tokens_sum": 20,
        "request_prefill_kv_computed_tokens_sum": 6,
        "iteration_tokens_total_count": 5,
        "iteration_tokens_total_sum": 11,  # the cached part of the prompt is not computed
        "num_requests_running": 1,
        "kv_cache_usage_perc": 0.25,
        "usage_requests_total{api_key_name=alice}": 1,
        "usage_prompt_tokens_total{api_key_name=alice}": 10,
        "usage_prompt_tokens_cached_total{api_key_name=alice}": 4,
        "usage_generation_tokens_total{api_key_name=alice}": 5,
        "usage_request_latency_seconds_sum{api_key_name=alice}": 4.0,
    }
    assert {name: found[f"quire:{name}"] for name in expected} == pytest.approx(expected)


def test_sequences_are_counted_by_how_they_ended(make_request) -> None:
    metrics = ServerMetrics("m", "quire", 4096)
    request = make_request(n=3)
    request.sequences[1].finish_reason = "length"
    request.sequences[2].finish_reason = None
    metrics.on_finished(request, "abort", None)
    found = values(metrics)
    for reason, count in {"stop": 1, "length": 1, "abort": 1, "error": 0}.items():
        assert found[f"quire:request_success_total{{finished_reason={reason}}}"] == count
    assert found["quire:request_generation_tokens_count"] == 3
    assert found["quire:request_params_n_sum"] == 3
    assert found["quire:e2e_request_latency_seconds_count"] == 1
    assert found["quire:usage_generation_tokens_total{api_key_name=none}"] == 15


def test_a_request_that_never_ran(make_request) -> None:
    metrics = ServerMetrics("m", "quire", 4096)
    request = make_request(tokens=0, reason="abort")
    request.metrics.first_scheduled_time = request.metrics.first_token_time = None
    request.metrics.last_token_time = None
    request.num_cached_tokens = None
    metrics.on_finished(request, "abort", "bob")
    found = values(metrics)
    assert found["quire:request_queue_time_seconds_count"] == 0
    assert found["quire:request_time_per_output_token_seconds_count"] == 0
    assert found["quire:request_prefill_kv_computed_tokens_count"] == 0
    assert found["quire:e2e_request_latency_seconds_count"] == 1
    assert found["quire:usage_prompt_tokens_total{api_key_name=bob}"] == 0


def test_a_pooled_request_has_a_prompt_and_no_token(make_request) -> None:
    metrics = ServerMetrics("m", "quire", 4096)
    request = make_request(tokens=0)
    request.message.pooling = PoolingParams()
    request.metrics.first_token_time = None
    metrics.on_finished(request, "stop", None)
    found = values(metrics)
    assert found["quire:prompt_tokens_total"] == 10
    assert found["quire:usage_prompt_tokens_total{api_key_name=none}"] == 10
    assert found["quire:time_to_first_token_seconds_count"] == 0


def test_key_names_are_bounded(make_request) -> None:
    metrics = ServerMetrics("m", "quire", 4096, max_key_names=2)
    for name in ("a", "b", "c", "d", "a", None):
        metrics.on_finished(make_request(), "stop", name)
    found = values(metrics)
    requests = {k: v for k, v in found.items() if k.startswith("quire:usage_requests_total")}
    assert requests == {
        "quire:usage_requests_total{api_key_name=a}": 2,
        "quire:usage_requests_total{api_key_name=b}": 1,
        "quire:usage_requests_total{api_key_name=other}": 3,
    }


def test_the_engines_totals_survive_its_death(step) -> None:
    metrics = ServerMetrics("m", "quire", 4096)
    engine = Engine(model_info=model_info())
    metrics.watch(engine, EngineConfig(), lambda: 2)
    metrics.on_step(step(prefix_queries=100, prefix_hits=60, num_preemptions=3, num_steps=50))
    assert values(metrics)["quire:prefix_cache_hits_total"] == 60
    metrics.on_step(step(prefix_queries=120, prefix_hits=70, num_preemptions=3, num_steps=60))
    engine.num_restarts, engine.num_resumed, engine.state = 1, 4, EngineState.RESTARTING
    # The next engine soon has a larger total than the last one had; its step count gives it away.
    metrics.on_step(step(prefix_queries=500, prefix_hits=5, num_waiting=7, num_steps=1))
    found = values(metrics)
    assert found["quire:prefix_cache_queries_total"] == 620
    assert found["quire:prefix_cache_hits_total"] == 75
    assert found["quire:num_preemptions_total"] == 3
    assert found["quire:engine_restarts_total"] == 1
    assert found["quire:requests_resumed_total"] == 4
    # The dead engine's last words do not count; what admission holds back does.
    assert found["quire:num_requests_waiting"] == 2
    engine.state = EngineState.READY
    assert values(metrics)["quire:num_requests_waiting"] == 9


def test_unfinished_requests_wait_while_there_is_no_engine(make_request, step) -> None:
    metrics = ServerMetrics("m")
    engine = Engine(model_info=model_info())
    metrics.watch(engine, EngineConfig())
    for number in range(3):
        metrics.on_request_arrived(make_request(f"cmpl-{number}"), None)
    metrics.on_step(step(num_running=3, kv_usage=0.5, num_steps=1))
    metrics.on_finished(make_request("cmpl-0"), "stop", None)
    engine.state = EngineState.RESTARTING
    found = values(metrics)
    assert found["quire:num_requests_running"] == found["quire:kv_cache_usage_perc"] == 0
    assert found["quire:num_requests_waiting"] == 2


def test_what_depends_on_the_model_comes_with_it(make_request) -> None:
    metrics = ServerMetrics("m")
    engine = Engine()
    metrics.watch(engine, EngineConfig())
    assert not [name for name in values(metrics) if "cache_config_info" in name]
    engine.model_info = model_info(300)
    metrics.on_request_arrived(make_request(), None)
    metrics.on_finished(make_request(), "stop", None)
    found = values(metrics)
    (info,) = (name for name in found if "cache_config_info" in name)
    assert "block_size=16" in info
    assert "num_gpu_blocks=7" in info
    assert found[info] == 1
    assert found["quire:request_prompt_tokens_bucket{le=200.0}"] == 1
    assert "quire:request_prompt_tokens_bucket{le=500.0}" not in found


def test_front_end_cpu_time_per_token(make_request, step) -> None:
    now = 0.0
    metrics = ServerMetrics("m", "quire", 4096, cpu_seconds=lambda: now)
    request = make_request()
    metrics.on_step(step(num_running=2, num_steps=1))
    metrics.on_tokens(request, 1, None)
    metrics.on_tokens(request, 1, 0.1)
    now = 30e-6
    metrics.on_step(step(num_running=0, num_steps=2))
    metrics.on_tokens(request, 1, 0.1)
    now = 5.0  # nothing ran: it did something else meanwhile
    metrics.on_step(step(num_running=1, num_steps=3))
    found = values(metrics)
    assert found["quire:frontend_seconds_per_token_count"] == 1
    assert found["quire:frontend_seconds_per_token_sum"] == pytest.approx(15e-6)
    assert found["quire:frontend_cpu_seconds_total"] == pytest.approx(30e-6)


def test_rejections_and_tools() -> None:
    metrics = ServerMetrics("m", "vllm")
    metrics.on_rejected("max_num_queued_reqs")
    metrics.on_tool_parser(streaming=True, called=True, request_type="chat_completions")
    found = values(metrics)
    assert found["vllm:admission_rejections_total{reason=max_num_queued_reqs}"] == 1
    name = "vllm:tool_call_parser_invocations_total"
    labels = "{mode=streaming,outcome=tool_call,request_type=chat_completions}"
    assert found[name + labels] == 1


def test_label_values_are_escaped(make_request) -> None:
    metrics = ServerMetrics('a"b\\c\nd', "quire", 4096)
    metrics.on_finished(make_request(), "stop", 'the "key"\n')
    assert "quire:prompt_tokens_total" in values(metrics)


def test_no_state_is_shared(make_request) -> None:
    one, two = ServerMetrics("m", "quire", 4096), ServerMetrics("m", "quire", 4096)
    one.on_finished(make_request(), "stop", None)
    assert values(two)["quire:e2e_request_latency_seconds_count"] == 0


@pytest.mark.parametrize("prefix", ["", "9a", "a b", "a:b", "é"])
def test_bad_prefix(prefix) -> None:
    with pytest.raises(ConfigError, match="metrics_prefix"):
        make_metrics("m", ObservabilityConfig(metrics_prefix=prefix))


def best_of(repeats: int, run) -> float:
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def test_the_hot_path_is_cheap(make_request, step) -> None:
    """≤ 1.5 µs a token in steps of 64; the best of several runs, as other work disturbs them."""
    metrics, request, outputs = ServerMetrics("m", "quire", 4096), make_request(), step(num_steps=1)

    def steps() -> None:
        for _ in range(50):
            metrics.on_step(outputs)
            for _ in range(64):
                metrics.on_tokens(request, 1, 0.013)

    per_token = best_of(8, steps) / (50 * 64)
    print(f"{per_token * 1e6:.2f} µs a token")
    assert per_token < 1.5e-6


def test_a_scrape_is_cheap(make_request) -> None:
    """≤ 25 ms with all key names in use."""
    metrics = ServerMetrics("m", "quire", 131072)
    for number in range(100):
        metrics.on_finished(make_request(), "stop", f"key-{number}")
    seconds = best_of(5, metrics.exposition)
    size = len(metrics.exposition()[0])
    print(f"{seconds * 1e3:.1f} ms, {size} bytes")
    assert seconds < 0.025
