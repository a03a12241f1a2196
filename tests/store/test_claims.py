"""Who may fill a store: claims of two drivers, of dead ones, and of different parts."""

import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from abaw.core import claim_files
from abaw.core.claim_files import LostClaimError
from abaw.core.errors import StoreError, UsageError
from abaw.core.parts import parse_part, split_evenly
from abaw.store import FeatureStore
from abaw.store.claims import claimed
from abaw.tests.support.processes import until
from abaw.tests.support.stores import put_feature

# A driver that is killed while its claim stands.
KILLED = (
    "import os, signal, sys\n"
    "from abaw.store.claims import claimed\n"
    "from abaw.store import FeatureStore\n"
    "with claimed(FeatureStore.create(sys.argv[1]), ['hog'], ''):\n"
    "    os.kill(os.getpid(), signal.SIGKILL)\n"
)


@pytest.fixture
def store(tmp_path):
    return FeatureStore.create(tmp_path / "store.zarr")


def test_a_second_driver_says_who_is_at_work(store):
    with (
        claimed(store, ["hog", "dan"], ""),
        pytest.raises(StoreError, match=re.escape(f"writing hog in {store.path}: process {os.getpid()} on ")),
        claimed(store, ["hog"], ""),
    ):
        pass
    assert store.notes.read() == {}, "claims end with the work"


@pytest.mark.parametrize(
    ("one", "other"), [((["hog"], ""), (["dan"], "")), ((["hog"], "1/3"), (["hog"], "2/3"))], ids=["features", "parts"]
)
def test_what_does_not_overlap_may_go_on_together(store, one, other):
    with claimed(store, *one), claimed(store, *other):
        assert len(store.notes.read()) == 2


@pytest.mark.parametrize("other", ["", "1/3", "1/4"])
def test_overlapping_parts_may_not(store, other):
    with claimed(store, ["hog"], "1/3"), pytest.raises(StoreError, match="part 1/3"), claimed(store, ["hog"], other):
        pass


def write_claim(store, **changes):
    claim = {"features": ["hog"], "part": "", "host": "elsewhere", "process": 1, "began": 0.0, "claimed": 0.0}
    store.notes.write("claim-old", json.dumps({**claim, "beat": time.time(), **changes}))


def test_a_driver_on_another_machine_counts_while_its_claim_is_fresh(store, monkeypatch):
    """Claims as earlier versions wrote them."""
    monkeypatch.setattr(claim_files, "WATCH_S", 0.2)
    write_claim(store)
    with pytest.raises(StoreError, match="process 1 on elsewhere"), claimed(store, ["hog"], ""):
        pass
    write_claim(store, beat=time.time() - claim_files.DEAD_S - 1)
    with claimed(store, ["hog"], ""):
        assert "claim-old" not in store.notes.read()


def test_who_came_first_does_not_depend_on_clocks(store, monkeypatch):
    """The clock of the second is an hour behind: its claim looks like the earlier one."""
    with claimed(store, ["hog"], ""):
        now = time.time()
        monkeypatch.setattr("abaw.core.claim_files.time.time", lambda: now - 3600)
        with pytest.raises(StoreError, match="Another command is writing hog"), claimed(store, ["hog"], ""):
            pass


def test_of_many_drivers_one_is_at_work(store):
    start, at_work, most, refused = threading.Barrier(5), [], [], []

    def drive(number):
        start.wait()
        try:
            with claimed(store, ["hog"], ""):
                at_work.append(number)
                most.append(len(at_work))
                time.sleep(0.3)
                at_work.remove(number)
        except StoreError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=drive, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] and len(refused) == 4 and store.notes.read() == {}


def test_a_driver_whose_claim_was_dropped_writes_no_further_video(store, monkeypatch):
    monkeypatch.setattr("abaw.core.claim_files.CHECK_S", 0.0)
    store.add_feature("hog", {"shape": [3], "weights": "none"}, None, "fingerprint")
    with claimed(store, ["hog"], ""):
        put_feature(store, "hog", "before", np.ones((2, 3), np.float32))
        for name in store.notes.read():
            store.notes.drop(name)
        with pytest.raises(LostClaimError, match=re.escape(f"The claim of this command on {store.path} was deleted")):
            put_feature(store, "hog", "after", np.ones((2, 3), np.float32))
    assert list(store.videos("hog")) == ["before"] and store.incomplete("hog") == []


def test_verify_does_not_judge_a_store_that_is_being_filled(store, run_cli):
    with claimed(store, ["hog"], "2/3"):
        before = store.notes.read()
        result = run_cli("store", "verify", store.path)
        assert result.exit_code == 1 and f"writing hog part 2/3 in {store.path}: process {os.getpid()}" in result.stderr
        assert store.notes.read().keys() == before.keys()
    assert run_cli("store", "verify", store.path).exit_code == 0


def test_a_driver_of_this_machine_that_was_killed_does_not_count(store, process_env):
    subprocess.run([sys.executable, "-c", KILLED, store.path], check=False, env=process_env)
    assert len(store.notes.read()) == 1
    with claimed(store, ["hog"], ""):
        assert len(store.notes.read()) == 1, "only its own is left"


def test_a_dead_driver_that_nobody_asked_after_does_not_count(store, process_env):
    """As in a container whose first process does not reap: its number is still there."""
    driver = subprocess.Popen([sys.executable, "-c", KILLED, store.path], env=process_env)
    zombie = psutil.Process(driver.pid)
    until(lambda: zombie.status() == psutil.STATUS_ZOMBIE, "it is a zombie")
    assert len(store.notes.read()) == 1
    with claimed(store, ["hog"], ""):
        assert len(store.notes.read()) == 1, "only its own is left"
    driver.wait()


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"features": 3}', "\x00"])
def test_a_note_that_is_no_claim_stops_nobody(store, text):
    store.notes.write("claim-odd", text)
    with claimed(store, ["hog"], ""):
        pass


@pytest.mark.parametrize("text", ["0/3", "4/3", "x", "1/", "/2", "-1/2", "1/2/3", "¹/2"])
def test_bad_parts(text):
    with pytest.raises(UsageError, match=re.escape(f"A part is I/N, such as 2/8, with I from 1 to N; found {text!r}.")):
        parse_part(text)


def test_videos_are_dealt_evenly_and_each_once():
    sizes = {f"video-{number}": number * 37 % 101 + 1 for number in range(40)}
    parts = split_evenly(sizes, 6)
    assert sorted(name for part in parts for name in part) == sorted(sizes)
    sums = [sum(sizes[name] for name in part) for part in parts]
    assert max(sums) - min(sums) <= max(sizes.values())
    assert split_evenly(dict(reversed(sizes.items())), 6) == parts, "whatever order they are listed in"


def test_repair_leaves_a_store_alone_that_is_being_filled(store, run_cli):
    store.add_feature("dan", {"shape": [3], "weights": "none"}, None, "fingerprint")
    store.add_feature("hog", {"shape": [3], "weights": "none"}, None, "fingerprint")
    (Path(store.path) / "features/hog/begun/values").mkdir(parents=True)  # a video in work
    with claimed(store, ["hog"], "2/3"):
        result = run_cli("store", "repair", store.path)
        assert result.exit_code == 1
        assert f"Another command is writing hog part 2/3 in {store.path}: process {os.getpid()} on " in result.stderr
        assert store.incomplete("hog") == ["begun"]
    result = run_cli("store", "repair", store.path)
    assert result.exit_code == 0 and "features/hog/begun" in result.stderr
    assert store.incomplete("hog") == [] and store.notes.read() == {}
