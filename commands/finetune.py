"""The command that fine-tunes encoders."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from abaw.commands import completion
from abaw.commands.help import examples
from abaw.commands.shared_options import DATA, DEVICE, RUNS
from abaw.commands.train import TrainCommand, TrainEnding, check_settings, name_continuation, nested_values
from abaw.commands.training_options import PRINT_CONFIG, RESUME, TASK, learning, run_name
from abaw.core.errors import UsageError

PLACES = ("data", "runs", "name", "device", "print_config")  # options that are no settings

if TYPE_CHECKING:
    from abaw.train.runs import Run


@click.command(
    cls=TrainCommand,
    epilog=examples(
        "abaw finetune --task va --backbone vit-mean --set unfreeze=4",
        "abaw finetune --task expr --backbone iresnet100:R100.pth --set augment=situ",
        "abaw finetune --task va --backbone mae-cls:MAE.pth --set lora.rank=8",
        "abaw finetune --task expr --backbone iresnet100:R100.pth --images rafdb=RAF --images ferplus=FER",
    ),
)
@TASK
@click.option(
    "--recipe", shell_complete=completion.recipes_or_files, help="A published system, or a .toml file of pixels."
)
@click.option(
    "--backbone",
    "backbones",
    multiple=True,
    metavar="BACKBONE[:FILE]",
    shell_complete=completion.backbones,
    help="Encoder to fine-tune, and the weights that it begins with; repeatable.",
)
@click.option(
    "--init", "inits", multiple=True, metavar="BACKBONE:FILE", help="Weights for a backbone of a recipe; repeatable."
)
@click.option("--untrained", is_flag=True, help="Begin with random weights.")
@click.option(
    "--images",
    multiple=True,
    metavar="NAME=FOLDER",
    help="Set of still images to train on instead of the crops of --data; repeatable.",
)
@click.option("--aligned", is_flag=True, default=None, help="Take still images as they are, not their aligned faces.")
@learning("linear", "images", "Windows, or images for heads of frames,", "batches and augmentations")
@DATA
@RUNS
@run_name("task-backbone-pixels")
@RESUME
@PRINT_CONFIG
@DEVICE
@click.pass_context
def finetune(
    ctx: click.Context,
    task: str | None,
    recipe: str | None,
    backbones: tuple[str, ...],
    inits: tuple[str, ...],
    untrained: bool,
    images: tuple[str, ...],
    settings: tuple[str, ...],
    n_seeds: int,
    resume: bool,
    **options: Any,
) -> None:
    """Train an encoder and a head on the pixels of face crops, or of still images.

    The run keeps the encoder as encoder.safetensors, which `abaw extract` takes as weights of its backbone.

    On several GPUs: torchrun --nproc-per-node N -m -- abaw finetune ...
    """
    flags = {key: value for key, value in options.items() if value is not None and key not in PLACES}
    if resume and n_seeds == 1:
        if recipe or backbones or inits or untrained or images or set(flags) - {"epochs"}:
            raise UsageError(
                "--resume continues the run with its own options. Leave out all but --task, --run and --epochs; only "
                "with --seeds give the whole command again."
            )
        _resume(ctx, task, [*(f"{key}={value}" for key, value in flags.items()), *settings])
        return
    if options["aligned"] and not images:
        raise UsageError("--aligned is about still images. Name their sets with --images NAME=FOLDER, or leave it out.")
    check_settings({**flags, **({"task": task} if task else {})}, settings)
    name_continuation(0 if resume else n_seeds)
    _train(ctx, flags)


def _train(ctx: click.Context, flags: Mapping[str, Any]) -> None:
    """Fine-tune new runs.

    Args:
        flags: options that are settings, too.
    """
    from abaw import pipeline
    from abaw.commands import console

    given = ctx.params
    named = pipeline.load_recipe(given["recipe"]) if given["recipe"] else None
    with console.loading_torch():
        configs = pipeline.make_finetune_configs(
            given["task"], given["backbones"], nested_values(flags), given["settings"], named, given["n_seeds"]
        )
    if given["print_config"]:
        click.echo(pipeline.format_config(configs[0]), nl=False)
        return
    ending, weights = TrainEnding(), [*given["backbones"], *given["inits"]]
    console.show_device(given["device"])
    with console.ConsoleReporter() as reporter:
        pipeline.finetune_seeds(
            configs, given["data"], given["runs"], weights, given["untrained"], given["name"], named.name if named else "",
            given["device"], reporter, given["resume"], ending.add, given["images"],
        )  # fmt: skip
    ending.say_all(configs[0])


def _resume(ctx: click.Context, task: str | None, settings: Sequence[str]) -> None:
    from abaw import pipeline
    from abaw.commands import console

    given = ctx.params
    run: Run = pipeline.find_run(given["runs"], given["name"], task)
    run = pipeline.change_run(run, settings)
    console.show_device(given["device"])
    with console.ConsoleReporter() as reporter:
        pipeline.finetune(run, given["data"], given["device"], reporter, TrainEnding().add)
