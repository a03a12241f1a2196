"""Post-processing of outputs: levels of each person, smoothing over time, thresholds of action units, offsets of classes.

They are applied in this order. The results are outputs again, from which `abaw.evaluate.scores.metrics.decide` takes the
answers: a threshold shifts the logit of an action unit so that it is on above 0, and an offset shifts the logit of a class.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from abaw.core.errors import UsageError
from abaw.core.tasks import Task
from abaw.evaluate.postprocessing.biases import improve_biases
from abaw.evaluate.postprocessing.preference import Preference
from abaw.evaluate.postprocessing.smoothing import KINDS, Smoothing, smooth
from abaw.evaluate.postprocessing.thresholds import best_threshold, plateau_threshold
from abaw.evaluate.predictions import VideoPrediction
from abaw.evaluate.scores.calibration import part_of
from abaw.evaluate.scores.metrics import score

WIDTHS = (5, 11, 21, 41, 61, 101, 151, 201)  # frames; the widths that fitting tries, besides no smoothing
SMOOTHINGS = (Smoothing(), *(Smoothing(kind=kind, width=width) for width in WIDTHS for kind in KINDS))
SEARCH_FRAMES = 300_000  # smoothing is chosen on about this many, from every n-th video; takes seconds
SAME_SPREAD = 1e-6  # a standard deviation below it is a rounding error of equal values
TAUS = np.round(np.arange(-1, 2.01, 0.1), 1)
LARGEST_OFFSET = 100

Probability = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]
Offset = Annotated[float, Field(ge=-LARGEST_OFFSET, le=LARGEST_OFFSET, allow_inf_nan=False)]


class Level(BaseModel):
    """The mean and the standard deviation of an output over all videos."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mean: float = Field(allow_inf_nan=False)
    spread: float = Field(ge=0, allow_inf_nan=False)


