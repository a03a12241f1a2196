"""Options of the losses. Imports no torch: configs are also read where nothing is computed."""

import math
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field

from abaw.train.head_options import COMMAS, EMPTY
from abaw.train.options import Options, Registry

RULES = ("equal", "inverse")
Moments = Literal["population", "unbiased"]
Factor = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Shares = Annotated[tuple[Factor, ...], COMMAS]  # of the outputs in a loss; empty if all count alike


def _read(value: object) -> object:
    """Parse weights with a single error message; a union would report one for each member."""
    if isinstance(value, str) and value not in RULES:
        value = value.split(",")
    if isinstance(value, Sequence) and not isinstance(value, str):
        try:
            numbers = tuple(float(number) for number in value)
        except (TypeError, ValueError):
            numbers = ()
        if any(numbers) and all(number >= 0 and math.isfinite(number) for number in numbers):
            return numbers
    if value not in RULES:
        raise ValueError("must be equal, inverse, or comma-separated numbers of 0 and above")
    return value


Weights = Annotated[Literal["equal", "inverse"] | tuple[float, ...], BeforeValidator(_read)]


class LossConfig(Options):
    """Base class for options of losses.

    The callable takes the options, the task, and labels and valid flags of the training split, as
    `abaw.train.losses.create_loss` does.

    Attributes:
        min_views: minimum number of views of the same windows.
        weighs_frames: the loss takes weights of frames.
    """

    min_views: ClassVar[int] = 1
    weighs_frames: ClassVar[bool] = False


LOSSES = Registry("abaw.losses", LossConfig)
AnyLossConfig = Annotated[LossConfig, LOSSES]


class CccConfig(LossConfig):
    """Options of `ccc`.

    Attributes:
        shares: how much each output counts, such as `1,0.5` for valence and arousal; empty if all count alike.
        moments: `population` is the official measure. `unbiased` divides by n - 1 and adds 1e-4 to both
            denominators, as in EMMA's code; on 200 frames its loss is about 1e-4 higher.
    """

    built_by = "abaw.train.losses.regression:CccLoss"
    summary = "Mean over the label columns of 1 - CCC"
    kinds = ("regression",)
    weighs_frames = True

    name: Literal["ccc"] = "ccc"
    shares: Shares = ()
    moments: Moments = "population"


class MseConfig(LossConfig):
    """Options of `mse`.

    Attributes:
        shares: how much each output counts, such as `1,0.5` for valence and arousal; empty if all count alike.
    """

    built_by = "abaw.train.losses.regression:MseLoss"
    summary = "Mean squared error"
    kinds = ("regression",)
    weighs_frames = True

    name: Literal["mse"] = "mse"
    shares: Shares = ()


class CccMseConfig(LossConfig):
    """Options of `ccc-mse`.

    Attributes:
        shares: how much each output counts, such as `1,0.5` for valence and arousal; empty if all count alike.
        ccc: factor of 1 - CCC.
        mse: factor of the mean squared error.
    """

    built_by = "abaw.train.losses.regression:CccMseLoss"
    summary = "1 - CCC plus the mean squared error"
    kinds = ("regression",)
    weighs_frames = True

    name: Literal["ccc-mse"] = "ccc-mse"
    shares: Shares = ()
    ccc: Factor = 1.0
    mse: Factor = 1.0


class CccBinsConfig(LossConfig):
    """Options of `ccc-bins`.

    Attributes:
        bins: points between -1 and 1 that represent an output's values, both ends included; 22 in Situ's code.
        assign: the class of a label: the `nearest` of these points, or the number of its `interval` among as many equal
            ones, as in Situ's code.
        shares: how much each output counts, such as `1,0.5` for valence and arousal; empty if all count alike.
        ccc: factor of the loss on the expectations.
        ce: factor of the cross-entropy over the bins.
    """

    built_by = "abaw.train.losses.regression:CccBinsLoss"
    summary = "1 - CCC of expected values, and the cross-entropy of their bins (Situ-RUCAIM3, 2022)"
    kinds = ("regression",)
    weighs_frames = True

    name: Literal["ccc-bins"] = "ccc-bins"
    bins: int = Field(20, ge=2, le=10_000)
    assign: Literal["nearest", "interval"] = "nearest"
    shares: Shares = ()
    ccc: Factor = 0.5
    ce: Factor = 0.5


