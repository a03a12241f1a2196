"""What all benchmarks share: timing in turns, the machine in words, and reports as a table and as JSON."""

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any


@dataclass
class Timing:
    """Seconds that an action took in each round.

    Attributes:
        wall_s: by the clock.
        cpu_s: of all threads of this process together.
    """

    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)

    @property
    def median_s(self) -> float:
        """Median wall time."""
        return statistics.median(self.wall_s)

    @property
    def median_cpu_s(self) -> float:
        """Median processor time."""
        return statistics.median(self.cpu_s)


def in_turns(
    actions: Mapping[str, Callable[[], object]], rounds: int, n_warmups: int = 1, repeats: int = 1
) -> dict[str, Timing]:
    """Time actions one after another, round by round, each round beginning with another one.

    Args:
        actions: by name.
        rounds: how often each is timed.
        n_warmups: rounds before these that do not count.
        repeats: calls in a round; the times are of one call.
    """
    names = list(actions)
    timings = {name: Timing() for name in names}
    for turn in range(-n_warmups, rounds):
        for place in range(len(names)):
            name = names[(place + turn) % len(names)]
            wall, cpu = time.perf_counter(), time.process_time()
            for _ in range(repeats):
                actions[name]()
            if turn >= 0:
                timings[name].wall_s.append((time.perf_counter() - wall) / repeats)
                timings[name].cpu_s.append((time.process_time() - cpu) / repeats)
    return timings


def median_ratio(numerators: list[float], denominators: list[float]) -> float:
    """Median of the ratios of each round, which drift of the machine between rounds does not move."""
    return statistics.median(a / b for a, b in zip(numerators, denominators, strict=True))


@contextmanager
def one_core() -> Iterator[None]:
    """Everything inside runs on a single processor core, where the system can be told so."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def count_cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def peak_kib() -> int:
    """The highest resident memory of this process so far, as the kernel counts it."""
    # ru_maxrss would not do: a child process begins with that of its parent
    status = Path("/proc/self/status").read_text()
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(peak.split()[1])


def describe_machine() -> dict[str, Any]:
    """Processor, cores, memory, versions and the day."""
    import numpy
    import psutil
    import torch
    import zarr

    return {
        "processor": _processor_name(),
        "cores": count_cores(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torch_threads": torch.get_num_threads(),
        "numpy": numpy.__version__,
        "zarr": zarr.__version__,
        "date": date.today().isoformat(),
    }


def _processor_name() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


@dataclass(frozen=True)
class Requirement:
    """A promise and what was measured.

    Attributes:
        text: what is promised.
        measured: the figure.
        bound: what it must reach, or not exceed.
        unit: of both; "x" for a ratio.
        at_least: True where more is better.
    """

    text: str
    measured: float
    bound: float
    unit: str = "x"
    at_least: bool = True

    @property
    def target(self) -> str:
        """The bound in words: `>= 0.95 x`."""
        return f"{'>=' if self.at_least else '<='} {show(self.bound)} {self.unit}".rstrip()

    @property
    def met(self) -> bool:
        """True if the promise is kept."""
        return self.measured >= self.bound if self.at_least else self.measured <= self.bound


@dataclass
class Report:
    """What a benchmark found.

    Attributes:
        name: of its module.
        method: how it was measured, a sentence each.
        requirements: the promises.
        ratios: other comparisons, by what is compared.
        medians: raw figures, by name with unit.
    """

    name: str
    method: list[str]
    requirements: list[Requirement] = field(default_factory=list)
    ratios: dict[str, float] = field(default_factory=dict)
    medians: dict[str, float] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """All of it, with the machine."""
        requirements = [{**asdict(wanted), "target": wanted.target, "met": wanted.met} for wanted in self.requirements]
        return {
            "name": self.name,
            "machine": describe_machine(),
            "method": self.method,
            "requirements": requirements,
            "ratios": self.ratios,
            "medians": self.medians,
        }

    def publish(self) -> None:
        """Print the table on standard error and the JSON object on standard output."""
        rows = [
            (
                f"{'ok    ' if wanted.met else 'MISSED'} {wanted.text}",
                f"{show(wanted.measured)} {wanted.unit}",
                wanted.target,
            )
            for wanted in self.requirements
        ]
        rows += [(f"       {name}", f"{show(value)} x", "") for name, value in self.ratios.items()]
        rows += [(f"       {name}", show(value), "") for name, value in self.medians.items()]
        width = max(len(text) for text, _, _ in rows)
        say(f"{self.name}")
        for text, measured, target in rows:
            say(f"  {text:<{width}}  {measured:>14}  {target}".rstrip())
        print(json.dumps(self.as_json(), indent=2))


def say(line: str) -> None:
    """Print a line on standard error."""
    print(line, file=sys.stderr, flush=True)


def show(value: float) -> str:
    """A figure with three digits or so; more of them where it is almost one."""
    if 0.99 < value < 1:
        return f"{value:.5f}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}" if abs(value) >= 100 else f"{value:.3g}"
