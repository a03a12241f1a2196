"""The process that has loaded `abaw` once, and forks for each command.

A request comes as JSON on a line of standard input, and the answer goes out when the command has ended; several may run
at once. See `abaw.fuzz.trials`, which holds the other end. Commands that start processes (local clusters, `--workers`)
are no use here: those inherit neither the modules nor the faults.
"""

import atexit
import gc
import importlib
import json
import os
import selectors
import signal
import sys
import threading
import time
import traceback
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from abaw.fuzz.changes import ChangeWatch, Fault

IMPORTED_LATE = (
    *(
        "torch.utils.tensorboard",
        "sklearn.linear_model",
        "scipy.stats",
        "scipy.signal",
        "fontTools.subset",
        "rich._emoji_codes",
    ),
    *("opensmile", "matplotlib.pyplot", "matplotlib.backends.backend_agg", "matplotlib.backends.backend_pdf"),
)


class Trials:
    """The commands that run, by the descriptor that tells of their end.

    Args:
        answers: where the answers go.
    """

    def __init__(self, answers: int) -> None:
        self.answers = answers
        self.running: dict[int, tuple[dict[str, Any], int, float]] = {}

    def start(self, request: dict[str, Any]) -> int:
        """Fork for a request; returns the descriptor of the new process."""
        pid = os.fork()
        if pid == 0:
            _run_command(request)
        descriptor = os.pidfd_open(pid)
        self.running[descriptor] = (request, pid, time.monotonic())
        return descriptor

    def end(self, descriptor: int, timed_out: bool = False) -> None:
        """Answer for a process that has ended, or that is killed now, with all that it has started."""
        request, pid, begin = self.running.pop(descriptor)
        if timed_out:
            os.kill(pid, signal.SIGKILL)
        _, status, usage = os.wait4(pid, 0)
        os.close(descriptor)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
        answer = {
            "number": request["number"],
            "exit_code": os.waitstatus_to_exitcode(status),
            "timed_out": timed_out,
            "seconds": time.monotonic() - begin,
            "cpu_s": usage.ru_utime + usage.ru_stime,
        }
        os.write(self.answers, json.dumps(answer).encode() + b"\n")

    def end_late(self) -> None:
        """Kill what is beyond its limit."""
        now = time.monotonic()
        for descriptor in [d for d, (request, _, begin) in self.running.items() if now - begin > request["limit_s"]]:
            self.end(descriptor, timed_out=True)


def _run_command(request: dict[str, Any]) -> NoReturn:
    """In a new process: run a command in its folder, and exit with its code."""
    code = 70
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number, name in ((0, os.devnull), (1, request["output"]), (2, request["errors"])):
            os.dup2(os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600), number)
        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        os.chdir(request["folder"])
        os.environ.update(request["environment"])
        os.sched_getaffinity = lambda pid: {0}  # one processor: nothing starts processes
        time.sleep(request["delay_s"])
        code = _guarded(request, log)
    finally:
        os._exit(code)


def _guarded(request: dict[str, Any], log: int) -> int:
    """The exit code of a command; with the end that an interpreter has: threads are waited for, exit functions called."""
    from abaw.cli import main

    sys.argv = ["abaw", *request["command"]]
    watch = ChangeWatch(Path(request["root"]), Fault(**request["fault"]), log, request["not_counted"])
    code = 0
    try:
        main(args=request["command"], prog_name="abaw")
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    watch.finish()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    return code


def load_modules() -> None:
    """Import all that commands need, and what they import when they are called."""
    import matplotlib

    matplotlib.use("Agg")
    for name in IMPORTED_LATE:
        importlib.import_module(name)
    import torch
    from PIL import Image

    from abaw.studies.house import modules_of
    from abaw.tests.support.paths import CHECKOUT

    torch.set_num_threads(1)
    Image.init()
    for name in modules_of(CHECKOUT):
        if not name.startswith("abaw.backbones.audio.") and not name.endswith("__main__"):
            importlib.import_module(name)


def main() -> None:
    """Serve requests until standard input ends; what runs then is killed."""
    answers = os.dup(1)
    os.dup2(2, 1)  # what the package prints is no answer
    load_modules()
    for finalizer in weakref.finalize._registry:  # type: ignore[attr-defined]
        finalizer.atexit = False  # libraries take themselves apart, which is a fifth of the time of a command here
    gc.collect()
    gc.freeze()  # no collection in a new process copies what is shared
    assert threading.active_count() == 1, "threads do not survive a fork"
    trials, selector, rest = Trials(answers), selectors.DefaultSelector(), b""
    selector.register(0, selectors.EVENT_READ)
    os.write(answers, b'"ready"\n')
    while True:
        for key, _ in selector.select(0.5 if trials.running else None):
            if key.fd != 0:
                selector.unregister(key.fd)
                trials.end(key.fd)
                continue
            part = os.read(0, 1 << 16)
            if not part:
                for descriptor in list(trials.running):
                    trials.end(descriptor, timed_out=True)
                return
            *lines, rest = (rest + part).split(b"\n")
            for line in lines:
                selector.register(trials.start(json.loads(line)), selectors.EVENT_READ)
        late = set(trials.running)
        trials.end_late()
        for descriptor in late - set(trials.running):
            selector.unregister(descriptor)


if __name__ == "__main__":
    main()
