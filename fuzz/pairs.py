"""Two commands at once on one target: `python -m fuzz.pairs`, in a checkout.

Every ordered pair of commands that share a target is tried: the first is held at one of its changes of the file system
while the second runs to its end, or both run with a seeded delay between them. What they leave, and their exit codes, must be those of one order of the two, one after the other, bit by bit apart from times; or one of them refuses
with a sentence that names the other, what is left is that of the other alone, and the refused command then succeeds.
"""

import argparse
import random
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from threading import Lock

from abaw.core.claim_files import MAX_COMMAND
from abaw.evaluate.predictions import read_made_from
from abaw.evaluate.trained import open_predictor
from abaw.fuzz.changes import Fault
from abaw.fuzz.command_table import COMMANDS, READ_ONLY, WritingCommand, make_inputs
from abaw.fuzz.kills import differences, read_tree
from abaw.fuzz.trials import ForkServer, Outcome, Running

MAX_DELAY = 1.1  # of the time that the first command takes alone
HELD_SHARE = 0.75  # of the pairs
OF_A_MOMENT = "is being trained by"  # says `abaw submit`
EVENTS = "tensorboard/events"  # changes that do not count
OTHERS = {
    "prepare-one-face": WritingCommand(
        ("prepare", "videos/one.mp4", *COMMANDS["prepare"].words[2:], "--faces", "1"), ("videos",)
    ),
    "repair-store": WritingCommand(("store", "repair", "store.zarr"), ("store.zarr",)),
    "verify-damaged": WritingCommand(("store", "verify", "damaged.zarr"), ("damaged.zarr",)),
    "pack-damaged": WritingCommand(("store", "pack", "damaged.zarr"), ("damaged.zarr",)),
    "pack-new": WritingCommand(("store", "pack", "new.zarr"), ()),
    "repair-again": WritingCommand(("store", "repair", "packed.zarr"), ("packed.zarr",)),
    "export-packed": WritingCommand(
        ("store", "export", "--feature", "f", "--store", "packed.zarr", "--out", "f.h5"), ("packed.zarr",)
    ),
    "extract-into-packed": WritingCommand(
        ("extract", "--fps", "25", "--device", "cpu", "--store", "packed.zarr", "--backbone", "hog"),
        ("data", "packed.zarr"),
    ),
    "repair-new": WritingCommand(("store", "repair", "new.zarr"), ()),
    "eval-c": WritingCommand(("eval", "c"), ("store.zarr", "runs/c", "data")),
    "tune-c": WritingCommand(("tune", "c", "--smooth", "box:3", "--fit-on", "val"), ("store.zarr", "runs/c")),
    "submit-c": WritingCommand(("submit", "c", "--sample", "sample.txt"), ("store.zarr", "runs/c", "sample.txt")),
    "resume-further": WritingCommand(
        ("train", "--resume", "--run", "c", "--set", "epochs=3"), ("store.zarr", "runs/c")
    ),
}
TABLE = COMMANDS | OTHERS
# target -> the commands that write it or read it
TARGETS = {
    "data folder": ("prepare", "prepare-one-face"),
    "store": ("extract-more", "import", "import-faces", "repair-store", "verify", "export-h5", "pack"),
    "damaged store": ("repair", "verify-damaged", "pack-damaged"),
    "packed store": ("pack-again", "repair-again", "export-packed", "extract-into-packed"),
    "damaged packed store": ("repair-packed",),
    "new store": (
        "extract",
        "extract-videos",
        "extract-network",
        "extract-sound",
        "extract-text",
        "import-new",
        "repair-new",
        "pack-new",
    ),
    "crops that are kept": ("extract-kept",),
    "name of a run": ("train", "train-ridge", "train-init", "train-fold", "finetune", "eval-predictions"),
    "names of runs": ("train-unnamed", "train-seeds", "ensemble-unnamed"),
    "unfinished run": ("resume", "resume-further", "eval-c", "tune-c", "submit-c"),
    "run": ("eval", "tune", "tune-crossed", "ensemble", "submit", "report"),
    "name of an ensemble": ("ensemble",),
    "output": ("export-npy", "submit-videos"),
    "rows of Arrow": ("export-parquet",),
    "ONNX": ("export-onnx",),
    "tar files": ("export-webdataset",),
    "clips": ("synth-frames", "synth-pt", "synth-mp4"),
    "predictions of images": ("predict-image",),
    "predictions of a video": ("predict-video",),
    "figures": ("report-plots",),
    "recipe": ("run",),
    "demo": ("demo", "demo-lsd"),
    "sets of stills": ("demo-stills",),
}


@dataclass(frozen=True)
class Pair:
    """Two commands, and when the second begins.

    Attributes:
        moment: share of the changes, or of the time, of the first command alone.
        is_held: the first waits there until the second has ended.
    """

    first: str
    second: str
    moment: float
    is_held: bool

    def __str__(self) -> str:
        return f"{self.first} and {self.second} at {self.moment:.2f}{', held' if self.is_held else ''}"


