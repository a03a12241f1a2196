"""Detection in a video: in full in every n-th frame, and in each frame once more around the places found there.

Places between two key frames lie on straight lines between the faces of the two. All frames, key frames too, get their
boxes and landmarks from that second look: its input moves smoothly, so that landmarks tremble some 40 % less than those
of full detection frame by frame. Where the faces of two key frames are not the same ones, or one is not found again at its
place, the frames are detected in full.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from abaw.core.errors import UsageError
from abaw.extract.faces.boxes import match
from abaw.extract.faces.detections import N_LANDMARKS, Detections, FaceDetector, RefiningDetector
from abaw.media.pictures import Picture

DEFAULT_EVERY = 4  # at 25 fps a face cannot move far in so many frames
CHUNK_PIXELS = 2**23  # of pictures held at once: 25 MB
MOST_DISTANCE = 0.5  # of a face between two key frames, in its sides


@dataclass
class _Chunk:
    """Neighbouring pictures of one size; `first` are the faces of the first one, if it was a key frame before."""

    pictures: list[Picture]
    first: Detections | None = None

    def images(self, rows: list[int] | None = None) -> NDArray[np.uint8]:
        chosen = self.pictures if rows is None else [self.pictures[row] for row in rows]
        return np.stack([picture.image for picture in chosen])


def detect_pictures(
    pictures: Iterable[Picture], detector: FaceDetector, every: int = 0
) -> Iterator[tuple[Picture, Detections]]:
    """The faces of each picture of a video, in order. A bounded number of pictures is held at once.

    Args:
        detector: one that cannot refine detects in full in every picture.
        every: detect in full in every so many pictures; 0 takes 4, or 1 if the detector cannot refine.

    Raises:
        UsageError: `every` is more than 1, but the detector cannot refine.
    """
    if not isinstance(detector, RefiningDetector):
        if every > 1:
            raise UsageError("The detector has no method refine(images, places), so that --every can only be 1.")
        yield from _detect_all(pictures, detector)
    elif every == 1:
        yield from _detect_all(pictures, detector)
    else:
        yield from _detect_some(pictures, detector, every or DEFAULT_EVERY)


def _detect_all(pictures: Iterable[Picture], detector: FaceDetector) -> Iterator[tuple[Picture, Detections]]:
    for chunk in _chunks(pictures, 1):
        found = detector.detect(np.stack([picture.image for picture in chunk]))
        _check(found, len(chunk), detector)
        yield from zip(chunk, found, strict=True)


def _check(found: list[Detections], n_pictures: int, detector: FaceDetector) -> None:
    """Other people's detectors are not always what they should be."""
    fits = len(found) == n_pictures and all(
        [np.shape(values) for values in (one.boxes, one.scores, one.landmarks)] == [(n, 4), (n,), (n, N_LANDMARKS, 2)]
        and np.isfinite(one.landmarks).all()
        and np.isfinite(one.boxes).all()
        for one in found
        for n in [len(one.boxes)]
    )
    if not fits:
        raise UsageError(
            f"{type(detector).__name__}.detect has to give Detections with finite boxes (k, 4), scores (k,) and "
            f"landmarks (k, {N_LANDMARKS}, 2) for each of the {n_pictures} pictures; it gave something else."
        )


def _detect_some(
    pictures: Iterable[Picture], detector: RefiningDetector, every: int
) -> Iterator[tuple[Picture, Detections]]:
    """Each chunk begins with the last key frame of the one before, whose own faces were given out already."""
    last: tuple[Picture, Detections] | None = None
    for fresh in _chunks(pictures, every):
        is_next = last is not None and last[0].image.shape == fresh[0].image.shape
        chunk = _Chunk([last[0], *fresh], last[1]) if last is not None and is_next else _Chunk(fresh)
        keys = _detect_keys(chunk, detector, every)
        found = _refine_all(chunk, keys, detector)
        yield from list(zip(chunk.pictures, found, strict=True))[int(is_next) :]
        last = chunk.pictures[-1], keys[len(chunk.pictures) - 1]


def _chunks(pictures: Iterable[Picture], every: int) -> Iterator[list[Picture]]:
    """Lists of pictures of one size, a multiple of `every` long but for the last ones."""
    waiting: list[Picture] = []
    for picture in pictures:
        if waiting and waiting[0].image.shape != picture.image.shape:
            yield waiting
            waiting = []
        waiting.append(picture)
        n_pixels = picture.image.shape[0] * picture.image.shape[1]
        if len(waiting) >= every * max(1, CHUNK_PIXELS // (n_pixels * every)):
            yield waiting
            waiting = []
    if waiting:
        yield waiting


def _detect_keys(chunk: _Chunk, detector: RefiningDetector, every: int) -> dict[int, Detections]:
    """Faces by row of the key frames: the first row, every n-th, the last, and all between two that do not agree."""
    n = len(chunk.pictures)
    keys = {0: chunk.first} if chunk.first is not None else {}
    rows = sorted({*range(0, n, every), n - 1} - set(keys))
    found = {**keys, **_detect_rows(chunk, detector, rows)}
    uneven: list[int] = []
    ordered = sorted(found)
    for before, after in pairwise(ordered):
        n_pairs = len(match(found[before].boxes, found[after].boxes, MOST_DISTANCE))
        if not n_pairs == len(found[before]) == len(found[after]):
            uneven += range(before + 1, after)
    return {**found, **_detect_rows(chunk, detector, uneven)}


def _detect_rows(chunk: _Chunk, detector: FaceDetector, rows: list[int]) -> dict[int, Detections]:
    return dict(zip(rows, detector.detect(chunk.images(rows)), strict=True)) if rows else {}


def _refine_all(chunk: _Chunk, keys: dict[int, Detections], detector: RefiningDetector) -> list[Detections]:
    """The faces of each row, by a look at the places that the key frames give."""
    places = _places(keys, len(chunk.pictures))
    found = detector.refine(chunk.images(), places)
    lost = [row for row, one in enumerate(found) if not (one.scores > 0).all()]
    full = {row: keys[row] for row in lost if row in keys}
    full |= _detect_rows(chunk, detector, [row for row in lost if row not in full])
    return [full.get(row, one) for row, one in enumerate(found)]


def _places(keys: dict[int, Detections], n: int) -> list[NDArray[np.float32]]:
    """Boxes (k, 4) of each of n rows: those of a key frame, or on the lines between two of them."""
    places: list[NDArray[np.float32]] = [keys[0].boxes] * n
    ordered = sorted(keys)
    for before, after in pairwise(ordered):
        first, second = keys[before].boxes, keys[after].boxes
        if after > before + 1:
            pairs = np.array(match(first, second, MOST_DISTANCE), dtype=np.int64).reshape(-1, 2)
            for row in range(before + 1, after):
                part = np.float32((row - before) / (after - before))
                places[row] = first[pairs[:, 0]] * (1 - part) + second[pairs[:, 1]] * part
        places[after] = second
    return places
