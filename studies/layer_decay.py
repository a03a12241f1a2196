"""Rates of the layers in fine-tuning: less for those below (layer decay .65, as EMMA and CoTEX), against one for all.

Built in: the network has learnt valence and arousal from 80 other people. An image of each expression of 15 people is
there to learn from, and in the first table 30 % of these labels are wrong, any of the other seven alike; `val` and `test`, of
other people, have right labels.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from abaw.core.tasks import EXPRESSIONS
from studies.faces import Person, draw_stills, write_faces
from studies.study import Idea, Scores, Variants
from studies.tiny_vit import fine_tune, pretrained, score

PEOPLE = {"train": 15, "val": 12, "test": 30}
SETTINGS = {"30 % of the labels wrong": 0.3, "all labels right": 0.0}
SAME = "one rate for all layers"
VARIANTS: Variants = {SAME: {}, "layer decay .65": {"layer_decay": 0.65}}


def measure(seed: int, folder: Path) -> Scores:
    """Scores of every variant on people drawn with a seed, with wrong and with right labels."""
    rng = np.random.default_rng([seed, 22])
    people = {split: draw_stills(rng, n, split) for split, n in PEOPLE.items()}
    weights = pretrained(seed, folder)
    write_faces(folder / "test", "val", people["test"])
    scores: Scores = {}
    for setting, share in SETTINGS.items():
        data = folder / f"wrong-{share}"
        write_faces(data, "train", mislabelled(rng, people["train"], share))
        write_faces(data, "val", people["val"])
        scores[setting] = {
            variant: score(
                fine_tune(data, folder / "runs", {"task": "expr", **options}, seed, weights), folder / "test"
            )
            for variant, options in VARIANTS.items()
        }
    return scores


def mislabelled(rng: np.random.Generator, people: Sequence[Person], share: float) -> list[Person]:
    """People a share of whose expressions have a wrong label, any of the others alike."""
    changed = []
    for person in people:
        right = person.labels["expr"]
        other = (right + rng.integers(1, len(EXPRESSIONS), right.shape)) % len(EXPRESSIONS)
        rows = np.where(rng.random(right.shape) < share, other, right)
        changed.append(Person(person.name, person.pictures, {"expr": rows}))
    return changed


IDEA = Idea(
    name="finetune-decay",
    title="Layer decay in fine-tuning (emma, cotex): expressions, macro F1",
    built_in=__doc__ or "",
    measure=measure,
    against=dict.fromkeys(list(VARIANTS)[1:], (SAME,)),
)
