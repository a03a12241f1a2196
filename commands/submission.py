"""The commands about submission files."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from abaw.commands import completion
from abaw.commands.help import examples
from abaw.commands.shared_options import DATA, DEVICE, FORBID, RAW, RUNS, STORE, TaskName
from abaw.core.errors import UsageError, some_of
from abaw.core.files import Place

if TYPE_CHECKING:
    from collections.abc import Sequence

    from abaw.evaluate.submission.sample_files import AnySample
    from abaw.evaluate.submission.write import Submission
    from abaw.evaluate.trained import Predictor

SHOWN_VIDEOS = 3
SOURCE_OF = {"vision": "crop", "audio": "sound", "text": "text"}  # of a feature, by modality

SAMPLE = click.option("--sample", required=True, type=click.Path(path_type=Path),
                      help="Official sample file, or a list of videos for one file each.")  # fmt: skip

TASK = click.option("--task", type=TaskName(), shell_complete=completion.tasks,
                    help="What is predicted; a run's folder stands for its task.  [default: what the headers say]")  # fmt: skip


@click.command(
    epilog=examples("abaw submit --sample sample.txt", "abaw submit va-ensemble-1 --sample sample.txt --out va.txt")
)
@click.argument("run", required=False, shell_complete=completion.runs)
@SAMPLE
@click.option("--out", type=click.Path(path_type=Path),
              help="File to write, or folder for a list of videos.  [default: predictions.txt, or predictions]")  # fmt: skip
@TASK
@STORE
@RUNS
@DATA
@DEVICE
@click.option(
    "--allow-missing", is_flag=True, help="Videos that are not in the store get the mean output of the others."
)
@RAW
@FORBID
def submit(
    run: str | None,
    sample: Path,
    out: Path | None,
    task: str | None,
    store: Place,
    runs: Path,
    data: Path,
    device: str,
    allow_missing: bool,
    raw: bool,
    forbid: tuple[str, ...],
) -> None:
    """Predict every row of an official sample.

    Without RUN, the run or ensemble of the sample's task that validates best is taken. The file is checked before it is
    written. Features of the test videos come from the store, like all others.
    """
    from abaw import pipeline
    from abaw.commands import console

    if run is not None:
        predictor = pipeline.find_predictor(runs, run, device, raw)
        rows = pipeline.read_sample(sample, task or predictor.task)
        opened = pipeline.open_store_for(predictor, store)
    elif isinstance(rows := pipeline.read_sample(sample, task), pipeline.Sample | pipeline.NameSample):
        opened = pipeline.open_store(store)
        predictor = _take_best(runs, rows.task.name, opened.features(), device, raw)
    else:
        raise UsageError(
            f"{sample} is a list of videos and does not say what to predict. Name a run: abaw submit RUN ..., or --task."
        )
    pipeline.check_submit(predictor, rows, out)
    pipeline.check_forbidden(forbid, store=opened, predictor=predictor)
    console.show_device(device)
    for sentence in pipeline.being_trained(predictor):
        console.warn(sentence)
    with console.ConsoleReporter() as reporter:
        written = pipeline.submit(predictor, opened, rows, out, data, allow_missing, reporter)
    heading = "Videos without any feature got the mean output of the others:"
    console.show_some(heading, written.without_feature)
    for sentence in _warnings(
        written, is_list=not isinstance(rows, pipeline.Sample) and predictor.task.level == "frame"
    ):
        console.warn(sentence)
    console.say(f"{written.path}: {_amount(written.n_rows, written.n_videos)}, by {_named(predictor)}.")
    _say_next(written.path, rows, predictor)


def _say_next(path: Path, sample: "AnySample", predictor: "Predictor") -> None:
    """The command that checks a submission; it names the task where a header does not say it."""
    from abaw import pipeline
    from abaw.commands import console
    from abaw.core.tasks import TASKS

    folder = str(predictor.folder)
    task = TASKS.typed(predictor.task.name, folder if os.sep in folder else f"{os.curdir}{os.sep}{folder}")
    is_named = isinstance(sample, pipeline.NameSample) or task != predictor.task.name
    console.say_next(
        "check-submission", str(path), "--sample", str(sample.path), *(("--task", task) if is_named else ())
    )


def _take_best(runs: Path, task: str, features: "Sequence[str]", device: str, raw: bool) -> "Predictor":
    """The run or ensemble that validates best; says which it is, and what was passed over."""
    from abaw import pipeline
    from abaw.commands import console

    best = pipeline.find_best(runs, task, features, device, raw)
    console.say(
        f"{_named(best.predictor)} is taken: the best of task {best.predictor.task.name}, {best.summary.score_in_words}."
    )
    others = [f"{name} ({why})" for name, why in best.passed_over.items()]
    console.show_some("Passed over:", others)
    return best.predictor


def _named(predictor: "Predictor") -> str:
    """The name of a run, with its fold if it is of one."""
    return f"{predictor.name} ({predictor.fold})" if predictor.fold else predictor.name


def _warnings(written: "Submission", is_list: bool) -> Iterator[str]:
    """What the user should know about a submission before sending it.

    Args:
        is_list: the sample was a list of videos, so the number of rows of each comes from the store.
    """
    if is_list:
        yield from _short_videos(written)
    else:
        yield from _late_frames(written)
    yield from _filled_rows(written)
    for run, origin in written.processed.items():
        yield f"{run} is post-processed ({origin}). Leave that out with --raw."


def _short_videos(written: "Submission") -> Iterator[str]:
    names = [video.name for video in written.videos if video.length_from_crops]
    if names:
        yield (
            f"{len(names):,} of {_amount_of(len(written.videos), 'video')} may be too short. They end at their last "
            f"crop, because no video file gives their length: {some_of(names, SHOWN_VIDEOS)}. Put the video files "
            "into videos/ and run `abaw extract` again, or use the official sample file."
        )


def _late_frames(written: "Submission") -> Iterator[str]:
    # one row more than there are frames is normal
    ends = [video for video in written.videos if video.n_frames and not video.length_from_crops]
    late = [video for video in ends if video.n_frames < video.last_frame - 1]
    if late:
        worst = max(late, key=lambda video: video.last_frame - video.n_frames)
        yield (
            f"The sample continues after the end of {_amount_of(len(late), 'video')}, farthest in {worst.name}: to frame "
            f"{worst.last_frame:,}, where the store has {_amount_of(worst.n_frames, 'frame')}. Check that the crops are of "
            "the sample's videos, unless no video file gave their length."
        )


def _filled_rows(written: "Submission") -> Iterator[str]:
    n_filled = sum(video.n_filled for video in written.videos)
    if not n_filled:
        return
    share = f"{n_filled:,} of {_amount_of(written.n_rows, 'row')}"
    has, was = ("has", "was") if n_filled == 1 else ("have", "were")
    if not written.n_videos:  # images of no video
        yield f"{share} {has} no feature and got the mean output of the others."
        return
    lacking = " or ".join(SOURCE_OF[modality] for modality in written.modalities)
    worst = max(written.videos, key=lambda video: video.n_filled)
    part = "all" if worst.n_filled == n_filled else "most"
    yield (
        f"{share} {has} no {lacking} and {was} filled from other frames; "
        f"{part} in {worst.name} ({worst.n_filled:,} of {worst.n_rows:,})."
    )


@click.command("check-submission", epilog=examples("abaw check-submission predictions.txt --sample sample.txt"))
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path))
@SAMPLE
@TASK
def check_submission(path: Path, sample: Path, task: str | None) -> None:
    """Check a submission against the official sample.

    FILE may be a folder with a file for each video.
    """
    from abaw import pipeline
    from abaw.commands import console

    pipeline.check_choices(task or "")
    check = pipeline.check_submission(path, pipeline.read_sample(sample, task), task)
    if check.first:
        counts = (f"{kind}: {n:,}" for kind, n in check.counts.items())
        console.warn(f"Error: {check.first} In all: {', '.join(counts)}.")
        sys.exit(1)
    console.say(f"{path}: {_amount(check.n_rows, check.n_videos)}, no problems.")


def _amount(n_rows: int, n_videos: int) -> str:
    """The amount in a submission file; images without a time axis do not belong to videos."""
    rows = _amount_of(n_rows, "row")
    return f"{rows}, {_amount_of(n_videos, 'video')}" if n_videos else rows


def _amount_of(n: int, word: str) -> str:
    return f"{n:,} {word}{'s' * (n != 1)}"
