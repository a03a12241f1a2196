"""Tables of many rows, made block by block: as a CSV file within little memory, or as a pandas DataFrame."""

import csv
import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from abaw.core.csv_cells import as_cell
from abaw.core.errors import UsageError
from abaw.core.files import check_folder_of, writing

if TYPE_CHECKING:
    import pandas

Block = Mapping[str, NDArray]


@dataclass(frozen=True)
class RowTable:
    """A table whose rows are computed when they are needed.

    Attributes:
        columns: names of the columns, in order.
        n_rows: number of rows.
        blocks: gives the rows from the first to the last, some thousand at a time: an array for each column. Texts are in
            arrays of objects, with None where a text is missing; a missing number is NaN.
        categories: by column of texts, all the texts that it can have, in their order.
    """

    columns: tuple[str, ...]
    n_rows: int
    blocks: Callable[[], Iterator[Block]]
    categories: Mapping[str, tuple[str, ...]]

    def __len__(self) -> int:
        return self.n_rows

    def __repr__(self) -> str:
        return f"RowTable({self.n_rows:,} rows: {', '.join(self.columns)})"

    def write_csv(self, path: Path) -> None:
        """Write a CSV file with a header, UTF-8; the file appears when it is complete.

        A missing value is an empty cell. Numbers have six significant digits, float64 six decimals. A text that a
        spreadsheet would run as a formula gets an apostrophe in front of it.

        Raises:
            UsageError: the folder does not exist, or the path is a folder.
        """
        check_folder_of(path)
        with writing(path) as partial, partial.open("w", newline="", encoding="utf-8", errors="replace") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(map(as_cell, self.columns))
            for block in self.blocks():
                writer.writerows(zip(*(_texts(block[name]) for name in self.columns), strict=True))

    def to_pandas(self) -> "pandas.DataFrame":
        """The table as a pandas DataFrame. Texts are categorical; a missing value is NaN.

        Raises:
            UsageError: pandas is not installed.
        """
        try:
            pandas: Any = importlib.import_module("pandas")
        except ImportError as error:
            raise UsageError("pandas is not installed. Install it with `pip install pandas`.") from error
        parts: dict[str, list[NDArray]] = {name: [] for name in self.columns}
        for block in self.blocks():
            for name in self.columns:
                parts[name].append(self._codes(name, block[name]) if name in self.categories else block[name])
        whole = {name: np.concatenate(arrays) if arrays else np.empty(0) for name, arrays in parts.items()}
        for name, texts in self.categories.items():
            whole[name] = pandas.Categorical.from_codes(whole[name].astype(np.int64), categories=list(texts))
        return pandas.DataFrame(whole)

    def _codes(self, name: str, texts: NDArray) -> NDArray[np.int32]:
        """The number of each text among those of its column; -1 where it is missing."""
        numbers = {text: i for i, text in enumerate(self.categories[name])}
        return np.array([-1 if text is None else numbers[text] for text in texts.tolist()], dtype=np.int32)


def _texts(values: NDArray) -> Iterable[object]:
    """The cells of a column."""
    cells = values.tolist()
    if values.dtype == np.bool_:
        return ("true" if value else "false" for value in cells)
    if values.dtype.kind == "f":
        decimals = ".6f" if values.dtype == np.float64 else ".6g"
        return ("" if value != value else format(value, decimals) for value in cells)
    if values.dtype == object:
        return ("" if value is None else as_cell(value) for value in cells)
    return map(str, cells)
