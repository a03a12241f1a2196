"""The worst spans of a video, with small pictures of its faces."""

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from abaw.evaluate.report.content import VideoErrors
from abaw.evaluate.report.face_crops import FaceOf

SIDE_PX = 72
QUALITY = 80  # of the JPEGs: about 2 kB each
N_VIDEOS, N_SPANS, N_FACES = 10, 4, 12  # worst videos, spans of each, faces in a span
SPAN_S = 2.0
BUDGET_BYTES = 3_000_000  # of all pictures in a report


@dataclass(frozen=True)
class WorstSpan:
    """Rows `start` to `stop` (exclusive) of a video, and their mean error."""

    start: int
    stop: int
    error: float


def worst_spans(errors: NDArray[np.float64], fps: float) -> list[WorstSpan]:
    """The spans of `SPAN_S` with the largest mean error that do not overlap, in order of time.

    Args:
        errors: (rows,), NaN without a label.
        fps: frames a second; 0 counts as 1.
    """
    length = max(1, min(len(errors), round(SPAN_S * (fps or 1.0))))
    known = ~np.isnan(errors)
    sums = _moving_sum(np.where(known, errors, 0), length)
    counts = _moving_sum(known.astype(np.float64), length)
    means = np.where(counts > 0, sums / np.maximum(counts, 1), -np.inf)
    spans: list[WorstSpan] = []
    while len(spans) < N_SPANS and means.max() > 0:
        start = int(means.argmax())
        spans.append(WorstSpan(start, start + length, float(means[start])))
        means[max(0, start - length + 1) : start + length] = -np.inf
    return sorted(spans, key=lambda span: span.start)


def _moving_sum(values: NDArray[np.float64], length: int) -> NDArray[np.float64]:
    """(rows - length + 1,) sums of neighbours."""
    totals = np.concatenate([[0.0], np.cumsum(values)])
    return totals[length:] - totals[:-length]


class Pictures:
    """Encodes small pictures until a budget of bytes is used up.

    Args:
        face_of: gives the (height, width, 3) uint8 picture of a video's row, or None.
    """

    def __init__(self, face_of: FaceOf) -> None:
        self._face_of = face_of
        self._left_bytes = BUDGET_BYTES

    def small(self, video: str, row: int) -> str | None:
        """A data URI of a JPEG; None if there is no picture, or the budget is used up."""
        image = self._face_of(video, row) if self._left_bytes > 0 else None
        if image is None:
            return None
        picture = Image.fromarray(image)
        picture.thumbnail((SIDE_PX, SIDE_PX))
        stream = io.BytesIO()
        picture.save(stream, "JPEG", quality=QUALITY)
        text = "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
        self._left_bytes -= len(text)
        return text


def spans_with_faces(videos: Sequence[VideoErrors], pictures: Pictures | None) -> Iterator[list[dict[str, Any]]]:
    """For each video its worst spans; for the first `N_VIDEOS` with faces.

    Yields:
        `start` and `stop` rows, `error`, and `faces`: pairs of a row and a data URI.
    """
    for number, video in enumerate(videos):
        spans = worst_spans(video.rows, video.first.fps)
        shown = pictures if number < N_VIDEOS else None
        yield [
            {
                "start": span.start,
                "stop": span.stop,
                "error": round(span.error, 4),
                "faces": _faces(video, span, shown),
            }
            for span in spans
        ]


def _faces(video: VideoErrors, span: WorstSpan, pictures: Pictures | None) -> list[tuple[int, str]]:
    """Faces evenly spread over a span; rows without one are skipped."""
    if pictures is None:
        return []
    rows = np.unique(np.linspace(span.start, span.stop - 1, N_FACES).round().astype(int)).tolist()
    faces = [(row, pictures.small(video.video, row)) for row in rows if video.first.present[row]]
    return [(row, picture) for row, picture in faces if picture is not None]