@dataclass
class PairTally:
    """How many pairs were tried, how often one of the two refused, and what went wrong."""

    n_tried: int = 0
    n_refused: int = 0
    lost: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Alone:
    """What commands do and leave one after the other."""

    exit_codes: tuple[int, ...]
    seconds: float
    n_changes: int
    tree: dict[str, str]


class PairTrials:
    """Runs pairs of commands, and what they are compared with.

    Args:
        base: an empty folder.
        server: runs the commands.
        inputs: of all commands, see `make_inputs`; by default they are made here.
    """

    def __init__(self, base: Path, server: ForkServer, inputs: Path | None = None) -> None:
        self._base, self._server, self._n_folders = base, server, count(1)
        self._inputs = inputs or base / "inputs"
        if inputs is None:
            self._inputs.mkdir()
            make_inputs(self._inputs, server)
        self._alone: dict[tuple[str, ...], Alone] = {}
        self._lock = Lock()

    def alone(self, pair: Pair, *names: str) -> Alone:
        """What commands leave, one after the other, on the inputs of a pair."""
        key = (*sorted({pair.first, pair.second}), "|", *names)
        with self._lock:
            if key not in self._alone:
                folder = self._new_folder(pair)
                outcomes = [self._run(name, folder) for name in names]
                codes = tuple(outcome.exit_code for outcome in outcomes)
                self._alone[key] = Alone(codes, outcomes[0].seconds, len(outcomes[0].changes), read_tree(folder))
                shutil.rmtree(folder)
            return self._alone[key]

    def try_pair(self, pair: Pair) -> tuple[bool, str, str]:
        """Run a pair; whether one refused, what was lost and what is wrong, or empty texts."""
        alone, folder = self.alone(pair, pair.first), self._new_folder(pair)
        if pair.is_held:
            number = 1 + int(pair.moment * alone.n_changes)
            first = self._start(pair.first, folder, Fault(number, "hold"))
            first.wait_for_change(number)
            second = self._run(pair.second, folder)
            first.go_on()
            outcomes = [first.outcome(), second]
        else:
            delay_s = pair.moment * MAX_DELAY * alone.seconds
            running = [self._start(pair.first, folder), self._start(pair.second, folder, delay_s=delay_s)]
            outcomes = [one.outcome() for one in running]
        try:
            return self._judge(pair, outcomes, folder)
        finally:
            shutil.rmtree(folder)

    def _judge(self, pair: Pair, outcomes: Sequence[Outcome], folder: Path) -> tuple[bool, str, str]:
        names = (pair.first, pair.second)
        for name, outcome in zip(names, outcomes, strict=True):
            if outcome.timed_out or "Traceback" in outcome.errors:
                return False, f"{name}: {outcome.errors.strip()[-1500:]}", ""
        refused = [_names_another(outcome) for outcome in outcomes]
        if all(refused):
            return True, "both refused", ""
        tree = read_tree(folder)
        if not any(refused):
            return False, *self._compare_with_orders(pair, outcomes, tree, folder)
        loser = names[refused.index(True)]
        winner = names[refused.index(False)]
        if not _names(outcomes[refused.index(True)], TABLE[winner]):
            return True, "", f"{loser} does not name {winner}: {outcomes[refused.index(True)].errors.strip()}"
        wanted = self.alone(pair, winner, loser)
        changes = differences(tree, self.alone(pair, winner).tree)
        # what the other is not writing may be done already
        if changes := [each for each in changes if not _is_ahead(each, tree, wanted.tree)]:
            return True, "", f"{loser} was refused: {', '.join(changes[:5])}"
        again = self._run(loser, folder)
        changes = differences(read_tree(folder), wanted.tree)
        if changes or again.exit_code != wanted.exit_codes[1]:
            return (
                True,
                "",
                f"{loser} afterwards: exit code {again.exit_code}, {again.errors}, {', '.join(changes[:5])}",
            )
        return True, "", ""

    def _compare_with_orders(
        self, pair: Pair, outcomes: Sequence[Outcome], tree: dict[str, str], folder: Path
    ) -> tuple[str, str]:
        """What is lost, and what is wrong, if neither refused."""
        codes = tuple(outcome.exit_code for outcome in outcomes)
        reasons = []
        for order in (1, -1):
            wanted = self.alone(pair, *(pair.first, pair.second)[::order])
            changes = [each for each in differences(tree, wanted.tree) if not _counts_as_stale(each, folder)]
            if any(OF_A_MOMENT in outcome.errors for outcome in outcomes):
                changes = [each for each in changes if each != "changed predictions.txt"]
            if not changes and wanted.exit_codes[::order] == codes:
                return "", ""
            reasons.append(f"exit codes {codes} for {wanted.exit_codes[::order]}, {', '.join(sorted(changes)[:5])}")
        texts = " | ".join(outcome.errors.strip()[-300:] for outcome in outcomes if outcome.exit_code)
        return "", f"{'; or '.join(reasons)}: {texts}"

    def _new_folder(self, pair: Pair) -> Path:
        folder = self._base / f"pair-{next(self._n_folders)}"
        folder.mkdir()
        for name in dict.fromkeys((*TABLE[pair.first].inputs, *TABLE[pair.second].inputs)):
            source, target = self._inputs / name, folder / name
            target.parent.mkdir(exist_ok=True)
            if name in READ_ONLY:
                target.symlink_to(source)  # a copy has other times, which stores keep
            elif source.is_dir():
                shutil.copytree(source, target)
            else:
                shutil.copyfile(source, target)
        return folder

    def _run(self, name: str, folder: Path) -> Outcome:
        return self._start(name, folder).outcome()

    def _start(self, name: str, folder: Path, fault: Fault | None = None, delay_s: float = 0.0) -> Running:
        return self._server.start(TABLE[name].words, folder, fault, not_counted=EVENTS, delay_s=delay_s)


