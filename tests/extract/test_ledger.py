"""The ledger of a cluster's driver: which videos are given up, which jobs are split, and when the work stops."""

import pytest

from abaw.core.progress import Stop, Summary
from abaw.extract.cluster.jobs import Job
from abaw.extract.cluster.ledger import Ledger
from abaw.extract.cluster.worker_progress import PAUSE_S, Report, StallDetector, WorkerProgress
from abaw.tests.support.processes import Watcher

DIED = "each worker that had it died, perhaps for want of memory; see the workers' logs"
HUNG = "its worker hung"
AGAIN = "run the same command again"


class Bench:
    """A ledger with jobs that run, and workers that report."""

    def __init__(self, *jobs: str, max_deaths: int = 2) -> None:
        """Each job is its name and its videos, as `"0: a b"`."""
        self.summary, self.progress = Summary(), WorkerProgress(Watcher())
        self.ledger = Ledger(self.summary, self.progress, max_deaths)
        for name, videos in (job.split(": ") for job in jobs):
            self.ledger.add([Job(name, ("hog",), tuple(videos.split()))])
        self.start(len(jobs))

    def start(self, n_jobs: int) -> list[str]:
        return [self.ledger.start_next().name for _ in range(n_jobs)]

    def report(self, process: str, job: str, frames: int = 0, begins: bool = True) -> None:
        report: Report = {
            "worker": f"tcp://of-{process}",
            "process": process,
            "job": job,
            "begins": begins,
            "frames": frames,
            "new": frames,
        }
        self.progress.take((0.0, report))

    def die_at(self, process: str, job: str) -> None:
        """A worker begins a job and dies."""
        self.report(process, job)
        self.ledger.record_death(process)

    @property
    def waiting(self) -> list[tuple[str, ...]]:
        return [job.videos for job in self.ledger.waiting]


def done(*videos: str, failed: dict[str, str] | None = None) -> Summary:
    return Summary(done=list(videos), n_frames=10 * len(videos), failed=failed or {})


# jobs without trouble


def test_jobs_run_in_their_order_until_all_are_done():
    bench = Bench("0: a b", "1: c")
    assert list(bench.ledger.running) == ["0", "1"] and not bench.ledger.waiting and not bench.ledger.is_over
    bench.ledger.finish("1", done("c"))
    bench.ledger.finish("0", done("a", failed={"b": "b is corrupt"}))
    assert bench.summary.done == ["c", "a"] and bench.summary.failed == {"b": "b is corrupt"}
    assert bench.summary.n_frames == 20 and not bench.summary.stopped and bench.ledger.is_over


def test_a_job_that_is_taken_back_runs_next_and_is_not_to_blame():
    bench = Bench("0: a b", max_deaths=1)
    bench.ledger.add([Job("1", ("hog",), ("c",))])
    for _ in range(10):
        bench.ledger.requeue("0")
        assert bench.waiting == [("a", "b"), ("c",)]
        assert bench.start(1) == ["0"]
    assert bench.summary == Summary()


def test_what_is_recorded_of_a_job_that_has_ended_is_ignored():
    bench = Bench("0: a b", "1: c")
    bench.ledger.finish("0", done("a", "b"))
    bench.ledger.finish("0", done("a", "b"))
    bench.ledger.requeue("0")
    bench.ledger.record_failure("0", "tcp://w", HUNG, "hang")
    for number in range(20):
        bench.ledger.record_return("0", "")
        bench.die_at(f"late {number}", "0")
    assert bench.summary == done("a", "b") and list(bench.ledger.running) == ["1"] and not bench.ledger.waiting


# deaths of workers


def test_the_death_of_a_worker_counts_once_against_the_job_that_it_was_at():
    bench = Bench("0: a b", "1: c d")
    for _ in range(5):
        bench.die_at("p", "0")
    assert list(bench.ledger.running) == ["0", "1"], "one death, seen five times"
    bench.report("q", "0")
    bench.report("q", "1")
    bench.report("q", "0", frames=8, begins=False)  # the last report of the job before arrives late
    bench.ledger.record_death("q")
    assert list(bench.ledger.running) == ["0", "1"], "it was at the other one"
    bench.die_at("r", "0")
    assert list(bench.ledger.running) == ["1"] and bench.waiting == [("a",), ("b",)]


