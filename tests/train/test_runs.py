"""Run folders: what they are called and hold, what is refused before one is made, and what damage is told."""

import json
import pickle
import resource
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from abaw.core.errors import UsageError
from abaw.core.tasks import TASKS
from abaw.store import FeatureStore
from abaw.tests.support.command_line import assert_refused
from abaw.train.config import make_config
from abaw.train.loop import Epoch, Log
from abaw.train.run_files import list_names
from abaw.train.runs import find_run

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def in_store(linear_store, tmp_path, run_cli):
    """`abaw train` on the store with runs in a fresh folder."""

    def call(*arguments):
        places = ("--store", linear_store.path, "--runs", tmp_path / "runs", "--device", "cpu")
        return run_cli("train", *places, *arguments)

    return call


# what a run leaves behind


def test_run_holds_safetensors_and_its_config(lab, whole_run):
    content = json.loads((whole_run / "config.json").read_text())
    assert make_config(content["config"]) == lab.config().resolved()
    assert content["features"] == {"f": {"fingerprint": "a" * 64, "shape": [lab.width]}}
    assert load_file(whole_run / "best.safetensors").keys() == {
        key.removeprefix("model.") for key in load_file(whole_run / "last.safetensors") if key.startswith("model.")
    }
    assert sorted(path.name for path in whole_run.iterdir()) == [
        *("best-arousal.safetensors", "best-valence.safetensors", "best.safetensors"),
        "config.json",
        "last.safetensors",
        "metrics.jsonl",
        "tensorboard",
    ]


@pytest.mark.parametrize(
    ("name", "tag"),
    [
        ("loss", "train/loss"),
        ("lr", "train/learning rate"),
        ("score", "val/mean of CCC valence and CCC arousal"),
        ("CCC valence", "val/CCC valence"),
        ("CCC arousal", "val/CCC arousal"),
    ],
)
def test_tensorboard_agrees_with_the_metrics_file(lab, whole_run, name, tag):
    events = EventAccumulator(str(whole_run / "tensorboard"))
    events.Reload()
    rows = lab.metrics(whole_run)
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5]
    found = [(event.step, event.value) for event in events.Scalars(tag)]
    assert found == [(row["epoch"], pytest.approx(row[name], rel=1e-6)) for row in rows]


def test_without_tensorboard_there_are_metrics_alone(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto.event_pb2", None)
    log = Log(tmp_path, TASKS["va"], 0)
    log.add(Epoch(1, 0.5, 0.25, 1e-4, 2.0, 0.1))
    log.close()
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]
    assert json.loads((tmp_path / "metrics.jsonl").read_text())["score"] == 0.25


def test_metrics_name_the_measure_of_every_output(lab, whole_run):
    """The score of valence and arousal is the mean of both."""
    for row in lab.metrics(whole_run):
        assert row["score"] == pytest.approx((row["CCC valence"] + row["CCC arousal"]) / 2, abs=1e-12)


def test_metrics_time_the_waiting_for_data(lab, whole_run):
    assert all(row["seconds"] > 0 and 0 < row["waiting_share"] < 1 for row in lab.metrics(whole_run))


def test_runs_are_named_by_task_features_and_head_and_counted(lab, linear_store, tmp_path):
    both = make_config({"task": "expr", "features": ("f", "g"), "head": {"name": "linear"}})
    configs = (lab.config(), lab.config(), lab.config("au"), both)
    names = [lab.start(linear_store, tmp_path, config).name for config in configs]
    assert names == ["va-f-transformer-1", "va-f-transformer-2", "au-f-transformer-1", "expr-f+g-linear-1"]


def test_run_of_a_recipe_is_named_after_it_and_counted(in_store, tmp_path):
    recipe = tmp_path / "mine.toml"
    recipe.write_text('task = "va"\nfeatures = ["f"]\nepochs = 1\nwindow = 30\n[head]\nname = "linear"\n')
    for _ in range(2):
        assert in_store("--recipe", recipe).exit_code == 0
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["mine-1", "mine-2"]


def test_joined_features_train(lab, linear_store, tmp_path):
    run = lab.start(
        linear_store, tmp_path, make_config({"task": "va", "features": ("f", "g")}, [*lab.settings, "epochs=1"])
    )
    lab.train(run, linear_store)
    assert load_file(run.folder / "best.safetensors")["heads.0.inputs.mean"].shape == (2 * lab.width,)


def test_views_of_training_are_kept_with_the_run(lab, linear_store, tmp_path):
    run = lab.start(linear_store, tmp_path, lab.config("va", "views=hflip,"))
    assert run.features.keys() == {"f", "f@hflip"}
    assert run.shapes == {"f": (lab.width,)}


