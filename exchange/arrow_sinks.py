"""Export as rows of Arrow, one for each frame: a Parquet file, or a Lance dataset.

    video    string
    frame    int32        from 1
    time     double       seconds from the start; null where the frame rate is unknown
    present  bool         the frame has the feature
    values   fixed-size list of halffloat, or of float where the values of any video need it; zero where not present

The metadata of the schema have the keys of `Origin.as_texts`, `feature`, `fps` (by video, as JSON) and the marks (lists of
videos, as JSON).
"""

import errno
import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from abaw.core.clock import marks_of
from abaw.core.output_stream import OutputStream
from abaw.exchange.provenance import Origin
from abaw.store.feature_store import VideoFeature

if TYPE_CHECKING:
    import pyarrow

GROUP_BYTES = 2**26  # of a row group of Parquet
FRAGMENT_BYTES = 2**28  # of a fragment of Lance
OS_ERROR = re.compile(r"os error (\d+)")


class ArrowRows:
    """Gathers videos until they are worth writing.

    Args:
        least_bytes: of values that are written together.
    """

    def __init__(self, schema: "pyarrow.Schema", least_bytes: int) -> None:
        self._schema, self._least_bytes = schema, least_bytes
        self._dtype = np.dtype(schema.field("values").type.value_type.to_pandas_dtype())
        self._tables: list[pyarrow.Table] = []
        self.row_bytes = schema.field("values").type.list_size * self._dtype.itemsize

    def add(self, video: str, stored: VideoFeature) -> None:
        """The rows of one video."""
        import pyarrow

        n, width = len(stored.present), self._schema.field("values").type.list_size
        values = np.ascontiguousarray(stored.values, dtype=self._dtype).reshape(-1)
        times = np.arange(n) / stored.fps if stored.fps else np.full(n, np.nan)
        columns = [
            pyarrow.repeat(pyarrow.scalar(video), n),
            np.arange(1, n + 1, dtype=np.int32),
            pyarrow.array(times, from_pandas=True),
            stored.present,
            pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(values), width),
        ]
        self._tables.append(pyarrow.table(columns, schema=self._schema))

    def take(self, is_last: bool = False) -> "pyarrow.Table | None":
        """All rows that were added, if there are enough of them, or no more come; None without any."""
        import pyarrow

        n_rows = sum(table.num_rows for table in self._tables)
        if not n_rows or (n_rows * self.row_bytes < self._least_bytes and not is_last):
            return None
        taken, self._tables = pyarrow.concat_tables(self._tables), []
        return taken


class ParquetSink:
    """One Parquet file; row groups of 64 MB, or of the videos that fill so much."""

    def __init__(self, stream: OutputStream, schema: "pyarrow.Schema") -> None:
        from pyarrow import parquet

        self._stream, self._rows = stream, ArrowRows(schema, GROUP_BYTES)
        # features do not compress
        self._writer = parquet.ParquetWriter(stream, schema, compression="none", use_dictionary=["video"])

    def put(self, video: str, stored: VideoFeature, marks: Sequence[str]) -> None:
        """Write one video."""
        self._rows.add(video, stored)
        self._write()

    def finish(self) -> None:
        """Write the rest, and what ends the file."""
        self._write(is_last=True)
        self.close()
        self._stream.check()

    def close(self) -> None:
        """Write no more."""
        self._writer.close()

    def _write(self, is_last: bool = False) -> None:
        table = self._rows.take(is_last)
        if table is not None:
            self._writer.write_table(table, row_group_size=max(1, GROUP_BYTES // self._rows.row_bytes))
        self._stream.check()


class LanceSink:
    """A Lance dataset of one version."""

    def __init__(self, folder: Path, schema: "pyarrow.Schema") -> None:
        self._folder, self._schema, self._rows = folder, schema, ArrowRows(schema, FRAGMENT_BYTES)
        self._fragments: list[Any] = []

    def put(self, video: str, stored: VideoFeature, marks: Sequence[str]) -> None:
        """Write one video."""
        self._rows.add(video, stored)
        self._write()

    def finish(self) -> None:
        """Write the rest, and make a version of it."""
        import lance

        self._write(is_last=True)
        with _errors_of_lance(self._folder):
            operation = lance.LanceOperation.Overwrite(self._schema, self._fragments)
            lance.LanceDataset.commit(str(self._folder), operation)

    def _write(self, is_last: bool = False) -> None:
        from lance.fragment import write_fragments

        table = self._rows.take(is_last)
        if table is not None:
            with _errors_of_lance(self._folder):
                self._fragments += write_fragments(table, str(self._folder), schema=self._schema)


def arrow_schema(feature: str, origin: Origin, videos: Mapping[str, Mapping[str, Any]]) -> "pyarrow.Schema":
    """The columns of an export, see the module.

    Args:
        videos: attributes by name.
    """
    import pyarrow

    is_wide = any(attrs["dtype"] == "float32" for attrs in videos.values())
    marked: dict[str, list[str]] = {}
    for video, attrs in videos.items():
        for mark in marks_of(attrs):
            marked.setdefault(mark, []).append(video)
    rates = {video: attrs["fps"] for video, attrs in videos.items()}
    lists = {name: json.dumps(content) for name, content in {"fps": rates, **marked}.items()}
    fields = [
        ("video", pyarrow.string()),
        ("frame", pyarrow.int32()),
        ("time", pyarrow.float64()),
        ("present", pyarrow.bool_()),
        ("values", pyarrow.list_(pyarrow.float32() if is_wide else pyarrow.float16(), math.prod(origin.spec["shape"]))),
    ]
    return pyarrow.schema(fields, metadata={"feature": feature, **origin.as_texts(), **lists})


@contextmanager
def _errors_of_lance(folder: Path) -> Iterator[None]:
    """Gives errors of the system the number that Lance only writes into their message."""
    try:
        yield
    except OSError as error:
        if error.errno is None and (number := OS_ERROR.search(str(error))):
            code = int(number[1])
            raise OSError(code, os.strerror(code), str(folder)) from error
        raise OSError(errno.EIO, str(error).splitlines()[0], str(folder)) from error
