"""The kinds of input: their files, and what the package does with them. Imported by the process that runs the cases."""

import os
import pickle
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from click.testing import CliRunner

from abaw import pipeline  # noqa: F401  the commands load it when they run: no case has time for it
from abaw.backbones.weights import read_tensors
from abaw.cli import main
from abaw.core.errors import DataError
from abaw.core.progress import Silent
from abaw.core.task_files import SUFFIX, read_task_file
from abaw.core.tasks import TASKS, get_task
from abaw.datasets.doctor import examine
from abaw.datasets.layouts import open_dataset
from abaw.datasets.synth.cutouts import read_cutout
from abaw.datasets.transcripts import find_transcripts
from abaw.evaluate.postprocessing.tuning import load_tuning
from abaw.evaluate.results import read_predictions
from abaw.evaluate.submission.sample_files import read_sample
from abaw.exchange.exporter import export_feature
from abaw.extract.cluster.cluster import read_cluster_file
from abaw.extract.faces.layout import Record
from abaw.media.frame_times import read_times
from abaw.media.images import read_image
from abaw.media.pictures import read_pictures
from abaw.media.probe import probe_span, probe_timing
from abaw.media.sound import load_sound
from abaw.media.tensors import read_image_tensor
from abaw.media.transcript_files import read_transcript
from abaw.store import FeatureStore
from abaw.store.audit import repair_store, verify_store
from abaw.store.claims import claimed
from abaw.train.data.table import load_table
from abaw.train.recipes import load_recipe
from abaw.train.runs import all_runs, open_run

Route = Callable[[Path, Path], object]  # the case's folder, and the file that was changed
MEANS = {"doctor", "verify", "extract", "import", "repair", "check-submission"}  # say in many lines what is wrong


def command(*arguments: object) -> None:
    """Run `abaw ARGUMENTS`; what ends otherwise than with a result or one sentence is an error."""
    found = CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)
    if found.exit_code and not MEANS & set(map(str, arguments[:2])):
        last = found.output.strip().splitlines()[-1] if found.output.strip() else ""
        assert last.startswith("Error: "), f"exit code {found.exit_code} without a sentence: {found.output[-500:]!r}"
    assert found.exit_code in (0, 1, 2), f"exit code {found.exit_code}: {found.output[-500:]!r}"
    assert "Traceback" not in found.output


def read_labels(root: Path, _: Path) -> None:
    """Find and read the labels of a dataset."""
    dataset = open_dataset(root / "data", 30.0)
    examine(dataset)


def read_store(root: Path, _: Path) -> None:
    """Read all of a store."""
    store = FeatureStore.open(root / "store.zarr")
    for feature in store.features():
        store.feature_attrs(feature)
        for video in store.videos(feature):
            store.read(feature, video)
    for task in store.tasks():
        store.labels(task)
    store.notes.read()


def read_table(root: Path, _: Path) -> None:
    """Load a store's features as training does."""
    store = FeatureStore.open(root / "store.zarr")
    for split in ("train", "val"):
        labels = store.labels("va", split)
        if labels:
            load_table(store, TASKS["va"], labels, ("f", "g"))


def claim(root: Path, _: Path) -> None:
    """Begin an extraction beside others."""
    store = FeatureStore.create(root / "store.zarr")
    with claimed(store, ["f"], ""):
        pass


def fill_store(root: Path, _: Path) -> None:
    """Write into a store that is there."""
    command("store", "import", root / "source", "--feature", "f2", "--store", root / "store.zarr")
    store = FeatureStore.create(root / "store.zarr")
    writer = store.writer("f", "a", 3, np.arange(3), {"fps": 25.0, "source": "new"})
    writer.write(np.arange(3), np.ones((3, 3), dtype=np.float32))
    writer.finish()
    store.write_labels("va", "a", "train", np.zeros((3, 2), dtype=np.float32))


def verify(root: Path, _: Path) -> None:
    """Look for damage."""
    verify_store(FeatureStore.open(root / "store.zarr"), Silent())


def repair(root: Path, _: Path) -> None:
    """Drop what is damaged; then nothing is."""
    store = FeatureStore.create(root / "store.zarr")
    repair_store(store, Silent())
    left = [problem for problem in verify_store(store, Silent()) if problem.path]
    assert not left, left


