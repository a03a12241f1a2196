"""Training runs: they learn, go on after a stop as if nothing had happened, and refuse what does not fit."""

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import abaw
from abaw import pipeline
from abaw.cli import main
from abaw.errors import AbawError
from abaw.reporting import Silent
from abaw.store import FeatureStore
from abaw.train import loop
from abaw.train.config import TrainConfig, make_config
from abaw.train.loop import learning_rate
from abaw.train.runs import Run, find_run, open_run

N_FRAMES, WIDTH = 120, 16
SMALL = ["head.dim=16", "head.layers=1", "head.heads=2", "head.feedforward=32", "window=30", "batch_size=8", "lr=0.01"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(abaw.__file__).parent.parent), "OMP_NUM_THREADS": "1"}
LONG = [*SMALL, "epochs=150", "patience=1000"]


def make_store(path: Path, tasks: tuple[str, ...] = ("va", "expr", "au"), fingerprint: str = "a" * 64) -> FeatureStore:
    """Four training and two validation videos whose labels are linear in the feature `f`; `g` is `f` of another name."""
    rng = np.random.default_rng(0)
    to_va, to_expr, to_au = (rng.normal(size=(WIDTH, n)) for n in (2, 8, 12))
    store = FeatureStore.create(path)
    for feature in ("f", "g"):
        store.add_feature(feature, {"shape": [WIDTH], "weights": "none"}, None, fingerprint)
    rows = np.arange(N_FRAMES)
    for i in range(6):
        x = rng.normal(size=(N_FRAMES, WIDTH)).astype(np.float32)
        for feature in ("f", "g"):
            writer = store.writer(feature, f"v{i}", N_FRAMES, rows, {"fps": 30.0, "source": "test"})
            writer.write(rows, x)
            writer.finish()
        labels = {
            "va": np.clip(x @ to_va / 8, -1, 1).astype(np.float32),
            "expr": (x @ to_expr).argmax(1)[:, None].astype(np.int8),
            "au": (x @ to_au > 0).astype(np.int8),
        }
        for task in tasks:
            store.write_labels(task, f"v{i}", "train" if i < 4 else "val", labels[task])
    return store


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small wait for their threads much longer than they compute, most of all on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    return make_store(tmp_path_factory.mktemp("training") / "store.zarr")


def small(task: str = "va", *settings: str, head: str = "transformer") -> TrainConfig:
    kept = [setting for setting in SMALL if head == "transformer" or not setting.startswith("head.")]
    return make_config({"task": task, "features": ("f",), "head": {"name": head}}, [*kept, "epochs=5", *settings])


class StopAfter(Silent):
    """A reporter that breaks a training off once some epochs are done."""

    def __init__(self, n_epochs: int) -> None:
        self.n_left = n_epochs

    def advance(self, n: int = 1, note: str = "") -> None:
        self.n_left -= n
        if self.n_left == 0:
            raise KeyboardInterrupt


def train(run: Run, store: FeatureStore, reporter: Silent | None = None) -> loop.Result:
    return pipeline.train(run, pipeline.load_tables(run.config, store), "cpu", reporter)


def start(store: FeatureStore, runs: Path, config: TrainConfig | None = None, name: str | None = None) -> Run:
    return pipeline.start_run(config or small(), store, runs, name)


