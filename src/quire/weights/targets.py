"""What a checkpoint fills: parameters, and layers that hold their weight in another layout.

Such a weight comes in dense, into memory of the layout's choice, and is converted once all of it is
there.
"""

from torch import Tensor, nn

from quire.layers.parameters import Weighted
from quire.quant.layouts.layout import Dense, Layout

Target = nn.Parameter | Layout


def fill_targets(model: nn.Module, *, tied: bool) -> dict[str, Target]:
    """Every name that can be filled; tied parameters under each of theirs if `tied`."""
    found: dict[str, Target] = dict(model.named_parameters(remove_duplicate=not tied))
    for name, module in model.named_modules():
        if isinstance(module, Weighted) and not isinstance(module.layout, Dense):
            held = [found.pop(f"{name}.{part}", None) for part in module.layout.tensors()]
            if held[0] is not None:
                found[f"{name}.weight"] = module.layout
    return found


def dense(target: Target) -> Tensor:
    """Where the dense values go."""
    return target.detach() if isinstance(target, nn.Parameter) else target.staging()
