"""The handle on the process that runs cases: it is killed when a case hangs, and another one is forked when it is gone."""

import ast
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

from abaw.fuzz.mutation import Case
from abaw.tests.support.paths import CHECKOUT

START_S, CASE_S = 300.0, 10.0


def waited_s(pid: int) -> float:
    """Seconds for which the first thread of a process could have run and had no core."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    except FileNotFoundError:  # not in every kernel
        return 0.0


class WorkerProcess:
    """Runs cases one after another, each for 10 s at most, not counting the time in which others have the cores.

    Args:
        base: see `Worker`.
    """

    def __init__(self, base: Path) -> None:
        self._base = base
        self._process: subprocess.Popen[bytes] | None = None
        self._pid = 0  # of the process that runs the next case, once it is there
        self._lines = b""
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  it lives as long as this

    def start(self) -> None:
        """Start the process that loads the package, while the caller does something else."""
        environment = {**os.environ, "PYTHONPATH": str(CHECKOUT / ".dev"), "OMP_NUM_THREADS": "1", "COLUMNS": "400"}
        command = [sys.executable, "-m", "abaw.fuzz.worker", str(self._base)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, env=environment, bufsize=0
        )

    def run(self, case: Case, limit_s: float = CASE_S, tries: int = 2) -> str:
        """What became of a case: `result`, `error`, or what went wrong; see `Worker.run`.

        Args:
            limit_s: when it counts as hanging.
            tries: so often it has to hang, as the machine may be busy with something else. Before another try the new
                process does the same with the files as they are, so that loading modules does not count again.
        """
        if self._process is None:
            self.start()
        assert self._process is not None and self._process.stdin is not None
        if not self._pid:
            said = self._answer(START_S)
            assert said.startswith("ready "), said or self._errors_said()
            self._pid = int(said.split()[1])
        self._errors.seek(0)
        self._errors.truncate()
        self._process.stdin.write(repr(tuple(case)).encode() + b"\n")
        found = self._outcome(limit_s)
        if found.startswith("hang") and tries > 1:
            warmed = self.run(case._replace(changes=()), START_S, tries=1)
            return warmed if warmed.startswith("hang") else self.run(case, limit_s, tries - 1)
        return found

    def _outcome(self, limit_s: float) -> str:
        answer = self._answer_within(limit_s)
        if answer and not answer.startswith("died "):
            return answer
        if answer:
            answer = f"crash: exit code {answer.split()[1]}"
        else:
            os.kill(self._pid, signal.SIGABRT)  # its threads write their stacks
            while not self._answer(START_S).startswith("died "):
                pass  # it has answered meanwhile
            answer = f"hang: more than {limit_s:g} s"
        self._pid = 0
        return f"{answer}\n{self._errors_said()}"

    def _answer_within(self, limit_s: float) -> str:
        """As `_answer`, but the time in which the case waits for a core does not count."""
        begin_s, before_s = time.monotonic(), waited_s(self._pid)
        answer, left_s = "", limit_s
        while not answer and left_s > 0:
            answer = self._answer(left_s)
            left_s = limit_s + waited_s(self._pid) - before_s - (time.monotonic() - begin_s)
        return answer

    def _answer(self, limit_s: float) -> str:
        """The next line of the process; empty if there is none in time.

        Raises:
            EOFError: it has ended.
        """
        assert self._process is not None and self._process.stdout is not None
        while b"\n" not in self._lines:
            if not select.select([self._process.stdout], [], [], limit_s)[0]:
                return ""
            part = self._process.stdout.read(1 << 16)
            if not part:
                raise EOFError(self._errors_said())
            self._lines += part
        line, _, self._lines = self._lines.partition(b"\n")
        return str(ast.literal_eval(line.decode()))

    def _errors_said(self) -> str:
        """The end of what the process wrote to standard error."""
        self._errors.seek(0)
        return self._errors.read()[-4000:].decode(errors="replace")

    def close(self) -> None:
        """Stop the process."""
        if self._process is None:
            return
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        self._process, self._pid, self._lines = None, 0, b""
