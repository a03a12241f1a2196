"""Fixtures that the tests share: the tiny demo, its store, small handmade datasets, and the command line."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from click.testing import CliRunner, Result
from PIL import Image

from abaw.cli import main
from abaw.datasets.demo import write_demo
from abaw.pipeline import ExtractOptions, extract

CHECKOUT = Path(__file__).resolve().parent.parent
VARIABLES = ("ABAW_DATA", "ABAW_STORE", "ABAW_RUNS", "ABAW_WEIGHTS")

Frames = int | Iterable[int]  # a number of frames from 1, or the frame numbers themselves


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller's own data, store, runs and weights stay out of the tests."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def tiny_demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data folder of the tiny demo; to be read only."""
    root = tmp_path_factory.mktemp("tiny") / "data"
    write_demo(root, "tiny", workers=1)
    return root


@pytest.fixture(scope="session")
def tiny_store(tiny_demo: Path) -> Path:
    """Store with `hog` and the labels of the tiny demo; to be read only."""
    store = tiny_demo.parent / "store.zarr"
    summary = extract(ExtractOptions(tiny_demo, store, ("hog",), device="cpu"))
    assert summary.ok
    return store


@pytest.fixture
def sample() -> Path:
    """Real faces with their videos: `single_face` (72 of 72 frames) and `face_noface` (72 of 169)."""
    return CHECKOUT / "tests" / "data" / "sample"


@pytest.fixture
def make_crops() -> Callable[..., Path]:
    """Writes real images of noise, `make_crops(folder, frames, seed=0, size=112, suffix=".jpg")`."""

    def make(folder: Path, frames: Frames, seed: int = 0, size: int = 112, suffix: str = ".jpg") -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        numbers = range(1, frames + 1) if isinstance(frames, int) else frames
        for number in numbers:
            coarse = np.random.default_rng([seed, number]).integers(0, 256, (7, 7, 3), dtype=np.uint8)
            picture = np.asarray(Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC))
            file = folder / f"{number:05}{suffix}"
            if suffix == ".png":
                Image.fromarray(picture).save(file)
            else:
                file.write_bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(picture), quality=92))
        return folder

    return make


@pytest.fixture
def make_data(tmp_path: Path, make_crops: Callable[..., Path]) -> Callable[..., Path]:
    """Makes a dataset without labels and video files, `make_data({"a": 5, "b": [2, 7]})` -> its root."""

    def make(videos: Mapping[str, Frames], root: Path | None = None, size: int = 112) -> Path:
        root = root or tmp_path / "data"
        for seed, (name, frames) in enumerate(videos.items()):
            make_crops(root / "cropped_aligned" / name, frames, seed, size)
        return root

    return make


@pytest.fixture
def make_labels() -> Callable[..., Path]:
    """Writes a label file, `make_labels(root, "VA_Estimation_Challenge/Train_Set", "video", "valence,arousal", rows)`."""

    def make(root: Path, folder: str, video: str, *lines: str) -> Path:
        file = root / folder / f"{video}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(lines) + "\n")
        return file

    return make


@pytest.fixture
def run_cli() -> Callable[..., Result]:
    """Runs `abaw ARGS` in this process, `run_cli(*args)`; an error that would be a traceback is raised here."""

    def run(*args: object) -> Result:
        return CliRunner().invoke(main, [str(arg) for arg in args], catch_exceptions=False)

    return run


@pytest.fixture
def run_process() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `abaw ARGS` in a process of its own, `run_process(*args, **options of subprocess.run)`."""

    def run(*args: object, **options: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "abaw", *map(str, args)]
        return subprocess.run(
            command, env=process_environment(), capture_output=True, text=True, timeout=300, **options
        )

    return run


@pytest.fixture
def process_env() -> dict[str, str]:
    """Environment of a process that imports this checkout."""
    return process_environment()


def process_environment() -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key not in VARIABLES}
    return {**kept, "PYTHONPATH": str(CHECKOUT / ".dev"), "COLUMNS": "400"}
