"""The colours of pictures, reports and overlays, after Okabe and Ito (2008): colour-blind readers can tell them apart."""

from collections.abc import Sequence
from itertools import cycle, islice

from abaw.core.expressions import plain_expression
from abaw.core.tasks import EXPRESSIONS

# on light and on dark ground
RUN_COLOURS = (
    ("#0072b2", "#56b4e9"),
    ("#d55e00", "#ff8a3d"),
    ("#007f5c", "#2fc79a"),
    ("#a8457f", "#e39cc4"),
    ("#9a6a00", "#e69f00"),
)
CLASS_COLOURS = ("#767676", "#d55e00", "#009e73", "#56b4e9", "#e8d838", "#0072b2", "#cc79a7", "#e69f00")
PERSON_COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#cc79a7", "#d55e00", "#0072b2")
_PLACES = {name.lower(): place for place, name in enumerate(EXPRESSIONS)}  # in CLASS_COLOURS
LABEL_COLOUR, PREDICTED_COLOUR, MISSING_COLOUR = "#222222", RUN_COLOURS[0][0], "#dddddd"
ACTIVE_COLOUR = "#08306b"  # the dark end of matplotlib's map "Blues"


def class_colours(n_classes: int) -> list[str]:
    """A colour for each class of a task; they repeat after eight."""
    return list(islice(cycle(CLASS_COLOURS), n_classes))


def expression_colours(names: Sequence[str]) -> list[str]:
    """The colours of classes by their names: an expression has the same colour in every task that names it.

    Classes of another kind, such as those of groups, have the colours of `class_colours`.
    """
    known = [plain_expression(name) for name in names]
    if not set(known) <= _PLACES.keys():
        return class_colours(len(names))
    return [CLASS_COLOURS[_PLACES[name]] for name in known]


def run_colour(run: int) -> str:
    """The colour of a run, or of one of several lines, on light ground."""
    return RUN_COLOURS[run % len(RUN_COLOURS)][0]
