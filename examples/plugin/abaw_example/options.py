"""Options of the head and the loss. They name what is built, which loads torch, and do not import it."""

from typing import Literal

from pydantic import Field

from abaw.train.head_options import HeadConfig
from abaw.train.loss_options import LossConfig


class BlendConfig(HeadConfig):
    """Options of the head.

    Attributes:
        share: of the frame before in the outputs of a frame.
    """

    built_by = "abaw_example.parts:BlendHead"
    summary = "A linear map, blended with the frame before"
    looks_ahead = False

    name: Literal["blend"] = "blend"
    share: float = Field(0.5, ge=0, lt=1)


class AbsoluteConfig(LossConfig):
    """Options of the loss.

    Attributes:
        factor: of the loss.
    """

    built_by = "abaw_example.parts:AbsoluteLoss"
    summary = "Mean absolute error"
    kinds = ("regression",)

    name: Literal["absolute"] = "absolute"
    factor: float = Field(1.0, gt=0)
