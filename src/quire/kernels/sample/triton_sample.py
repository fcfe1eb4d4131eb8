"""Sampling in Triton: no sort, no host synchronisation, six launches whatever the rows ask for.

Rows with filters are first narrowed down (`triton_narrow`), which mostly settles them; the others
take part in a race over all their tokens (`triton_draw`). A program whose row is settled returns
at once, so one CUDA graph serves any parameters. What a row draws does not depend on the others:
sums are taken in a fixed order.

Masses are summed in fp32, so a token whose share of the mass lies within rounding of top_p may
fall on the other side than the reference's.
"""

import torch
from torch import Tensor

from quire.kernels.sample.triton_draw import check_kernel, draw_kernel
from quire.kernels.sample.triton_narrow import FLAGS, STATES, narrow_kernel, survey_kernel
from quire.kernels.sample.triton_race import GROUP
from quire.kernels.sample.tuning import (
    DRAW_REGISTERS,
    FEW_GROUPS,
    NUM_WARPS,
    PROGRAMS,
    RACES,
    TILE_GROUPS,
)
from quire.kernels.sizes import cdiv, power_of_2
from quire.kernels.table import DrawNumbers
from quire.kernels.triton_chain import chained

# Low bits of an fp32 that are the same for all values of the dtype.
SPARE_BITS = {torch.float32: 0, torch.float16: 13, torch.bfloat16: 16}


def sample(logits: Tensor, numbers: DrawNumbers) -> Tensor:
    """As `reference.sample`."""
    temperature, top_k, top_p, min_p, seed, positions = numbers
    num_sequences, vocab_size = logits.shape
    device, row_stride = logits.device, logits.stride(0)
    out = torch.empty(num_sequences, dtype=torch.int64, device=device)
    if num_sequences == 0:
        return out
    assert logits.stride(1) == 1, "a row's logits must be contiguous"
    tile = min(TILE_GROUPS, power_of_2(cdiv(vocab_size, GROUP.value)))
    parts = cdiv(vocab_size, GROUP.value * tile)
    groups = parts * tile
    peaks, group_masses = torch.empty((2, num_sequences, groups), device=device).unbind(0)
    listed = torch.empty((num_sequences, groups), dtype=torch.int32, device=device)
    state = torch.empty((num_sequences, STATES.value), device=device)
    flags = torch.empty((num_sequences, FLAGS.value), dtype=torch.int32, device=device)
    queue_stride = cdiv(1 + num_sequences, 4) * 4  # aligned like the first
    queues = torch.empty((RACES, queue_stride), dtype=torch.int32, device=device)
    times = torch.empty((num_sequences, parts), device=device)
    winners = torch.empty((num_sequences, parts), dtype=torch.int32, device=device)
    chain = chained(logits)
    noise = (seed, positions)
    sizes = (vocab_size, row_stride, groups)
    survey_kernel[(parts, num_sequences)](
        logits,
        temperature,
        top_p,
        peaks,
        group_masses,
        flags,
        queues,
        *sizes,
        queue_stride,
        RACES=RACES,
        N=tile,
        num_warps=NUM_WARPS,
        **chain,
    )
    narrow_kernel[(num_sequences,)](
        logits,
        temperature,
        top_k,
        top_p,
        min_p,
        *noise,
        peaks,
        group_masses,
        listed,
        state,
        flags,
        queues,
        out,
        *sizes,
        GROUPS=power_of_2(groups),
        SHIFT=SPARE_BITS[logits.dtype],
        FEW=FEW_GROUPS,
        N=tile,
        num_warps=NUM_WARPS,
        **chain,
    )
    grid = (parts, min(num_sequences, max(1, PROGRAMS // parts)))
    padded = power_of_2(parts)
    for race, queue in enumerate(queues):
        draw_kernel[grid](
            logits,
            temperature,
            *noise,
            listed,
            state,
            flags,
            queue,
            times,
            winners,
            out,
            *sizes,
            N=tile,
            PARTS=padded,
            num_warps=NUM_WARPS,
            maxnreg=DRAW_REGISTERS,
            **chain,
        )
        check_kernel[grid](
            logits,
            temperature,
            *noise,
            listed,
            state,
            flags,
            queue,
            queues[min(race + 1, RACES - 1)],
            times,
            out,
            *sizes,
            N=tile,
            PARTS=padded,
            IS_FINAL=race == RACES - 1,
            num_warps=NUM_WARPS,
            **chain,
        )
    return out
