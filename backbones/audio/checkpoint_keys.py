"""Names of tensors in checkpoints of Hugging Face's transformers; loads no torch."""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

# PyTorch has had two names for the weight norm of the positional convolution
OLD_NAMES = {".weight_g": ".parametrizations.weight.original0", ".weight_v": ".parametrizations.weight.original1"}
MASK = "masked_spec_embed"  # stands for masked frames in training; only some checkpoints have it
# Names in every network of a kind: whatever precedes them belongs to a wrapper.
WAVES, WHISPER, AST = "feature_extractor.conv_layers.", "conv1.weight", "embeddings.cls_token"
OF_WAVES = ("feature_extractor", "layer_norm", "feature_projection", "encoder", MASK)
OF_WHISPER = ("conv1", "conv2", "embed_positions", "layers", "layer_norm")
OF_AST = ("embeddings", "layers", "encoder", "layernorm")
# transformers has had two names for the layers of AST; published files have the first
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
    """The tensors of the encoder by its own names, and the names of all others: heads, decoders.

    Args:
        state: a state dict.
        anchor: beginning of the name of a tensor in every such encoder.
        parts: first words of the encoder's names.
    """
    positions = {key: f".{key}".find(f".{anchor}") for key in state}
    prefix = min((key[:position] for key, position in positions.items() if position >= 0), key=len, default="")
    inner = {
        key.removeprefix(prefix): value
        for key, value in state.items()
        if key.startswith(prefix) and key.removeprefix(prefix).split(".")[0] in parts
    }
    return inner, [key for key in state if not key.startswith(prefix) or key.removeprefix(prefix) not in inner]


def clean_waves(
    state: "Mapping[str, Tensor]", parts: Collection[str] = OF_WAVES
) -> "tuple[dict[str, Tensor], list[str]]":
    """wav2vec 2.0 and its relatives: tensors by today's names in the encoder, and the names that were dropped."""
    inner, dropped = inside(state, WAVES, parts)
    return {_new_name(key): value for key, value in inner.items()}, dropped


def _new_name(key: str) -> str:
    for old, new in OLD_NAMES.items():
        if key.endswith(f".conv{old}"):
            return key.removesuffix(old) + new
    return key


def clean_whisper(state: "Mapping[str, Tensor]") -> "tuple[dict[str, Tensor], list[str]]":
    """Whisper: tensors by their names in the encoder, and the names that were dropped, those of the decoder."""
    return inside(state, WHISPER, OF_WHISPER)


def clean_ast(state: "Mapping[str, Tensor]") -> "tuple[dict[str, Tensor], list[str]]":
    """AST: tensors by today's names in transformers, and the names that were dropped."""
    inner, dropped = inside(state, AST, OF_AST)
    return {ast_name(key): value for key, value in inner.items()}, dropped


def ast_name(key: str) -> str:
    """Today's name of a tensor of AST."""
    for old, new in AST_NAMES.items():
        key = key.replace(old, new)
    return key
