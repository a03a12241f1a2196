"""Runs that go on: after a stop as if nothing had happened, wherever it came, and never from what is damaged."""

import json
import os
import shutil
import signal
from collections.abc import Callable

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from abaw import pipeline
from abaw.cli import main
from abaw.core.errors import AbawError, CheckpointError, UsageError
from abaw.core.progress import Interrupted, Silent
from abaw.evaluate.trained import TrainedRun
from abaw.tests.support.command_line import assert_refused
from abaw.tests.support.processes import Started
from abaw.tests.support.trainings import StopAfter
from abaw.train import loop
from abaw.train.checkpoint import load_tensors, save_tensors
from abaw.train.config import make_config
from abaw.train.new_run import find_started_run
from abaw.train.runs import open_run

pytestmark = pytest.mark.usefixtures("one_thread")

N_EPOCHS = 32  # enough to stop a process in their midst
LONG = (f"epochs={N_EPOCHS}", "patience=1000")


def scalars_of(folder, name):
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


# going on


@pytest.mark.parametrize("n_epochs", [1, 3])
def test_resumed_run_equals_an_uninterrupted_one(lab, linear_store, tmp_path, whole_run, n_epochs):
    run = lab.start(linear_store, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        lab.train(run, linear_store, StopAfter(n_epochs))
    assert len(lab.metrics(run.folder)) == n_epochs
    torch.manual_seed(123)  # whatever was drawn in between must not matter
    result = lab.train(open_run(run.folder), linear_store)
    assert result.n_epochs == 5
    lab.assert_same(run.folder, whole_run)
    assert [step for step, _ in scalars_of(run.folder, "train/loss")] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("momentum", ["0.9", "0"])
@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_resumed_gradient_descent_equals_an_uninterrupted_one(lab, linear_store, tmp_path, momentum, schedule):
    settings = ("optimizer=sgd", f"momentum={momentum}", f"schedule={schedule}", "epochs=3")
    whole, stopped = (lab.start(linear_store, tmp_path, lab.config("va", *settings)) for _ in range(2))
    lab.train(whole, linear_store)
    with pytest.raises(KeyboardInterrupt):
        lab.train(stopped, linear_store, StopAfter(2))
    state = [key for key in load_file(stopped.folder / "last.safetensors") if key.startswith("optimizer.")]
    assert all(key.endswith(".momentum_buffer") for key in state)
    assert bool(state) == (momentum != "0")
    lab.train(open_run(stopped.folder), linear_store)
    lab.assert_same(stopped.folder, whole.folder)


@pytest.mark.parametrize(
    "options",
    [
        {"views": ("", "hflip"), "loss": {"name": "v-naw"}, "speed": (0.6, 1.4), "balance": "class"},
        {"views": ("", "hflip"), "loss": {"name": "cotex"}, "co_train": True, "missing": "nearest", "fold": "2/3"},
        {"ema": 0.9, "precision": "bf16", "eval_share": 0.5},
    ],
    ids=["v-naw", "cotex", "average"],
)
def test_resumed_run_of_several_views_equals_an_uninterrupted_one(lab, linear_store, tmp_path, options):
    config = make_config({"task": "expr", "features": ("f",), **options}, [*lab.settings, "epochs=3"])
    whole, stopped = (lab.start(linear_store, tmp_path, config) for _ in range(2))
    lab.train(whole, linear_store)
    with pytest.raises(KeyboardInterrupt):
        lab.train(stopped, linear_store, StopAfter(1))
    assert open_run(stopped.folder).config == config.resolved()
    lab.train(open_run(stopped.folder), linear_store)
    lab.assert_same(stopped.folder, whole.folder)


def failing_on_call(function, number):
    calls = []

    def wrapped(*arguments):
        calls.append(arguments)
        if len(calls) == number:
            raise OSError(28, "No space left on device")
        function(*arguments)

    return wrapped


@pytest.mark.parametrize(("place", "step"), [(loop, "save_tensors"), (loop, "save_last"), (loop.Log, "add")])
def test_stop_between_the_files_of_an_epoch_loses_nothing(
    lab, linear_store, tmp_path, whole_run, monkeypatch, place, step
):
    run = lab.start(linear_store, tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(place, step, failing_on_call(getattr(place, step), 2))
        with pytest.raises((OSError, AbawError)):
            lab.train(run, linear_store)
    lab.train(open_run(run.folder), linear_store)
    lab.assert_same(run.folder, whole_run)


def test_cut_line_in_the_metrics_does_not_stop_a_resumed_run(lab, linear_store, tmp_path, whole_run):
    run = lab.start(linear_store, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        lab.train(run, linear_store, StopAfter(2))
    with (run.folder / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 3, "los')
    lab.train(open_run(run.folder), linear_store)
    lab.assert_same(run.folder, whole_run)


# within an epoch


class StopAtStep(Silent):
    """Calls `stop` after so many steps of this process."""

    def __init__(self, n_steps: int, stop: Callable[[], None]) -> None:
        self.n_left, self.stop, self.unit = n_steps, stop, ""

    def start(self, label: str, total: int, unit: str, done: int = 0) -> None:
        self.unit = unit

    def advance(self, n: int = 1, note: str = "") -> None:
        self.n_left -= n * (self.unit == "steps")
        if n and self.n_left == 0:
            self.stop()


def send(number: signal.Signals) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


@pytest.fixture
def hear_signals():
    """The handlers that a new process has; a worker of the tests may ignore Ctrl-C."""
    before = [(number, signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    for number, handler in before:
        assert signal.getsignal(number) in (signal.default_int_handler, signal.SIG_DFL), "a handler stayed"
        signal.signal(number, handler)


def losses_kept(folder):
    tensors, metadata = load_tensors(folder / "unfinished-epoch.safetensors")
    return json.loads(metadata["taken"])["epoch"], tensors["losses"].tolist()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("n_steps", [1, 6])
def test_run_stopped_within_an_epoch_ends_as_an_uninterrupted_one(
    lab, linear_store, tmp_path, whole_run, hear_signals, number, n_steps
):
    """Four steps in an epoch: the first epoch is left after one, or the second one after two."""
    run = lab.start(linear_store, tmp_path)
    with pytest.raises(Interrupted, match=f"^{run.name}$"):
        lab.train(run, linear_store, StopAtStep(n_steps, send(number)))
    epoch, losses = losses_kept(run.folder)
    assert (epoch, len(losses)) == ((1, 1) if n_steps == 1 else (2, 2))
    torch.manual_seed(123)  # whatever was drawn in between must not matter
    lab.train(open_run(run.folder), linear_store)
    lab.assert_same(run.folder, whole_run)
    assert not (run.folder / "unfinished-epoch.safetensors").exists()


@pytest.mark.parametrize(
    "options",
    [
        {"head": {"name": "encoder", "convs": [16], "layers": 1, "heads": 2, "feedforward": 16, "output_hidden": 8}},
        {"head": {"name": "linear", "dropout": 0.5}, "optimizer": "sgd", "balance": "class", "speed": (0.5, 2)},
    ],
    ids=["encoder", "sgd"],
)
def test_run_stopped_after_every_second_step_ends_as_an_uninterrupted_one(
    lab, linear_store, tmp_path, hear_signals, options
):
    """Statistics of batches, momentum and drawn windows go on too."""
    config = make_config({"task": "expr", "features": ("f",), **options}, ["window=30", "batch_size=6", "epochs=2"])
    whole, stopped = (lab.start(linear_store, tmp_path, config) for _ in range(2))
    lab.train(whole, linear_store)
    n_stops = 0
    while True:
        try:
            lab.train(open_run(stopped.folder), linear_store, StopAtStep(2, send(signal.SIGINT)))
            break
        except Interrupted:
            n_stops += 1
    assert n_stops >= 4
    lab.assert_same(stopped.folder, whole.folder)


def test_killed_run_continues_from_the_last_checkpoint_within_the_epoch(
    lab, linear_store, tmp_path, whole_run, monkeypatch
):
    """With no time between checkpoints each step is kept; a kill leaves no time to write one."""
    run = lab.start(linear_store, tmp_path)

    def die():
        raise RuntimeError

    with monkeypatch.context() as patched:
        patched.setattr(loop, "CHECKPOINT_S", -1.0)
        with pytest.raises(RuntimeError):
            lab.train(run, linear_store, StopAtStep(7, die))
    epoch, losses = losses_kept(run.folder)
    assert (epoch, len(losses)) == (2, 2), "the third step was not kept yet"
    steps = Steps()
    lab.train(open_run(run.folder), linear_store, steps)
    assert steps.begun == (6, 20) and steps.n_taken == 14
    lab.assert_same(run.folder, whole_run)


class Steps(Silent):
    """Keeps where the progress began and its total, and counts steps."""

    begun, n_taken = (-1, -1), 0

    def start(self, label: str, total: int, unit: str, done: int = 0) -> None:
        if unit == "steps":
            self.begun = (done, total)

    def advance(self, n: int = 1, note: str = "") -> None:
        self.n_taken += n if self.begun[0] >= 0 else 0


class StopValidation(Silent):
    """Ctrl-C while the second of so many epochs is validated."""

    def __init__(self, n_epochs: int) -> None:
        self.note = f"epoch 2/{n_epochs}"

    def advance(self, n: int = 1, note: str = "") -> None:
        if self.note in note and "validating" in note:
            raise KeyboardInterrupt


def test_ctrl_c_while_an_epoch_is_validated_keeps_its_steps(lab, linear_store, tmp_path, whole_run):
    run = lab.start(linear_store, tmp_path)
    with pytest.raises(Interrupted):
        lab.train(run, linear_store, StopValidation(5))
    assert losses_kept(run.folder)[0] == 2 and len(losses_kept(run.folder)[1]) == 4
    steps = Steps()
    lab.train(open_run(run.folder), linear_store, steps)
    assert steps.begun == (8, 20) and steps.n_taken == 12
    lab.assert_same(run.folder, whole_run)


def test_rates_of_an_epoch_that_is_only_validated_after_a_stop_are_those_of_its_steps(lab, linear_store, tmp_path):
    config = lab.config("va", "decay_norms=false", "epochs=2")
    whole, stopped = (lab.start(linear_store, tmp_path, config) for _ in range(2))
    lab.train(whole, linear_store)
    with pytest.raises(Interrupted):
        lab.train(stopped, linear_store, StopValidation(2))
    lab.train(open_run(stopped.folder), linear_store)
    lab.assert_same(stopped.folder, whole.folder)


def test_checkpoint_of_an_epoch_that_was_finished_is_ignored_and_a_damaged_one_named(
    lab, linear_store, tmp_path, whole_run, hear_signals
):
    run = lab.start(linear_store, tmp_path)
    file = run.folder / "unfinished-epoch.safetensors"
    with pytest.raises(Interrupted):
        lab.train(run, linear_store, StopAtStep(2, send(signal.SIGINT)))
    kept = file.read_bytes()
    file.write_bytes(kept[:-1])
    with pytest.raises(
        CheckpointError, match=r"not a complete safetensors file .* delete it to continue from the last"
    ):
        lab.train(open_run(run.folder), linear_store)
    file.unlink()
    with pytest.raises(KeyboardInterrupt):
        lab.train(open_run(run.folder), linear_store, StopAfter(1))
    file.write_bytes(kept)
    lab.train(open_run(run.folder), linear_store)
    lab.assert_same(run.folder, whole_run)


# stopped processes


@pytest.fixture(scope="module")
def long_run(lab, linear_store, tmp_path_factory):
    """A run long enough to be shot while it goes on, uninterrupted."""
    run = lab.start(linear_store, tmp_path_factory.mktemp("long"), lab.config("va", *LONG))
    lab.train(run, linear_store)
    return run.folder


@pytest.mark.parametrize(("stop", "exit_code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_stopped_process_is_resumed_to_the_same_result(
    lab, linear_store, tmp_path, long_run, run_cli, stop_in, stop, exit_code
):
    common = ["--task", "va", "--store", linear_store.path, "--runs", str(tmp_path), "--device", "cpu"]
    settings = [part for setting in (*lab.settings, *LONG) for part in ("--set", setting)]
    folder = tmp_path / "va-f-transformer-1"
    code, output = stop_in(folder, stop, ["train", "--feature", "f", *common, *settings])
    assert code == exit_code, output
    if stop == signal.SIGINT:
        places = f"--store {linear_store.path} --runs {tmp_path} --device cpu"
        assert output.splitlines()[-1] == (
            "Interrupted. Every finished step is kept. Continue with: abaw train --resume --run "
            f"va-f-transformer-1 {places}"
        )
        assert "Traceback" not in output
    assert 3 <= n_lines(folder) < N_EPOCHS
    result = run_cli("train", "--resume", *common)
    assert result.exit_code == 0, result.output
    lab.assert_same(folder, long_run)


@pytest.fixture
def stop_in(process_env, tmp_path_factory):
    """Stops a process in the midst of a run, after three epochs, `stop_in(run, signal, arguments)` -> exit code, output."""

    def stop_in(run, stop, arguments):
        environment = {**process_env, "OMP_NUM_THREADS": "1"}
        with Started("abaw", *arguments, environment=environment, folder=tmp_path_factory.mktemp("log")) as process:
            process.until(lambda: n_lines(run) >= 3, "three epochs are finished")
            os.kill(process.pid, stop)
            return process.end(), process.output

    return stop_in


def n_lines(folder):
    file = folder / "metrics.jsonl"
    return len(file.read_text().splitlines()) if file.exists() else 0


# several seeds


@pytest.fixture(scope="module")
def three_seeds(lab, linear_store):
    """The command that trains three seeds into a folder of runs."""
    settings = [part for setting in (*lab.settings, *LONG) for part in ("--set", setting)]
    common = [
        "--task",
        "va",
        "--feature",
        "f",
        "--seeds",
        "3",
        "--store",
        linear_store.path,
        "--device",
        "cpu",
        *settings,
    ]
    return lambda runs, *more: ["train", *common, "--runs", str(runs), *more]


@pytest.fixture(scope="module")
def whole_seeds(three_seeds, tmp_path_factory):
    """The folder of three runs that nothing interrupted, and the last line of the output."""
    runs = tmp_path_factory.mktemp("seeds")
    result = CliRunner().invoke(main, three_seeds(runs, "--run", "some"), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    summary = result.stdout.splitlines()[-1]
    assert summary.startswith("3 seeds: va score ")
    return runs, summary


@pytest.mark.parametrize(
    ("stop", "name", "stem"),
    [(signal.SIGKILL, ("--run", "some"), "some-seed{}"), (signal.SIGINT, (), "va-f-transformer-{}")],
)
def test_stopped_seeds_go_on_to_the_same_result(
    lab, tmp_path, three_seeds, whole_seeds, run_cli, stop_in, stop, name, stem
):
    """The first seed is kept, the second one resumed and the third one trained; and once more, all are kept."""
    runs, summary = whole_seeds
    first, second, third = (tmp_path / stem.format(number + (not name)) for number in range(3))
    code, _ = stop_in(second, stop, three_seeds(tmp_path, *name))
    assert code != 0
    assert n_lines(first) == N_EPOCHS and 3 <= n_lines(second) < N_EPOCHS and not third.exists()
    kept = (first / "last.safetensors").stat().st_mtime_ns
    for _ in range(2):
        result = run_cli(*three_seeds(tmp_path, *name, "--resume"))
        assert result.exit_code == 0, result.output
        assert result.stdout.splitlines()[-1] == summary
        assert sorted(tmp_path.iterdir()) == [first, second, third]
        for number, folder in enumerate((first, second, third)):
            lab.assert_same(folder, runs / f"some-seed{number}")
    assert (first / "last.safetensors").stat().st_mtime_ns == kept


def test_seeds_are_resumed_with_the_same_options_only(lab, tmp_path, three_seeds, whole_seeds, run_cli):
    shutil.copytree(whole_seeds[0] / "some-seed1", tmp_path / "some-seed1")
    named = ("--run", "some", "--resume")
    result = run_cli(*three_seeds(tmp_path, *named, "--set", "lr=0.02", "--loss", "ccc-bins"))
    assert_refused(
        result, 2, f"Run {tmp_path / 'some-seed1'} was started with other options: loss, lr.", "another --run"
    )
    other = lab.make_store(tmp_path / "other.zarr", fingerprint="b" * 64)
    result = run_cli(*three_seeds(tmp_path, *named, "--store", other.path))
    assert_refused(result, 1, "some-seed1", "Use the store it was trained on")
    result = run_cli(*three_seeds(tmp_path, "--run", "some"))
    assert_refused(result, 2, "some-seed1 already exists. Continue it with --resume")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.zarr", "some-seed1"]


def test_runs_of_other_features_are_not_taken_for_seeds(lab, linear_store, tmp_path):
    """Unnamed runs are known by their config; the same on features of other weights is another run."""
    begun = lab.start(linear_store, tmp_path)
    other = lab.make_store(tmp_path / "other.zarr", fingerprint="b" * 64)
    assert find_started_run(lab.config(), other, tmp_path) is None
    assert find_started_run(lab.config("va", "lr=0.02"), linear_store, tmp_path) is None
    assert find_started_run(lab.config(), linear_store, tmp_path) == begun


def test_run_that_was_stopped_before_its_config_was_written_starts_anew(lab, linear_store, tmp_path, whole_run):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "config.json.partial").write_text('{"abaw"')
    [(run, result)] = pipeline.train_seeds([lab.config()], linear_store, tmp_path, "mine", device="cpu", resume=True)
    assert result.n_epochs == 5
    lab.assert_same(run.folder, whole_run)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("keep")
    with pytest.raises(UsageError, match="full already exists"):
        list(pipeline.train_seeds([lab.config()], linear_store, tmp_path, "full", device="cpu", resume=True))
    assert (tmp_path / "full" / "notes.txt").read_text() == "keep"


def test_seeds_after_the_first_read_no_values_from_the_store(lab, tmp_path):
    """Values that are lost once the first seed is done are not missed: tables and statistics were read before."""
    store = lab.make_store(tmp_path / "features.zarr")
    configs = [lab.config("va", "epochs=1", f"seed={seed}") for seed in (1, 2)]
    alone = lab.train(lab.start(store, tmp_path / "alone", configs[1]), store)

    def lose_values(run, result):
        for path in (tmp_path / "features.zarr" / "features").glob("*/*/*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    runs = pipeline.train_seeds(configs, store, tmp_path / "runs", device="cpu", on_result=lose_values)
    assert [result for _, result in runs][1] == alone


def test_nothing_is_deleted_where_a_name_leads_out_of_the_runs(lab, linear_store, tmp_path, run_cli):
    runs, outside = tmp_path / "runs", tmp_path / "outside"
    outside.mkdir()
    (outside / "config.json.partial").write_text("keep")
    for name in ("../outside", str(outside)):
        with pytest.raises(
            UsageError, match="outside' is not a valid run name: it needs a character, no slash and no leading dot"
        ):
            find_started_run(lab.config(), linear_store, runs, name)
        assert (outside / "config.json.partial").read_text() == "keep"
    (tmp_path / "outside-seed0").mkdir()
    (tmp_path / "outside-seed0" / "config.json.partial").write_text("keep")
    common = ("--task", "va", "--feature", "f", "--seeds", "2", "--store", linear_store.path, "--device", "cpu")
    result = run_cli("train", *common, "--runs", runs, "--run", "../outside", "--resume")
    assert_refused(result, 2, "outside-seed0' is not a valid run name")
    assert (tmp_path / "outside-seed0" / "config.json.partial").read_text() == "keep"


# the command


def test_resume_takes_the_named_run_or_the_newest_of_the_task(lab, linear_store, tmp_path, run_cli):
    for task in ("va", "au"):
        for _ in range(2):
            lab.start(linear_store, tmp_path, lab.config(task, "epochs=1"))
    common = ("train", "--resume", "--store", linear_store.path, "--runs", tmp_path, "--device", "cpu")
    assert run_cli(*common, "--task", "va").exit_code == 0
    assert run_cli(*common, "--run", "va-f-transformer-1").exit_code == 0
    trained = sorted(path.parent.name for path in tmp_path.glob("*/best.safetensors"))
    assert trained == ["va-f-transformer-1", "va-f-transformer-2"]
    assert run_cli(*common).exit_code == 0
    assert (tmp_path / "au-f-transformer-2" / "best.safetensors").exists()
    assert_refused(run_cli(*common, "--run", "va-f-transformer-1", "--task", "au"), 2, "is of task va, not au")


def test_resume_of_a_finished_run_changes_nothing(lab, linear_store, tmp_path, whole_run, run_cli):
    folder = shutil.copytree(whole_run, tmp_path / "copy")
    names = [f"{name}.safetensors" for name in ("best", "last", "unfinished-epoch")]
    left = [folder / f"{name}.4000000-01234567.partial" for name in names]
    for file in left:  # as a process leaves them that was killed, such as one that went back to an earlier epoch
        file.touch()
    result = run_cli("train", "--resume", "--store", linear_store.path, "--runs", tmp_path, "--device", "cpu")
    assert result.exit_code == 0
    assert "of 5" in result.output
    lab.assert_same(folder, whole_run)
    assert not [file for file in left if file.exists()]


@pytest.mark.parametrize(
    "option",
    [
        *(("--lr", "9"), ("--head", "linear"), ("--loss", "ccc"), ("--feature", "f")),
        *(("--fold", "1/2"), ("--recipe", "v-naw")),
    ],
    ids=" ".join,
)
def test_resume_takes_no_options_of_its_own(lab, linear_store, whole_run, run_cli, option):
    result = run_cli("train", "--resume", *option, "--store", linear_store.path, "--runs", whole_run.parent)
    assert_refused(result, 2, "--resume continues the run with its own options", "Leave out", "only with --seeds")


@pytest.mark.parametrize(("label", "names"), [("load train", []), ("fit", ["va-f-ridge-1"])])
def test_ctrl_c_names_a_run_once_there_is_one(lab, linear_store, tmp_path, run_cli, label, names):
    class Stopping(Silent):
        def start(self, started, total, unit, done=0):
            if started.startswith(label):
                raise KeyboardInterrupt

    configs = pipeline.make_train_configs(linear_store, "va", ("f",), {"head": {"name": "ridge"}})
    with pytest.raises(KeyboardInterrupt) as stop:
        pipeline.train_seeds(configs, linear_store, tmp_path, device="cpu", reporter=Stopping())
    assert [path.name for path in tmp_path.iterdir()] == names
    assert [stop.value.run] == names if names else not isinstance(stop.value, Interrupted)
    if names:
        places = ("--store", linear_store.path, "--runs", tmp_path, "--device", "cpu")
        assert run_cli("train", "--resume", "--run", *names, *places).exit_code == 0


def test_resumed_probe_stays_as_it_is(lab, linear_store, tmp_path, run_cli):
    """A probe has no epochs to go on with; its folder serves `eval` and `--resume` all the same."""
    places = ("--store", linear_store.path, "--runs", tmp_path, "--device", "cpu")
    assert run_cli("train", "--task", "va", "--feature", "f", "--head", "ridge", *places).exit_code == 0
    folder = tmp_path / "va-f-ridge-1"
    _, metadata = load_tensors(folder / "best.safetensors")
    written = (folder / "best.safetensors").stat().st_mtime_ns
    result = run_cli("train", "--resume", *places)
    assert result.exit_code == 0
    assert (
        "at epoch 1 of 1 (mean of CCC valence and CCC arousal). Next: abaw eval va-f-ridge-1 --store" in result.output
    )
    assert (folder / "best.safetensors").stat().st_mtime_ns == written
    scored = run_cli("eval", "--data", tmp_path / "none", *places)
    assert scored.exit_code == 0 and "va-f-ridge-1" in scored.output
    found = pipeline.evaluate(TrainedRun.open(open_run(folder), "cpu"), linear_store, "val").official.score
    assert float(metadata["score"]) == pytest.approx(found, rel=1e-9)


# the same again


def test_the_same_training_gives_the_same_bytes(lab, linear_store, tmp_path):
    """So that what was made from a run stays in force when it is trained anew."""
    runs = [lab.start(linear_store, tmp_path, lab.config("va", "epochs=1")) for _ in range(2)]
    for run in runs:
        lab.train(run, linear_store)
    assert (runs[0].folder / "best.safetensors").read_bytes() == (runs[1].folder / "best.safetensors").read_bytes()
    assert runs[0].digest() == runs[1].digest() != ""


def test_equal_tensors_and_metadata_are_equal_bytes(tmp_path):
    """The order of several keys was left to chance, so that ten files were hardly ever alike."""
    tensors, metadata = {"b": torch.ones(2), "a": torch.zeros(3, 1)}, {"score": "0.5", "epoch": "3", "by": "va"}
    turned = dict(reversed(tensors.items())), dict(reversed(metadata.items()))
    for number in range(10):
        save_tensors(tmp_path / f"{number}", *((tensors, metadata) if number % 2 else turned))
    assert len({file.read_bytes() for file in tmp_path.iterdir()}) == 1
    found, read = load_tensors(tmp_path / "0")
    assert {key: value.tolist() for key, value in found.items()} == {"a": [[0], [0], [0]], "b": [1, 1]}
    assert read == metadata


def test_checkpoints_with_a_key_for_each_of_their_metadata_are_taken(lab, linear_store, tmp_path, whole_run):
    """As they were written before."""
    run = lab.start(linear_store, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        lab.train(run, linear_store, StopAfter(3))
    for name, keys in (("best.safetensors", {"epoch", "score"}), ("last.safetensors", {"progress"})):
        tensors, metadata = load_tensors(run.folder / name)
        assert metadata.keys() == keys
        save_file(tensors, run.folder / name, metadata)
        assert load_tensors(run.folder / name)[1] == metadata
    scored = pipeline.evaluate(TrainedRun.open(run, "cpu"), linear_store, "val").official.score
    assert scored == float(load_tensors(run.folder / "best.safetensors")[1]["score"])
    assert lab.train(open_run(run.folder), linear_store).n_epochs == 5
    assert [row["epoch"] for row in lab.metrics(run.folder)] == [1, 2, 3, 4, 5]
    last, whole = (load_file(folder / "last.safetensors") for folder in (run.folder, whole_run))
    assert all(torch.equal(value, whole[key]) for key, value in last.items())


def test_metadata_that_is_no_json_is_damage(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "one", {"abaw": "{"})
    with pytest.raises(CheckpointError, match="one is not a complete safetensors file"):
        load_tensors(tmp_path / "one")


# damaged checkpoints


@pytest.fixture
def copied(whole_run, tmp_path):
    """A copy of a good run that a test may damage."""
    return shutil.copytree(whole_run, tmp_path / "runs" / "good")


@pytest.fixture
def resumed(linear_store, copied, run_cli):
    """Goes on with the copied run."""
    places = ("--store", linear_store.path, "--runs", copied.parent, "--device", "cpu")
    return lambda: run_cli("train", "--resume", *places)


def test_missing_keys_of_the_last_checkpoint_are_listed(lab, copied, resumed):
    path = copied / "last.safetensors"
    tensors, metadata = lab.tensors(path)
    del tensors["model.heads.0.output.bias"]
    save_file(tensors, path, metadata)
    assert_refused(resumed(), 1, str(path), "1 missing (heads.0.output.bias)")


def test_missing_optimizer_state_is_refused(lab, copied, resumed):
    path = copied / "last.safetensors"
    tensors, metadata = lab.tensors(path)
    save_file({key: value for key, value in tensors.items() if key.startswith("model.")}, path, metadata)
    assert_refused(resumed(), 1, str(path), "optimizer state for 0 of 19 parameters")


def test_last_checkpoint_without_progress_is_refused(lab, copied, resumed):
    path = copied / "last.safetensors"
    save_file(load_file(path), path)
    assert_refused(resumed(), 1, str(path), "no progress")
