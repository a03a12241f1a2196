"""Balanced classes: drawing windows by their classes, or weighing the loss, where some expressions are rare.

Built in: a segment is neutral in 44 % of the cases, happy or sad in 16 % each, and each of the other five in under 5 %, in
training and test alike.
"""

from pathlib import Path

import numpy as np

from abaw.core.tasks import EXPRESSIONS
from studies.study import TRANSFORMER, Idea, Scores, Variants, train_and_evaluate
from studies.world import draw_people, store_faces

COMMON = {"Neutral": 0.44, "Happiness": 0.16, "Sadness": 0.16}
VARIANTS: Variants = {
    "as drawn": {},
    "windows drawn by class": {"balance": "class"},
    "loss weighted by class": {"loss": {"name": "cross-entropy", "weights": "inverse"}},
    "linear probe (logistic), weighted": {"head": {"name": "logistic"}},
}


def measure(seed: int, folder: Path) -> Scores:
    """Scores of every variant on people drawn with a seed."""
    rng = np.random.default_rng([seed, 7])
    rare = (1 - sum(COMMON.values())) / (len(EXPRESSIONS) - len(COMMON))
    people = draw_people(rng, np.array([COMMON.get(name, rare) for name in EXPRESSIONS]))
    store = store_faces(rng, folder / "store.zarr", people, "expr")
    scores = {}
    for variant, options in VARIANTS.items():
        values = {"task": "expr", "features": ["face"], "head": TRANSFORMER, **options}
        scores[variant] = train_and_evaluate(store, folder, values, seed)["test"].official.score
    return {"five rare expressions": scores}


IDEA = Idea(
    name="balance",
    title="Balanced classes: expressions, macro F1",
    built_in=__doc__ or "",
    measure=measure,
    against=dict.fromkeys(list(VARIANTS)[1:-1], ("as drawn",)),
)
