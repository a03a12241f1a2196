"""The road from stored features to a submission at the size of Aff-Wild2: processor time, memory and silence.

python -m benchmarks.rehearsal FOLDER [--scale 0.1]

The full size needs 11 GB of disk in FOLDER and about half an hour on two cores. A smaller one is run at a tenth of it, too,
and computed for the full size from the straight line through both.
"""

import argparse
import json
import os
import pty
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.measure import describe_machine, peak_kib, say

WIDTHS = {"face": 768, "sound": 256}
# videos and frames of each split, as in the valence and arousal of Aff-Wild2
SPLITS = {"train": (356, 1_650_000), "val": (76, 382_790), "test": (162, 927_210)}
SKIPPED = 100  # frames: annotators skip spans
POOL = 20_000  # rows that all features are cut from
MOST_SILENT_S = 2.0
RUN = "--store store.zarr --runs runs --device cpu"
BOTH = "--feature face --feature sound"
COMMANDS = {
    "store import, 768-d": "store import npy-face --feature face --fps 30 --store store.zarr",
    "store import, 256-d": "store import npy-sound --feature sound --fps 30 --store store.zarr",
    "store verify": "store verify store.zarr",
    "train, one epoch": f"train --task va {BOTH} --head linear --epochs 1 --run head {RUN}",
    "train ridge": f"train --task va {BOTH} --head ridge --run ridge {RUN}",
    "train logistic": f"train --task expr --feature face --head logistic --run logistic {RUN}",
    "eval": f"eval head {RUN}",
    "eval ridge": f"eval ridge {RUN}",
    "compare": "compare head ridge --runs runs",
    "report": "report head --runs runs",
    "tune, all of train": f"tune head --fit-on train {RUN}",
    "submit": f"submit head --sample sample.txt --out answers.txt {RUN}",
    "eval of a mistyped run": f"eval haed {RUN}",
}
MISTYPED = "eval of a mistyped run"
FIRST_STEP, RIDGE, LOGISTIC = "train, before the first step", "ridge probe", "logistic probe"
# processor seconds at the full size
BOUNDS = {
    **{"store import, 768-d": 15, FIRST_STEP: 10, "submit": 40, "tune, all of train": 60},
    **{MISTYPED: 1, "start of eval": 2.5, "start of compare": 2.5, "start of report": 2.5},
}


@dataclass(frozen=True)
class Cost:
    """What a step took.

    Attributes:
        cpu_s, wall_s: of its process.
        peak_gb: its memory.
        silent_s: the longest time without output, on a terminal.
    """

    cpu_s: float
    wall_s: float
    peak_gb: float
    silent_s: float = 0.0


