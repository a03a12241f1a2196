"""Runs `abaw` commands quickly, one after another or at once, with faults: each is forked from a process that is ready."""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from abaw.fuzz.changes import GO_ON, Fault
from abaw.tests.support.command_line import LARGE_PAGES, process_environment

LIMIT_S = 600.0  # a busy machine is slow


@dataclass(frozen=True)
class Outcome:
    """How a command ended.

    Attributes:
        exit_code: minus the number of the signal for a process that was killed.
        output: what it printed.
        errors: what it printed to standard error.
        changes: its changes of the file system, a line each; see `ChangeWatch`.
        timed_out: it was killed at its limit.
        cpu_s: processor time that it took.
    """

    exit_code: int
    output: str
    errors: str
    changes: list[str]
    timed_out: bool
    seconds: float
    cpu_s: float


class ForkServer:
    """Runs commands in processes that are forked from one with all modules loaded.

        with ForkServer() as server:
            outcome = server.run(["train", "--task", "va"], folder, Fault(3, "kill"))

    Its cache and temporary files lie in a folder of its own, unless `environment` names others. Threads may call it.
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="abaw-trials-")
        self.folder = Path(self._folder.name)
        for name in ("tmp", "home", "matplotlib", "logs"):
            (self.folder / name).mkdir()
        places = {"TMPDIR": "tmp", "HOME": "home", "MPLCONFIGDIR": "matplotlib", "ABAW_CACHE": "tmp/cache"}
        environment = {**process_environment(), **{key: str(self.folder / name) for key, name in places.items()}}
        environment |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "SOURCE_DATE_EPOCH": "0", **LARGE_PAGES}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "abaw.fuzz.fork_server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            bufsize=0,
        )
        self._lock, self._number, self._is_closed = threading.Lock(), 0, False
        self._waiting: dict[int, Future[dict[str, Any]]] = {}
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def __enter__(self) -> "ForkServer":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process, and what still runs."""
        assert self._process.stdin is not None
        self._is_closed = True
        self._process.stdin.close()
        self._process.wait()
        self._listener.join()
        self._folder.cleanup()

    def run(
        self,
        command: Sequence[object],
        folder: Path,
        fault: Fault | None = None,
        root: Path | None = None,
        environment: Mapping[str, str] | None = None,
        limit_s: float = LIMIT_S,
        not_counted: str = "",
    ) -> Outcome:
        """Run `abaw COMMAND` to its end; see `start`."""
        return self.start(command, folder, fault, root, environment, limit_s, not_counted).outcome()

    def start(
        self,
        command: Sequence[object],
        folder: Path,
        fault: Fault | None = None,
        root: Path | None = None,
        environment: Mapping[str, str] | None = None,
        limit_s: float = LIMIT_S,
        not_counted: str = "",
        delay_s: float = 0.0,
    ) -> "Running":
        """Start `abaw COMMAND`.

        Args:
            command: the arguments, without `abaw`.
            folder: where it is called.
            fault: what happens to it; by default its changes are counted only.
            root: the folder whose changes count; by default the one where it is called.
            environment: further variables.
            limit_s: after which it is killed.
            not_counted: changes of paths with this text do not count, as `tensorboard/events`, whose thread writes when it likes.
            delay_s: before it begins.
        """
        with self._lock:
            self._number += 1
            number, future = self._number, Future[dict[str, Any]]()
            self._waiting[number] = future
        base = self.folder / "logs" / str(number)
        request = {
            "number": number,
            "command": [str(part) for part in command],
            "folder": str(folder),
            "root": str(root or folder),
            "fault": asdict(fault or Fault()),
            "environment": dict(environment or {}),
            "limit_s": limit_s,
            "not_counted": not_counted,
            "delay_s": delay_s,
            **{name: f"{base}.{name}" for name in ("output", "errors", "log")},
        }
        with self._lock:
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
        return Running(base, future)

    def _listen(self) -> None:
        assert self._process.stdout is not None
        stream = os.fdopen(os.dup(self._process.stdout.fileno()), "rb")
        for line in stream:
            answer = json.loads(line)
            if answer != "ready":
                self._waiting.pop(answer["number"]).set_result(answer)
        stream.close()
        for future in self._waiting.values():
            future.set_exception(RuntimeError("the fork server has ended"))


class Running:
    """A command that runs.

    Args:
        base: beginning of the names of its files.
        future: gives what the server answers.
    """

    def __init__(self, base: Path, future: "Future[dict[str, Any]]") -> None:
        self._base, self._future = base, future

    def wait_for_change(self, number: int) -> None:
        """Wait until the command has come to one of its changes, or has ended."""
        log = Path(f"{self._base}.log")
        while not self._future.done():
            if log.is_file() and log.read_bytes().count(b"\n") >= number:
                break
            time.sleep(0.01)

    def go_on(self) -> None:
        """Let a command continue that was held at a change."""
        Path(f"{self._base}.log{GO_ON}").touch()

    def outcome(self) -> Outcome:
        """Wait for its end."""
        answer = self._future.result()
        texts = []
        for name in ("output", "errors", "log"):
            path = Path(f"{self._base}.{name}")
            texts.append(path.read_text(errors="replace") if path.is_file() else "")
            path.unlink(missing_ok=True)
        Path(f"{self._base}.log{GO_ON}").unlink(missing_ok=True)
        return Outcome(
            exit_code=answer["exit_code"], output=texts[0], errors=texts[1], changes=texts[2].splitlines(),
            timed_out=answer["timed_out"], seconds=answer["seconds"], cpu_s=answer["cpu_s"],
        )  # fmt: skip
