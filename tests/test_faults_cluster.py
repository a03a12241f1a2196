"""Faults of extraction on clusters: whatever dies or hangs, the rest is done, and the same command again completes it."""

import gc
import os
import re
import shutil
import socket
import threading
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import dask
import psutil
import pytest
from distributed import Client, Nanny, Scheduler, SpecCluster, Status, Worker

from abaw.errors import UsageError
from abaw.extract.cluster import Cluster, ClusterOptions
from abaw.extract.driver import Driver
from abaw.extract.follower import Follower
from abaw.extract.local import LocalWorkers
from abaw.extract.orders import Order
from abaw.extract.roster import Bound, Roster
from abaw.extract.sink import Summary
from abaw.extract.stage import Stage
from abaw.extract.worker import opened_stage
from abaw.pipeline import ExtractOptions, extract
from abaw.tests.processes import DEADLINE_S, Started, Watcher, assert_equal_stores, n_finished, until

SETTINGS = ("--backbone", "hog", "--device", "cpu", "--batch-size", "8")
N_VIDEOS = 20
# Put into the Python of each process: whoever opens such an image dies of it, and leaves a letter that says so.
SITE = """
import os, sys

def die(event, arguments):
    if event == "open" and str(arguments[0]).endswith(os.environ["DEADLY"]):
        letter = f"{arguments[0]} {os.getpid()}\\n".encode()
        os.write(os.open(os.environ["LETTERS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT), letter)
        os._exit(1)

sys.addaudithook(die)
"""


@pytest.fixture
def start(process_env, tmp_path):
    """Starts `abaw extract` on a cluster of its own, `start(data, store, workers=2, stall_s=600, **environment)`."""

    def start(data, store, workers=2, stall_s=600, **environment):
        file = tmp_path / "cluster.toml"
        file.write_text(f'[cluster]\nkind = "local"\nworkers = {workers}\nstall_s = {stall_s}\n')
        paths = ("--data", data, "--store", store, "--cluster", file)
        folder = tmp_path / "driver"
        return Started.abaw("extract", *SETTINGS, *paths, environment=process_env | environment, folder=folder)

    return start


@pytest.fixture
def deadly(process_env, tmp_path):
    """Makes an environment whose processes die when they open such a file, `deadly(ending)`; see `letters`."""

    def deadly(ending):
        (tmp_path / "sitecustomize.py").write_text(SITE)
        python = os.pathsep.join([str(tmp_path), process_env["PYTHONPATH"]])
        return {"PYTHONPATH": python, "DEADLY": ending, "LETTERS": str(tmp_path / "letters")}

    return deadly


@pytest.fixture
def letters(tmp_path):
    """How many workers each video has killed; one that decodes in several threads may leave several letters."""

    def letters():
        lines = [line.split() for line in (tmp_path / "letters").read_text().splitlines()]
        return Counter(video for video, _ in {(Path(image).parent.name, process) for image, process in lines})

    return letters


@pytest.fixture
def own_data(slow_data, tmp_path):
    """A copy of the slow data that may be changed."""
    return shutil.copytree(slow_data, tmp_path / "data", copy_function=os.link)


def complete(data, store, wanted, run_cli):
    """Run again in one process: afterwards the store is whole, and equal to that of an undisturbed run."""
    found = run_cli("extract", *SETTINGS, "--data", data, "--store", store)
    assert found.exit_code == 0, found.output
    assert_equal_stores(store, wanted)
    verified = run_cli("store", "verify", store)
    assert verified.exit_code == 0, verified.output


# a cluster of its own


def test_an_interrupted_and_a_killed_driver_take_their_workers_along(slow_data, slow_store, start, run_cli, tmp_path):
    store = tmp_path / "store.zarr"
    with start(slow_data, store) as driver:
        driver.until(lambda: n_finished(store), "a video is finished")
        driver.interrupt()
        assert driver.end() == 1
        assert "Stopped early: interrupted; run the same command again to go on." in driver.output
        assert "Traceback" not in driver.output
        until(lambda: not driver.others(), "all processes have ended")
    n_first = n_finished(store)
    with start(slow_data, store) as driver:
        driver.until(lambda: n_finished(store) > n_first, "another video is finished")
        driver.kill()
        until(lambda: not driver.others(), "all processes have ended")
    assert 0 < n_first < n_finished(store) < N_VIDEOS
    complete(slow_data, store, slow_store, run_cli)


