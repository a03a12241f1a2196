"""Faults of a cluster that `abaw extract` starts itself; `test_faults_cluster` has those of one that is running."""

import pytest

from abaw.tests.support.faults import N_VIDEOS, SETTINGS, complete
from abaw.tests.support.processes import Started, n_finished, until


@pytest.fixture
def start(process_env, tmp_path):
    """Starts `abaw extract` on a cluster, `start(data, store, stall_s=600, new_python=False, **environment)`."""

    def start(data, store, stall_s=600, new_python=False, **environment):
        file = tmp_path / "cluster.toml"
        file.write_text(f'[cluster]\nkind = "local"\nworkers = 2\nstall_s = {stall_s}\n')
        paths = ("--data", data, "--store", store, "--cluster", file)
        folder = tmp_path / "driver"
        return Started(
            "abaw",
            "extract",
            *SETTINGS,
            *paths,
            environment=process_env | environment,
            folder=folder,
            new_python=new_python,
        )

    return start


def test_an_interrupted_and_a_killed_driver_take_their_workers_along(slow_data, slow_store, start, run_cli, tmp_path):
    store = tmp_path / "store.zarr"
    with start(slow_data, store, new_python=True) as driver:  # forked workers would hear Ctrl-C
        driver.until(lambda: n_finished(store), "a video is finished")
        driver.interrupt()
        assert driver.end() == 130
        assert "Interrupted. Complete videos are in the store. Continue with: abaw extract --" in driver.output
        assert "Traceback" not in driver.output
        until(lambda: not driver.others(), "all processes have ended")
    n_first = n_finished(store)
    with start(slow_data, store) as driver:
        driver.until(lambda: n_finished(store) > n_first, "another video is finished")
        driver.kill()
        until(lambda: not driver.others(), "all processes have ended")
    assert 0 < n_first < n_finished(store) < N_VIDEOS
    complete(slow_data, store, slow_store, run_cli)


def test_a_video_that_hangs_and_a_worker_that_is_stopped(slow_data, slow_store, start, run_cli, deadly, tmp_path):
    store = tmp_path / "store.zarr"
    with start(slow_data, store, stall_s=8, **deadly("video-05/00002.jpg", hang=True)) as driver:
        driver.until(lambda: n_finished(store), "a video is finished")
        driver.workers()[0].suspend()
        assert driver.end() == 1
        assert f"done {N_VIDEOS - 1}, skipped 0, failed 1" in driver.output
        assert "video-05: its worker hung: it said nothing for 8 s" in driver.output
        assert "Traceback" not in driver.output
        until(lambda: not driver.others(), "all processes have ended")
    complete(slow_data, store, slow_store, run_cli)


def test_videos_that_kill_their_workers(slow_data, slow_store, start, run_cli, deadly, letters, tmp_path):
    store = tmp_path / "store.zarr"
    with start(slow_data, store, **deadly("3/00001.jpg")) as driver:
        assert driver.end() == 1
        assert f"done {N_VIDEOS - 2}, skipped 0, failed 2" in driver.output
        for video in ("video-03", "video-13"):
            assert f"{video}: each worker that had it died, perhaps for want of memory" in driver.output
        assert "Traceback" not in driver.output
    assert letters().keys() == {"video-03", "video-13"}
    for n_workers in letters().values():
        assert 2 <= n_workers <= 6, "two or three alone, and as many with others: another death may be counted"
    complete(slow_data, store, slow_store, run_cli)


def test_workers_that_die_whatever_they_take_end_the_work(slow_data, start, deadly, letters, tmp_path):
    with start(slow_data, tmp_path / "store.zarr", **deadly(".jpg")) as driver:
        assert driver.end() == 1
        assert "Stopped early: workers die before they finish a frame" in driver.output
        assert "Traceback" not in driver.output
    assert letters().total() <= 21, "three orders are given up and four are under way, each costs three at most"