def test_the_second_death_isolates_the_videos_and_the_culprit_fails_alone():
    bench = Bench("0: a b c")
    bench.progress.n_shown = 1
    bench.die_at("p", "0")
    assert list(bench.ledger.running) == ["0"]
    bench.die_at("q", "0")
    assert bench.waiting == [("a",), ("b",), ("c",)] and not bench.summary.failed
    first, culprit, last = bench.start(3)
    bench.ledger.finish(first, done("a"))
    bench.die_at("r", culprit)
    assert not bench.summary.failed, "others may try it"
    bench.die_at("s", culprit)
    bench.ledger.finish(last, done("c"))
    assert bench.summary.failed == {"b": DIED} and bench.summary.done == ["a", "c"]
    assert bench.ledger.is_over and not bench.summary.stopped


def test_machines_that_are_taken_away_need_more_deaths():
    bench = Bench("0: a", max_deaths=4)
    bench.progress.n_shown = 1
    for number in range(3):
        bench.die_at(f"p{number}", "0")
        assert list(bench.ledger.running) == ["0"] and not bench.summary.failed
    bench.die_at("last", "0")
    assert bench.summary.failed == {"a": DIED}


def test_deaths_that_are_nobodys_fault():
    bench = Bench("0: a", max_deaths=1)
    bench.ledger.record_death("never began a job")
    bench.report("p", "0")
    bench.ledger.record_death("p", finished=["0"])
    bench.report("q", "0")
    bench.ledger.ignore_death("q")
    bench.ledger.record_death("q")
    bench.ledger.ignore_death("")  # a restarted worker that had never reported
    assert list(bench.ledger.running) == ["0"] and not bench.summary.failed
    bench.ledger.record_death("", otherwise="0")
    assert bench.summary.failed == {"a": DIED}, "there is nothing else to blame"


def test_jobs_that_dask_returns():
    """It names the worker that died last, which may have been at another job, or at none."""
    bench = Bench("0: a", "1: b", max_deaths=3)
    bench.progress.n_shown = 1
    bench.report("p", "0")
    bench.ledger.record_return("1", "p")  # counts against 0
    bench.report("q", "over")
    bench.ledger.record_return("1", "q")  # counts against none
    bench.ledger.record_return("1", "")  # it never reported: counts against 1
    bench.ledger.record_return("1", "")
    assert list(bench.ledger.running) == ["0", "1"]
    bench.die_at("r", "0")
    assert list(bench.ledger.running) == ["0", "1"]
    bench.die_at("s", "0")
    assert bench.summary.failed == {"a": DIED}
    for _ in range(3):
        bench.ledger.record_return("1", "q")
    assert list(bench.ledger.running) == ["1"]
    bench.ledger.record_return("1", "q")
    assert bench.summary.failed == {"a": DIED, "b": DIED}, "at the eighth it is to blame, whatever its workers were at"


# failures


def test_a_job_that_fails_is_split_and_a_video_fails_on_the_second_worker():
    bench = Bench("0: a b")
    bench.ledger.record_failure("0", "tcp://w", "no memory")
    assert bench.waiting == [("a",), ("b",)] and not bench.summary.failed
    first, _ = bench.start(2)
    bench.ledger.record_failure(first, "tcp://w", "no memory")
    (again,) = bench.ledger.waiting
    assert again.videos == ("a",) and again.failed_on == ("tcp://w",), "another worker is to try it"
    bench.start(1)
    bench.ledger.record_failure(first, "tcp://v", "the disk is gone")
    assert bench.summary.failed == {"a": "the disk is gone"} and not bench.ledger.waiting


def test_a_worker_that_hangs_is_blamed_on_the_job_that_it_is_at():
    bench = Bench("0: a", "1: b", "2: c")
    bench.report("p", "1")
    assert bench.ledger.suspects("p", ["0", "1", "over"]) == ["1"]
    assert bench.ledger.suspects("p", ["0", "1"], may_begin=False) == ["1"]
    for process in ("", "never reported", "p"):
        assert bench.ledger.suspects(process, ["0", "2", "over"]) == ["0", "2"], "it may be at any of them"
        assert bench.ledger.suspects(process, ["0", "2"], may_begin=False) == []


def test_frames_of_a_job_that_is_split_count_under_its_videos():
    bench = Bench("0: a b")
    bench.report("p", "0", frames=12)
    bench.ledger.record_failure("0", "tcp://w", "no memory")
    for video, frames in zip(bench.start(2), (9, 7), strict=True):
        bench.report("p", video, frames)
    bench.report("p", "0", frames=14, begins=False)
    watcher = bench.progress.reporter
    assert (bench.progress.n_shown, watcher.n_frames, watcher.steps) == (16, 16, [12, 4])


def test_a_job_that_is_restarted_counts_from_its_beginning_and_the_bar_waits_for_it():
    bench = Bench("0: a", "1: b")
    bench.report("p", "0", frames=12)
    bench.report("q", "0", frames=4)
    bench.report("r", "1", frames=5)
    assert bench.progress.n_shown == 17
    bench.report("q", "0", frames=14)
    assert bench.progress.n_shown == 19


