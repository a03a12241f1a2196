"""Two commands at once on one target: the second names the first, and both results are right."""

import csv
import os
import threading
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from abaw import pipeline
from abaw.core.claim_files import BusyError, claimed
from abaw.core.errors import StoreError
from abaw.core.progress import Silent
from abaw.exchange.importer import ImportOptions
from abaw.extract.faces import prepare
from abaw.extract.faces.alignment import TEMPLATE
from abaw.extract.faces.detections import Detections
from abaw.extract.faces.prepare import PrepareOptions
from abaw.store import FeatureStore
from abaw.tests.support.command_line import assert_refused
from abaw.train.runs import open_run

WAIT_S = 60.0


class WholeFaces:
    """Takes every picture for a face."""

    def detect(self, images):
        height, width = images.shape[1:3]
        box = np.array([[0, 0, width, height]], np.float32)
        landmarks = (TEMPLATE * (np.array([width, height]) / 112))[None].astype(np.float32)
        return [Detections(box, np.ones(1, np.float32), landmarks)] * len(images)


class Gate(Silent):
    """A reporter that holds its command at the first step until it is opened."""

    def __init__(self) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()

    def hold(self) -> None:
        self.reached.set()
        assert self.opened.wait(WAIT_S)

    def advance(self, n: int = 1, note: str = "") -> None:
        self.hold()


@contextmanager
def held(gate, work):
    """Runs `work` in a thread up to the gate; at the end it goes on, and its result is in the list."""
    results, errors = [], []

    def run():
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)
            gate.reached.set()

    thread = threading.Thread(target=run)
    thread.start()
    assert gate.reached.wait(WAIT_S)
    try:
        yield results
    finally:
        gate.opened.set()
        thread.join()
    assert errors == []


def test_the_second_prepare_of_a_video_leaves_the_work_of_the_first_alone(tmp_path, numbered, monkeypatch):
    for name, n_frames in (("one", 4), ("two", 3)):
        numbered.write(tmp_path / "videos" / f"{name}.mp4", n_frames)
    data, gate = tmp_path / "data", Gate()

    class Slow(WholeFaces):
        def detect(self, images):
            gate.hold()
            return super().detect(images)

    monkeypatch.setattr(prepare, "create_detector", lambda name, device: detectors.pop())
    detectors = [WholeFaces(), WholeFaces(), Slow()]
    options = PrepareOptions((tmp_path / "videos",), data)
    with held(gate, lambda: pipeline.prepare(options)) as results:
        second = pipeline.prepare(options)
        assert second.done == ["two"] and second.failed.keys() == {"one"}
        assert f"is writing {data / 'faces/one.json'}: process {os.getpid()} on" in second.failed["one"]
    assert results[0].done == ["one"] and results[0].skipped == ["two"] and results[0].failed == {}
    for name, n_frames in (("one", 4), ("two", 3)):
        with (data / "faces" / f"{name}.csv").open() as table:
            assert (
                len(list(csv.DictReader(table))) == n_frames == len(list((data / "cropped_aligned" / name).iterdir()))
            )
    assert {path.name for path in (data / "faces").iterdir()} == {"one.csv", "one.json", "two.csv", "two.json"}
    assert sorted(pipeline.prepare(options).skipped) == ["one", "two"]


def test_repair_and_verify_leave_an_import_alone_from_its_start(tmp_path):
    """The feature is new, so that a list of features made before does not have it."""
    (tmp_path / "arrays").mkdir()
    for video in "ab":
        np.save(tmp_path / "arrays" / f"{video}.npy", np.ones((600, 2), np.float32))
    store, gate = tmp_path / "store.zarr", Gate()
    FeatureStore.create(store)
    options = ImportOptions(tmp_path / "arrays", store, "mine", fps=25.0)
    with held(gate, lambda: pipeline.import_features(options, gate)) as results:
        for second in (
            lambda: pipeline.repair_store(store),
            lambda: pipeline.verify_store(FeatureStore.open(store)),
            lambda: pipeline.import_features(options),
        ):
            with pytest.raises(StoreError, match=f"Another command is writing mine in .*: process {os.getpid()} on"):
                second()
    repairing, others = Gate(), ImportOptions(tmp_path / "arrays", store, "others", fps=25.0)
    repairing.start = lambda *step: repairing.hold()
    with (
        held(repairing, lambda: pipeline.repair_store(store, repairing)),
        pytest.raises(StoreError, match="is writing others in"),
    ):
        pipeline.import_features(others)  # a feature that the store did not have when the repair began
    assert results[0].done == ["a", "b"] and pipeline.verify_store(FeatureStore.open(store)) == []


