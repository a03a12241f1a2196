"""The commands about data and weights, and the lists of what there is to choose from."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from abaw.commands import completion
from abaw.commands.help import CommandGroup, examples
from abaw.commands.shared_options import DATA, DEVICE, FPS, IDENTITY, PEOPLE, TASK_FILES, print_json
from abaw.commands.synth_options import rule_options


@click.command(epilog=examples("abaw doctor --data /data/aff-wild2", "abaw doctor --all --csv > videos.csv"))
@DATA
@FPS
@TASK_FILES
@PEOPLE
@click.option("--all", "every", is_flag=True, help="Show every video, not only those to look at.")
@click.option("--csv", "as_csv", is_flag=True, help="Print a row for each video as CSV.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def doctor(
    data: Path, fps: float | None, tasks: tuple[str, ...], people: str, every: bool, as_csv: bool, as_json: bool
) -> None:
    """Check data against labels.

    Shows what is not read, missing crops, extra rows, frame rates and unreadable files.
    """
    from abaw import pipeline
    from abaw.commands import console, tables

    with console.ConsoleReporter() as reporter:
        reports = pipeline.doctor(data, fps, reporter, tasks, people)
    totals = pipeline.doctor_totals(reports)
    if as_json:
        print_json({"data": str(data), "total": totals, "per_video": [asdict(report) for report in reports]})
    elif as_csv:
        tables.write_doctor_csv(reports, sys.stdout)
    else:
        tables.show_doctor(data, reports, totals, every)
        if not totals["errors"] and totals["videos"]:
            console.say_next(
                "extract", *(word for task in tasks for word in ("--task", task)), "--backbone", "vit-mean"
            )
    sys.exit(1 if totals["errors"] else 0)


@click.command(epilog=examples("abaw prepare talk.mp4", "abaw prepare recordings/ --faces 1 --data mine"))
@click.argument("videos", nargs=-1, required=True, metavar="VIDEO...", type=click.Path(path_type=Path))
@click.option("--data", envvar="ABAW_DATA", default="data", type=click.Path(path_type=Path), show_default=True,
              show_envvar=True, help="Folder to fill with cropped_aligned/, audio/, videos/ and faces/.")  # fmt: skip
@click.option("--faces", type=click.IntRange(min=1), metavar="N",
              help="Keep N people of each video, the largest and longest seen.  [default: all]")  # fmt: skip
@click.option("--detector", default="mtcnn", show_default=True, metavar="NAME",
              help="mtcnn, FILE.onnx of YuNet or SCRFD, or MODULE:CLASS of your own; runs that module's code.")  # fmt: skip
@click.option("--every", type=click.IntRange(min=1), metavar="N",
              help="Detect in full in every N-th frame only, and follow in between.  [default: 4]")  # fmt: skip
@IDENTITY
@DEVICE
def prepare(videos: tuple[Path, ...], data: Path, faces: int | None, detector: str, every: int | None,
            identity: str | None, device: str) -> None:  # fmt: skip
    """Find, follow and align the faces of video files.

    VIDEO may be a folder of them. Run again to continue.
    """
    from abaw import pipeline
    from abaw.commands import console, tables

    options = pipeline.PrepareOptions(videos, data, faces or 0, detector, every or 0, device, identity or "")
    pipeline.check_prepare(options)
    console.show_device(device)
    with console.ConsoleReporter() as reporter:
        summary = pipeline.prepare(options, reporter)
    tables.show_summary(summary, data)
    summary.raise_if_interrupted()
    tables.show_people(summary.people)
    console.say_next("extract", "--backbone", "vit-mean")
    sys.exit(0 if summary.ok else 1)


@click.command(epilog=examples("abaw synth --faces cut-outs --clips 300"))
@click.option("--faces", required=True, type=click.Path(path_type=Path),
              help="Folder of face cut-outs: Positive/*.png, Neutral/*.png and Negative/*.png.")  # fmt: skip
@click.option("--backgrounds", type=click.Path(path_type=Path),
              help="Folder of background images.  [default: gradients are drawn]")  # fmt: skip
@click.option("--out", default="data/synthetic", type=click.Path(path_type=Path), show_default=True,
              help="Folder to make.")  # fmt: skip
@click.option(
    "--clips", "n_clips", required=True, type=click.IntRange(min=1), help="Clips of all classes together, or of --only."
)
@click.option("--to", "kind", type=click.Choice(["mp4", "frames", "pt"]), default="mp4", show_default=True,
              help="Video files, folders of JPEGs or tensors (frames, 3, side, side).")  # fmt: skip
@click.option("--only", type=click.Choice(["Positive", "Neutral", "Negative"]),
              help="Clips of this class alone.  [default: the classes take turns]")  # fmt: skip
@rule_options
def synth(
    faces: Path, backgrounds: Path | None, out: Path, n_clips: int, kind: str, only: str | None, **rules: Any
) -> None:
    """Make synthetic clips of group emotions.

    Each has faces of one class on a background, by the rules of EmotiW 2023's winners. Run again to continue.
    """
    from abaw import pipeline
    from abaw.commands import console

    options = pipeline.SynthOptions(**rules)
    with console.ConsoleReporter() as reporter:
        made = pipeline.synth(faces, backgrounds, out, n_clips, kind, options, reporter, only or "")
    console.say(f"{out}: made {made.n_made} clips, {made.n_kept} were there.")
    console.say_next("doctor", "--data", str(out.parent))


@click.group(
    cls=CommandGroup, invoke_without_command=True, epilog=examples("abaw weights list", "abaw weights get mae")
)
@click.pass_context
def weights(context: click.Context) -> None:
    """List, download and check weights of backbones."""
    from abaw.commands import listings

    if context.invoked_subcommand is None:
        listings.show_weights()


@weights.command("list", epilog=examples("abaw weights list", "abaw weights list --json"))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def list_weights(as_json: bool) -> None:
    """List families, and where to get their weights.

    Weights are on this machine, can be downloaded, or have to be requested.
    """
    from abaw import pipeline
    from abaw.commands import listings

    if as_json:
        print_json(pipeline.weights_as_json(pipeline.list_weights()))
    else:
        listings.show_weights()


@weights.command(epilog=examples("abaw weights get mae", "abaw weights get vit-mean timm/resnet18"))
@click.argument("names", nargs=-1, required=True, metavar="NAME...", shell_complete=completion.weights)
def get(names: tuple[str, ...]) -> None:
    """Download weights.

    NAME is that of a family or of a backbone, or timm/<model>. Run again to continue.
    """
    from abaw import pipeline
    from abaw.commands import console
    from abaw.core.errors import CheckpointError

    families, n_failed = [pipeline.find_weights(name) for name in names], 0
    console.say(pipeline.describe_weights_folder())
    for family in families:
        try:
            with console.ConsoleReporter() as reporter:
                files = pipeline.get_weights(
                    family, reporter, lambda weights: console.say(f"{weights.family}, licence: {weights.terms}")
                )
        except CheckpointError as error:
            n_failed += 1
            console.warn(f"Error: {error}")
            continue
        for file in files:
            console.say(f"{family.family} is in {file}")
        if not files:
            console.say(f"{family.family} {family.where}.")
    if not n_failed:
        pairs = zip(names, families, strict=True)
        known = [name if name in family.backbones or "/" in name else family.backbones[0] for name, family in pairs]
        console.say_next("extract", *(word for name in known for word in ("--backbone", name)))
    sys.exit(1 if n_failed else 0)


@weights.command(epilog=examples("abaw weights check checkpoint.pth"))
@click.argument("file", type=click.Path(path_type=Path))
def check(file: Path) -> None:
    """Show which backbones a weights file fits.

    Also shows the fingerprints that their features would have.
    """
    from abaw import pipeline
    from abaw.commands import console

    fits = pipeline.check_weights(file)
    console.show_table(str(file), ["backbone", "fingerprint", "notes"], fits)
    console.say_next("extract", "--backbone", f"{fits[0][0]}:{file}")
