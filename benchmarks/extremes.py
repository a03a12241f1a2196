"""Extreme shapes of data: many videos of one frame, many features, one very long video. Seconds and peak memory.

python -m benchmarks.extremes FOLDER --videos 20000 --features 1000 --rows 1000000

A size of 0 leaves these data out.
Each command runs in a process of its own; seconds are of its processors, with those of the processes that it starts.
"""

import argparse
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from abaw.store import FeatureStore
from benchmarks.many import LABELS, VALIDATION, write_videos

HEADER = LABELS["VA_Estimation_Challenge"][0]
QUICK = ("--head", "ridge", "--run", "r")
Command = tuple[str, ...]


def many_videos(folder: Path, n_videos: int) -> Iterator[Command]:
    """Videos of one frame: crops, labels, and all that is done with them."""
    data = write_videos(folder, n_videos, 1, 112)
    write_labels(data, [path.name for path in sorted((data / "cropped_aligned").iterdir())], 1)
    yield ("doctor", "--data", str(data))
    yield ("extract", "--data", str(data), "--backbone", "hog", "--device", "cpu")
    yield ("extract", "--data", str(data), "--backbone", "hog", "--device", "cpu")  # again: nothing is left to do
    yield from on_store("--set", "window=1", "--set", "stride=1")


def many_features(folder: Path, n_features: int) -> Iterator[Command]:
    """Features of ten videos of 30 frames, imported one by one."""
    store, names = FeatureStore.create(folder / "store.zarr"), [f"v{number}" for number in range(10)]
    values = np.random.default_rng(0).normal(size=(30, 16)).astype(np.float32)
    for number in range(n_features):
        feature = f"f{number}"
        store.add_feature(feature, {"shape": [16], "weights": "none"}, None, f"fingerprint {number}")
        for name in names:
            writer = store.writer(feature, name, 30, np.arange(30), {"fps": 30.0, "source": "made"})
            writer.write(np.arange(30), values)
            writer.finish()
    for number, name in enumerate(names):
        rows = np.random.default_rng(number).uniform(-1, 1, (30, 2)).astype(np.float32)
        store.write_labels("va", name, "train" if number % 2 else "val", rows)
    yield from on_store("--feature", "f7", "--set", "window=30")


def long_video(folder: Path, n_rows: int) -> Iterator[Command]:
    """Two videos of very many rows, in one array each."""
    data, source = folder / "data", folder / "source"
    source.mkdir()
    for name in ("long-1", "long-2"):
        values = np.random.default_rng(0).normal(size=(n_rows, 16)).astype(np.float16)
        np.save(source / f"{name}.npy", values)
    write_labels(data, ["long-1", "long-2"], n_rows, every=2)
    yield ("store", "import", str(source), "--feature", "f", "--data", str(data), "--fps", "30")
    yield ("store", "import", str(source), "--feature", "f", "--data", str(data), "--fps", "30")
    yield from on_store()


def on_store(*options: str) -> Iterator[Command]:
    """What reads a store."""
    yield ("store", "info", "store.zarr")
    yield ("store", "verify", "store.zarr")
    yield ("train", "--task", "va", *options, *QUICK)
    yield (
        "train",
        "--task",
        "va",
        *options,
        "--run",
        "t",
        "--epochs",
        "1",
        "--set",
        "head.dim=16",
        "--set",
        "head.layers=1",
    )
    yield ("eval", "r", "--device", "cpu")
    yield ("report", "r")
    yield ("list", "runs")


def write_labels(data: Path, videos: list[str], n_rows: int, every: int = VALIDATION) -> None:
    """Valence and arousal of each row; every so many videos are of the validation set."""
    rng = np.random.default_rng(0)
    for split in ("Train_Set", "Validation_Set"):
        (data / "VA_Estimation_Challenge" / split).mkdir(parents=True)
    for number, name in enumerate(videos):
        split = "Validation_Set" if number % every == 0 else "Train_Set"
        rows = "\n".join(f"{valence:.3f},{arousal:.3f}" for valence, arousal in rng.uniform(-1, 1, (n_rows, 2)))
        (data / "VA_Estimation_Challenge" / split / f"{name}.txt").write_text(f"{HEADER}\n{rows}\n")


# a small process starts the command: the peak of a child counts from that of the process that starts it
START = (
    "import os, sys; pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ); _, status, usage = os.wait4(pid, 0)"
)
SAY = (
    "print(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1000, os.waitstatus_to_exitcode(status), file=sys.stderr)"
)


def measure(command: Command, folder: Path) -> tuple[float, float, int]:
    """CPU seconds, peak memory in MB, and exit code of `abaw COMMAND` in a folder."""
    starter = [sys.executable, "-S", "-c", f"{START}; {SAY}", sys.executable, "-m", "abaw", *command]
    done = subprocess.run(starter, cwd=folder, capture_output=True, text=True, check=True)
    with (folder / "log.txt").open("a") as log:
        log.write(done.stdout + done.stderr)
    cpu_s, peak_mb, code = done.stderr.splitlines()[-1].split()
    return float(cpu_s), float(peak_mb), int(code)


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.extremes", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="empty or new; it is not deleted")
    parser.add_argument("--videos", type=int, default=20_000)
    parser.add_argument("--features", type=int, default=1000)
    parser.add_argument("--rows", type=int, default=1_000_000)
    arguments = parser.parse_args()
    shapes: dict[str, tuple[int, Callable[[Path, int], Iterator[Command]]]] = {
        f"{arguments.videos:,} videos of one frame": (arguments.videos, many_videos),
        f"{arguments.features:,} features": (arguments.features, many_features),
        f"two videos of {arguments.rows:,} rows": (arguments.rows, long_video),
    }
    print("| data | command | CPU s | peak MB | exit code |\n| --- | --- | ---: | ---: | ---: |")
    for number, (name, (size, commands)) in enumerate(shapes.items()):
        if not size:
            continue
        folder = arguments.folder.resolve() / str(number)
        folder.mkdir(parents=True)
        for command in commands(folder, size):
            cpu_s, peak_mb, code = measure(command, folder)
            shown = " ".join(word.replace(f"{folder}/", "") for word in command)
            print(f"| {name} | `{shown}` | {cpu_s:.1f} | {peak_mb:,.0f} | {code} |", flush=True)


if __name__ == "__main__":
    main()
