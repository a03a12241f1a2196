"""Errors of the system at changes of the file system: `python -m fuzz.errors`, in a checkout.

A change of a command fails, alone or with all that follow it. The command must then end well with the right result, or say
in a sentence which file it is about and what to do; what was there before stays whole, nothing half written stays where it
can be deleted, and the same command afterwards goes well, with the result of an undisturbed run.
"""

import argparse
import os
import random
import re
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from errno import EACCES, EDQUOT, EIO, EMFILE, ENOLCK, ENOSPC, EROFS, EXDEV
from pathlib import Path

from abaw.fuzz.changes import FREEING, Fault
from abaw.fuzz.command_table import COMMANDS, SLOW
from abaw.fuzz.kills import KillMatrix, differences, read_tree
from abaw.fuzz.trials import ForkServer, Outcome

CODES = (EACCES, EROFS, EIO, EMFILE, ENOSPC, EDQUOT, ENOLCK)
REMEDY = re.compile(
    r"\b(run the same|[Cc]hoose|[Cc]heck|[Ff]ree|[Cc]ontinue|[Aa]llow|[Rr]aise|[Dd]elete|[Nn]ame|[Rr]eplace)\b"
)
PARTIAL = re.compile(r"(\.\d+-[0-9a-f]{8}|\.[0-9a-f]{32})?\.partial$")  # the end of a temporary name
CLAIM = re.compile(
    r"^stray .*(\.claim|/claim-[0-9a-f]{32}(/zarr\.json)?)$"
)  # that could not be deleted, and is taken for dead
WORK_OF_RUNS = ("train", "resume")  # these commands rewrite the files of their run as they go


@dataclass
class Judgement:
    """Counts of a command, and what went wrong."""

    n_tried: int = 0
    n_passed: int = 0
    wrong: list[str] = field(default_factory=list)


class ErrorMatrix(KillMatrix):
    """Runs commands of which a change fails."""

    def faults(self, name: str) -> Iterator[Fault]:
        """Each change of a command with each error that it can have, alone and with all later changes."""
        for at, change in enumerate(self.undisturbed[name].outcome.changes, 1):
            event = change.split(" ", 2)[1]
            codes = (*CODES, EXDEV) if event in ("os.rename", "os.link") else CODES
            for code in codes:
                if code not in (ENOSPC, EDQUOT) or event not in FREEING:
                    yield from (
                        Fault(at, "error", code, lasts) for lasts in (False, True) if code != EXDEV or not lasts
                    )

    def try_error(self, name: str, fault: Fault) -> tuple[bool, str]:
        """Whether a command went well although a change failed, and what is wrong; an empty text if nothing is."""
        command, wanted = COMMANDS[name], self.undisturbed[name]
        folder = self._new_folder(command)
        before = read_tree(folder)
        outcome = self._run(command.words, folder, fault)
        tree = read_tree(folder)
        wrong = [*judge_words(outcome, fault), *_damaged(name, before, tree, wanted.tree)]
        if outcome.exit_code == 0:
            wrong += [found for found in differences(tree, wanted.tree) if not _could_not_go(found, outcome, fault)][:3]
        else:
            if not fault.lasts:
                change = outcome.changes[fault.at - 1]
                wrong += [f"left {path}" for path in tree.keys() - before.keys() if _is_stray(path, tree, change)]
            last = self._continue(command, folder)
            if last.exit_code != 0 or "Traceback" in last.errors:
                wrong.append(f"exit code {last.exit_code} afterwards: {last.errors.strip()[-500:]}")
            else:
                found = [each for each in differences(read_tree(folder), wanted.tree) if not CLAIM.search(each)]
                wrong += [f"afterwards {each}" for each in found[:3]]
        shutil.rmtree(folder)
        return outcome.exit_code == 0, "; ".join(wrong)


def _is_stray(path: str, tree: dict[str, str], change: str) -> bool:
    """True for a temporary file or folder that the command could have deleted, and that nothing continues from.

    Args:
        change: that failed.
    """
    could_not_go = change.split(" ", 2)[1] in FREEING and path in change
    is_moved_later = f"{path}/record.json" in tree  # by the next `abaw prepare`
    return path.endswith(".partial") and not could_not_go and not is_moved_later


def _could_not_go(found: str, outcome: Outcome, fault: Fault) -> bool:
    """True if something is stray because its own deletion failed."""
    change = outcome.changes[fault.at - 1]
    path = found.removeprefix("stray ")
    return bool(CLAIM.search(found)) or (path != found and change.split(" ", 2)[1] in FREEING and path in change)


