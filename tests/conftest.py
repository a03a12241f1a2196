"""Fixtures that the tests share: the tiny demo, its store, small handmade datasets, and the command line."""

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import simplejpeg
import torch
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, settings
from PIL import Image

from abaw import pipeline
from abaw.cli import main
from abaw.core.progress import Reporter
from abaw.datasets.demo import write_demo
from abaw.pipeline import ExtractOptions, extract
from abaw.store import FeatureStore
from abaw.tests.support.paths import CHECKOUT
from abaw.train.checkpoint import load_tensors
from abaw.train.config import TrainConfig, make_config
from abaw.train.loop import TrainingResult
from abaw.train.new_run import start_run
from abaw.train.runs import Run

if "PYTEST_XDIST_WORKER" in os.environ:  # a core each; their threads would wait for each other
    torch.set_num_threads(1)
    os.environ.setdefault("OMP_NUM_THREADS", "1")

CACHE = tempfile.TemporaryDirectory(prefix="abaw-cache-")  # of this process, and of those that it starts
os.environ["ABAW_CACHE"] = CACHE.name

settings.register_profile("abaw", deadline=None, suppress_health_check=[HealthCheck.too_slow])  # machines may be busy
settings.load_profile("abaw")

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


@pytest.fixture(scope="session")
def slow_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data folder of 20 videos whose images are so large that one process needs seconds for them; to be read only."""
    root = tmp_path_factory.mktemp("slow") / "data"
    rng = np.random.default_rng(0)
    images = []
    for number in range(10):
        coarse = Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8))
        picture = np.asarray(coarse.resize((1200, 1200), Image.Resampling.BICUBIC))
        images.append(root.parent / f"{number}.jpg")
        images[-1].write_bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(picture), quality=90))
    for video in range(20):
        folder = root / "cropped_aligned" / f"video-{video:02}"
        folder.mkdir(parents=True)
        for frame in set(range(1, 22)) - {1 + video}:
            (folder / f"{frame:05}.jpg").hardlink_to(images[(frame + 3 * video) % 10])
    return root


@pytest.fixture(scope="session")
def slow_store(slow_data: Path) -> Path:
    """Store with `hog` of the slow data, from an undisturbed run of one process; to be read only."""
    store = slow_data.parent / "store.zarr"
    assert extract(ExtractOptions(slow_data, store, ("hog",), device="cpu")).ok
    return store


class SmallDisk:
    """A file system in memory of its own, `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        self._mount("-t", "tmpfs", "-o", "size=1m", "tmpfs")

    def remount(self, options: str) -> None:
        """Change it, as to `size=20m` or to `ro`."""
        self._mount("-o", f"remount,{options}")

    def _mount(self, *options: str) -> None:
        subprocess.run(["mount", *options, str(self.path)], check=True, capture_output=True)

    def unmount(self) -> None:
        """Take it away, whoever still uses it."""
        subprocess.run(["umount", "--lazy", str(self.path)], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A disk of 1 MB: some of the slow data's videos, but not all."""
    try:
        disk = SmallDisk(tmp_path / "disk")
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a disk cannot be mounted here ({error})")
    yield disk
    disk.unmount()


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


@pytest.fixture(scope="session")
def process_env() -> dict[str, str]:
    """Environment of a process that imports this checkout."""
    return process_environment()


def process_environment() -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key not in VARIABLES}
    return {**kept, "PYTHONPATH": str(CHECKOUT / ".dev"), "COLUMNS": "400"}


class NumberedVideos:
    """Writes real video files whose pictures show their number from 0 in eight patches, black or white, from the left."""

    def write(
        self,
        file: Path,
        n_frames: int = 10,
        rate: int = 30,
        size: tuple[int, int] = (128, 64),
        times_ms: Iterable[int] | None = None,
        sound: np.ndarray | None = None,
        rotation: int = 0,
        codec: str = "libx264",
        pictures: Iterable[np.ndarray] | None = None,
    ) -> Path:
        """Write a file; its container is that of its suffix.

        Args:
            times_ms: of each frame; else they follow at `rate`.
            sound: (samples,) float32 at 16 kHz.
            pictures: shown instead of numbers.
        """
        file.parent.mkdir(parents=True, exist_ok=True)
        times = list(times_ms) if times_ms is not None else range(n_frames)
        base = Fraction(1, 1000) if times_ms is not None else Fraction(1, rate)
        shown = list(pictures) if pictures is not None else [self.picture(n, size) for n in range(len(times))]
        with av.open(str(file), "w", options={"movflags": "faststart"} if file.suffix == ".mp4" else {}) as container:
            stream = container.add_stream(codec, rate=rate, options={"crf": "12", "g": "10"})
            stream.height, stream.width, stream.pix_fmt = (*shown[0].shape[:2], "yuv420p")
            stream.time_base = stream.codec_context.time_base = base
            if rotation:
                stream.set_display_rotation(rotation)
            voice = container.add_stream("aac", rate=16000, layout="mono") if sound is not None else None
            for picture, time in zip(shown, times, strict=True):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = time, base
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
            if voice is not None and sound is not None:
                frame = av.AudioFrame.from_ndarray(sound[None].astype(np.float32), "fltp", "mono")
                frame.sample_rate, frame.pts, frame.time_base = 16000, 0, Fraction(1, 16000)
                container.mux(voice.encode(frame))
                container.mux(voice.encode(None))
        return file

    def picture(self, number: int, size: tuple[int, int] = (128, 64)) -> np.ndarray:
        """(height, width, 3) uint8 that shows a number up to 255."""
        width, height = size
        bits = [255 * (number >> bit & 1) for bit in range(8)]
        row = np.repeat(np.array(bits, dtype=np.uint8), -(-width // 8))[:width]
        return np.broadcast_to(row[None, :, None], (height, width, 3)).copy()

    def number(self, image: np.ndarray) -> int:
        """The number that a decoded picture shows."""
        width = image.shape[1]
        middles = [image[image.shape[0] // 2, round(width * (bit + 0.5) / 8), 1] > 128 for bit in range(8)]
        return sum(1 << bit for bit, is_set in enumerate(middles) if is_set)


@pytest.fixture(scope="session")
def numbered() -> NumberedVideos:
    """Writes and reads video files whose pictures show their number."""
    return NumberedVideos()


@pytest.fixture(scope="session")
def make_store() -> Callable[..., FeatureStore]:
    """Makes a store with features but no videos, `make_store(path, {"f": (2,)}, audio=("f",))`."""

    def make(path: Path, shapes: Mapping[str, tuple[int, ...]], audio: Iterable[str] = ()) -> FeatureStore:
        store = FeatureStore.create(path)
        for feature, shape in shapes.items():
            spec = {"shape": list(shape), "modality": "audio" if feature in audio else "vision", "weights": "none"}
            store.add_feature(feature, spec, None, f"fingerprint of {feature}")
        return store

    return make


@pytest.fixture(scope="session")
def put_feature() -> Callable[..., None]:
    """Writes a video, `put_feature(store, "f", "video", values, present=None)`, values (frames, *shape)."""

    def put(
        store: FeatureStore, feature: str, video: str, values: np.ndarray, present: Iterable[bool] | None = None
    ) -> None:
        rows = np.arange(len(values)) if present is None else np.flatnonzero(np.array(list(present)))
        writer = store.writer(feature, video, len(values), rows, {"fps": 25.0, "source": "test"})
        writer.write(rows, np.asarray(values)[rows].astype(np.float32))
        writer.finish()

    return put


class Lab:
    """Small trainings on labels that are linear in their feature."""

    n_frames, width = 120, 16
    settings = (
        *("head.dim=16", "head.layers=1", "head.heads=2", "head.feedforward=32"),
        *("window=30", "batch_size=8", "lr=0.01", "epochs=5"),
    )

    def make_store(
        self, path: Path, tasks: Iterable[str] = ("va", "expr", "au"), fingerprint: str = "a" * 64
    ) -> FeatureStore:
        """Four training and two validation videos; `g` is `f` of another name, and `f@hflip` nearly `f`."""
        rng = np.random.default_rng(0)
        to_va, to_expr, to_au = (rng.normal(size=(self.width, n)) for n in (2, 8, 12))
        store, rows = FeatureStore.create(path), np.arange(self.n_frames)
        for feature in ("f", "g", "f@hflip"):
            store.add_feature(feature, {"shape": [self.width], "weights": "none"}, None, fingerprint)
        for i in range(6):
            x = rng.normal(size=(self.n_frames, self.width)).astype(np.float32)
            noise = np.random.default_rng(i).normal(0, 0.1, x.shape).astype(np.float32)
            for feature, values in (("f", x), ("g", x), ("f@hflip", x + noise)):
                writer = store.writer(feature, f"v{i}", self.n_frames, rows, {"fps": 30.0, "source": "test"})
                writer.write(rows, values)
                writer.finish()
            labels = {
                "va": np.clip(x @ to_va / 8, -1, 1).astype(np.float32),
                "expr": (x @ to_expr).argmax(1)[:, None].astype(np.int8),
                "au": (x @ to_au > 0).astype(np.int8),
            }
            for task in tasks:
                store.write_labels(task, f"v{i}", "train" if i < 4 else "val", labels[task])
        return store

    def config(self, task: str = "va", *settings: str, head: str = "transformer") -> TrainConfig:
        """A small head on `f`, five epochs."""
        kept = [setting for setting in self.settings if head == "transformer" or not setting.startswith("head.")]
        return make_config({"task": task, "features": ("f",), "head": {"name": head}}, [*kept, *settings])

    def start(self, store: FeatureStore, runs: Path, config: TrainConfig | None = None, name: str | None = None) -> Run:
        """A new run's folder."""
        return start_run(config or self.config(), store, runs, name)

    def train(self, run: Run, store: FeatureStore, reporter: Reporter | None = None) -> TrainingResult:
        """Train a run on the CPU from where it stands."""
        with single_thread():
            return pipeline.train(run, store, device="cpu", reporter=reporter)

    def metrics(self, folder: Path) -> list[dict[str, float]]:
        """The lines of `metrics.jsonl`."""
        return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]

    def tensors(self, path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
        """Tensors and metadata of a checkpoint."""
        return load_tensors(path)

    def assert_same(self, folder: Path, wanted: Path) -> None:
        """Weights, optimizer, progress and metrics are equal to the last bit; only the clock may differ."""
        for name in ("best.safetensors", "last.safetensors"):
            (found, found_metadata), (expected, metadata) = self.tensors(folder / name), self.tensors(wanted / name)
            assert found_metadata == metadata, name
            assert found.keys() == expected.keys()
            assert [key for key in expected if not torch.equal(found[key], expected[key])] == []
        clock = {"seconds", "waiting_share"}
        found_rows, rows = (
            [{key: value for key, value in row.items() if key not in clock} for row in self.metrics(place)]
            for place in (folder, wanted)
        )
        assert found_rows == rows

    def refused(self, result: Result, exit_code: int, *words: str) -> None:
        """The command ended on purpose with one sentence that has these words."""
        assert result.exit_code == exit_code, result.output
        last = result.output.strip().splitlines()[-1]
        assert last.startswith("Error: ")
        assert [word for word in words if word not in last] == [], last


@pytest.fixture(scope="session")
def lab() -> Lab:
    """Small trainings: configs, stores, and what runs leave behind."""
    return Lab()


@pytest.fixture(scope="session")
def linear_store(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    """The store of `lab`; to be read only."""
    return lab.make_store(tmp_path_factory.mktemp("linear") / "store.zarr")


@pytest.fixture(scope="session")
def whole_run(lab: Lab, linear_store: FeatureStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of five epochs that nothing interrupted; to be read only."""
    run = lab.start(linear_store, tmp_path_factory.mktemp("whole"))
    lab.train(run, linear_store)
    return run.folder


@contextmanager
def single_thread() -> Iterator[None]:
    """Networks this small wait for their threads much longer than they compute, most of all on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """The test computes in one thread."""
    with single_thread():
        yield


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--hostile-cases N` runs so many new cases of hostile input instead of the usual 1,000 that are always the same."""
    parser.addoption("--hostile-cases", type=int, default=0, metavar="N", help="cases of hostile input")


# Put into the Python of each process: whoever opens such an image dies of it, and leaves a letter that says so, or hangs.
SITE_OF_THE_DEADLY = """
import os, sys, time