def test_a_run_that_is_being_trained_is_not_trained_or_changed_by_others(tmp_path, lab, run_cli, monkeypatch):
    store = lab.make_store(tmp_path / "store.zarr", tasks=["va"])
    run, alone = (lab.start(store, tmp_path / "runs", lab.config("va", "epochs=2"), name) for name in ("t", "alone"))
    lab.train(alone, store)
    gate = Gate()
    gate.log = lambda line: gate.hold()  # after an epoch
    gate.advance = lambda n=1, note="": None
    options = ("--store", store.path, "--runs", tmp_path / "runs")
    with held(gate, lambda: lab.train(run, store, gate)):
        for words in (["--resume", "--run", "t"], ["--resume", "--run", "t", "--set", "epochs=9"]):
            result = run_cli("train", *words, *options)
            assert_refused(result, 1, f"is writing {tmp_path / 'runs/t'}: process {os.getpid()} on", "or stop it")
        settings = [word for setting in lab.settings for word in ("--set", setting)]
        result = run_cli("train", "--task", "va", "--feature", "f", "--run", "t", *settings, *options)
        assert_refused(result, 1, f"is writing {tmp_path / 'runs/t'}: process {os.getpid()} on")
    lab.assert_same(run.folder, alone.folder)
    assert open_run(run.folder).config.epochs == 2
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"t", "alone"}


def test_a_name_that_another_training_is_about_to_take_is_passed_over(tmp_path, lab):
    store, runs = lab.make_store(tmp_path / "store.zarr", tasks=["va"]), tmp_path / "runs"
    runs.mkdir()
    with claimed(runs / "va-f-transformer-1"):
        assert lab.start(store, runs).name == "va-f-transformer-2"
        with pytest.raises(BusyError, match="va-f-transformer-1: process"):
            lab.start(store, runs, name="va-f-transformer-1")
    assert lab.start(store, runs).name == "va-f-transformer-1"


def test_scores_and_tuning_have_one_writer_each(tmp_path, lab, run_cli):
    store, runs = lab.make_store(tmp_path / "store.zarr", tasks=["va"]), tmp_path / "runs"
    run = lab.start(store, runs, lab.config("va", "window=30", head="ridge"), "t")
    lab.train(run, store)
    options = ("--store", store.path, "--runs", runs)
    with claimed(run.folder / "scores-val.json"):
        assert_refused(run_cli("eval", "t", *options), 1, f"is writing {run.folder / 'scores-val.json'}: process")
        assert run_cli("eval", "t", "--split", "train", *options).exit_code == 0
        assert run_cli("tune", "t", "--smooth", "box:3", *options).exit_code == 0
    with claimed(run.folder / "postprocess.json"):
        assert_refused(run_cli("tune", "t", "--smooth", "box:3", *options), 1, "postprocess.json: process")
        assert run_cli("eval", "t", *options).exit_code == 0


@pytest.mark.parametrize(
    ("words", "target"),
    [
        (["store", "export", "--feature", "f", "--out", "out.h5"], "out.h5"),
        (["store", "export", "--feature", "f", "--out", "out", "--format", "npy"], "out"),
        (["synth", "--faces", "faces", "--out", "clips", "--clips", "1"], "clips/synth.json"),
        (["demo", "--out", "demo", "--size", "tiny"], "demo/demo"),
    ],
)
def test_outputs_have_one_writer(tmp_path, lab, run_cli, monkeypatch, words, target):
    monkeypatch.chdir(tmp_path)
    lab.make_store(tmp_path / "store.zarr", tasks=["va"])
    for label in ("Positive", "Neutral", "Negative"):
        Path("faces", label).mkdir(parents=True)
        Image.new("RGB", (24, 24)).save(Path("faces", label, "1.png"))
    Path(target).parent.mkdir(exist_ok=True)
    with claimed(Path(target)):
        result = run_cli(*words)
        assert_refused(result, 1, f"is writing {tmp_path / target}: process {os.getpid()} on", "run this again")
    assert not Path("out.h5").exists() and not Path("out").exists() and not list(tmp_path.rglob("*.partial"))
