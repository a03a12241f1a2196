"""Faces of videos: frames a second of `abaw prepare`, against detection in every frame, and how well the two agree.

python -m benchmarks.faces [VIDEO]
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from abaw.core.progress import Silent
from abaw.extract.faces.boxes import overlaps
from abaw.extract.faces.detections import Detections
from abaw.extract.faces.keyframes import DEFAULT_EVERY, detect_pictures
from abaw.extract.faces.mtcnn import Mtcnn
from abaw.extract.faces.prepare import PrepareOptions, prepare_videos
from abaw.media.pictures import read_pictures
from benchmarks.extraction import Places
from benchmarks.measure import Report, Requirement, in_turns

VIDEO = Path(__file__).resolve().parent.parent / "tests" / "data" / "sample" / "videos" / "single_face.mp4"
ROUNDS = 3
METHOD = [
    "One video in the page cache, of one face: single_face.mp4, 640x360, 72 frames, unless another is named.",
    "`abaw prepare` is everything from the file to crops, sound and tables in a new folder, on the processor, loading of "
    "the weights included; the detector alone works on pictures at hand, in batches of 8.",
    f"Following means a full search in every {DEFAULT_EVERY}th frame. Distances of landmarks are in sides of the face "
    "(square roots of the areas of its boxes); trembling is the mean second difference of landmarks over time.",
]


def preparation(video: Path, every: int, places: Places) -> Callable[[], None]:
    """An action for `in_turns`."""

    def run() -> None:
        summary = prepare_videos(PrepareOptions((video,), places.new(), every=every, device="cpu"), Silent())
        assert summary.ok and len(summary.done) == 1, summary

    return run


def compare(full: list[Detections], quick: list[Detections], report: Report) -> None:
    """How far following is from detection in every frame."""
    report.medians["frames with a face, every frame"] = sum(len(one) > 0 for one in full)
    report.medians["frames with a face, following"] = sum(len(one) > 0 for one in quick)
    both = [(a, b) for a, b in zip(full, quick, strict=True) if len(a) and len(b)]
    sides = [np.sqrt(np.prod(a.boxes[0, 2:] - a.boxes[0, :2])) for a, _ in both]
    away = [np.linalg.norm(a.landmarks[0] - b.landmarks[0], axis=1).mean() for a, b in both]
    report.medians["mean overlap of boxes"] = float(np.mean([overlaps(a.boxes[:1], b.boxes[:1]) for a, b in both]))
    report.medians["mean distance of landmarks, sides"] = float(np.mean(np.array(away) / sides))
    for name, number in (("every frame", 0), ("following", 1)):
        points = np.stack([pair[number].landmarks[0] for pair in both])
        trembling = np.linalg.norm(np.diff(points, 2, axis=0), axis=2).mean()
        report.medians[f"trembling, {name}, sides"] = float(trembling / np.mean(sides))


def main() -> None:
    """Measure and print."""
    video = Path(sys.argv[1]) if len(sys.argv) > 1 else VIDEO
    report, detector = Report("faces", METHOD), Mtcnn()
    pictures = list(read_pictures(video))
    images = np.stack([picture.image for picture in pictures])

    def detect() -> None:
        for start in range(0, len(images), 8):
            detector.detect(images[start : start + 8])

    with tempfile.TemporaryDirectory() as folder:
        places = Places(Path(folder))
        actions = {
            "prepare": preparation(video, 0, places),
            "prepare, detection in every frame": preparation(video, 1, places),
            "detector alone": detect,
        }
        timings = in_turns(actions, ROUNDS)
    report.requirements.append(Requirement("prepare, frames/s", len(images) / timings["prepare"].median_s, 15))
    for name, timing in timings.items():
        report.medians[f"{name}, frames/s"] = len(images) / timing.median_s
        report.medians[f"{name}, processor ms a frame"] = timing.median_cpu_s / len(images) * 1000
    full, quick = ([found for _, found in detect_pictures(pictures, detector, every)] for every in (1, 0))
    compare(full, quick, report)
    report.publish()


if __name__ == "__main__":
    main()
