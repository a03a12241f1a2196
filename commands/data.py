"""The commands about data, weights and stores, and the options that commands share."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import click

from abaw.core.files import Place, is_url


class StorePlace(click.ParamType):
    """A folder, or a URL such as s3://bucket/store.zarr."""

    name = "place"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Place:
        """A URL stays a text: a path would swallow one of its slashes."""
        return value if is_url(value) else Path(value)


DATA = click.option("--data", envvar="ABAW_DATA", default="data", type=click.Path(path_type=Path), show_default=True,
                    show_envvar=True, help="Folder with cropped_aligned/ and the label folders.")  # fmt: skip
STORE = click.option("--store", envvar="ABAW_STORE", default="store.zarr", type=StorePlace(),
                     show_default=True, show_envvar=True, help="Feature store.")  # fmt: skip
RUNS = click.option("--runs", envvar="ABAW_RUNS", default="runs", type=click.Path(path_type=Path), show_default=True,
                    show_envvar=True, help="Folder of the runs.")  # fmt: skip
STORE_ARGUMENT = click.argument("path", envvar="ABAW_STORE", default="store.zarr", type=StorePlace())
DEVICE = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
FPS = click.option(
    "--fps", type=click.FloatRange(min=0, min_open=True), help="Frame rate of videos without a video file."
)


def print_json(content: dict[str, Any]) -> None:
    """Print one JSON object."""
    click.echo(json.dumps(content, indent=2))


