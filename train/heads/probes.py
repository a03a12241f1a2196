"""Options of the scikit-learn probes: linear maps of each frame, solved in closed form or by L-BFGS, not trained."""

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from abaw.train.heads.linear import LinearConfig, LinearHead

PROBE_KINDS: dict[str, tuple[str, ...]] = {"ridge": ("regression",), "logistic": ("classes", "binary")}  # of tasks


class ProbeConfig(BaseModel):
    """What the probes share.

    Attributes:
        n_rows: labelled frames that it is fitted on at most, drawn at random.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_rows: int = Field(200_000, ge=1)


class RidgeConfig(ProbeConfig):
    """Options of ridge regression, for valence and arousal.

    Attributes:
        alpha: strength of the penalty on the squared weights, a share of the number of rows.
    """

    name: Literal["ridge"] = "ridge"
    alpha: float = Field(0.01, gt=0, allow_inf_nan=False)


class LogisticConfig(ProbeConfig):
    """Options of logistic regression, for classes and action units.

    Attributes:
        inverse_penalty: scikit-learn's `C`, larger is freer, for the mean loss of a row.
        balanced: weigh classes by their inverse frequency.
        n_iterations: of L-BFGS at most.
    """

    name: Literal["logistic"] = "logistic"
    inverse_penalty: float = Field(100.0, gt=0, allow_inf_nan=False)
    balanced: bool = True
    n_iterations: int = Field(300, ge=1)


class ProbeHead(LinearHead):
    """The linear map that a probe's solution is put into (`abaw.train.fit_probes`)."""

    def __init__(self, config: ProbeConfig, shapes: Mapping[str, tuple[int, ...]], groups: Sequence[int]) -> None:
        super().__init__(LinearConfig(), shapes, groups)
