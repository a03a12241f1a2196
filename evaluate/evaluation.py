"""An evaluation: predictions of a split, scored over all labelled frames and over those with a crop.

Where a task is about images or whole videos, read these for frames, and for a video any feature for a crop.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from abaw.core.files import save_json
from abaw.core.tasks import Task
from abaw.evaluate.inference import predict
from abaw.evaluate.postprocessing.postprocess import Postprocess
from abaw.evaluate.predictions import VideoPrediction, save_predictions
from abaw.evaluate.scores.metrics import Score, score
from abaw.train.data.table import Table

if TYPE_CHECKING:
    from abaw.evaluate.report.face_crops import Faces


@dataclass(frozen=True)
class Postprocessed:
    """Scores of the same predictions after a post-processing.

    Attributes:
        official, crop_only: as those of `Evaluation`.
        origin: where the post-processing comes from, as `fitted on folds` or `box:51`.
        note: what must be said of these scores: empty, or a sentence that they are optimistic.
        postprocess: what was done.
    """

    official: Score
    crop_only: Score
    origin: str
    note: str
    postprocess: Postprocess

    def as_json(self) -> dict[str, Any]:
        """All attributes."""
        return {
            "origin": self.origin,
            "note": self.note,
            "official": asdict(self.official),
            "crop_only": asdict(self.crop_only),
            "postprocess": self.postprocess.model_dump(mode="json"),
        }


@dataclass(frozen=True)
class Evaluation:
    """Scores and the predictions behind them.

    Attributes:
        official: over all labelled frames, as the challenges score.
        crop_only: over the labelled frames that have a crop.
        predictions: by video, as the head gives them.
        without_feature: labelled videos that have no feature at all.
        postprocessed: scores after post-processing, if there was any.
    """

    official: Score
    crop_only: Score
    predictions: dict[str, VideoPrediction]
    without_feature: tuple[str, ...]
    postprocessed: Postprocessed | None = None

    def with_postprocess(self, task: Task, postprocess: Postprocess, origin: str, note: str = "") -> "Evaluation":
        """The same, with the scores after a post-processing; see `Postprocessed`."""
        scores = score_both(task, postprocess.apply_to(task, self.predictions))
        return replace(self, postprocessed=Postprocessed(*scores, origin, note, postprocess))

    def as_json(self, task: Task, split: str, run: str) -> dict[str, Any]:
        """`task`, `split`, `run`, under `official` and `crop_only` the fields of `Score`; `postprocessed` may be null."""
        return {
            "task": task.name,
            "split": split,
            "run": run,
            "official": asdict(self.official),
            "crop_only": asdict(self.crop_only),
            "without_feature": list(self.without_feature),
            "postprocessed": self.postprocessed.as_json() if self.postprocessed else None,
        }

    def save(self, folder: Path, split: str, task: Task, made_from: str, faces: "Faces | None" = None) -> None:
        """Write `predictions-<split>.h5`, `scores-<split>.json` and a picture into the folder of a run or ensemble.

        Args:
            made_from: see `save_predictions`.
            faces: go into the picture.
        """
        from abaw.evaluate.report.plots import save_picture  # matplotlib: scores alone do not need it

        save_predictions(folder / f"predictions-{split}.h5", self.predictions, task.outputs, made_from)
        save_json(folder / f"scores-{split}.json", self.as_json(task, split, folder.name))
        title = f"{folder.name} on {split}: {self.official.score:.3f} ({task.measure.name})"
        save_picture(folder, split, task, self.predictions, title, faces.read if faces else None)


def evaluate_head(head: nn.Module, table: Table, task: Task, window: int, device: torch.device) -> Evaluation:
    """Predict every row of a table and score it both ways."""
    return evaluate_predictions(task, predict(head, table, window, device))


def evaluate_predictions(task: Task, predictions: dict[str, VideoPrediction]) -> Evaluation:
    """Score predictions both ways."""
    without = tuple(video for video, found in predictions.items() if found.fps == 0)
    return Evaluation(*score_both(task, predictions), predictions, without)


def score_both(task: Task, predictions: Mapping[str, VideoPrediction]) -> tuple[Score, Score]:
    """Scores over all labels, and over those of them whose row has a crop."""
    videos = [found.by_label() for found in predictions.values()]
    outputs = np.concatenate([found.outputs for found in videos])
    labels = np.concatenate([found.labels for found in videos])
    present = np.concatenate([found.present for found in videos])
    return score(task, outputs, labels), score(task, outputs[present], labels[present])
