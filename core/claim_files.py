"""Claims: small files that name the process that writes a target, so that two commands never write it at once.

The claim on `runs/va` is the file `runs/.va.claim`. It is created exclusively, renewed every `BEAT_S` seconds, and deleted
at the end. A claim of a dead process is replaced. Whether a process of the same system is alive is asked of the system;
any other is alive while its claim changes, so clocks may differ and jump. A process whose claim was replaced while it was
suspended notices before it writes again: `check_claims` is called before a file is moved into place.
"""

import hashlib
import json
import logging
import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from shlex import join
from typing import Any

from abaw.core.errors import AbawError, printable
from abaw.core.names import MAX_NAME_BYTES

LOG = logging.getLogger("abaw")  # shown on standard error unless the caller sets up logging
BEAT_S = 10.0  # between two renewals of a claim
WATCH_S = 25.0  # a claim that does not change for so long, after it looked old, belongs to a dead process
DEAD_S = 120.0  # a claim that was renewed within this time belongs to a living process
CHECK_S = 2.0  # a claim that was seen to be in place is not looked at again for this long
HALF_WRITTEN_S = 1.0  # after which a claim without content belongs to a process that was killed while it wrote it
MAX_BYTES = 4096  # of a claim
MAX_COMMAND = 200  # characters


class BusyError(AbawError):
    """Another process is writing what this one was to write."""


class LostClaimError(AbawError):
    """Another process took over what this one was writing, while this one was suspended; nothing more may be written."""


@dataclass(frozen=True)
class Claim:
    """Who holds a claim.

    Attributes:
        host: name of the machine.
        process: its number.
        began: when it started, by the clock of the machine, in seconds; claims of older versions have nothing better.
        claimed, beat: when it was claimed and last renewed, by the clock of the machine, in seconds.
        boot, namespace: identify the running system and its table of processes; empty where these are unknown.
        start: when it started, in ticks since the system was started; empty where this is unknown.
        command: its command line.
        token: differs in every claim.
    """

    host: str
    process: int
    began: float
    claimed: float
    beat: float = 0.0
    boot: str = ""
    namespace: str = ""
    start: str = ""
    command: str = ""
    token: str = ""

    @classmethod
    def make(cls) -> "Claim":
        """A new claim of this process."""
        import psutil  # only who claims needs it

        number, now = os.getpid(), time.time()
        return cls(
            socket.gethostname(), number, psutil.Process().create_time(), now, now,
            _boot_id(), _pid_namespace(), _start_of(number), _command_line(), uuid.uuid4().hex,
        )  # fmt: skip

    @classmethod
    def parse(cls, content: Mapping[str, Any]) -> "Claim":
        """A claim from a file; keys of others are ignored.

        Raises:
            ValueError, KeyError, TypeError: it is not a claim that abaw wrote.
        """
        kinds = {"process": int, "began": float, "claimed": float, "beat": float}
        names = [entry.name for entry in fields(cls) if entry.name in content]
        return cls(**{name: kinds.get(name, str)(content[name]) for name in names})

    @classmethod
    def living_on(cls, target: Path) -> "Claim | None":
        """That of the living process that has claimed a target; None without one."""
        claim = _parse(_read(_claim_file(target)) or b"")
        return claim if claim is not None and _is_alive_now(claim) else None

    def describe(self) -> str:
        """The process, for a sentence."""
        command = f" (`{self.command}`)" if self.command else ""
        return f"process {self.process} on {self.host}{command}"

    def is_of_this_system(self) -> bool:
        """True if the system here can be asked whether the process is alive."""
        system, own = (self.boot, self.namespace), (_boot_id(), _pid_namespace())
        if all(system):
            return system == own
        # systems without /proc, and claims of older versions
        return self.host == socket.gethostname() and (system == own or not any(system))

    def is_running(self) -> bool:
        """True if the process is alive, asked of the system; only for processes of this system."""
        if not self.start:
            return _is_running(self.process, self.began)
        if start := _start_of(self.process):
            return start == self.start
        try:
            os.kill(self.process, 0)
        except ProcessLookupError:
            return False
        except OSError:  # it exists but belongs to another user
            pass
        return True

    def is_fresh(self) -> bool:
        """True if it was renewed a short time ago, if both clocks are right."""
        return -BEAT_S <= time.time() - self.beat < DEAD_S


def living(claims: Mapping[str, Claim], look: Callable[[], Mapping[str, Claim]]) -> set[str]:
    """Names of the claims whose processes are alive.

    This takes up to `WATCH_S` if one of another system looks old. It ends as soon as one is known to be alive.

    Args:
        look: reads the claims again; those that have ended are missing.
    """
    alive = {name for name, claim in claims.items() if _is_alive_now(claim)}
    doubtful = {name for name, claim in claims.items() if name not in alive and not claim.is_of_this_system()}
    if doubtful and not alive:
        names = ", ".join(sorted({claims[name].describe() for name in doubtful}))
        LOG.warning(printable(f"Waiting up to {WATCH_S:g} s to see whether {names} is still at work."))
    end = time.monotonic() + WATCH_S
    while doubtful and not alive and time.monotonic() < end:
        time.sleep(min(1.0, WATCH_S / 10))
        claims_now = look()
        doubtful &= claims_now.keys()
        alive |= {name for name in doubtful if claims_now[name].beat != claims[name].beat}
    return alive


