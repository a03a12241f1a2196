"""Bins beside the CCC in the loss of valence and arousal (Situ-RUCAIM3).

Built in: nothing for or against it. People, features and noise are those of the other sections, all frames are there. The
class of a label is the nearest of the points, or the number of its interval among as many equal ones, as in Situ's code, which
has 22.
"""

from pathlib import Path

import numpy as np

from studies.study import TRANSFORMER, Idea, Scores, Variants, train_and_evaluate
from studies.world import draw_people, store_faces

NEAREST, INTERVALS, PUBLISHED = "CCC and 20 bins, nearest", "CCC and 20 bins, intervals", "CCC and 22 bins, intervals"
VARIANTS: Variants = {
    "CCC": {"head": TRANSFORMER},
    NEAREST: {"head": TRANSFORMER, "loss": {"name": "ccc-bins"}},
    INTERVALS: {"head": TRANSFORMER, "loss": {"name": "ccc-bins", "assign": "interval"}},
    PUBLISHED: {"head": TRANSFORMER, "loss": {"name": "ccc-bins", "bins": 22, "assign": "interval"}},
    "linear probe (ridge)": {"head": {"name": "ridge"}},
}


def measure(seed: int, folder: Path) -> Scores:
    """Scores of every variant on people drawn with a seed."""
    rng = np.random.default_rng([seed, 8])
    people = draw_people(rng)
    store = store_faces(rng, folder / "store.zarr", people, "va")
    scores = {}
    for variant, options in VARIANTS.items():
        values = {"task": "va", "features": ["face"], **options}
        scores[variant] = train_and_evaluate(store, folder, values, seed)["test"].official.score
    return {"all frames there": scores}


IDEA = Idea(
    name="bins",
    title="Bins beside the CCC (situ-va with ccc-bins): valence and arousal, mean CCC",
    built_in=__doc__ or "",
    measure=measure,
    against={NEAREST: ("CCC",), INTERVALS: ("CCC", NEAREST), PUBLISHED: ("CCC", NEAREST)},
)
