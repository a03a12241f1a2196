"""Aligning the faces of still images once, like those of videos, into a folder next to their set."""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from os import cpu_count

import numpy as np
import simplejpeg
import torch
from numpy.typing import NDArray
from torch.nn import functional

from abaw.core.claim_files import check_claims, claimed
from abaw.core.errors import DataError
from abaw.core.files import writing
from abaw.core.progress import Reporter
from abaw.core.read_ahead import map_ahead
from abaw.datasets.stills.aligned_stills import FACE, NO_FACE, UNREADABLE, AlignedStills
from abaw.datasets.stills.still_files import read_numbers
from abaw.datasets.stills.still_images import read_still
from abaw.datasets.stills.still_set import Still, StillSet, five_of
from abaw.extract.faces.alignment import align
from abaw.extract.faces.detections import FaceDetector
from abaw.extract.faces.layout import JPEG_QUALITY

BATCH = 32  # images that are looked at together
SEARCHED_PX, BORDER_PX = 224, 48  # images are searched at this size, with a border: many are cropped closely
LEAST_SPREAD_PX = 2.0  # of landmarks; others are not of a face
N_COORDINATES = 136  # of 68 landmarks


def align_stills(found: StillSet, make_detector: Callable[[], FaceDetector], reporter: Reporter) -> None:
    """Align the images of a set that are not aligned yet: by the landmarks of the set, or those of the largest face in it.

    Images without a face, and those that cannot be read, are noted as such.

    Args:
        make_detector: called once an image has no landmarks.

    Raises:
        BusyError: another process is aligning the set.
        DataError: the folder next to the set cannot be written to.
    """
    aligned = AlignedStills(found.root)
    missing = aligned.missing(found.stills)
    if not missing:
        return
    aligned.make_folder()
    with claimed(aligned.folder):
        reporter.start(f"align {found.root.name} (once)", len(missing), "images")
        detectors: list[FaceDetector] = []
        read = map_ahead(lambda still: (still, _read(found, still)), missing, cpu_count() or 1)
        while batch := list(islice(read, BATCH)):
            if not detectors and any(image is not None and points is None for _, (image, points) in batch):
                detectors.append(make_detector())
            aligned.add(list(_align(aligned, batch, detectors)))
            reporter.advance(len(batch))
        reporter.finish()


_Read = tuple[NDArray[np.uint8] | None, NDArray[np.float64] | None]


def _read(found: StillSet, still: Still) -> _Read:
    """An image and its five landmarks; None for one that cannot be read, and for landmarks that are not known."""
    try:
        image = read_still(found.root, still)
        if still.landmark_file:
            numbers = read_numbers(found.root / still.landmark_file)
            landmarks = five_of(numbers.tolist()) if len(numbers) == N_COORDINATES else ()
        else:
            landmarks = still.landmarks
    except DataError:
        return None, None
    points = np.array(landmarks, dtype=np.float64).reshape(-1, 2)
    is_face = len(points) and np.isfinite(points).all() and np.ptp(points, axis=0).min() > LEAST_SPREAD_PX
    return image, points if is_face else None


def _align(
    aligned: AlignedStills, batch: Sequence[tuple[Still, _Read]], detectors: Sequence[FaceDetector]
) -> Iterator[tuple[Still, str]]:
    """Write the faces of some images; what was seen in each."""
    searched = [image for _, (image, points) in batch if image is not None and points is None]
    detected = iter(_find(searched, detectors[0]) if searched else [])
    for still, (image, points) in batch:
        check_claims()
        if image is None:
            yield still, UNREADABLE
            continue
        landmarks = points if points is not None else next(detected)
        if landmarks is None:
            yield still, NO_FACE
            continue
        jpeg = simplejpeg.encode_jpeg(align(image, landmarks), quality=JPEG_QUALITY)
        file = aligned.file_of(still)
        file.parent.mkdir(parents=True, exist_ok=True)
        with writing(file) as partial:
            partial.write_bytes(jpeg)
        yield still, FACE


def _find(images: Sequence[NDArray[np.uint8]], detector: FaceDetector) -> list[NDArray[np.float64] | None]:
    """Landmarks of the largest face of each image, in its pixels; None without a face."""
    found: list[NDArray[np.float64] | None] = []
    scaled = [_on_canvas(image) for image in images]
    for (_, scale), faces in zip(scaled, detector.detect(np.stack([picture for picture, _ in scaled])), strict=True):
        if not len(faces):
            found.append(None)
            continue
        sizes = (faces.boxes[:, 2:] - faces.boxes[:, :2]).prod(axis=1)
        points = faces.landmarks[int(sizes.argmax())].astype(np.float64)
        found.append((points - BORDER_PX + 0.5) / scale - 0.5)
    return found


def _on_canvas(image: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], float]:
    """An image of the size that is searched, in the upper left corner within the border, and its scale."""
    height, width = image.shape[:2]
    scale = SEARCHED_PX / max(height, width)
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    pixels = torch.tensor(image.transpose(2, 0, 1), dtype=torch.float32)[None]
    small = functional.interpolate(pixels, size, mode="bilinear", antialias=True)[0].round().clamp(0, 255)
    side = SEARCHED_PX + 2 * BORDER_PX
    canvas = np.zeros((side, side, 3), dtype=np.uint8)
    shown = small.to(torch.uint8).permute(1, 2, 0).numpy()
    canvas[BORDER_PX : BORDER_PX + size[0], BORDER_PX : BORDER_PX + size[1]] = shown
    return canvas, scale
