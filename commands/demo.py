"""The command that makes a small dataset and takes it through the stages."""

import shlex
from pathlib import Path

import click

from abaw.commands.help import examples
from abaw.commands.scores import show_scores
from abaw.commands.shared_options import DEVICE

KINDS = ["aff-wild2", "lsd", "stills", "vgaf", "ah", "vd", "emi", "ce", "mer", "engagement"]


@click.command(epilog=examples("abaw demo", "abaw demo --size tiny --out /tmp/demo"))
@click.option("--out", default="demo", type=click.Path(path_type=Path), show_default=True, help="Folder to make.")
@click.option("--size", type=click.Choice(["tiny", "small", "large"]), default="small", show_default=True,
              help="Of the dataset.")  # fmt: skip
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Another seed, other faces.")
@click.option("--dataset", "kind", type=click.Choice(KINDS), default="aff-wild2",
              show_default=True, help="Whose layout it has; stills are sets of images, which are only made.")  # fmt: skip
@DEVICE
def demo(out: Path, size: str, seed: int, kind: str, device: str) -> None:
    """Make a small dataset and take it through the stages.

    Its features are extracted, its tasks trained and evaluated.

    Leaves OUT/data, OUT/store.zarr and OUT/runs, so that all other commands work inside OUT.
    """
    from abaw import pipeline
    from abaw.commands import console

    console.show_device(device)
    with console.ConsoleReporter() as reporter:
        results = pipeline.demo(
            out, size, seed, device, reporter, kind, lambda run, evaluation: show_scores(run.folder, evaluation, "val")
        )
    if not results:
        folder = shlex.quote(str(out / "data" / "rafdb"))
        words = f"abaw finetune --task expr --backbone timm/resnet18@112 --untrained --images rafdb={folder}"
        console.say(f"Made sets of still images in {out / 'data'}. Next: {words}")
        return
    config = results[-1][0].config
    if kind == "ce":
        words = "abaw submit --task ce --sample data/CE_sample.txt"  # by the sums of pairs, without training
    else:
        own = f" --fold {config.fold}" if config.fold else ""
        own += f" --set window={config.window}" if config.window != config.own_task.window else ""
        words = f"abaw train --task {config.task}{own} && abaw eval --split val"
    console.say(f"Next: cd {shlex.quote(str(out))} && {words}")
