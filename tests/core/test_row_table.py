"""Tables of many rows as CSV: every kind of cell by hand, no formulas, and memory that does not grow with the rows."""

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from abaw.core.errors import UsageError
from abaw.core.row_table import RowTable

BLOCK = {
    "=name": np.array(["a", "=1+1", '-x"y', None, "@é\udcff"], dtype=object),
    "on": np.array([True, False, True, True, False]),
    "n": np.array([-1, 2, 3, 4, 5]),
    "time": np.array([1234.5678901, 0.04, np.nan, -0.5, 0]),
    "label": np.array([1, 0, np.nan, 0.123, -1e-7], dtype=np.float32),
}


def table_of(n_blocks: int, block: dict[str, np.ndarray]) -> RowTable:
    def blocks() -> Iterator[dict[str, np.ndarray]]:
        for _ in range(n_blocks):
            yield {name: values.copy() for name, values in block.items()}

    return RowTable(tuple(block), n_blocks * len(block["n"]), blocks, {})


def test_every_kind_of_cell_by_hand(tmp_path: Path) -> None:
    table_of(1, BLOCK).write_csv(tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_bytes().decode() == (
        "'=name,on,n,time,label\n"
        "a,true,-1,1234.567890,1\n"
        "'=1+1,false,2,0.040000,0\n"
        '"\'-x""y",true,3,,\n'
        ",true,4,-0.500000,0.123\n"
        "'@é?,false,5,0.000000,-1e-07\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    block = {"n": np.arange(2000), "time": np.arange(2000) / 7}
    peaks = []
    for n_blocks in (2, 20):
        tracemalloc.start()
        table_of(n_blocks, block).write_csv(tmp_path / "t.csv")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0]
    assert sum(1 for _ in (tmp_path / "t.csv").open()) == 40_001


def test_where_no_file_can_be_made_is_said(tmp_path: Path) -> None:
    table = table_of(1, BLOCK)
    with pytest.raises(UsageError, match=r"there is no folder .*deep\. Make it with `mkdir -p .*deep`\."):
        table.write_csv(tmp_path / "deep" / "t.csv")
    with pytest.raises(UsageError, match=r"is a folder\. Name the file to write\."):
        table.write_csv(tmp_path)


def test_a_table_shows_its_size_and_columns() -> None:
    assert repr(table_of(400, BLOCK)) == "RowTable(2,000 rows: =name, on, n, time, label)"
