"""The KV cache's tensors. Everything else about pages is integers, in `kv/`."""

from collections.abc import Sequence

from quire.core.errors import InsufficientMemoryError
from quire.core.kv_spec import KVGroup
from quire.kernels.batch import LayerCache
from quire.platform.caps import DeviceCaps
from quire.platform.memory import zeros
from quire.weights.dtypes import torch_dtype


def allocate(
    groups: Sequence[KVGroup],
    num_pages: Sequence[int],
    page_size: int,
    caps: DeviceCaps,
) -> list[LayerCache]:
    """Keys and values of every layer, in layer order, each [N, K, P, D], filled with zeros.

    Raises:
        InsufficientMemoryError: the device refused, with the size asked for.
    """
    caches: dict[int, LayerCache] = {}
    for group, pages in zip(groups, num_pages):
        dtype = torch_dtype(group.dtype)
        for layer in group.layers:
            shape = (pages, layer.num_kv_heads, page_size, layer.head_dim)
            try:
                caches[layer.layer] = (zeros(shape, dtype, caps), zeros(shape, dtype, caps))
            except (RuntimeError, MemoryError) as error:  # torch's derive from RuntimeError
                total = sum(n * page_size * g.bytes_per_token for g, n in zip(groups, num_pages))
                raise InsufficientMemoryError(
                    f"the KV cache of {total / 2**30:.2f} GiB could not be allocated on "
                    f"{caps.name} ({str(error).splitlines()[0]}); lower gpu_memory_utilization, "
                    "kv_cache_memory_bytes or max_model_len"
                ) from None
    return [caches[layer] for layer in sorted(caches)]
