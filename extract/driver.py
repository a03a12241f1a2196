"""Extraction on the workers of a dask cluster.

The driver plans and follows; a worker opens the stage once (its networks stay loaded), takes groups of videos of about
equal numbers of frames, and writes them whole. What a worker that dies had not finished goes to another one.
"""

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from distributed import Client, get_worker, wait

from abaw.errors import UsageError
from abaw.extract.cluster import ClusterOptions, connected
from abaw.extract.plan import split_evenly
from abaw.extract.request import ExtractOptions
from abaw.extract.sink import Summary
from abaw.extract.stage import Groups, Stage
from abaw.reporting import Reporter

TOPIC = "abaw-extract"
TASKS_PER_WORKER = 8  # more even out the end, fewer fill batches better
FRAMES_PER_TASK = 20_000  # at most, but for a longer video: what is lost when a worker dies
EVENT_S = 0.5  # between two reports of a worker
LOOK_S = 2.0  # between two looks of the driver
RETRIES = 2  # of a task that raised
WAIT_FOR_WORKERS_S = 600.0


@dataclass
class Follower:
    """What the workers have reported: frames of the latest try of each task, and of each worker."""

    reporter: Reporter
    n_shown: int = 0
    tasks: dict[int, tuple[str, int]] = field(default_factory=dict)
    workers: dict[str, tuple[int, float, float]] = field(default_factory=dict)

    def hear(self, event: tuple[float, Mapping[str, Any]]) -> None:
        """Take one report of a worker."""
        _, said = event
        now = time.monotonic()
        attempt, before = self.tasks.get(said["task"], ("", 0))
        self.tasks[said["task"]] = said["attempt"], said["frames"]
        n_new = said["frames"] - (before if attempt == said["attempt"] else 0)
        frames, first, _ = self.workers.get(said["worker"], (0, now, now))
        self.workers[said["worker"]] = frames + n_new, first, now
        total = sum(frames for _, frames in self.tasks.values())
        # a task that began anew counts from 0: the bar waits for it
        if total > self.n_shown:
            self.reporter.advance(total - self.n_shown, self.rates())
            self.n_shown = total

    def rates(self) -> str:
        """Frames a second of each worker since its first report."""
        each = [f"{frames / max(last - first, 1.0):.0f}" for frames, first, last in self.workers.values()]
        return f"{len(each)} workers: {' '.join(each[:8])}{' ...' if len(each) > 8 else ''} frames/s"

    def silent(self, worker: str, since: float, stall_s: float) -> bool:
        """True if a worker has said nothing for `stall_s`, counted from `since` where it never said anything."""
        last = self.workers.get(worker, (0, since, since))[2]
        return time.monotonic() - max(last, since) > stall_s


def run_on_cluster(stage: Stage, groups: Groups, options: ClusterOptions, summary: Summary, reporter: Reporter) -> None:
    """Extract groups of videos on a cluster; what was done, and what failed, goes into the summary.

    Raises:
        UsageError: there is no such cluster, or no worker came.
    """
    with connected(options) as (client, stall_s):
        try:
            client.wait_for_workers(1, timeout=WAIT_FOR_WORKERS_S)
        except TimeoutError as error:
            raise UsageError(
                f"No worker came within {WAIT_FOR_WORKERS_S:.0f} s. Look into the cluster's queue."
            ) from error
        follower = Follower(reporter)
        client.subscribe_topic(TOPIC, follower.hear)
        workers = client.scheduler_info(n_workers=-1)["workers"].values()
        # a task that asks for what no worker has would wait forever
        resources = {"GPU": 1} if any("GPU" in worker["resources"] for worker in workers) else None
        futures = {
            client.submit(
                extract_videos, stage.options, number, pending, names, retries=RETRIES, resources=resources, pure=False
            ): names
            for number, (pending, names) in enumerate(make_tasks(groups, len(workers)))
        }
        try:
            _follow(client, futures, follower, summary, stall_s)
        except KeyboardInterrupt:
            client.cancel(list(futures))
            summary.stopped = "interrupted; run the same command again to go on"


def make_tasks(groups: Groups, n_workers: int) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """The work in tasks of about equal numbers of frames, the largest videos first: features wanted, names of videos."""
    sizes = {
        pending: {video.name: len(video.crops().numbers) for video in videos} for pending, videos in groups.items()
    }
    total = sum(sum(by_name.values()) for by_name in sizes.values())
    frames_per_task = max(1, min(FRAMES_PER_TASK, total // (n_workers * TASKS_PER_WORKER)))
    tasks = []
    for pending, by_name in sizes.items():
        n_tasks = min(len(by_name), max(1, -(-sum(by_name.values()) // frames_per_task)))
        tasks += [(pending, tuple(names)) for names in split_evenly(by_name, n_tasks) if names]
    return tasks


def _follow(
    client: Client, futures: Mapping[Any, Sequence[str]], follower: Follower, summary: Summary, stall_s: float
) -> None:
    running, since = set(futures), time.monotonic()
    while running:
        try:
            finished = wait(running, timeout=LOOK_S, return_when="FIRST_COMPLETED").done
        except TimeoutError:
            finished = set()
        for future in finished:
            running.discard(future)
            if future.status == "finished":
                summary.add(future.result())
            else:
                error = future.exception()
                summary.failed |= {name: f"{type(error).__name__}: {error}" for name in futures[future]}
        if finished:
            continue
        busy = [worker for worker, keys in client.processing().items() if keys]
        hanging = [worker for worker in busy if follower.silent(worker, since, stall_s)]
        if hanging:
            client.restart_workers(hanging, raise_for_error=False)
            since = time.monotonic()


@lru_cache(maxsize=1)
def opened_stage(options: ExtractOptions) -> Stage:
    """The stage of this process, opened once for all tasks."""
    return Stage.open(options)


def extract_videos(options: ExtractOptions, task: int, pending: tuple[str, ...], names: tuple[str, ...]) -> Summary:
    """Extract some videos on a worker, which tells the driver how far it is.

    Args:
        task: number of the task.
        pending: the features that the videos lack.
    """
    stage, summary = opened_stage(options), Summary()
    videos = {video.name: video for video in stage.dataset.videos}
    worker, attempt = get_worker(), uuid.uuid4().hex
    n_frames, said = 0, time.monotonic()

    def tell(n: int) -> None:
        nonlocal n_frames, said
        n_frames += n
        if time.monotonic() - said > EVENT_S:
            say()

    def say() -> None:
        nonlocal said
        said = time.monotonic()
        worker.log_event(TOPIC, {"task": task, "attempt": attempt, "frames": n_frames, "worker": worker.address})

    say()
    stage.run({pending: [videos[name] for name in names]}, summary, tell)
    say()
    if summary.stopped:
        raise RuntimeError(summary.stopped)
    return summary
