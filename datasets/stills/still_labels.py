"""Labels of stills in the columns of a task."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from abaw.core.tasks import ACTION_UNITS, AU, EXPR, EXPRESSIONS, MTL, VA
from abaw.datasets.stills.still_set import CONTEMPT, UNLABELLED, Still

Contempt = Literal["drop", "other"]
OTHER = EXPRESSIONS.index("Other")
COLUMNS = {VA.name: slice(0, 2), EXPR.name: slice(2, 3), AU.name: slice(3, 15), MTL.name: slice(0, 15)}
NO_UNITS = (UNLABELLED,) * len(ACTION_UNITS)


def label_rows(stills: Sequence[Still], task: str, contempt: Contempt) -> NDArray[np.float32]:
    """(stills, columns) labels as the task has them, invalid values included.

    Args:
        task: va, expr, au or mtl.
        contempt: has no label, or is Other.
    """
    rows = [(*still.affect, expression_of(still, contempt), *(still.units or NO_UNITS)) for still in stills]
    columns = np.array(rows, dtype=np.float32).reshape(-1, len(MTL.columns))
    return columns[:, COLUMNS[task]]


def expression_of(still: Still, contempt: Contempt) -> int:
    """Index in `EXPRESSIONS`; -1 without one."""
    if still.expression != CONTEMPT:
        return still.expression
    return OTHER if contempt == "other" else UNLABELLED


def vote_shares(stills: Sequence[Still], contempt: Contempt) -> NDArray[np.float32]:
    """(stills, expressions) shares of the votes; all of them for the class of an image without votes."""
    shares = np.zeros((len(stills), len(EXPRESSIONS)), dtype=np.float32)
    for row, still in zip(shares, stills, strict=True):
        if still.votes:
            row[:] = still.votes[:CONTEMPT]
            if contempt == "other":
                row[OTHER] += still.votes[CONTEMPT]
        if not row.any() and (number := expression_of(still, contempt)) != UNLABELLED:
            row[number] = 1
        row /= max(float(row.sum()), 1e-6)
    return shares
