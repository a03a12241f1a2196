"""Extraction that is killed, interrupted or out of space: nothing finished is lost, nothing half-written is read."""

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from abaw.store import FeatureStore
from abaw.tests.support.command_line import hear_interrupts

# Extracts with a slow backbone into shards of 8 frames: `python driver.py FRAME_SECONDS extract ... --store STORE`.
# STORE may be several, as in `a.zarr:0,b.zarr:55`: each is filled by a process of its own, forked after the imports,
# that kills itself just before the 55th change that it makes to files of its store.
DRIVER = """
import os, signal, sys, time
import torch
from abaw.commands import console, tables
from abaw import pipeline
from abaw.store import writer
from abaw.cli import main
from abaw.backbones.registry import Family, register
from abaw.backbones.spec import BackboneSpec, ImageInput

torch.set_num_threads(1)
writer.CHUNK_ROWS, writer.SHARD_ROWS = 4, 8
seconds = float(sys.argv.pop(1))
image = ImageInput(16, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), interpolation="bilinear")

class Slow(torch.nn.Module):
    def forward(self, images):
        print("forward", flush=True)
        time.sleep(seconds * len(images))
        return {"slow": images.flatten(1)}

spec = BackboneSpec("slow", "slow", "slow", "vision", (3 * 16 * 16,), "sleeps", "none", image)
register(Family("slow", (spec,), lambda specs, file: Slow()))

n_changes = kill_at = 0

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

def fill(store, at):
    global kill_at
    sys.argv[-1], kill_at = store, at
    sys.addaudithook(count)
    try:
        main()
    finally:
        print("changes", n_changes, flush=True)

plan = sys.argv[-1]
if ":" not in plan:
    fill(plan, 0)
for step in plan.split(","):
    store, at = step.split(":")
    child = os.fork()
    if child == 0:
        fill(store, int(at))
    print("exit", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
VIDEOS = {"a": 20, "b": [1, 2, 30], "c": 11, "d": 17}
VA = "VA_Estimation_Challenge/Train_Set"


class Extraction:
    """Runs the driver on one dataset."""

    def __init__(self, folder: Path, data: Path, environment: dict[str, str]) -> None:
        self.folder, self.data, self.environment = folder, data, environment
        (folder / "driver.py").write_text(DRIVER)

    def start(self, store: str, frame_seconds: float = 0) -> subprocess.Popen[str]:
        command = [sys.executable, "driver.py", str(frame_seconds), "extract", "--backbone", "slow", "--data"]
        command += [str(self.data), "--batch-size", "8", "--device", "cpu", "--store", store]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, cwd=self.folder, env=self.environment, preexec_fn=hear_interrupts, **pipes)

    def run(self, store: str) -> tuple[int, str]:
        process = self.start(store)
        output, errors = process.communicate(timeout=120)
        return process.returncode, output + errors

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


@pytest.fixture
def extraction(workplace: Path, make_data: Callable, make_labels: Callable, process_env: dict[str, str]) -> Extraction:
    """A dataset of four videos with labels, and `whole.zarr` from an undisturbed run."""
    data = workplace / "data"
    made = Extraction(workplace, data, process_env)
    if not data.exists():
        make_data(VIDEOS, data)
        for video in "ab":
            make_labels(data, VA, video, "valence,arousal", *[f"0.{row},-5" for row in range(1, 30)])
        code, output = made.run("whole.zarr")
        assert code == 0, output
    return made


def wait_for_work(process: subprocess.Popen[str]) -> None:
    """Returns when the first batch has begun."""
    assert process.stdout is not None
    assert process.stdout.readline() == "forward\n"


def test_killed_at_random_moments_and_run_again(extraction):
    whole, rng = extraction.contents("whole.zarr"), random.Random(2)
    n_done = []
    for _ in range(3):
        process = extraction.start("killed.zarr", frame_seconds=0.05)
        wait_for_work(process)
        time.sleep(rng.uniform(0.05, 0.25))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
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
    _, output = extraction.run("counted.zarr:0")
    n_changes = int(output.split("changes ")[1].split()[0])
    assert n_changes > 100
    kills = {f"killed-{at}.zarr": at for at in rng.sample(range(n_changes // 10, n_changes * 9 // 10), 6)}
    _, output = extraction.run(",".join(f"{store}:{at}" for store, at in kills.items()))
    assert output.count(f"exit {-signal.SIGKILL}") == len(kills), output
    for store in kills:
        found = extraction.contents(store)
        assert {name: whole[name] for name in found} == found
    _, output = extraction.run(",".join(f"{store}:0" for store in kills))
    assert output.count("exit 0") == len(kills), output
    for store in kills:
        assert extraction.contents(store) == whole


def test_ctrl_c_keeps_what_is_finished(extraction):
    process = extraction.start("stopped.zarr", frame_seconds=0.05)
    wait_for_work(process)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Interrupted. Complete videos are in the store. Continue with: abaw extract --backbone slow " in errors
    assert "Traceback" not in errors
    whole, found = extraction.contents("whole.zarr"), extraction.contents("stopped.zarr")
    assert len(found) < len(whole)
    assert {name: whole[name] for name in found} == found
    code, output = extraction.run("stopped.zarr")
    assert code == 0, output
    assert extraction.contents("stopped.zarr") == whole


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
del sys.argv[1]
sys.dont_write_bytecode = True
from abaw.cli import main
main()
"""


def run_limited(env: dict[str, str], n_bytes: int, *args: object) -> subprocess.CompletedProcess[str]:
    """`abaw ARGS` in a process that can write no file of more than `n_bytes`: what a full disk looks like."""
    command = [sys.executable, "-c", LIMITED, str(n_bytes), *map(str, args)]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)


def test_a_full_disk_is_one_sentence_and_keeps_what_is_finished(make_data, make_labels, process_env, run_cli, tmp_path):
    data = make_data({"a": 4, "b": 4, "c": 60, "d": 4})
    make_labels(data, VA, "a", "valence,arousal", *["0,0"] * 5)
    options = ("extract", "--backbone", "hog", "--batch-size", "4", "--device", "cpu", "--data", data)
    assert run_cli(*options, "--store", tmp_path / "whole.zarr").exit_code == 0
    result = run_limited(process_env, 60_000, *options, "--store", tmp_path / "full.zarr")
    assert result.returncode == 1
    assert "no space left to write c into" in result.stderr and "run the same command again" in result.stderr
    assert "Traceback" not in result.stderr
    whole, full = FeatureStore.open(tmp_path / "whole.zarr"), FeatureStore.open(tmp_path / "full.zarr")
    assert {"a", "b"} <= set(full.videos("hog")) and "c" not in full.videos("hog")
    assert run_cli(*options, "--store", tmp_path / "full.zarr").exit_code == 0
    full = FeatureStore.open(tmp_path / "full.zarr")
    for video in "abcd":
        np.testing.assert_array_equal(full.read("hog", video).values, whole.read("hog", video).values)


@pytest.mark.parametrize("n_bytes", [10, 300, 1500])
def test_a_disk_that_is_full_from_the_start_or_at_the_labels(make_data, make_labels, process_env, tmp_path, n_bytes):
    data = make_data({"a": 4})
    make_labels(data, VA, "a", "valence,arousal", *["0,0"] * 400)
    store = tmp_path / "full.zarr"
    result = run_limited(process_env, n_bytes, "extract", "--backbone", "hog", "--data", data, "--store", store)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert "full.zarr" in result.stderr