class Postprocess(BaseModel):
    """Post-processing of the outputs of a task; the default does nothing.

    Attributes:
        smoothing: over time, by output.
        thresholds: by action unit, the probability above which it is on; one half for the others.
        offsets: by class, what is added to its logit; 0 for the others.
        levels: by output, the mean and spread that every video (a person) gets before all else; see `apply`.
        prefer: a classifier whose answer is taken, after all else, where it is sure.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    smoothing: dict[str, Smoothing] = Field(default_factory=dict)
    thresholds: dict[str, Probability] = Field(default_factory=dict)
    offsets: dict[str, Offset] = Field(default_factory=dict)
    levels: dict[str, Level] = Field(default_factory=dict)
    prefer: Preference | None = None

    @model_serializer(mode="wrap")
    def _without_defaults(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without `levels` and `prefer` where there are none: digests of ensembles hash this, and must stay as they were."""
        content: dict[str, Any] = serialise(self)
        return {key: value for key, value in content.items() if key not in ("levels", "prefer") or value}

    def check_fits(self, task: Task) -> None:
        """Raise a UsageError if it is for outputs that the task does not have, or that it cannot be applied to."""
        over_time = set(task.outputs) if task.level == "frame" else set()
        classes = set(task.outputs_of("classes"))
        allowed = {
            "smoothing": over_time,
            "thresholds": set(task.outputs_of("binary")),
            "offsets": classes,
            "levels": over_time,
        }
        if self.prefer and (other := sorted({*self.prefer.classes} - {"", *classes})):
            raise UsageError(f"Task {task.name} has no class {other[0]!r} to prefer.")
        for field, names in allowed.items():
            if unknown := sorted(set(getattr(self, field)) - names):
                known = (
                    f"it has {field} of {', '.join(n for n in task.outputs if n in names)}" if names else "it has none"
                )
                raise UsageError(f"Task {task.name} has no {field} of {unknown[0]!r}: {known}.")

    def apply(self, task: Task, outputs: NDArray[np.float32], present: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Post-process the outputs of one video (or of a list of images, or of whole videos).

        An output x with a level becomes (x - m) / s * spread + mean, with its own mean m and standard deviation s over the
        frames that are present; an output that is constant becomes the mean of the level.

        Args:
            outputs: (rows, outputs) of a head.
            present: (rows,) bool, the frame has a crop; see `smooth`.

        Returns:
            (rows, outputs) for `decide`.
        """
        from scipy.special import logit  # takes a quarter of a second to import

        outputs = self._levelled(task, outputs, present)
        smoothings = [self.smoothing.get(name, Smoothing()) for name in task.outputs]
        for kind in KINDS:
            widths = [smoothing.width if smoothing.kind == kind else 1 for smoothing in smoothings]
            if max(widths) > 1:
                outputs = smooth(outputs, present, kind, widths)
        shifts = np.array([self.offsets.get(n, 0) - logit(self.thresholds.get(n, 0.5)) for n in task.outputs])
        # in float64, so that the sign of a difference is never lost; outputs without a shift stay bitwise equal
        return (outputs.astype(np.float64) + shifts).astype(np.float32)

    def _levelled(self, task: Task, outputs: NDArray[np.float32], present: NDArray[np.bool_]) -> NDArray[np.float32]:
        if not self.levels:
            return outputs
        levelled = outputs.astype(np.float64)
        shown = levelled[present] if present.any() else levelled
        for i, name in enumerate(task.outputs):
            if (level := self.levels.get(name)) is None:
                continue
            mean, spread = shown[:, i].mean(), shown[:, i].std()
            scale = level.spread / spread if spread > SAME_SPREAD else 0.0
            levelled[:, i] = (levelled[:, i] - mean) * scale + level.mean
        return levelled.astype(np.float32)

    def apply_to(self, task: Task, predictions: Mapping[str, VideoPrediction]) -> dict[str, VideoPrediction]:
        """Post-process the predictions of each video."""
        processed = {
            video: replace(prediction, outputs=self.apply(task, prediction.outputs, prediction.present))
            for video, prediction in predictions.items()
        }
        if self.prefer is None:
            return processed
        return {video: replace(one, outputs=self.prefer.apply(task, one)) for video, one in processed.items()}


class FitMethod(BaseModel):
    """How post-processing is fitted, and what is not fitted because it is given.

    Attributes:
        thresholds: the `best` on the videos, or the centre of the `plateau` around it; see `plateau_threshold`.
        offsets: a multiple of the logarithms of the classes' shares (`prior`), or a `free` one for each class.
        per_person: give each video the mean and the spread of all videos; see `Postprocess.levels`.
        prefer: a classifier whose answer is taken where it is sure; it is neither fitted nor part of a fit.
        given: taken as it is. What it does not name is fitted; a given offset stands for all classes.
        fit_rest: what is not given is fitted, even if nobody says on what.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    thresholds: Literal["best", "plateau"] = "best"
    offsets: Literal["prior", "free"] = "prior"
    per_person: bool = False
    prefer: Preference | None = None
    given: Postprocess = Postprocess()
    fit_rest: bool = False

    @property
    def is_given(self) -> bool:
        """True if nothing is fitted unless somebody says on what."""
        return self.given != Postprocess() and not self.fit_rest

    @property
    def in_words(self) -> str:
        """What differs from the default, in words; empty if nothing does."""
        words = [
            "thresholds at the centre of a plateau" * (self.thresholds == "plateau"),
            "a free bias for each class" * (self.offsets == "free"),
            "levels of each person" * self.per_person,
            f"{self.prefer.feature} where it is above {self.prefer.above:g}" if self.prefer else "",
        ]
        return ", ".join(filter(None, words))


def give_postprocess(task: Task, predictions: Mapping[str, VideoPrediction], method: FitMethod) -> Postprocess:
    """The post-processing that is given, and the levels of the predictions, which need no labels."""
    levels = _fit_levels(task, predictions) if method.per_person else {}
    return method.given.model_copy(update={"levels": levels, "prefer": method.prefer})


def n_candidates(task: Task, method: FitMethod) -> int:
    """How many candidates `fit_postprocess` tries."""
    given, n = method.given, 0
    for part, _, _ in task.each():
        if task.level == "frame" and not set(part.outputs) <= set(given.smoothing):
            n += len(SMOOTHINGS)
        if part.kind == "binary":
            n += len(set(part.outputs) - set(given.thresholds))
        elif part.kind == "classes" and not given.offsets:
            n += len(TAUS)
    return n


def fit_postprocess(
    task: Task,
    predictions: Mapping[str, VideoPrediction],
    method: FitMethod | None = None,
    on_tried: Callable[[], None] = lambda: None,
) -> Postprocess:
    """Fit the post-processing that gives predictions the best score against their labels.

    First the smoothing of each action unit, of valence, of arousal, and of all classes together; then thresholds and
    offsets on the smoothed outputs. Score it on other videos: on these the gain is partly chance.

    Args:
        predictions: by video, with labels.
        on_tried: called after each candidate, see `n_candidates`.

    Raises:
        UsageError: there are no predictions.
    """
    if not predictions:
        raise UsageError("There are no videos to fit post-processing on. Choose a split that has labels.")
    method = method or FitMethod()
    given = give_postprocess(task, predictions, method)
    levelled = Postprocess(levels=given.levels).apply_to(task, predictions) if given.levels else predictions
    smoothing: dict[str, Smoothing] = {}
    thresholds: dict[str, float] = {}
    offsets: dict[str, float] = {}
    for part, part_outputs, columns in task.each():
        videos = [part_of(prediction, part_outputs, columns) for prediction in levelled.values()]
        labels = np.concatenate([video.by_label().labels for video in videos])
        smoothing |= {name: given.smoothing[name] for name in part.outputs if name in given.smoothing}
        if task.level == "frame" and not set(part.outputs) <= set(smoothing):
            smoothing = _fit_smoothing(part, videos, on_tried) | smoothing
        outputs = _smoothed(part, videos, smoothing)
        if part.kind == "binary":
            thresholds |= _fit_thresholds(part, outputs, labels, method, on_tried)
        elif part.kind == "classes" and not given.offsets:
            offsets |= _fit_offsets(part, outputs, labels, method, on_tried)
    return given.model_copy(
        update={
            "smoothing": smoothing,
            "thresholds": thresholds | given.thresholds,
            "offsets": offsets or given.offsets,
        }
    )


def _fit_levels(task: Task, predictions: Mapping[str, VideoPrediction]) -> dict[str, Level]:
    """Mean and standard deviation of each output over the frames of all videos that are present."""
    shown = np.concatenate([video.outputs[video.present if video.present.any() else slice(None)]
                            for video in predictions.values()]).astype(np.float64)  # fmt: skip
    means, spreads = shown.mean(axis=0), shown.std(axis=0)
    return {name: Level(mean=means[i], spread=spreads[i]) for i, name in enumerate(task.outputs)}


def _fit_thresholds(
    task: Task,
    outputs: NDArray[np.float32],
    labels: NDArray[np.float32],
    method: FitMethod,
    on_tried: Callable[[], None],
) -> dict[str, float]:
    fit = plateau_threshold if method.thresholds == "plateau" else best_threshold
    valid, thresholds = task.valid(labels), {}
    for i, name in enumerate(task.outputs):
        if name not in method.given.thresholds:
            thresholds[name] = fit(outputs[valid[:, i], i], labels[valid[:, i], i] == 1)[0]
            on_tried()
    return thresholds


def _smoothed(task: Task, videos: Iterable[VideoPrediction], smoothing: Mapping[str, Smoothing]) -> NDArray[np.float32]:
    """(labels, outputs) of all videos, one after another: smoothed over their frames, then a row for each label."""
    step = Postprocess(smoothing={name: smoothing[name] for name in task.outputs if name in smoothing})
    smoothed = step.apply_to(task, {str(number): video for number, video in enumerate(videos)})
    return np.concatenate([video.by_label().outputs for video in smoothed.values()])


def _fit_smoothing(task: Task, videos: list[VideoPrediction], on_tried: Callable[[], None]) -> dict[str, Smoothing]:
    """The best kind and width for each output; the narrowest if several are equally good."""
    videos = videos[:: -(-sum(len(video.labels) for video in videos) // SEARCH_FRAMES)]
    labels = np.concatenate([video.by_label().labels for video in videos])
    measure = _MEASURES[task.kind]
    best = [Smoothing()] * len(task.outputs)
    best_values = np.full(len(task.outputs), -np.inf)
    for choice in SMOOTHINGS:
        values = measure(task, _smoothed(task, videos, dict.fromkeys(task.outputs, choice)), labels)
        for i in np.flatnonzero(values > best_values):
            best[i], best_values[i] = choice, values[i]
        on_tried()
    return dict(zip(task.outputs, best, strict=True))


# What smoothing should improve: (outputs,) values from the (rows, ...) outputs and labels of a plain task.


def _measure_regression(task: Task, outputs: NDArray[np.float32], labels: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.array(list(score(task, outputs, labels).parts.values()))


def _measure_classes(task: Task, outputs: NDArray[np.float32], labels: NDArray[np.float32]) -> NDArray[np.float64]:
    """The score, for every class: a single logit cannot be scored."""
    return np.full(len(task.outputs), score(task, outputs, labels).score)


def _measure_binary(task: Task, outputs: NDArray[np.float32], labels: NDArray[np.float32]) -> NDArray[np.float64]:
    """F1 at the best threshold: a threshold of one half may be far from the one that is fitted afterwards."""
    valid = task.valid(labels)
    return np.array(
        [best_threshold(outputs[valid[:, i], i], labels[valid[:, i], i] == 1)[1] for i in range(len(task.outputs))]
    )


_MEASURES: dict[str, Callable[[Task, NDArray[np.float32], NDArray[np.float32]], NDArray[np.float64]]] = {
    "regression": _measure_regression,
    "classes": _measure_classes,
    "binary": _measure_binary,
}


def _fit_offsets(
    task: Task,
    outputs: NDArray[np.float32],
    labels: NDArray[np.float32],
    method: FitMethod,
    on_tried: Callable[[], None],
) -> dict[str, float]:
    """Offsets -tau log(share of a class in the labels), with the best tau (Menon et al. 2021, logit adjustment).

    A class that the labels do not have gets no offset. With `free`, these are where `improve_biases` begins.
    """
    valid = task.valid(labels)[:, 0]
    outputs, labels = outputs[valid], labels[valid]
    counts = np.bincount(labels[:, 0].astype(np.int64), minlength=len(task.outputs))
    logs = np.log(np.maximum(counts, 1) / max(1, len(labels))) * (counts > 0)
    # from 0 outwards, so that the smallest of equally good values comes first
    taus = TAUS[np.argsort(np.abs(TAUS), kind="stable")]
    scores = []
    for tau in taus:
        scores.append(score(task, (outputs - tau * logs).astype(np.float32), labels).score)
        on_tried()
    offsets = 0.0 - taus[int(np.argmax(scores))] * logs
    if method.offsets == "free":
        offsets = improve_biases(task, outputs, labels, offsets)
    return {name: float(offset) for name, offset in zip(task.outputs, offsets, strict=True)}
