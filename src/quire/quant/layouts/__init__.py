"""Weight layouts: their tensors, how they are filled from a dense weight, what they stand for."""

from quire.quant.layouts.int4_group import Int4Group
from quire.quant.layouts.layout import Dense, Layout
from quire.quant.layouts.per_channel import Fp8Channel, Int8Channel

# What `quantization` may ask for -> the layouts that weights are converted to while they load: that
# of linear layers, and that of embedding and head, which are often one.
AT_LOAD: dict[str, tuple[type[Layout], type[Layout]]] = {
    "fp8": (Fp8Channel, Dense),
    "int8": (Int8Channel, Int8Channel),
    "int4": (Int4Group, Int8Channel),
}