def test_half_of_the_workers_are_killed(slow_data, slow_store, start, tmp_path):
    store = tmp_path / "store.zarr"
    with start(slow_data, store, workers=4) as driver:
        driver.until(lambda: n_finished(store), "a video is finished")
        for worker in driver.workers()[:2]:
            worker.kill()
        assert n_finished(store) < N_VIDEOS
        assert driver.end() == 0, driver.output
        assert f"done {N_VIDEOS}, skipped 0, failed 0" in driver.output and "Traceback" not in driver.output
        until(lambda: not driver.others(), "all processes have ended")
    assert_equal_stores(store, slow_store)


def test_a_video_that_hangs_and_a_worker_that_is_stopped(own_data, slow_store, start, run_cli, tmp_path):
    store, crop = tmp_path / "store.zarr", own_data / "cropped_aligned" / "video-05" / "00002.jpg"
    image = crop.rename(tmp_path / "image.jpg")
    os.mkfifo(crop)  # whoever opens it waits for ever
    with start(own_data, store, stall_s=15) as driver:
        driver.until(lambda: n_finished(store), "a video is finished")
        driver.workers()[0].suspend()
        assert driver.end() == 1
        assert f"done {N_VIDEOS - 1}, skipped 0, failed 1" in driver.output
        assert "video-05: its worker hung: it said nothing for 15 s" in driver.output
        assert "Traceback" not in driver.output
        until(lambda: not driver.others(), "all processes have ended")
    crop.unlink()
    image.rename(crop)
    complete(own_data, store, slow_store, run_cli)


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
        assert 2 <= n_workers <= 6, "two alone, perhaps two together with others, and no more than two by chance"
    complete(slow_data, store, slow_store, run_cli)


def test_workers_that_die_whatever_they_take_end_the_work(slow_data, start, deadly, letters, tmp_path):
    with start(slow_data, tmp_path / "store.zarr", **deadly(".jpg")) as driver:
        assert driver.end() == 1
        assert "Stopped early: workers die before they finish a frame" in driver.output
        assert "Traceback" not in driver.output
    assert letters().total() <= 12, "three orders cost two workers each, and others may have died meanwhile"


def test_workers_that_hang_whatever_they_take_end_the_work(own_data, start, tmp_path):
    for video in (own_data / "cropped_aligned").iterdir():
        crop = min(video.iterdir())
        crop.unlink()
        os.mkfifo(crop)
    with start(own_data, tmp_path / "store.zarr", stall_s=4) as driver:
        assert driver.end() == 1
        assert "Stopped early: workers hang before they finish a frame" in driver.output
        assert "failed 0" in driver.output and "Traceback" not in driver.output
        until(lambda: not driver.others(), "all processes have ended")


# a cluster that somebody else has started


def part_of_cluster(file, part, *options, folder, environment):
    """Starts `dask scheduler` or `dask worker` in a folder."""
    port = ("--port", 0) if part == "scheduler" else ()
    call = (part, "--scheduler-file", file, *port, "--dashboard-address", ":0", *options)
    return Started.dask(*call, environment=environment, folder=folder)


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
    assert len(watcher.warnings) == 1
    assert re.fullmatch(rf"Worker tcp://\S+ cannot do this: No data folder {HERE}\. .*", watcher.warnings[0])
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
        options = ExtractOptions(HERE, store, ("hog",), device="cpu", batch_size=8)
        summary = extract(options, cluster=ClusterOptions(address_of(file, 2)))
    assert not summary.stopped and len(summary.done) == N_VIDEOS - 1
    assert summary.failed == {
        "video-00": "each worker that had it died, perhaps for want of memory; see the workers' logs"
    }
    complete(slow_data, store, slow_store, run_cli)


