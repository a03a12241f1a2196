"""An evaluation: predictions of a split, scored over all labelled frames and over those with a crop.

Where a task is about images or whole videos, read these for frames, and for a video any feature for a crop.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from abaw.evaluate.metrics import Score, score
from abaw.evaluate.predict import VideoPrediction, predict, save_predictions
from abaw.tasks import Task
from abaw.train.checkpoint import save_json
from abaw.train.table import Table


@dataclass(frozen=True)
class Evaluation:
    """Scores and the predictions behind them.

    Attributes:
        official: over all labelled frames, as the challenges score.
        crop_only: over the labelled frames that have a crop.
        predictions: by video.
        without_feature: labelled videos that have no feature at all.
    """

    official: Score
    crop_only: Score
    predictions: dict[str, VideoPrediction]
    without_feature: tuple[str, ...]

    def as_json(self, task: Task, split: str, run: str) -> dict[str, Any]:
        """`task`, `split`, `run`, and under `official` and `crop_only` the fields of `Score`."""
        return {
            "task": task.name,
            "split": split,
            "run": run,
            "official": asdict(self.official),
            "crop_only": asdict(self.crop_only),
            "without_feature": list(self.without_feature),
        }

    def save(self, folder: Path, split: str, task: Task) -> None:
        """Write `predictions-<split>.h5` and `scores-<split>.json`."""
        save_predictions(folder / f"predictions-{split}.h5", self.predictions, task.outputs)
        save_json(folder / f"scores-{split}.json", self.as_json(task, split, folder.name))


def evaluate_head(head: nn.Module, table: Table, task: Task, window: int, device: torch.device) -> Evaluation:
    """Predict every row of a table and score it both ways."""
    predictions = predict(head, table, window, device)
    outputs = np.concatenate([found.outputs for found in predictions.values()])
    labels = np.concatenate([found.labels for found in predictions.values()])
    present = np.concatenate([found.present for found in predictions.values()])
    without = tuple(video for video, found in predictions.items() if found.fps == 0)
    return Evaluation(
        score(task, outputs, labels), score(task, outputs[present], labels[present]), predictions, without
    )
