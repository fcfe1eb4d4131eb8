"""SamplingParams: every range is checked, at construction and again at submission."""

import math

import pytest

from quire.core.errors import RequestError
from quire.core.sampling_params import (
    LOGIT_BIAS_LIMIT,
    MIN_TEMPERATURE,
    BeamSearchParams,
    SamplingParams,
)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("n", 0, "[1, 16384]"),
        ("n", 1.5, "integer"),
        ("n", True, "number"),
        ("presence_penalty", 2.1, "[-2, 2]"),
        ("frequency_penalty", -3, "[-2, 2]"),
        ("repetition_penalty", 0, "greater than 0"),
        ("temperature", -0.1, "at least 0"),
        ("temperature", math.nan, "number"),
        ("temperature", "hot", "number"),
        ("top_p", 0.0, "(0, 1]"),
        ("top_p", 1.1, "(0, 1]"),
        ("top_k", -2, "at least -1"),
        ("top_k", 1.5, "integer"),
        ("min_p", -0.1, "[0, 1]"),
        ("seed", 2**63, "at most 9223372036854775807"),
        ("max_tokens", 0, "at least 1"),
        ("min_tokens", -1, "at least 0"),
        ("logprobs", -2, "at least -1"),
        ("prompt_logprobs", -2, "at least -1"),
        ("truncate_prompt_tokens", 0, "-1 or at least 1"),
        ("stop", [""], "non-empty"),
        ("stop", ["a"] * 65, "more than 64"),
        ("bad_words", ["a"] * 129, "more than 128"),
        ("bad_words", [""], "non-empty"),
        ("allowed_token_ids", [], "not be empty"),
        ("logit_bias", {"a": 1.0}, "token ids"),
    ],
)
def test_out_of_range_names_field_value_and_range(field: str, value: object, words: str) -> None:
    with pytest.raises(RequestError) as error:
        SamplingParams(**{field: value})  # type: ignore[arg-type]
    assert error.value.parameter == field
    assert str(error.value).startswith(f"{field} ")
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_contradictions() -> None:
    with pytest.raises(RequestError, match="must be at most max_tokens=4"):
        SamplingParams(min_tokens=5, max_tokens=4)
    with pytest.raises(RequestError, match="greedy"):
        SamplingParams(n=2, temperature=0)
    with pytest.raises(RequestError, match="detokenize=True"):
        SamplingParams(stop="a", detokenize=False)


def test_spellings_that_mean_the_same() -> None:
    assert SamplingParams(stop="end").stop == ["end"]
    assert SamplingParams(top_k=-1).top_k == 0
    assert SamplingParams(seed=-1).seed is None
    assert SamplingParams(logprobs=True).logprobs == 1
    assert SamplingParams(temperature=1e-9).temperature == MIN_TEMPERATURE
    assert SamplingParams(temperature=0).greedy
    assert SamplingParams(logit_bias={"5": 1000}).logit_bias == {  # type: ignore[dict-item]
        5: LOGIT_BIAS_LIMIT
    }


def test_checked_again_after_assignment() -> None:
    params = SamplingParams()
    params.top_p = 7.0
    with pytest.raises(RequestError, match="top_p"):
        params.validate()


def test_a_clone_shares_nothing_mutable() -> None:
    params = SamplingParams(stop=["a"], stop_token_ids=[1], logit_bias={1: 1.0}, bad_words=["x"])
    other = params.clone()
    assert other == params
    assert isinstance(other.stop, list)
    other.stop.append("b")
    other.stop_token_ids.append(2)  # type: ignore[union-attr]
    other.logit_bias[2] = 1.0  # type: ignore[index]
    assert params.stop == ["a"]
    assert params.stop_token_ids == [1]
    assert params.logit_bias == {1: 1.0}


def test_beam_search_params() -> None:
    assert BeamSearchParams(beam_width=3, max_tokens=5).length_penalty == 1.0
    with pytest.raises(RequestError, match="beam_width"):
        BeamSearchParams(beam_width=0, max_tokens=5)
