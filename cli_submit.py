"""The commands about submission files."""

import sys
from pathlib import Path

import click

from abaw.cli_data import DATA, DEVICE, RUNS, STORE
from abaw.places import Place

SAMPLE = click.option("--sample", required=True, type=click.Path(path_type=Path),
                      help="Official sample file, or a list of videos for one file each.")  # fmt: skip


@click.command()
@click.argument("run", required=False)
@SAMPLE
@click.option("--out", type=click.Path(path_type=Path),
              help="File to write, or folder for a list of videos.  [default: predictions.txt, or predictions]")  # fmt: skip
@STORE
@RUNS
@DATA
@DEVICE
@click.option(
    "--allow-missing", is_flag=True, help="Videos that are not in the store get the mean output of the others."
)
@click.option("--raw", is_flag=True, help="Leave out the post-processing that `abaw tune` fitted.")
def submit(
    run: str | None,
    sample: Path,
    out: Path | None,
    store: Place,
    runs: Path,
    data: Path,
    device: str,
    allow_missing: bool,
    raw: bool,
) -> None:
    """Answer every row of an official sample by a run or ensemble (default: the newest run of its task); check the file.

    Features of the test videos come from the store; `abaw extract` puts them there like any others.
    """
    from abaw import console, pipeline
    from abaw.evaluate.ensemble import find_answering
    from abaw.evaluate.formats import Sample, read_sample

    wanted = read_sample(sample)
    found = find_answering(runs, run, wanted.task.name if isinstance(wanted, Sample) and run is None else None)
    written = pipeline.submit(found, pipeline.FeatureStore.open(store), wanted, out, device, data, allow_missing, raw)
    heading = "Videos without any feature got the mean output of the others:"
    console.show_some(heading, written.without_feature)
    console.say(f"{written.path}: {_amount(written.n_rows, written.n_videos)}, by {found.name}.")


@click.command("check-submission")
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path))
@SAMPLE
@click.option("--task", help="What is predicted.  [default: what the headers say]")
def check_submission(path: Path, sample: Path, task: str | None) -> None:
    """Check a submission file, or a folder with a file for each video, against the official sample."""
    from abaw import console
    from abaw.evaluate.formats import read_sample
    from abaw.evaluate.submission_check import check_submission as check
    from abaw.tasks import get_task

    found = check(path, read_sample(sample), get_task(task) if task else None)
    if found.first:
        counts = (f"{kind}: {n:,}" for kind, n in found.counts.items())
        console.warn(f"Error: {found.first} In all: {', '.join(counts)}.")
        sys.exit(1)
    console.say(f"{path}: {_amount(found.n_rows, found.n_videos)}, as wanted.")


def _amount(n_rows: int, n_videos: int) -> str:
    """How much is in a submission file; images without a time axis are of no videos."""
    rows = f"{n_rows:,} row{'s' * (n_rows != 1)}"
    return f"{rows}, {n_videos:,} video{'s' * (n_videos != 1)}" if n_videos else rows
