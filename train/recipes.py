"""Recipes: the options of published systems, one TOML file each."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from abaw.core.errors import UsageError, did_you_mean
from abaw.core.toml_files import read_toml
from abaw.train.config import TrainConfig, make_config

FOLDER = Path(__file__).resolve().parent.parent / "recipes"


@dataclass(frozen=True)
class Recipe:
    """Options of a training run, and the commands that extract its features.

    Attributes:
        name: file name without suffix.
        summary: one sentence.
        extract: shell commands that extract its features.
        values: options of a `TrainConfig`.
    """

    name: str
    summary: str
    extract: tuple[str, ...]
    values: dict[str, Any]

    def check_kind(self, *, pixels: bool) -> None:
        """Raise a UsageError if a recipe is of pixels and this is a training on features, or the other way round."""
        if bool(self.values.get("pixels")) != pixels:
            kind, command = ("features", "train") if pixels else ("pixels", "finetune")
            raise UsageError(f"Recipe {self.name} is of {kind}. Use `abaw {command} --recipe {self.name}`.")


def recipe_names() -> list[str]:
    """Names of the built-in recipes, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load_recipe(name: str) -> Recipe:
    """Read a built-in recipe by its name, or a file by its path ending in `.toml`.

    Raises:
        UsageError: unknown recipe, invalid TOML, or unknown options; the message suggests similar names.
    """
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    if not name.endswith(".toml") and name not in recipe_names():
        hint = did_you_mean(name, recipe_names())
        raise UsageError(f"No recipe {name!r}. {hint}Available: {', '.join(recipe_names())}; or pass a .toml file.")
    try:
        values = read_toml(path)
    except FileNotFoundError:
        raise UsageError(f"No recipe file {path}. Name another, or a recipe of `abaw list recipes`.") from None
    except OSError as error:
        raise UsageError(f"Recipe {path} cannot be read ({error.strerror}).") from error
    except (ValueError, RecursionError) as error:  # invalid TOML or UTF-8, numbers too long, tables too deep
        raise UsageError(f"Recipe {path} is not valid TOML ({str(error)[:300]}). Correct the file.") from error
    summary, extract = values.pop("summary", ""), values.pop("extract", [])
    if not isinstance(summary, str) or not isinstance(extract, list) or not all(isinstance(e, str) for e in extract):
        raise UsageError(f"Recipe {path}: summary must be a string and extract a list of commands.")
    try:
        make_config(values)
    except UsageError as error:
        raise UsageError(f"Recipe {path.name}: {error}") from error
    return Recipe(path.stem, summary, tuple(extract), values)


def format_config(config: TrainConfig) -> str:
    """All options of a config, resolved, as the text of a recipe: `load_recipe` reads the same config from it."""
    values = config.resolved().model_dump()
    tables = {key: value for key, value in values.items() if isinstance(value, Mapping)}
    lines = [_line(key, value) for key, value in values.items() if key not in tables and value is not None]
    for name, options in tables.items():
        lines += ["", f"[{name}]", *(_line(key, value) for key, value in options.items() if value is not None)]
    return "\n".join(lines) + "\n"


def _line(key: str, value: object) -> str:
    return f"{key} = {_as_toml(value)}"


def _as_toml(value: object) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(_line(key, inner) for key, inner in value.items() if inner is not None) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_as_toml, value)) + "]"
    if isinstance(value, float):
        return repr(value)  # inf is a float of TOML, unlike the Infinity of json
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
