"""Tables of a report as data; `macros.html` draws them and escapes every text in them."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: shown in it.
        note: smaller text after it.
        key: value to sort its column by; a number also sets it to the right. NaN sorts last.
        is_name: it is the header of its row.
        look: class of its style.
        share: per cent of colour in it; None for none.
        picture: data URI of a small picture, shown instead of the text.
        video: number of the video that a click on the text chooses.
    """

    text: str = ""
    note: str = ""
    key: float | str | None = None
    is_name: bool = False
    look: str = ""
    share: float | None = None
    picture: str | None = None
    video: int | None = None

    @property
    def attributes(self) -> dict[str, object]:
        """Attributes of the element; those that are None are left out."""
        is_number = isinstance(self.key, float | int)
        return {
            "style": None if self.share is None else f"--share:{self.share:.0f}%",
            "class": " ".join(filter(None, ["number" if is_number else "", self.look])) or None,
            "data-key": "" if self.key != self.key else self.key,
        }


@dataclass(frozen=True)
class DataTable:
    """A table.

    Attributes:
        caption: above it.
        head: titles of the columns; those of numbers begin with `>`.
        rows: cells, the first one of each the name of the row.
        look: class of its style.
        name: id of its element.
    """

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    look: str | None = None
    name: str | None = None


def row_name(name: str, video: int | None = None) -> Cell:
    """The header of a row."""
    return Cell(name, is_name=True, video=video)


def number(value: float, digits: int = 3) -> str:
    """A number as it is shown; a dash for NaN."""
    return "–" if math.isnan(value) else f"{value:.{digits}f}"


def number_cells(values: Iterable[float], digits: int = 3) -> list[Cell]:
    """A cell for each number; without `digits` they are counts."""
    return [Cell(number(value, digits) if digits else f"{value:,.0f}", key=value) for value in values]


def interval_cell(value: float, interval: tuple[float, float]) -> Cell:
    """A number with its interval, if there is one."""
    low, high = interval
    return Cell(number(value), "" if math.isnan(low) else f" [{low:.3f}, {high:.3f}]", key=value)


def mark_best(cells: Sequence[Cell]) -> list[Cell]:
    """The same measure of several runs; the largest number is marked, where there are several runs."""
    values = [cell.key for cell in cells if isinstance(cell.key, float) and not math.isnan(cell.key)]
    best = max(values) if len(cells) > 1 and values else None
    return [replace(cell, look="best") if best is not None and cell.key == best else cell for cell in cells]


def letter(run: int, n_runs: int) -> str:
    """The short name of a run: a letter; empty for the only run."""
    return f"{chr(ord('A') + run % 26)}{run // 26 or ''}" if n_runs > 1 else ""


def titled(text: str, run: int, n_runs: int) -> str:
    """A column's title with the run's letter."""
    return f"{text} {letter(run, n_runs)}".strip()
