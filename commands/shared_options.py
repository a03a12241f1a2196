"""Options and arguments that several commands have."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from abaw.core.devices import check_device
from abaw.core.files import Place, is_url


class StorePlace(click.ParamType):
    """A folder, or a URL such as s3://bucket/store.zarr."""

    name = "place"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Place:
        """A URL stays a text: a path would swallow one of its slashes."""
        return value if is_url(value) else Path(value)


class TaskName(click.ParamType):
    """The name of a task, or a task file or the folder of a run, whose task is read and then known by its name."""

    name = "task"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Unknown names are left to the command: to know all tasks takes numpy."""
        if not str(value).endswith(".toml") and os.sep not in str(value):
            return str(value)
        from abaw import pipeline

        return pipeline.add_task(str(value)).name


class DeviceName(click.ParamType):
    """The name of a device, checked before torch is loaded; whether there is such a device, only torch knows."""

    name = "device"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Refuse unknown names."""
        check_device(value)
        return str(value)


DATA = click.option("--data", envvar="ABAW_DATA", default="data", type=click.Path(path_type=Path), show_default=True,
                    show_envvar=True, help="Folder with cropped_aligned/ and the label folders.")  # fmt: skip
STORE = click.option("--store", envvar="ABAW_STORE", default="store.zarr", type=StorePlace(),
                     show_default=True, show_envvar=True, help="Feature store.")  # fmt: skip
RUNS = click.option("--runs", envvar="ABAW_RUNS", default="runs", type=click.Path(path_type=Path), show_default=True,
                    show_envvar=True, help="Folder of the runs.")  # fmt: skip
STORE_ARGUMENT = click.argument("path", envvar="ABAW_STORE", default="store.zarr", type=StorePlace())
TASK_FILES = click.option("--task", "tasks", multiple=True, metavar="FILE.toml",
                          help="Also read the labels of a task file of your own; repeatable.")  # fmt: skip
PEOPLE = click.option("--people", default="", metavar="FILE.csv|folders",
                      help="Who is in the videos: a table video,person, or a folder for each person.  [default: people.csv in --data]")  # fmt: skip
IDENTITY = click.option("--identity", metavar="arcface[:FILE]",
                        help="Tell people in videos apart by their faces, across cuts: ArcFace from FILE or the weights folder, or BACKBONE[:FILE].  [default: by position]")  # fmt: skip
DEVICE = click.option("--device", type=DeviceName(), default="auto", show_default=True,
                      help="auto, cpu, cuda, cuda:N or mps.")  # fmt: skip
FPS = click.option(
    "--fps", type=click.FloatRange(min=0, min_open=True), help="Frame rate of videos without a video file."
)
SPLIT = click.option("--split", default="val", show_default=True, help="train or val.")
RAW = click.option("--raw", is_flag=True, help="Leave out the post-processing that `abaw tune` fitted.")
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")


FORBID = click.option("--forbid", multiple=True, metavar="DATASET",
                      help="Refuse encoders that were trained on this data set, such as aff-wild2; repeatable.")  # fmt: skip


def with_typed_options(words: Sequence[str]) -> list[str]:
    """Words of another command, and what was typed for this one about the data and the device, where it takes that.

    Args:
        words: without `abaw`.
    """
    context = click.get_current_context(silent=True)
    if context is None:
        return list(words)
    command: click.Command | None = context.find_root().command
    for word in words:
        command = command.commands.get(word) if isinstance(command, click.Group) else command
    options = {option for param in command.params for option in param.opts} if command else set()
    typed = []
    for name in ("data", "store", "runs", "device", "people", "fps"):
        is_typed = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if is_typed and f"--{name}" in options and f"--{name}" not in words:
            typed += [f"--{name}", str(context.params[name])]
    return [*words, *typed]


def typed_run(folder: Path, runs: Path) -> str:
    """What to type for a run or an ensemble: its name, or its path where it is not in the folder of runs."""
    return folder.name if folder.parent == runs else str(folder)


def print_json(content: dict[str, Any]) -> None:
    """Print one JSON object."""
    click.echo(json.dumps(content, indent=2))