def open_runs(root: Path, file: Path) -> None:
    """Read what is in the folders of runs."""
    for run in all_runs(root / "runs"):
        load_tuning(run)
    run = open_run(file.parent) if (file.parent / "config.json").exists() else open_run(root / "runs" / "r")
    read_predictions(run.folder, "val", run.task)


def resume(root: Path, file: Path) -> None:
    """Go on with a run, of which all epochs are done."""
    command(
        "train", "--resume", "--run", "r", "--runs", root / "runs", "--store", root / "store.zarr", "--device", "cpu"
    )


def read_any_pictures(_: Path, file: Path) -> None:
    """Decode a video."""
    for number, _picture in enumerate(read_pictures(file, shorter_side=32)):
        if number > 50:
            break


def import_source(root: Path, file: Path) -> None:
    """Import the folder, or the file, that was changed."""
    source = root / file.relative_to(root).parts[0]
    source = file if source.name == "one" else source
    command("store", "import", source, "--feature", "f", "--store", root / "store.zarr", "--fps", 25)


def export(root: Path, _: Path) -> None:
    """Write a feature for others."""
    store = FeatureStore.open(root / "store.zarr")
    for form in ("h5", "npy"):
        export_feature(store, "f", root / f"out.{form}", form)


def of_run(*words: str) -> Route:
    """A command about runs."""

    def route(root: Path, _: Path) -> None:
        command(*words, "--runs", root / "runs")

    return route


def of_run_and_store(*words: object) -> Route:
    """A command about runs and the store."""

    def route(root: Path, _: Path) -> None:
        command(*words, "--runs", root / "runs", "--store", root / "store.zarr")

    return route


def submit(root: Path, _: Path) -> None:
    """Answer a sample."""
    place = ("--store", root / "store.zarr", "--runs", root / "runs", "--device", "cpu")
    command("submit", "r", "--sample", root / "sample.txt", "--out", root / "p.txt", *place)


def sample_of(root: Path, file: Path) -> Path:
    """The sample that a file answers."""
    first = file.relative_to(root).parts[0]
    return root / f"{first.split('-')[0]}-sample.txt"


def check_submission(root: Path, file: Path) -> None:
    """Check an answer against its sample."""
    sample = sample_of(root, file)
    command("check-submission", root / sample.name.replace("sample", "answer"), "--sample", sample)


def score_predictions(root: Path, file: Path) -> None:
    """Score an answer."""
    answer = root / sample_of(root, file).name.replace("sample", "answer")
    command("eval", "--predictions", answer, "--store", root / "store.zarr", "--data", root / "data")


def of_file(read: Callable[[Path], Any]) -> Route:
    """A function that reads the file."""
    return lambda _, file: read(file)


def on_data(*words: str) -> Route:
    """A command about a dataset."""

    def route(root: Path, _: Path) -> None:
        command(*words, "--data", root / "data")

    return route


def folder_of(root: Path, file: Path) -> str:
    """The data folder among several that a file is in; that of its task for a task file."""
    first = file.relative_to(root).parts[0]
    return first.removesuffix(SUFFIX)


def read_own_labels(root: Path, file: Path) -> None:
    """Read a task file, if there is one for the data folder of the changed file, and the labels in the folder."""
    data = folder_of(root, file)
    if (root / f"{data}{SUFFIX}").exists():
        get_task(str(root / f"{data}{SUFFIX}"))
    examine(open_dataset(root / data))


def examine_own(root: Path, file: Path) -> None:
    """Run doctor on the data folder of the changed file, with its task file."""
    data = folder_of(root, file)
    own = ["--task", root / f"{data}{SUFFIX}"] if (root / f"{data}{SUFFIX}").exists() else []
    people = ["--people", root / "mine" / "people.csv"] if data == "mine" else []
    command("doctor", "--data", root / data, *own, *people)


def extract(root: Path, _: Path) -> None:
    """Extract the features of a dataset."""
    place = ("--data", root / "data", "--store", root / "store.zarr", "--device", "cpu")
    command("extract", "--backbone", "hog", *place)


def train_recipe(root: Path, file: Path) -> None:
    """Begin a training, for which the store has no labels."""
    place = ("--store", root / "store.zarr", "--runs", root / "runs", "--device", "cpu")
    command("train", "--recipe", file, *place)


