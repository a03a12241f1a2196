"""The mean of what several runs predict, as each kind of output is averaged."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_expit, log_softmax, logsumexp

from abaw.core.errors import UsageError
from abaw.core.tasks import Task
from abaw.evaluate.predictions import VideoPrediction
from abaw.evaluate.scores.bootstrap import same_labels


def combine(
    task: Task, predictions_by_run: Sequence[Mapping[str, VideoPrediction]], weights: Sequence[float] | None = None
) -> dict[str, VideoPrediction]:
    """The weighted mean of what runs answer, of each video over the runs that have it.

    Of valence and arousal it is the mean of the outputs; of classes that of the probabilities, given as their
    logarithms; of action units that of the probabilities, given as logits. `decide` takes the answers from these.
    A row is present where it is for all of the runs.

    Args:
        predictions_by_run: by video, for each run.
        weights: of the runs, above 0; equal by default. Only their ratios count.

    Raises:
        UsageError: runs have different labels of a video.
    """
    given = np.ones(len(predictions_by_run)) if weights is None else np.array(weights, dtype=np.float64)
    combined = {}
    for video in dict.fromkeys(video for predictions in predictions_by_run for video in predictions):
        chosen = [i for i, predictions in enumerate(predictions_by_run) if video in predictions]
        found = [predictions_by_run[i][video] for i in chosen]
        longest = max(found, key=lambda one: len(one.outputs))
        if not all(same_labels(task, one, longest) for one in found):
            raise UsageError(
                f"The runs have different labels of {video}: they come from different stores. Run `abaw eval` for all "
                "of them on one store."
            )
        own = given[chosen] / given[chosen].sum()
        alike = [_lengthen(one, len(longest.outputs)) for one in found]
        combined[video] = VideoPrediction(
            _mean(task, np.stack([one.outputs for one in alike]), own),
            longest.labels,
            np.logical_and.reduce([one.present for one in alike]),
            max(one.fps for one in found),
            longest.doubles,
        )
    return combined


def _lengthen(found: VideoPrediction, n_rows: int) -> VideoPrediction:
    """More rows at the end, answered as the last one: as rows without a feature are."""
    missing = n_rows - len(found.outputs)
    if not missing:
        return found
    outputs = np.pad(found.outputs, ((0, missing), (0, 0)), mode="edge")
    return replace(found, outputs=outputs, present=np.pad(found.present, (0, missing)))


def _mean(task: Task, outputs: NDArray[np.float32], weights: NDArray[np.float64]) -> NDArray[np.float32]:
    """(rows, outputs) of (runs, rows, outputs) and (runs,) weights that add up to 1."""
    scale = weights[:, None, None]
    means = []
    for part, given, _ in task.each():
        values = outputs[..., given].astype(np.float64)
        if part.kind == "regression":
            mean = (scale * values).sum(axis=0)
        elif part.kind == "classes":
            mean = logsumexp(log_softmax(values, axis=2), axis=0, b=scale)
        else:  # by logarithms of both probabilities, so that sure answers stay finite
            yes, no = (logsumexp(log_expit(sign * values), axis=0, b=scale) for sign in (1, -1))
            mean = yes - no
        means.append(mean)
    return np.concatenate(means, axis=1).astype(np.float32)


def runs_per_video(predictions_by_run: Sequence[Mapping[str, VideoPrediction]]) -> dict[int, int]:
    """How many videos are answered by how many runs, most runs first."""
    n_runs = Counter(video for predictions in predictions_by_run for video in predictions)
    return dict(sorted(Counter(n_runs.values()).items(), reverse=True))
