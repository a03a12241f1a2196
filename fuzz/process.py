"""The handle on the process that runs cases: it is killed when a case hangs, and started again when it is gone."""

import ast
import os
import select
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO

from abaw.fuzz.mutation import Case
from abaw.tests.support.paths import CHECKOUT

START_S, CASE_S = 120.0, 10.0


class WorkerProcess:
    """Runs cases one after another, each for 10 s at most.

    Args:
        base: see `Worker`.
    """

    def __init__(self, base: Path) -> None:
        self._base = base
        self._process: subprocess.Popen[bytes] | None = None
        self._is_ready = False
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  it lives as long as this

    def start(self) -> None:
        """Start the process; it loads the package while the caller does something else."""
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
        if not self._is_ready:
            said = self._answer(START_S)
            assert said == "ready", said
            self._is_ready = True
        self._errors.truncate(0)
        self._process.stdin.write(repr(tuple(case)).encode() + b"\n")
        found = self._answer(limit_s)
        if found.startswith("hang") and tries > 1:
            warmed = self.run(case._replace(changes=()), START_S, tries=1)
            return warmed if warmed.startswith("hang") else self.run(case, limit_s, tries - 1)
        return found

    def _answer(self, limit_s: float) -> str:
        assert self._process is not None and self._process.stdout is not None
        line = b""
        while not line.endswith(b"\n"):
            if not select.select([self._process.stdout], [], [], limit_s)[0]:
                return f"hang: more than {limit_s:g} s\n{self._end()}"
            part = self._process.stdout.read(1 << 16)
            if not part:
                code, said = self._process.wait(), self._end()
                # the traceback of a case that takes too long is read from threads that run, which may be its death
                end = f"hang: exit code {code}" if "Timeout (" in said else f"crash: exit code {code}"
                return f"{end}\n{said}"
            line += part
        return str(ast.literal_eval(line.decode()))

    def _end(self) -> str:
        """Stop the process; what it said last."""
        if self._process is None:
            return ""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        self._process, self._is_ready = None, False
        self._errors.seek(0)
        return self._errors.read()[-4000:].decode(errors="replace")

    def close(self) -> None:
        """Stop the process."""
        self._end()
