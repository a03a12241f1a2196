"""Writes the page of all options of training, with their defaults, from the classes that define them.

    python -m studies.settings [--check]

writes docs/settings.md; --check says whether it is current, and writes nothing.
"""

import argparse
import inspect
import re
import sys
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from abaw.core.tasks import TASKS
from abaw.train.config import TrainConfig
from abaw.train.finetune.finetune_config import FinetuneConfig, LoraOptions
from abaw.train.head_options import HEADS
from abaw.train.loss_options import LOSSES

PAGE = Path(__file__).resolve().parent.parent / "docs" / "settings.md"
HEAD = """# Settings

Every option of `abaw train --set KEY=VALUE`; recipes take the same names. Some are flags as well: `abaw train --epochs`,
`--batch-size`, `--lr`, `--seed`, `--head`, `--loss`, `--fold`; `abaw train --print-config` prints all as a recipe. This page is written by
`python -m studies.settings` from the classes that read these options. Lists are written with commas:
`--set views=,hflip`. A value out of its range is refused, and an unknown name is answered with the nearest ones.
"""
FINETUNING = """Options of `abaw finetune --set KEY=VALUE`, besides those of training; some of these have other defaults. A recipe is of
pixels with `pixels = true`.
"""
ENTRY = re.compile(r"^    ([a-z_]+(?:, [a-z_]+)*): (.*?)(?=^    [a-z_]+(?:, [a-z_]+)*: |\Z)", re.MULTILINE | re.DOTALL)
SYMBOLS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<", "min_length": "length ≥", "multiple_of": "multiple of"}


def as_markdown() -> str:
    """The whole page."""
    defaults = "\n".join(f"| `{task.name}` | `{task.loss}` | {task.window} |" for task in TASKS.values())
    parts = [HEAD, "## Training\n", _table(TrainConfig, "", ("head", "loss", "postprocess"))]
    own = [name for name in TrainConfig.model_fields if name not in ("epochs", "batch_size", "lr", "decay_norms")]
    parts += ["## Fine-tuning\n", FINETUNING, _table(FinetuneConfig, "", (*own, "lora", "pixels"))]
    parts += [_table(LoraOptions, "lora.", ())]
    parts += ["## By task\n", "| task | loss | window |\n|---|---|---|\n" + defaults + "\n"]
    parts += ["## Heads\n", "`--head NAME`, then `--set head.KEY=VALUE`.\n"]
    parts += [f"### {name}\n\n{_table(options, 'head.', ('name',))}" for name, options in HEADS.items()]
    parts += ["## Losses\n", "`--loss NAME`, then `--set loss.KEY=VALUE`.\n"]
    parts += [f"### {name}\n\n{_table(options, 'loss.', ('name',))}" for name, options in LOSSES.items()]
    return "\n".join(parts)


def _table(options: type[BaseModel], prefix: str, skipped: tuple[str, ...]) -> str:
    rows = ["| option | default | range | meaning |", "|---|---|---|---|"]
    meanings = _meanings(options)
    for name, field in options.model_fields.items():
        if name not in skipped:
            shown = "empty" if field.default in ("", (), None) else f"`{_text(field.default)}`"
            default = "required" if field.is_required() else shown
            rows.append(f"| `{prefix}{name}` | {default} | {_range(options, name)} | {meanings.get(name, '')} |")
    return "\n".join(rows) + "\n" if len(rows) > 2 else "No options.\n"


def _meanings(options: type[BaseModel]) -> dict[str, str]:
    """Option -> its sentence in the docstring of the class or of one that it is derived from."""
    meanings: dict[str, str] = {}
    for base in reversed(options.__mro__):
        _, _, text = inspect.cleandoc(base.__dict__.get("__doc__") or "").partition("Attributes:\n")
        for names, sentence in ENTRY.findall(text):
            words = " ".join(sentence.split()).replace("|", "\\|")
            meanings |= dict.fromkeys(names.split(", "), words)
    return meanings


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(_text, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _range(options: type[BaseModel], name: str) -> str:
    """Choices or limits, as pydantic's schema of the option has them."""
    field = options.model_fields[name]
    choices = [value for value in get_args(field.annotation) if isinstance(value, str)]
    if choices:
        return ", ".join(f"`{value}`" for value in choices)
    if field.annotation is bool:
        return "`true`, `false`"
    limits = [
        f"{sign} {getattr(rule, key)}" for rule in field.metadata for key, sign in SYMBOLS.items() if hasattr(rule, key)
    ]
    return ", ".join(limits)


def main() -> None:
    """Write the page, or check it."""
    parser = argparse.ArgumentParser(prog="python -m studies.settings", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 unless the page is current")
    if not parser.parse_args().check:
        PAGE.write_text(as_markdown(), encoding="utf-8")
    elif PAGE.read_text(encoding="utf-8") != as_markdown():
        sys.exit(f"{PAGE} is not current. Run `python -m studies.settings`.")


if __name__ == "__main__":
    main()
