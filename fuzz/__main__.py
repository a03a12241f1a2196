"""Fuzzing from the command line: `python -m abaw.fuzz --cases 20000`, in a checkout."""

import argparse
import sys
import tempfile
from pathlib import Path

from abaw.fuzz.campaign import KINDS, run_kind, write_seeds
from abaw.fuzz.process import WorkerProcess
from abaw.tests.support.trainings import Lab


def main() -> int:
    """Run new cases of every kind; the exit code is 1 if any failed."""
    parser = argparse.ArgumentParser(prog="python -m abaw.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=20_000, help="cases in all (default: 20000, about an hour)")
    parser.add_argument("--kind", choices=sorted(KINDS), action="append", help="only this kind; repeatable")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="abaw-fuzz-") as folder:
        base, lab = Path(folder), Lab()
        store = lab.make_store(base / "store.zarr")
        run = lab.start(store, base / "runs")
        lab.train(run, store)
        write_seeds(base, run.folder, store)
        failed = [kind for kind in options.kind or KINDS if not passes(kind, base, options.cases)]
    return 1 if failed else 0


def passes(kind: str, base: Path, n_cases: int) -> bool:
    """Run the cases of a kind, and print how it went."""
    worker = WorkerProcess(base)
    try:
        n_run = run_kind(kind, base, worker, n_cases, is_repeatable=False)
    except AssertionError as error:
        print(f"{kind}: failed\n{error}", flush=True)
        return False
    finally:
        worker.close()
    print(f"{kind}: {n_run} cases", flush=True)
    return True


if __name__ == "__main__":
    sys.exit(main())