def test_a_killed_driver_leaves_its_workers_to_the_next(slow_data, slow_store, address, process_env, run_cli, tmp_path):
    """Its tasks may still be writing when the next one begins; the paths are relative, the workers' folders others."""
    folder = tmp_path / "driver"
    folder.mkdir()
    (folder / "data").symlink_to(slow_data)
    call = ("extract", *SETTINGS, "--data", "data", "--store", "store.zarr", "--scheduler", address)
    store = folder / "store.zarr"
    with Started.abaw(*call, environment=process_env, folder=folder) as driver:
        driver.until(lambda: n_finished(store), "a video is finished")
        driver.kill()
    n_first = n_finished(store)
    with Started.abaw(*call, environment=process_env, folder=folder) as driver:
        assert driver.end() == 0, driver.output
        assert "failed 0" in driver.output and "Traceback" not in driver.output
    assert 0 < n_first < N_VIDEOS
    complete(slow_data, store, slow_store, run_cli)


def test_a_disk_that_fills_up_stops_the_cluster(slow_data, slow_store, address, small_disk):
    store = small_disk.path / "store.zarr"
    options = ExtractOptions(slow_data, store, ("hog",), device="cpu", batch_size=8)
    full = extract(options, cluster=ClusterOptions(address))
    assert re.fullmatch(r"no space to write video-\d\d into .*; make room and run the same command again", full.stopped)
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


def test_no_worker_comes(slow_data, tmp_path):
    stage, summary = Stage.open(ExtractOptions(slow_data, tmp_path / "store.zarr", ("hog",), device="cpu")), Summary()
    scheduler = {"cls": Scheduler, "options": {"dashboard_address": ":0"}}
    with SpecCluster(scheduler=scheduler) as cluster, Client(cluster) as client:
        Driver(stage, Cluster(client, patience_s=1), summary, Watcher()).run(stage.plan(summary))
    assert summary.stopped == (
        "no worker is there, for 1 s now; see to the cluster (a worker that cannot import abaw leaves at once), and run the "
        "same command again"
    )


@pytest.mark.parametrize("strike", ["suspend", "kill"])
def test_a_worker_that_is_lost_before_its_result_is_fetched(
    slow_data, slow_store, process_env, monkeypatch, caplog, tmp_path, strike
):
    class Late(Driver):
        """Stops or kills the worker that has the first result, and only then asks for it."""

        struck = 0

        def _fetch(self, future):
            if future.status == "finished" and not self.struck:
                (holders,) = self._client.who_has([future]).values()
                (self.struck,) = self._client.run(os.getpid, workers=holders).values()
                getattr(psutil.Process(self.struck), strike)()
            return super()._fetch(future)

    monkeypatch.setenv("PYTHONPATH", process_env["PYTHONPATH"])
    monkeypatch.setattr("abaw.extract.driver.FETCH_S", 2.0)
    store, summary = tmp_path / "store.zarr", Summary()
    stage = Stage.open(ExtractOptions(slow_data, store, ("hog",), device="cpu"))
    with LocalWorkers(n_workers=2, threads=1, gpus=()) as cluster, Client(cluster) as client:
        driver = Late(stage, Cluster(client, 2, stall_s=15), summary, Watcher())
        driver.run(stage.plan(summary))
        assert not psutil.pid_exists(driver.struck), "it was started anew"
    assert summary.ok and len(summary.done) == N_VIDEOS
    assert_equal_stores(store, slow_store)
    gc.collect()  # what was left to itself, Python tells of here
    assert [record.message for record in caplog.records if record.name == "asyncio"] == []


def one_worker(**options):
    """A cluster with one worker of dask's own kind."""
    scheduler = {"cls": Scheduler, "options": {"dashboard_address": ":0"}}
    return SpecCluster({0: {"cls": Nanny, "options": {"nthreads": 1, **options}}}, scheduler, silence_logs="critical")


