"""Completion in the shell, as bash asks for it: runs, features and other names; nothing heavy is loaded."""

import subprocess
import sys

import pytest
from click.shell_completion import BashComplete

from abaw import pipeline
from abaw.cli import main
from abaw.core.tasks import TASKS


def complete(*words: str, incomplete: str = "") -> list[str]:
    found = BashComplete(main, {}, "abaw", "_ABAW_COMPLETE").get_completions(list(words), incomplete)
    return [f"<{item.type}>" if item.type != "plain" else item.value for item in found]


@pytest.fixture
def runs(whole_run, monkeypatch):
    monkeypatch.setenv("ABAW_RUNS", str(whole_run.parent))
    return [whole_run.name]


@pytest.mark.parametrize(
    "words",
    ["eval", "tune", "compare", "compare x", "report", "ensemble x", "submit", "predict", "train --run", "list runs"],
)
def test_runs(runs, words):
    assert complete(*words.split()) == runs
    assert complete(*words.split(), incomplete=runs[0][:3]) == runs


def test_runs_of_another_folder(whole_run, tmp_path):
    assert complete("eval", "--runs", str(whole_run.parent)) == [whole_run.name]
    assert complete("eval", "--runs", str(tmp_path)) == []


def test_files_where_no_run_begins_like_that(runs):
    assert complete("predict", incomplete="talk") == complete("predict", runs[0]) == ["<file>"]
    assert complete("train", "--recipe", incomplete="my/") == ["<file>"]
    assert complete("train", "--recipe", incomplete="v-") == ["v-naw", "v-naw-pixels"]


def test_features_of_the_store(tiny_store, linear_store, monkeypatch):
    monkeypatch.setenv("ABAW_STORE", str(tiny_store))
    assert complete("train", "--feature") == complete("store", "export", "--feature") == ["hog"]
    assert complete("train", "--store", linear_store.path, "--feature") == ["f", "f@hflip", "g"]
    assert complete("train", "--store", "s3://bucket/s.zarr", "--feature") == []


def test_names_that_come_with_abaw():
    assert set(complete("train", "--task")) == set(complete("list", "tasks")) == set(TASKS)
    assert complete("train", "--head", incomplete="tr") == ["transformer", "transformer-lstm"]
    assert complete("train", "--loss", incomplete="cc") == ["ccc", "ccc-bins", "ccc-mse"]
    assert complete("extract", "--backbone", incomplete="vit-m") == ["vit-mean"]
    assert complete("weights", "get", incomplete="vit-t") == ["vit-tiny", "vit-tiny-cls", "vit-tiny-mean"]
    assert complete("list", "recipes") == pipeline.recipe_names()
    assert complete("run", incomplete="v-") == ["v-naw", "v-naw-pixels"]
    assert complete("run", "--backbone", incomplete="vit-m") == ["vit-mean"]
    assert complete("demo", "--size") == ["tiny", "small", "large"]
    assert complete(incomplete="tun") == ["tune"]


COMPLETED = """
import sys
from click.shell_completion import BashComplete
from abaw.cli import main
for words in (["eval"], ["train", "--feature"], ["train", "--task"], ["train", "--head"], ["train", "--loss"],
              ["train", "--recipe"], ["extract", "--backbone"], ["weights", "get"], ["list", "runs"]):
    BashComplete(main, {}, "abaw", "_ABAW_COMPLETE").get_completions(words, "")
sys.exit(f"loaded {heavy}" if (heavy := {"torch", "zarr", "timm", "av", "h5py"} & {*sys.modules}) else 0)
"""


def test_nothing_heavy_is_loaded(process_env, tiny_store, tmp_path):
    environment = {**process_env, "ABAW_STORE": str(tiny_store), "ABAW_RUNS": str(tmp_path)}
    command = [sys.executable, "-c", COMPLETED]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
