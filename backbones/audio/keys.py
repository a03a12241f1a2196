"""Names of tensors in checkpoints of Hugging Face's transformers; loads no torch."""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

# PyTorch has had two ways to write the weight norm of the positional convolution
OLD_NAMES = {".weight_g": ".parametrizations.weight.original0", ".weight_v": ".parametrizations.weight.original1"}
MASK = "masked_spec_embed"  # what masked frames are in training; only some checkpoints keep it
# Names that are there in every network of a kind: what stands before them is a wrapper's.
WAVES, WHISPER, AST = "feature_extractor.conv_layers.", "conv1.weight", "embeddings.cls_token"
OF_WAVES = ("feature_extractor", "layer_norm", "feature_projection", "encoder", MASK)
OF_WHISPER = ("conv1", "conv2", "embed_positions", "layers", "layer_norm")
OF_AST = ("embeddings", "layers", "encoder", "layernorm")
# transformers has had two ways to name the layers of AST: the published files keep the first
AST_NAMES = {
    "encoder.layer.": "layers.",
    "attention.attention.query.": "attention.q_proj.",
    "attention.attention.key.": "attention.k_proj.",
    "attention.attention.value.": "attention.v_proj.",
    "attention.output.dense.": "attention.o_proj.",
    "intermediate.dense.": "mlp.fc1.",
    "output.dense.": "mlp.fc2.",
}


def inside(state: "Mapping[str, Tensor]", anchor: str, parts: Collection[str]) -> "tuple[dict[str, Tensor], list[str]]":
    """The encoder's tensors as the bare encoder names them, and the names of the others: heads, decoders.

    Args:
        state: a state dict.
        anchor: how the name of a tensor begins that every such encoder has.
        parts: first words of the encoder's names.
    """
    places = {key: f".{key}".find(f".{anchor}") for key in state}
    prefix = min((key[:place] for key, place in places.items() if place >= 0), key=len, default="")
    kept = {
        key.removeprefix(prefix): value
        for key, value in state.items()
        if key.startswith(prefix) and key.removeprefix(prefix).split(".")[0] in parts
    }
    return kept, [key for key in state if not key.startswith(prefix) or key.removeprefix(prefix) not in kept]


def clean_waves(
    state: "Mapping[str, Tensor]", parts: Collection[str] = OF_WAVES
) -> "tuple[dict[str, Tensor], list[str]]":
    """Of wav2vec 2.0 and its relatives: names as the encoder has them today, and those that were dropped."""
    kept, dropped = inside(state, WAVES, parts)
    return {_new_name(key): value for key, value in kept.items()}, dropped


def _new_name(key: str) -> str:
    for old, new in OLD_NAMES.items():
        if key.endswith(f".conv{old}"):
            return key.removesuffix(old) + new
    return key


def clean_whisper(state: "Mapping[str, Tensor]") -> "tuple[dict[str, Tensor], list[str]]":
    """Of Whisper: the encoder's names, and those that were dropped: the decoder's."""
    return inside(state, WHISPER, OF_WHISPER)


def clean_ast(state: "Mapping[str, Tensor]") -> "tuple[dict[str, Tensor], list[str]]":
    """Of AST: names as transformers has them today, and those that were dropped."""
    kept, dropped = inside(state, AST, OF_AST)
    return {ast_name(key): value for key, value in kept.items()}, dropped


def ast_name(key: str) -> str:
    """Today's name of a tensor of AST."""
    for old, new in AST_NAMES.items():
        key = key.replace(old, new)
    return key
