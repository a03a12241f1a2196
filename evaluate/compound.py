"""Compound expressions without training: the probability of each is the sum of those of its two basic expressions.

That is what most teams of the challenge do; `Fearfully_Surprised` is fear and surprise.
"""

import numpy as np
from numpy.typing import NDArray

from abaw.core.tasks import EXPR, Task

COMPOUND_TASK = "ce"
BASIC = {  # words in the names of compound expressions
    "Fearfully": "Fear",
    "Happily": "Happiness",
    "Sadly": "Sadness",
    "Disgustedly": "Disgust",
    "Angrily": "Anger",
    "Surprised": "Surprise",
    "Fearful": "Fear",
    "Angry": "Anger",
}


def is_made_from(wanted: Task, task: Task) -> bool:
    """True if predictions of a task give those of another: expressions give compound ones."""
    return wanted.name == COMPOUND_TASK and task == EXPR


def compound_outputs(wanted: Task, outputs: NDArray) -> NDArray[np.float32]:
    """(rows, compound expressions) logarithms of the sums of two probabilities.

    Args:
        wanted: the task of compound expressions.
        outputs: (rows, 8) of `expr`: logits, or logarithms of probabilities.
    """
    wide = outputs.astype(np.float64)
    probabilities = np.exp(wide - wide.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    pairs = [[EXPR.outputs.index(BASIC[word]) for word in name.split("_")] for name in wanted.outputs]
    sums = np.stack([probabilities[:, pair].sum(axis=1) for pair in pairs], axis=1)
    return np.log(np.maximum(sums, np.finfo(np.float64).tiny)).astype(np.float32)
