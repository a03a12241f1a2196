"""Workers of pytest-xdist, forked from the main process once that has imported the tests.

A worker in a Python of its own imports torch, transformers and two hundred test files by itself, which takes it half a
minute of a core, and twice as long where they are not compiled yet.
"""

import atexit
import gc
import logging
import os
import signal
import sys
import threading
import warnings
import weakref
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import pytest
from _pytest.pathlib import ImportMode, import_path
from execnet import gateway_io
from execnet.gateway_base import Popen2IO
from execnet.xspec import XSpec

GPU = Path("/dev/nvidiactl")  # CUDA does not survive a fork


class ForkedWorker(Popen2IO):
    """A worker as execnet sees it: pipes to it, and its end."""

    def __init__(self, config: pytest.Config, others: Sequence["ForkedWorker"]) -> None:
        commands, to_worker = os.pipe()
        from_worker, answers = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            for stream in (stream for other in others for stream in (other.infile, other.outfile)):
                os.close(stream.fileno())
            os.close(to_worker)
            os.close(from_worker)
            become_worker(config, commands, answers)
        os.close(commands)
        os.close(answers)
        super().__init__(os.fdopen(to_worker, "wb"), os.fdopen(from_worker, "rb"), None)

    def wait(self) -> int | None:
        """Wait for its end; returns the exit code, or None where it has been asked for before."""
        with suppress(ChildProcessError):
            return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return None

    def kill(self) -> None:
        """End it at once."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


def fork_workers(config: pytest.Config, specs: Sequence[XSpec]) -> None:
    """Fork the workers that pytest-xdist is about to start. Where that cannot be, each starts in a Python of its own.

    Args:
        specs: of all workers, as execnet takes them.
    """
    can_fork = sys.platform == "linux" and not GPU.exists() and threading.active_count() == 1
    if not can_fork or any(spec.python or not spec.popen for spec in specs) or not import_tests(config):
        return
    gc.collect()
    gc.freeze()  # a collection in a worker would copy what is shared
    workers: list[ForkedWorker] = []
    for _ in specs:
        workers.append(ForkedWorker(config, workers))
    start = gateway_io.create_io

    def create_io(spec: XSpec, execmodel: Any) -> Any:
        if not workers:  # one that takes the place of a worker that died
            return start(spec, execmodel)
        workers[0].execmodel = execmodel
        return workers.pop(0)

    gateway_io.create_io = create_io


def import_tests(config: pytest.Config) -> bool:
    """Import the test files of this run; False if one cannot be imported, which its worker says better."""
    places = [Path(config.invocation_params.dir, argument.split("::")[0]) for argument in config.args]
    files = [file for place in places for file in (sorted(place.rglob("test_*.py")) if place.is_dir() else [place])]
    options = {"root": config.rootpath, "consider_namespace_packages": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for file in files:
                import_path(file, mode=ImportMode.importlib, **options)
        except (Exception, pytest.skip.Exception):
            return False
    return True


def become_worker(config: pytest.Config, commands: int, answers: int) -> NoReturn:
    """In a new process: leave behind what belongs to the main process, do what execnet sends, and exit."""
    code = 1
    try:
        config.pluginmanager.getplugin("capturemanager").stop_global_capturing()
        logging.getLogger().handlers.clear()
        for finalizer in weakref.finalize._registry:  # type: ignore[attr-defined]
            finalizer.atexit = False  # temporary folders of the main process
        os.dup2(commands, 0)
        os.dup2(answers, 1)
        sys.stdin, sys.stdout = os.fdopen(0, closefd=False), os.fdopen(1, "w", buffering=1, closefd=False)
        exec(eval(sys.stdin.readline()), {"__name__": "__main__"})
        atexit._run_exitfuncs()
        code = 0
    finally:
        os._exit(code)
