"""Import of features that people already have: peak memory and rate, for some data and ten times as much.

python -m benchmarks.importing
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from abaw.exchange.importer import ImportOptions, import_features
from benchmarks.measure import Report, Requirement, in_turns, peak_kib
from benchmarks.tables import random_values

WIDTH = 64
SMALL, LARGE = 100_000, 1_000_000  # frames of one video, in one file
FEW_FILES, MANY_FILES = 10_000, 100_000  # frames of one video, in a file each
LIMIT_MB = 100
METHOD = [
    f"One video of {WIDTH} float16 values a frame; each import in a process of its own, into a new store, files in the "
    "page cache.",
    "Memory is the peak as the kernel counts it (VmHWM), PyTorch and mapped pages of files included; the rate is of the "
    "whole import but for the start of Python.",
]


def write_array(place: Path, n_frames: int) -> None:
    """An array with a table of video and frame."""
    np.save(place / "features.npy", random_values(n_frames, WIDTH))
    with (place / "features.csv").open("w") as stream:
        stream.write("video,frame\n")
        stream.writelines(f"a,{number}\n" for number in range(1, n_frames + 1))


def write_archive(place: Path, n_frames: int) -> None:
    """One .npz."""
    np.savez(place / "a.npz", values=random_values(n_frames, WIDTH))


def write_compressed(place: Path, n_frames: int) -> None:
    """One .npz that is compressed."""
    np.savez_compressed(place / "a.npz", values=random_values(n_frames, WIDTH))


def write_hdf5(place: Path, n_frames: int) -> None:
    """One HDF5 file."""
    with h5py.File(place / "a.h5", "w") as file:
        file["values"] = random_values(n_frames, WIDTH)


def write_frames(place: Path, n_frames: int) -> None:
    """One .npy per frame, each (1, width)."""
    (place / "a").mkdir()
    for number, values in enumerate(random_values(n_frames, WIDTH), start=1):
        np.save(place / "a" / f"{number:05}.npy", values[None])


CASES: dict[str, tuple[Callable[[Path, int], None], int, int]] = {
    "an array with a table": (write_array, SMALL, LARGE),
    "one .npz": (write_archive, SMALL, LARGE),
    "one compressed .npz": (write_compressed, SMALL, LARGE),
    "one .h5": (write_hdf5, SMALL, LARGE),
    "one .npy per frame": (write_frames, FEW_FILES, MANY_FILES),
}


def main() -> None:
    """Measure and print; with arguments, be one of the processes that are measured."""
    if len(sys.argv) > 1:
        _import(Path(sys.argv[1]))
        return
    report = Report("importing", METHOD)
    for layout, (write, small, large) in CASES.items():
        measured = [_measure(write, n_frames) for n_frames in (small, large)]
        growth_mb = measured[1]["peak_mb"] - measured[0]["peak_mb"]
        text = f"peak memory of {layout}, {large:,} frames over {small:,}"
        report.requirements.append(Requirement(text, growth_mb, LIMIT_MB, "MB", at_least=False))
        for n_frames, found in zip((small, large), measured, strict=True):
            report.medians[f"{layout}, {n_frames:,} frames, MB"] = found["peak_mb"]
            report.medians[f"{layout}, {n_frames:,} frames, frames/s"] = n_frames / found["seconds"]
    report.publish()


def _measure(write: Callable[[Path, int], None], n_frames: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "source"
        place.mkdir()
        write(place, n_frames)
        command = [sys.executable, "-m", "benchmarks.importing", str(place)]
        return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def _import(source: Path) -> None:
    options = ImportOptions(source, source.parent / "store.zarr", "imported", fps=30)

    def run() -> None:
        assert import_features(options).ok

    timing = in_turns({"import": run}, rounds=1, n_warmups=0)["import"]
    print(json.dumps({"peak_mb": peak_kib() / 1000, "seconds": timing.median_s}))


if __name__ == "__main__":
    main()
