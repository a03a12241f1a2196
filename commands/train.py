"""The command that trains runs."""

import shlex
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

import click

from abaw.commands import completion
from abaw.commands.help import examples
from abaw.commands.shared_options import DEVICE, FORBID, RUNS, STORE
from abaw.commands.training_options import PRINT_CONFIG, RESUME, TASK, learning, run_name
from abaw.core.errors import UsageError
from abaw.core.files import Place
from abaw.core.progress import Interrupted

if TYPE_CHECKING:
    from abaw.train.config import TrainConfig
    from abaw.train.loop import TrainingResult
    from abaw.train.runs import Run

# options of the command that are settings too -> the key that --set takes
KEYS = {name: name for name in ("task", "fold", "epochs", "batch_size", "lr", "seed")}
KEYS |= {"head": "head.name", "loss": "loss.name"}


class TrainCommand(click.Command):
    """A command that answers an unknown option with the setting of that name, if there is one."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the words of the command line."""
        words = list(args)  # parsing takes them out of the list
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            remedy = _remedy_for(error.option_name, words, pixels=self.name == "finetune")
            if not remedy:
                raise
            raise UsageError(f"No such option {error.option_name}: use {remedy}.") from error

    def invoke(self, ctx: click.Context) -> Any:
        """Train; after an interruption a single run continues by its name."""
        try:
            return super().invoke(ctx)
        except Interrupted as stop:
            if ctx.params["n_seeds"] == 1:
                from abaw.commands import interruption

                interruption.continue_with(self.name or "train", "--resume", "--run", stop.run)
            raise


def _remedy_for(option: str, words: Sequence[str], *, pixels: bool = False) -> str:
    """What to type for an option that does not exist, such as `--dropout`; empty if no setting is similar."""
    from abaw import pipeline

    given = dict(pairwise(words)) | {word.partition("=")[0]: word.partition("=")[2] for word in words if "=" in word}
    key = pipeline.find_setting(option.lstrip("-"), given.get("--head", ""), given.get("--loss", ""), pixels=pixels)
    value = given.get(option, "")
    value = shlex.quote(value) if value and not value.startswith("-") else "..."
    flag = next((flag for flag, known in KEYS.items() if key in (flag, known)), None)
    if flag is not None:
        return f"--{flag.replace('_', '-')} {value}"
    return f"--set {key}={value}" if key else ""


@click.command(
    cls=TrainCommand,
    epilog=examples(
        "abaw train --task va",
        "abaw train --task expr --feature vit-mean --head tcn --epochs 50",
        "abaw train --recipe v-naw --seeds 3",
    ),
)
@TASK
@click.option(
    "--recipe",
    shell_complete=completion.recipes_or_files,
    help="A published system, or a .toml file; `abaw list recipes` shows them.",
)
@click.option(
    "--feature",
    "features",
    multiple=True,
    shell_complete=completion.features,
    help="Feature to train on; repeatable.  [default: the only one]",
)
@learning("transformer", "videos", "Windows", "windows and masks")
@STORE
@RUNS
@run_name("task-features-head, or recipe,")
@RESUME
@click.option("--resume-from", type=click.IntRange(min=1), metavar="EPOCH",
              help="Resume after this epoch, kept by save_every; later epochs are trained again.")  # fmt: skip
