"""Which kernel a product takes, and its tile: measured on an H200, without bias or activation.

The figures are microseconds in a CUDA graph with a cold L2 for the linear layers of Llama-8B
(gate_up [28672, 4096], down [4096, 14336], qkv [6144, 4096], out [4096, 4096], head [128256,
4096]) and Qwen3-0.6B (out [1024, 2048], down [1024, 3072]); "library" is torch's.
"""

import functools
from dataclasses import dataclass

# Weights of so many rows fill the chip with tiles of 64 and more.
MANY = 16384
# Below this a tile of 64 rows leaves most of the chip idle.
FEW = 2048
# Products with weights of so many numbers, of up to 128 tokens, are as long as their launch.
SMALL = 8 << 20
CORES = 132
# Programs of one tile, and the bytes of a row from which on a part is worth the sums' exchange:
# of more than 32 tokens, and of up to 32.
MAX_SPLIT = 8
DEEP = 3584
SHALLOW = 1024


@dataclass(frozen=True, slots=True)
class Tile:
    """`rows` of the weight by `tokens`, `depth` of the inner dimension at a time and group of
    warps; `lines` of each row are asked for before the input is waited for. `quantized`: e4m3
    activations."""

    rows: int
    tokens: int
    depth: int
    stages: int
    num_warps: int = 4
    split: int = 1
    lines: int = 0
    quantized: bool = False


@functools.cache
def dense_tile(num_tokens: int, num_rows: int, depth: int) -> Tile | None:
    """For 16-bit weights [num_rows, depth]; None: the library's matmul."""
    if num_tokens == 0:
        return None
    if num_tokens == 1:
        # Sum of a layer's four: 104.8 for Llama, 14.8 for Qwen; library 114.4 and 31.
        return Tile(4, 1, 1024, 1)
    if num_rows >= MANY:
        # gate_up and head at 16 tokens: 56.1 and 239, library 56.9 and 277;
        # at 32: 57.6 and 244, library 58.0 and 289; at 64: 59.3 and 252, library 61.3 and 312.
        if num_tokens <= 16:
            return Tile(64, 16, 128, 4, lines=4)
        if num_tokens <= 64:
            return Tile(128, 32 if num_tokens <= 32 else 64, 128, 4, lines=2)
        return None
    if num_tokens <= 8:
        # down, qkv, out: 30.3, 14.8, 10.8, library 32.0, 15.1, 12.5; Qwen's four 19.1, library 24.
        return Tile(16, 8, 128, 4, split=4, lines=8)
    if num_tokens > 32:
        small = num_rows * depth <= SMALL and num_tokens <= 128
        return _small_tile(num_tokens, num_rows) if small else None
    tokens = 16 if num_tokens <= 16 else 32
    if num_rows < FEW:
        # Qwen's out and down at 16 tokens: 4.8 and 5.6, library 6.0 and 7.0.
        return Tile(16, tokens, 128, 4, split=4, lines=8)
    # down, qkv, out at 16 tokens: 29.8, 15.9, 9.9, library 31.7, 15.9, 12.7;
    # at 32: 31.2, 16.2, 10.2, library 32.5, 16.2, 13.0.
    return Tile(64, tokens, 128, 8, lines=4)


