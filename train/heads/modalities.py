"""Features kept apart: each projected to one width, replaced by a token where it is missing; and an encoder for all."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from abaw.train.fusion_options import FusionConfig, ModalityConfig
from abaw.train.heads.inputs import JoinFeatures, Tensors, hidden_keys, positions, width_of


class Modalities(nn.Module):
    """(batch, time, *shape) of each feature -> (batch, time, features, dim), and a mask of those that are shown.

    Args:
        config: see `ModalityConfig`.
        shapes: of one frame of each feature.
    """

    mask_token: Tensor

    def __init__(self, config: ModalityConfig, shapes: Mapping[str, tuple[int, ...]]) -> None:
        super().__init__()
        self.modality_dropout = config.modality_dropout
        self.project = nn.ModuleList(nn.Linear(width_of(shape), config.dim) for shape in shapes.values())
        token = torch.zeros(len(shapes), config.dim)
        if config.mask_token == "learned":
            self.mask_token = nn.Parameter(nn.init.normal_(token, std=0.02))
        else:
            self.register_buffer("mask_token", token)

    def forward(self, inputs: JoinFeatures, features: Tensors, masks: Tensors) -> tuple[Tensor, Tensor]:
        """Tokens (batch, time, features, dim), and (batch, time, features) bool: neither missing nor hidden.

        Args:
            inputs: standardises the features.
        """
        names = list(inputs.widths)
        shown = torch.stack([masks[name] for name in names], dim=-1)
        if self.training and self.modality_dropout > 0:
            shown = shown & ~self._hidden(shown)[:, None]
        joined = inputs(features, {name: shown[..., i] for i, name in enumerate(names)})
        parts = joined.split(list(inputs.widths.values()), dim=-1)
        tokens = torch.stack([project(part) for project, part in zip(self.project, parts, strict=True)], dim=2)
        return torch.where(shown[..., None], tokens, self.mask_token.to(tokens.dtype)), shown

    def _hidden(self, shown: Tensor) -> Tensor:
        """(batch, features) bool, drawn; False for at least one feature that the window has."""
        draws = torch.rand(len(shown), shown.shape[2], device=shown.device)
        kept = torch.where(shown.any(dim=1), draws, -1.0).argmax(dim=1, keepdim=True)
        return (draws < self.modality_dropout).scatter(1, kept, False)


class FusedEncoder(nn.Module):
    """Dropout, a pre-norm transformer encoder over time unless it has no layers, normalisation: (batch, time, dim)."""

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        self.dropout = nn.Dropout(config.dropout)
        layer = nn.TransformerEncoderLayer(
            config.dim, config.heads, config.feedforward, config.dropout, "gelu", batch_first=True, norm_first=True
        )
        self.encoder = (
            nn.TransformerEncoder(layer, config.layers, enable_nested_tensor=False) if config.layers else None
        )
        self.norm = nn.LayerNorm(config.dim)

    def forward(self, fused: Tensor, shown: Tensor) -> Tensor:
        """Encode the frames of windows.

        Args:
            fused: (batch, time, dim).
            shown: (batch, time) bool; other frames are not attended to.
        """
        fused = self.dropout(fused)
        if self.encoder is not None:
            fused = fused + positions(fused.shape[1], fused.shape[2], fused.device)
            fused = self.encoder(fused, src_key_padding_mask=hidden_keys(shown))
        return self.norm(fused)