class CrossEntropyConfig(LossConfig):
    """Options of `cross-entropy`.

    Attributes:
        weights: of the classes: equal, inverse to how often they occur in the training labels, or one number each.
    """

    built_by = "abaw.train.losses.classes:CrossEntropyLoss"
    summary = "Cross-entropy, weighted by class"
    kinds = ("classes",)
    weighs_frames = True

    name: Literal["cross-entropy"] = "cross-entropy"
    weights: Weights = "equal"


class FocalConfig(LossConfig):
    """Options of `focal`.

    Attributes:
        gamma: how strongly well predicted labels are down-weighted; 0 is the cross-entropy.
        alpha: factor of the loss of a class; for binary labels of the positive ones, and 1 - alpha of the others (.25 in
            the paper). Empty for none.
        weights: of the classes, as for `cross-entropy`, or of the positive labels, as for `bce`.
    """

    built_by = "abaw.train.losses:_focal"
    summary = "Cross-entropy times (1 - p)^gamma, p the label's probability (Lin et al., 2017)"
    kinds = ("classes", "binary")
    weighs_frames = True

    name: Literal["focal"] = "focal"
    gamma: Factor = 2.0
    alpha: Annotated[float | None, Field(gt=0, le=1), EMPTY] = None
    weights: Weights = "equal"


class BceConfig(LossConfig):
    """Options of `bce`.

    Attributes:
        weights: of the positive labels: inverse (negatives over positives in the training labels, between 1/50 and
            50), equal, or one number for each column.
    """

    built_by = "abaw.train.losses.binary:BceLoss"
    summary = "Binary cross-entropy, positive labels weighted"
    kinds = ("binary",)
    weighs_frames = True

    name: Literal["bce"] = "bce"
    weights: Weights = "inverse"


class VNawConfig(LossConfig):
    """Options of `v-naw`.

    Attributes:
        plain: factor of the cross-entropy.
        weighted: factor of the noise-weighted cross-entropy.
        consistency: factor of the divergence between views.
        decay: how fast the noise weights take their final form: their term e is 1 - exp(-decay * progress).
        weights: of the classes, as for `cross-entropy`, in both cross-entropies.
        through_weights: let the gradient flow through the noise weights too, as in the authors' code. Otherwise a frame
            cannot lower its loss by lowering its weight.
        divergence: `jensen-shannon`, a mean over frames; or as in the authors' code `logit-sum`, the divergence from the
            softmax of the mean logits, summed over the frames of the batch: as many times stronger.
    """

    built_by = "abaw.train.losses.view_losses:VNawLoss"
    summary = "Cross-entropy, plain and weighted by the noise of labels, and the views' divergence (V-NAW, 2025)"
    kinds = ("classes",)

    name: Literal["v-naw"] = "v-naw"
    plain: Factor = 0.5
    weighted: Factor = 0.5
    consistency: Factor = 0.4
    decay: Factor = 15.0
    weights: Weights = "equal"
    through_weights: bool = False
    divergence: Literal["jensen-shannon", "logit-sum"] = "jensen-shannon"


class CotexConfig(LossConfig):
    """Options of `cotex`.

    Attributes:
        consistency: factor of the divergence between views.
        unlabelled: ask for agreement on frames without a label too, as the published code does; a window's padding
            has no label either, so this is for tasks of single images.
    """

    built_by = "abaw.train.losses.view_losses:CotexLoss"
    summary = "Cross-entropy of the views, and their divergence (masked CoTEX, 2022)"
    kinds = ("classes",)
    min_views = 2

    name: Literal["cotex"] = "cotex"
    consistency: Factor = 100.0
    unlabelled: bool = False


class EmmaLossConfig(LossConfig):
    """Options of `emma`.

    Attributes:
        va, expr, au: factors of the parts with real numbers, with classes, and with binary labels.
        positive_weights: of the positive binary labels, as the weights of `bce`.
    """

    built_by = "abaw.train.losses.multi:EmmaLoss"
    summary = "Sum of 1 - CCC and the cross-entropies of classes and units (EMMA, 2022)"
    kinds = ("multi",)
    weighs_frames = True

    name: Literal["emma"] = "emma"
    va: Factor = 1.0
    expr: Factor = 1.0
    au: Factor = 1.0
    positive_weights: Weights = "inverse"