def _small_tile(num_tokens: int, num_rows: int) -> Tile | None:
    """The least tokens a program with which there is one for each multiprocessor at most."""
    # qkv, out, gate_up, down of Qwen at 64 tokens: 4.6, 5.0, 6.2, 6.3, library 5.3, 5.8, 7.9 with
    # the activation, 7.4; at 128: 5.4, 5.5, 8.0, 7.4, library 5.5, 6.2, 8.2, 7.5. Chained, a layer
    # with attention takes 96 at 64 tokens and 164 at 128, 102 and 170 with the library. At 256
    # none but out is faster.
    for tokens, stages in ((16, 8), (32, 6), (64, 5), (128, 4)):
        if -(-num_rows // 64) * -(-num_tokens // tokens) <= CORES:
            return Tile(64, tokens, 128, stages, lines=4)
    return None


@functools.cache
def fp8_tile(num_tokens: int, num_rows: int) -> Tile | None:
    """For e4m3 weights [num_rows, ...]; None: the library's row-wise scaled matmul."""
    if num_tokens == 0:
        return None
    if num_tokens == 1:
        # A layer of Llama, with attention over 1060 keys and norms, in a graph: 70.9 (72.3 with
        # eight rows, 1024 deep in five stages, everywhere).
        return Tile(8, 1, 512, 4) if num_rows >= MANY else Tile(8, 1, 1024, 3, lines=8)
    if num_tokens <= 8:
        # The same at 8 tokens: 79.9, unchained some 86; 85.7 unchained and 84.9 chained with
        # sixteen rows, 4 x 128 deep, everywhere. e4m3 activations, quantized for each 128 or 256
        # of depth in the kernel: 80.8 at best; by a kernel of their own 89.
        return Tile(64, 8, 128, 4) if num_rows >= MANY else Tile(16, 8, 256, 3, split=4)
    if num_tokens <= 32:
        # 70.8 at 32 tokens, library 102.
        return Tile(64, 16 if num_tokens <= 16 else 32, 128, 8, quantized=True)
    if num_tokens <= 64:
        # 77.1, library 98.9.
        return Tile(64, 64, 256, 4, quantized=True)
    if num_rows >= MANY:
        # gate_up at 128 tokens: 35.3, library 35.5; at 256: 52.7, library 49.8.
        return Tile(128, 128, 128, 3, num_warps=8, quantized=True) if num_tokens <= 128 else None
    if num_tokens <= 128 or (num_tokens <= 256 and num_rows <= 4096):
        # down, qkv, out at 128 tokens: 26.6, 10.5, 9.5, library 36.6, 14.0, 13.7;
        # down and out at 256: 29.1 and 10.0, library 37.1 and 13.8.
        return Tile(64, 128, 256, 4, quantized=True)
    return None


@dataclass(frozen=True, slots=True)
class SharedTile:
    """Twice `rows` of the weight by `tokens`; `split` programs take a part of the depth each."""

    rows: int
    tokens: int
    stages: int
    split: int = 1


@functools.cache
def shared_tile(
    num_tokens: int, num_rows: int, row_bytes: int, e4m3: bool, cores: int
) -> SharedTile | None:
    """For Hopper's own kernel: a weight of one tile for most of the multiprocessors, or one so
    deep that each can take a part of a tile. None: the other kernels.

    Milliseconds of Llama-8B's linear layers and norms in one CUDA graph, with it and without, at
    40, 64, 96 and 128 tokens: bf16 4.30, 4.26, 4.67, 4.65 and 4.39, 4.42, 4.68, 4.78; e4m3 2.67,
    2.76, 2.96, 3.02 and 2.95, 3.04, 3.26, 3.27. A layer's gate_up, down at 64 tokens: 2.5 and
    5.3 us less in bf16, 2.6 and 4.4 in e4m3; at 128: 3.4 less and 0.5 more, 3.7 more and 7.2
    less. Its qkv and out: 1 to 4 us more in bf16, -1 to 2 in e4m3. Beyond 128 tokens no tile
    nor an equal split of all the work gained on cuBLAS.

    Up to 32 tokens, us of a whole layer with attention and norms, with it and without: e4m3 at
    32 tokens 123.0 and 125.2; bf16 at 8 and 32 131.2 and 127.0, 163.7 and 155.2.
    """
    if not (16 if e4m3 else 32) < num_tokens <= 128:
        return None
    tokens = 32 if num_tokens <= 32 else 64 if num_tokens <= 64 else 128
    tiles = -(-num_rows // 256)
    if cores // 2 < tiles <= cores:
        if tokens <= 64:
            return SharedTile(128, tokens, 3 if tokens == 32 else 4)
        return None if e4m3 else SharedTile(128, 128, 4)
    if tokens == 128 and not e4m3:
        return None
    deep = SHALLOW if tokens == 32 else DEEP
    tiles = -(-num_rows // 128)
    split = MAX_SPLIT
    while split > 1 and split * tiles > cores:
        split //= 2
    if split == 1 or split * tiles <= cores // 2 or row_bytes < split * deep:
        return None
    return SharedTile(64, tokens, {32: 5, 64: 8, 128: 6}[tokens], split)
