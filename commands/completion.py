"""Completion in the shell: runs, tasks, heads, features, backbones and so on. Loads no torch, and reads small files only."""

from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

Complete = Callable[[click.Context, click.Parameter, str], list[str]]


def _completes(names: Callable[[click.Context], Iterable[str]]) -> Complete:
    """A callback for click that offers those of some names that begin with what was typed."""

    @wraps(names)
    def complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
        try:
            known = sorted(set(names(context)))
        except Exception:  # a broken store or plug-in is reported by the command, not while somebody types
            return []
        return [name for name in known if name.startswith(incomplete)]

    return complete


def _value(context: click.Context, name: str, default: str) -> Any:
    """An option of the command that is being typed, or its default."""
    for parameter in context.command.params:
        if parameter.name == name:
            value = context.params.get(name)
            return parameter.get_default(context) or default if value is None else value
    return default


@_completes
def runs(context: click.Context) -> Iterable[str]:
    """Runs and ensembles in the folder of the runs."""
    from abaw import pipeline

    return pipeline.run_names(Path(_value(context, "runs", "runs")))


@_completes
def features(context: click.Context) -> Iterable[str]:
    """Features in the store."""
    from abaw import pipeline

    return pipeline.feature_names(_value(context, "store", "store.zarr"))


@_completes
def tasks(context: click.Context) -> Iterable[str]:
    """Tasks."""
    from abaw import pipeline

    return [task.name for task in pipeline.list_tasks()]


@_completes
def heads(context: click.Context) -> Iterable[str]:
    """Heads."""
    from abaw import pipeline

    return pipeline.list_heads()


@_completes
def losses(context: click.Context) -> Iterable[str]:
    """Losses."""
    from abaw import pipeline

    return pipeline.list_losses()


@_completes
def recipes(context: click.Context) -> Iterable[str]:
    """Recipes that come with abaw."""
    from abaw import pipeline

    return pipeline.recipe_names()


@_completes
def backbones(context: click.Context) -> Iterable[str]:
    """Backbones by name; those of timm are too many."""
    from abaw import pipeline

    families = pipeline.list_backbones()
    return [spec.name for family in families for spec in (*family.specs, *family.variants)]


@_completes
def weights(context: click.Context) -> Iterable[str]:
    """Families and backbones that have weights."""
    from abaw import pipeline

    with_weights = [family for family in pipeline.list_backbones() if family.has_weights]
    return [name for family in with_weights for name in (family.name, *(spec.name for spec in family.specs))]


def runs_or_files(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[Any]:
    """A run, as the first word; files where no run begins like that."""
    names = [] if context.params.get(str(parameter.name)) else runs(context, parameter, incomplete)
    return names or [CompletionItem(incomplete, type="file")]


def recipes_or_files(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[Any]:
    """A recipe; files where none begins like that."""
    return recipes(context, parameter, incomplete) or [CompletionItem(incomplete, type="file")]


@_completes
def nothing(context: click.Context) -> Iterable[str]:
    """Nothing: click would offer files."""
    return ()
