"""Faults of extraction by one process: disks, flipped bits, and two drivers on one store."""

import re
import shutil
import subprocess
from contextlib import suppress

import pytest
import torch

from abaw.core.errors import StoreError
from abaw.extract.runner import Runner
from abaw.store import FeatureStore
from abaw.tests.support.processes import Started, assert_equal_stores, n_finished

SETTINGS = ("--backbone", "hog", "--device", "cpu", "--batch-size", "8")


@pytest.fixture
def fill(slow_data, run_cli):
    """Runs `abaw extract` into a store, `fill(store)` -> exit code, and output after the device."""

    def fill(store):
        result = run_cli("extract", *SETTINGS, "--data", slow_data, "--store", store)
        return result.exit_code, re.sub(r"^(Loading torch \.\.\.|Device: .*)\n", "", result.output, flags=re.M)

    return fill


def test_a_disk_that_fills_up_and_gets_room_again(slow_store, fill, small_disk):
    store = small_disk.path / "store.zarr"
    code, output = fill(store)
    assert code == 1 and "failed 0" in output
    assert re.search(
        r"^Stopped early: no space left to write video-\d\d into .*; free some space and run the same", output, re.M
    )
    n_first = n_finished(store)
    assert 0 < n_first < 20
    (small_disk.path / "filling").write_bytes(bytes(shutil.disk_usage(small_disk.path).free))
    code, output = fill(store)  # the disk has no room for a claim either
    assert code == 1 and output.startswith("Error: No space left to write") and output.count("\n") == 1
    (small_disk.path / "filling").unlink()
    small_disk.remount("size=20m")
    code, output = fill(store)
    assert code == 0 and f"done {20 - n_first}, skipped {n_first}, failed 0" in output
    assert_equal_stores(store, slow_store)


def test_a_store_that_must_not_be_written(slow_data, slow_store, fill, run_cli, small_disk):
    store = small_disk.path / "store.zarr"
    fill(store)
    before = n_finished(store)
    small_disk.remount("ro")
    for place, words in (
        (store, "is not writable"),
        (small_disk.path / "new.zarr", "Cannot create a feature store at"),
    ):
        code, output = fill(place)
        assert code == 1 and output.startswith("Error: ") and output.count("\n") == 1
        assert words in output and str(place) in output and "Read-only file system" in output
    assert run_cli("store", "info", store).exit_code == 0, "it can still be read"
    small_disk.remount("rw,size=20m")
    assert n_finished(store) == before and fill(store)[0] == 0
    assert_equal_stores(store, slow_store)


def test_a_disk_that_turns_read_only_stops_the_work(slow_data, slow_store, fill, process_env, small_disk, tmp_path):
    small_disk.remount("size=20m")
    store = small_disk.path / "store.zarr"
    call = ("extract", *SETTINGS, "--data", slow_data, "--store", store)

    def is_read_only():
        with suppress(subprocess.CalledProcessError):  # a file is open for writing just now
            small_disk.remount("ro")
            return True

    with Started("abaw", *call, environment=process_env, folder=tmp_path) as driver:
        driver.until(lambda: n_finished(store), "a video is finished")
        driver.until(is_read_only, "the disk is read-only")
        assert driver.end() == 1
    words = r"^Stopped early: video-\d\d into \S+ can no longer be written \(Read-only file system\); check the disk"
    assert re.search(words, driver.output, re.M) and "failed 0" in driver.output
    assert "Traceback" not in driver.output and 0 < n_finished(store) < 20
    small_disk.remount("rw")
    code, output = fill(store)
    assert code == 0, output
    assert_equal_stores(store, slow_store)


def test_a_device_without_memory_stops_the_work(slow_data, slow_store, fill, monkeypatch, tmp_path):
    plain = Runner._forward

    def forward(self, batch):
        if any(source.name == "video-07" for source, _ in batch.parts):
            raise torch.OutOfMemoryError("2 GiB wanted")
        return plain(self, batch)

    store = tmp_path / "store.zarr"
    with monkeypatch.context() as patched:
        patched.setattr(Runner, "_forward", forward)
        code, output = fill(store)
    assert code == 1 and "failed 0" in output and 0 < n_finished(store) < 20
    assert (
        "Stopped early: no memory left on the device, not even for one frame at a time; end other programs on it, or "
        "choose another --device (2 GiB wanted)" in output
    )
    code, output = fill(store)
    assert code == 0, output
    assert_equal_stores(store, slow_store)


def test_a_flipped_bit_costs_one_video(slow_data, slow_store, fill, run_cli, tmp_path):
    store = tmp_path / "store.zarr"
    assert fill(store)[0] == 0
    chunk = store / "features/hog/video-07/values/c/0/0"
    content = bytearray(chunk.read_bytes())
    content[len(content) // 3] ^= 8
    chunk.write_bytes(content)
    with pytest.raises(StoreError, match=r"'hog' of video 'video-07' is damaged"):
        FeatureStore.open(store).read("hog", "video-07")
    found = run_cli("store", "verify", store)
    assert found.exit_code == 1 and "1 problems" in found.output and "'video-07' is damaged" in found.output
    repaired = run_cli("store", "repair", store)
    assert repaired.exit_code == 0 and "1 dropped" in repaired.output
    assert sorted(set(FeatureStore.open(slow_store).videos("hog")) - set(FeatureStore.open(store).videos("hog"))) == [
        "video-07"
    ]
    code, output = fill(store)
    assert code == 0 and "done 1, skipped 19, failed 0" in output
    assert_equal_stores(store, slow_store)
    assert run_cli("store", "verify", store).exit_code == 0


def test_two_drivers_on_one_store(slow_data, slow_store, process_env, fill, run_cli, tmp_path):
    store = tmp_path / "store.zarr"
    call = ("extract", *SETTINGS, "--data", slow_data, "--store", store)
    with Started("abaw", *call, environment=process_env, folder=tmp_path) as first:
        first.until(lambda: n_finished(store), "a video is finished")
        code, output = fill(store)
        assert code == 1 and output.count("\n") == 1
        assert f"Error: Another command is writing hog in {store}: process {first.pid} on " in output
        assert "Wait for it, or stop it and run this again." in output
        # another feature may be filled meanwhile
        other = ("--backbone", "other=hog", "--device", "cpu", "--part", "1/10")
        assert run_cli("extract", *other, "--data", slow_data, "--store", store).exit_code == 0
        assert first.end() == 0, first.output
        assert "done 20, skipped 0, failed 0" in first.output
    opened = FeatureStore.open(store)
    assert len(opened.videos("other")) == 2 and opened.notes.read() == {}
    shutil.rmtree(store / "features" / "other")
    assert_equal_stores(store, slow_store)


def test_two_drivers_at_the_same_moment(slow_data, slow_store, process_env, run_cli, tmp_path):
    store = tmp_path / "store.zarr"
    call = ("extract", *SETTINGS, "--data", slow_data, "--store", store)
    with (
        Started("abaw", *call, environment=process_env, folder=tmp_path / "one") as one,
        Started("abaw", *call, environment=process_env, folder=tmp_path / "other") as other,
    ):
        codes = sorted(driver.end() for driver in (one, other))
        assert codes in ([0, 0], [0, 1]), one.output + other.output
        assert "Traceback" not in one.output + other.output
    assert_equal_stores(store, slow_store)
    assert run_cli("store", "verify", store).exit_code == 0