def _is_alive_now(claim: Claim) -> bool:
    return claim.is_running() if claim.is_of_this_system() else claim.is_fresh()


def describe_busy(what: object, claim: Claim) -> str:
    """The sentence for the second of two commands."""
    return f"Another command is writing {what}: {claim.describe()}. Wait for it, or stop it and run this again."


@contextmanager
def claimed(*targets: Path, also: Iterable[Path] = ()) -> Iterator[None]:
    """Claim files or folders, which need not exist, for as long as the block runs.

    Leftovers of dead processes next to a file that is written in the block are deleted, see `abaw.core.files.writing`.

    Args:
        targets: each is claimed in the folder that it is in, which must exist.
        also: further files that are only written under these claims.

    Raises:
        BusyError: a living process has claimed one of them.
        OSError: the folder of one cannot be written to.
    """
    with ExitStack() as stack:
        for number, target in enumerate(dict.fromkeys(map(_plain, targets))):
            covered = (target, *map(_plain, also)) if number == 0 else (target,)
            stack.enter_context(_holding(_take(target, covered)))
        yield


def has_claim(target: Path) -> bool:
    """True if a process has claimed a target, or was killed before it deleted its claim."""
    return _claim_file(target).exists()


def drop_dead_claim(target: Path) -> None:
    """Delete the claim that a process left on a target if it was killed at its very end, for callers that write nothing."""
    file = _claim_file(target)
    if file.exists() or _lock_of(file).exists():
        # fails where a living process is at work on the target, or where nothing can be deleted
        with suppress(AbawError, OSError), claimed(target):
            pass


@contextmanager
def renewing(renew: Callable[[], None], is_lost: Callable[[], str | None]) -> Iterator[None]:
    """Renew a claim every `BEAT_S` seconds while the block runs, and let `check_claims` look at it.

    Args:
        renew: writes the claim again.
        is_lost: the sentence for an error if another process has replaced the claim; None if it is in place or
            cannot be read at the moment.
    """
    stop, watched = threading.Event(), _Watched(is_lost)

    def beat() -> None:
        while not stop.wait(BEAT_S):
            with suppress(Exception):  # the next one may succeed; if none does, the claim ends
                if not watched.look():
                    renew()

    thread = threading.Thread(target=beat, name="claim", daemon=True)
    _watched.append(watched)
    try:
        thread.start()
        yield
    finally:
        stop.set()
        _watched.remove(watched)
        if thread.ident is not None:
            thread.join()


def check_claims() -> None:
    """Raise a LostClaimError if another process has replaced a claim of this one while this one was suspended."""
    for watched in _watched:
        if watched.look_if_due():
            raise LostClaimError(watched.lost)


def must_sweep(path: Path) -> bool:
    """True if a claim of this process covers a file, and the file is written for the first time under this claim."""
    if not _held:
        return False
    path = _plain(path)
    for held in _held:
        if path not in held.swept and any(path == target or target in path.parents for target in held.covered):
            held.swept.add(path)
            return True
    return False


class _Watched:
    """A claim of this process that `check_claims` looks at."""

    def __init__(self, is_lost: Callable[[], str | None]) -> None:
        self._is_lost, self.lost = is_lost, ""
        self._seen = self._now()

    @staticmethod
    def _now() -> tuple[float, float]:
        return time.monotonic(), time.time()  # the first stops while some machines are suspended, the second jumps

    def look(self) -> str:
        """The sentence for an error if the claim is lost, else empty."""
        seen = self._now()
        self.lost = self.lost or self._is_lost() or ""
        self._seen = seen
        return self.lost

    def look_if_due(self) -> str:
        """Like `look`, but at most every `CHECK_S` seconds."""
        is_due = any(not 0 <= now - then < CHECK_S for now, then in zip(self._now(), self._seen, strict=True))
        return self.look() if is_due else self.lost


@dataclass
class _Held:
    """A claim of this process: its file, and what it covers."""

    file: Path
    number: int  # of the open file: a claim that was replaced is not written to any more
    line: bytes
    target: Path
    covered: tuple[Path, ...]
    swept: set[Path] = field(default_factory=set)

    def renew(self) -> None:
        """Write the time behind the first line."""
        os.pwrite(self.number, _beat_line(time.time()), len(self.line))

    def is_lost(self) -> str | None:
        """The sentence for an error if another claim is in place, or none."""
        try:
            content = _read(self.file)
        except OSError:
            return None
        if content is not None and content.startswith(self.line):
            return None
        other = _parse(content or b"")
        return describe_lost(self.target, other)


def describe_lost(what: object, other: Claim | None) -> str:
    """The sentence for a process whose claim was replaced, or deleted."""
    who = f"was taken over by {other.describe()}" if other is not None else "was deleted"
    return (
        f"The claim of this command on {what} {who} while this command was suspended or cut off. It has stopped and wrote "
        "nothing since. Let the other finish, then run this again."
    )


