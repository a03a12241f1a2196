"""Detection in a video: full detection in every n-th frame, then refinement in every frame.

Between two key frames the boxes to refine are interpolated linearly. All frames, key frames included, get their boxes and
landmarks from the refinement: its input moves smoothly, so that landmarks jitter about 40 % less than with full detection
in every frame. Where two key frames do not show the same faces, or refinement loses one, the frames are detected in full.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from abaw.core.errors import UsageError
from abaw.core.read_ahead import next_ahead
from abaw.extract.faces.boxes import match
from abaw.extract.faces.detections import N_LANDMARKS, Detections, FaceDetector, RefiningDetector
from abaw.media.pictures import Picture

DEFAULT_EVERY = 4  # at 25 fps a face cannot move far in that time
CHUNK_PIXELS = 2**23  # in memory at once: 25 MB
MOST_DISTANCE = 0.5  # that a face moves between two key frames, in its sides


@dataclass
class _Chunk:
    """Consecutive pictures of one size; `first` are the faces of the first one if they are known already."""

    pictures: list[Picture]
    first: Detections | None = None

    def images(self, rows: list[int] | None = None) -> NDArray[np.uint8]:
        pictures = self.pictures if rows is None else [self.pictures[row] for row in rows]
        return np.stack([picture.image for picture in pictures])


Detected = list[tuple[Picture, Detections]]  # of a chunk


def detect_pictures(
    pictures: Iterable[Picture], detector: FaceDetector, every: int = 0, ahead: bool = False, live: bool = False
) -> Iterator[tuple[Picture, Detections]]:
    """Detect the faces of each picture of a video, in order. A bounded number of pictures is in memory at once.

    Args:
        detector: if it cannot refine, every picture is detected in full.
        every: full detection in every n-th picture; 0 takes 4, or 1 if the detector cannot refine.
        ahead: pictures are read in one thread and detected in another, ahead of their use.
        live: wait for no more than `every` further pictures; the faces are the same.

    Raises:
        UsageError: `every` is more than 1, but the detector cannot refine.
    """
    refines = isinstance(detector, RefiningDetector)
    if every > 1 and not refines:
        raise UsageError("The detector has no method refine(images, places), so that --every can only be 1.")
    every = (every or DEFAULT_EVERY) if refines else 1
    chunks: Iterable[list[Picture]] = _chunks(pictures, every, live)
    chunks = next_ahead(chunks) if ahead else chunks
    if isinstance(detector, RefiningDetector) and every > 1:
        detected: Iterable[Detected] = _detect_some(chunks, detector, every)
    else:
        detected = _detect_all(chunks, detector)
    for chunk in next_ahead(detected) if ahead else detected:
        yield from chunk


def _detect_all(chunks: Iterable[list[Picture]], detector: FaceDetector) -> Iterator[Detected]:
    for chunk in chunks:
        detections = detector.detect(np.stack([picture.image for picture in chunk]))
        _check(detections, len(chunk), detector)
        yield list(zip(chunk, detections, strict=True))


def _check(detections: list[Detections], n_pictures: int, detector: FaceDetector) -> None:
    """Raise a UsageError if a detector, which may come from anyone, returned something invalid."""
    is_list = isinstance(detections, Sequence) and all(isinstance(one, Detections) for one in detections)
    fits = (
        is_list
        and len(detections) == n_pictures
        and all(
            [np.shape(values) for values in (one.boxes, one.scores, one.landmarks)]
            == [(n, 4), (n,), (n, N_LANDMARKS, 2)]
            and np.isfinite(one.landmarks).all()
            and np.isfinite(one.boxes).all()
            for one in detections
            for n in [len(one.boxes)]
        )
    )
    if not fits:
        raise UsageError(
            f"{type(detector).__name__}.detect must return Detections with finite boxes (k, 4), scores (k,) and "
            f"landmarks (k, {N_LANDMARKS}, 2) for each of the {n_pictures} pictures; it returned something else."
        )


def _detect_some(chunks: Iterable[list[Picture]], detector: RefiningDetector, every: int) -> Iterator[Detected]:
    """Each chunk begins with the last key frame of the chunk before, whose faces have been yielded already."""
    last: tuple[Picture, Detections] | None = None
    for fresh in chunks:
        is_next = last is not None and last[0].image.shape == fresh[0].image.shape
        chunk = _Chunk([last[0], *fresh], last[1]) if last is not None and is_next else _Chunk(fresh)
        keys = _detect_keys(chunk, detector, every)
        detections = _refine_all(chunk, keys, detector)
        yield list(zip(chunk.pictures, detections, strict=True))[int(is_next) :]
        last = chunk.pictures[-1], keys[len(chunk.pictures) - 1]


def _chunks(pictures: Iterable[Picture], every: int, live: bool = False) -> Iterator[list[Picture]]:
    """Lists of pictures of one size; their lengths are multiples of `every`, except for the last ones.

    Args:
        live: cut these lists after each key frame, which are the same then.
    """
    waiting: list[Picture] = []
    shape, n, is_first = (0, 0, 0), 0, True  # n: pictures since the border of a list that is not cut
    for picture in pictures:
        if picture.image.shape != shape:
            if waiting:
                yield waiting
            waiting, shape, n, is_first = [], picture.image.shape, 0, True
        waiting.append(picture)
        n += 1
        is_full = n >= every * max(1, CHUNK_PIXELS // (shape[0] * shape[1] * every))
        # the first list begins with a key frame, others come after one
        is_key = live and (every == 1 or (n > 1 and (n - is_first) % every == 0))
        if is_full or is_key:
            yield waiting
            waiting = []
        if is_full:
            n, is_first = 0, False
    if waiting:
        yield waiting


def _detect_keys(chunk: _Chunk, detector: RefiningDetector, every: int) -> dict[int, Detections]:
    """Faces of the key frames by row: the first row, every n-th, the last, and all between two that disagree."""
    n = len(chunk.pictures)
    keys = {0: chunk.first} if chunk.first is not None else {}
    rows = sorted({*range(0, n, every), n - 1} - set(keys))
    keys |= _detect_rows(chunk, detector, rows)
    unmatched: list[int] = []
    for before, after in pairwise(sorted(keys)):
        n_pairs = len(match(keys[before].boxes, keys[after].boxes, MOST_DISTANCE))
        if not n_pairs == len(keys[before]) == len(keys[after]):
            unmatched += range(before + 1, after)
    return {**keys, **_detect_rows(chunk, detector, unmatched)}


def _detect_rows(chunk: _Chunk, detector: FaceDetector, rows: list[int]) -> dict[int, Detections]:
    return dict(zip(rows, detector.detect(chunk.images(rows)), strict=True)) if rows else {}


def _refine_all(chunk: _Chunk, keys: dict[int, Detections], detector: RefiningDetector) -> list[Detections]:
    """The faces of each row, refined from the boxes that the key frames give."""
    boxes = _interpolated(keys, len(chunk.pictures))
    refined = detector.refine(chunk.images(), boxes)
    lost = [row for row, one in enumerate(refined) if not (one.scores > 0).all()]
    full = {row: keys[row] for row in lost if row in keys}
    full |= _detect_rows(chunk, detector, [row for row in lost if row not in full])
    return [full.get(row, one) for row, one in enumerate(refined)]


def _interpolated(keys: dict[int, Detections], n: int) -> list[NDArray[np.float32]]:
    """Boxes (k, 4) of each of n rows: those of a key frame, or interpolated between two of them."""
    boxes: list[NDArray[np.float32]] = [keys[0].boxes] * n
    for before, after in pairwise(sorted(keys)):
        first, second = keys[before].boxes, keys[after].boxes
        if after > before + 1:
            pairs = np.array(match(first, second, MOST_DISTANCE), dtype=np.int64).reshape(-1, 2)
            for row in range(before + 1, after):
                part = np.float32((row - before) / (after - before))
                boxes[row] = first[pairs[:, 0]] * (1 - part) + second[pairs[:, 1]] * part
        boxes[after] = second
    return boxes
