"""How an idea is put to the test: variants trained through the pipeline on the same data, and what came of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from abaw.core.tasks import get_task
from abaw.evaluate.evaluation import Evaluation
from abaw.evaluate.trained import TrainedRun
from abaw.pipeline import train_seeds
from abaw.store import FeatureStore
from abaw.train.config import make_config
from abaw.train.runs import Run

CONFIDENCE = 0.95  # of the interval of a mean difference that has to leave out zero
Options = dict[str, Any]  # of a training run
Variants = dict[str, Options]  # by name
Scores = dict[str, dict[str, float]]  # by setting, by variant

# one small budget for every head that is trained by steps; the rate is the one at which the plain heads do best
BUDGET: Options = {
    "epochs": 20,
    "patience": 20,
    "batch_size": 16,
    "lr": 4e-3,
    "weight_decay": 0.05,
}
FRAMES = {"window": 60, "stride": 60}  # for tasks of videos: 2 s
TRANSFORMER: Options = {"name": "transformer", "dim": 64, "layers": 2, "heads": 2, "feedforward": 64, "mask_ratio": 0.0}
ENCODER: Options = {
    "name": "encoder",
    "convs": [64],
    "layers": 2,
    "heads": 4,
    "feedforward": 128,
    "output_hidden": 32,
}


@dataclass(frozen=True)
class Idea:
    """An idea and how it is measured.

    Attributes:
        name: of its module.
        title: what is asked.
        built_in: what the data were made to contain, in plain words.
        measure: scores of every variant on data drawn with a seed; the folder is for its stores and runs.
        against: by variant, those that it is compared with; those that are not named are baselines.
    """

    name: str
    title: str
    built_in: str
    measure: Callable[[int, Path], Scores]
    against: Mapping[str, Sequence[str]]


def train_and_evaluate(
    store: FeatureStore,
    folder: Path,
    values: Mapping[str, Any],
    seed: int,
    splits: Sequence[str] = ("test",),
    init: Run | None = None,
) -> dict[str, Evaluation]:
    """Train a head and evaluate the epoch that was best on `val` on people it has not seen.

    Args:
        init: run whose best weights it begins with.
    """
    trained = TrainedRun.open(train(store, folder, values, seed, init), "cpu")
    return {split: trained.evaluate(store, split) for split in splits}


def train(store: FeatureStore, folder: Path, values: Mapping[str, Any], seed: int, init: Run | None = None) -> Run:
    """Train a head as `abaw train` does, in the budget of the studies."""
    windows = FRAMES if get_task(values["task"]).level == "frame" else {}
    config = make_config({**BUDGET, **windows, **values, "seed": seed})
    weights = str(init.checkpoint) if init else None
    [(run, _)] = train_seeds([config], store, folder / "runs", device="cpu", init=weights)
    return run


@dataclass(frozen=True)
class Comparison:
    """A variant against the one without the idea, over the seeds.

    Attributes:
        difference: mean of the paired differences.
        n_better, n_seeds: in how many seeds of how many it was better.
        margin: half the width of the confidence interval of the mean difference, by Student's t.
    """

    difference: float
    n_better: int
    n_seeds: int
    margin: float

    @property
    def verdict(self) -> str:
        """In words."""
        if self.difference > self.margin:
            return "helps here"
        worse = self.difference < -self.margin
        return "does not help here (it is worse)" if worse else "does not help here (no clear difference)"


def compare(scores: Sequence[float], reference: Sequence[float]) -> Comparison:
    """Compare scores with those of the reference on the same seeds, (seeds,) each, two or more."""
    differences = np.subtract(scores, reference)
    n_seeds = len(differences)
    error = differences.std(ddof=1) / np.sqrt(n_seeds)
    margin = float(stats.t.ppf((1 + CONFIDENCE) / 2, n_seeds - 1) * error)
    return Comparison(float(differences.mean()), int((differences > 0).sum()), n_seeds, margin)
