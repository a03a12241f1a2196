"""The command that fine-tunes encoders."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from abaw.commands import completion
from abaw.commands.help import examples
from abaw.commands.shared_options import DATA, DEVICE, FORBID, RUNS
from abaw.commands.train import (
    TrainCommand,
    TrainEnding,
    check_new,
    check_resumed,
    nested_values,
)
from abaw.commands.training_options import PRINT_CONFIG, RESUME, TASK, learning, run_name
from abaw.core.errors import UsageError
from abaw.core.memory import gigabytes

PLACES = ("data", "runs", "name", "device", "print_config", "forbid")  # options that are no settings

if TYPE_CHECKING:
    from abaw.train.finetune.finetune_config import FinetuneConfig
    from abaw.train.runs import Run


@click.command(
    cls=TrainCommand,
    epilog=examples(
        "abaw finetune --task va --backbone vit-mean --set unfreeze=4",
        "abaw finetune --task expr --backbone iresnet100:R100.pth --set augment=situ",
        "abaw finetune --task va --backbone mae-cls:MAE.pth --set lora.rank=8",
        "abaw finetune --recipe situ-expr --images rafdb=RAF --images fer=FER",
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
@click.option("--plan", is_flag=True, help="Print the memory that it takes and what fits, and train nothing.")
@click.option("--memory", type=click.FloatRange(min=0, min_open=True), metavar="GB",
              help="With --plan: of a GPU that is not here, or with --device cpu of a machine.")  # fmt: skip
@FORBID
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
    plan: bool,
    memory: float | None,
    **options: Any,
) -> None:
    """Train an encoder and a head on crops or still images.

    The run keeps the encoder as encoder.safetensors, which `abaw extract` takes as weights of its backbone.

    On several GPUs: torchrun --nproc-per-node N -m -- abaw finetune ...
    """
    flags = {key: value for key, value in options.items() if value is not None and key not in PLACES}
    _check_plan(plan, memory, resume)
    if resume and n_seeds == 1:
        check_resumed(bool(recipe or backbones or inits or untrained or images or set(flags) - {"epochs"}))
        _resume(ctx, task, [*(f"{key}={value}" for key, value in flags.items()), *settings])
        return
    if options["aligned"] and not images:
        raise UsageError("--aligned is about still images. Name their sets with --images NAME=FOLDER, or leave it out.")
    check_new(task, flags, settings, 0 if resume else n_seeds)
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
    if given["plan"]:
        _show_plan(configs[0], given["device"], given["memory"] or 0.0)
        return
    ending, weights = TrainEnding(), [*given["backbones"], *given["inits"]]
    pipeline.check_forbidden(given["forbid"], weights, given["data"], given["images"])
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


def _check_plan(plan: bool, memory: float | None, resume: bool) -> None:
    if memory and not plan:
        raise UsageError("--memory is for --plan: add it, or leave out --memory.")
    if plan and resume:
        raise UsageError("--plan is for a new run: leave out --resume, and give the options of the run.")


def _show_plan(config: "FinetuneConfig", device: str, memory_gb: float) -> None:
    """Print the memory of a training by what takes it, and what fits."""
    from abaw import pipeline
    from abaw.commands import console

    with console.loading("Measuring the networks"):
        plan = pipeline.plan_finetune(config, device, memory_gb)
    use = plan.asked
    parts = {
        "weights": use.weights,
        "gradients": use.gradients,
        f"states of {config.optimizer}": use.states,
        f"activations of {use.n_images:,} images": use.activations,
        "a step, at most": use.training,
        "a validation, at most": use.validation,
    }
    networks = ", ".join(plan.networks) + (f", {config.copies} copies" if config.copies > 1 else "")
    console.show_table(
        f"{networks} in {plan.precision}", ["what", ">GB"], [(name, gigabytes(size)) for name, size in parts.items()]
    )
    room = f"{gigabytes(use.most)} of {gigabytes(plan.room)} GB on {plan.device}"
    if plan.fits:
        console.say(f"It fits: {room}.")
        return
    rows = [
        (" ".join(f"--set {setting}" for setting in other.settings), gigabytes(other.most)) for other in plan.others
    ]
    console.show_table("With other options", ["add", ">GB"], rows)
    remedy = plan.remedy
    if remedy is None:
        console.say(
            f"It does not fit: {room}. Train fewer layers with --set unfreeze=N, or choose a smaller --backbone."
        )
    else:
        words = " ".join(f"--set {setting}" for setting in remedy.settings)
        console.say(f"It does not fit: {room}. Add {words}: {gigabytes(remedy.most)} GB.")