def judge_words(outcome: Outcome, fault: Fault) -> list[str]:
    """What is wrong with the way in which a command ended."""
    if "Traceback" in outcome.errors or "Exception ignored" in outcome.errors:
        return [f"a traceback: {outcome.errors.strip()[-1500:]}"]
    if outcome.exit_code == 0:
        return []
    if outcome.exit_code not in (1, 2) or outcome.timed_out:
        return [f"exit code {outcome.exit_code}: {outcome.errors.strip()[-500:]}"]
    said = f"{outcome.output}\n{outcome.errors}"
    last = None if fault.lasts else fault.at  # the sentence may be about a change that failed later
    failed = [change.split("'")[-2] for change in outcome.changes[fault.at - 1 : last] if "'" in change]
    names = {PARTIAL.sub("", part).removesuffix(".claim").lstrip(".") for path in failed for part in Path(path).parts}
    lacks = []
    if os.strerror(fault.code) not in said:
        lacks.append("the cause")
    if not any(name in said for name in names):
        lacks.append("the file")
    if not REMEDY.search(said):
        lacks.append("a remedy")
    return [f"without {' and '.join(lacks)}: {said.strip()[-500:]}"] if lacks else []


def _damaged(name: str, before: dict[str, str], tree: dict[str, str], wanted: dict[str, str]) -> list[str]:
    """Files that were there before and are now neither as they were nor as an undisturbed run leaves them."""
    # labels that have changed are deleted before they are written
    before = {path: digest for path, digest in before.items() if not path.startswith("store.zarr/labels/")}
    if name.startswith(WORK_OF_RUNS):
        before = {path: digest for path, digest in before.items() if not path.startswith("runs/")}
    return [
        f"{'changed' if path in tree else 'lost'} {path}"
        for path, digest in before.items()
        if tree.get(path) not in (digest, wanted.get(path))
    ][:3]


def run_errors(
    matrix: ErrorMatrix,
    names: Iterable[str],
    n_errors: int = 0,
    seed: int = 0,
    n_jobs: int = 1,
    on_failure: Callable[[str], None] = lambda sentence: None,
) -> dict[str, Judgement]:
    """Let changes of commands fail: all, or a seeded sample, the same number for each command.

    Args:
        n_errors: of all commands together; 0 for all there are.
        on_failure: called at once with what is wrong.
    """
    judgements, faults = {}, []
    for name in names:
        if name not in matrix.undisturbed:
            matrix.watch(name)
        judgements[name] = Judgement()
        faults.append([(name, fault) for fault in matrix.faults(name)])
        random.Random(f"{seed} {name}").shuffle(faults[-1])
    turns = [one[turn] for turn in range(max(map(len, faults), default=0)) for one in faults if turn < len(one)]
    chosen = turns[: n_errors or None]
    with ThreadPoolExecutor(n_jobs) as pool:
        for (name, fault), (passed, wrong) in zip(
            chosen, pool.map(lambda one: matrix.try_error(*one), chosen), strict=True
        ):
            judgement = judgements[name]
            judgement.n_tried += 1
            judgement.n_passed += passed
            if wrong:
                change = matrix.undisturbed[name].outcome.changes[fault.at - 1]
                lasting = ", and all that follow" if fault.lasts else ""
                judgement.wrong.append(f"{name}, {os.strerror(fault.code)} at {change}{lasting}: {wrong}")
                on_failure(judgement.wrong[-1])
    return judgements


def main() -> int:
    """Print the table; the exit code is 1 if anything was wrong."""
    parser = argparse.ArgumentParser(prog="python -m fuzz.errors", description=__doc__)
    parser.add_argument("--errors", type=int, default=0, help="how many, sampled over all commands (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--command", choices=sorted(COMMANDS), action="append", help="only this one; repeatable")
    parser.add_argument("--jobs", type=int, default=1, help="tries at a time")
    options = parser.parse_args()
    names = options.command or [name for name in COMMANDS if name not in SLOW]
    total: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="abaw-errors-") as folder, ForkServer() as server:
        matrix = ErrorMatrix(Path(folder), server)
        judgements = run_errors(
            matrix,
            names,
            options.errors,
            options.seed,
            options.jobs,
            lambda sentence: print(f"    {sentence}", flush=True),
        )
    print(f"{'command':<18} {'tried':>6} {'went well':>10} {'said why':>9} {'wrong':>6}")
    for name, judgement in judgements.items():
        counts = {"tried": judgement.n_tried, "passed": judgement.n_passed, "wrong": len(judgement.wrong)}
        total.update(counts)
        print(_row(name, counts))
    print(_row("all", total))
    return 1 if total["wrong"] else 0


def _row(name: str, counts: "Counter[str] | dict[str, int]") -> str:
    said = counts["tried"] - counts["passed"]
    return f"{name:<18} {counts['tried']:6d} {counts['passed']:10d} {said:9d} {counts['wrong']:6d}"


if __name__ == "__main__":
    sys.exit(main())
