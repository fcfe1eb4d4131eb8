"""Steps built by hand: a model run over shuffled pages, without scheduler or runner."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from quire.core.kv_spec import KVGroup
from quire.kernels.batch import AttentionBatch, LayerCache, StepInputs
from quire.models.recipe import Recipe

# What unwritten slots hold: finite and large, so that reading one shows.
RUBBISH = 1e3


class PagedModel:
    """A model and its pages. Every row owns as many pages as `max_len` takes, in random order."""

    def __init__(self, model, page_size: int = 16, num_rows: int = 4, max_len: int = 128) -> None:
        recipe: Recipe = model.recipe
        self.model = model
        self.page_size = page_size
        self.groups = recipe.kv_groups()
        self.seq_lens = [0] * num_rows
        device = next(model.parameters()).device
        dtype = next(p.dtype for p in model.parameters() if p.is_floating_point())
        columns = -(-max_len // page_size)
        self.num_pages = num_rows * columns + 3
        order = np.random.default_rng(page_size)
        self.tables = [
            order.permutation(self.num_pages)[: num_rows * columns].reshape(num_rows, columns)
            for _ in self.groups
        ]
        noise = torch.Generator().manual_seed(1)
        caches: dict[int, LayerCache] = {}
        for group in self.groups:
            for layer in group.layers:
                shape = (self.num_pages, layer.num_kv_heads, page_size, layer.head_dim)
                k, v = (
                    (RUBBISH * torch.randn(shape, generator=noise)).to(device, dtype)
                    for _ in range(2)
                )
                caches[layer.layer] = (k, v)
        self.caches = [caches[i] for i in range(len(recipe.layers))]
        self.device = device

    def step(
        self, work: Sequence[tuple[int, Sequence[int]]], last_alone: bool = False
    ) -> list[Tensor]:
        """Compute each (row, next token ids) and return that row's logits [n, V], or of its last
        token [1, V]."""
        query_lens = [len(ids) for _, ids in work]
        starts = [self.seq_lens[row] for row, _ in work]
        for row, ids in work:
            self.seq_lens[row] += len(ids)
        positions = [p for s, n in zip(starts, query_lens) for p in range(s, s + n)]
        inputs = StepInputs(
            token_ids=self._tensor([t for _, ids in work for t in ids], torch.int64),
            positions=self._tensor(positions, torch.int64),
            groups=tuple(
                self._batch(index, group, [row for row, _ in work], starts, query_lens)
                for index, group in enumerate(self.groups)
            ),
        )
        with torch.inference_mode():
            if last_alone:
                wanted = self._tensor(np.cumsum(query_lens) - 1, torch.int64)
                return list(self.model.logits(self.model(inputs, self.caches, wanted)).split(1))
            logits = self.model.logits(self.model(inputs, self.caches))
        return list(logits.split(query_lens))

    def _batch(
        self, index: int, group: KVGroup, rows: list[int], starts: list[int], query_lens: list[int]
    ) -> AttentionBatch:
        table = self.tables[index]
        size = self.page_size
        slots = [
            int(table[row, p // size]) * size + p % size
            for row, start, n in zip(rows, starts, query_lens)
            for p in range(start, start + n)
        ]
        seen = table.copy()
        for row, start in zip(rows, starts):
            if group.window is not None:
                # Columns no query of this step sees go stale: another row's pages.
                stale = max(0, start - group.window + 1) // size
                seen[row, :stale] = table[row - 1, :stale]
        seq_lens = [start + n for start, n in zip(starts, query_lens)]
        return AttentionBatch(
            query_starts=self._tensor(np.cumsum([0, *query_lens]), torch.int32),
            seq_lens=self._tensor(seq_lens, torch.int32),
            rows=self._tensor(rows, torch.int32),
            page_table=self._tensor(seen, torch.int32),
            slots=self._tensor(slots, torch.int64),
            page_size=size,
            host_query_lens=np.array(query_lens, np.int32),
            host_seq_lens=np.array(seq_lens, np.int32),
            max_query_len=max(query_lens),
            max_seq_len=max(seq_lens),
        )

    def _tensor(self, values, dtype: torch.dtype) -> Tensor:
        return torch.tensor(np.asarray(values), dtype=dtype, device=self.device)
