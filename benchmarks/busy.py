"""How training on a CPU fares beside another busy process, by the way in which torch's threads wait for each other.

python -m benchmarks.busy
"""

import os
import statistics
import subprocess
import sys
import time

import torch

from abaw.core.tasks import get_task
from abaw.train.config import make_config
from abaw.train.loop import Trainer
from abaw.train.model import Model
from benchmarks.measure import Report, Requirement
from benchmarks.tables import FEATURE, random_table

N_VIDEOS, N_FRAMES, WIDTH = 20, 1000, 768
ROUNDS = 5
CONFIG = make_config({"task": "va", "features": (FEATURE,)})
WAYS = {
    "as abaw": {},
    "asleep": {"OMP_WAIT_POLICY": "PASSIVE"},
    "in a loop": {"KMP_BLOCKTIME": "200"},  # torch's default, with a variable that GNU's OpenMP does not read
}
# as in the command, abaw says how threads wait before torch is loaded
ONE = "import abaw; from benchmarks.busy import train_one_epoch; train_one_epoch()"
VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
METHOD = [
    f"One epoch of the default head and options of `abaw train --task va` on {WIDTH}-d features of {N_VIDEOS * N_FRAMES:,} "
    "frames, after one that does not count, in a new process each time: alone, and beside a process that keeps one core "
    "busy. `abaw` lets threads sleep at once where others are at work when it starts, else after a moment in a loop, unless the user has set how they wait.",
]


def train_one_epoch() -> None:
    """Print the seconds of an epoch, and those of the processor."""
    task = get_task(CONFIG.task)
    table = random_table(task, N_VIDEOS, N_FRAMES, WIDTH)
    torch.manual_seed(0)
    trainer = Trainer(CONFIG, task, Model(CONFIG, task, {FEATURE: (WIDTH,)}), table, torch.device("cpu"))
    trainer.run_epoch(1)
    begin, cpu = time.perf_counter(), time.process_time()
    trainer.run_epoch(2)
    print(time.perf_counter() - begin, time.process_time() - cpu)


def measure(way: str, beside: bool) -> float:
    """Seconds of an epoch in a process of its own."""
    kept = {key: value for key, value in os.environ.items() if key not in VARIABLES}
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if beside else None
    try:
        command = [sys.executable, "-c", ONE]
        done = subprocess.run(command, env={**kept, **WAYS[way]}, check=True, capture_output=True, text=True)
        return float(done.stdout.split()[0])
    finally:
        if other is not None:
            other.kill()
            other.wait()


def main() -> None:
    """Measure and print."""
    report = Report("busy", METHOD)
    found: dict[tuple[str, bool], list[float]] = {}
    for _ in range(ROUNDS):
        for way in WAYS:
            for beside in (False, True):
                found.setdefault((way, beside), []).append(measure(way, beside))
    seconds = {key: statistics.median(values) for key, values in found.items()}
    for way in WAYS:
        report.medians[f"waiting {way}: an epoch alone, s"] = seconds[way, False]
        report.medians[f"waiting {way}: beside a busy process, s"] = seconds[way, True]
        report.medians[f"waiting {way}: rate beside a busy process by that alone"] = (
            seconds[way, False] / seconds[way, True]
        )
    kept = seconds["as abaw", False] / seconds["as abaw", True]
    report.requirements.append(Requirement("rate beside a busy process by that alone", kept, 0.7))
    for way, other in (("as abaw", "in a loop"), ("asleep", "in a loop")):
        ratio = seconds[way, False] / seconds[other, False]
        report.ratios[f"time of an epoch alone, waiting {way} by waiting {other}"] = ratio
    idle = seconds["as abaw", False] / seconds["in a loop", False]
    report.requirements.append(Requirement("time of an epoch alone by torch's default", idle, 1.03, at_least=False))
    report.publish()


if __name__ == "__main__":
    main()