# refused before a folder is made


def test_existing_run_is_refused_and_left_alone(lab, in_store, tmp_path, whole_run):
    folder = shutil.copytree(whole_run, tmp_path / "runs" / "mine")
    result = in_store("--task", "va", "--feature", "f", "--run", "mine")
    assert_refused(result, 2, "mine already exists", "--resume", "another --run")
    lab.assert_same(folder, whole_run)


@pytest.mark.parametrize(
    "left", [(), ("config.json.partial",), ("initial.safetensors", "config.json.12-0123abcd.partial")]
)
def test_a_folder_that_a_killed_start_left_blocks_no_name(lab, linear_store, tmp_path, left):
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in left:
        (folder / name).write_text("{")
    run = lab.start(linear_store, tmp_path, name="mine")
    assert run.folder == folder and [path.name for path in folder.iterdir()] == ["config.json"]
    stem = lab.start(linear_store, tmp_path).name.removesuffix("-1")
    (tmp_path / f"{stem}-2").mkdir()
    assert lab.start(linear_store, tmp_path).name == f"{stem}-2"


def test_folders_that_are_no_runs_are_kept(lab, in_store, linear_store, tmp_path):
    folder = tmp_path / "runs" / "mine"
    folder.mkdir(parents=True)
    (folder / "notes.txt").write_text("keep")
    result = in_store("--task", "va", "--feature", "f", "--run", "mine")
    assert_refused(result, 2, "mine already exists and is no run: it has no config.json", "another --run")
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


def test_a_run_that_is_just_made_is_no_run_yet(lab, linear_store, tmp_path):
    run = lab.start(linear_store, tmp_path / "runs", name="mine")
    shutil.copytree(run.folder, tmp_path / "runs" / "other.12-0123abcd.partial")
    assert list_names(tmp_path / "runs", "config.json") == ["mine"] and find_run(tmp_path / "runs", None).name == "mine"


def test_unknown_names_list_the_known_ones(lab, in_store, linear_store):
    for words, said in (
        (("--task", "va+expr", "--feature", "f"), ("Unknown task 'va+expr'", "va, expr, au, mtl, lsd, vgaf")),
        (("--task", "va", "--feature", "vit-mean"), ("No feature 'vit-mean'", str(linear_store.path), "extract")),
        (("--task", "va"), ("has 3 features: f, f@hflip, g", "--feature")),
        (("--task", "va", "--feature", "f", "--head", "conformer"), ("Unknown head 'conformer'", "linear")),
        (("--task", "va", "--feature", "f", "--set", "epoch=3"), ("'epoch'", "epochs")),
        (("--feature", "f"), ("--task", "abaw list tasks", "--recipe")),
        (("--recipe", "vnaw"), ("No recipe 'vnaw'", "Did you mean v-naw")),
    ):
        assert_refused(in_store(*words), 2, *said)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("va", "--loss", "bce"), ("bce", "does not fit", "ccc")),
        (("va", "--device", "abacus"), ("'abacus'", "cpu, cuda")),
        (("va", "--set", "seed=99999999999999999999"), ("seed",)),
        (("va", "--run", "a/b"), ("'a/b'", "is not a valid run name")),
        (("va", "--run", ".a"), ("'.a'", "is not a valid run name")),
        (("va", "--run", ""), ("''", "is not a valid run name")),
        (("expr", "--set", "loss.weights=1,2"), ("loss.weights has 2 numbers", "8 classes")),
        (("au", "--set", "loss.weights=1,2,3"), ("loss.weights has 3 numbers", "12")),
        (("va", "--set", "head.dim=15"), ("head.dim", "15")),
        (("va", "--head", "cross-attention"), ("cross-attention",)),
        (("mtl", "--head", "ridge"), ("ridge", "mtl")),
        (("va", "--set", "views=,mask0.75.0"), ("'f@mask0.75.0'", "abaw extract", "--view mask0.75")),
        (("expr", "--loss", "cotex"), ("cotex needs 2 or more views", "set views")),
        (("va", "--set", "window=121"), ("window of 121 frames", "longest has 120", "--set window=120")),
        (("va", "--set", "balance=class"), ("va", "balance=video")),
        (("va", "--set", "synthetic=0.3"), ("synthetic", "va")),
        (("va", "--fold", "3/2"), ("NUMBER/FOLDS", "'3/2'")),
        (("va", "--fold", "1/7"), ("7 folds", "6")),
        (("mtl",), ("au, expr, va", "not of mtl", "abaw extract")),
        (("va", "--recipe", "v-naw"), ("Recipe v-naw is for task expr, not va",)),
        (("expr", "--recipe", "v-naw"), ("swin-t", "abaw extract --backbone swin-t --view hflip")),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else str(value),
)
def test_what_does_not_fit_is_said_before_a_run_is_made(lab, in_store, tmp_path, options, said):
    task, *rest = options
    feature = () if "--recipe" in rest else ("--feature", "f")
    assert_refused(in_store("--task", task, *feature, *rest), 2, *said)
    assert list((tmp_path / "runs").glob("*")) == []


