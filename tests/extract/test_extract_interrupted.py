"""Extraction that is killed, interrupted or out of space: nothing finished is lost, nothing half-written is read."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from abaw.store import FeatureStore
from abaw.tests.support.processes import until

# Extracts in children of its own, forked after the imports, which take longer than the work. Each line that it reads is
# either the JSON of a new child, whose number it prints, or the number of a child, whose exit code it waits for and prints.
# The keys: `arguments` of `abaw`; `log` gets stdout and stderr; `slow`: with a slow backbone, into shards of 8 frames;
# `seconds` that a frame takes it; `kill_at`: it kills itself just before so many changes to files of its store;
# `n_bytes`: it can write no larger file, which is what a full disk looks like.
DRIVER = """
import gc, json, os, resource, signal, subprocess, sys, time, traceback
import torch
import abaw.backbones.vision.hog
from abaw.commands import console, extract, tables
from abaw import pipeline
from abaw.store import writer
from abaw.cli import main
from abaw.backbones.backbone import create_backbone
from abaw.backbones.registry import Family, register
from abaw.backbones.spec import BackboneSpec, ImageInput
from abaw.extract import runner

torch.set_num_threads(1)
image = ImageInput(16, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), interpolation="bilinear")
seconds = n_changes = kill_at = 0

class Slow(torch.nn.Module):
    def forward(self, images):
        print("forward", flush=True)
        time.sleep(seconds * len(images))
        return {"slow": images.flatten(1)}

spec = BackboneSpec("slow", "slow", "slow", "vision", (3 * 16 * 16,), "sleeps", "none", image)
register(Family("slow", (spec,), lambda specs, file: Slow()))

def count(event, arguments):
    global n_changes
    if event == "open":
        changes = isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
    else:
        changes = event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link")
    if changes and (".zarr" in str(arguments[0]) or event in ("os.remove", "os.rmdir")):
        n_changes += 1
        if n_changes == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

def begin(arguments, log, slow, **limits):
    global seconds, kill_at
    for stream in (1, 2):
        os.dup2(log, stream)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    seconds, kill_at = limits["seconds"], limits["kill_at"]
    if slow:
        writer.CHUNK_ROWS, writer.SHARD_ROWS = 4, 8
        sys.addaudithook(count)
    if limits["n_bytes"]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limits["n_bytes"],) * 2)
    sys.argv[1:] = arguments
    code = 1
    try:
        main()
    except SystemExit as end:
        code = end.code
    except BaseException as error:
        traceback.print_exception(error)
    print("changes", n_changes, flush=True)
    os._exit(code)  # to take down all modules takes longer than the work

gc.freeze()  # a collection in a child would copy what is shared
logs = {}  # the limit of a file's size is not theirs
for line in sys.stdin:
    order = json.loads(line)
    if isinstance(order, int):
        code = os.waitstatus_to_exitcode(os.waitpid(order, 0)[1])
        logs.pop(order).wait()
        print(code, flush=True)
        continue
    with open(order.pop("log"), "w") as file:
        log = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=file)
    child = os.fork()
    if child == 0:
        sys.stdin.close()
        begin(log=log.stdin.fileno(), **order)
    log.stdin.close()
    logs[child] = log
    print(child, flush=True)
