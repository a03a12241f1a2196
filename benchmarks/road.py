"""How long the road from archives to a checked submission takes with hog and ridge, and how large what it leaves is.

python -m benchmarks.road
"""

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.many import write_labels, write_videos
from benchmarks.measure import Report

N_VIDEOS = 12
SMALL, LARGE = 500, 5000  # frames of a video
AFF_WILD2 = 2_960_000  # frames of its 594 videos
METHOD = [
    f"{N_VIDEOS} videos of {SMALL} and of {LARGE} frames: 112x112 JPEG files of noise, which decode more slowly than faces; labels for half of them, no video files.",
    "Each command is a new process; files in the page cache. Processor seconds are those of all threads.",
    f"Computed for the {AFF_WILD2:,} frames of Aff-Wild2 from the straight line through both sizes: processor minutes, of which the clock shows half with two cores that are always busy.",
]
ROAD = {
    "doctor": "doctor",
    "extract": "extract --backbone hog --device cpu",
    "train": "train --task va --head ridge --device cpu",
    "eval": "eval --device cpu",
    "submit": "submit --sample sample.txt --device cpu",
    "check": "check-submission predictions.txt --sample sample.txt",
}


def main() -> None:
    """Measure and print."""
    report = Report("road", METHOD)
    with tempfile.TemporaryDirectory() as folder:
        sizes = {}
        for n_frames in (SMALL, LARGE):
            sizes[n_frames] = Path(folder) / str(n_frames)
            _write_data(sizes[n_frames], n_frames)
        for name, words in ROAD.items():
            small, large = (_time(sizes[n_frames], words) for n_frames in (SMALL, LARGE))
            report.medians[f"{name}, {N_VIDEOS * LARGE:,} frames, processor s"] = large
            report.medians[f"{name}, Aff-Wild2, computed, processor minutes"] = _scaled(small, large) / 60
        small, large = (_size(sizes[n_frames] / "store.zarr") for n_frames in (SMALL, LARGE))
        report.medians["store of hog, Aff-Wild2, computed, GB"] = _scaled(small, large) / 1e9
        report.medians["run, kB"] = _size(sizes[LARGE] / "runs") / 1e3
    report.publish()


def _write_data(root: Path, n_frames: int) -> None:
    """Crops, labels of the first videos, and a sample that asks for every frame of the others."""
    data, rng = write_videos(root, N_VIDEOS, n_frames, 112), np.random.default_rng(0)
    write_labels(data, n_frames)
    labelled = set()
    for file in (data / "VA_Estimation_Challenge").glob("*/*.txt"):
        labelled.add(file.stem)
        rows = "\n".join(f"{a:.3f},{b:.3f}" for a, b in rng.uniform(-1, 1, (n_frames, 2)))
        file.write_text(f"valence,arousal\n{rows}\n")
    others = sorted({path.name for path in (data / "cropped_aligned").iterdir()} - labelled)
    rows = [f"{video}/{frame:05}.jpg,," for video in others for frame in range(1, n_frames + 1)]
    (root / "sample.txt").write_text("\n".join(["image_location,valence,arousal", *rows]) + "\n")


def _time(root: Path, words: str) -> float:
    """Processor seconds of a command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-m", "abaw", *words.split()], cwd=root, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"abaw {words}: {done.stderr[-500:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _scaled(small: float, large: float) -> float:
    """What Aff-Wild2 takes, on the line through both sizes."""
    return small + (large - small) * (AFF_WILD2 - N_VIDEOS * SMALL) / (N_VIDEOS * (LARGE - SMALL))


def _size(folder: Path) -> int:
    return sum((Path(place) / name).stat().st_size for place, _, names in os.walk(folder) for name in names)


if __name__ == "__main__":
    main()