def main() -> None:
    """Measure, and print a table; with --measure, be one of the processes that are measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rehearsal", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="for a temporary folder of up to 11 GB times the scale")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the frames, .01 to 1 (default: 1)")
    parser.add_argument("--measure", choices=MEASURED, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        os.chdir(arguments.folder)
        print(json.dumps(MEASURED[arguments.measure]()))
        return
    if not 0.01 <= arguments.scale <= 1:
        parser.error("--scale must be between .01 and 1")
    costs = {}
    for scale in (arguments.scale / 10, arguments.scale):
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            costs[scale] = rehearse(Path(folder), scale)
    say(json.dumps(describe_machine()))
    print("\n".join(table(*costs.values(), scale=arguments.scale)))


def rehearse(folder: Path, scale: float) -> dict[str, Cost]:
    """Go the whole road at a scale; the cost of each step by name."""
    frames = {split: frames_of(split, scale) for split in SPLITS}
    costs = {}
    for feature in WIDTHS:
        write_arrays(folder / f"npy-{feature}", feature, frames)
        name = f"store import, {WIDTHS[feature]}-d"
        costs[name] = run_command(folder, COMMANDS[name])
        shutil.rmtree(folder / f"npy-{feature}")
    write_labels(folder, frames)
    for name, command in COMMANDS.items():
        if name not in costs:
            costs[name] = run_command(folder, command, fails=name == MISTYPED)
            say(f"{scale:g} {name}: {costs[name]}")
    for name in MEASURED:
        words = [sys.executable, "-m", "benchmarks.rehearsal", "--measure", name, str(folder)]
        done = subprocess.run(words, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        measured = json.loads(done.stdout.splitlines()[-1])
        costs |= {part: Cost(**cost) for part, cost in measured.items()}
        say(f"{scale:g} {name}: {measured}")
    return costs


def frames_of(split: str, scale: float) -> dict[str, int]:
    """Frames of each video of a split at a scale; lengths differ by up to a half."""
    n_videos, n_frames = SPLITS[split]
    n_videos = max(4, round(n_videos * scale))
    shares = np.random.default_rng(n_videos).uniform(0.5, 1.5, n_videos)
    lengths = np.maximum(200, np.rint(shares / shares.sum() * n_frames * scale)).astype(int)
    return {f"{split}-{number:03}": int(length) for number, length in enumerate(lengths)}


def pool_of(feature: str) -> np.ndarray:
    """(rows, width) float16 that features are cut from."""
    return np.random.default_rng(WIDTHS[feature]).normal(size=(POOL, WIDTHS[feature])).astype(np.float16)


def write_arrays(folder: Path, feature: str, frames: Mapping[str, Mapping[str, int]]) -> None:
    """One .npy for each video: rows of the pool from another place."""
    folder.mkdir()
    pool = pool_of(feature)
    for number, (video, n_frames) in enumerate(item for videos in frames.values() for item in videos.items()):
        np.save(folder / f"{video}.npy", np.take(pool, range(97 * number, 97 * number + n_frames), axis=0, mode="wrap"))


def write_labels(folder: Path, frames: Mapping[str, Mapping[str, int]]) -> None:
    """Labels that the face partly tells, a tenth of them invalid; and the sample of the test videos."""
    from abaw.store import FeatureStore

    store, rng = FeatureStore.create(folder / "store.zarr"), np.random.default_rng(0)
    rule = rng.normal(size=(WIDTHS["face"], 10)) / 28
    scores = pool_of("face").astype(np.float32) @ rule
    for split in ("train", "val"):
        first = 0 if split == "train" else len(frames["train"])
        for number, (video, n_frames) in enumerate(frames[split].items(), start=first):
            rows = scores.take(range(97 * number, 97 * number + n_frames), axis=0, mode="wrap")
            rows = rows + rng.normal(size=rows.shape)
            invalid = np.repeat(rng.random(n_frames // SKIPPED + 1) < 0.1, SKIPPED)[:n_frames]
            affect = np.where(invalid[:, None], -5, np.clip(rows[:, :2] / 3, -1, 1)).astype(np.float32)
            classes = np.where(invalid, -1, rows[:, 2:].argmax(axis=1))[:, None].astype(np.int8)
            store.write_labels("va", video, split, affect)
            store.write_labels("expr", video, split, classes)
    with (folder / "sample.txt").open("w") as file:
        file.write("image_location,valence,arousal\n")
        for video, n_frames in frames["test"].items():
            file.writelines(f"{video}/{frame:05}.jpg,\n" for frame in range(1, n_frames + 1))


def run_command(folder: Path, command: str, fails: bool = False) -> Cost:
    """Run `abaw` on a terminal."""
    master, terminal = pty.openpty()
    began = time.perf_counter()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    words = [sys.executable, "-m", "abaw", *command.split()]
    process = subprocess.Popen(words, cwd=folder, env=environment, stdin=terminal, stdout=terminal, stderr=terminal)
    os.close(terminal)
    shown, silences = b"", []
    for output, silent_s in chunks(master):
        shown = (shown + output)[-2000:]
        silences.append(silent_s)
    _, status, used = os.wait4(process.pid, 0)
    wall_s = time.perf_counter() - began
    os.close(master)
    if bool(status) != fails:
        raise RuntimeError(f"abaw {command}: {shown.decode(errors='replace')}")
    return Cost(used.ru_utime + used.ru_stime, wall_s, used.ru_maxrss / 2**20, max(silences))


def chunks(terminal: int) -> Iterator[tuple[bytes, float]]:
    """What a terminal shows until its process ends, each with the seconds since the one before."""
    before = time.perf_counter()
    while True:
        select.select([terminal], [], [])
        try:
            output = os.read(terminal, 65536)
        except OSError:  # the process has ended
            output = b""
        now = time.perf_counter()
        yield output, now - before
        if not output:
            return
        before = now


def measure_first_step() -> dict[str, dict[str, float]]:
    """Everything that training with the default head does before its first step, the start of Python included."""
    from abaw import pipeline
    from abaw.core.progress import Silent
    from abaw.train.config import make_config

    class UntilFirstStep(Silent):
        def start(self, label: str, total: int, unit: str, done: int = 0) -> None:
            if label.startswith("train "):
                raise KeyboardInterrupt

    began = time.perf_counter()
    store = pipeline.FeatureStore.open(Path("store.zarr"))
    config = make_config({"task": "va", "features": tuple(WIDTHS)})
    with suppress(KeyboardInterrupt):
        pipeline.train_seeds([config], store, Path("runs"), device="cpu", reporter=UntilFirstStep())
    return {FIRST_STEP: _cost(time.process_time(), time.perf_counter() - began)}


def measure_ridge() -> dict[str, dict[str, float]]:
    """The ridge probe of valence and arousal, and scikit-learn's on the same rows."""
    return _measure_probe("ridge", "va", RIDGE)


