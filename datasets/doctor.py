"""Checking a dataset: what is missing, what is broken, and whether labels fit the videos."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from abaw.core.clock import Clock
from abaw.core.errors import DataError, some_of
from abaw.core.names import SIDES, near_video
from abaw.core.people import describe_shared, without_side
from abaw.core.progress import Reporter, Silent
from abaw.core.tasks import TASKS, Task
from abaw.datasets.dataset import Dataset, Labels
from abaw.datasets.frames import BrokenFrame, FrameSource, Video
from abaw.datasets.layouts import look_through, open_dataset
from abaw.datasets.mtl import doubles_of
from abaw.datasets.named_people import with_people
from abaw.datasets.still_reports import describe_stills
from abaw.datasets.transcripts import describe_transcripts, find_transcripts, transcript_place
from abaw.datasets.unread import MOST_NAMED, find_unread

DECODE_THREADS = 8
MOST_SUGGESTED, MOST_COMPARED = 20, 5_000  # missing videos for which names of so many others are compared
USUAL_DIFFERENCE, USUAL_SHARE = 2, 0.01  # between label rows and frames of the video file; the larger limit counts
# more than that many times as many label rows as frames up to the last crop belong to another video
MOST_AFTER_CROPS = 100


@dataclass(frozen=True)
class VideoReport:
    """Findings about one video, or about a file or folder that is not a video.

    Attributes:
        video: its name.
        split: "train", "val", "train+val" (an error), or "" without labels.
        fps, n_frames: of the video file, or assumed.
        n_crops: frames with a crop; the others are `n_missing`.
        n_runs: runs of consecutive missing frames.
        extra_rows: by task, label rows minus frames; a difference of one is normal. For files that list only some frames
            (`mtl`), rows after the last frame; 0 for labels of whole videos.
        n_labelled_rows: by task, label rows with at least one annotated value: the scores of `abaw eval` are over these.
        n_labels_without_crop: by task, rows (all, or those of listed frames) without a crop.
        n_crops_without_label: by task, crops after the last label row, or of frames that are not listed.
        warnings, errors: sentences; only errors must be fixed.
        is_guessed: the number of frames is that of the last crop, because there is no video file.
        paths: files and folders that are not read, relative to the data folder.
        kind: "video"; "remark" about a file or folder that is not a video; "unread" for files that are not read; "stills"
            about a set of still images, whose kind takes the place of a name; "people" about those in train and val.
        person: who is in a labelled video; empty if unknown.
    """

    video: str
    split: str = ""
    fps: float = 0.0
    n_frames: int = 0
    n_crops: int = 0
    n_runs: int = 0
    extra_rows: dict[str, int] = field(default_factory=dict)
    n_labels_without_crop: dict[str, int] = field(default_factory=dict)
    n_crops_without_label: dict[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()
    is_guessed: bool = False
    kind: Literal["video", "remark", "unread", "stills", "people"] = "video"
    paths: tuple[str, ...] = ()
    n_labelled_rows: dict[str, int] = field(default_factory=dict)
    person: str = ""

    @property
    def n_missing(self) -> int:
        """Frames without a crop."""
        return self.n_frames - self.n_crops


def examine(dataset: Dataset, on_video: Callable[[], None] = lambda: None) -> list[VideoReport]:
    """Read every crop, the timing of every clip and every label, and report on each video, even if it has only labels.

    There are also reports on the remarks of the dataset, under the names of files and folders, and on what is not read.

    Args:
        on_video: called after each video, for a progress bar.
    """
    labels: dict[str, list[Labels]] = {}
    for label in dataset.labels:
        labels.setdefault(label.video, []).append(label)
    reports = []
    with ThreadPoolExecutor(DECODE_THREADS) as pool:
        for video in dataset.videos:
            reports.append(_examine_video(dataset, video, labels.pop(video.name, []), pool))
            on_video()
    names = [video.name for video in dataset.videos]
    for number, (name, remaining) in enumerate(labels.items()):
        near = near_video(name, names) if number < MOST_SUGGESTED and len(names) <= MOST_COMPARED else ""
        reports.append(_report_absent(name, remaining, near))
    for remark in dataset.remarks:
        errors, warnings = ((remark.sentence,), ()) if remark.is_error else ((), (remark.sentence,))
        reports.append(VideoReport(remark.about, warnings=warnings, errors=errors, kind="remark"))
    person_of = {label.video: dataset.person_of(label) for label in dataset.labels}
    reports = [replace(report, person=person_of.get(report.video, "")) for report in reports]
    return [*reports, *_report_shared(reports), *report_transcripts(dataset), *report_unread(dataset)]


def _report_shared(reports: Sequence[VideoReport]) -> Iterator[VideoReport]:
    """A report on the people who are in videos of two splits."""
    people: dict[str, set[str]] = {}
    for report in reports:
        people.setdefault(report.split, set()).add(report.person or report.video)
    if sentence := describe_shared(people.get("train", ()), people.get("val", ()), "val"):
        yield VideoReport("people", warnings=(sentence,), kind="people")


def examine_folder(
    data: Path, fps: float | None = None, reporter: Reporter | None = None, people: str = ""
) -> list[VideoReport]:
    """Examine the dataset in a folder, see `examine`; for a set of still images there is one report.

    Args:
        fps: frame rate of videos without a video file.
        people: who is in the videos, see `abaw.datasets.named_people.with_people`.

    Raises:
        DataError: the folder has no dataset. Its unread files have been reported before.
    """
    reporter = reporter or Silent()
    try:
        dataset = open_dataset(data, fps)
    except DataError:
        if data.is_dir() and (stills := describe_stills(data, reporter)) is not None:
            return [VideoReport(stills[0], warnings=tuple(stills[1]), kind="stills")]
        with suppress(DataError):
            for report in report_unread(look_through(data, fps)):
                reporter.warn(f"Not read: {report.warnings[0]}.")
        raise
    dataset = with_people(dataset, people) if people else dataset
    dataset.time_videos(dataset.videos, reporter)
    reporter.start("doctor", len(dataset.videos), "videos")
    reports = examine(dataset, reporter.advance)
    reporter.finish()
    return reports


def totals(reports: Sequence[VideoReport]) -> dict[str, Any]:
    """Sums over all videos and over the labels of each task, and the pairs of people in one video."""
    tasks = sorted({task for report in reports for task in report.extra_rows})
    labelled = {task: [report for report in reports if task in report.extra_rows] for task in tasks}
    return {
        "videos": sum(report.kind == "video" for report in reports),
        "frames": sum(report.n_frames for report in reports),
        "crops": sum(report.n_crops for report in reports),
        "missing": sum(report.n_missing for report in reports),
        "errors": sum(len(report.errors) for report in reports),
        "labels": {
            task: {
                "videos": len(videos),
                "labelled_rows": _by_split(task, videos),
                "extra_rows": sum(max(0, report.extra_rows[task]) for report in videos),
                "missing_rows": sum(max(0, -report.extra_rows[task]) for report in videos),
                "labels_without_crop": sum(report.n_labels_without_crop[task] for report in videos),
                "crops_without_label": sum(report.n_crops_without_label[task] for report in videos),
            }
            for task, videos in labelled.items()
        },
        "left_right_pairs": left_right_pairs(reports),
        "people": len({report.person for report in reports if report.person not in ("", without_side(report.video))}),
    }


def _by_split(task: str, reports: Sequence[VideoReport]) -> dict[str, int]:
    """The labelled rows of a task in each split."""
    splits = sorted({report.split for report in reports})
    return {
        split: sum(report.n_labelled_rows.get(task, 0) for report in reports if report.split == split)
        for split in splits
    }


def report_transcripts(dataset: Dataset) -> list[VideoReport]:
    """A report on the transcripts of a dataset: how many videos have one, and which cannot be read."""
    place = transcript_place(dataset.root)
    if place is None:
        return []
    try:
        transcripts = find_transcripts(dataset.root)
    except DataError as error:
        return [VideoReport(place.name, errors=(str(error),), kind="remark")]
    warnings, errors = [describe_transcripts(dataset, transcripts)], []
    used: set[Path] = set()
    for video in dataset.videos:
        try:
            if (source := transcripts.of(video, dataset.people)) is not None:
                used.add(source.file)
                warnings += source.read().notes
        except DataError as error:
            errors.append(str(error))
    unclear = transcripts.unclear
    names = [name for name, source in transcripts.of_video.items() if source.file not in used and name not in unclear]
    if names and used:
        warnings.append(f"{len(names):,} transcripts are of no video here: {some_of(names, MOST_NAMED)}")
    reports = [VideoReport(place.name, warnings=tuple(dict.fromkeys(warnings)), kind="remark")]
    # apart: a list of errors takes the place of warnings
    return reports + ([VideoReport(place.name, errors=tuple(errors), kind="remark")] if errors else [])


def report_unread(dataset: Dataset) -> list[VideoReport]:
    """A report for each folder with files that are not read, and for each reason; `paths` lists all of them."""
    return [
        VideoReport(unread.paths[0], warnings=(unread.sentence,), kind="unread", paths=unread.paths)
        for unread in find_unread(dataset)
    ]


def _report_absent(name: str, labels: list[Labels], near: str) -> VideoReport:
    """The report on a video that has only labels; some clips of VGAF are no longer available.

    Args:
        near: a question with videos of similar names; empty without such.
    """
    label_rows, errors = _read(labels)
    if any(TASKS[label.task].level == "video" for label in labels):
        no_counts = {label.task: 0 for label in labels}
        without_crop = {label.task: len(label_rows.get(label.task, (0,))) for label in labels}
        missing = f"{labels[0].path.name} labels this clip, but the clip is missing"
        warnings = (f"{missing}. {near}".rstrip(". "),)
        counts = (no_counts, without_crop, no_counts)
        n_labelled = _labelled_rows(labels, label_rows)
        return VideoReport(
            name, _split(labels), 0.0, 0, 0, 0, *counts, warnings, tuple(errors), n_labelled_rows=n_labelled
        )
    sentence = f"{labels[0].path} labels a video without crops: {name}. {near}".strip()
    return VideoReport(name, _split(labels), errors=(*errors, sentence))


def _examine_video(dataset: Dataset, video: Video, labels: list[Labels], pool: ThreadPoolExecutor) -> VideoReport:
    frames = dataset.open(video)
    try:
        clock, rows = frames.clock(), frames.rows
    except DataError as error:  # a broken clip, or a crop with number 0
        return VideoReport(video.name, _split(labels), errors=(*_read(labels)[1], str(error)))
    except OSError as error:  # its folder cannot be read
        sentence = f"{error.filename or video.path} cannot be read ({error.strerror}). Check its permissions."
        return VideoReport(video.name, _split(labels), errors=(*_read(labels)[1], sentence))
    present = np.zeros(clock.n_frames, dtype=np.bool_)
    present[rows] = True
    label_rows, label_errors = _read(labels)
    # pictures spread over a clip, whose labels of frames count by their time where they train those of the whole clip
    is_spread = clock.is_sampled and any(TASKS[task].level == "video" for task in label_rows)
    counts = {task: _against_frames(TASKS[task], values, present, is_spread) for task, values in label_rows.items()}
    remarks = frames.remarks()
    warnings = [clock.warning] if clock.warning else []
    warnings += [remark.sentence for remark in remarks if not remark.is_error]
    if not len(rows):
        warnings.append("no crop at all")
    warnings += _mismatches(video, clock, {task: extra for task, (extra, _, _) in counts.items()}, labels)
    errors = [*label_errors, *(remark.sentence for remark in remarks if remark.is_error)]
    if frames.divisible:  # otherwise the clock has already read the whole file
        errors += _broken(frames, pool)
    return VideoReport(
        video=video.name,
        split=_split(labels),
        fps=clock.fps,
        n_frames=clock.n_frames,
        is_guessed=clock.is_guessed,
        n_crops=len(rows),
        n_runs=int(np.sum(~present & np.append(True, present[:-1]))),
        extra_rows={task: extra for task, (extra, _, _) in counts.items()},
        n_labelled_rows=_labelled_rows(labels, label_rows),
        n_labels_without_crop={task: no_crop for task, (_, no_crop, _) in counts.items()},
        n_crops_without_label={task: no_label for task, (_, _, no_label) in counts.items()},
        warnings=tuple(warnings),
        errors=tuple(errors),
    )


def _mismatches(video: Video, clock: Clock, extra_rows: dict[str, int], labels: Sequence[Labels]) -> Iterator[str]:
    """Sentences about labels whose length differs from the video. Without a video file the last frames may lack crops."""
    paths = {label.task: label.path for label in labels}
    for extra in dict.fromkeys(extra_rows.values()):
        tasks = sorted(task for task, task_extra in extra_rows.items() if task_extra == extra)
        compared = f"{abs(extra):,} label rows {'more' if extra > 0 else 'fewer'} than frames ({', '.join(tasks)})"
        if extra > MOST_AFTER_CROPS * max(clock.n_frames, MOST_AFTER_CROPS):
            path = paths[tasks[0]]
            yield f"{path.name} has {clock.n_frames + extra:,} rows for {clock.n_frames:,} frames: does it belong to this video?"
        elif video.file is None or clock.is_guessed:
            continue
        elif abs(extra) > max(USUAL_DIFFERENCE, USUAL_SHARE * clock.n_frames):
            yield f"{compared}: is {video.file.name} the right video?"


def _against_frames(
    task: Task, rows: NDArray, present: NDArray[np.bool_], is_spread: bool = False
) -> tuple[int, int, int]:
    """Extra label rows, labels without a crop and crops without a label.

    Args:
        task: of the labels.
        rows: (rows, columns) labels.
        present: (frames,) True where the frame has a crop.
        is_spread: the frames are not those of the labels.
    """
    if task.level == "video" or is_spread:  # one row for all frames
        return 0, 0 if present.any() else len(rows), 0
    n_extra = len(rows) - len(present)
    labelled: NDArray[np.bool_] = np.ones(len(rows), dtype=np.bool_)
    if task.parts:  # only some frames are listed; the rows of the others are invalid
        labelled, n_extra = np.any(task.valid(rows), axis=1), max(0, n_extra)
    n_both = int(np.sum(labelled[: len(present)] & present[: len(rows)]))
    return n_extra, int(labelled.sum()) - n_both, int(present.sum()) - n_both


def _broken(frames: FrameSource, pool: ThreadPoolExecutor) -> Iterator[str]:
    """Reasons why frames cannot be read."""

    def reasons(index: int) -> list[str]:
        return [frame.reason for frame in frames.read(index, index + 1) if isinstance(frame, BrokenFrame)]

    return chain.from_iterable(pool.map(reasons, range(len(frames.rows))))


def _split(labels: Sequence[Labels]) -> str:
    return "+".join(sorted({label.split for label in labels}))


def _read(labels: Sequence[Labels]) -> tuple[dict[str, NDArray], list[str]]:
    """Label rows by task, and errors in the labels."""
    rows, errors = {}, []
    for label in labels:
        try:
            rows[label.task] = label.read()
        except DataError as error:
            errors.append(str(error))
    return rows, [*errors, *conflicts(labels)]


def _labelled_rows(labels: Sequence[Labels], rows: dict[str, NDArray]) -> dict[str, int]:
    """By task, the rows with an annotated value, second rows of frames that are labelled twice included."""
    counts = {task: int(TASKS[task].valid(values).any(axis=1).sum()) for task, values in rows.items()}
    for label in labels:
        if label.task in counts and (doubles := doubles_of(label)) is not None:
            counts[label.task] += int(TASKS[label.task].valid(doubles.labels).any(axis=1).sum())
    return counts


def conflicts(labels: Sequence[Labels]) -> Iterator[str]:
    """Sentences about videos that are labelled twice for one task."""
    path_by_task: dict[str, Path] = {}
    for label in labels:
        if label.task in path_by_task:
            yield (
                f"{label.path} labels a video that {path_by_task[label.task]} also labels: {label.video}. "
                "Delete its labels in one of them; until then neither counts."
            )
        path_by_task[label.task] = label.path


def left_right_pairs(reports: Sequence[VideoReport]) -> list[tuple[str, str]]:
    """Pairs of names of two people in one video, such as (`x_left`, `x_right`) or (`x`, `x_right`)."""
    names = {report.video for report in reports}
    pairs = []
    for name in sorted(names):
        if name.endswith(SIDES[1]):
            base = name.removesuffix(SIDES[1])
            pairs += [(partner, name) for partner in (base + SIDES[0], base) if partner in names][:1]
    return pairs