def test_synthetic_share_without_synthetic_clips(lab, tmp_path, run_cli):
    store = lab.make_store(tmp_path / "s.zarr", tasks=())
    for i in range(6):
        label = np.array([[i % 3]], dtype=np.int8)
        store.write_labels("vgaf", f"v{i}", "train" if i < 3 else "val", label)
    common = ("train", "--task", "vgaf", "--feature", "f", "--store", store.path, "--runs", tmp_path / "runs")
    result = run_cli(*common, "--set", "synthetic=0.3", "--device", "cpu")
    assert_refused(result, 2, "no synthetic vgaf clips", "abaw synth", "leave out --set synthetic")
    assert not (tmp_path / "runs").exists()


def test_store_without_labels_says_so(lab, tmp_path, run_cli):
    store = lab.make_store(tmp_path / "s.zarr", tasks=())
    common = ("train", "--feature", "f", "--store", store.path, "--runs", tmp_path / "runs")
    assert_refused(run_cli(*common, "--task", "va"), 2, "has no labels, not of va", "abaw extract")
    store.write_labels("va", "v0", "train", np.zeros((lab.n_frames, 2), dtype=np.float32))
    assert_refused(run_cli(*common, "--task", "va"), 2, "va labels of train", "not of 'val'")
    assert_refused(run_cli(*common, "--task", "au"), 2, "only has labels of va, not of au")
    assert not (tmp_path / "runs").exists()


def test_store_that_is_not_there_says_how_to_make_one(lab, tmp_path, run_cli):
    missing = run_cli("train", "--task", "va", "--store", tmp_path / "none.zarr")
    assert_refused(missing, 1, "No feature store", "abaw extract")
    empty = FeatureStore.create(tmp_path / "empty.zarr")
    assert_refused(run_cli("train", "--task", "va", "--store", empty.path), 2, "has no features yet", "abaw extract")


# looking runs up


def test_newest_run_is_found_by_the_time_it_was_made(lab, linear_store, tmp_path):
    for name in ("z", "a", "m"):
        lab.start(linear_store, tmp_path, name=name)
    (tmp_path / "not-a-run").mkdir()
    assert find_run(tmp_path, None).name == "m"
    assert find_run(tmp_path, "z").name == "z"
    assert find_run(tmp_path / "elsewhere", str(tmp_path / "z")).name == "z"


def test_unknown_run_lists_the_others_and_ensembles_only_where_these_are_taken(lab, linear_store, tmp_path):
    remedy = r"Train one with `abaw train`, or choose another folder with --runs\."
    with pytest.raises(UsageError, match=rf"No run 'x' in .*; the folder has no runs\. {remedy}$"):
        find_run(tmp_path, "x", also="ensemble.json")
    for name in ("z", "b"):
        lab.start(linear_store, tmp_path, name=name)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "ensemble.json").write_text("{}")
    with pytest.raises(UsageError, match=r"available: b, z\.$"):
        find_run(tmp_path, "x")
    with pytest.raises(UsageError, match=r"available: b, c, z\.$"):
        find_run(tmp_path, "x", also="ensemble.json")


def test_evaluation_takes_the_newest_run(lab, linear_store, tmp_path, whole_run, run_cli):
    for name, created in (("b", "2026-01-02"), ("c", "2026-01-03"), ("a", "2026-01-01")):
        folder = shutil.copytree(whole_run, tmp_path / name)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "created": f"{created}T00:00:00+00:00"}))
    result = evaluated(tmp_path / "c", linear_store, run_cli)
    assert result.exit_code == 0
    assert [path.parent.name for path in tmp_path.glob("*/scores-val.json")] == ["c"]


def test_unknown_run_to_resume_lists_the_known_ones(lab, in_store, whole_run):
    assert_refused(in_store("--resume"), 2, "No run in", "abaw train")
    assert_refused(in_store("--resume", "--runs", whole_run.parent, "--run", "x"), 2, "No run 'x'", whole_run.name)
    assert_refused(in_store("--resume", "--runs", whole_run.parent, "--task", "au"), 2, "No run of task au")


