"""Checks against the vocabulary: each refusal names the parameter, the value and the range."""

import subprocess
import sys

import pytest

from quire.core.errors import RequestError
from quire.core.sampling_params import SamplingParams
from quire.sampling.check import check_params


@pytest.mark.parametrize(
    ("options", "name", "token"),
    [
        ({"logit_bias": {3: 1.0, 100: 1.0}}, "logit_bias", 100),
        ({"allowed_token_ids": [99, -1]}, "allowed_token_ids", -1),
        ({"stop_token_ids": [0, 128009]}, "stop_token_ids", 128009),
        ({"stop_token_ids": ["a"]}, "stop_token_ids", "a"),
        ({"allowed_token_ids": [True]}, "allowed_token_ids", True),
    ],
)
def test_ids_outside_the_vocabulary(options, name, token):
    with pytest.raises(RequestError) as caught:
        check_params(SamplingParams(**options), vocab_size=100)
    assert (caught.value.parameter, caught.value.value) == (name, token)
    assert str(caught.value) == f"{name} holds token id {token!r}, outside the vocabulary [0, 100)"


@pytest.mark.parametrize("words", [[[1], [2, 100]], [[-1, 3]], [[]]])
def test_bad_words(words):
    with pytest.raises(RequestError) as caught:
        check_params(SamplingParams(), 100, bad_words_ids=words)
    assert caught.value.parameter == "bad_words"


def test_what_fits_passes():
    params = SamplingParams(
        logit_bias={0: 1.0, 99: -1.0},
        allowed_token_ids=[0, 99],
        stop_token_ids=[0],
        min_tokens=2,
        logprobs=20,
        prompt_logprobs=20,
    )
    check_params(params, 100, bad_words_ids=[[0, 99], [5]])


@pytest.mark.parametrize("name", ["logprobs", "prompt_logprobs"])
@pytest.mark.parametrize(
    ("asked", "limit", "passes"),
    [
        (20, 20, True),
        (21, 20, False),
        (-1, 20, False),
        (-1, 100, True),
        (-1, -1, True),
        (500, -1, True),
        (0, 0, True),
        (1, 0, False),
    ],
)
def test_most_logprobs(name, asked, limit, passes):
    params = SamplingParams(**{name: asked})
    if passes:
        check_params(params, 100, max_logprobs=limit)
        return
    with pytest.raises(RequestError, match=rf"{name} must be in \[0, {limit}\], got {asked}"):
        check_params(params, 100, max_logprobs=limit)


def test_a_request_that_could_never_say_anything():
    params = SamplingParams(allowed_token_ids=[7, 8], stop_token_ids=[7, 8, 9], min_tokens=1)
    with pytest.raises(RequestError, match="allowed_token_ids holds stop_token_ids only"):
        check_params(params, 100)
    params.min_tokens = 0
    check_params(params, 100)


def test_importing_it_imports_no_torch():
    program = "import sys, quire.sampling.check; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
