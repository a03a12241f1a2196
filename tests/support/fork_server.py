"""A process that has loaded `abaw` and dask once, and forks for each program that a test starts.

A new Python takes seconds of a core to load torch, and a test of a cluster needs up to ten of them. Here a program
begins with all modules loaded, and so do the workers that it starts: dask takes them from a fork server of the program's
own. What a test says about the start of a process needs a new Python.
"""

import faulthandler
import gc
import importlib
import json
import os
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from itertools import pairwise
from multiprocessing import forkserver, resource_tracker, util
from pathlib import Path
from typing import Any

import psutil

from abaw.tests.support.command_line import LARGE_PAGES, process_environment

START_S = 180.0
DASK = {
    "DASK_DISTRIBUTED__WORKER__MULTIPROCESSING_METHOD": "forkserver",
    # else each process of dask, also one that has nothing to do, looks at itself a hundred times a second
    "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False",
    "DASK_DISTRIBUTED__ADMIN__TICK__INTERVAL": "500ms",
}
MODULES = (
    *("abaw.cli", "abaw.commands.extract", "abaw.commands.train", "abaw.extract.cluster.driver"),
    *("abaw.extract.cluster.cluster", "abaw.extract.cluster.worker", "abaw.backbones.vision.hog"),
    *("abaw.train.train_runs", "abaw.train.new_run", "abaw.evaluate.trained", "torch.utils.tensorboard"),
    "torch._dynamo",  # which the first optimizer loads
    *("distributed.cli.dask_scheduler", "distributed.cli.dask_worker", "dask.__main__"),
)


class ForkedProgram:
    """A program of the fork server; its methods are those of `subprocess.Popen`.

    Args:
        connection: to the process that waits for it, which says its number at once and its exit code at its end.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection, self._answers = connection, connection.makefile("r")
        self.pid = int(self._answers.readline())
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Its exit code; None while it runs."""
        if self.returncode is None and select.select([self._connection], [], [], 0)[0]:
            self.returncode = int(self._answers.readline())
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end, and return the exit code.

        Raises:
            subprocess.TimeoutExpired: it runs still.
        """
        if self.returncode is None and not select.select([self._connection], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
        code = self.poll()
        assert code is not None
        return code

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


@cache
def _address() -> str:
    """Where the server listens, which ends with the tests. The workers of pytest-xdist share it: the first one starts it."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID")
    folder = Path(tempfile.gettempdir(), f"abaw-fork-{run}") if run else Path(tempfile.mkdtemp(prefix="abaw-fork-"))
    folder.mkdir(mode=0o700, exist_ok=True)
    address, own = folder / "server", folder / str(os.getpid())
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(own))
        listener.listen(64)
        with suppress(FileExistsError):
            address.hardlink_to(own)
            _start(listener, folder)
    return str(address)


def _start(listener: socket.socket, folder: Path) -> None:
    tests = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
    server = subprocess.Popen(
        [sys.executable, "-m", __name__, str(listener.fileno()), str(tests), str(folder)],
        env={**process_environment(), **DASK, **LARGE_PAGES, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        pass_fds=[listener.fileno()],
    )
    server.returncode = 0  # it may run longer than this process, which does not wait for it


def start_forked(
    module: str, arguments: Sequence[str], environment: Mapping[str, str], folder: Path, log: int
) -> ForkedProgram:
    """Start `python -m MODULE ARGUMENTS` in a session of its own.

    Args:
        folder: that it works in.
        log: descriptor of the file that gets its output.
    """
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(START_S)
    connection.connect(_address())
    request = {"module": module, "arguments": arguments, "environment": dict(environment), "folder": str(folder)}
    socket.send_fds(connection, [b"+"], [log])
    connection.sendall(json.dumps(request).encode())
    connection.shutdown(socket.SHUT_WR)
    program = ForkedProgram(connection)
    connection.settimeout(None)
    return program


# the other end


def serve(listener: socket.socket, tests: int) -> tuple[dict[str, Any], int] | None:
    """Fork for each connection, until the tests have ended.

    Args:
        tests: number of their main process.

    Returns:
        In the new processes, the request and its log; in the server, None.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that wait
    while psutil.pid_exists(tests):
        if not select.select([listener], [], [], 1.0)[0]:
            continue
        connection, _ = listener.accept()
        if os.fork() == 0:
            return attend(connection)
        connection.close()
    return None


def attend(connection: socket.socket) -> tuple[dict[str, Any], int]:
    """Fork once more, and say number and exit code of that process; only that process returns, with its request and log."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _, (log,), _, _ = socket.recv_fds(connection, 1, 1)
    with connection.makefile("rb") as stream:
        request = json.loads(stream.read())
    pid = os.fork()
    if pid == 0:
        os.setsid()
        connection.sendall(f"{os.getpid()}\n".encode())
        return request, log
    _, status = os.waitpid(pid, 0)
    connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def become(request: dict[str, Any], log: int) -> None:
    """Take over what a new Python would have from the start."""
    for stream, descriptor in ((0, os.open(os.devnull, os.O_RDONLY)), (1, log), (2, log)):
        os.dup2(descriptor, stream)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the tests run in the background
    if os.environ.get("PYTHONFAULTHANDLER"):
        faulthandler.enable()
    sys.path[:0] = os.environ["PYTHONPATH"].split(os.pathsep)
    if (Path(sys.path[0]) / "sitecustomize.py").exists():
        sys.modules.pop("sitecustomize", None)
        importlib.import_module("sitecustomize")
    sys.argv[1:] = request["arguments"]


def fork_worker_server() -> None:
    """Start the fork server of `multiprocessing` in a copy of this process, which has the modules."""

    def fork_instead(_: str, command: Sequence[str], descriptors: Sequence[int]) -> int:
        pid = os.fork()
        if pid == 0:
            kept = sorted({0, 1, 2, *descriptors})
            for one, following in pairwise([*kept, os.sysconf("SC_OPEN_MAX")]):
                os.closerange(one + 1, following)
            try:
                exec(command[-1])
            finally:
                os._exit(0)
        return pid

    resource_tracker.ensure_running()
    start = util.spawnv_passfds
    util.spawnv_passfds = fork_instead
    try:
        forkserver.ensure_running()
    finally:
        util.spawnv_passfds = start


def main(listener: socket.socket, tests: int, folder: Path) -> None:
    """Load what programs need, serve, and run what a new process is asked for."""
    for name in MODULES:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # a collection in a new process would copy what is shared
    assert threading.active_count() == 1, "threads do not survive a fork"
    request = serve(listener, tests)
    if request is None:
        shutil.rmtree(folder)
        return
    become(*request)
    fork_worker_server()
    runpy.run_module(request[0]["module"], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]), Path(sys.argv[3]))
