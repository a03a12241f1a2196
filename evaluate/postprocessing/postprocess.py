"""Post-processing of outputs as something fitted: smoothing over time, thresholds of action units, offsets of classes.

What comes out are outputs again, from which `abaw.evaluate.scores.metrics.decide` takes the answers: a threshold moves an
action unit's logit so that 0 is where it decides, and an offset a class's.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy.special import expit, logit

from abaw.core.errors import UsageError
from abaw.core.tasks import Task
from abaw.evaluate.postprocessing.smoothing import KINDS, Smoothing, smooth
from abaw.evaluate.predictions import VideoPrediction
from abaw.evaluate.scores.calibration import part_of
from abaw.evaluate.scores.metrics import score

WIDTHS = (5, 11, 21, 41, 61, 101, 151, 201)  # frames; what fitting tries, besides none
SEARCH_FRAMES = 300_000  # a smoothing is chosen on about as many, of every so many-th video, which takes seconds
TAUS = np.round(np.arange(-1, 2.01, 0.1), 1)
LARGEST_CUT = 9.0  # logit of the last threshold that fitting tries, a probability of .9999

Probability = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]
Offset = Annotated[float, Field(ge=-100, le=100, allow_inf_nan=False)]


class Postprocess(BaseModel):
    """What is done to the outputs of a task; without anything, nothing. Names are those of the task's outputs.

    Attributes:
        smoothing: over time, by output.
        thresholds: by action unit, the probability above which it is on; else one half.
        offsets: by class, what is added to its logit; else 0.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    smoothing: dict[str, Smoothing] = Field(default_factory=dict)
    thresholds: dict[str, Probability] = Field(default_factory=dict)
    offsets: dict[str, Offset] = Field(default_factory=dict)

    @classmethod
    def uniform(cls, task: Task, smoothing: Smoothing) -> "Postprocess":
        """The same smoothing for all outputs of a task."""
        found = cls(smoothing=dict.fromkeys(task.outputs, smoothing))
        found.check_fits(task)
        return found

    def check_fits(self, task: Task) -> None:
        """Raise a UsageError if something in it is for outputs that the task does not have, or cannot be done to."""
        of_kind = {
            kind: {n for part, _, _ in task.each() if part.kind == kind for n in part.outputs}
            for kind in ("binary", "classes")
        }
        allowed = {
            "smoothing": set(task.outputs) if task.level == "frame" else set(),
            "thresholds": of_kind["binary"],
            "offsets": of_kind["classes"],
        }
        for what, names in allowed.items():
            if wrong := sorted(set(getattr(self, what)) - names):
                known = (
                    f"it has {what} of {', '.join(n for n in task.outputs if n in names)}" if names else "it has none"
                )
                raise UsageError(f"Task {task.name} has no {what} of {wrong[0]!r}: {known}.")

    def apply(self, task: Task, outputs: NDArray[np.float32], present: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Post-process the outputs of one video (or of a list of images, or of whole videos).

        Args:
            outputs: (rows, outputs) as a head gives them.
            present: (rows,) bool, the frame has a crop; see `smooth`.

        Returns:
            (rows, outputs) to be read by `decide`.
        """
        chosen = [self.smoothing.get(name, Smoothing()) for name in task.outputs]
        for kind in KINDS:
            widths = [one.width if one.kind == kind else 1 for one in chosen]
            if max(widths) > 1:
                outputs = smooth(outputs, present, kind, widths)
        shifts = np.array([self.offsets.get(n, 0) - logit(self.thresholds.get(n, 0.5)) for n in task.outputs])
        # in float64, so that the sign of a difference is never lost; unshifted outputs stay bit by bit
        return (outputs.astype(np.float64) + shifts).astype(np.float32)

    def apply_to(self, task: Task, predictions: Mapping[str, VideoPrediction]) -> dict[str, VideoPrediction]:
        """Post-process the predictions of videos, each by itself."""
        return {
            video: replace(found, outputs=self.apply(task, found.outputs, found.present))
            for video, found in predictions.items()
        }


def fit_postprocess(task: Task, predictions: Mapping[str, VideoPrediction]) -> Postprocess:
    """The post-processing that gives predictions the best score against their own labels.

    First the smoothing of each action unit, of valence, of arousal, and of all classes together; then, on what was
    smoothed, thresholds and offsets. Score other videos with it: on these the gain is partly chance.

    Args:
        predictions: by video, with labels.

    Raises:
        UsageError: there are none.
    """
    if not predictions:
        raise UsageError("Post-processing cannot be fitted to no videos. Choose a split that has labels.")
    smoothing: dict[str, Smoothing] = {}
    thresholds: dict[str, float] = {}
    offsets: dict[str, float] = {}
    for part, given, wanted in task.each():
        own = [part_of(found, given, wanted) for found in predictions.values()]
        labels = np.concatenate([found.by_label().labels for found in own])
        if task.level == "frame":
            smoothing |= _fit_smoothing(part, own)
        outputs = _smoothed(part, own, smoothing)
        if part.kind == "binary":
            valid = part.valid(labels)
            for i, name in enumerate(part.outputs):
                counted = valid[:, i]
                thresholds[name] = best_threshold(outputs[counted, i], labels[counted, i] == 1)[0]
        elif part.kind == "classes":
            offsets |= _fit_offsets(part, outputs, labels)
    return Postprocess(smoothing=smoothing, thresholds=thresholds, offsets=offsets)


def _smoothed(task: Task, videos: Iterable[VideoPrediction], smoothing: Mapping[str, Smoothing]) -> NDArray[np.float32]:
    """(labels, outputs) of all videos, one after another: smoothed over their frames, then a row for each label."""
    step = Postprocess(smoothing={name: smoothing[name] for name in task.outputs if name in smoothing})
    smoothed = step.apply_to(task, {str(number): found for number, found in enumerate(videos)})
    return np.concatenate([found.by_label().outputs for found in smoothed.values()])


def _fit_smoothing(task: Task, videos: list[VideoPrediction]) -> dict[str, Smoothing]:
    """The best of all kinds and widths; the narrowest of several."""
    videos = videos[:: -(-sum(len(found.labels) for found in videos) // SEARCH_FRAMES)]
    labels = np.concatenate([found.by_label().labels for found in videos])
    measure = _MEASURES[task.kind]
    choices = [Smoothing(), *(Smoothing(kind=kind, width=width) for width in WIDTHS for kind in KINDS)]
    best = [Smoothing()] * len(task.outputs)
    reached = np.full(len(task.outputs), -np.inf)
    for choice in choices:
        found = measure(task, _smoothed(task, videos, dict.fromkeys(task.outputs, choice)), labels)
        for i in np.flatnonzero(found > reached):
            best[i], reached[i] = choice, found[i]
    return dict(zip(task.outputs, best, strict=True))


# What smoothing is to improve: (outputs,) values, from outputs and labels of a plain task, (rows, ...) each.


def _measure_regression(task: Task, outputs: NDArray[np.float32], labels: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.array(list(score(task, outputs, labels).parts.values()))


def _measure_classes(task: Task, outputs: NDArray[np.float32], labels: NDArray[np.float32]) -> NDArray[np.float64]:
    """The same for all classes: a logit is nothing by itself."""
    return np.full(len(task.outputs), score(task, outputs, labels).score)


def _measure_binary(task: Task, outputs: NDArray[np.float32], labels: NDArray[np.float32]) -> NDArray[np.float64]:
    """F1 at the best threshold: that of one half may be far from what is fitted afterwards."""
    valid = task.valid(labels)
    return np.array(
        [best_threshold(outputs[valid[:, i], i], labels[valid[:, i], i] == 1)[1] for i in range(len(task.outputs))]
    )


_MEASURES: dict[str, Callable[[Task, NDArray[np.float32], NDArray[np.float32]], NDArray[np.float64]]] = {
    "regression": _measure_regression,
    "classes": _measure_classes,
    "binary": _measure_binary,
}


def best_threshold(logits: NDArray[np.float32], actual: NDArray[np.bool_]) -> tuple[float, float]:
    """The threshold of an action unit with the highest F1, and that F1.

    F1 changes only where a threshold passes a prediction, and of all between two of them the best pass no frame that is
    truly on needlessly: so those just below such a frame are all there is to try, and every one of them is.

    Args:
        logits: (n,) of valid frames.
        actual: (n,) bool, the unit is on.

    Returns:
        A probability: of equally good ranges the one nearest to one half, in it one half or else the middle (of the
        logits); and F1. One half where nothing is gained by any.
    """
    logits = np.clip(logits, -LARGEST_CUT, LARGEST_CUT)  # what lies beyond is all one to any threshold
    on, off = np.sort(logits[actual]), np.sort(logits[~actual])
    below = np.searchsorted(off, on)  # how many frames that are off lie below each that is on
    floor = np.maximum(_before(on, np.arange(len(on))), _before(off, below))
    low, high = np.maximum(floor, -LARGEST_CUT), on.astype(np.float64)
    hits = np.arange(len(on), 0, -1)
    scores = np.where(low < high, 2 * hits / (hits + len(off) - below + len(on)), -1)
    if scores.max(initial=0) <= 0:
        return 0.5, 0.0
    best = np.flatnonzero(scores == scores.max())
    cuts = np.where((low[best] <= 0) & (high[best] > 0), 0, (low[best] + high[best]) / 2)
    cut = cuts[np.abs(cuts).argmin()]
    return float(expit(cut)), float(scores.max())


def _before(values: NDArray[np.float32], places: NDArray[np.int64]) -> NDArray[np.float64]:
    """The values before places in a sorted list; minus infinity before the first."""
    return np.concatenate([[-np.inf], values])[places]


def _fit_offsets(task: Task, outputs: NDArray[np.float32], labels: NDArray[np.float32]) -> dict[str, float]:
    """Offsets -tau log(share of a class in the labels), with the best tau (Menon et al. 2021, logit adjustment).

    A class that the labels do not have is left alone, as if it were all of them.
    """
    valid = task.valid(labels)[:, 0]
    outputs, labels = outputs[valid], labels[valid]
    counts = np.bincount(labels[:, 0].astype(np.int64), minlength=len(task.outputs))
    logs = np.log(np.maximum(counts, 1) / max(1, len(labels))) * (counts > 0)
    # from 0 outwards, so that the smallest of equally good ones comes first
    taus = TAUS[np.argsort(np.abs(TAUS), kind="stable")]
    found = [score(task, (outputs - tau * logs).astype(np.float32), labels).score for tau in taus]
    offsets = 0.0 - taus[int(np.argmax(found))] * logs
    return {name: float(offset) for name, offset in zip(task.outputs, offsets, strict=True)}