def measure_logistic() -> dict[str, dict[str, float]]:
    """The logistic probe of expressions, and scikit-learn's on the same rows."""
    return _measure_probe("logistic", "expr", LOGISTIC)


def _measure_probe(head: str, task: str, name: str) -> dict[str, dict[str, float]]:
    from sklearn.linear_model import LogisticRegression, Ridge

    from abaw import pipeline
    from abaw.train.config import make_config
    from abaw.train.fit_probes import fit_probe
    from abaw.train.model import build_model
    from abaw.train.new_run import load_tables, start_run

    store = pipeline.FeatureStore.open(Path("store.zarr"))
    config = make_config({"task": task, "features": ("face",), "head": {"name": head}})
    table, _ = load_tables(config, store)
    model = build_model(start_run(config, store, Path("probes")))
    before_gb = _peak_gb()
    cpu, wall = time.process_time(), time.perf_counter()
    fit_probe(config.head, table.task, model, table, config.seed)  # type: ignore[arg-type]
    ours = {**_cost(time.process_time() - cpu, time.perf_counter() - wall), "peak_gb": _peak_gb() - before_gb}
    counted = np.flatnonzero(table.valid.all(axis=1))
    rows = np.sort(np.random.default_rng(config.seed).permutation(counted)[: config.head.n_rows])  # type: ignore[union-attr]
    cpu, wall = time.process_time(), time.perf_counter()
    inputs, labels = table.values["face"][rows].astype(np.float32), table.labels[rows]
    if head == "ridge":
        Ridge(alpha=config.head.alpha * len(inputs)).fit(inputs, labels)  # type: ignore[union-attr]
    else:
        penalty, n = config.head.inverse_penalty, config.head.n_iterations  # type: ignore[union-attr]
        LogisticRegression(C=penalty / len(inputs), class_weight="balanced", max_iter=n).fit(inputs, labels[:, 0])
    theirs = _cost(time.process_time() - cpu, time.perf_counter() - wall)
    return {name: ours, f"scikit-learn, {name}": theirs}


MEASURED = {"first-step": measure_first_step, "ridge": measure_ridge, "logistic": measure_logistic}


def _cost(cpu_s: float, wall_s: float) -> dict[str, float]:
    return asdict(Cost(cpu_s, wall_s, _peak_gb()))


def _peak_gb() -> float:
    return peak_kib() / 2**20


def table(small: Mapping[str, Cost], costs: Mapping[str, Cost], scale: float) -> list[str]:
    """Lines of a Markdown table."""
    lines = [
        f"| at {scale:g} of the size of Aff-Wild2 | processor s | computed for all | wanted | wall s | peak GB | longest silence s |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for name, cost in costs.items():
        slope = (cost.cpu_s - small[name].cpu_s) / (0.9 * scale)
        full = max(cost.cpu_s, small[name].cpu_s + slope * (1 - scale / 10)) if "probe" not in name else cost.cpu_s
        lines.append(_row(name, cost, full, BOUNDS.get(name)))
        if f"start of {name}" in BOUNDS:
            start = max(0.0, small[name].cpu_s - slope * scale / 10)
            lines.append(_row(f"start of {name}", None, start, BOUNDS[f"start of {name}"]))
    for name in (RIDGE, LOGISTIC):
        ratio = costs[name].cpu_s / costs[f"scikit-learn, {name}"].cpu_s
        lines.append(f"| {name} by scikit-learn, x | {ratio:.2f} | | {_mark(ratio, 1.5)} | | | |")
    return lines


def _row(name: str, cost: Cost | None, full_s: float, bound: float | None) -> str:
    cells: Sequence[str] = ("", "", "", "")
    if cost is not None:
        silent = f"{cost.silent_s:.1f}{' (too long)' if cost.silent_s > MOST_SILENT_S else ''}" if cost.silent_s else ""
        cells = (f"{cost.cpu_s:.1f}", f"{cost.wall_s:.1f}", f"{cost.peak_gb:.2f}", silent)
    return f"| {name} | {cells[0]} | {full_s:.1f} | {_mark(full_s, bound)} | {' | '.join(cells[1:])} |"


def _mark(value: float, bound: float | None) -> str:
    return "" if bound is None else f"{bound:g}{'' if value <= bound else ' (missed)'}"


if __name__ == "__main__":
    main()
