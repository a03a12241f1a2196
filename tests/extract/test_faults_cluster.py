"""Faults of extraction on a cluster that is running already: the rest is done, and running it again completes it."""

import re
import shutil
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from distributed import Client

from abaw.core.errors import UsageError
from abaw.core.progress import Summary
from abaw.extract.cluster.cluster import ClusterOptions, connected
from abaw.extract.cluster.driver import Driver
from abaw.extract.cluster.worker import opened_stage
from abaw.extract.stage import Stage
from abaw.pipeline import ExtractOptions, extract
from abaw.tests.support.faults import N_VIDEOS, SETTINGS, complete
from abaw.tests.support.processes import DEADLINE_S, Started, Watcher, assert_equal_stores, n_finished, until


def part_of_cluster(file, part, *options, folder, environment):
    """Starts `dask scheduler` or `dask worker` in a folder."""
    port = ("--port", 0) if part == "scheduler" else ()
    call = (part, "--scheduler-file", file, *port, "--dashboard-address", ":0", *options)
    return Started("dask", *call, environment=environment, folder=folder)


def address_of(file, n_workers):
    """Address of a scheduler that has so many workers."""
    until(file.exists, "the scheduler is there")
    with Client(scheduler_file=str(file)) as client:
        client.wait_for_workers(n_workers, timeout=DEADLINE_S)
        return client.scheduler.address


@pytest.fixture(scope="module")
def address(process_env, slow_data, tmp_path_factory):
    """A scheduler with two workers; one of them finds the slow data under `HERE`."""
    place = tmp_path_factory.mktemp("cluster")
    file = place / "scheduler.json"
    (place / "sees").mkdir()
    (place / "sees" / "data").symlink_to(slow_data)
    with ExitStack() as stack:
        for part, folder in (("scheduler", "scheduler"), ("worker", "sees"), ("worker", "blind")):
            stack.enter_context(part_of_cluster(file, part, folder=place / folder, environment=process_env))
        yield address_of(file, 2)


HERE = Path("/proc/self/cwd/data")  # another folder for each process


@pytest.fixture
def here(slow_data, monkeypatch, tmp_path):
    """This process finds the slow data under `HERE`, and under `elsewhere` beside it."""
    for name in ("data", "elsewhere"):
        (tmp_path / name).symlink_to(slow_data)
    monkeypatch.chdir(tmp_path)


def test_a_worker_that_does_not_see_the_data_is_left_out(slow_store, address, here, tmp_path):
    store, watcher = tmp_path / "store.zarr", Watcher()
    summary = extract(ExtractOptions(HERE, store, ("hog",), device="cpu"), watcher, ClusterOptions(address))
    assert summary.ok and len(summary.done) == N_VIDEOS
    assert_equal_stores(store, slow_store)
    (warning,) = [warning for warning in watcher.warnings if warning.startswith("Worker")]
    assert re.fullmatch(rf"Worker tcp://\S+ cannot do this: No data folder {HERE}\. .*", warning)
    watcher.assert_whole()
    elsewhere = HERE.with_name("elsewhere")
    words = rf"No worker of the cluster can do this; tcp://\S+ says: No data folder {elsewhere}\."
    with pytest.raises(UsageError, match=words):
        extract(ExtractOptions(elsewhere, tmp_path / "other.zarr", ("hog",)), cluster=ClusterOptions(address))


def test_a_video_that_kills_the_only_worker_that_sees_it(
    slow_data, slow_store, deadly, here, process_env, run_cli, tmp_path
):
    """Orders are bound to that worker, and to each that takes its place: it is theirs that are counted."""
    file, store = tmp_path / "scheduler.json", tmp_path / "store.zarr"
    environment = process_env | deadly("video-00/00005.jpg")
    with (
        part_of_cluster(file, "scheduler", folder=tmp_path / "scheduler", environment=process_env),
        part_of_cluster(file, "worker", folder=tmp_path / "blind", environment=process_env),
        part_of_cluster(file, "worker", folder=tmp_path, environment=environment),
    ):
        stage, summary = Stage.open(ExtractOptions(HERE, store, ("hog",), device="cpu", batch_size=8)), Summary()
        with connected(ClusterOptions(address_of(file, 2))) as cluster:
            assert cluster.deaths == 4
            Driver(stage, replace(cluster, deaths=2), summary, Watcher()).run(stage.plan(summary))
    assert not summary.stopped and len(summary.done) == N_VIDEOS - 1
    assert summary.failed == {
        "video-00": "each worker that had it died, perhaps for want of memory; see the workers' logs"
    }
    complete(slow_data, store, slow_store, run_cli)


