"""Faults at the k-th change of the file system: the process counts its changes, and dies or fails at one of them.

Audit events show what Python changes: files opened for writing, and folders and links made, renamed and deleted. What C
code opens by itself (HDF5, videos, safetensors) has no such event and gets one from `count_native_files`. Not counted are
writes into an open or mapped file, changes of permissions and times, and what other processes change. A kill `torn`
covers the writes: the file is cut in the middle of what was written, as where the process dies between two writes.
"""

import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from errno import EDQUOT, ENOSPC
from pathlib import Path
from typing import Any, Literal

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
# the index of the open folder that the path is taken from
TAKEN_FROM = {"os.remove": 1, "os.rmdir": 1, "os.mkdir": 2, "os.rename": 2, "os.link": 2, "os.symlink": 2}
CHANGING = (*TAKEN_FROM, "os.truncate")
GO_ON = ".go-on"  # ends the name of the file for which a held process waits, next to its log
FREEING = ("os.remove", "os.rmdir")  # succeed on a full disk


@dataclass(frozen=True)
class Fault:
    """What happens at a change of the file system.

    Attributes:
        at: which change, from 1; 0 is none.
        kind: `kill` ends the process before the change. `torn` ends it after, when half is written of the file that is
            opened there; at other changes it is `kill`. `error` lets the change fail.
            `hold` lets it wait before the change until it may go on, see `Running.go_on`.
        code: of the error, such as `errno.EACCES`.
        lasts: all later changes fail, too.
    """

    at: int = 0
    kind: Literal["kill", "torn", "error", "hold"] = "kill"
    code: int = 0
    lasts: bool = False


class ChangeWatch:
    """Counts the changes of this process under a folder from now on, and does a fault at one of them.

    Args:
        root: the folder.
        fault: what happens, and at which change.
        log: descriptor of a file that gets a line for each change: its number, event, and path under the root, as `repr`
            gives it. Of a file that is renamed the line has the new path, too.
        not_counted: changes of paths with this text do not count; empty for none.
    """

    def __init__(self, root: Path, fault: Fault, log: int, not_counted: str = "") -> None:
        self._root, self._fault, self._log, self._not_counted = f"{root.resolve()}{os.sep}", fault, log, not_counted
        self._n = 0
        self._torn: tuple[str, int] | None = None
        sys.addaudithook(self._hear)
        count_native_files()

    def finish(self) -> None:
        """Die now if the fault is a torn file that was the last change."""
        if self._torn:
            self._tear()

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if isinstance(path, int) or not isinstance(flags, int) or not flags & WRITING:
                return
            paths = [path]
        elif event in CHANGING:
            paths = [_from_folder(arguments[0], arguments[TAKEN_FROM[event]] if event in TAKEN_FROM else -1)]
            if event in ("os.rename", "os.link", "os.symlink"):
                paths.append(_from_folder(arguments[1], arguments[-1]))
        else:
            return
        places = [os.path.abspath(os.fsdecode(path)) for path in paths if isinstance(path, str | bytes | os.PathLike)]  # noqa: PTH100
        is_counted = any(place.startswith(self._root) for place in places)
        if is_counted and not (self._not_counted and self._not_counted in places[0]):
            self._count(event, places, arguments)

    def _count(self, event: str, places: list[str], arguments: tuple[Any, ...]) -> None:
        if self._torn:
            self._tear()
        self._n += 1
        shown = " ".join(repr(place.removeprefix(self._root)) for place in places)
        os.write(self._log, f"{self._n} {event} {shown}\n".encode(errors="replace"))
        fault = self._fault
        if fault.kind == "error":
            is_spared = fault.code in (ENOSPC, EDQUOT) and event in FREEING
            if (self._n == fault.at or (fault.lasts and self._n > fault.at > 0)) and not is_spared:
                raise OSError(fault.code, os.strerror(fault.code), places[0])
        elif self._n == fault.at and fault.kind == "hold":
            while not os.path.exists(os.readlink(f"/proc/self/fd/{self._log}") + GO_ON):  # noqa: PTH110, PTH115
                time.sleep(0.01)
        elif self._n == fault.at:
            if fault.kind == "kill" or event != "open":
                _die()
            is_emptied = arguments[2] & os.O_TRUNC
            self._torn = (places[0], 0 if is_emptied or not os.path.isfile(places[0]) else os.path.getsize(places[0]))  # noqa: PTH113, PTH202

    def _tear(self) -> None:
        """Cut the file that is open since the last change to half of what was written, and die."""
        assert self._torn is not None
        (path, n_before), self._torn = self._torn, None
        self._root = "\0"  # nothing counts any more
        if os.path.isfile(path):  # noqa: PTH113
            n_bytes = os.path.getsize(path)  # noqa: PTH202
            if n_bytes > n_before:
                descriptor = os.open(path, os.O_RDWR)
                os.ftruncate(descriptor, (n_before + n_bytes) // 2)
        _die()


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _from_folder(path: Any, folder: int) -> Any:
    """A path that is taken from an open folder, as a whole."""
    if folder == -1 or not isinstance(path, str | bytes | os.PathLike):
        return path
    return os.path.join(os.readlink(f"/proc/self/fd/{folder}"), os.fsdecode(path))  # noqa: PTH115, PTH118


def count_native_files() -> None:
    """Raise the audit event `open` where C code opens a file for writing: HDF5, videos and safetensors."""
    import av
    import h5py
    import safetensors.numpy
    import safetensors.torch

    file_init = h5py.File.__init__

    def audited_init(self: Any, name: Any, mode: str = "r", *args: Any, **kwargs: Any) -> None:
        if mode != "r" and isinstance(name, str | bytes | os.PathLike):
            sys.audit("open", os.fspath(name), mode, os.O_RDWR | os.O_CREAT | (os.O_TRUNC if mode in ("w", "x") else 0))
        file_init(self, name, mode, *args, **kwargs)

    h5py.File.__init__ = audited_init
    av.open = _audited(av.open, 0, lambda args, kwargs: "w" in (*args[1:2], kwargs.get("mode")))
    modules: list[Any] = [safetensors.numpy, safetensors.torch]
    for module in modules:
        module.save_file = _audited(module.save_file, 1, lambda args, kwargs: True)


def _audited(
    function: Callable[..., Any], index: int, writes: Callable[[tuple[Any, ...], dict[str, Any]], bool]
) -> Callable[..., Any]:
    """A function that raises the audit event `open` before it writes the file that is its argument number `index`."""

    def audited(*args: Any, **kwargs: Any) -> Any:
        if len(args) > index and isinstance(args[index], str | bytes | os.PathLike) and writes(args, kwargs):
            sys.audit("open", os.fspath(args[index]), "w", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        return function(*args, **kwargs)

    return audited
