"""A decode step's inputs from the device rows, and its tokens back to them (`csrc/stage.cpp`).

Torch's operations for either, a dozen, take 100 us in the middle of a model: their code is in no
cache any more.
"""

from torch import Tensor

from quire.kernels.table import Append, Stage
from quire.platform.native import POINTER, SIZE, Library


def stage_of(library: Library) -> tuple[Stage, Append]:
    """The ops `stage` and `append` with the library's kernels."""
    stage_kernel = library.kernel("stage", *[POINTER] * 8, *[SIZE] * 4)
    append_kernel = library.kernel("append", *[POINTER] * 4, *[SIZE] * 2)

    def stage(
        tokens: Tensor,
        page_table: Tensor,
        rows: Tensor,
        seq_lens: Tensor,
        new_pages: Tensor,
        token_ids: Tensor,
        positions: Tensor,
        slots: Tensor,
        page_size: int,
    ) -> None:
        """As `reference.stage`."""
        given = (tokens, page_table, rows, seq_lens, new_pages, token_ids, positions, slots)
        strides = tokens.stride(0), page_table.stride(0)
        stage_kernel(*[x.data_ptr() for x in given], rows.shape[0], *strides, page_size)

    def append(tokens: Tensor, rows: Tensor, seq_lens: Tensor, sampled: Tensor) -> None:
        """As `reference.append`."""
        given = (tokens, rows, seq_lens.long(), sampled)
        append_kernel(*[x.data_ptr() for x in given], rows.shape[0], tokens.stride(0))

    return stage, append
