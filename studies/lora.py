"""Low-rank adaptation (LoRA) against the training of all layers, at the same number of steps.

Built in: nothing for or against it. The network has learnt valence and arousal from 80 other people, and expressions are
new to it. Its maps are 64 wide, so that a change of rank 8 is an eighth of them, not the hundredth that it is of a ViT-B. In
all rows but the last the rate is the one that was set for all layers; low-rank changes are mostly trained at a higher one.
"""

from pathlib import Path

import numpy as np

from studies.faces import write_stills
from studies.study import Idea, Scores, Variants
from studies.tiny_vit import BUDGET, fine_tune, pretrained, score

PEOPLE = {"train": 30, "val": 12, "test": 30}
FULL = "all layers"
VARIANTS: Variants = {
    FULL: {},
    "LoRA, rank 8": {"lora": {"rank": 8}},
    "LoRA, rank 8, three times the rate": {"lora": {"rank": 8}, "lr": 3 * BUDGET["lr"]},
}


def measure(seed: int, folder: Path) -> Scores:
    """Scores of every variant on people drawn with a seed."""
    data, test = write_stills(np.random.default_rng([seed, 27]), folder, PEOPLE)
    weights = pretrained(seed, folder)
    scores = {
        variant: score(fine_tune(data, folder / "runs", {"task": "expr", **options}, seed, weights), test)
        for variant, options in VARIANTS.items()
    }
    return {"people it has not seen": scores}


IDEA = Idea(
    name="finetune-lora",
    title="LoRA against all layers (adapt-vit): expressions, macro F1",
    built_in=__doc__ or "",
    measure=measure,
    against=dict.fromkeys(list(VARIANTS)[1:], (FULL,)),
)
