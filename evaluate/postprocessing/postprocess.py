"""Fitted post-processing of outputs: smoothing over time, thresholds of action units, offsets of classes.

The results are outputs again, from which `abaw.evaluate.scores.metrics.decide` takes the answers: a threshold shifts the
logit of an action unit so that it is on above 0, and an offset shifts the logit of a class.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from abaw.core.errors import UsageError
from abaw.core.tasks import Task
from abaw.evaluate.postprocessing.smoothing import KINDS, Smoothing, smooth
from abaw.evaluate.predictions import VideoPrediction
from abaw.evaluate.scores.calibration import part_of
from abaw.evaluate.scores.metrics import score

WIDTHS = (5, 11, 21, 41, 61, 101, 151, 201)  # frames; the widths that fitting tries, besides no smoothing
SEARCH_FRAMES = 300_000  # smoothing is chosen on about this many, from every n-th video; takes seconds
TAUS = np.round(np.arange(-1, 2.01, 0.1), 1)
LARGEST_CUT = 9.0  # logit of the last threshold that fitting tries, a probability of .9999

Probability = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]
Offset = Annotated[float, Field(ge=-100, le=100, allow_inf_nan=False)]


class Postprocess(BaseModel):
    """Post-processing of the outputs of a task; the default does nothing.

    Attributes:
        smoothing: over time, by output.
        thresholds: by action unit, the probability above which it is on; one half for the others.
        offsets: by class, what is added to its logit; 0 for the others.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    smoothing: dict[str, Smoothing] = Field(default_factory=dict)
    thresholds: dict[str, Probability] = Field(default_factory=dict)
    offsets: dict[str, Offset] = Field(default_factory=dict)

    @classmethod
    def uniform(cls, task: Task, smoothing: Smoothing) -> "Postprocess":
        """The same smoothing for all outputs of a task."""
        postprocess = cls(smoothing=dict.fromkeys(task.outputs, smoothing))
        postprocess.check_fits(task)
        return postprocess

    def check_fits(self, task: Task) -> None:
        """Raise a UsageError if it is for outputs that the task does not have, or that it cannot be applied to."""
        of_kind = {
            kind: {n for part, _, _ in task.each() if part.kind == kind for n in part.outputs}
            for kind in ("binary", "classes")
        }
        allowed = {
            "smoothing": set(task.outputs) if task.level == "frame" else set(),
            "thresholds": of_kind["binary"],
            "offsets": of_kind["classes"],
        }
        for field, names in allowed.items():
            if unknown := sorted(set(getattr(self, field)) - names):
                known = (
                    f"it has {field} of {', '.join(n for n in task.outputs if n in names)}" if names else "it has none"
                )
                raise UsageError(f"Task {task.name} has no {field} of {unknown[0]!r}: {known}.")

    def apply(self, task: Task, outputs: NDArray[np.float32], present: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Post-process the outputs of one video (or of a list of images, or of whole videos).

        Args:
            outputs: (rows, outputs) of a head.
            present: (rows,) bool, the frame has a crop; see `smooth`.

        Returns:
            (rows, outputs) for `decide`.
        """
        from scipy.special import logit  # takes a quarter of a second to import

        smoothings = [self.smoothing.get(name, Smoothing()) for name in task.outputs]
        for kind in KINDS:
            widths = [smoothing.width if smoothing.kind == kind else 1 for smoothing in smoothings]
            if max(widths) > 1:
                outputs = smooth(outputs, present, kind, widths)
        shifts = np.array([self.offsets.get(n, 0) - logit(self.thresholds.get(n, 0.5)) for n in task.outputs])
        # in float64, so that the sign of a difference is never lost; outputs without a shift stay bitwise equal
        return (outputs.astype(np.float64) + shifts).astype(np.float32)

    def apply_to(self, task: Task, predictions: Mapping[str, VideoPrediction]) -> dict[str, VideoPrediction]:
        """Post-process the predictions of each video."""
        return {
            video: replace(prediction, outputs=self.apply(task, prediction.outputs, prediction.present))
            for video, prediction in predictions.items()
        }


def fit_postprocess(task: Task, predictions: Mapping[str, VideoPrediction]) -> Postprocess:
    """Fit the post-processing that gives predictions the best score against their labels.

    First the smoothing of each action unit, of valence, of arousal, and of all classes together; then thresholds and
    offsets on the smoothed outputs. Score it on other videos: on these the gain is partly chance.

    Args:
        predictions: by video, with labels.

    Raises:
        UsageError: there are no predictions.
    """
    if not predictions:
        raise UsageError("There are no videos to fit post-processing on. Choose a split that has labels.")
    smoothing: dict[str, Smoothing] = {}
    thresholds: dict[str, float] = {}
    offsets: dict[str, float] = {}
    for part, part_outputs, columns in task.each():
        videos = [part_of(prediction, part_outputs, columns) for prediction in predictions.values()]
        labels = np.concatenate([video.by_label().labels for video in videos])
        if task.level == "frame":
            smoothing |= _fit_smoothing(part, videos)
        outputs = _smoothed(part, videos, smoothing)
        if part.kind == "binary":
            valid = part.valid(labels)
            for i, name in enumerate(part.outputs):
                rows = valid[:, i]
                thresholds[name] = best_threshold(outputs[rows, i], labels[rows, i] == 1)[0]
        elif part.kind == "classes":
            offsets |= _fit_offsets(part, outputs, labels)
    return Postprocess(smoothing=smoothing, thresholds=thresholds, offsets=offsets)


def _smoothed(task: Task, videos: Iterable[VideoPrediction], smoothing: Mapping[str, Smoothing]) -> NDArray[np.float32]:
    """(labels, outputs) of all videos, one after another: smoothed over their frames, then a row for each label."""
    step = Postprocess(smoothing={name: smoothing[name] for name in task.outputs if name in smoothing})
    smoothed = step.apply_to(task, {str(number): video for number, video in enumerate(videos)})
    return np.concatenate([video.by_label().outputs for video in smoothed.values()])


def _fit_smoothing(task: Task, videos: list[VideoPrediction]) -> dict[str, Smoothing]:
    """The best kind and width for each output; the narrowest if several are equally good."""
    videos = videos[:: -(-sum(len(video.labels) for video in videos) // SEARCH_FRAMES)]
    labels = np.concatenate([video.by_label().labels for video in videos])
    measure = _MEASURES[task.kind]
    choices = [Smoothing(), *(Smoothing(kind=kind, width=width) for width in WIDTHS for kind in KINDS)]
    best = [Smoothing()] * len(task.outputs)
    best_values = np.full(len(task.outputs), -np.inf)
    for choice in choices:
        values = measure(task, _smoothed(task, videos, dict.fromkeys(task.outputs, choice)), labels)
        for i in np.flatnonzero(values > best_values):
            best[i], best_values[i] = choice, values[i]
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


def best_threshold(logits: NDArray[np.float32], actual: NDArray[np.bool_]) -> tuple[float, float]:
    """The threshold of an action unit with the highest F1, and that F1.

    F1 changes only where a threshold passes a prediction, and a best threshold lies just below a frame that is truly on:
    those are tried, all of them.

    Args:
        logits: (n,) of valid frames.
        actual: (n,) bool, the unit is on.

    Returns:
        A probability, and F1. Of equally good ranges the one nearest to one half is taken; in it one half, or else the
        middle (of the logits). One half if no threshold gives an F1 above 0.
    """
    from scipy.special import expit

    logits = np.clip(logits, -LARGEST_CUT, LARGEST_CUT)  # no threshold beyond this is tried
    on, off = np.sort(logits[actual]), np.sort(logits[~actual])
    below = np.searchsorted(off, on)  # number of frames that are off below each frame that is on
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


def _before(values: NDArray[np.float32], indices: NDArray[np.int64]) -> NDArray[np.float64]:
    """The values just before these indices of a sorted list; minus infinity before the first."""
    return np.concatenate([[-np.inf], values])[indices]


def _fit_offsets(task: Task, outputs: NDArray[np.float32], labels: NDArray[np.float32]) -> dict[str, float]:
    """Offsets -tau log(share of a class in the labels), with the best tau (Menon et al. 2021, logit adjustment).

    A class that the labels do not have gets no offset.
    """
    valid = task.valid(labels)[:, 0]
    outputs, labels = outputs[valid], labels[valid]
    counts = np.bincount(labels[:, 0].astype(np.int64), minlength=len(task.outputs))
    logs = np.log(np.maximum(counts, 1) / max(1, len(labels))) * (counts > 0)
    # from 0 outwards, so that the smallest of equally good values comes first
    taus = TAUS[np.argsort(np.abs(TAUS), kind="stable")]
    scores = [score(task, (outputs - tau * logs).astype(np.float32), labels).score for tau in taus]
    offsets = 0.0 - taus[int(np.argmax(scores))] * logs
    return {name: float(offset) for name, offset in zip(task.outputs, offsets, strict=True)}
