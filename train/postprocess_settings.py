"""Post-processing that a recipe gives: part of a config, so that a run knows it; `abaw tune` and `abaw run` apply it."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from abaw.core.tasks import Task

SmoothingText = Annotated[str, Field(pattern=r"^(box|gaussian|median|savgol):\d{1,4}$")]
Threshold = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]
Bias = Annotated[float, Field(ge=-100, le=100, allow_inf_nan=False)]


class PostprocessSettings(BaseModel):
    """The table `[postprocess]` of a recipe; see `abaw.evaluate.postprocessing.postprocess.Postprocess`.

    Attributes:
        smoothing: by output, or part of a task, such as `box:101`.
        thresholds: by action unit, a probability.
        bias: by class, what is added to its logit.
        fit_bias: how `abaw tune` fits the biases, although something else is given: `prior` or `free`; empty for not.
        prefer: stored logits and how sure they must be for their answer to be taken, such as `fer-logits>0.85`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    smoothing: dict[str, SmoothingText] = Field(default_factory=dict)
    thresholds: dict[str, Threshold] = Field(default_factory=dict)
    bias: dict[str, Bias] = Field(default_factory=dict)
    fit_bias: Literal["", "prior", "free"] = ""
    prefer: Annotated[str, Field(pattern=r"^([^>]+>\s*0?\.\d+)?$")] = ""

    def check_fits(self, task: Task) -> None:
        """Raise a ValueError if it names outputs that a task does not have."""
        kinds = {"smoothing": {"regression", "classes", "binary"}, "thresholds": {"binary"}, "bias": {"classes"}}
        for field, of_kinds in kinds.items():
            names = {name for part, _, _ in task.each() if part.kind in of_kinds for name in (part.name, *part.outputs)}
            if unknown := sorted(set(getattr(self, field)) - names):
                raise ValueError(f"postprocess.{field}: task {task.name} has no {unknown[0]!r} there")
        has_classes = any(part.kind == "classes" for part, _, _ in task.each())
        for field in ("fit_bias", "prefer"):
            if getattr(self, field) and not has_classes:
                raise ValueError(f"postprocess.{field} is for classes, which task {task.name} does not have")
        if self.fit_bias and self.bias:
            raise ValueError("postprocess.bias gives what postprocess.fit_bias would fit: leave out one of them")
        if self.smoothing and task.level != "frame":
            raise ValueError(
                f"postprocess.smoothing is over the frames of a video, which task {task.name} does not have"
            )
