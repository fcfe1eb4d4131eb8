"""Bytes between the processes: everything survives the way, nothing else is let in."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quire.core.config import engine_config
from quire.core.errors import RequestError
from quire.core.messages import (
    AbortRequests,
    AddRequest,
    AskView,
    EngineError,
    EngineStats,
    EngineView,
    FromEngine,
    Hello,
    LoadProgress,
    ModelInfo,
    PoolView,
    Ready,
    SequenceDelta,
    StepOutputs,
    Stop,
    ToEngine,
    ViewReply,
)
from quire.core.plan import TokenLogprobs
from quire.core.pooling_params import PoolingParams
from quire.core.sampling_params import SamplingParams
from quire.engine.wire import (
    Launch,
    decode_from_engine,
    decode_to_engine,
    encode_from_engine,
    encode_to_engine,
    refusal,
)

STATS = EngineStats(1, 2, 0.5, 3, 4, 5, 6)
INFO = ModelInfo(
    model="m",
    architecture="X",
    vocab_size=10,
    max_model_len=64,
    dtype="bfloat16",
    device="cpu",
    eos_token_ids=(0, 2),
    generation_defaults={"temperature": 0.5, "top_k": 3},
    page_size=16,
    num_pages=(8, 4),
    max_num_seqs=4,
    max_num_batched_tokens=64,
    enable_prefix_caching=True,
    seed=3,
)
PARAMS = SamplingParams(
    temperature=0.7,
    seed=-(2**63),
    stop=["a", "ㅎ"],
    logit_bias={5: 1.5, 70000: -100},
    allowed_token_ids=[1, 2],
    bad_words=["x"],
    logprobs=3,
    max_tokens=None,
)


def request(params: SamplingParams, **fields: object) -> AddRequest:
    return AddRequest("r", [1, 2, 3], params, -5, [0], 1.25, 9, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "message",
    [
        request(PARAMS, bad_words_ids=[[1], [2, 3]], delivered=[[4], []], cache_salt="s"),
        request(SamplingParams(n=3)),
        request(SamplingParams(), pooling=PoolingParams(pooling="mean", dimensions=8)),
        AbortRequests("r", [1]),
        AskView(7),
        Stop(),
    ],
)
def test_to_the_engine(message: ToEngine) -> None:
    assert decode_to_engine(encode_to_engine(message)) == message


@pytest.mark.parametrize(
    "message",
    [
        StepOutputs(
            [
                SequenceDelta("r", 1, [5, 6]),
                SequenceDelta(
                    "s",
                    0,
                    [7],
                    "stop",
                    7,
                    None,
                    [TokenLogprobs([7, 1], [-0.5, float("-inf")], 1)],
                    [TokenLogprobs([3], [-2.0], 4)],
                    16,
                    99.5,
                ),
                SequenceDelta("t", 0, [], "error", error="why", embedding=[0.5, -1.0]),
            ],
            STATS,
            12,
        ),
        Hello(),
        LoadProgress("loading weights", 0.25),
        Ready(INFO),
        EngineError("ConfigError", "no"),
        ViewReply(7, EngineView(STATS, [PoolView(2, 1, [0, 2])], [], [])),
    ],
)
def test_from_the_engine(message: FromEngine) -> None:
    assert decode_from_engine(encode_from_engine(message)) == message


def test_what_cannot_leave_the_process_is_refused() -> None:
    with pytest.raises(RequestError, match="logits_processors are functions"):
        encode_to_engine(request(SamplingParams(logits_processors=[lambda ids, logits: logits])))
    params = SamplingParams()
    params.allowed_token_ids = [object()]  # type: ignore[list-item]
    with pytest.raises(RequestError, match="no plain type"):
        encode_to_engine(request(params))


@given(st.binary(max_size=200))
def test_garbage_is_no_message(data: bytes) -> None:
    for decode in (decode_to_engine, decode_from_engine):
        with pytest.raises(msgspec.DecodeError):
            decode(data)
    assert refusal(data, "garbage") == []


def test_each_side_takes_only_the_other_sides_messages() -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_to_engine(encode_from_engine(Hello()))
    with pytest.raises(msgspec.DecodeError):
        decode_from_engine(encode_to_engine(Stop()))
    data = msgspec.msgpack.encode({"type": "control", "number": 1, "method": "shutdown"})
    with pytest.raises(msgspec.DecodeError):
        decode_to_engine(data)


@pytest.mark.parametrize(
    ("field", "value"),
    [("temperature", -1.0), ("top_p", 2.0), ("n", 0), ("stop_token_ids", ["x"]), ("seed", "x")],
)
def test_parameters_are_checked_again_and_the_request_told(field: str, value: object) -> None:
    params = SamplingParams(n=2)
    setattr(params, field, value)
    data = msgspec.msgpack.encode(request(params))
    with pytest.raises(msgspec.DecodeError) as caught:
        decode_to_engine(data)
    deltas = refusal(data, str(caught.value))
    assert [(d.request_id, d.index, d.finish_reason) for d in deltas] == [
        ("r", index, "error") for index in range(max(1, params.n))
    ]
    assert all(str(caught.value) in str(d.error) for d in deltas)


def test_the_launch_line_is_one_line_with_every_option() -> None:
    config = engine_config(
        model="a\nb", hf_token="secret", max_num_seqs=3, num_gpu_blocks_override=5
    )
    launch = Launch(config, "ipc:///x", 1, "info", "json")
    line = msgspec.json.encode(launch)
    assert b"\n" not in line
    assert msgspec.json.decode(line, type=Launch) == launch
    for bad in (b"", b"{}\n", line.replace(b'"json"', b'"xml"')):
        with pytest.raises(msgspec.DecodeError):
            msgspec.json.decode(bad, type=Launch)
