"""The thread that zarr reads with: where it cannot be started, and at the end of a program."""

import threading
import time

import numpy as np
import pytest
from zarr.core import sync

from abaw.core.errors import AbawError
from abaw.store import FeatureStore
from abaw.store.zarr_threads import end_zarr_thread
from abaw.tests.support.stores import new_store, put_feature


@pytest.fixture
def no_loop(monkeypatch):
    """Zarr as it is before it reads for the first time."""
    monkeypatch.setattr(sync, "loop", [None])
    monkeypatch.setattr(sync, "iothread", [None])


@pytest.fixture
def no_threads(no_loop, monkeypatch):
    """No thread of zarr can be started, as at a limit of `ulimit -u`."""
    start = threading.Thread.start

    def refuse(thread):
        if thread.name == "zarr_io":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)


def test_a_store_that_no_thread_can_read_is_neither_damaged_nor_away(tmp_path, run_cli, no_loop, monkeypatch, request):
    store = new_store(tmp_path / "s.zarr", {"f": (2,)})
    put_feature(store, "f", "v", np.ones((3, 2)))
    sync.loop[0].call_soon_threadsafe(sync.loop[0].stop)
    sync.loop[0] = sync.iothread[0] = None
    request.getfixturevalue("no_threads")
    result = run_cli("store", "info", tmp_path / "s.zarr")
    assert result.exit_code == 1 and "No more threads or processes can be started" in result.output, result.output
    assert "ulimit -u" in result.output and "reached" not in result.output
    sync.loop[0] = sync.iothread[0] = None
    monkeypatch.setattr("abaw.store.feature_store.find_plain_array", lambda *arguments: None)  # as of a store far away
    with pytest.raises(RuntimeError, match="can't start new thread") as error:
        store.read("f", "v")
    assert not isinstance(error.value, AbawError)
    end_zarr_thread()
    sync.cleanup_resources()  # which failed at the end of the program: the thread was never started


def test_a_busy_loop_is_waited_for_at_the_end(tmp_path, no_loop):
    """Zarr waits .2 s, and then closes a loop that still runs, which is an error."""
    FeatureStore.create(tmp_path / "s.zarr")
    loop, thread = sync.loop[0], sync.iothread[0]
    loop.call_soon_threadsafe(time.sleep, 0.4)
    end_zarr_thread()
    assert not thread.is_alive() and loop.is_closed()
    sync.cleanup_resources()
    assert FeatureStore.open(tmp_path / "s.zarr").features() == [], "and it can be used again"
    end_zarr_thread()
