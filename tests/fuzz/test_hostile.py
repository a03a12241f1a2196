"""Hostile input: random bytes and mutated valid files end in a result or in one of our errors.

These cases are the same each time, as long as the version of hypothesis is; `python -m abaw.fuzz` runs many others. A
case that fails is printed as a literal: `WorkerProcess.run(Case(...))` runs it again.
"""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from abaw.fuzz.bombs import BOMBS, QUICK
from abaw.fuzz.campaign import KINDS, run_kind, write_seeds
from abaw.fuzz.kinds import ROUTES
from abaw.fuzz.mutation import Case, Change
from abaw.fuzz.process import WorkerProcess
from abaw.store import FeatureStore

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="the process that runs the cases reads /proc and limits its memory by RLIMIT_AS"
)

N_CASES = 130


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory, whole_run: Path, linear_store: FeatureStore) -> Path:
    """A folder with the valid files of every kind."""
    base = tmp_path_factory.mktemp("hostile")
    write_seeds(base, whole_run, linear_store)
    return base


@pytest.fixture(scope="session")
def worker(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Iterator[WorkerProcess]:
    """The process that runs cases."""
    process = WorkerProcess(base)
    process.start()
    yield process
    process.close()


@pytest.mark.parametrize("kind", KINDS)
def test_hostile_input_ends_in_a_result_or_one_of_our_errors(kind: str, base: Path, worker: WorkerProcess) -> None:
    n_run = run_kind(kind, base, worker, N_CASES, is_repeatable=True)
    assert n_run >= N_CASES * KINDS[kind][0] // 100 > 0


@pytest.mark.parametrize(
    ("route", "noticed"),
    [
        ("write", "violation: open"),
        ("delete", "violation: os.remove"),
        ("folder", "violation: os.mkdir"),
        ("follow", "violation: open"),
        ("program", "violation: subprocess.Popen"),
        ("shell", "violation: os.system"),
        ("text", "violation: exec"),
        ("pickle", "violation: pickle.find_class"),
        ("network", "violation: socket."),
        ("raise", "traceback: "),
        ("memory", "traceback: "),
        ("silent", "no sentence: "),
        ("nothing", "result"),
        ("crash", "crash: "),
        ("hang", "hang: "),
    ],
)
def test_what_must_not_happen_is_noticed(worker: WorkerProcess, route: str, noticed: str) -> None:
    case = Case("trial", route, "file.pkl", ())
    found = worker.run(case, limit_s=2.0, tries=1) if route == "hang" else worker.run(case)
    assert found.startswith(noticed), found


@pytest.mark.parametrize(
    ("route", "changes", "noticed"),
    [("load", (), "result"), ("hang changed", (("replace_all", (b"",)),), "hang: more than 2 s")],
)
def test_a_second_try_leaves_out_the_loading_of_modules_and_nothing_else(
    worker: WorkerProcess, route: str, changes: tuple[Change, ...], noticed: str
) -> None:
    assert worker.run(Case("trial", route, "file.pkl", changes), limit_s=2.0).startswith(noticed)


@pytest.mark.parametrize("name", QUICK)
def test_a_bomb_ends_in_a_result_or_one_sentence_within_bounds(name: str, worker: WorkerProcess) -> None:
    bomb = BOMBS[name]
    case = Case(bomb.kind, bomb.route, bomb.file, (("plant", (name,)),))
    assert worker.run(case, limit_s=60.0) in ("result", "error")


def test_memory_that_a_bomb_takes_is_noticed(worker: WorkerProcess) -> None:
    found = worker.run(Case("trial", "take", "file.pkl", (("plant", ("a gigabyte",)),)))
    assert found.startswith("memory: ") and 950 < int(found.split()[1].replace(",", "")) < 1200


def test_the_run_and_the_ensemble_as_they_are_make_a_report(base: Path, worker: WorkerProcess, tmp_path: Path) -> None:
    root = Path(shutil.copytree(base / "seeds" / "run", tmp_path / "case", symlinks=True))
    ROUTES["run"]["report"](root, root)
    assert (root / "x.html").is_file()
    assert worker.run(Case("run", "report", "runs/e/ensemble.json", ())) == "result"