@click.option("--init", metavar="RUN|FILE", help="Begin with the weights of a run, or of a file, where they fit.")
@PRINT_CONFIG
@FORBID
@DEVICE
@click.pass_context
def train(
    ctx: click.Context,
    task: str | None,
    recipe: str | None,
    features: tuple[str, ...],
    settings: tuple[str, ...],
    n_seeds: int,
    store: Place,
    runs: Path,
    name: str | None,
    resume: bool,
    resume_from: int | None,
    init: str | None,
    print_config: bool,
    forbid: tuple[str, ...],
    device: str,
    **options: Any,
) -> None:
    """Train a temporal head for a task on stored features.

    On several GPUs: torchrun --nproc-per-node N -m -- abaw train ...
    """
    flags = {key: value for key, value in options.items() if value is not None}
    if (resume or resume_from) and n_seeds == 1:
        check_resumed(bool(recipe or features or init or set(flags) - {"epochs"}))
        _resume(ctx, task, [*(f"{key}={value}" for key, value in flags.items()), *settings], print_config)
        return
    if resume_from:
        raise UsageError("--resume-from continues a single run. Leave out --seeds and choose it with --run.")
    check_new(task, flags, settings, 0 if resume else n_seeds)
    from abaw import pipeline
    from abaw.commands import console

    pipeline.check_choices(task or "", flags.get("head", ""), flags.get("loss", ""))
    named = pipeline.load_recipe(recipe) if recipe else None
    if named:
        named.check_kind(pixels=False)
    opened = None if print_config and (features or recipe) else pipeline.open_store(store, features)
    with console.loading_torch():
        configs = pipeline.make_train_configs(opened, task, features, nested_values(flags), settings, named, n_seeds)
    if print_config:
        click.echo(pipeline.format_config(configs[0]), nl=False)
        return
    assert opened is not None
    pipeline.check_forbidden(forbid, store=opened, features=configs[0].features)
    ending, stem = TrainEnding(), named.name if named else ""
    console.show_device(device)
    with console.ConsoleReporter() as reporter:
        pipeline.train_seeds(configs, opened, runs, name, stem, device, reporter, resume, ending.add, init)
    ending.say_all(configs[0])


def check_resumed(has_options: bool) -> None:
    """Raise a UsageError if a run is to be resumed with options of a new one."""
    if has_options:
        raise UsageError(
            "--resume continues the run with its own options. Leave out all but --task, --run and --epochs; only with "
            "--seeds give the whole command again."
        )


def check_new(task: str | None, flags: Mapping[str, Any], settings: Sequence[str], n_new: int) -> None:
    """Check the options of new runs; after an interruption several continue by the whole command, one by its name.

    Args:
        flags: options that are settings, too.
    """
    _check_settings({**flags, **({"task": task} if task else {})}, settings)
    from abaw.commands import interruption

    if n_new > 1:
        interruption.continue_with(*interruption.typed_words(), "--resume")
    elif n_new == 1:
        interruption.nothing_yet()


def _resume(ctx: click.Context, task: str | None, settings: Sequence[str], print_config: bool) -> None:
    from abaw import pipeline
    from abaw.commands import console

    given = ctx.params
    if print_config:
        click.echo(pipeline.format_config(pipeline.find_run(given["runs"], given["name"], task).config), nl=False)
        return
    run = pipeline.find_run(given["runs"], given["name"], task)
    opened = pipeline.open_store_for(run, given["store"])
    run = pipeline.change_run(run, settings, given["resume_from"])
    console.show_device(given["device"])
    with console.ConsoleReporter() as reporter:
        pipeline.train(run, opened, device=given["device"], reporter=reporter, on_result=TrainEnding().add)


def nested_values(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Values of a config; the head's and the loss's names are options of theirs."""
    return {key: {"name": value} if key in ("head", "loss") else value for key, value in flags.items()}


def _check_settings(flags: Mapping[str, Any], settings: Sequence[str]) -> None:
    """Raise a UsageError if `--set` gives another value than the option of the same meaning."""
    for setting in settings:
        key, _, value = (part.strip() for part in setting.partition("="))
        option = next((option for option, known in KEYS.items() if known == key and option in flags), None)
        if option is not None and not _are_equal(flags[option], value):
            written = f"--{option.replace('_', '-')} {flags[option]}"
            raise UsageError(f"{written} and --set {setting} contradict each other. Leave out one of them.")


def _are_equal(value: Any, text: str) -> bool:
    try:
        return type(value)(text) == value
    except ValueError:
        return False


class TrainEnding:
    """Says what each run came to, and the next command."""

    def __init__(self) -> None:
        self._scores: list[float] = []

    def add(self, run: "Run", result: "TrainingResult") -> None:
        from abaw.commands import console

        self._scores.append(result.best_score)
        console.say(
            f"{run.folder}: best {run.task.name} score {result.best_score:.3f} at epoch {result.best_epoch} of "
            f"{result.n_epochs} ({run.task.measure.name}). {console.next_command('eval', run.name)}"
        )

    def say_all(self, config: "TrainConfig") -> None:
        """The mean of several seeds."""
        from abaw.commands import console

        if len(self._scores) > 1:
            spread = f"{mean(self._scores):.3f} ± {stdev(self._scores):.3f}"
            console.say(f"{len(self._scores)} seeds: {config.task} score {spread}.")
