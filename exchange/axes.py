"""Detects transposed arrays, (values, frames), which look like any other array and are refused."""

from collections.abc import Iterable

from abaw.core.errors import DataError
from abaw.exchange.frame_files import FrameFiles
from abaw.exchange.index import IndexedRows
from abaw.exchange.source_clocks import Clocks
from abaw.exchange.source_rows import Rows, SourceVideo

NEAR = 2  # rows by which a feature may miss the length of its video: labels often have one more
REMEDY = (
    "if its columns are the frames, save array.T; if its rows are, save an .npz with `values` and `frames`, the frame "
    "number of each row"
)


def shape_of(rows: Rows) -> tuple[int, int] | None:
    """(rows, columns) of an array without frame numbers; None for any other."""
    if not rows.is_bare or rows.is_sampled or len(rows.shape) != 1:
        return None
    return len(rows.numbers), rows.shape[0]


def check_way(video: str, rows: Rows, clocks: Clocks) -> None:
    """Refuse an array that has as many columns as its video has frames, but another number of rows.

    Raises:
        DataError: the array is probably transposed.
    """
    shape = shape_of(rows)
    length = clocks.length(video) if shape else None
    if shape and length and abs(shape[1] - length.n) <= NEAR < abs(shape[0] - length.n):
        raise DataError(f"its shape is {shape}, and {length.reason}: {REMEDY}")


def check_ways(videos: Iterable[SourceVideo], clocks: Clocks) -> None:
    """Refuse arrays with equal numbers of rows and different numbers of columns: probably the columns are the frames.

    Raises:
        DataError: the arrays are like that, and no video has about as many frames as its array has rows.
    """
    shapes: dict[str, tuple[int, int]] = {}
    for video in videos:
        if isinstance(video, FrameFiles | IndexedRows):
            return
        try:
            with video.open() as rows:
                shape = shape_of(rows)
        except Exception:  # reported when the video is imported
            continue
        if shape is None or any(shape[0] != other for other, _ in shapes.values()):
            return
        shapes[video.name] = shape
    if len({n_columns for _, n_columns in shapes.values()}) < 2 or 1 in {n_rows for n_rows, _ in shapes.values()}:
        return
    for name, (n_rows, _) in shapes.items():
        length = clocks.length(name)
        if length and abs(n_rows - length.n) <= NEAR:
            return
    (first, shape), *others = shapes.items()
    other, another = next((name, other_shape) for name, other_shape in others if other_shape != shape)
    raise DataError(
        f"All arrays have {shape[0]} rows, and their columns differ: the shape of {first!r} is {shape}, that of {other!r} "
        f"is {another}. If the columns are the frames, save array.T of each; if the rows are, make the columns alike."
    )
