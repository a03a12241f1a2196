"""A campaign: the valid files of every kind, and how many cases change which of them for which route."""

import shutil
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings

from abaw import pipeline
from abaw.evaluate.trained import TrainedRun
from abaw.fuzz import seeds
from abaw.fuzz.cases import cases
from abaw.fuzz.mutation import Case
from abaw.fuzz.process import WorkerProcess
from abaw.store import FeatureStore
from abaw.train.runs import open_run

# by kind: its share of the cases in percent, and by route: its weight, and the files that are changed for it
KINDS: dict[str, tuple[int, dict[str, tuple[int, str]]]] = {
    "crop": (13, {"read": (12, "**/v/*"), "cutout": (4, "**/v/*"), "doctor": (2, "**/v/*"), "extract": (1, "**/v/*")}),
    "label": (14, {"read": (8, "**/*.txt"), "doctor": (2, "**/*.txt"), "extract": (1, "**/*.txt")}),
    "task": (5, {"read": (3, "*.toml"), "labels": (6, "**/*.[tc]*"), "doctor": (1, "**/*.[tc]*")}),
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
            "claim": (1, "store.zarr/.notes/*/zarr.json"),
        },
    ),
    "import": (11, {"import": (1, "*/**/*")}),
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
    "transcript": (3, {"read": (2, "of-a-video/*"), "find": (1, "of-all/*")}),
    "tensor": (3, {"images": (2, "*")}),
    "record": (2, {"record": (2, "record.json"), "encoder": (1, "encoder/*")}),
}


def write_seeds(base: Path, trained: Path, store: FeatureStore) -> None:
    """Write the valid files of every kind into `base/seeds`.

    Args:
        trained: folder of a run; it is copied.
        store: that the run was trained on.
    """
    places = {kind: base / "seeds" / kind for kind in (*KINDS, "trial", "outside")}
    for place in places.values():
        place.mkdir(parents=True)
    run = open_run(Path(shutil.copytree(trained, base / "run")))
    pipeline.tune(run, store, "val", base, "cpu")
    pipeline.evaluate(TrainedRun.open(run, "cpu"), store, "val")
    seeds.shorten_predictions(run.folder / "predictions-val.h5", 20)
    seeds.make_crops(places["crop"])
    seeds.make_labels(places["label"])
    seeds.make_tasks(places["task"])
    seeds.make_recipe(places["recipe"])
    seeds.make_samples(places["sample"], Path(store.path))
    seeds.make_weights(places["weights"])
    seeds.make_run(places["run"], run.folder, Path(store.path))
    seeds.make_small_store(places["store"])
    seeds.make_imports(places["import"])
    seeds.make_media(places["media"])
    seeds.make_transcripts(places["transcript"])
    seeds.make_tensors(places["tensor"])
    seeds.make_records(places["record"])
    (places["trial"] / "file.pkl").write_bytes(seeds.payloads()["exec"])
    (places["outside"] / "kept.txt").write_text("kept")


def run_kind(kind: str, base: Path, worker: WorkerProcess, n_cases: int, is_repeatable: bool) -> int:
    """Run about a kind's share of `n_cases` cases; returns how many were run.

    Args:
        base: folder with `seeds`.
        is_repeatable: run the same cases each time, as long as the version of hypothesis is the same.

    Raises:
        AssertionError: a case ended neither in a result nor in one of our errors; the message has its literal.
    """
    share, routes = KINDS[kind]
    root, n_run = base / "seeds" / kind, 0
    pairs = [
        (route, sorted(str(path.relative_to(root)) for path in root.glob(pattern) if path.is_file()))
        for route, (weight, pattern) in routes.items()
        for _ in range(weight)
    ]

    @settings(
        max_examples=max(1, n_cases * share // 100),
        derandomize=is_repeatable,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    @given(case=cases(kind, pairs))
    def run(case: Case) -> None:
        nonlocal n_run
        n_run += 1
        outcome = worker.run(case)
        assert outcome in ("result", "error"), f"{tuple(case)!r}: {outcome}"

    run()
    return n_run
