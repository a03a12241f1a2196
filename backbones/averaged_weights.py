"""Which of several copies of a network's weights to prefer."""

import re
from collections.abc import Iterable

# Averages over a training do better than its last state. These words in keys mark averages, or what an optimizer keeps of
# each weight.
EMA = frozenset(("ema", "swa", "average", "averaged", "avg"))
TEACHER = "teacher"  # an average of its student
OPTIMIZER = re.compile(r"(^|_)optim(izer)?s?(_|\d|$)|^exp_avg|^momentum_buffer|^grads?$|^gradients$", re.IGNORECASE)
OF_OPTIMIZER = -100
RULE = "averages (EMA, SWA, then a teacher) go first, then the order in the file"


def averaging(words: Iterable[str]) -> int:
    """Preference of the weights under some keys, higher first: 3 for each word that marks an average, 1 for a teacher.

    The state of an optimizer is below 0.
    """
    total = 0
    for word in words:
        if OPTIMIZER.search(word):
            return OF_OPTIMIZER
        parts = {part.lower() for part in re.findall("[A-Z]+(?![a-z])|[A-Z]?[a-z]+", word)}
        total += 3 * bool(parts & EMA) + (TEACHER in parts)
    return total
