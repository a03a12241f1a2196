"""Runs that begin with other weights, that are trained for longer than planned, and that go back to a kept epoch."""

import hashlib
import json
import shutil

import pytest
import torch

from abaw.tests.support.command_line import assert_refused
from abaw.train.checkpoint import load_tensors
from abaw.train.runs import open_run

pytestmark = pytest.mark.usefixtures("one_thread")

STILL = ("--set", "lr=1e-30", "--epochs", "1", "--set", "window=30")


@pytest.fixture
def train(run_cli, linear_store, tmp_path):
    def call(*words):
        places = ("--store", linear_store.path, "--runs", tmp_path, "--device", "cpu")
        return run_cli("train", *words, *places)

    return call


def weights_of(path):
    return load_tensors(path)[0]


def assert_equal(found, wanted):
    assert found.keys() == wanted.keys()
    assert [key for key in wanted if not torch.equal(found[key], wanted[key])] == []


def test_a_run_begins_with_the_weights_of_another(lab, linear_store, tmp_path, train) -> None:
    """At a rate too small to change them; the sha256 of the file is kept, and a stop before the first epoch loses nothing."""
    first = lab.start(linear_store, tmp_path, lab.config("va", "epochs=2", "fold=1/2", head="linear"), "first")
    lab.train(first, linear_store)
    wanted = first.folder / "best.safetensors"
    done = train("--task", "va", "--feature", "f", "--head", "linear", "--init", "first", "--run", "second", *STILL)
    assert done.exit_code == 0, done.output
    assert "fit the new head" not in done.output
    assert_equal(weights_of(tmp_path / "second" / "best.safetensors"), weights_of(wanted))
    record = json.loads((tmp_path / "second" / "config.json").read_text())["init"]
    sha256 = hashlib.sha256(wanted.read_bytes()).hexdigest()
    assert record == {"source": str(wanted), "sha256": sha256, "problems": ""}
    shutil.rmtree(first.folder)
    for name in ("best.safetensors", "last.safetensors", "metrics.jsonl"):
        (tmp_path / "second" / name).unlink()
    lab.train(open_run(tmp_path / "second"), linear_store)
    assert_equal(
        weights_of(tmp_path / "second" / "best.safetensors"), weights_of(tmp_path / "second/initial.safetensors")
    )


def test_a_file_of_torch_fits_in_part(lab, linear_store, tmp_path, train) -> None:
    """From valence and arousal to expressions: the encoder fits, the output does not."""
    first = lab.start(linear_store, tmp_path, lab.config("va", "epochs=1"), "first")
    lab.train(first, linear_store)
    state = weights_of(first.folder / "best.safetensors")
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "mine.pt")
    settings = [part for setting in lab.settings[:4] for part in ("--set", setting)]
    done = train(
        "--task", "expr", "--feature", "f", "--init", tmp_path / "mine.pt", "--run", "second", *settings, *STILL
    )
    assert done.exit_code == 0, done.output
    said = " ".join(done.stderr.split())
    assert "Not all tensors of" in said and "2 misshapen (heads.0.output.weight (2, 16) instead of (8, 16)" in said
    found = weights_of(tmp_path / "second" / "best.safetensors")
    same = {key for key, value in found.items() if torch.equal(value, state[key])}
    assert same == {key for key in state if "output" not in key}


def test_weights_that_cannot_be_taken_are_refused_before_a_run_is_made(lab, whole_run, train, tmp_path) -> None:
    torch.save({"other": torch.zeros(3)}, tmp_path / "other.pt")
    common = ("--task", "va", "--feature", "f", *STILL)
    for options, words in (
        (("--init", "nobody"), ("No run 'nobody'",)),
        (("--init", tmp_path / "other.pt"), ("No tensor of", "fits the new head", "1 unexpected (other)")),
        (("--init", whole_run / "config.json"), ("config.json",)),
        (("--init", whole_run, "--head", "ridge"), ("Head ridge is solved directly and has no use for --init",)),
    ):
        done = train(*common, *options)
        assert done.exit_code in (1, 2, 3, 4) and all(word in " ".join(done.output.split()) for word in words), (
            done.output
        )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.pt"]


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_a_run_is_trained_for_longer_than_planned(lab, linear_store, tmp_path, train, schedule) -> None:
    """A constant rate gives the run that was planned so; a cosine goes on as that of the longer run does."""
    settings = ("warmup=0", "patience=9", f"schedule={schedule}")
    whole, short = (
        lab.start(linear_store, tmp_path, lab.config("va", f"epochs={n}", *settings, head="linear")) for n in (4, 2)
    )
    lab.train(whole, linear_store)
    lab.train(short, linear_store)
    done = train("--resume", "--run", short.name, "--set", "epochs=4")
    assert done.exit_code == 0, done.output
    assert open_run(short.folder).config == whole.config
    rates = [[row["lr"] for row in lab.metrics(run.folder)] for run in (short, whole)]
    assert len(rates[0]) == 4 and rates[0][2:] == rates[1][2:]
    if schedule == "constant":
        lab.assert_same(short.folder, whole.folder)
    refused = train("--resume", "--run", short.name, "--epochs", "3")
    assert_refused(refused, 2, f"Run {short.name} has 4 epochs, more than epochs=3")
    refused = train("--resume", "--run", short.name, "--set", "lr=1")
    assert_refused(refused, 2, "except epochs, patience, save_every; found lr=1", "train a new run with --init")


@pytest.mark.parametrize("lr", ["0.3", "1e-30"])
def test_a_run_goes_back_to_a_kept_epoch(lab, linear_store, tmp_path, train, lr) -> None:
    """And takes the same steps again; at a rate that changes nothing the best epoch is the first, which is not repeated."""
    config = lab.config("va", "epochs=4", "patience=9", "save_every=2", f"lr={lr}", "warmup=0", head="linear")
    run, again = (lab.start(linear_store, tmp_path, config, name) for name in ("whole", "again"))
    lab.train(run, linear_store)
    lab.train(again, linear_store)
    (again.folder / "best.safetensors").unlink()
    done = train("--resume-from", "2", "--run", "again")
    assert done.exit_code == 0, done.output
    lab.assert_same(again.folder, run.folder)
    assert_refused(train("--resume-from", "3", "--run", "again"), 2, "has no checkpoint of epoch 3", "it has 2, 4")
