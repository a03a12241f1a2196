"""Kills at every change of the file system: `python -m fuzz.kills`, in a checkout.

Each command is killed at a change, and some are killed again as they continue; then it runs to its end. What is there
then must equal, bit by bit, what an undisturbed run leaves, apart from the name of its folder, the times in `TIMES` and
`MADE`, and the files of TensorBoard.
"""

import argparse
import hashlib
import itertools
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from abaw.fuzz.changes import Fault
from abaw.fuzz.command_table import COMMANDS, COSTLY, READ_ONLY, SLOW, WritingCommand, make_inputs
from abaw.fuzz.trials import ForkServer, Outcome

EVENTS = "tensorboard/events"  # written by a thread when it likes, with times and the name of the host
MADE = re.compile(rb"\d{4}-\d\d-\d\d \d\d:\d\d UTC")  # in reports
# file -> keys in its lines or in itself that are times
TIMES = {"config.json": ("created",), "ensemble.json": ("created",), "metrics.jsonl": ("seconds", "waiting_share")}

OF_IMAGES = ("content", "checksum")  # attributes of a stored video: the times of its images, and a checksum over these


def read_tree(folder: Path) -> dict[str, str]:
    """The digest of each file in a folder by its path, without times; `folder` for a folder, the target of a link."""
    tree = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if EVENTS in name:
            continue
        if path.is_symlink():
            tree[name] = f"link to {path.readlink()}"
        elif path.is_dir():
            tree[name] = "folder"
        else:
            tree[name] = hashlib.sha256(_timeless(path, folder)).hexdigest()
    return tree


def _timeless(path: Path, root: Path) -> bytes:
    """The content without times, and without the folder of the try, which fine-tuned runs and their encoders name."""
    content, keys = path.read_bytes(), TIMES.get(path.name, ())
    if path.suffix == ".safetensors":
        end = 8 + int.from_bytes(content[:8], "little")  # of the header, which is filled up with spaces
        content = content[8:end].rstrip() + content[end:]
    content = content.replace(os.fsencode(root.absolute()), b"")
    if path.name == "zarr.json" and "demo" in path.relative_to(root).parts:
        metadata = json.loads(content)  # with the times of images that the same command has made
        content = json.dumps({**metadata, "attributes": _without(metadata["attributes"], OF_IMAGES)}).encode()
    if path.suffix == ".html":
        return MADE.sub(b"", content)
    if not keys:
        return content
    lines = content.splitlines() if path.suffix == ".jsonl" else [content]
    rows = [json.loads(line) for line in lines]
    return json.dumps([_without(row, keys) for row in rows]).encode()


