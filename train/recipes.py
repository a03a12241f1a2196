"""Recipes: published systems as files of options, one TOML file each."""

import difflib
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from abaw.core.errors import UsageError
from abaw.train.config import make_config

FOLDER = Path(__file__).resolve().parent.parent / "recipes"
OWN_KEYS = ("summary", "extract")  # what a recipe has in addition to the options of a config


@dataclass(frozen=True)
class Recipe:
    """Options of a training run, and how its features are made.

    Attributes:
        name: of the file, without suffix.
        summary: one sentence.
        extract: the commands that make its features, as people type them.
        values: options of a `TrainConfig`.
    """

    name: str
    summary: str
    extract: tuple[str, ...]
    values: dict[str, Any]


def recipe_names() -> list[str]:
    """Names of the built-in recipes, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load_recipe(name: str) -> Recipe:
    """Read a built-in recipe by its name, or a file by its path ending in `.toml`.

    Raises:
        UsageError: no such recipe, no TOML, or options that a config does not have; the message names near ones.
    """
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    if not name.endswith(".toml") and name not in recipe_names():
        near = difflib.get_close_matches(name, recipe_names(), n=2)
        hint = f"Did you mean {' or '.join(near)}? " if near else ""
        raise UsageError(f"No recipe {name!r}. {hint}There are: {', '.join(recipe_names())}; or name a .toml file.")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"Recipe {path} cannot be read ({error.strerror}).") from error
    except (ValueError, RecursionError) as error:  # of TOML, of UTF-8, of numbers too long, of tables too deep
        raise UsageError(f"Recipe {path} is not TOML ({str(error)[:300]}). Correct it there.") from error
    summary, extract = values.pop("summary", ""), values.pop("extract", [])
    if not isinstance(summary, str) or not isinstance(extract, list) or not all(isinstance(e, str) for e in extract):
        raise UsageError(f"Recipe {path}: summary must be a text and extract a list of commands.")
    try:
        make_config(values)
    except UsageError as error:
        raise UsageError(f"Recipe {path.name}: {error}") from error
    return Recipe(path.stem, summary, tuple(extract), values)
