"""Planted faults: does the suite notice what a tired engineer does?

    python -m studies.planted [--match WORD] [--every N]

makes a copy of the checkout and runs the tests of the faults in `planted.json`, which must pass. Then it plants the faults
one at a time and runs the tests that ought to notice each. It prints the faults that went unnoticed and exits with 1 if
there are any. A fault whose text is no longer in its module exactly once is reported as outdated: update it, since the code
around it has changed.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
FAULTS = Path(__file__).with_name("planted.json")
LEFT_OUT = shutil.ignore_patterns(".git", ".venv", ".*_cache", "__pycache__", ".hypothesis")


@dataclass(frozen=True)
class Fault:
    """One edit of one module, and the tests that must fail with it.

    Attributes:
        module: file of the package, relative to the checkout.
        old: text that occurs once in it.
        new: what it becomes.
        tests: what pytest is called with.
    """

    module: str
    old: str
    new: str
    tests: list[str]

    def plant(self, copy: Path) -> bool:
        """Make the edit in a copy of the checkout; False if the text is not there exactly once."""
        file = copy / self.module
        text = file.read_text(encoding="utf-8") if file.exists() else ""
        if text.count(self.old) != 1:
            return False
        file.write_text(text.replace(self.old, self.new), encoding="utf-8")
        return True

    def remove(self, copy: Path) -> None:
        """Put the module back."""
        shutil.copyfile(CHECKOUT / self.module, copy / self.module)


def run_tests(tests: Iterable[str], copy: Path) -> subprocess.CompletedProcess[str]:
    """Run tests in the copy until one fails; the return code is 0 if all pass."""
    environment = {**os.environ, "PYTHONPATH": str(copy / ".dev"), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    return subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)


def outcome_of(fault: Fault, copy: Path) -> str:
    """What becomes of a fault: noticed, unnoticed or outdated. The copy is as before afterwards."""
    if not fault.plant(copy):
        return "outdated"
    run = run_tests(fault.tests, copy)
    fault.remove(copy)
    return "noticed" if run.returncode else "unnoticed"


def main() -> None:
    """Plant the faults and print what became of them."""
    parser = argparse.ArgumentParser(prog="python -m studies.planted", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--match", default="", metavar="WORD", help="only faults of modules whose path contains this")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only every N-th fault")
    arguments = parser.parse_args()
    if arguments.every < 1:
        parser.error(f"--every must be 1 or more, found {arguments.every}")
    faults = [Fault(**fault) for fault in json.loads(FAULTS.read_text(encoding="utf-8"))]
    faults = [fault for fault in faults if arguments.match in fault.module][:: arguments.every]
    if not faults:
        parser.error(f"no module of a fault has {arguments.match!r} in its path")
    counts = {"noticed": 0, "unnoticed": 0, "outdated": 0}
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "abaw"
        shutil.copytree(CHECKOUT, copy, ignore=LEFT_OUT, symlinks=True)
        run = run_tests(dict.fromkeys(test for fault in faults for test in fault.tests), copy)
        if run.returncode:
            raise SystemExit(f"The tests fail without any fault:\n{run.stdout[-2000:]}{run.stderr[-2000:]}")
        for fault in faults:
            outcome = outcome_of(fault, copy)
            counts[outcome] += 1
            if outcome != "noticed":
                print(f"{outcome}: {fault.module}: {fault.old!r} -> {fault.new!r}", flush=True)
    print(", ".join(f"{n} {outcome}" for outcome, n in counts.items()))
    sys.exit(int(counts["noticed"] < len(faults)))


if __name__ == "__main__":
    main()