"""
VIDEOS = {"a": 20, "b": [1, 2, 30], "c": 11, "d": 17}
VA = "VA_Estimation_Challenge/Train_Set"


class Child:
    """An `abaw extract` that has begun."""

    def __init__(self, driver: "Driver", pid: int, log: Path) -> None:
        self._driver, self.pid, self._log = driver, pid, log

    def wait_for_work(self) -> None:
        """Returns when the first batch has begun."""
        until(lambda: "forward\n" in self._log.read_text(), "the first batch has begun")

    def end(self) -> tuple[int, str]:
        """Waits for its end; the exit code, and the output."""
        return self._driver.ask(self.pid), self._log.read_text()


class Driver:
    """Begins `abaw extract` as often as it is asked to."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        (folder / "driver.py").write_text(DRIVER)
        self._folder, self._n_children = folder, 0
        self._process = subprocess.Popen(
            [sys.executable, "driver.py"],
            cwd=folder,
            env=environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def ask(self, order: object) -> int:
        assert self._process.stdin is not None and self._process.stdout is not None
        print(json.dumps(order), file=self._process.stdin, flush=True)
        return int(self._process.stdout.readline())

    def start(
        self, *arguments: object, slow: bool = True, seconds: float = 0, kill_at: int = 0, n_bytes: int = 0
    ) -> Child:
        self._n_children += 1
        log = self._folder / f"log-{self._n_children}"
        limits = {"seconds": seconds, "kill_at": kill_at, "n_bytes": n_bytes}
        order = {"arguments": ["extract", *map(str, arguments)], "log": str(log), "slow": slow, **limits}
        return Child(self, self.ask(order), log)

    def close(self) -> None:
        self._process.communicate(timeout=120)


class Extraction:
    """Extracts one dataset with the slow backbone."""

    def __init__(self, folder: Path, data: Path, driver: Driver) -> None:
        self.folder, self.data, self._driver = folder, data, driver

    def start(self, store: str, seconds: float = 0, kill_at: int = 0) -> Child:
        options = ("--backbone", "slow", "--data", self.data, "--batch-size", "8", "--device", "cpu", "--store", store)
        return self._driver.start(*options, seconds=seconds, kill_at=kill_at)

    def run(self, store: str, kill_at: int = 0) -> tuple[int, str]:
        return self.start(store, kill_at=kill_at).end()

    def contents(self, store: str) -> dict[str, bytes]:
        """Every array of a store that can be read, byte by byte."""
        opened = FeatureStore.open(self.folder / store)
        found = {f"labels/{video}": labels.rows.tobytes() for video, labels in opened.labels("va").items()}
        for feature in opened.features():
            for video in opened.videos(feature):
                read = opened.read(feature, video)
                found[f"{feature}/{video}"] = read.values.tobytes() + read.present.tobytes() + str(read.fps).encode()
        return found


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("interrupted")


@pytest.fixture(scope="module")
def driver(workplace: Path, process_env: dict[str, str]) -> Iterator[Driver]:
    made = Driver(workplace, process_env)
    yield made
    made.close()


@pytest.fixture
def extraction(workplace: Path, make_data: Callable, make_labels: Callable, driver: Driver) -> Extraction:
    """A dataset of four videos with labels, and `whole.zarr` from an undisturbed run."""
    data = workplace / "data"
    made = Extraction(workplace, data, driver)
    if not data.exists():
        make_data(VIDEOS, data)
        for video in "ab":
            make_labels(data, VA, video, "valence,arousal", *[f"0.{row},-5" for row in range(1, 30)])
        code, output = made.run("whole.zarr")
        assert code == 0, output
    return made


def test_killed_at_random_moments_and_run_again(extraction):
    whole, rng = extraction.contents("whole.zarr"), random.Random(2)
    n_done = []
    for _ in range(3):
        child = extraction.start("killed.zarr", seconds=0.05)
        child.wait_for_work()
        time.sleep(rng.uniform(0.05, 0.25))
        os.kill(child.pid, signal.SIGKILL)
        assert child.end()[0] == -signal.SIGKILL
        found = extraction.contents("killed.zarr")
        assert {name: whole[name] for name in found} == found
        n_done.append(len(found))
    assert n_done == sorted(n_done)
    assert n_done[0] < len(whole)  # it was killed midway
    code, output = extraction.run("killed.zarr")
    assert code == 0, output
    assert extraction.contents("killed.zarr") == whole


def test_killed_at_random_changes_of_the_store_and_run_again(extraction):
    """Not at random times, most of which are spent in the network, but between any two writes."""
    whole, rng = extraction.contents("whole.zarr"), random.Random(7)
    _, output = extraction.run("counted.zarr")
    n_changes = int(output.split("changes ")[1].split()[0])
    assert n_changes > 100
    kills = {f"killed-{at}.zarr": at for at in rng.sample(range(n_changes // 10, n_changes * 9 // 10), 3)}
    for store, kill_at in kills.items():
        code, output = extraction.run(store, kill_at)
        assert code == -signal.SIGKILL, output
        found = extraction.contents(store)
        assert {name: whole[name] for name in found} == found
        code, output = extraction.run(store)
        assert code == 0, output
        assert extraction.contents(store) == whole


def test_ctrl_c_keeps_what_is_finished(extraction):
    child = extraction.start("stopped.zarr", seconds=0.05)
    child.wait_for_work()
    time.sleep(0.3)
    os.kill(child.pid, signal.SIGINT)
    code, output = child.end()
    assert code == 130
    assert "Interrupted. Complete videos are in the store. Continue with: abaw extract --backbone slow " in output
    assert "Traceback" not in output
    whole, found = extraction.contents("whole.zarr"), extraction.contents("stopped.zarr")
    assert len(found) < len(whole)
    assert {name: whole[name] for name in found} == found
    code, output = extraction.run("stopped.zarr")
    assert code == 0, output
    assert extraction.contents("stopped.zarr") == whole


def test_a_full_disk_is_one_sentence_and_keeps_what_is_finished(make_data, make_labels, driver, run_cli, tmp_path):
    data = make_data({"a": 4, "b": 4, "c": 60, "d": 4})
    make_labels(data, VA, "a", "valence,arousal", *["0,0"] * 5)
    options = ("--backbone", "hog", "--batch-size", "4", "--device", "cpu", "--data", data)
    assert run_cli("extract", *options, "--store", tmp_path / "whole.zarr").exit_code == 0
    code, output = driver.start(*options, "--store", tmp_path / "full.zarr", slow=False, n_bytes=60_000).end()
    assert code == 1
    assert "no space left to write c into" in output and "run the same command again" in output
    assert "Traceback" not in output
    whole, full = FeatureStore.open(tmp_path / "whole.zarr"), FeatureStore.open(tmp_path / "full.zarr")
    assert {"a", "b"} <= set(full.videos("hog")) and "c" not in full.videos("hog")
    assert run_cli("extract", *options, "--store", tmp_path / "full.zarr").exit_code == 0
    full = FeatureStore.open(tmp_path / "full.zarr")
    for video in "abcd":
        np.testing.assert_array_equal(full.read("hog", video).values, whole.read("hog", video).values)


@pytest.mark.parametrize("n_bytes", [10, 300, 1500])
def test_a_disk_that_is_full_from_the_start_or_at_the_labels(make_data, make_labels, driver, tmp_path, n_bytes):
    data = make_data({"a": 4})
    make_labels(data, VA, "a", "valence,arousal", *["0,0"] * 400)
    store = tmp_path / "full.zarr"
    code, output = driver.start(
        "--backbone", "hog", "--data", data, "--store", store, slow=False, n_bytes=n_bytes
    ).end()
    assert code == 1
    assert "Traceback" not in output
    assert "full.zarr" in output
