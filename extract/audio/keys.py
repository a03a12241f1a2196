"""Names in checkpoints of wav2vec 2.0; loads no torch."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

# PyTorch has had two ways to write the weight norm of the positional convolution
OLD_NAMES = {".weight_g": ".parametrizations.weight.original0", ".weight_v": ".parametrizations.weight.original1"}
MASK = "masked_spec_embed"  # what masked frames are in training; only some checkpoints keep it
OF_ENCODER = ("feature_extractor.", "feature_projection.", "encoder.", "adapter.", MASK)


def clean_keys(state: "Mapping[str, Tensor]") -> "tuple[dict[str, Tensor], list[str]]":
    """Keys as the bare encoder has them today, and those that were dropped: heads of later training."""
    prefixes = {key.split(".")[0] + "." for key in state if ".feature_extractor." in key}
    cleaned, dropped = {}, []
    for key, value in state.items():
        name = key
        for prefix in prefixes:
            name = name.removeprefix(prefix)
        if not name.startswith(OF_ENCODER):
            dropped.append(key)
            continue
        for old, new in OLD_NAMES.items():
            if name.endswith(f"pos_conv_embed.conv{old}"):
                name = name.removesuffix(old) + new
        cleaned[name] = value
    return cleaned, dropped
