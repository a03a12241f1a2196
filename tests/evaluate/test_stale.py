"""Saved predictions that are not of what a run or ensemble is now: every command that reads them says so."""

import shutil
from pathlib import Path

import h5py
import pytest
from click.testing import CliRunner

from abaw.cli import main
from abaw.tests.support.command_line import assert_refused
from abaw.tests.support.trainings import StopAfter
from abaw.train.runs import open_run

pytestmark = pytest.mark.usefixtures("one_thread")

READERS = [("compare", "a", "b"), ("compare", "b", "a"), ("ensemble", "a", "b", "--run", "new"), ("report", "b", "a")]


@pytest.fixture(scope="module")
def made(lab, linear_store, tmp_path_factory):
    """Two evaluated runs, of which `a` was stopped after an epoch, and their ensembles `both` and `plain`."""
    runs = tmp_path_factory.mktemp("stale") / "runs"
    for name, seed in (("a", 0), ("b", 1)):
        run = lab.start(linear_store, runs, lab.config("va", f"seed={seed}"), name)
        try:
            lab.train(run, linear_store, StopAfter(1) if name == "a" else None)
        except KeyboardInterrupt:
            assert name == "a"
    places = ("--store", linear_store.path, "--device", "cpu", "--data", str(runs / "none"))
    for command in (
        ("eval", "a", *places),
        ("eval", "b", *places),
        ("ensemble", "a", "b", "--run", "both"),
        ("ensemble", "a", "b", "--run", "plain", "--raw"),
    ):
        result = CliRunner().invoke(main, [*command, "--runs", str(runs)], catch_exceptions=False)
        assert result.exit_code == 0, result.output
    return runs


@pytest.fixture
def runs(made, tmp_path):
    """The same, to be changed."""
    return Path(shutil.copytree(made, tmp_path / "runs"))


@pytest.fixture
def call(linear_store, runs, tmp_path, run_cli):
    """Runs a command on the runs; a report goes elsewhere."""

    def run(command, *arguments):
        places = {
            "report": ("--out", tmp_path / "report.html", "--data", tmp_path / "none"),
            "eval": ("--store", linear_store.path, "--device", "cpu", "--data", tmp_path / "none"),
            "train": ("--store", linear_store.path, "--device", "cpu"),
            "tune": ("--store", linear_store.path, "--device", "cpu"),
        }
        return run_cli(command, *arguments, "--runs", runs, *places.get(command, ()))

    return run


@pytest.mark.parametrize("reader", READERS, ids=" ".join)
def test_predictions_of_a_run_that_was_trained_on_are_refused(lab, call, runs, reader):
    assert call(*reader).exit_code == 0
    shutil.rmtree(runs / "new", ignore_errors=True)
    before = open_run(runs / "a").digest()
    assert call("train", "--resume", "--run", "a").exit_code == 0
    assert open_run(runs / "a").digest() != before
    result = call(*reader)
    assert_refused(
        result, 2, "a has changed since its predictions-val.h5 was written. Create it with `abaw eval a --split val`."
    )
    assert not (runs / "new").exists()
    assert call("eval", "a").exit_code == 0
    assert call(*reader).exit_code == 0


def test_run_that_was_finished_may_be_resumed_without_evaluating_it_again(call):
    assert call("train", "--resume", "--run", "b").exit_code == 0
    assert call("compare", "a", "b").exit_code == 0


@pytest.mark.parametrize("reader", READERS, ids=" ".join)
def test_predictions_that_do_not_name_their_checkpoint_are_refused(lab, call, runs, reader):
    with h5py.File(runs / "a" / "predictions-val.h5", "r+") as file:
        del file.attrs["made_from"]
    result = call(*reader)
    assert_refused(result, 2, "a has a predictions-val.h5 that does not name its checkpoint", "`abaw eval a --split")
    assert call("eval", "a").exit_code == 0
    assert call(*reader).exit_code == 0


def test_predictions_without_their_checkpoint_are_refused(lab, call, runs):
    (runs / "a" / "best.safetensors").unlink()
    assert_refused(call("compare", "a", "b"), 2, "a has changed since", "`abaw eval a --split val`")
    assert_refused(call("eval", "a"), 1, "No checkpoint", "abaw train --resume --run a")


@pytest.mark.parametrize("command", [("compare", "both", "b"), ("report", "both")], ids=" ".join)
@pytest.mark.parametrize("way_out", [("eval", "both"), ("ensemble", "a", "b", "--run", "both")], ids=" ".join)
def test_predictions_of_an_ensemble_whose_run_was_trained_on_are_refused(lab, call, command, way_out):
    assert call(*command).exit_code == 0
    for again in (("train", "--resume", "--run", "a"), ("eval", "a")):
        assert call(*again).exit_code == 0
    assert_refused(
        call(*command), 2, "both has changed since its predictions-val.h5 was written", "`abaw eval both --split val`"
    )
    assert call(*way_out).exit_code == 0
    assert call(*command).exit_code == 0


def test_post_processing_of_a_member_matters_unless_it_is_left_out(lab, call):
    assert call("tune", "b", "--fit-on", "val").exit_code == 0
    assert call("compare", "a", "b").exit_code == 0  # it is applied when predictions are read
    assert_refused(call("compare", "a", "both"), 2, "both has changed since", "`abaw eval both --split val`")
    assert call("compare", "a", "plain").exit_code == 0
    assert call("eval", "both").exit_code == 0
    assert call("compare", "a", "both").exit_code == 0


def test_predictions_of_another_run_are_refused(lab, call, runs):
    shutil.copy(runs / "b" / "predictions-val.h5", runs / "a" / "predictions-val.h5")
    assert_refused(call("compare", "a", "b"), 2, "a has changed since")