def read_encoder(root: Path, _: Path) -> None:
    """Load an encoder of sound."""
    from abaw.backbones.audio.wav2vec2_weights import load_wav2vec2

    load_wav2vec2(("last",), root / "encoder")


def silent(_root: Path, _file: Path) -> None:
    """Raise an error that says nothing."""
    raise DataError("")


def load_slowly(_root: Path, _file: Path) -> None:
    """Take 3 s, once in a process."""
    time.sleep(0 if LOADED else 3)
    LOADED.append(True)


def follow_link(root: Path) -> None:
    """Write through a link that leads out."""
    (root / "link").symlink_to("../outside/kept.txt")
    (root / "link").write_text("x")


LOADED: list[bool] = []
TRIAL: dict[str, Route] = {  # what must be noticed
    "write": lambda root, _: (root.parent / "outside" / "new.txt").write_text("x"),
    "delete": lambda root, _: (root.parent / "outside" / "kept.txt").unlink(),
    "folder": lambda root, _: (root.parent / "new").mkdir(),
    "follow": lambda root, _: follow_link(root),
    "program": lambda root, _: subprocess.run(["true"], check=True),
    "shell": lambda root, _: os.system("true"),
    "text": lambda root, _: exec("pass"),
    "pickle": lambda root, file: pickle.loads(file.read_bytes()),
    "network": lambda root, _: socket.create_connection(("127.0.0.1", 9), timeout=1),
    "raise": lambda root, _: 1 // 0,
    "silent": silent,
    "take": lambda root, _: np.ones(10**9, dtype=np.uint8),
    "memory": lambda root, _: np.ones(2**33, dtype=np.uint8),
    "hang": lambda root, _: time.sleep(60),
    "hang changed": lambda _, file: time.sleep(0 if file.read_bytes() else 60),
    "load": load_slowly,
    "crash": lambda root, _: os.abort(),
    "nothing": lambda root, _: (root / "inside.txt").write_text("x"),
}
ROUTES: dict[str, dict[str, Route]] = {
    "trial": TRIAL,
    "crop": {
        "read": of_file(read_image),
        "cutout": of_file(lambda file: read_cutout(file, 24)),
        "doctor": on_data("doctor"),
        "extract": extract,
    },
    "label": {"read": read_labels, "doctor": on_data("doctor"), "extract": extract},
    "task": {
        "read": of_file(read_task_file),
        "labels": read_own_labels,
        "doctor": examine_own,
    },
    "recipe": {
        "read": of_file(lambda file: load_recipe(str(file))),
        "cluster": of_file(read_cluster_file),
        "train": train_recipe,
    },
    "sample": {
        "read": lambda root, file: read_sample(sample_of(root, file)),
        "check": check_submission,
        "score": score_predictions,
    },
    "weights": {
        "read": of_file(read_tensors),
        "check": lambda root, file: command("weights", "check", file),
    },
    "run": {
        "open": open_runs,
        "eval": of_run_and_store("eval", "r", "--json", "--device", "cpu"),
        "resume": resume,
        "submit": submit,
        "ensemble": of_run("ensemble", "r", "s"),
        "compare": of_run("compare", "r", "s"),
        "report": lambda root, _: command("report", "r", "e", "--runs", root / "runs", "--out", root / "x.html"),
        "tune": of_run_and_store("tune", "r", "--fit-on", "val", "--device", "cpu"),
    },
    "store": {
        "read": read_store,
        "table": read_table,
        "info": lambda root, _: command("store", "info", root / "store.zarr"),
        "verify": verify,
        "repair": repair,
        "fill": fill_store,
        "export": export,
        "claim": claim,
    },
    "import": {"import": import_source},
    "transcript": {
        "read": of_file(read_transcript),
        "find": lambda root, file: find_transcripts(root, str(file)),
    },
    "media": {
        "timing": of_file(probe_timing),
        "span": of_file(probe_span),
        "times": of_file(lambda file: read_times(file, 10)),
        "pictures": read_any_pictures,
        "sound": of_file(load_sound),
    },
    "tensor": {"images": of_file(read_image_tensor)},
    "record": {"record": of_file(Record.read), "encoder": read_encoder},
}
