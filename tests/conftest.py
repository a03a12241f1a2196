"""Fixtures that the tests share: the tiny demo, its store, small handmade datasets, and the command line."""

import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, settings
from threadpoolctl import threadpool_limits

from abaw.cli import main
from abaw.datasets.demo import write_demo
from abaw.pipeline import ExtractOptions, extract
from abaw.store import FeatureStore
from abaw.tests.support.command_line import VARIABLES, process_environment
from abaw.tests.support.deadly_images import count_deaths, deadly_environment
from abaw.tests.support.disks import SmallDisk
from abaw.tests.support.images import Frames, write_crops, write_data, write_slow_data
from abaw.tests.support.paths import DATA
from abaw.tests.support.shared_folders import made_once
from abaw.tests.support.trainings import Lab, single_thread
from abaw.tests.support.videos import NumberedVideos

# without compiled modules each of the hundred processes that the tests start takes seconds longer
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# whatever the processor: features in float32 unless a test asks for others
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE")

# the slowest first, by their share of the whole: no core waits at the end for one that has just begun with them. Between
# files that mostly wait for other processes are some that compute
SLOW_FILES = (
    *("fuzz/test_matrices.py", "extract/test_faults_own_cluster.py", "train/test_finetune_reference.py"),
    *("fuzz/test_hostile.py", "extract/test_faults_cluster.py", "backbones/test_audio_encoders.py"),
    *("backbones/test_backbones.py", "train/test_resume.py", "backbones/test_weights.py", "extract/test_driver.py"),
    *("train/test_distributed.py", "train/test_options_matter.py", "store/test_s3.py", "extract/test_audio_extract.py"),
    *("exchange/test_import.py", "train/test_recipes.py", "extract/test_faults.py", "evaluate/test_ensemble.py"),
    *("extract/test_local_workers.py", "evaluate/test_evaluation.py", "evaluate/test_report.py"),
    *("extract/test_cluster.py", "extract/test_extract_interrupted.py", "evaluate/test_raw_ensemble.py"),
)


def pytest_configure(config: pytest.Config) -> None:
    """Give each process a cache and few threads, and deal out files in the order of the tests, not by their number of tests."""
    config.option.loadscopereorder = False  # of pytest-xdist
    cache = tempfile.TemporaryDirectory(prefix="abaw-cache-")  # of this process, and of those that it starts
    config.add_cleanup(cache.cleanup)
    os.environ["ABAW_CACHE"] = cache.name
    if "PYTEST_XDIST_WORKER" in os.environ:  # a core each; their threads would wait for each other
        torch.set_num_threads(1)
        threadpool_limits(1)  # numpy has read the environment
        os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config, specs: list[Any]) -> None:
    """The workers of pytest-xdist are copies of this process."""
    from abaw.tests.support.forked_workers import fork_workers  # needs pytest-xdist

    fork_workers(config, specs)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Several processes begin with the slowest files."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        ranks = {DATA.parent / file: rank for rank, file in enumerate(SLOW_FILES)}
        items.sort(key=lambda item: ranks.get(item.path, len(ranks)))


settings.register_profile("abaw", deadline=None, suppress_health_check=[HealthCheck.too_slow])  # machines may be busy
settings.load_profile("abaw")


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller's own data, store, runs, weights and width of the terminal stay out of the tests."""
    for name in (*VARIABLES, "COLUMNS"):  # COLUMNS: set in the workers of pytest-xdist
        monkeypatch.delenv(name, raising=False)


def extract_hog(data: Path, store: Path) -> None:
    """Write a store of all videos, by an undisturbed run of one process."""
    assert extract(ExtractOptions(data, store, ("hog",), device="cpu")).ok


@pytest.fixture(scope="session")
def tiny_demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data folder of the tiny demo; to be read only."""
    return made_once(tmp_path_factory, "tiny", lambda root: write_demo(root, "tiny", workers=1))


@pytest.fixture(scope="session")
def tiny_store(tiny_demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Store with `hog` and the labels of the tiny demo; to be read only."""
    return made_once(tmp_path_factory, "tiny.zarr", lambda store: extract_hog(tiny_demo, store))


@pytest.fixture(scope="session")
def slow_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data folder of 20 videos whose images are so large that one process needs seconds for them; to be read only."""
    return made_once(tmp_path_factory, "slow", write_slow_data)


@pytest.fixture(scope="session")
def slow_store(slow_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Store with `hog` of the slow data, from an undisturbed run of one process; to be read only."""
    return made_once(tmp_path_factory, "slow.zarr", lambda store: extract_hog(slow_data, store))


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
    return DATA / "sample"


@pytest.fixture
def make_crops() -> Callable[..., Path]:
    """Writes real images of noise, `make_crops(folder, frames, seed=0, size=112, suffix=".jpg")`."""
    return write_crops


@pytest.fixture
def make_data(tmp_path: Path) -> Callable[..., Path]:
    """Makes a dataset without labels and video files, `make_data({"a": 5, "b": [2, 7]})` -> its root."""

    def make(videos: Mapping[str, Frames], root: Path | None = None, size: int = 112) -> Path:
        return write_data(root or tmp_path / "data", videos, size)

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


@pytest.fixture(scope="session")
def numbered() -> NumberedVideos:
    """Writes and reads video files whose pictures show their number."""
    return NumberedVideos()


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


@pytest.fixture
def one_thread() -> Iterator[None]:
    """The test computes in one thread."""
    with single_thread():
        yield


@pytest.fixture
def deadly(process_env: dict[str, str], tmp_path: Path) -> Callable[..., dict[str, str]]:
    """Makes an environment whose processes die, or hang, when they open such a file, `deadly(ending)`; see `letters`."""

    def deadly(ending: str, hang: bool = False) -> dict[str, str]:
        return deadly_environment(tmp_path, process_env["PYTHONPATH"], ending, hang)

    return deadly


@pytest.fixture
def letters(tmp_path: Path) -> Callable[[], Counter[str]]:
    """The number of processes that each video has killed in a `deadly` environment."""
    return lambda: count_deaths(tmp_path / "letters")
