"""Cross-fitted post-processing: each video is post-processed by a fit on videos of other recordings and people."""

from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from pydantic import BaseModel, ConfigDict

from abaw.core.tasks import Task
from abaw.evaluate.postprocessing.postprocess import FitMethod, Postprocess, fit_postprocess
from abaw.evaluate.predictions import VideoPrediction
from abaw.train.data.folds import assign_folds, group_videos

MOST_GROUPS = 5


class CrossFit(BaseModel):
    """A group of videos, and the post-processing that was fitted on all other groups."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    videos: tuple[str, ...]
    postprocess: Postprocess


class HasPerson(Protocol):
    """Labels or predictions of a video."""

    @property
    def person(self) -> str:
        """Who is in the video; empty if unknown."""


def can_cross_fit(task: Task, videos: Mapping[str, HasPerson]) -> bool:
    """True if videos are of two people or recordings or more; images without people have no such groups."""
    has_groups = task.level != "image" or all(video.person for video in videos.values())
    return has_groups and _n_groups(task, videos) > 1


def n_fits(task: Task, videos: Mapping[str, HasPerson]) -> int:
    """How many fits `cross_fit` does for predictions of these videos."""
    return min(MOST_GROUPS, _n_groups(task, videos))


def _n_groups(task: Task, videos: Mapping[str, HasPerson]) -> int:
    return len(group_videos(videos.keys(), _people(videos), task.level != "image"))


def _people(videos: Mapping[str, HasPerson]) -> dict[str, str]:
    return {name: video.person for name, video in videos.items()}


def cross_fit(
    task: Task,
    predictions: Mapping[str, VideoPrediction],
    method: FitMethod | None = None,
    on_tried: Callable[[], None] = lambda: None,
) -> tuple[CrossFit, ...]:
    """Deal videos into up to five groups of similar size and fit for each group on all others.

    Args:
        predictions: by video, with labels; see `can_cross_fit`.
        on_tried: called after each candidate of each fit, see `fit_postprocess`.
    """
    n_groups = n_fits(task, predictions)
    n_rows = {video: len(one.outputs) for video, one in predictions.items()}
    groups = assign_folds(n_rows, n_groups, _people(predictions), task.level != "image")
    fits = []
    for number in range(1, n_groups + 1):
        others = {video: one for video, one in predictions.items() if groups[video] != number}
        videos = sorted(video for video, group in groups.items() if group == number)
        fits.append(CrossFit(videos=tuple(videos), postprocess=fit_postprocess(task, others, method, on_tried)))
    return tuple(fits)


def apply_cross_fit(
    task: Task, fits: Collection[CrossFit], rest: Postprocess, predictions: Mapping[str, VideoPrediction]
) -> dict[str, VideoPrediction]:
    """Post-process the videos of each group by its own fit, and all others by `rest`."""
    by_video = {video: fit.postprocess for fit in fits for video in fit.videos}
    return {
        video: by_video.get(video, rest).apply_to(task, {video: prediction})[video]
        for video, prediction in predictions.items()
    }