def metrics_of(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def tensors_of(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    with safe_open(path, "pt") as file:
        return load_file(path), file.metadata()


def assert_same_run(folder: Path, wanted: Path) -> None:
    """Weights, optimizer, progress and metrics are equal to the last bit; only the clock may differ."""
    for name in ("best.safetensors", "last.safetensors"):
        found, found_metadata = tensors_of(folder / name)
        expected, expected_metadata = tensors_of(wanted / name)
        assert found_metadata == expected_metadata, name
        assert found.keys() == expected.keys()
        assert [key for key in expected if not torch.equal(found[key], expected[key])] == []
    timing = {"seconds", "waiting_share"}
    rows = [[{k: v for k, v in row.items() if k not in timing} for row in metrics_of(f)] for f in (folder, wanted)]
    assert rows[0] == rows[1]


@pytest.fixture(scope="module")
def whole(store: FeatureStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of five epochs that nothing interrupted."""
    run = start(store, tmp_path_factory.mktemp("whole"))
    train(run, store)
    return run.folder


def cli(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def refused(result: Result, exit_code: int, *words: str) -> None:
    """The command ended on purpose with one sentence that has these words."""
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.exit_code == exit_code, result.output
    last = result.output.strip().splitlines()[-1]
    assert last.startswith("Error: ")
    assert [word for word in words if word not in last] == [], last


# learning


@pytest.mark.parametrize(("task", "least"), [("va", 0.9), ("expr", 0.6), ("au", 0.8)])
@pytest.mark.parametrize("head", ["linear", "transformer"])
def test_training_finds_a_linear_rule(store: FeatureStore, tmp_path: Path, head: str, task: str, least: float) -> None:
    quiet = (
        ["head.dropout=0", "head.mask_ratio=0", "head.dim=32", "epochs=10"] if head == "transformer" else ["lr=0.03"]
    )
    run = start(store, tmp_path, small(task, "epochs=8", "batch_size=4", "warmup=0", *quiet, head=head))
    result = train(run, store)
    assert result.best_score > least
    assert metrics_of(run.folder)[-1]["loss"] < 0.5 * metrics_of(run.folder)[0]["loss"]


def test_class_weights_change_the_training(store: FeatureStore, tmp_path: Path) -> None:
    runs = [
        start(store, tmp_path, small("expr", "epochs=1", f"class_weights={on}", head="linear")) for on in ("0", "1")
    ]
    for run in runs:
        train(run, store)
    assert metrics_of(runs[0].folder)[0]["loss"] != metrics_of(runs[1].folder)[0]["loss"]


def test_seed_decides_everything(store: FeatureStore, tmp_path: Path, whole: Path) -> None:
    same, other = start(store, tmp_path), start(store, tmp_path, small("va", "seed=1", "epochs=1"))
    train(same, store)
    train(other, store)
    assert_same_run(same.folder, whole)
    assert metrics_of(other.folder)[0]["loss"] != metrics_of(whole)[0]["loss"]


def test_learning_rate_warms_up_and_falls_to_zero() -> None:
    config = make_config({"task": "va", "features": ("f",)}, ["lr=1.1", "warmup=0.1"])
    rates = [learning_rate(config, step, 100) for step in range(101)]
    # ten steps of warm-up in elevenths of the rate, then half a cosine over the other ninety
    assert rates[:10] == pytest.approx([0.1 * step for step in range(1, 11)])
    assert rates[10] == pytest.approx(1.1)
    assert rates[55] == pytest.approx(0.55)
    assert rates[40] == pytest.approx(1.1 * 0.75)
    assert rates[100] == pytest.approx(0)
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_every_epoch_sees_other_windows(store: FeatureStore, tmp_path: Path) -> None:
    """With weights that do not move and nothing else that is random, losses differ by their windows alone."""
    run = start(store, tmp_path, small("va", "lr=1e-30", "epochs=3", head="linear"))
    train(run, store)
    assert len({row["loss"] for row in metrics_of(run.folder)}) == 3


def test_early_stopping_waits_for_its_patience(store: FeatureStore, tmp_path: Path) -> None:
    """A rate too small to change a weight: the first score is never beaten."""
    run = start(store, tmp_path, small("va", "lr=1e-30", "epochs=9", "patience=3"))
    result = train(run, store)
    assert (result.best_epoch, result.n_epochs) == (1, 4)
    assert len({row["score"] for row in metrics_of(run.folder)}) == 1
    again = train(open_run(run.folder), store)
    assert again == result, "a run that has stopped early stays stopped"


# what a run leaves behind


def test_best_checkpoint_is_of_the_best_epoch(store: FeatureStore, tmp_path: Path) -> None:
    """A rate so high that scores go up and down."""
    run = start(store, tmp_path, small("va", "lr=0.3", "epochs=8", "patience=8", "warmup=0"))
    result = train(run, store)
    scores = [row["score"] for row in metrics_of(run.folder)]
    best = int(np.argmax(scores))
    assert best < len(scores) - 1, "else this test cannot tell best from last"
    assert (result.best_score, result.best_epoch, result.n_epochs) == (scores[best], best + 1, 8)
    tensors, metadata = tensors_of(run.folder / "best.safetensors")
    assert int(metadata["epoch"]) == best + 1
    last, _ = tensors_of(run.folder / "last.safetensors")
    assert not torch.equal(tensors["output.weight"], last["model.output.weight"])
    assert pipeline.evaluate(run, store, "val", "cpu").official.score == scores[best]


def test_run_holds_safetensors_and_its_config(whole: Path) -> None:
    content = json.loads((whole / "config.json").read_text())
    assert make_config(content["config"]) == small()
    assert content["features"] == {"f": {"fingerprint": "a" * 64, "shape": [WIDTH]}}
    assert load_file(whole / "best.safetensors").keys() == {
        key.removeprefix("model.") for key in load_file(whole / "last.safetensors") if key.startswith("model.")
    }
    assert sorted(path.name for path in whole.iterdir()) == [
        "best.safetensors",
        "config.json",
        "last.safetensors",
        "metrics.jsonl",
        "tensorboard",
    ]


def scalars_of(folder: Path, name: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


@pytest.mark.parametrize("name", ["loss", "score", "lr"])
def test_tensorboard_agrees_with_the_metrics_file(whole: Path, name: str) -> None:
    rows = metrics_of(whole)
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5]
    assert scalars_of(whole, name) == [(row["epoch"], pytest.approx(row[name], rel=1e-6)) for row in rows]


def test_metrics_time_the_waiting_for_data(whole: Path) -> None:
    assert all(row["seconds"] > 0 and 0 < row["waiting_share"] < 1 for row in metrics_of(whole))


def test_runs_are_named_by_task_features_and_head_and_counted(store: FeatureStore, tmp_path: Path) -> None:
    both = make_config({"task": "expr", "features": ("f", "g"), "head": {"name": "linear"}})
    names = [start(store, tmp_path, config).name for config in (small(), small(), small("au"), both)]
    assert names == ["va-f-transformer-1", "va-f-transformer-2", "au-f-transformer-1", "expr-f+g-linear-1"]


def test_joined_features_train(store: FeatureStore, tmp_path: Path) -> None:
    config = make_config({"task": "va", "features": ("f", "g")}, [*SMALL, "epochs=1"])
    run = start(store, tmp_path, config)
    train(run, store)
    assert load_file(run.folder / "best.safetensors")["inputs.mean"].shape == (2 * WIDTH,)


# going on


@pytest.mark.parametrize("n_epochs", [1, 3])
def test_resumed_run_equals_an_uninterrupted_one(
    store: FeatureStore, tmp_path: Path, whole: Path, n_epochs: int
) -> None:
    run = start(store, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        train(run, store, StopAfter(n_epochs))
    assert len(metrics_of(run.folder)) == n_epochs
    torch.manual_seed(123)  # whatever was drawn in between must not matter
    result = train(open_run(run.folder), store)
    assert result.n_epochs == 5
    assert_same_run(run.folder, whole)
    assert [step for step, _ in scalars_of(run.folder, "loss")] == [1, 2, 3, 4, 5]


def failing_on_call(function: Callable[..., None], number: int) -> Callable[..., None]:
    calls = []

    def wrapped(*arguments: object) -> None:
        calls.append(arguments)
        if len(calls) == number:
            raise OSError(28, "No space left on device")
        function(*arguments)

    return wrapped


@pytest.mark.parametrize(
    "step",
    [
        "save_tensors",
        "save_last",
        "_record",
    ],
)
def test_stop_between_the_files_of_an_epoch_loses_nothing(
    store: FeatureStore, tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    run = start(store, tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(loop, step, failing_on_call(getattr(loop, step), 2))
        with pytest.raises((OSError, AbawError)):
            train(run, store)
    train(open_run(run.folder), store)
    assert_same_run(run.folder, whole)


def test_cut_line_in_the_metrics_does_not_stop_a_resumed_run(store: FeatureStore, tmp_path: Path, whole: Path) -> None:
    run = start(store, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        train(run, store, StopAfter(2))
    with (run.folder / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 3, "los')
    train(open_run(run.folder), store)
    assert_same_run(run.folder, whole)


def hear_interrupts() -> None:
    """In a new process: Ctrl-C counts, also where the tests themselves run in the background and never hear of it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def in_a_process(*arguments: object) -> subprocess.Popen[str]:
    """`abaw` in a process of its own, from this checkout."""
    command = [sys.executable, "-m", "abaw", *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen(command, env=ENVIRONMENT, text=True, preexec_fn=hear_interrupts, **pipes)


@pytest.fixture(scope="module")
def long_run(store: FeatureStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run long enough to be shot while it goes on, uninterrupted."""
    runs = tmp_path_factory.mktemp("long")
    settings = [part for setting in LONG for part in ("--set", setting)]
    process = in_a_process(
        *("train", "--task", "va", "--feature", "f", "--store", store.path, "--runs", runs, "--device", "cpu"),
        *settings,
    )
    assert process.wait(120) == 0
    return runs / "va-f-transformer-1"


@pytest.mark.parametrize(("stop", "exit_code"), [(signal.SIGKILL, -9), (signal.SIGINT, 1)])
def test_stopped_process_is_resumed_to_the_same_result(
    store: FeatureStore, tmp_path: Path, long_run: Path, stop: signal.Signals, exit_code: int
) -> None:
    common = ["--task", "va", "--store", store.path, "--runs", tmp_path, "--device", "cpu"]
    settings = [part for setting in LONG for part in ("--set", setting)]
    process = in_a_process("train", "--feature", "f", *common, *settings)
    folder = tmp_path / "va-f-transformer-1"
    until = time.monotonic() + 100
    while not (folder / "metrics.jsonl").exists() or len(metrics_of_partial(folder)) < 3:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < until
        time.sleep(0.005)
    process.send_signal(stop)
    output = process.communicate(timeout=100)[0]
    assert process.returncode == exit_code, output
    if stop == signal.SIGINT:
        assert "Interrupted. What was finished is kept" in output
        assert "Traceback" not in output
    assert len(metrics_of_partial(folder)) < 150
    result = cli("train", "--resume", *common)
    assert result.exit_code == 0, result.output
    assert_same_run(folder, long_run)


def metrics_of_partial(folder: Path) -> list[str]:
    return (folder / "metrics.jsonl").read_text().splitlines()


def test_resume_takes_the_named_run_or_the_newest_of_the_task(store: FeatureStore, tmp_path: Path) -> None:
    for task in ("va", "au"):
        for _ in range(2):
            start(store, tmp_path, small(task, "epochs=1"))
    common = ("train", "--resume", "--store", store.path, "--runs", tmp_path, "--device", "cpu")
    assert cli(*common, "--task", "va").exit_code == 0
    assert cli(*common, "--run", "va-f-transformer-1").exit_code == 0
    trained = sorted(path.parent.name for path in tmp_path.glob("*/best.safetensors"))
    assert trained == ["va-f-transformer-1", "va-f-transformer-2"]
    assert cli(*common).exit_code == 0
    assert (tmp_path / "au-f-transformer-2" / "best.safetensors").exists()


def test_resume_of_a_finished_run_changes_nothing(store: FeatureStore, tmp_path: Path, whole: Path) -> None:
    folder = shutil.copytree(whole, tmp_path / "copy")
    result = cli("train", "--resume", "--store", store.path, "--runs", tmp_path, "--device", "cpu")
    assert result.exit_code == 0
    assert "of 5" in result.output
    assert_same_run(folder, whole)


def test_resume_takes_no_options_of_its_own(store: FeatureStore, tmp_path: Path, whole: Path) -> None:
    for option in (("--set", "epochs=9"), ("--head", "linear"), ("--loss", "ccc"), ("--feature", "f")):
        result = cli("train", "--resume", *option, "--store", store.path, "--runs", whole.parent)
        refused(result, 2, "--resume goes on with the run's own options", "Leave out")


# losses that are not finite


def test_loss_that_is_not_finite_stops_and_keeps_the_good_checkpoints(
    store: FeatureStore, tmp_path: Path, whole: Path
) -> None:
    """Two good epochs, then every frame is broken, then good again."""
    run = start(store, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        train(run, store, StopAfter(2))
    kept = {name: (run.folder / name).read_bytes() for name in ("best.safetensors", "last.safetensors")}
    table, validation = pipeline.load_tables(run.config, store)
    broken = replace(table, values={"f": np.full_like(table.values["f"], np.inf)})
    with pytest.raises(AbawError, match=r"loss is not finite at step 1 of epoch 3\. Lower lr .*checkpoint is kept"):
        pipeline.train(run, (broken, validation), "cpu")
    assert {name: (run.folder / name).read_bytes() for name in kept} == kept
    assert len(metrics_of(run.folder)) == 2
    train(open_run(run.folder), store)
    assert_same_run(run.folder, whole)


def test_the_first_step_that_is_not_finite_is_named(store: FeatureStore, tmp_path: Path) -> None:
    """A rate beyond reason overflows the weights with the first step: the second has no loss."""
    run = start(store, tmp_path, small("va", "lr=1e37", "warmup=0", "epochs=2", head="linear"))
    with pytest.raises(AbawError, match=r"not finite at step 2 of epoch 1\."):
        train(run, store)
    assert not (run.folder / "best.safetensors").exists()
    assert not (run.folder / "last.safetensors").exists()


# refusals


@pytest.fixture
def in_store(store: FeatureStore, tmp_path: Path) -> Callable[..., Result]:
    """`abaw train` on the store with runs in a fresh folder."""

    def call(*arguments: object) -> Result:
        return cli("train", "--store", store.path, "--runs", tmp_path / "runs", "--device", "cpu", *arguments)

    return call


def test_existing_run_is_refused_and_left_alone(in_store: Callable[..., Result], tmp_path: Path, whole: Path) -> None:
    folder = shutil.copytree(whole, tmp_path / "runs" / "mine")
    refused(in_store("--task", "va", "--feature", "f", "--run", "mine"), 2, "mine exists", "--resume", "another --run")
    assert_same_run(folder, whole)


def test_unknown_names_list_the_known_ones(in_store: Callable[..., Result], store: FeatureStore) -> None:
    refused(in_store("--task", "lsd", "--feature", "f"), 2, "Unknown task 'lsd'", "va, expr, au")
    refused(
        in_store("--task", "va", "--feature", "vit-mean"), 2, "No feature 'vit-mean'", store.path, "f, g", "extract"
    )
    refused(in_store("--task", "va"), 2, "has 2 features: f, g", "--feature")
    refused(in_store("--task", "va", "--feature", "f", "--head", "lstm"), 2, "Unknown head 'lstm'", "linear")
    refused(in_store("--task", "va", "--feature", "f", "--set", "epoch=3"), 2, "'epoch'", "epochs")
    refused(in_store("--feature", "f"), 2, "--task va", "--task expr", "--task au")


@pytest.mark.parametrize("option", [("--loss", "bce"), ("--device", "abacus"), ("--set", "seed=99999999999999999999")])
def test_wrong_option_leaves_no_run_behind(
    in_store: Callable[..., Result], tmp_path: Path, option: tuple[str, str]
) -> None:
    refused(in_store("--task", "va", "--feature", "f", *option), 2)
    assert list((tmp_path / "runs").glob("*")) == []


def test_wrong_loss_and_device_are_named(in_store: Callable[..., Result]) -> None:
    refused(in_store("--task", "va", "--feature", "f", "--loss", "bce"), 2, "'bce'", "does not fit", "ccc")
    refused(in_store("--task", "va", "--feature", "f", "--device", "abacus"), 2, "'abacus'", "cpu, cuda")


def test_name_of_a_run_must_be_a_name(in_store: Callable[..., Result]) -> None:
    refused(in_store("--task", "va", "--feature", "f", "--run", "a/b"), 2, "a/b")


def test_store_without_labels_says_so(tmp_path: Path) -> None:
    store = make_store(tmp_path / "s.zarr", tasks=())
    result = cli("train", "--task", "va", "--feature", "f", "--store", store.path, "--runs", tmp_path / "runs")
    refused(result, 2, "has no labels at all", "va needs them", "abaw extract")
    assert not (tmp_path / "runs").exists()


def test_task_without_labels_names_those_that_have_them(tmp_path: Path) -> None:
    store = make_store(tmp_path / "s.zarr", tasks=("expr", "au"))
    result = cli("train", "--task", "va", "--feature", "f", "--store", store.path, "--runs", tmp_path / "runs")
    refused(result, 2, "has labels of au, expr only", "va needs them")


def test_missing_validation_labels_are_named(tmp_path: Path) -> None:
    store = make_store(tmp_path / "s.zarr", tasks=())
    store.write_labels("va", "v0", "train", np.zeros((N_FRAMES, 2), dtype=np.float32))
    result = cli("train", "--task", "va", "--feature", "f", "--store", store.path, "--runs", tmp_path / "runs")
    refused(result, 2, "va labels of train", "none of 'val'")


def test_store_that_is_not_there_says_how_to_make_one(tmp_path: Path) -> None:
    refused(cli("train", "--task", "va", "--store", tmp_path / "none.zarr"), 1, "No feature store", "abaw extract")
    empty = FeatureStore.create(tmp_path / "empty.zarr")
    refused(cli("train", "--task", "va", "--store", empty.path), 2, "has no features yet", "abaw extract")


@pytest.mark.parametrize("command", [("eval",), ("train", "--resume")])
def test_store_of_another_fingerprint_is_refused(
    tmp_path: Path, whole: Path, store: FeatureStore, command: tuple[str, ...]
) -> None:
    other = make_store(tmp_path / "other.zarr", fingerprint="b" * 64)
    result = cli(*command, "--store", other.path, "--runs", whole.parent)
    refused(result, 1, whole.name, "'f'", "a" * 12, "b" * 12, "Use the store it was trained on")


def test_unknown_run_to_resume_lists_the_known_ones(in_store: Callable[..., Result], whole: Path) -> None:
    refused(in_store("--resume"), 2, "No run in", "abaw train")
    refused(in_store("--resume", "--runs", whole.parent, "--run", "x"), 2, "No run 'x'", whole.name)
    refused(in_store("--resume", "--runs", whole.parent, "--task", "au"), 2, "No run of task au")


# damaged runs


@pytest.fixture
def copied(whole: Path, tmp_path: Path) -> Path:
    """A copy of a good run that a test may damage."""
    return shutil.copytree(whole, tmp_path / "runs" / "good")


def evaluated(folder: Path, store: FeatureStore) -> Result:
    return cli("eval", "--store", store.path, "--runs", folder.parent, "--data", folder / "none", "--device", "cpu")


def resumed(folder: Path, store: FeatureStore) -> Result:
    return cli("train", "--resume", "--store", store.path, "--runs", folder.parent, "--device", "cpu")


def test_missing_and_unexpected_keys_are_listed(copied: Path, store: FeatureStore) -> None:
    path = copied / "best.safetensors"
    tensors = load_file(path)
    del tensors["output.bias"]
    tensors |= {f"extra.{i}": torch.zeros(1) for i in range(5)}
    tensors["output.weight"] = torch.zeros(3, 16)
    save_file(tensors, path)
    result = evaluated(copied, store)
    refused(result, 1, str(path), "1 missing (output.bias)", "5 unexpected (extra.0, extra.1, extra.2, ...)")
    refused(result, 1, "1 misshapen (output.weight)")


def test_missing_keys_of_the_last_checkpoint_are_listed(copied: Path, store: FeatureStore) -> None:
    path = copied / "last.safetensors"
    tensors, metadata = tensors_of(path)
    del tensors["model.output.bias"]
    save_file(tensors, path, metadata)
    refused(resumed(copied, store), 1, str(path), "1 missing (output.bias)")


def test_missing_optimizer_state_is_refused(copied: Path, store: FeatureStore) -> None:
    path = copied / "last.safetensors"
    tensors, metadata = tensors_of(path)
    save_file({key: value for key, value in tensors.items() if key.startswith("model.")}, path, metadata)
    refused(resumed(copied, store), 1, str(path), "optimizer")


def test_last_checkpoint_without_progress_is_refused(copied: Path, store: FeatureStore) -> None:
    path = copied / "last.safetensors"
    save_file(load_file(path), path)
    refused(resumed(copied, store), 1, str(path))


class LeavesTrace:
    """Makes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (self.file,)


@pytest.mark.parametrize("name", ["best.safetensors", "last.safetensors"])
@pytest.mark.parametrize("writer", ["pickle", "torch"])
def test_pickle_in_place_of_a_checkpoint_is_refused_and_never_run(
    copied: Path, store: FeatureStore, tmp_path: Path, name: str, writer: str
) -> None:
    trace = tmp_path / "was-run"
    if writer == "pickle":
        (copied / name).write_bytes(pickle.dumps(LeavesTrace(trace)))
        pickle.loads((copied / name).read_bytes())
    else:
        torch.save(LeavesTrace(trace), copied / "weights.pt")
        torch.load(copied / "weights.pt", weights_only=False)
        (copied / "weights.pt").replace(copied / name)
    assert trace.exists(), "else this test could not notice"
    trace.unlink()
    result = (evaluated if name.startswith("best") else resumed)(copied, store)
    refused(result, 1, str(copied / name), "not a whole safetensors file")
    assert not trace.exists()


@pytest.mark.parametrize("n_bytes", [0, 100, 3000])
def test_cut_checkpoint_is_refused(copied: Path, store: FeatureStore, n_bytes: int) -> None:
    path = copied / "best.safetensors"
    path.write_bytes(path.read_bytes()[:n_bytes])
    refused(evaluated(copied, store), 1, str(path), "not a whole safetensors file")


def test_run_that_was_never_trained_says_so(store: FeatureStore, tmp_path: Path) -> None:
    run = start(store, tmp_path / "runs")
    refused(evaluated(run.folder, store), 1, f"No checkpoint {run.folder}/best.safetensors", "abaw train")


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[]",
        lambda text: text.replace('"config"', '"confit"'),
        lambda text: text.replace('"epochs"', '"epoch"'),
        lambda text: text.replace('"transformer"', '"lstm"'),
    ],
)
def test_damaged_config_is_named(copied: Path, store: FeatureStore, damage: Callable[[str], str]) -> None:
    path = copied / "config.json"
    path.write_text(damage(path.read_text()))
    for call in (evaluated, resumed):
        refused(call(copied, store), 1, str(path), "is not the config of a run")


def test_newest_run_is_found_by_the_time_it_was_made(store: FeatureStore, tmp_path: Path) -> None:
    for name in ("z", "a", "m"):
        start(store, tmp_path, name=name)
    (tmp_path / "not-a-run").mkdir()
    assert find_run(tmp_path, None).name == "m"
    assert find_run(tmp_path, "z").name == "z"
    assert find_run(tmp_path / "elsewhere", str(tmp_path / "z")).name == "z"


# a full disk


def test_file_that_cannot_be_written_is_one_sentence(store: FeatureStore, tmp_path: Path) -> None:
    """A limit on the size of files stands for a full disk: the checkpoint does not fit, the config does."""
    command = [sys.executable, "-m", "abaw", "train", "--task", "va", "--feature", "f", "--set", "epochs=1"]
    command += ["--store", store.path, "--runs", str(tmp_path), "--device", "cpu"]
    limited = ["bash", "-c", 'ulimit -f 16; exec "$@"', "bash", *command]
    done = subprocess.run(limited, env=ENVIRONMENT, text=True, capture_output=True, timeout=120, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "best.safetensors" in done.stderr
