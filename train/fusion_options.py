"""Options of the heads that keep features apart before they are fused. Imports no torch, as `abaw.train.head_options`."""

from typing import Literal

from pydantic import Field, model_validator

from abaw.train.head_options import MAX_LAYERS, MAX_WIDTH, HeadConfig, Share, Width, check_heads

MaskToken = Literal["learned", "zero"]


class ModalityConfig(HeadConfig):
    """Base class for options of heads with a projection for each feature.

    Attributes:
        dim: width that every feature is projected to.
        dropout: on the fused features, and inside the layers after them.
        modality_dropout: share of the training windows in which a feature is hidden from the first frame to the last;
            one feature of a window is always left.
        mask_token: what replaces a feature at frames that lack it: one learned vector for each feature, or zeros.
    """

    dim: Width = 128
    dropout: Share = 0.2
    modality_dropout: Share = 0.2
    mask_token: MaskToken = "learned"


class FusionConfig(ModalityConfig):
    """Base class for options of heads with a transformer encoder over the fused features.

    Attributes:
        dim: width that every feature is projected to; even and a multiple of `heads`.
        layers: of the encoder; 0 for none.
        heads: attention heads of a layer.
        feedforward: width of the hidden layer in each.
    """

    dim: int = Field(128, ge=2, le=MAX_WIDTH, multiple_of=2)
    layers: int = Field(2, ge=0, le=MAX_LAYERS)
    heads: int = Field(4, ge=1)
    feedforward: Width = 256

    @model_validator(mode="after")
    def _heads_divide_dim(self) -> "FusionConfig":
        check_heads(self.dim, self.heads)
        return self


class GatedConfig(FusionConfig):
    """Options of gated fusion.

    Attributes:
        gate: weigh each feature at each frame by a sigmoid of all of them, or sum them up (none).
    """

    built_by = "abaw.train.heads.gated:GatedHead"
    summary = "Features weighed by a sigmoid gate at each frame, then a transformer encoder (ABAW 10, 2026)"

    name: Literal["gated"] = "gated"
    gate: Literal["sigmoid", "none"] = "sigmoid"

    @property
    def is_causal(self) -> bool:
        """True without an encoder."""
        return self.layers == 0


class AnchoredConfig(FusionConfig):
    """Options of fusion that is anchored at one feature, such as the text.

    Attributes:
        anchor: name of the feature that the others are added to.
        residual: add what the anchor attends to in the others through a gate, or as it is (plain).
    """

    built_by = "abaw.train.heads.anchored:AnchoredHead"
    summary = "One feature, such as text, and gated residuals of what it attends to in the others (2026)"

    name: Literal["anchored"] = "anchored"
    anchor: str = Field("text", min_length=1)
    residual: Literal["gated", "plain"] = "gated"


class DifferenceConfig(ModalityConfig):
    """Options of the differences between features.

    Attributes:
        differences: |a - b| of every two projected features at each frame, of their means over the window, or none:
            the projected features alone.
        hidden: width of the hidden layer before the output.
    """

    built_by = "abaw.train.heads.difference:DifferenceHead"
    summary = "Features side by side with |a - b| of every two, for what shows in their conflict (ABAW 10, 2026)"

    name: Literal["difference"] = "difference"
    differences: Literal["frame", "window", "none"] = "frame"
    hidden: Width = 128

    @property
    def is_causal(self) -> bool:
        """True unless means over the window are compared."""
        return self.differences != "window"
