"""Which of several copies of a network's weights goes first."""

import re
from collections.abc import Iterable

# Averages over a training's course do better than where it ended: words of keys that tell them, and those that tell
# what an optimizer keeps of each weight.
EMA = frozenset(("ema", "swa", "average", "averaged", "avg"))
TEACHER = "teacher"  # an average of its student
OPTIMIZER = re.compile(r"(^|_)optim(izer)?s?(_|\d|$)|^exp_avg|^momentum_buffer|^grads?$|^gradients$", re.IGNORECASE)
OF_OPTIMIZER = -100
RULE = "averages (EMA, SWA, then a teacher) go first, then the order in the file"


def averaging(words: Iterable[str]) -> int:
    """How early the weights under some keys go: 3 for each that tells an average, 1 for a teacher's, 0 for others.

    What an optimizer keeps is below 0.
    """
    total = 0
    for word in words:
        if OPTIMIZER.search(word):
            return OF_OPTIMIZER
        parts = {part.lower() for part in re.findall("[A-Z]+(?![a-z])|[A-Z]?[a-z]+", word)}
        total += 3 * bool(parts & EMA) + (TEACHER in parts)
    return total
