"""Three quarters of the patches hidden in fine-tuning (masked CoTEX), with so many more images in a step.

Built in: nothing for or against it. The network has learnt valence and arousal from 80 other people, without a mask; an
image has 16 patches. All rows process the same number of patches, in as many steps: with a mask a step has four times (or
twice) the images, and the training four times (or twice) the epochs. At evaluation no patch is hidden.
"""

from pathlib import Path

import numpy as np

from studies.faces import write_stills
from studies.study import Idea, Scores, Variants
from studies.tiny_vit import fine_tune, pretrained, score

EPOCHS = 10
PEOPLE = {"train": 30, "val": 12, "test": 30}
PLAIN = "no patch hidden"
VARIANTS: Variants = {
    PLAIN: {},
    "half hidden, twice the images": {"mask": 0.5},
    "three quarters hidden, four times the images": {"mask": 0.75},
}


def measure(seed: int, folder: Path) -> Scores:
    """Scores of every variant on people drawn with a seed."""
    data, test = write_stills(np.random.default_rng([seed, 23]), folder, PEOPLE)
    weights = pretrained(seed, folder)
    scores = {}
    for variant, options in VARIANTS.items():
        epochs = EPOCHS * int(1 / (1 - options.get("mask", 0.0)))
        values = {"task": "expr", "epochs": epochs, "patience": epochs, **options}
        scores[variant] = score(fine_tune(data, folder / "runs", values, seed, weights), test)
    return {"people it has not seen": scores}


IDEA = Idea(
    name="finetune-masking",
    title="Hidden patches in fine-tuning (masked-cotex): expressions, macro F1",
    built_in=__doc__ or "",
    measure=measure,
    against=dict.fromkeys(list(VARIANTS)[1:], (PLAIN,)),
)