def die(event, arguments):
    if event == "open" and str(arguments[0]).endswith(os.environ["DEADLY"]):
        while os.environ["ENDING"] == "hang":
            time.sleep(1)
        letter = f"{arguments[0]} {os.getpid()}\\n".encode()
        os.write(os.open(os.environ["LETTERS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT), letter)
        os._exit(1)

sys.addaudithook(die)
"""


@pytest.fixture
def deadly(process_env: dict[str, str], tmp_path: Path) -> Callable[..., dict[str, str]]:
    """Makes an environment whose processes die, or hang, when they open such a file, `deadly(ending)`; see `letters`."""

    def deadly(ending: str, hang: bool = False) -> dict[str, str]:
        (tmp_path / "sitecustomize.py").write_text(SITE_OF_THE_DEADLY)
        python = os.pathsep.join([str(tmp_path), process_env["PYTHONPATH"]])
        how = "hang" if hang else "die"
        return {"PYTHONPATH": python, "DEADLY": ending, "ENDING": how, "LETTERS": str(tmp_path / "letters")}

    return deadly


@pytest.fixture
def letters(tmp_path: Path) -> Callable[[], Counter[str]]:
    """How many workers each video has killed; one that decodes in several threads may leave several letters."""

    def letters() -> Counter[str]:
        lines = [line.split() for line in (tmp_path / "letters").read_text().splitlines()]
        return Counter(video for video, _ in {(Path(image).parent.name, process) for image, process in lines})

    return letters