def _is_ahead(change: str, tree: dict[str, str], wanted: dict[str, str]) -> bool:
    """True for a stray file that a refused command will leave when it is run again."""
    path = change.removeprefix("stray ")
    return path != change and tree[path] == wanted.get(path)


def _counts_as_stale(change: str, folder: Path) -> bool:
    """True for results of what was trained or fitted further meanwhile: nothing uses them before it is scored again."""
    path = folder / change.removeprefix("changed ")
    match = re.fullmatch(r"(?:predictions|scores|traces)-(\w+)\.\w+", path.name)
    if not match:
        return False
    predictions = path.with_name(f"predictions-{match[1]}.h5")
    return predictions.is_file() and read_made_from(predictions) != open_predictor(path.parent, "cpu").digest()


def _names_another(outcome: Outcome) -> bool:
    """True if a command refused because another is at work."""
    return outcome.exit_code != 0 and "Another command is writing" in f"{outcome.output}{outcome.errors}"


def _names(outcome: Outcome, other: WritingCommand) -> bool:
    """True if a refusal has the command line of the other; lines on a terminal are wrapped anywhere."""
    text = "".join(f"{outcome.output}{outcome.errors}".split())
    return "".join(f"`abaw {shlex.join(other.words)}"[:MAX_COMMAND].split()) in text


def all_pairs(targets: Iterable[str] = TARGETS) -> list[tuple[str, str]]:
    """Every ordered pair of commands that share a target."""
    pairs = []
    for target in targets:
        here = [name for name in TARGETS[target] if name in TABLE]  # one needs a package
        pairs += [(first, second) for first in here for second in here]
    return list(dict.fromkeys(pairs))


def draw_pairs(names: Sequence[tuple[str, str]], n_pairs: int, seed: int) -> list[Pair]:
    """Pairs with moments, as often as there are pairs to try: all in turn, in a seeded order."""
    chance, pairs = random.Random(seed), list[Pair]()
    while len(pairs) < n_pairs:
        for first, second in chance.sample(names, len(names)):
            pairs.append(Pair(first, second, chance.random(), chance.random() < HELD_SHARE))
    return pairs[:n_pairs]


def run_pairs(
    trials: PairTrials,
    pairs: Sequence[Pair],
    n_jobs: int = 1,
    on_failure: Callable[[str], None] = lambda sentence: None,
) -> PairTally:
    """Try pairs; `on_failure` is called at once with what was lost or is wrong."""
    tally = PairTally()

    def try_one(pair: Pair) -> None:
        refused, lost, wrong = trials.try_pair(pair)
        tally.n_tried += 1
        tally.n_refused += refused
        for texts, text in ((tally.lost, lost), (tally.wrong, wrong)):
            if text:
                texts.append(f"{pair}: {text}")
                on_failure(texts[-1])

    with ThreadPoolExecutor(n_jobs) as threads:
        for _ in threads.map(try_one, pairs):
            pass
    return tally


def main() -> int:
    """Try pairs, and print how it went; the exit code is 1 if anything was lost or wrong."""
    parser = argparse.ArgumentParser(prog="python -m fuzz.pairs", description=__doc__)
    parser.add_argument("--pairs", type=int, default=0, help="pairs in all (default: each once)")
    parser.add_argument("--seed", type=int, default=0, help="of their order and delays")
    parser.add_argument("--jobs", type=int, default=2, help="pairs at the same time")
    parser.add_argument("--target", choices=TARGETS, action="append", help="only pairs on this; repeatable")
    options = parser.parse_args()
    names = all_pairs(options.target or TARGETS)
    pairs = draw_pairs(names, options.pairs or len(names), options.seed)
    with tempfile.TemporaryDirectory(prefix="abaw-pairs-") as folder, ForkServer() as server:
        tally = run_pairs(PairTrials(Path(folder), server), pairs, options.jobs, lambda text: print(text, flush=True))
    print(f"{tally.n_tried} pairs tried, {tally.n_refused} refused, {len(tally.lost)} lost, {len(tally.wrong)} wrong")
    return 1 if tally.lost or tally.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
