"""Windows of varying speed (V-NAW), at the frame rate of training and at others.

Built in: training videos have 30 frames a second. The test people come twice, with other courses: at 30 frames a second, and
at rates between 18 and 50, at which the same affect goes by faster or slower from frame to frame. All labels are right.
"""

from pathlib import Path

import numpy as np

from studies.study import TRANSFORMER, Idea, Scores, Variants, train_and_evaluate
from studies.world import PEOPLE, RATE_HZ, draw_people, draw_person, store_faces

RATES_HZ = (18, 50)
SETTINGS = {"test": "30 frames a second", "rates": "18 to 50 frames a second"}
VARIANTS: Variants = {
    "constant speed": {},
    "speed 0.6 to 1.4": {"speed": [0.6, 1.4]},
    "linear probe (logistic)": {"head": {"name": "logistic"}},
}


def measure(seed: int, folder: Path) -> Scores:
    """Scores of every variant on people drawn with a seed."""
    rng = np.random.default_rng([seed, 6])
    people = draw_people(rng)
    for number in range(PEOPLE["test"]):
        tempo = RATE_HZ / np.exp(rng.uniform(*np.log(RATES_HZ)))
        people[f"rates-{number:02d}"] = draw_person(rng, "rates", tempo=tempo)
    store = store_faces(rng, folder / "store.zarr", people, "expr")
    scores: Scores = {setting: {} for setting in SETTINGS.values()}
    for variant, options in VARIANTS.items():
        values = {"task": "expr", "features": ["face"], "head": TRANSFORMER, **options}
        found = train_and_evaluate(store, folder, values, seed, tuple(SETTINGS))
        for split, setting in SETTINGS.items():
            scores[setting][variant] = found[split].official.score
    return scores


IDEA = Idea(
    name="speed",
    title="Windows of varying speed (v-naw): expressions, macro F1",
    built_in=__doc__ or "",
    measure=measure,
    against={"speed 0.6 to 1.4": ("constant speed",)},
)
