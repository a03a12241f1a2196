"""The command that fills the store."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn

import click

from abaw.commands import completion
from abaw.commands.help import examples
from abaw.commands.shared_options import DATA, DEVICE, FORBID, FPS, IDENTITY, PEOPLE, STORE, TASK_FILES
from abaw.core.errors import UsageError
from abaw.core.files import Place

if TYPE_CHECKING:
    from abaw.core.progress import Summary
    from abaw.extract.cluster.cluster import ClusterOptions
    from abaw.extract.request import ExtractOptions
    from abaw.store import FeatureStore


@click.command(
    epilog=examples("abaw extract --backbone vit-mean", "abaw extract --backbone hog --backbone mae-cls:mae.pth")
)
@click.option("--backbone", "backbones", multiple=True, required=True, metavar="[NAME=]BACKBONE[:WEIGHTS]",
              shell_complete=completion.backbones, help="What to run; repeatable, frames are decoded once. `abaw list backbones` shows them.")  # fmt: skip
@DATA
@STORE
@TASK_FILES
@PEOPLE
@click.option(
    "--view",
    "views",
    multiple=True,
    metavar="VIEW",
    help="hflip adds the mirrored frames as a feature, mask0.75 frames with 75 % of the patches hidden.",
)
@click.option("--views", "n_views", type=click.IntRange(min=1), default=1, show_default=True,
              help="How many differently masked views.")  # fmt: skip
@DEVICE
@click.option("--precision", type=click.Choice(["auto", "fp32", "bf16"]), default="auto", show_default=True,
              help="auto is what the feature has, else bf16 on a GPU or where a trial shows that it pays, fp32 elsewhere.")  # fmt: skip
@click.option("--batch-size", type=click.IntRange(min=1), help="Frames in a batch.  [default: 256 on a GPU, else 32]")
@click.option("--compile", "compiled", is_flag=True,
              help="Compile the networks first, for long runs. Needs a C++ compiler.")  # fmt: skip
@click.option("--decoder", type=click.Choice(["auto", "cpu", "gpu"]), default="auto", show_default=True,
              help="Of pictures: auto is what the feature has, else cpu; gpu takes torchcodec and rounds colours otherwise.")  # fmt: skip
@click.option("--from", "source", type=click.Choice(["crops", "videos"]), default="crops", show_default=True,
              help="crops, or clips, as they lie in the data folder; or its video files, with nothing written in between.")  # fmt: skip
@click.option("--faces", metavar="track|whole|FILE",
              help="With --from videos: track finds and follows faces, whole takes whole pictures, FILE is a table of faces or a folder of them.  [default: track]")  # fmt: skip
@click.option("--detector", metavar="NAME", help="With --from videos, as of `abaw prepare`.  [default: mtcnn]")
@click.option("--transcripts", default="", metavar="FOLDER|TABLE.csv#COLUMN",
              help="What is said, for backbones of text: .yml, .json of Whisper, .srt, .vtt.  [default: transcription/ in the data folder]")  # fmt: skip
@IDENTITY
@click.option("--keep-crops", type=click.Path(path_type=Path, file_okay=False), metavar="FOLDER",
              help="With --from videos: keep the crops in this data folder, too, as `abaw prepare` writes them.")  # fmt: skip
@FPS
@click.option("--n-frames", type=click.IntRange(min=1, max=9999), metavar="N",
              help="Rows of each clip of VGAF; of tensors .img.<N>.pt and .spec.<N>.pt, which N.  [default: 75, or the largest]")  # fmt: skip
@click.option("--tensors", type=click.Choice([f"normalised={name}" for name in ("clip", "imagenet")]),
              help="How .img tensors were normalised.  [default: told from the values]")  # fmt: skip
@click.option("--untrained", is_flag=True, help="Random weights, for trying things out; recorded in the store.")
@FORBID
@click.option("--part", default="", metavar="I/N", help="Only part I of N, for job arrays.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N",
              help="Stop after N videos, and say how long the rest takes.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Only show what is missing: videos, frames, size on disk.")
@click.option("--scheduler", default="", metavar="ADDRESS", help="Run on the workers of this dask scheduler.")
@click.option("--cluster", type=click.Path(path_type=Path), metavar="FILE.toml", help="Start a cluster and run on it.")
def extract(
    backbones: tuple[str, ...],
    data: Path,
    store: Place,
    tasks: tuple[str, ...],
    people: str,
    views: tuple[str, ...],
    n_views: int,
    device: str,
    precision: Literal["auto", "fp32", "bf16"],
    batch_size: int | None,
    compiled: bool,
    decoder: Literal["auto", "cpu", "gpu"],
    source: Literal["crops", "videos"],
    faces: str | None,
    detector: str | None,
    transcripts: str,
    identity: str | None,
    keep_crops: Path | None,
    fps: float | None,
    n_frames: int | None,
    tensors: str | None,
    untrained: bool,
    forbid: tuple[str, ...],
    part: str,
    limit: int | None,
    dry_run: bool,
    scheduler: str,
    cluster: Path | None,
) -> None:
    """Run backbones over pictures, sound or text into the store.

    Run again to continue."""
    from abaw import pipeline

    workers = _workers_of(scheduler, cluster)
    options = pipeline.ExtractOptions(
        data, store, backbones, views, n_views, device, precision, batch_size or 0, fps, untrained, part, limit or 0,
        n_frames=n_frames or 0, tensors=tensors or "", compile=compiled, decoder=decoder, tasks=tasks, people=people,
        faces=_faces_of(source, faces, detector, identity), detector=detector or "", identity=identity or "",
        keep_crops=_folder_of_crops(keep_crops, source, faces), transcripts=transcripts,
    )  # fmt: skip
    if dry_run:
        return _show_forecast(options)
    pipeline.check_extract(options)
    pipeline.check_forbidden(forbid, backbones)
    _say_first(device, workers is None, untrained)
    _end(_run(options, workers), options)


def _run(options: "ExtractOptions", workers: "ClusterOptions | None") -> "Summary":
    from abaw import pipeline
    from abaw.commands import console

    with console.ConsoleReporter() as reporter:
        return pipeline.extract(options, reporter, workers)


def _end(summary: "Summary", options: "ExtractOptions") -> NoReturn:
    """Say what was done and what comes next, and exit."""
    from abaw import pipeline
    from abaw.commands import tables

    tables.show_summary(summary, options.store)
    summary.raise_if_interrupted()
    _say_next(pipeline.open_store(options.store), options)
    sys.exit(0 if summary.ok else 1)


def _workers_of(scheduler: str, cluster: Path | None) -> "ClusterOptions | None":
    """The cluster to run on; None for this process."""
    from abaw import pipeline

    if scheduler and cluster:
        raise UsageError("--scheduler and --cluster cannot be combined; use one of them.")
    return pipeline.ClusterOptions(scheduler, cluster) if scheduler or cluster else None


def _faces_of(source: str, faces: str | None, detector: str | None, identity: str | None) -> str:
    """Where the faces of video files come from; empty for crops."""
    for option, value in (("faces", faces), ("detector", detector), ("identity", identity)):
        if value and source != "videos":
            raise UsageError(f"--{option} is for video files. Add --from videos.")
    if identity and faces not in (None, "track"):
        raise UsageError(f"--identity is for faces that are followed, not for --faces {faces}. Leave one of them out.")
    return (faces or "track") if source == "videos" else ""


def _folder_of_crops(folder: Path | None, source: str, faces: str | None) -> Path | None:
    """Where crops are kept; None if they are not."""
    if folder is not None and (source != "videos" or faces not in (None, "track")):
        raise UsageError("--keep-crops is for faces that are followed. Add --from videos, and leave out --faces.")
    return folder


def _say_first(device: str, is_here: bool, untrained: bool) -> None:
    from abaw.commands import console

    if is_here:
        console.show_device(device)
    if untrained:
        console.warn("Untrained weights: the features are random projections, only good for trying things out.")


def _show_forecast(options: "ExtractOptions") -> None:
    """What is missing, and the command that makes it."""
    from abaw import pipeline
    from abaw.commands import console, interruption, tables

    with console.ConsoleReporter() as reporter:
        forecast = pipeline.forecast_extraction(options, reporter)
    tables.show_forecast(forecast, options.store)
    to_get = dict.fromkeys(one.to_get for one in forecast.features if one.n_videos and one.to_get)
    if to_get:
        console.say_next("weights", "get", *to_get)
    elif forecast.n_videos:
        console.say_next(*interruption.typed_words(without="--dry-run"))
    else:
        console.say_next_training(pipeline.open_store(options.store), forecast.features[0].feature)


def _say_next(store: "FeatureStore", options: "ExtractOptions") -> None:
    """What the store has, and the next command."""
    from abaw.commands import console, interruption

    features = _say_stored(store, options)
    if options.limit:
        console.say_next(*interruption.typed_words(without="--limit", has_value=True))
        return
    if options.part:
        console.say("Other parts can run at the same time. Once all are complete:")
    console.say_next_training(store, features[0])


def _say_stored(store: "FeatureStore", options: "ExtractOptions") -> list[str]:
    """Say what the store has of the features that the options ask for; returns their names."""
    from abaw import pipeline
    from abaw.commands import console

    known, features = store.features(), pipeline.requested_features(options)
    for feature in features:
        videos = store.videos(feature).values() if feature in known else ()
        n_frames = sum(attrs["n_frames"] for attrs in videos)
        n_missing = n_frames - sum(attrs["n_present"] for attrs in videos)
        missing = f", {n_missing:,} of them missing ({n_missing / n_frames:.1%})" if n_missing else ""
        console.say(f"{feature} in {options.store}: {len(videos):,} videos, {n_frames:,} frames{missing}.")
    return features
