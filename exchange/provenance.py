"""The origin of an exported feature, kept with the export so that its import gives the same feature."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from abaw import __version__
from abaw.core.clock import MARKS
from abaw.core.errors import DataError
from abaw.core.records import Record, fingerprint_of
from abaw.media.links import check_file
from abaw.media.text_files import read_text
from abaw.store.old_records import record_in
from abaw.store.schema import DTYPES

FEATURE_FILE = "feature.json"  # next to the arrays of an export
MAX_FILE_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Origin:
    """How a feature was made, as recorded in the store that it was exported from.

    Attributes:
        spec: of the backbone, with at least `shape`, `dtype` and `weights`.
        weights_sha256: of its weights.
        fingerprint: equal if and only if features are comparable.
        record: what the fingerprint is computed from, see `abaw.core.records`; None for a feature of version 1.
    """

    spec: Mapping[str, Any]
    weights_sha256: str | None
    fingerprint: str
    record: Record | None = None

    def as_texts(self) -> dict[str, str]:
        """As attributes of a file: `spec` and `record` as JSON."""
        return {
            "spec": json.dumps(dict(self.spec)),
            **({"record": json.dumps(self.record)} if self.record is not None else {}),
            "weights_sha256": self.weights_sha256 or "",
            "fingerprint": self.fingerprint,
            "abaw": __version__,
        }

    def known_record(self) -> Record | None:
        """The record; for a feature of version 1 it is derived from the spec. None if unknown."""
        attrs = {"spec": dict(self.spec), "weights_sha256": self.weights_sha256, "fingerprint": self.fingerprint}
        return self.record if self.record is not None else record_in(attrs, list)


def read_origin(texts: Mapping[str, Any], location: str) -> Origin | None:
    """Read what `Origin.as_texts` wrote; None if it is missing.

    Raises:
        DataError: it is broken.
    """
    if not {"spec", "fingerprint"} <= set(texts):
        return None
    try:
        spec, fingerprint = json.loads(texts["spec"]), str(texts["fingerprint"])
        shape, dtype = spec["shape"], spec.get("dtype", "float16")
        weights = str(texts.get("weights_sha256", "")) or None
        sizes = isinstance(shape, list) and all(type(size) is int and size > 0 for size in shape)
        if not sizes or dtype not in DTYPES or not re.fullmatch(r"[0-9a-f]{64}", fingerprint):
            raise ValueError
        record = json.loads(texts["record"]) if "record" in texts else None
        if record is not None and (not isinstance(record, dict) or fingerprint_of(record) != fingerprint):
            raise ValueError
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{location} describes its feature, but not in the form that `abaw store export` writes. Export it again."
        ) from error
    return Origin({"weights": "imported", **spec}, weights, fingerprint, record)


def read_feature_file(file: Path) -> tuple[Origin | None, dict[str, Any], dict[str, set[str]]]:
    """The content of an export's `feature.json`: the origin, frames a second by video, and videos by mark.

    Raises:
        DataError: the file is not a valid `feature.json`.
    """
    try:
        if check_file(file).stat().st_size > MAX_FILE_BYTES:
            raise ValueError("it is far too large")
        content = json.loads(read_text(file))
        if not isinstance(content, dict) or not isinstance(content.get("fps", {}), dict):
            raise ValueError("it is not what an export writes")
        marked = {mark: content.get(mark, []) for mark in MARKS}
        for mark, videos in marked.items():
            if not isinstance(videos, list) or not all(isinstance(video, str) for video in videos):
                raise ValueError(f"{mark!r} is not a list of videos")
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{file} cannot be read ({error}). Delete it, or export again.") from error
    return read_origin(content, str(file)), content.get("fps", {}), {mark: set(marked[mark]) for mark in MARKS}
