"""Shared by tests of faults: programs in the background, recorded progress, and the comparison of two stores."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import psutil

from abaw.core.files import Place
from abaw.core.progress import Silent
from abaw.store import FeatureStore
from abaw.tests.support.fork_server import ForkedProgram, start_forked

DEADLINE_S = 180.0  # for whatever takes ten seconds on an idle machine
END_S = 400.0  # for what takes forty, as where workers hang again and again


def until(is_so: Callable[[], Any], what: str, seconds: float = DEADLINE_S) -> None:
    """Wait until a condition holds.

    Args:
        is_so: the condition, asked again and again.
        what: describes it for the error.
        seconds: deadline.

    Raises:
        AssertionError: it does not hold in time.
    """
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, f"after {seconds:.0f} s this does not hold: {what}"
        time.sleep(0.02)


def assert_equal_stores(found: Place, wanted: Place) -> None:
    """Two stores have the same features, videos and arrays, and no incomplete videos."""
    one, other = FeatureStore.open(found), FeatureStore.open(wanted)
    assert one.features() == other.features() and one.tasks() == other.tasks()
    for feature in other.features():
        assert list(one.videos(feature)) == list(other.videos(feature)) and one.incomplete(feature) == []
        for video in other.videos(feature):
            first, second = one.read(feature, video), other.read(feature, video)
            assert np.array_equal(first.values, second.values) and np.array_equal(first.present, second.present)


def n_finished(store: Path, feature: str = "hog") -> int:
    """How many videos of a feature are complete, also while the store is being written."""
    return sum(1 for _ in store.glob(f"features/{feature}/*/zarr.json"))


class Watcher(Silent):
    """A reporter that records its calls, and calls `first` when the first frames are done."""

    def __init__(self, first: Callable[[], object] = lambda: None) -> None:
        self.first = first
        self.total = self.n_frames = 0
        self.steps: list[int] = []
        self.notes: list[str] = []
        self.warnings: list[str] = []

    def start(self, label: str, total: int, unit: str, done: int = 0) -> None:
        """Keep the total."""
        self.total = total

    def advance(self, n: int = 1, note: str = "") -> None:
        """Count."""
        self.n_frames, was = self.n_frames + n, self.n_frames
        self.steps.append(n)
        self.notes.append(note)
        if was == 0 and n:
            self.first()

    def warn(self, sentence: str) -> None:
        """Keep it."""
        self.warnings.append(sentence)

    def assert_whole(self) -> None:
        """The bar reached its end and never went backwards."""
        assert self.n_frames == self.total > 0 and min(self.steps) >= 0


class Started:
    """A program in a session of its own; it and all processes that it has started are killed when the block ends.

    Args:
        module: what `python -m` runs.
        arguments: of the program.
        folder: in which it is called; it gets its log.
        new_python: load the modules in a new Python, rather than fork from one that has them; see `fork_server`.
    """

    def __init__(
        self,
        module: str,
        *arguments: object,
        environment: Mapping[str, str],
        folder: Path,
        new_python: bool = False,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._module, self._arguments = module, [str(argument) for argument in arguments]
        self._environment, self._folder = {"PYTHONFAULTHANDLER": "1", **environment}, folder
        self._log = folder / f"log-{len(list(folder.glob('log-*')))}"
        self._new_python = new_python

    def __enter__(self) -> "Started":
        self._process: subprocess.Popen[bytes] | ForkedProgram
        with self._log.open("w") as log:
            if self._new_python:
                self._process = self._start(log)
            else:
                call = (self._module, self._arguments, self._environment, self._folder)
                self._process = start_forked(*call, log.fileno())
        return self

    def _start(self, log: IO[str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", self._module, *self._arguments],
            env=self._environment,
            cwd=self._folder,
            stdout=log,
            stderr=log,
            start_new_session=True,
            # receive Ctrl-C even if the tests run in the background, where it is ignored
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )

    def __exit__(self, *exception: object) -> None:
        self.kill()
        for process in self.others():
            with suppress(psutil.NoSuchProcess):  # it has just ended
                process.kill()
        psutil.wait_procs(self.others(), timeout=DEADLINE_S)

    @property
    def output(self) -> str:
        """Its output so far."""
        return self._log.read_text()

    @property
    def pid(self) -> int:
        """Number of its process."""
        return self._process.pid

    def others(self) -> list[psutil.Process]:
        """Its descendants that are alive, also after its own end."""
        return [process for process in psutil.process_iter() if process.pid != self.pid and self._is_ours(process)]

    def workers(self) -> list[psutil.Process]:
        """The workers of a driver that was forked: they come from its fork server, its only child with children."""
        return [process for process in self.others() if process.ppid() not in (self.pid, 1)]

    def kill(self) -> None:
        """`kill -9` of its own process."""
        self._process.kill()
        self._process.wait()

    def interrupt(self) -> None:
        """Ctrl-C: every process of the session receives it."""
        os.killpg(self.pid, signal.SIGINT)

    def end(self, seconds: float = END_S) -> int:
        """Wait for its end, and return the exit code.

        Raises:
            AssertionError: it has not ended in time; with its output and the stack of each of its threads.
        """
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGABRT)
            self._process.wait()
        raise AssertionError(f"it has not ended after {seconds:.0f} s\n{self.output}")

    def until(self, is_so: Callable[[], Any], what: str) -> None:
        """Wait until a condition holds, while the program runs."""

        def is_so_or_over() -> bool:
            assert self._process.poll() is None, f"it ended before this held: {what}\n{self.output}"
            return bool(is_so())

        until(is_so_or_over, what)

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            return os.getsid(process.pid) == self.pid and process.status() != psutil.STATUS_ZOMBIE
        except (ProcessLookupError, psutil.NoSuchProcess):
            return False


@dataclass(frozen=True)
class Ended:
    """What a process left behind.

    Attributes:
        code: how it ended.
        output: what it wrote to standard output and standard error.
    """

    code: int
    output: str


def run_code(code: str, *arguments: object, environment: Mapping[str, str], folder: Path) -> Ended:
    """Run code in a process that has the modules already.

    Args:
        code: of a module, which workers that it starts import, too.
        arguments: of the program.
        folder: in which it is called; it gets its log, and comes first in PYTHONPATH.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "program.py").write_text(code, encoding="utf-8")
    environment = {**environment, "PYTHONPATH": os.pathsep.join((str(folder), environment["PYTHONPATH"]))}
    with Started("program", *arguments, environment=environment, folder=folder) as process:
        return Ended(process.end(), process.output)