def test_a_video_that_kills_workers_which_come_back_at_the_same_address(
    slow_data, slow_store, deadly, letters, monkeypatch, run_cli, tmp_path
):
    for name, value in deadly("video-00/00002.jpg").items():
        monkeypatch.setenv(name, value)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    store, summary = tmp_path / "store.zarr", Summary()
    stage = Stage.open(ExtractOptions(slow_data, store, ("hog",), device="cpu"))
    preload = ["abaw.extract.worker"]
    with one_worker(memory_limit=0, worker_port=port, preload=preload) as cluster, Client(cluster) as client:
        Driver(stage, Cluster(client, 1, patience_s=60, deaths=2), summary, Watcher()).run(stage.plan(summary))
    assert (list(summary.failed), len(summary.done), summary.stopped) == (["video-00"], N_VIDEOS - 1, "")
    assert letters().keys() == {"video-00"} and letters()["video-00"] <= 6
    complete(slow_data, store, slow_store, run_cli)


def test_results_that_cannot_be_fetched(slow_data, process_env, monkeypatch, tmp_path):
    """Workers reach the scheduler, and it does not reach them: as behind a firewall."""
    monkeypatch.setenv("PYTHONPATH", process_env["PYTHONPATH"])
    monkeypatch.setattr("abaw.extract.driver.FETCH_S", 0.5)
    stage, summary = Stage.open(ExtractOptions(slow_data, tmp_path / "store.zarr", ("hog",), device="cpu")), Summary()
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        address = f"tcp://127.0.0.1:{deaf.getsockname()[1]}"
        with one_worker(contact_address=address) as cluster, Client(cluster) as client:
            Driver(stage, Cluster(client), summary, Watcher()).run(stage.plan(summary))
    assert summary.stopped == (
        f"results cannot be fetched: see that the scheduler reaches its workers ({address}), and run the same command again"
    )


