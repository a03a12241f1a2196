"""Arrays of labels in the store: encoding them as one chunk and metadata, and decoding them."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from abaw.core.doubles import Doubles
from abaw.core.task_types import Task
from abaw.store.schema import has_checksum, with_attrs_checksum
from abaw.store.writer import with_checksum
from abaw.store.zarr_keys import array_template, encode_metadata


@dataclass(frozen=True)
class VideoLabels:
    """Labels of one video: `rows` is (rows, columns) as published, row i belongs to frame i+1.

    If a frame is labelled twice, `rows` has its first label and `doubles` the second. `person` is who is in the video;
    empty if unknown, and in stores of older versions.
    """

    split: str
    rows: NDArray
    doubles: Doubles | None = None
    person: str = ""


def encode_labels(
    video: str, split: str, rows: NDArray, doubles: Doubles | None = None, person: str = ""
) -> tuple[dict[str, bytes], bytes]:
    """The files of an array of labels: its only chunk by key, and its metadata, which marks the labels as complete.

    Args:
        video: gives its name to the rows.
        rows: (rows, columns), at least one.
        doubles: appended to the rows of the array; their frame numbers go into its attributes.
        person: who is in the video; empty if unknown.
    """
    frames = (doubles.rows + 1).tolist() if doubles is not None else []
    content = rows if doubles is None else np.concatenate([rows, doubles.labels.astype(rows.dtype)])
    listed: dict[str, Any] = {"doubles": frames} if frames else {}
    listed |= {"person": person} if person else {}
    attrs = with_attrs_checksum({"split": split, **listed, "sha256": _labels_digest(content, frames), "complete": True})
    ones = (1,) * rows.ndim
    # the videos of a task are in one group, and have different lengths
    names = (f"row_{video}", "column")[: rows.ndim]
    metadata = dict(array_template(ones, rows.dtype.name, ones, None, None, ("row", "column")[: rows.ndim])) | {
        "dimension_names": names,
        "shape": content.shape,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": content.shape}},
        "attributes": attrs,
    }
    chunk = {"/".join(["c", *("0" * rows.ndim)]): with_checksum(content.tobytes())}
    return chunk, encode_metadata(metadata)


def decode_labels(content: NDArray, attrs: Mapping[str, Any]) -> tuple[NDArray, Doubles | None]:
    """Rows and doubles of an array of labels that `encode_labels` wrote.

    Raises:
        ValueError: the content differs from what was written.
    """
    frames = attrs.get("doubles", [])
    is_list = isinstance(frames, list) and all(type(frame) is int for frame in frames)
    if not has_checksum(attrs):
        raise ValueError("their attributes have changed since they were written")
    # a missing chunk reads as zeros
    if not is_list or _labels_digest(content, frames) != attrs.get("sha256"):
        raise ValueError("their content has changed since it was written")
    n_rows = len(content) - len(frames) if content.ndim else 0
    if not frames:
        return content, None
    if frames != sorted(frames) or not 1 <= frames[0] <= frames[-1] <= n_rows:
        raise ValueError("the frames that are labelled twice are not among its rows")
    return content[:n_rows], Doubles(np.array(frames, dtype=np.int64) - 1, content[n_rows:])


def problem_of(task: Task, labels: VideoLabels) -> str:
    """What is wrong with labels of a task, which are not damaged otherwise; empty if nothing is."""
    arrays = [labels.rows] if labels.doubles is None else [labels.rows, labels.doubles.labels]
    have_columns = all(rows.ndim == 2 and rows.shape[1] == len(task.columns) for rows in arrays)
    if not (have_columns and labels.rows.dtype.kind in "fiub" and all(np.isfinite(rows).all() for rows in arrays)):
        return f"not finite numbers in {len(task.columns)} columns"
    return "more than one row" if task.level == "video" and len(arrays) > 1 else ""


def _labels_digest(content: NDArray, frames: Sequence[int]) -> str:
    """The sha256 of an array of labels and, if it has doubles, of their frame numbers."""
    listed = json.dumps(list(frames)).encode() if frames else b""
    return hashlib.sha256(content.tobytes() + listed).hexdigest()
