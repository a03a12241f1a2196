"""The epoch chosen for each output by itself (Situ-RUCAIM3), against one epoch for both; and a training for each output.

Built in: nothing for or against it. The second table has so few people to train on that a head learns them by heart.
"""

from pathlib import Path

import numpy as np

from abaw.core.tasks import VA
from abaw.evaluate.trained import TrainedRun
from abaw.pipeline import train_seeds
from abaw.store import FeatureStore
from abaw.train.config import make_config
from abaw.train.runs import open_run
from studies.study import BUDGET, FRAMES, TRANSFORMER, Idea, Scores, train_and_evaluate
from studies.world import PEOPLE, draw_people, store_faces

N_TRAINING = (16, 4)
BOTH, EACH, ALONE = "best epoch of the mean", "best epoch of each output", "a training for each output"
VALUES = {"task": "va", "features": ["face"], "head": TRANSFORMER}


def measure(seed: int, folder: Path) -> Scores:
    """Scores of every way to choose on people drawn with a seed."""
    scores: Scores = {}
    for n_training in N_TRAINING:
        rng = np.random.default_rng([seed, 12])
        people = draw_people(rng, counts={**PEOPLE, "train": n_training})
        place = folder / str(n_training)
        store = store_faces(rng, place / "store.zarr", people, "va")
        alone = [
            train_and_evaluate(store, place / name, {**VALUES, "outputs": [name]}, seed)["test"].official.score
            for name in VA.outputs
        ]
        scores[f"{n_training} people to train on"] = {**by_epoch(store, place, seed), ALONE: float(np.mean(alone))}
    return scores


def by_epoch(store: FeatureStore, folder: Path, seed: int) -> dict[str, float]:
    """Scores of one training, whose epoch is chosen by the mean, and for each output."""
    config = make_config({**BUDGET, **FRAMES, **VALUES, "seed": seed})
    [(run, _)] = train_seeds([config], store, folder / "runs", device="cpu")
    chosen = {name: open_run(run.folder.with_name(f"{run.name}@best-{name}")) for name in VA.outputs}
    each = [TrainedRun.open(chosen[name], "cpu").evaluate(store, "test").official.parts[name] for name in VA.outputs]
    both = TrainedRun.open(run, "cpu").evaluate(store, "test")
    return {BOTH: both.official.score, EACH: float(np.mean(each))}


IDEA = Idea(
    name="selection",
    title="The epoch of each output (situ-va): valence and arousal, mean CCC",
    built_in=__doc__ or "",
    measure=measure,
    against={EACH: (BOTH,), ALONE: (BOTH,)},
)
