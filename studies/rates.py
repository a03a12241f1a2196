"""Learning rates that rise again (V-NAW: a cosine down and up within four epochs), against half a cosine over the training.

Built in: nothing for or against it. All begin with the rate of the other sections, and with no warm-up but for the last row; the
cosine of V-NAW and the exponential change between epochs, down to a tenth of the rate.
"""

from pathlib import Path

import numpy as np

from abaw.core.tasks import get_task
from studies.study import BUDGET, TRANSFORMER, Idea, Scores, Variants, train_and_evaluate
from studies.world import draw_people, label, store_faces

HALF = "half a cosine"
BY_EPOCH = {"lr_per": "epoch", "min_lr": BUDGET["lr"] / 10, "warmup": 0.0}
VARIANTS: Variants = {
    HALF: {"warmup": 0.0},
    "cyclic cosine (as published)": {"schedule": "cyclic-cosine", "lr_epochs": 2, **BY_EPOCH},
    "exponential .9": {"schedule": "exponential", "lr_factor": 0.9, **BY_EPOCH},
    "constant": {"schedule": "constant", "warmup": 0.0},
    "half a cosine after a warm-up (default)": {},
}


def measure(seed: int, folder: Path) -> Scores:
    """Scores of every schedule for two tasks on people drawn with a seed."""
    rng = np.random.default_rng([seed, 11])
    people = draw_people(rng)
    store = store_faces(rng, folder / "store.zarr", people, "expr")
    for video, person in people.items():
        label(store, "va", video, person.split, person.affect())
    scores: Scores = {}
    for task in ("expr", "va"):
        values = {"task": task, "features": ["face"], "head": TRANSFORMER}
        scores[get_task(task).measure.name] = {
            variant: train_and_evaluate(store, folder, {**values, **options}, seed)["test"].official.score
            for variant, options in VARIANTS.items()
        }
    return scores


IDEA = Idea(
    name="rates",
    title="Learning rates that rise again (v-naw)",
    built_in=__doc__ or "",
    measure=measure,
    against=dict.fromkeys(list(VARIANTS)[1:], (HALF,)),
)