def test_a_killed_driver_leaves_its_workers_to_the_next(
    slow_data, slow_store, address, process_env, monkeypatch, tmp_path
):
    """Its tasks may still write when the next driver begins. The paths are relative, and the workers' folders differ."""
    folder = tmp_path / "driver"
    folder.mkdir()
    (folder / "data").symlink_to(slow_data)
    store = folder / "store.zarr"
    call = ("extract", *SETTINGS, "--data", "data", "--store", "store.zarr", "--scheduler", address)
    with Started("abaw", *call, environment=process_env, folder=folder) as driver:
        driver.until(lambda: n_finished(store), "a video is finished")
        driver.kill()
    n_first = n_finished(store)
    monkeypatch.chdir(folder)
    options = ExtractOptions(Path("data"), Path("store.zarr"), ("hog",), device="cpu", batch_size=8)
    again = extract(options, cluster=ClusterOptions(address))
    assert again.ok and 0 < n_first < N_VIDEOS, again
    assert_equal_stores(store, slow_store)


def test_a_disk_that_fills_up_stops_the_cluster(slow_data, slow_store, address, small_disk):
    store = small_disk.path / "store.zarr"
    options = ExtractOptions(slow_data, store, ("hog",), device="cpu", batch_size=8)
    full = extract(options, cluster=ClusterOptions(address))
    assert full.stopped and full.stopped.reason == "disk"
    sentence = r"no space left to write video-\d\d into .*; free some space and run the same command again"
    assert re.fullmatch(sentence, full.stopped.sentence)
    assert not full.ok and not full.failed and n_finished(store) < N_VIDEOS
    small_disk.remount("size=20m")
    again = extract(options, cluster=ClusterOptions(address))
    assert again.ok, again
    assert_equal_stores(store, slow_store)


def test_corrupt_videos_are_told_of_as_by_one_process(tiny_demo, address, numbered, tmp_path):
    data = shutil.copytree(tiny_demo, tmp_path / "data")
    videos = sorted((data / "cropped_aligned").iterdir())
    for crop in videos[0].iterdir():
        crop.write_bytes(b"no image at all")
    cut = sorted(videos[1].iterdir())[3]
    cut.write_bytes(cut.read_bytes()[:700])
    numbered.write(data / "videos" / f"{videos[2].name}.mp4").write_bytes(b"no video at all")
    one, many = (
        extract(ExtractOptions(data, tmp_path / f"{name}.zarr", ("hog",), device="cpu"), cluster=cluster)
        for name, cluster in (("one", None), ("many", ClusterOptions(address)))
    )
    assert list(one.failed) == [videos[0].name] and any(cut.name in sentence for sentence in one.broken_frames)
    assert any("cannot be read as a video" in warning for warning in one.warnings)
    assert many.failed == one.failed and many.n_frames == one.n_frames and not one.ok and not many.ok
    for kind in ("done", "broken_frames", "warnings", "label_errors"):
        assert sorted(getattr(many, kind)) == sorted(getattr(one, kind))
    assert_equal_stores(tmp_path / "many.zarr", tmp_path / "one.zarr")


def test_a_gpu_that_is_lost_and_a_scheduler_that_dies(
    tiny_demo, tiny_store, slow_data, slow_store, process_env, run_cli, tmp_path
):
    """One worker has a GPU to give, several threads and no nanny: it does all, and once it is dead the other one does."""
    file, store = tmp_path / "scheduler.json", tmp_path / "store.zarr"

    def part(kind, *options):
        return part_of_cluster(file, kind, *options, folder=tmp_path / kind, environment=process_env)

    with part("scheduler") as scheduler, part("worker", "--no-nanny", "--name", "plain") as plain:
        with part("worker", "--no-nanny", "--name", "gpu", "--nthreads", 4, "--resources", "GPU=1") as gpu:
            address = address_of(file, 2)
            few = extract(
                ExtractOptions(tiny_demo, tmp_path / "few.zarr", ("hog",), device="cpu"),
                cluster=ClusterOptions(address),
            )
            assert few.ok
            assert_equal_stores(tmp_path / "few.zarr", tiny_store)
            with Client(address) as client:
                found = client.run(lambda dask_worker: (dask_worker.name, opened_stage.cache_info().misses))
            assert sorted(found.values()) == [("gpu", 1), ("plain", 0)], (
                "all went to one, which loaded its network once"
            )
            watcher = Watcher(gpu.kill)
            many = extract(ExtractOptions(slow_data, store, ("hog",), device="cpu"), watcher, ClusterOptions(address))
        assert many.ok and len(many.done) == N_VIDEOS
        assert_equal_stores(store, slow_store)
        watcher.assert_whole()
        shutil.rmtree(store)
        paths = ("--data", slow_data, "--store", store, "--scheduler", address)
        with Started("abaw", "extract", *SETTINGS, *paths, environment=process_env, folder=tmp_path) as driver:
            driver.until(lambda: n_finished(store), "a video is finished")
            scheduler.kill()
            assert driver.end() == 1
            assert "Stopped early: the connection to the scheduler was lost; run the same" in driver.output
            assert "Traceback" not in driver.output
        plain.end()
    complete(slow_data, store, slow_store, run_cli)