def test_workers_that_dask_has_paused(slow_data, process_env, monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONPATH", process_env["PYTHONPATH"])
    memory = {"pause": 0.5, "terminate": False, "spill": False, "target": False}
    memory = {f"distributed.worker.memory.{limit}": value for limit, value in memory.items()}
    stage, summary = Stage.open(ExtractOptions(slow_data, tmp_path / "store.zarr", ("hog",), device="cpu")), Summary()
    with (
        dask.config.set(memory),
        one_worker(memory_limit="100MB", preload=["abaw.extract.worker"]) as cluster,
        Client(cluster) as client,
    ):
        until(
            lambda: all(worker.status == Status.paused for worker in cluster.scheduler.workers.values()), "it is paused"
        )
        Driver(stage, Cluster(client, patience_s=3), summary, Watcher()).run(stage.plan(summary))
    assert summary.stopped == (
        "dask has paused the workers for want of memory, for 3 s now; start them with --memory-limit 0, and run the same command again"
    )
    assert not summary.done and not summary.failed


BROKEN = """
import torch
from abaw.extract.runner import Runner

broken = []
Runner.plain = getattr(Runner, "plain", Runner._forward)  # dask imports this twice

def forward(self, batch):
    if any(source.video.name == "video-02" for source, _ in batch.parts):
        broken.append(True)
    if broken:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
    return self.plain(batch)

Runner._forward = forward
"""


def test_a_video_that_breaks_the_gpu_of_its_process(slow_data, slow_store, process_env, monkeypatch, tmp_path):
    """Whatever the process asks of the GPU fails from then on: it is started anew, and other videos do not suffer."""
    monkeypatch.setenv("PYTHONPATH", process_env["PYTHONPATH"])
    (tmp_path / "broken.py").write_text(BROKEN)
    store, summary = tmp_path / "store.zarr", Summary()
    stage = Stage.open(ExtractOptions(slow_data, store, ("hog",), device="cpu", batch_size=8))
    preload = ["abaw.extract.worker", str(tmp_path / "broken.py")]
    with one_worker(memory_limit=0, preload=preload) as cluster, Client(cluster) as client:
        Driver(stage, Cluster(client, 1), summary, Watcher()).run(stage.plan(summary))
    why = (
        "the device failed (CUDA error: an illegal memory access was encountered); run the same command again to go on"
    )
    assert summary.failed == {"video-02": why}
    assert len(summary.done) == N_VIDEOS - 1 and not summary.stopped
    assert extract(ExtractOptions(slow_data, store, ("hog",), device="cpu", batch_size=8)).ok
    assert_equal_stores(store, slow_store)


def test_who_is_on_the_roster(process_env, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", process_env["PYTHONPATH"])
    with one_worker(resources={"GPU": 0.5}) as cluster, Client(cluster) as client:
        client.wait_for_workers(1, timeout=DEADLINE_S)
        follower = Follower(Watcher())
        roster = Roster(Cluster(client, n_workers=2), follower)
        assert roster.look() == ""
        (address,) = roster.workers
        assert roster.bind(Order("0", ("hog",), ("v",))) == Bound(gpu=False), "half a GPU is none to give"
        roster.unfit |= {address: "it sees nothing", "tcp://of-its-last-life:1": "it saw nothing"}
        assert roster.look() == "", "the second worker may be between two jobs"
        alone = Roster(Cluster(client), follower)
        alone.unfit[address] = "it sees nothing"
        with pytest.raises(UsageError, match=rf"No worker of the cluster can do this; {address} says: it sees nothing"):
            alone.look()
        follower.hear((0.0, {"worker": "tcp://that-died:1", "life": "1", "order": "0", "frames": 0, "new": 0}))
        assert alone.look() == "", "one that could, but died, may begin anew"


def test_a_roster_with_a_paused_worker_while_its_client_looks_for_itself():
    follower, stop = Follower(Watcher()), threading.Event()
    scheduler = {"cls": Scheduler, "options": {"dashboard_address": ":0"}}
    workers = {number: {"cls": Worker, "options": {"nthreads": 1}} for number in range(2)}
    with SpecCluster(workers, scheduler) as cluster, Client(cluster) as client:

        def disturb():
            while not stop.is_set():
                client.sync(client._update_scheduler_info)

        disturbing = threading.Thread(target=disturb)
        disturbing.start()
        try:
            roster = Roster(Cluster(client), follower)
            for _ in range(200):
                roster.look()
                assert len(roster.workers) == 2
        finally:
            stop.set()
            disturbing.join()
        paused, awake = roster.workers
        client.run(lambda dask_worker: setattr(dask_worker, "status", Status.paused), workers=[paused])
        until(lambda: roster.look() == "" and roster.is_paused(paused), "the scheduler knows it")
        order = Order("0", ("hog",), ("v",))
        assert roster.bind(order) == Bound(False, (awake,))
        assert roster.bind(order.after_failure(awake)) == Bound(False), (
            "the one that has failed, or the other when it can"
        )
        assert roster.is_stranded(Bound(False, (paused,))) and not roster.is_stranded(Bound(False, (awake,)))


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
            few = extract(ExtractOptions(tiny_demo, tmp_path / "few.zarr", ("hog",)), cluster=ClusterOptions(address))
            assert few.ok
            assert_equal_stores(tmp_path / "few.zarr", tiny_store)
            with Client(address) as client:
                found = client.run(lambda dask_worker: (dask_worker.name, opened_stage.cache_info().misses))
            assert sorted(found.values()) == [("gpu", 1), ("plain", 0)], (
                "all went to one, which loaded its network once"
            )
            watcher = Watcher(gpu.kill)
            many = extract(ExtractOptions(slow_data, store, ("hog",)), watcher, ClusterOptions(address))
        assert many.ok and len(many.done) == N_VIDEOS
        assert_equal_stores(store, slow_store)
        watcher.assert_whole()
        shutil.rmtree(store)
        paths = ("--data", slow_data, "--store", store, "--scheduler", address)
        with Started.abaw("extract", *SETTINGS, *paths, environment=process_env, folder=tmp_path) as driver:
            driver.until(lambda: n_finished(store), "a video is finished")
            scheduler.kill()
            assert driver.end() == 1
            assert "Stopped early: the connection to the scheduler was lost; run the same" in driver.output
            assert "Traceback" not in driver.output
        plain.end()
    complete(slow_data, store, slow_store, run_cli)