@click.command()
@DATA
@FPS
@click.option("--all", "every", is_flag=True, help="Show every video, not only those to look at.")
@click.option("--csv", "as_csv", is_flag=True, help="Print a row for each video as CSV.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def doctor(data: Path, fps: float | None, every: bool, as_csv: bool, as_json: bool) -> None:
    """Check data against labels: what is not read, missing crops, extra rows, frame rates, unreadable files."""
    from abaw import pipeline
    from abaw.commands import console, tables
    from abaw.datasets.doctor import left_right_pairs

    with console.ConsoleReporter() as reporter:
        reports = pipeline.doctor(data, fps, reporter)
    pairs = left_right_pairs(reports)
    if as_json:
        totals = {**tables.doctor_totals(reports), "left_right_pairs": pairs}
        print_json({"data": str(data), "total": totals, "per_video": [asdict(report) for report in reports]})
    elif as_csv:
        tables.write_doctor_csv(reports, sys.stdout)
    else:
        tables.show_doctor(data, reports, pairs, every)
    sys.exit(1 if any(report.errors for report in reports) else 0)


@click.command()
@click.argument("videos", nargs=-1, required=True, metavar="VIDEO...", type=click.Path(path_type=Path))
@click.option("--data", envvar="ABAW_DATA", default="data", type=click.Path(path_type=Path), show_default=True,
              show_envvar=True, help="Folder to fill with cropped_aligned/, audio/, videos/ and faces/.")  # fmt: skip
@click.option("--faces", type=click.IntRange(min=1), metavar="N",
              help="Keep N people of each video, the largest and longest seen.  [default: all]")  # fmt: skip
@click.option("--detector", default="mtcnn", show_default=True, metavar="NAME",
              help="mtcnn, FILE.onnx of YuNet or SCRFD, or MODULE:CLASS of your own; runs that module's code.")  # fmt: skip
@click.option("--every", type=click.IntRange(min=1), metavar="N",
              help="Detect in full in every N-th frame only, and follow in between.  [default: 4]")  # fmt: skip
@DEVICE
def prepare(videos: tuple[Path, ...], data: Path, faces: int | None, detector: str, every: int | None,
            device: str) -> None:  # fmt: skip
    """Find, follow and align the faces of video files, or of folders of them. Run it again to go on."""
    from abaw import pipeline
    from abaw.commands import console, tables

    options = pipeline.PrepareOptions(videos, data, faces or 0, detector, every or 0, device)
    with console.ConsoleReporter() as reporter:
        summary = pipeline.prepare(options, reporter)
    tables.show_summary(summary, data)
    sys.exit(0 if summary.ok else 1)


@click.group(invoke_without_command=True)
@click.pass_context
def weights(context: click.Context) -> None:
    """Show which weights of the backbones are at hand, download them, and tell what a file fits."""
    from abaw.commands import listings

    if context.invoked_subcommand is None:
        listings.show_weights()


@weights.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def list_weights(as_json: bool) -> None:
    """Tell of each family whether its weights are at hand, can be fetched, or are to be had by hand."""
    from abaw.backbones import published
    from abaw.commands import listings

    if as_json:
        print_json(published.as_json(published.weights_at_hand()))
    else:
        listings.show_weights()


@weights.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
def get(names: tuple[str, ...]) -> None:
    """Download weights, by the name of a family, of a backbone, or timm/<model>. Run it again to go on."""
    from abaw.backbones import downloads, published
    from abaw.commands import console
    from abaw.core.errors import CheckpointError

    wanted, n_failed = [published.find_weights(name) for name in names], 0
    console.say(published.describe_folder())
    for weights in wanted:
        try:
            published.check_known(weights)
            console.say(f"{weights.family}, licence: {weights.terms}")
            with console.ConsoleReporter() as reporter:
                files = downloads.get_weights(weights, reporter)
        except CheckpointError as error:
            n_failed += 1
            console.warn(f"Error: {error}")
            continue
        for file in files:
            console.say(f"{weights.family} is in {file}")
        if not files:
            console.say(f"{weights.family} {weights.where}.")
    sys.exit(1 if n_failed else 0)


@weights.command()
@click.argument("file", type=click.Path(path_type=Path))
def check(file: Path) -> None:
    """Tell which backbones a weights file fits, and the fingerprints of their features."""
    from abaw import pipeline
    from abaw.commands import console

    fits = pipeline.check_weights(file)
    console.show_table(str(file), ["backbone", "fingerprint", "notes"], fits)
    console.say(f"Use it as `--backbone {fits[0][0]}:{file}`.")


@click.command()
@click.option("--faces", required=True, type=click.Path(path_type=Path),
              help="Folder of face cut-outs: Positive/*.png, Neutral/*.png and Negative/*.png.")  # fmt: skip
@click.option("--backgrounds", type=click.Path(path_type=Path),
              help="Folder of background images.  [default: gradients are drawn]")  # fmt: skip
@click.option("--out", default="data/synthetic", type=click.Path(path_type=Path), show_default=True,
              help="Folder to make.")  # fmt: skip
@click.option("--clips", "n_clips", required=True, type=click.IntRange(min=1), help="Clips of all classes together.")
@click.option("--to", "kind", type=click.Choice(["mp4", "frames", "pt"]), default="mp4", show_default=True,
              help="Video files, folders of JPEGs or tensors (frames, 3, 326, 326).")  # fmt: skip
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Another seed, other clips.")
def synth(faces: Path, backgrounds: Path | None, out: Path, n_clips: int, kind: str, seed: int) -> None:
    """Make synthetic group-emotion clips: faces of one class on a background. Run it again to go on."""
    from abaw.commands import console
    from abaw.datasets.synth import SynthOptions, write_clips

    with console.ConsoleReporter() as reporter:
        made = write_clips(faces, backgrounds, out, n_clips, kind, SynthOptions(seed), reporter=reporter)
    console.say(f"{out}: made {made.n_made} clips, {made.n_kept} were there.")


@click.group()
def store() -> None:
    """Look into the feature store, and bring features in and out."""


@store.command()
@STORE_ARGUMENT
def info(path: Place) -> None:
    """Features, videos, frames, missing frames, sizes and fingerprints."""
    from abaw.commands import tables
    from abaw.store import FeatureStore

    tables.show_store(FeatureStore.open(path))


@store.command()
@STORE_ARGUMENT
def verify(path: Place) -> None:
    """Read everything; report damage, incomplete videos and features whose frames disagree."""
    from abaw.commands import console
    from abaw.store import FeatureStore
    from abaw.store.audit import verify_store

    opened = FeatureStore.open(path)
    with console.ConsoleReporter() as reporter:
        problems = verify_store(opened, reporter)
    console.show_some(f"{len(problems)} problems in {path}:", [problem.sentence for problem in problems], most=50)
    if any(problem.path for problem in problems):
        console.say(f"`abaw store repair {path}` drops what is damaged; the same `abaw extract` then makes it again.")
    if not problems:
        console.say(f"{path} is whole.")
    sys.exit(1 if problems else 0)


@store.command()
@STORE_ARGUMENT
def repair(path: Place) -> None:
    """Drop damaged and incomplete videos and labels: the next extract makes just those again."""
    from abaw.commands import console
    from abaw.store import FeatureStore
    from abaw.store.audit import repair_store

    FeatureStore.open(path)  # or a slip in the path would make an empty store
    opened = FeatureStore.create(path)
    with console.ConsoleReporter() as reporter:
        dropped, left = repair_store(opened, reporter)
    console.show_some(f"{len(dropped)} dropped from {path}:", [problem.path for problem in dropped], most=50)
    console.show_some(f"{len(left)} left:", [problem.sentence for problem in left], most=50)
    console.say("Run the same `abaw extract` again." if dropped else f"Nothing in {path} is damaged.")
    sys.exit(1 if left else 0)


@store.command("import")
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--feature", required=True, help="Name that the feature gets in the store.")
@STORE
@click.option("--data", envvar="ABAW_DATA", type=click.Path(path_type=Path), show_envvar=True,
              help="Folder with video files (frame rates) and labels.  [default: data, if it is there]")  # fmt: skip
@FPS
@click.option("--n-frames", type=click.IntRange(min=1), metavar="N",
              help="Of clips as <video>.mp4.img.<N>.pt, which N.  [default: the largest]")  # fmt: skip
def import_(
    source: Path, feature: str, store: Place, data: Path | None, fps: float | None, n_frames: int | None
) -> None:
    """Take features that you already have into the store. Run it again to go on.

    SOURCE is a folder with <video>/00001.npy, <video>.npz, <video>.h5, features.npy with features.csv, <video>.npy,
    or <video>.pt, or one HDF5 file with a group per video.
    """
    from abaw.commands import console, tables
    from abaw.exchange.importer import ImportOptions, import_features

    if data is None and Path("data").is_dir():
        data = Path("data")
    options = ImportOptions(source, store, feature, data, fps, n_frames)
    with console.ConsoleReporter() as reporter:
        summary = import_features(options, reporter)
    tables.show_summary(summary, store)
    sys.exit(0 if summary.ok else 1)


@store.command("export")
@click.option("--feature", required=True, help="Feature to write.")
@STORE
@click.option("--out", required=True, type=click.Path(path_type=Path), help="File or folder to make.")
@click.option("--format", "form", type=click.Choice(["h5", "npy"]), default="h5", show_default=True,
              help="One HDF5 file with a group per video, or a folder with two arrays per video.")  # fmt: skip
def export(feature: str, store: Place, out: Path, form: Literal["h5", "npy"]) -> None:
    """Write a feature for other programs; `abaw store import` takes it back."""
    from abaw.commands import console
    from abaw.exchange.exporter import export_feature
    from abaw.store import FeatureStore

    opened = FeatureStore.open(store)
    with console.ConsoleReporter() as reporter:
        n_videos, n_frames = export_feature(opened, feature, out, form, reporter)
    console.say(f"{out}: {n_videos} videos, {n_frames} frames of {feature}.")
    left_out = opened.incomplete(feature)
    console.show_some(f"{len(left_out)} videos are cut off and were left out:", left_out)
    sys.exit(1 if left_out else 0)
