"""A disk that is full, a limit that is reached: one sentence, and every file that was there before is whole."""

import hashlib
import resource
import shutil
import traceback
from contextlib import contextmanager

import numpy as np
import pytest

from abaw import pipeline
from abaw.tests.support.command_line import assert_refused
from abaw.tests.support.trainings import Lab
from abaw.train.data.table import allocate


def digests(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@contextmanager
def small_files(n_bytes):
    """No file may become larger."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def full_disk(disk, n_free):
    """Only so many bytes are free on a disk."""
    filling = disk.path / "filling"
    filling.write_bytes(bytes(shutil.disk_usage(disk.path).free - n_free))
    try:
        yield
    finally:
        filling.unlink()


@pytest.fixture(scope="module")
def evaluated(whole_run, linear_store, tmp_path_factory):
    """A folder of runs with one that was evaluated; to be read only."""
    runs = tmp_path_factory.mktemp("evaluated") / "runs"
    shutil.copytree(whole_run, runs / "a")
    pipeline.evaluate(pipeline.find_predictor(runs, "a", "cpu", False), linear_store)
    return runs


@pytest.fixture
def run_on_disk(small_disk, evaluated, linear_store, run_cli):
    """A run that was evaluated, on a disk of 4 MB, and a function that calls a command on it."""
    small_disk.remount("size=4m")
    folder = small_disk.path / "work"
    shutil.copytree(evaluated, folder / "runs")
    places = {"--runs": folder / "runs", "--store": linear_store.path, "--data": folder / "none"}

    def call(*words, names=("--runs", "--store")):
        return run_cli(*words, *(part for name in names for part in (name, places[name])))

    return folder, call


SETTINGS = [word for setting in (*Lab.settings, "epochs=1") for word in ("--set", setting)]
COMMANDS = {
    "eval": ("eval", "a"),
    "h5": ("store", "export", "--feature", "f", "--out", "{}/x.h5"),
    "npy": ("store", "export", "--feature", "f", "--out", "{}/x", "--format", "npy"),
    "report": ("report", "a", "--plots", "{}/figures", "--out", "{}/report.html"),
    "csv": ("eval", "a", "--csv", "{}/scores.csv"),
    "train": ("train", "--task", "va", "--feature", "f", "--run", "b", *SETTINGS),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_full_disk_is_one_sentence_and_old_files_are_whole(run_on_disk, small_disk, name):
    folder, call = run_on_disk
    words = [word.format(folder) for word in COMMANDS[name]]
    names = {"store": ("--store",), "report": ("--runs",)}.get(words[0], ("--runs", "--store"))
    before = digests(folder)
    with full_disk(small_disk, 8192):
        result = call(*words, names=names)
    assert_refused(result, 1, "space", f"{folder}/")
    assert result.output.count("Error: ") == 1 and "Traceback" not in result.output
    after = digests(folder)
    assert {file: after[file] for file in before if file in after} == before
    assert [file for file in after if ".partial" in file] == []
    if name == "train":
        words = ["train", "--resume", "--run", "b"]
    again = call(*words, names=names)
    assert again.exit_code == 0, again.output


@pytest.mark.parametrize("name", ["eval", "h5", "npy"])
def test_a_limit_on_the_size_of_files_is_one_sentence(whole_run, linear_store, run_cli, tmp_path, name):
    shutil.copytree(whole_run, tmp_path / "runs" / "a")
    words = [word.format(tmp_path) for word in COMMANDS[name]]
    places = ("--store", linear_store.path, *(("--runs", tmp_path / "runs") if name == "eval" else ()))
    before = digests(tmp_path)
    with small_files(2000):
        result = run_cli(*words, *places)
    assert_refused(result, 1, "File too large", "`ulimit -f unlimited`")
    assert digests(tmp_path) == before
    assert run_cli(*words, *places).exit_code == 0


def test_space_for_a_table_is_taken_before_it_is_mapped(small_disk, monkeypatch):
    """The kernel ends a process that writes into a mapped file whose page the disk has no room for."""
    monkeypatch.setattr("tempfile.tempdir", str(small_disk.path))
    table = allocate((100, 16), np.dtype(np.float16), 0)
    assert isinstance(table, np.memmap) and not table.any()
    table[:] = 1
    del table
    with pytest.raises(OSError, match="No space left"):
        allocate((1000, 1000), np.dtype(np.float16), 0)


@pytest.mark.parametrize("number", [95, 38])  # EOPNOTSUPP, ENOSYS
def test_disks_that_cannot_take_space_at_once_get_zeros(small_disk, monkeypatch, number):
    def refuse(*arguments):
        raise OSError(number, "not here")

    monkeypatch.setattr("tempfile.tempdir", str(small_disk.path))
    monkeypatch.setattr("os.posix_fallocate", refuse)
    table = allocate((100, 16), np.dtype(np.float16), 0)
    assert table.shape == (100, 16) and not table.any()
    del table
    with pytest.raises(OSError, match="No space left"):
        allocate((1000, 1000), np.dtype(np.float16), 0)


def test_a_fault_of_our_own_asks_to_be_reported(run_cli, monkeypatch):
    def fail(*arguments, **options):
        raise KeyError("missing")

    monkeypatch.setattr(pipeline, "find_predictor", fail)
    with pytest.raises(KeyError) as caught:
        run_cli("eval", "a")
    *_, last = traceback.format_exception(caught.value)
    assert last.startswith("This is a fault in abaw. Every file that was written is whole. Please report it")
    assert last.endswith("abaw 0.1.0, Python 3.11.7, Linux.\n") or "Python 3." in last


def test_errors_name_the_option_for_another_place(run_cli, monkeypatch, tmp_path):
    def fail(*arguments, **options):
        raise OSError(30, "Read-only file system", str(tmp_path / "runs" / "a" / "x"))

    monkeypatch.setattr(pipeline, "find_predictor", fail)
    monkeypatch.setenv("ABAW_RUNS", str(tmp_path / "runs"))
    expected = (
        f"Error: {tmp_path}/runs/a/x cannot be written (Read-only file system). Choose another place with --runs, "
    )
    for words in (("eval", "a"), ("eval", "a", "--store", str(tmp_path))):
        result = run_cli(*words)
        assert result.exit_code == 1 and result.output.startswith(expected)