def _without(row: dict[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in keys}


def differences(tree: dict[str, str], wanted: dict[str, str]) -> list[str]:
    """What is missing, stray or changed in a tree."""
    return [
        *(f"missing {name}" for name in wanted.keys() - tree.keys()),
        *(f"stray {name}" for name in tree.keys() - wanted.keys()),
        *(f"changed {name}" for name in tree.keys() & wanted.keys() if tree[name] != wanted[name]),
    ]


@dataclass(frozen=True)
class Kill:
    """Where a command is killed, and the changes at which it is killed again each time that it continues."""

    command: str
    fault: Fault
    again_at: tuple[int, ...] = ()


@dataclass
class Undisturbed:
    """What a command does and leaves when nothing disturbs it."""

    outcome: Outcome
    tree: dict[str, str]

    def kills(self, command: str, chance: random.Random, n_further: int | None = None) -> Iterator[Kill]:
        """A kill at each change, and one within each file that is written.

        Args:
            n_further: kills that follow; None lets one follow every third.
        """
        n_changes = len(self.outcome.changes)
        for at, change in enumerate(self.outcome.changes, 1):
            for kind in ("kill", "torn") if change.split(" ", 2)[1] == "open" else ("kill",):
                n_more = int(chance.random() < 1 / 3) if n_further is None else n_further
                yield Kill(command, Fault(at, kind), tuple(chance.randint(1, n_changes) for _ in range(n_more)))


@dataclass
class Tally:
    """Counts of a command, and what went wrong."""

    n_changes: int = 0
    n_tried: int = 0
    n_kills: int = 0
    lost: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


class KillMatrix:
    """Runs commands with and without kills.

    Args:
        base: an empty folder; gets `inputs`.
        server: runs the commands.
    """

    def __init__(self, base: Path, server: ForkServer) -> None:
        self._base, self._server = base, server
        self.inputs = base / "inputs"
        self.inputs.mkdir()
        make_inputs(self.inputs, server)
        self._numbers = itertools.count()
        self.undisturbed: dict[str, Undisturbed] = {}

    def _new_folder(self, command: WritingCommand) -> Path:
        folder = self._base / f"trial-{next(self._numbers)}"
        folder.mkdir()
        for name in command.inputs:
            source, target = self.inputs / name, folder / name
            target.parent.mkdir(exist_ok=True)
            if name in READ_ONLY:
                target.symlink_to(source)  # a copy has other times, which stores keep
            else:
                shutil.copytree(source, target) if source.is_dir() else shutil.copyfile(source, target)
        return folder

    def watch(self, name: str) -> Undisturbed:
        """Run a command undisturbed.

        Raises:
            AssertionError: it fails, or changes files that no counted change was about.
        """
        folder = self._new_folder(COMMANDS[name])
        before = read_tree(folder)
        outcome = self._run(COMMANDS[name].words, folder)
        assert outcome.exit_code == 0 and "Traceback" not in outcome.errors, f"{name}: {outcome}"
        tree = read_tree(folder)
        seen = " ".join(outcome.changes)
        unseen = [path for path in tree if tree[path] != before.get(path) and Path(path).name not in seen]
        assert [path for path in unseen if not _is_moved(path, seen)] == [], (
            f"{name} changes files that are not counted"
        )
        shutil.rmtree(folder)
        self.undisturbed[name] = Undisturbed(outcome, tree)
        return self.undisturbed[name]

    def _run(self, words: Sequence[str], folder: Path, fault: Fault | None = None) -> Outcome:
        return self._server.run(words, folder, fault, not_counted=EVENTS)

    def try_kill(self, kill: Kill) -> tuple[int, str, str]:
        """Kill a command and let it continue; returns how often it was killed, what was lost, and what is wrong."""
        command, wanted = COMMANDS[kill.command], self.undisturbed[kill.command]
        folder = self._new_folder(command)
        killed = self._run(command.words, folder, kill.fault)
        if killed.exit_code not in (-signal.SIGKILL, wanted.outcome.exit_code):
            return 0, f"exit code {killed.exit_code} before the kill: {killed.errors[-300:]}", ""
        ends = [killed, *(self._continue(command, folder, Fault(at)) for at in kill.again_at)]
        n_kills = sum(end.exit_code == -signal.SIGKILL for end in ends)
        last = self._continue(command, folder)
        found = differences(read_tree(folder), wanted.tree)
        is_there = last.exit_code == 2 and not found  # and is not written over
        if (last.exit_code != wanted.outcome.exit_code and not is_there) or "Traceback" in last.errors:
            return n_kills, f"exit code {last.exit_code}: {last.errors.strip()[-1200:]}", ""
        shutil.rmtree(folder)
        return n_kills, "", ", ".join(found[:5])

    def _continue(self, command: WritingCommand, folder: Path, fault: Fault | None = None) -> Outcome:
        """Run what continues the command; where that is refused, or there is nothing else, the same command."""
        if command.continuation:
            outcome = self._run(command.continuation, folder, fault)
            if outcome.exit_code in (0, -signal.SIGKILL):
                return outcome
        return self._run(command.words, folder, fault)


def _is_moved(path: str, seen: str) -> bool:
    """True if a folder that holds a file was renamed, or linked, as a whole."""
    return any(f"/{parent.name}'" in seen or f"'{parent.name}'" in seen for parent in Path(path).parents if parent.name)


def run_kills(
    matrix: KillMatrix,
    names: Iterable[str],
    n_tries: int = 0,
    seed: int = 0,
    n_jobs: int = 1,
    on_failure: Callable[[str], None] = lambda sentence: None,
    n_further: int | None = None,
) -> dict[str, Tally]:
    """Kill commands at all changes, or at a seeded sample: the same number for each command, few for those in `COSTLY`.

    Args:
        n_tries: of all commands together; 0 for all there are.
        seed: of the sample, and of where the further kills come.
        on_failure: called at once with what was lost or is wrong.
        n_further: kills after the first of each try, see `Undisturbed.kills`; not for the commands in `COSTLY`.
    """
    tallies, kills = {}, []
    for name in names:
        chance = random.Random(f"{seed} {name}")
        undisturbed = matrix.watch(name)
        tallies[name] = Tally(len(undisturbed.outcome.changes))
        kills.append(list(undisturbed.kills(name, chance, None if name in COSTLY else n_further)))
        chance.shuffle(kills[-1])
    chosen = [kill for one in kills for kill in one]
    if n_tries:
        turns = range(max(map(len, kills), default=0))
        in_turn = [one[turn] for turn in turns for one in kills if turn < len(one)]
        cheap = [kill for number, kill in enumerate(in_turn) if number < len(kills) or kill.command not in COSTLY]
        chosen = cheap[:n_tries] if n_tries <= len(cheap) else in_turn[:n_tries]
    with ThreadPoolExecutor(n_jobs) as pool:
        for kill, (n_kills, lost, wrong) in zip(chosen, pool.map(matrix.try_kill, chosen), strict=True):
            tally = tallies[kill.command]
            tally.n_tried += 1
            tally.n_kills += n_kills
            again = f", again at {', '.join(map(str, kill.again_at))}" if kill.again_at else ""
            change = matrix.undisturbed[kill.command].outcome.changes[kill.fault.at - 1]
            where = f"{kill.command}, {kill.fault.kind} at {change}{again}"
            if lost:
                tally.lost.append(f"{where}: {lost}")
            elif wrong:
                tally.wrong.append(f"{where}: {wrong}")
            if lost or wrong:
                on_failure(f"{where}: {lost or wrong}")
    return tallies


def main() -> int:
    """Print the table; the exit code is 1 if anything was lost or wrong."""
    parser = argparse.ArgumentParser(prog="python -m fuzz.kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=0, help="tries, sampled over all commands (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="of the sample, and of the further kills")
    parser.add_argument("--command", choices=sorted(COMMANDS), action="append", help="only this one; repeatable")
    parser.add_argument("--further", type=int, help="kills that follow each, not of costly commands (default: 0 or 1)")
    parser.add_argument("--jobs", type=int, default=1, help="tries at a time")
    options = parser.parse_args()
    names = options.command or [name for name in COMMANDS if name not in SLOW]
    total: Counter[str] = Counter()
    print(f"{'command':<18} {'changes':>7} {'tried':>6} {'kills':>6} {'lost':>5} {'wrong':>5} {'seconds':>8}")
    with tempfile.TemporaryDirectory(prefix="abaw-kills-") as folder, ForkServer() as server:
        matrix = KillMatrix(Path(folder), server)
        for name in names if not options.kills else [names]:
            begin = time.monotonic()
            group = [name] if isinstance(name, str) else name
            tallies = run_kills(matrix, group, options.kills, options.seed, options.jobs, _report, options.further)
            for each, tally in tallies.items():
                counts = {"changes": tally.n_changes, "tried": tally.n_tried, "kills": tally.n_kills}
                counts |= {"lost": len(tally.lost), "wrong": len(tally.wrong)}
                total.update(counts)
                print(f"{each:<18} {_row(counts)} {time.monotonic() - begin:8.0f}", flush=True)
    print(f"{'all':<18} {_row(total)}")
    return 1 if total["lost"] + total["wrong"] else 0


def _report(sentence: str) -> None:
    print(f"    {sentence}", flush=True)


def _row(counts: "Counter[str] | dict[str, int]") -> str:
    return f"{counts['changes']:7d} {counts['tried']:6d} {counts['kills']:6d} {counts['lost']:5d} {counts['wrong']:5d}"


if __name__ == "__main__":
    sys.exit(main())
