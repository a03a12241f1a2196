"""The commands about the feature store."""

import sys
from pathlib import Path
from typing import Literal

import click

from abaw.commands import completion
from abaw.commands.help import CommandGroup, examples
from abaw.commands.shared_options import FPS, STORE, STORE_ARGUMENT
from abaw.core.files import Place

# how an export is read, by format
READ_BACK = {
    "h5": "`abaw store import` reads it back.",
    "npy": "`abaw store import` reads it back.",
    "parquet": 'In Python: pyarrow.parquet.read_table("{out}")',
    "lance": 'In Python: lance.dataset("{out}")',
    "webdataset": 'In Python: webdataset.WebDataset(sorted(glob.glob("{out}/*.tar")), shardshuffle=False).decode()',
}


@click.group(cls=CommandGroup, epilog=examples("abaw store info", "abaw store verify store.zarr"))
def store() -> None:
    """Inspect, repair, import and export features."""


@store.command(epilog=examples("abaw store info"))
@STORE_ARGUMENT
def info(path: Place) -> None:
    """Show features and labels.

    With videos, frames, missing frames, sizes and fingerprints.
    """
    from abaw import pipeline
    from abaw.commands import tables

    opened = pipeline.open_store(path)
    tables.show_store(opened.path, *pipeline.describe_store(opened))


@store.command(epilog=examples("abaw store verify"))
@STORE_ARGUMENT
def verify(path: Place) -> None:
    """Read everything and report what is damaged.

    Also reports incomplete videos and features whose frames disagree.
    """
    from abaw import pipeline
    from abaw.commands import console

    opened = pipeline.open_store(path)
    with console.ConsoleReporter() as reporter:
        problems = pipeline.verify_store(opened, reporter)
    console.show_some(f"{len(problems)} problems in {path}:", [problem.sentence for problem in problems], most=50)
    if any(problem.path for problem in problems):
        console.say("Repairing drops what is damaged; the same `abaw extract` then makes it again.")
        console.say_next("store", "repair", str(path))
    if not problems:
        console.say(f"{path} is whole.")
        if features := opened.features():
            console.say_next_training(opened, features[0])
    sys.exit(1 if problems else 0)


@store.command(epilog=examples("abaw store repair"))
@STORE_ARGUMENT
def repair(path: Place) -> None:
    """Drop damaged and incomplete videos and labels.

    The next `abaw extract` makes just those again.
    """
    from abaw import pipeline
    from abaw.commands import console

    with console.ConsoleReporter() as reporter:
        dropped, left = pipeline.repair_store(path, reporter)
    console.show_some(f"{len(dropped)} dropped from {path}:", [problem.path for problem in dropped], most=50)
    console.show_some(f"{len(left)} left:", [problem.sentence for problem in left], most=50)
    if dropped or not left:
        console.say("Run the same `abaw extract` again." if dropped else f"Nothing in {path} is damaged.")
    console.say_next("store", "info", str(path))
    sys.exit(1 if left else 0)


@store.command(epilog=examples("abaw store pack", "abaw store pack s3://bucket/store.zarr"))
@STORE_ARGUMENT
def pack(path: Place) -> None:
    """Put many videos into a few large files.

    Every other command works as before, and a store on object storage needs few requests. Run again to continue, or to
    pack what is new.
    """
    from abaw import pipeline
    from abaw.commands import console

    with console.ConsoleReporter() as reporter:
        summary = pipeline.pack_store(path, reporter)
    packed = f"{summary.n_videos:,} arrays of videos and labels" if summary.n_videos else "Nothing new"
    console.say(f"{packed} packed in {path}, which has {summary.n_shards:,} large files now.")
    console.show_some(f"{len(summary.damaged)} are damaged and were left:", summary.damaged, most=50)
    console.say_next("store", "repair" if summary.damaged else "info", str(path))
    sys.exit(1 if summary.damaged else 0)


@store.command(
    "import",
    epilog=examples(
        "abaw store import features/ --feature mine", "abaw store import openface/ --feature aus --columns au"
    ),
)
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--feature", required=True, help="Name that the feature gets in the store.")
@STORE
@click.option("--data", envvar="ABAW_DATA", type=click.Path(path_type=Path), show_envvar=True,
              help="Folder with video files (frame rates) and labels.  [default: data, if it exists]")  # fmt: skip
@FPS
@click.option("--n-frames", type=click.IntRange(min=1), metavar="N",
              help="Of clips as <video>.mp4.img.<N>.pt, which N.  [default: the largest]")  # fmt: skip
@click.option("--columns", metavar="KIND,...",
              help="Of tables of OpenFace, py-feat or LibreFace: au, expression, va, pose, gaze, landmarks, shape, box, "
              "identity, or names of columns.  [default: the first five]")  # fmt: skip
@click.option("--face", metavar="ID",
              help="Of their faces, which face_id.  [default: the surest in each frame]")  # fmt: skip
def import_(
    source: Path,
    feature: str,
    store: Place,
    data: Path | None,
    fps: float | None,
    n_frames: int | None,
    columns: str | None,
    face: str | None,
) -> None:
    """Put features that you already have into the store.

    Run again to continue.

    SOURCE is a folder with <video>/00001.npy, <video>.npz, <video>.h5, features.npy with features.csv,
    train_0.npy with train.csv, <video>.npy, <video>.pt, or <video>.csv of OpenFace, py-feat or LibreFace, or one such
    table, or one HDF5 file with a group per video.
    """
    from abaw import pipeline
    from abaw.commands import console, tables

    if data is None and Path("data").is_dir():
        data = Path("data")
    names = tuple(name.strip() for name in (columns or "").split(",") if name.strip())
    options = pipeline.ImportOptions(source, store, feature, data, fps, n_frames, names, face or "")
    with console.ConsoleReporter() as reporter:
        summary = pipeline.import_features(options, reporter)
    tables.show_summary(summary, store)
    summary.raise_if_interrupted()
    if summary.done or summary.skipped:
        console.say_next_training(pipeline.open_store(store), feature)
    sys.exit(0 if summary.ok else 1)


@store.command("export", epilog=examples("abaw store export --feature vit-mean --out vit-mean.h5"))
@click.option("--feature", required=True, help="Feature to write.", shell_complete=completion.features)
@STORE
@click.option("--out", required=True, type=click.Path(path_type=Path), help="File or folder to make.")
@click.option("--format", "form", type=click.Choice(["h5", "npy", "parquet", "lance", "webdataset"]), default="h5",
              show_default=True, help="HDF5 with a group per video, a folder with two arrays per video, Parquet or Lance with "
              "a row per frame, or a folder of tar files of 1 GB.")  # fmt: skip
def export(feature: str, store: Place, out: Path, form: Literal["h5", "npy", "parquet", "lance", "webdataset"]) -> None:
    """Write a feature for other programs.

    `abaw store import` reads h5 and npy back.
    """
    from abaw import pipeline
    from abaw.commands import console

    opened = pipeline.open_store(store, (feature,))
    with console.ConsoleReporter() as reporter:
        n_videos, n_frames = pipeline.export_feature(opened, feature, out, form, reporter)
    console.say(f"{out}: {n_videos} videos, {n_frames} frames of {feature}.")
    left_out = opened.incomplete(feature)
    console.show_some(f"{len(left_out)} videos are incomplete and were left out:", left_out)
    console.say(READ_BACK[form].format(out=out))
    sys.exit(1 if left_out else 0)
