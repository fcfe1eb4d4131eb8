"""Masks that change every step, as grammars give them."""

import numpy as np
import pytest
import torch

from quire.core.sampling_params import SamplingParams
from quire.core.structured_outputs import StructuredOutputsParams
from quire.sampling.token_mask import pack

V = 37
ANY = StructuredOutputsParams(json_object=True)


def allowed_after(bench, logits, rows, line):
    bench.step(logits, rows)
    return torch.isfinite(bench.drawn_from[line]).nonzero().flatten().tolist()


def test_a_new_mask_each_step(harness, request_of):
    bench, logits = harness(V, 4), torch.randn(2, V)
    bench.start(3, request_of(SamplingParams(temperature=0, structured_outputs=ANY), [1]))
    bench.start(1, request_of(SamplingParams(temperature=0), [1]))
    for allowed in ([0, 36], [5], [3, 31, 32]):
        bench.sampler.rows.set_mask(3, pack(allowed, V))
        assert allowed_after(bench, logits.clone(), [1, 3], 1) == allowed
        assert torch.isfinite(bench.drawn_from[0]).all()


def test_with_allowed_token_ids(harness, request_of):
    bench, logits = harness(V, 2), torch.randn(1, V)
    params = SamplingParams(temperature=0, structured_outputs=ANY, allowed_token_ids=[1, 2, 33])
    bench.start(0, request_of(params, [1]))
    mask = pack([2, 3, 33], V)
    bench.sampler.rows.set_mask(0, mask)
    assert allowed_after(bench, logits.clone(), [0], 0) == [2, 33]
    bench.sampler.rows.set_mask(0, pack([3], V))
    output = bench.step(logits.clone(), [0])
    assert output.token_ids.tolist() == [-1], "nothing is left to choose"
    assert np.array_equal(mask, pack([2, 3, 33], V)), "a mask that was handed over is not changed"
    bench.sampler.rows.release(0)
    bench.start(0, request_of(SamplingParams(temperature=0, structured_outputs=ANY), [1]))
    bench.sampler.rows.set_mask(0, pack([3], V))
    assert allowed_after(bench, logits.clone(), [0], 0) == [3]


def test_only_rows_with_a_grammar_take_masks(harness, request_of):
    bench = harness(V, 2)
    bench.start(0, request_of(SamplingParams(temperature=0), [1]))
    with pytest.raises(AssertionError, match="no grammar"):
        bench.sampler.rows.set_mask(0, pack([1], V))
