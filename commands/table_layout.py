"""Widths of the columns of a table, so that words stay whole wherever it is printed."""

import os
from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Console


def width_for(console: Console) -> int | None:
    """Columns that a table may take: COLUMNS, or the width of the terminal; None without limit, as in files and pipes."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdigit() and int(columns):
        return int(columns)
    return console.width if console.is_terminal else None


def fit_columns(cells: Sequence[Sequence[str]], room: int | None, wrap: bool = True) -> list[int] | None:
    """Width of each column, in which no word is broken.

    Columns that are wider than others give way first. The first column, the name of the row, keeps its width if it can.

    Args:
        cells: texts by row, the header among them.
        room: the sum that the widths may have; None without limit.
        wrap: cells may be wrapped between words.

    Returns:
        None if the columns do not fit next to each other.
    """
    columns = list(zip(*cells, strict=True))
    widest = [max(cell_len(text) for text in column) for column in columns]
    if room is None or sum(widest) <= room:
        return widest
    if not wrap:
        return None
    least = [max(cell_len(word) for text in column for word in text.split() or [""]) for column in columns]
    if widest[0] + sum(least[1:]) <= room:
        least[0] = widest[0]
    if sum(least) > room:
        return None
    cap = max(cap for cap in range(max(widest) + 1) if sum(_capped(widest, least, cap)) <= room)
    widths = _capped(widest, least, cap)
    for number, width in enumerate(widths):  # what is left of the room
        if width < widest[number] and sum(widths) < room:
            widths[number] += 1
    return widths


def _capped(widest: Sequence[int], least: Sequence[int], cap: int) -> list[int]:
    return [max(low, min(high, cap)) for low, high in zip(least, widest, strict=True)]
