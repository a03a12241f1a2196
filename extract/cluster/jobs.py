"""Pieces of work for the workers of a cluster."""

from dataclasses import dataclass, replace

from abaw.core.parts import split_evenly
from abaw.extract.plan import ExtractionPlan

JOBS_PER_WORKER = 8  # more jobs end at about the same time; fewer fill batches better
FRAMES_PER_JOB = 20_000  # at most, except for a longer video: what is lost when a worker dies


@dataclass(frozen=True)
class Job:
    """Videos for one worker to extract.

    Attributes:
        name: unique among the jobs of a driver.
        pending: the features that the videos lack.
        videos: their names.
        failed_on: addresses of the workers on which it failed; empty for one that is unknown.
    """

    name: str
    pending: tuple[str, ...]
    videos: tuple[str, ...]
    failed_on: tuple[str, ...] = ()

    def after_failure(self, worker: str) -> "Job":
        """The same job with one more failed attempt."""
        return replace(self, failed_on=(*self.failed_on, worker))

    def split(self) -> list["Job"]:
        """One job for each of the videos."""
        return [Job(f"{self.name}/{video}", self.pending, (video,)) for video in self.videos]


def make_jobs(plan: ExtractionPlan, n_workers: int) -> list[Job]:
    """Cut a plan into jobs of about equal numbers of frames, the largest videos first."""
    frames_per_job = max(1, min(FRAMES_PER_JOB, plan.n_crops // (n_workers * JOBS_PER_WORKER)))
    jobs: list[Job] = []
    for pending, sizes in plan.groups.items():
        n_jobs = min(len(sizes), max(1, -(-sum(sizes.values()) // frames_per_job)))
        shares = [tuple(names) for names in split_evenly(sizes, n_jobs) if names]
        jobs += [Job(f"{len(jobs) + number}", pending, names) for number, names in enumerate(shares)]
    return jobs