@pytest.mark.parametrize("command", [("eval",), ("train", "--resume")], ids=" ".join)
def test_store_of_another_fingerprint_is_refused(lab, tmp_path, whole_run, run_cli, command):
    other = lab.make_store(tmp_path / "other.zarr", fingerprint="b" * 64)
    result = run_cli(*command, "--store", other.path, "--runs", whole_run.parent)
    assert_refused(result, 1, whole_run.name, "'f'", "a" * 12, "b" * 12, "Use the store it was trained on")


# damaged runs


@pytest.fixture
def copied(whole_run, tmp_path):
    """A copy of a good run that a test may damage."""
    return shutil.copytree(whole_run, tmp_path / "runs" / "good")


def evaluated(folder, store, run_cli):
    places = ("--store", store.path, "--runs", folder.parent, "--data", folder / "none", "--device", "cpu")
    return run_cli("eval", *places)


def resumed(folder, store, run_cli):
    return run_cli("train", "--resume", "--store", store.path, "--runs", folder.parent, "--device", "cpu")


def test_missing_and_unexpected_keys_are_listed(lab, copied, linear_store, run_cli):
    path = copied / "best.safetensors"
    tensors = load_file(path)
    del tensors["heads.0.output.bias"]
    tensors |= {f"extra.{i}": torch.zeros(1) for i in range(5)}
    tensors["heads.0.output.weight"] = torch.zeros(3, 16)
    save_file(tensors, path)
    result = evaluated(copied, linear_store, run_cli)
    assert_refused(result, 1, str(path), "missing", "heads.0.output.bias", "unexpected", "extra.0", "extra.1")
    assert_refused(result, 1, "heads.0.output.weight", "Use both files from the same run")


class LeavesTrace:
    """Makes a file when it is unpickled."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


@pytest.mark.parametrize("name", ["best.safetensors", "last.safetensors"])
@pytest.mark.parametrize("writer", ["pickle", "torch"])
def test_pickle_in_place_of_a_checkpoint_is_refused_and_never_run(
    lab, copied, linear_store, tmp_path, run_cli, name, writer
):
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
    result = (evaluated if name.startswith("best") else resumed)(copied, linear_store, run_cli)
    assert_refused(result, 1, str(copied / name), "not a complete safetensors file")
    assert not trace.exists()


@pytest.mark.parametrize("n_bytes", [0, 100, 3000])
def test_cut_checkpoint_is_refused(lab, copied, linear_store, run_cli, n_bytes):
    path = copied / "best.safetensors"
    path.write_bytes(path.read_bytes()[:n_bytes])
    assert_refused(evaluated(copied, linear_store, run_cli), 1, str(path), "not a complete safetensors file")


def test_run_that_never_finished_an_epoch_says_how_to_go_on(lab, linear_store, tmp_path, run_cli):
    run = lab.start(linear_store, tmp_path / "runs", name="mine")
    result = evaluated(run.folder, linear_store, run_cli)
    assert_refused(result, 1, f"No checkpoint {run.folder}/best.safetensors", "has not finished an epoch")
    assert_refused(result, 1, "`abaw train --resume --run mine`", "choose another run")


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[]",
        lambda text: text.replace('"config"', '"confit"'),
        lambda text: text.replace('"epochs"', '"epoch"'),
        lambda text: text.replace('"transformer"', '"lstm"'),
        lambda text: text.replace('"f": {', '"other": {'),
        lambda text: text.replace('"shape"', '"shapes"'),
        lambda text: text.replace('"fingerprint"', '"finger"'),
    ],
    ids=["half", "empty", "list", "no config", "option", "head", "feature", "shape", "fingerprint"],
)
def test_damaged_config_is_named(lab, copied, linear_store, run_cli, damage):
    path = copied / "config.json"
    text = path.read_text()
    path.write_text(damage(text))
    assert path.read_text() != text
    for call in (evaluated, resumed):
        assert_refused(call(copied, linear_store, run_cli), 1, str(path), "is not the config of a run")


def test_damaged_run_is_passed_over_where_a_good_one_is(linear_store, copied, whole_run, run_cli):
    damaged = shutil.copytree(whole_run, copied.parent / "damaged")
    (damaged / "config.json").write_text("{}")
    assert evaluated(copied, linear_store, run_cli).exit_code == 0
    assert (copied / "scores-val.json").exists()


# a full disk


def test_file_that_cannot_be_written_is_one_sentence(lab, in_store, tmp_path):
    """A limit on the size of files stands for a full disk: the checkpoint does not fit, the config does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16 * 1024, before[1]))
    try:
        result = in_store("--task", "va", "--feature", "f", "--set", "epochs=1")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert_refused(result, 1, "best.safetensors cannot be written", "Free some space", "abaw train --resume")
    (folder,) = (tmp_path / "runs").iterdir()
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "tensorboard"]
    assert in_store("--resume").exit_code == 0