# when the work stops


def test_three_jobs_whose_workers_die_before_any_frame_stop_the_work():
    bench = Bench("0: a b", "1: c", "2: d e", "3: f")
    for job in ("0", "1"):
        bench.die_at(f"{job} first", job)
        bench.die_at(f"{job} second", job)
    assert not bench.summary.stopped
    bench.die_at("2 first", "2")
    bench.die_at("2 second", "2")
    assert bench.summary.stopped == Stop(
        "cluster failed", f"workers die before they finish a frame; see their logs and their memory, and {AGAIN}"
    )
    assert bench.summary.failed == {"c": DIED} and bench.ledger.is_over
    bench.die_at("3 first", "3")
    bench.die_at("3 second", "3")
    assert "f" not in bench.summary.failed, "after the stop no video is blamed"


def test_three_jobs_that_hang_before_any_frame_stop_the_work():
    bench = Bench("0: a b", "1: c d", "2: e f")
    for job in ("0", "1", "2"):
        assert not bench.summary.stopped
        bench.ledger.record_failure(job, f"tcp://of-{job}", HUNG, "hang")
    assert bench.summary.stopped == Stop(
        "cluster failed", f"workers hang before they finish a frame; see their logs and their memory, and {AGAIN}"
    )
    assert not bench.summary.failed


@pytest.mark.parametrize("progress", ["frames", "videos", "errors"])
def test_jobs_do_not_stop_the_work_if_others_make_progress_or_their_failure_is_their_own(progress):
    bench = Bench("9: z", *(f"{number}: v{number} w{number}" for number in range(5)))
    if progress == "frames":
        bench.report("p", "9", frames=1)
    elif progress == "videos":
        bench.ledger.finish("9", done("z"))
    for number in range(5):
        bench.ledger.record_failure(f"{number}", "tcp://w", HUNG, "" if progress == "errors" else "hang")
    assert not bench.summary.stopped and len(bench.ledger.waiting) == 10


def test_results_that_cannot_be_fetched_stop_the_work():
    bench = Bench("0: a")
    workers = ["tcp://w", "tcp://v"]
    for _ in range(3):
        for _ in range(5):
            bench.ledger.record_unfetched(workers)
        bench.ledger.record_fetched()
    for _ in range(5):
        bench.ledger.record_unfetched(workers)
    assert not bench.summary.stopped, "three, and one for each worker, may be lost in a row"
    bench.ledger.record_unfetched(workers)
    assert bench.summary.stopped and bench.summary.stopped.sentence == (
        f"results cannot be fetched: see that the scheduler reaches its workers (tcp://w, tcp://v), and {AGAIN}"
    )


def test_the_first_reason_to_stop_counts():
    bench = Bench("0: a")
    bench.ledger.stop("the first")
    bench.ledger.stop("the second")
    assert bench.summary.stopped == Stop("cluster failed", "the first")


# workers that hang


def test_a_worker_hangs_if_it_has_work_and_does_not_report():
    stalls = StallDetector(stall_s=10)
    assert stalls.find_hanging({"a": 0.0, "b": 0.0}, 1000.0) == []
    assert stalls.find_hanging({"a": 0.0, "b": 1003.0}, 1010.0) == []
    assert stalls.find_hanging({"a": 0.0, "b": 1003.0, "new": 0.0}, 1011.0) == ["a"]
    assert stalls.find_hanging({"a": 0.0, "b": 1003.0, "new": 0.0}, 1014.0) == ["b"], "the other one is restarted"
    assert stalls.find_hanging({"a": 0.0}, 1023.0) == [] and stalls.find_hanging({"a": 0.0}, 1025.0) == ["a"]


def test_a_worker_without_work_does_not_hang():
    stalls = StallDetector(stall_s=10)
    stalls.find_hanging({"a": 0.0}, 1000.0)
    stalls.find_hanging({}, 1009.0)
    assert stalls.find_hanging({"a": 0.0}, 1011.0) == [] and stalls.find_hanging({"a": 0.0}, 1022.0) == ["a"]


def test_after_the_driver_was_suspended_every_worker_has_its_time_again():
    stalls = StallDetector(stall_s=10)
    stalls.find_hanging({"a": 0.0}, 1000.0)
    resumed = 1001.0 + PAUSE_S
    assert stalls.find_hanging({"a": 0.0}, resumed) == []
    assert stalls.find_hanging({"a": 0.0}, resumed + 9.0) == []
    assert stalls.find_hanging({"a": 0.0}, resumed + 11.0) == ["a"]
