"""Co-training of two encoders on pixels (masked CoTEX), against wrong labels of single images.

Built in: half of the training images have a wrong label, any of the other seven alike. Each encoder sees an image with other
patches hidden, half of them; `val` and `test` have right labels, other people, and nothing hidden. The network has learnt valence
and arousal from 80 other people. Where there are two encoders, each begins with these weights and a head of its own, and they
take twice the time.
"""

from pathlib import Path

import numpy as np

from studies.faces import draw_stills, write_faces
from studies.layer_decay import mislabelled
from studies.study import Idea, Scores, Variants
from studies.tiny_vit import fine_tune, pretrained, score

PEOPLE = {"train": 30, "val": 12, "test": 30}
WRONG = 0.5
TWO, APART = {"mask": 0.5, "copies": 2}, "two encoders, no divergence"
VARIANTS: Variants = {
    "one encoder": {"mask": 0.5},
    APART: {**TWO, "loss": {"name": "cotex", "consistency": 0.0}},
    "two encoders, co-trained (cotex)": {**TWO, "loss": {"name": "cotex"}},
}


def measure(seed: int, folder: Path) -> Scores:
    """Scores of every variant on people drawn with a seed."""
    rng = np.random.default_rng([seed, 24])
    write_faces(folder / "data", "train", mislabelled(rng, draw_stills(rng, PEOPLE["train"], "train"), WRONG))
    write_faces(folder / "data", "val", draw_stills(rng, PEOPLE["val"], "val"))
    write_faces(folder / "test", "val", draw_stills(rng, PEOPLE["test"], "test"))
    weights = pretrained(seed, folder)
    scores = {}
    for variant, options in VARIANTS.items():
        run = fine_tune(folder / "data", folder / "runs", {"task": "expr", **options}, seed, weights)
        scores[variant] = score(run, folder / "test")
    return {"half of the labels wrong": scores}


IDEA = Idea(
    name="finetune-copies",
    title="Two encoders trained to agree (masked-cotex on pixels): expressions, macro F1",
    built_in=__doc__ or "",
    measure=measure,
    against={
        APART: ("one encoder",),
        **dict.fromkeys(list(VARIANTS)[2:], (APART, "one encoder")),
    },
)
