"""Hostile input: random bytes and mutated valid files end in a result or in one of our errors.

By default 1,000 cases, the same ones each time as long as the version of hypothesis is; `--hostile-cases 20000` runs so
many others. A case that fails is printed as a literal: `WorkerProcess.run(Case(...))` runs it again.
"""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from abaw import pipeline
from abaw.evaluate.trained import TrainedRun
from abaw.fuzz import seeds
from abaw.fuzz.cases import cases
from abaw.fuzz.kinds import ROUTES
from abaw.fuzz.mutation import Case, Change
from abaw.fuzz.process import WorkerProcess
from abaw.store import FeatureStore
from abaw.train.runs import open_run

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="the process that runs the cases reads /proc and limits its memory by RLIMIT_AS"
)

DEFAULT_CASES = 1000
# of each kind its share in percent; of each route how often it is taken, and the files that are changed for it
KINDS: dict[str, tuple[int, dict[str, tuple[int, str]]]] = {
    "crop": (15, {"read": (12, "**/v/*"), "cutout": (4, "**/v/*"), "doctor": (2, "**/v/*"), "extract": (1, "**/v/*")}),
    "label": (14, {"read": (8, "**/*.txt"), "doctor": (2, "**/*.txt"), "extract": (1, "**/*.txt")}),
    "recipe": (
        9,
        {"read": (3, "[rt]*.toml"), "cluster": (2, "[ls]*.toml"), "train": (2, "[rt]*.toml")},
    ),
    "sample": (8, {"read": (3, "*-sample.txt"), "check": (3, "**/*.txt"), "score": (1, "va-*.txt")}),
    "weights": (11, {"read": (6, "*"), "check": (1, "*")}),
    "run": (
        10,
        {
            "open": (12, "runs/[rs]/*"),
            "eval": (2, "runs/r/*"),
            "resume": (1, "runs/r/*"),
            "submit": (1, "runs/r/*"),
            "ensemble": (1, "runs/[rs]/*"),
            "compare": (1, "runs/[rs]/*"),
            "report": (1, "runs/*/*"),
            "tune": (1, "runs/r/*"),
        },
    ),
    "store": (
        12,
        {
            "read": (4, "store.zarr/**/*"),
            "table": (3, "store.zarr/**/*"),
            "info": (1, "store.zarr/**/*"),
            "verify": (2, "store.zarr/**/*"),
            "repair": (2, "store.zarr/**/*"),
            "fill": (1, "**/*"),
            "export": (1, "store.zarr/**/*"),
            "claim": (1, "store.zarr/.notes/*"),
        },
    ),
    "import": (12, {"import": (1, "*/**/*")}),
    "media": (
        4,
        {
            "timing": (1, "*"),
            "span": (1, "*"),
            "times": (1, "*"),
            "pictures": (2, "*"),
            "sound": (2, "*"),
        },
    ),
    "tensor": (3, {"images": (2, "*")}),
    "record": (2, {"record": (2, "record.json"), "encoder": (1, "encoder/*")}),
}


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory, whole_run: Path, linear_store: FeatureStore) -> Path:
    """A folder with the valid files of every kind."""
    base = tmp_path_factory.mktemp("hostile")
    places = {kind: base / "seeds" / kind for kind in (*KINDS, "trial", "outside")}
    for place in places.values():
        place.mkdir(parents=True)
    run = open_run(Path(shutil.copytree(whole_run, base / "run")))
    pipeline.tune(run, linear_store, "val", base, "cpu")
    pipeline.evaluate(TrainedRun.open(run, "cpu"), linear_store, "val")
    seeds.shorten_predictions(run.folder / "predictions-val.h5", 20)
    seeds.make_crops(places["crop"])
    seeds.make_labels(places["label"])
    seeds.make_recipe(places["recipe"])
    seeds.make_samples(places["sample"], Path(linear_store.path))
    seeds.make_weights(places["weights"])
    seeds.make_run(places["run"], run.folder, Path(linear_store.path))
    seeds.make_small_store(places["store"])
    seeds.make_imports(places["import"])
    seeds.make_media(places["media"])
    seeds.make_tensors(places["tensor"])
    seeds.make_records(places["record"])
    (places["trial"] / "file.pkl").write_bytes(seeds.payloads()["exec"])
    (places["outside"] / "kept.txt").write_text("kept")
    return base


@pytest.fixture(scope="session")
def worker(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Iterator[WorkerProcess]:
    """The process that runs cases."""
    found = WorkerProcess(base)
    found.start()
    yield found
    found.close()


@pytest.mark.parametrize("kind", KINDS)
def test_hostile_input_ends_in_a_result_or_one_of_our_errors(
    kind: str, base: Path, worker: WorkerProcess, request: pytest.FixtureRequest
) -> None:
    share, routes = KINDS[kind]
    asked = request.config.getoption("--hostile-cases")
    n_cases = max(1, (asked or DEFAULT_CASES) * share // 100)
    root = base / "seeds" / kind
    pairs = [
        (route, sorted(str(path.relative_to(root)) for path in root.glob(pattern) if path.is_file()))
        for route, (weight, pattern) in routes.items()
        for _ in range(weight)
    ]
    n_done = 0

    @settings(
        max_examples=n_cases,
        derandomize=not asked,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    @given(case=cases(kind, pairs))
    def check(case: Case) -> None:
        nonlocal n_done
        n_done += 1
        found = worker.run(case)
        assert found in ("result", "error"), f"{tuple(case)!r}: {found}"

    check()
    assert n_done >= n_cases


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
    base: Path, route: str, changes: tuple[Change, ...], noticed: str
) -> None:
    worker = WorkerProcess(base)
    try:
        assert worker.run(Case("trial", route, "file.pkl", changes), limit_s=2.0).startswith(noticed)
    finally:
        worker.close()


def test_the_run_and_the_ensemble_as_they_are_make_a_report(base: Path, worker: WorkerProcess, tmp_path: Path) -> None:
    root = Path(shutil.copytree(base / "seeds" / "run", tmp_path / "case", symlinks=True))
    ROUTES["run"]["report"](root, root)
    assert (root / "x.html").is_file()
    assert worker.run(Case("run", "report", "runs/e/ensemble.json", ())) == "result"