_held: list[_Held] = []
_left: set[bytes] = set()  # first lines of claims of this process that it could not delete
_watched: list[_Watched] = []


@contextmanager
def _holding(held: _Held) -> Iterator[None]:
    try:
        _held.append(held)
        with renewing(held.renew, held.is_lost):
            yield
    finally:
        _held.remove(held)
        with suppress(OSError):  # the folder may be gone or read-only by now; this process ends anyway
            if not held.is_lost():
                _left.add(held.line)
                held.file.unlink()
                _left.discard(held.line)
        os.close(held.number)


def _take(target: Path, covered: tuple[Path, ...]) -> _Held:
    """Create the claim on a target, after deleting that of a dead process."""
    file = _claim_file(target)
    while True:
        claim = Claim.make()
        line = f"{json.dumps(asdict(claim))}\n".encode()
        try:
            number = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        except FileExistsError:
            _delete_dead(file, target)
            continue
        try:
            os.write(number, line + _beat_line(claim.beat))
            held = _Held(file, number, line, target, covered)
            if not held.is_lost():  # else this took so long that another process took it for cut off
                _lock_of(file).unlink(missing_ok=True)  # left by a process that was killed in `_delete_dead`
                return held
        except BaseException:
            os.close(number)
            with suppress(OSError):
                file.unlink()
            raise
        os.close(number)


def _delete_dead(file: Path, target: Path) -> None:
    """Delete the claim of a dead process.

    Raises:
        BusyError: the process is alive.
    """
    content = _read_whole(file)
    if content is None:
        return
    claim = _parse(content)

    def look() -> dict[str, Claim]:
        now = _parse(_read(file) or b"")
        return {"": now} if now is not None else {}

    is_own = content.partition(b"\n")[0] + b"\n" in _left
    if claim is not None and not is_own and living({"": claim}, look):
        raise BusyError(describe_busy(target, claim))
    # only one process at a time deletes, and only the claim that it has looked at
    lock = _lock_of(file)
    try:
        os.close(os.open(lock, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
    except FileExistsError:
        time.sleep(HALF_WRITTEN_S)
        lock.unlink(missing_ok=True)  # if it is still there, its process was killed
        return
    try:
        now = _read(file)
        if now is not None and now.partition(b"\n")[0] == content.partition(b"\n")[0]:
            file.unlink(missing_ok=True)
    finally:
        lock.unlink(missing_ok=True)


def _read_whole(file: Path) -> bytes | None:
    """Content of a claim; waits for a process that is just writing it. None if there is none."""
    end = time.monotonic() + HALF_WRITTEN_S
    while (content := _read(file)) is not None and _parse(content) is None and time.monotonic() < end:
        time.sleep(0.05)
    return content


def _read(file: Path) -> bytes | None:
    """Content of a file; None if there is none. Links are not followed."""
    try:
        number = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        return os.read(number, MAX_BYTES)
    finally:
        os.close(number)


def _parse(content: bytes) -> Claim | None:
    """A claim from the content of its file; None if it is incomplete or not a claim."""
    line, _, beat = content.partition(b"\n")
    try:
        return Claim.parse({**json.loads(line), "beat": float(beat)})
    except (ValueError, KeyError, TypeError):
        return None


def _beat_line(beat: float) -> bytes:
    return f"{beat:020.6f}\n".encode()  # always of the same length


def _claim_file(target: Path) -> Path:
    name = f".{target.name}.claim"
    if len(os.fsencode(f"{name}.partial")) > MAX_NAME_BYTES:
        name = f".{hashlib.sha256(os.fsencode(target.name)).hexdigest()}.claim"
    return target.with_name(name)


def _lock_of(file: Path) -> Path:
    return file.with_name(f"{file.name}.partial")


def _plain(path: Path) -> Path:
    """The same for every way to write a path: absolute, without links in its folders, nor a link to a folder."""
    return path.resolve() if path.is_dir() else path.parent.resolve() / path.name


def _command_line() -> str:
    program = Path(sys.argv[0])
    name = "abaw" if program.name == "__main__.py" and program.parent.name == "abaw" else program.name
    command = join([name, *sys.argv[1:]])
    return command if len(command) <= MAX_COMMAND else f"{command[:MAX_COMMAND]}..."


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


def _pid_namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _is_running(process: int, began: float) -> bool:
    """True if a process is alive that began at a time, in seconds; for systems without /proc."""
    import psutil  # as above

    try:
        running = psutil.Process(process)
        # the number of a dead process may be in use again, and a dead child that was not waited for is a zombie
        return abs(running.create_time() - began) < 1 and running.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:  # it exists but belongs to another user
        return True


def _start_of(process: int) -> str:
    """When a process started, in ticks since the system was started, which no change of the clock moves.

    Empty where it cannot be read; a process that is dead, but was not waited for, is `dead`.
    """
    try:
        text = Path(f"/proc/{process}/stat").read_bytes()
    except OSError:
        return ""
    values = text.rpartition(b")")[2].split()  # the name before may have spaces and brackets
    return "dead" if values[0] in (b"Z", b"X") else values[19].decode("ascii")
