"""The process that runs cases: it notes what they write and run, and may be killed when one hangs.

It is forked from one that has loaded the package, so that the next one is there at once.
A case comes as a literal on a line of standard input, and a line with what became of it goes out.
"""

import ast
import contextlib
import faulthandler
import gc
import os
import resource
import shutil
import sys
import traceback
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGING = (
    "os.mkdir",
    "os.remove",
    "os.rmdir",
    "os.symlink",
    "os.link",
    "os.rename",
    "os.truncate",
    "os.chmod",
    "os.chown",
)
RUNNING = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "pty.spawn",
           "pickle.find_class", "socket.connect", "socket.getaddrinfo", "ctypes.dlopen", "webbrowser.open")  # fmt: skip
EXTRA_BYTES = 3 * 2**30  # that a case may take beside what the process has


class Guard:
    """Notes what is done outside of the folder of a case."""

    def __init__(self) -> None:
        self.folder = ""
        self.found: list[str] = []
        self.is_on = False
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.is_on:
            return
        if event == "open":
            path, _, flags = arguments
            if isinstance(path, str | bytes) and flags is not None and flags & WRITING:
                self._check_place(event, path)
        elif event in CHANGING:
            self._check_change(event, arguments)
        elif event in RUNNING and not _is_harmless():
            self._note(f"{event} {arguments!r}")
        elif event == "exec":
            name = getattr(arguments[0], "co_filename", "")
            if name.startswith(("<string>", self.folder)) and not _is_harmless():
                self._note(f"{event} of {name}")
        elif event == "import" and str(arguments[1]).startswith(self.folder):
            self._note(f"{event} {arguments[1]}")

    def _check_change(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in ("os.rename", "os.link"):
            source, target, source_folder, target_folder = arguments
            self._check_place(event, _joined(target, target_folder))
            if event == "os.rename":
                self._check_place(event, _joined(source, source_folder))
        elif event == "os.symlink":
            self._check_place(event, _joined(arguments[1], arguments[2]))
        else:
            is_at = event in ("os.mkdir", "os.remove", "os.rmdir", "os.chmod", "os.chown")
            self._check_place(event, _joined(arguments[0], arguments[-1] if is_at else -1))

    def _check_place(self, event: str, path: Any) -> None:
        if not isinstance(path, str | bytes | os.PathLike):
            return
        text = os.fsdecode(path)
        # the folder it lies in tells where a file is made; a link itself is replaced or deleted, unless it is opened
        real = os.path.realpath(text) if event in ("open", "os.truncate", "os.chmod") else _real_parent(text)
        if event == "os.mkdir" and os.path.isdir(real):  # noqa: PTH112  it is there: nothing is made
            return
        if not real.startswith(self.folder) and real != os.devnull and not real.startswith("/proc/self"):
            self._note(f"{event} {text} outside of the case's folder, at {real}")

    def _note(self, sentence: str) -> None:
        self.is_on = False
        where = "".join(traceback.format_stack(limit=14)[:-3])
        self.found.append(f"{sentence}\n{where}")
        self.is_on = True


def _is_harmless() -> bool:
    """True while a module is loaded for the first time, or dask tells functions apart: they run text and unpickle."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib") or "/dask/tokenize" in frame.f_code.co_filename:
            return True
        frame = frame.f_back
    return False


def _joined(path: Any, folder: int) -> Any:
    """A path that is given from an open folder, as a whole."""
    if folder == -1 or not isinstance(path, str | bytes | os.PathLike):
        return path
    return os.path.join(os.readlink(f"/proc/self/fd/{folder}"), os.fsdecode(path))  # noqa: PTH115, PTH118


def _real_parent(path: str) -> str:
    folder, name = os.path.split(path)  # a Path would drop a dot at the end
    return os.path.join(os.path.realpath(folder or "."), name)  # noqa: PTH118


def forget_peak() -> int:
    """Bytes of memory that this process has, from which `peak_bytes` counts."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak_bytes()


def peak_bytes() -> int:
    """The most memory that this process has had since `forget_peak`."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


def listing(folder: Path) -> dict[str, object]:
    """What is in a folder: sizes and times by name."""
    return {str(path.relative_to(folder)): (path.is_dir() or (path.stat().st_size, path.stat().st_mtime_ns))
            for path in sorted(folder.rglob("*"))}  # fmt: skip


class Worker:
    """Runs cases in a folder of their own, `<base>/case`, beside which nothing may change.

    Args:
        base: holds `seeds/<kind>`; gets `case/`, the working folder `here/`, and `outside/`, where links lead.
    """

    def __init__(self, base: Path) -> None:
        self.base, self.case = base, base / "case"
        self.here, self.outside = base / "here", base / "outside"
        self.guard = Guard()

    def run(self, literal: str) -> str:
        """What became of a case: `result`, `error`, or what went wrong."""
        from abaw.fuzz.bombs import BOMBS, plant
        from abaw.fuzz.hdf5 import change_hdf5
        from abaw.fuzz.kinds import ROUTES
        from abaw.fuzz.mutation import Case, change_file

        case = Case(*ast.literal_eval(literal))
        for folder in (self.case, self.outside, self.here):
            shutil.rmtree(folder, ignore_errors=True)
        self.here.mkdir()
        os.chdir(self.here)
        shutil.copytree(self.base / "seeds" / case.kind, self.case, symlinks=True)
        (self.case / "tmp").mkdir()
        shutil.copytree(self.base / "seeds" / "outside", self.outside)
        file = self.case / case.file
        most_bytes = 0
        for change in case.changes:
            if change[0] == "plant":
                plant(file, *change[1])
                most_bytes = BOMBS[change[1][0]].most_bytes
            elif change[0] == "hdf5":
                at, what = change[1]
                change_hdf5(file, at, what, self.outside)
            else:
                file = change_file(file, change, self.outside)
        before = listing(self.outside)
        used = forget_peak() if most_bytes else 0
        outcome = self._guarded(lambda: ROUTES[case.kind][case.route](self.case, file))
        if most_bytes and peak_bytes() - used > most_bytes:
            return f"memory: {(peak_bytes() - used) / 1e6:.0f} MB, {outcome}"
        if self.guard.found:
            return "violation: " + self.guard.found[0]
        if listing(self.outside) != before or any(self.here.iterdir()):
            return f"violation: changed {sorted(set(listing(self.outside)) ^ set(before))}, {list(self.here.iterdir())}"
        return outcome

    def _guarded(self, call: Any) -> str:
        from abaw.core.errors import AbawError

        self.guard.folder, self.guard.found = f"{self.case}{os.sep}", []
        self.guard.is_on = True
        try:
            call()
            return "result"
        except AbawError as error:
            text = str(error)
            is_sentence = text and len(text.splitlines()) == 1 and len(text) < 30_000 and text.isprintable()
            return "error" if is_sentence else f"no sentence: {text[:500]!r}"
        except BaseException:
            return "traceback: " + traceback.format_exc()
        finally:
            self.guard.is_on = False


def main(base: Path) -> None:
    """Load the package, and fork a process that serves cases until standard input ends; one that dies is replaced."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the package prints is none of the answers
    os.environ |= {"TMPDIR": str(base / "case" / "tmp"), "ABAW_CACHE": str(base / "case" / "tmp" / "cache")}
    os.environ["MPLCONFIGDIR"] = str(base / "matplotlib")
    sys.dont_write_bytecode = True
    from abaw.fuzz import kinds  # noqa: F401
    from abaw.fuzz.fork_server import load_modules

    load_modules()  # no case has time for it, and matplotlib writes a cache then
    for _, hard in [resource.getrlimit(resource.RLIMIT_AS)]:
        with open("/proc/self/statm") as stream:
            used = int(stream.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + EXTRA_BYTES, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    gc.freeze()  # a collection in a new process would copy what is shared
    while os.fork():
        code = os.waitstatus_to_exitcode(os.wait()[1])
        if code == 0:
            return
        print(repr(f"died {code}"), file=answers, flush=True)
    serve(Worker(base), answers)


def serve(worker: Worker, answers: TextIO) -> None:
    """Say the number of this process, and run cases."""
    print(repr(f"ready {os.getpid()}"), file=answers, flush=True)
    for line in sys.stdin:
        print(repr(worker.run(line)), file=answers, flush=True)


if __name__ == "__main__":
    faulthandler.enable()
    with contextlib.suppress(KeyboardInterrupt):
        main(Path(sys.argv[1]))
