"""How long `abaw --help` takes.

python -m benchmarks.startup
"""

import subprocess
import sys

from benchmarks.measure import Report, Requirement, in_turns

ROUNDS = 15
METHOD = ["A new process each time, files in the page cache; the start of Python alone is measured, too."]


def main() -> None:
    """Measure and print."""
    report = Report("startup", METHOD)
    timings = in_turns(
        {
            "abaw --help": lambda: _run("-m", "abaw", "--help"),
            "Python alone": lambda: _run("-c", "pass"),
        },
        ROUNDS,
    )
    report.requirements.append(Requirement("abaw --help", timings["abaw --help"].median_s, 0.5, "s", at_least=False))
    for name, timing in timings.items():
        report.medians[f"{name}, s"] = timing.median_s
    report.publish()


def _run(*arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)


if __name__ == "__main__":
    main()
