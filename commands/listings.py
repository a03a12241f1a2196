"""The command that lists what there is to choose from, and the list of weights."""

import csv
import fnmatch
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from abaw.commands import completion
from abaw.commands.help import CommandGroup, examples
from abaw.commands.shared_options import RUNS, TaskName, print_json
from abaw.core.csv_cells import as_cell
from abaw.core.errors import UsageError, did_you_mean
from abaw.core.names import is_pattern

if TYPE_CHECKING:
    from abaw.backbones.published import FamilyWeights
    from abaw.commands.listing_entries import Listed, Listing

JSON_LIST = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


def _filters(complete: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The argument of a list: names, parts of names, or patterns."""
    return click.argument("filters", metavar="[NAME|PATTERN]...", nargs=-1, shell_complete=complete)


@click.group("list", cls=CommandGroup, epilog=examples("abaw list runs", "abaw list backbones 'vit*'"))
def list_() -> None:
    """List runs, backbones, heads and other choices.

    A name shows all about one; a pattern such as 'vit*', or a part of a name, shows those that match.
    """


@list_.command("runs", epilog=examples("abaw list runs --task va", "abaw list runs 'va-*' --csv > runs.csv"))
@_filters(completion.runs)
@click.option("--task", type=TaskName(), help="Only runs of this task.", shell_complete=completion.tasks)
@click.option("--feature", "features", multiple=True, help="Only runs on this feature; repeatable.",
              shell_complete=completion.features)  # fmt: skip
@click.option("--head", help="Only runs with this head.", shell_complete=completion.heads)
@RUNS
@click.option("--csv", "as_csv", is_flag=True, help="Print a row for each run as CSV.")
@JSON_LIST
def list_runs(
    filters: tuple[str, ...],
    task: str | None,
    features: tuple[str, ...],
    head: str | None,
    runs: Path,
    as_csv: bool,
    as_json: bool,
) -> None:
    """List runs and ensembles, the best of each task first.

    The score is the one on the run's validation videos, without post-processing. "on" says which these are: val is the
    official split, and scores on folds cannot be compared with it. "tuned" is the score with the post-processing of
    `abaw tune`, where `abaw eval` has computed it.
    """
    from abaw.commands import console, listing_entries

    listing, broken = listing_entries.runs(runs, task, features, head)
    known = [name for name in filters if name not in broken]
    chosen = select(listing, known) if known or not filters else []
    if as_csv:
        _write_csv(chosen)
    elif as_json:
        print_json({"runs": [dict(entry.content) for entry in chosen], "broken": broken})
    elif len(chosen) == 1 and filters:
        _show_content(chosen[0].content)
    elif chosen:
        _show_rows(listing, f"Runs in {runs}", chosen)
        if any(str(cell).endswith("*") for entry in chosen for cell in entry.cells):
            console.say("* optimistic: its runs' post-processing was fitted on val.")
    elif task or features or head:
        console.say(f"{runs} has no run of this kind; `abaw list runs` without options shows all.")
    console.show_some(
        f"{len(broken)} folders cannot be read:", [f"{name}: {why}" for name, why in broken.items()], most=20
    )


@list_.command("backbones", epilog=examples("abaw list backbones 'vit*'", "abaw list backbones vit-mean"))
@_filters(completion.backbones)
@JSON_LIST
def list_backbones(filters: tuple[str, ...], as_json: bool) -> None:
    """List backbones: width, parameters, weights, licence.

    NAME shows preprocessing, output, weights, licence and source, also of names that are not listed, such as
    timm/resnet18. Weights: "have" are on this machine, "get" can be downloaded by `abaw weights get`.
    """
    from abaw import pipeline
    from abaw.commands import listing_entries

    listing = listing_entries.backbones()
    names = {entry.name for entry in listing.entries}
    if len(filters) == 1 and (filters[0] in names or any(mark in filters[0] for mark in "/@+:")):
        described = pipeline.describe_backbone(filters[0])
        print_json({"backbones": [described]}) if as_json else _show_content(described)
        return
    chosen = select(listing, filters)
    if len(chosen) == 1 and filters and not as_json:
        _show_content(pipeline.describe_backbone(chosen[0].name))
    else:
        _show(listing, chosen, as_json, bool(filters))


@list_.command("heads", epilog=examples("abaw list heads", "abaw list heads transformer"))
@_filters(completion.heads)
@JSON_LIST
def list_heads(filters: tuple[str, ...], as_json: bool) -> None:
    """List heads with their options and defaults."""
    from abaw.commands import listing_entries

    _list(listing_entries.heads(), filters, as_json)


@list_.command("losses", epilog=examples("abaw list losses", "abaw list losses ccc"))
@_filters(completion.losses)
@JSON_LIST
def list_losses(filters: tuple[str, ...], as_json: bool) -> None:
    """List losses with the tasks that they fit."""
    from abaw.commands import listing_entries

    _list(listing_entries.losses(), filters, as_json)


@list_.command("tasks", epilog=examples("abaw list tasks", "abaw list tasks va"))
@_filters(completion.tasks)
@JSON_LIST
def list_tasks(filters: tuple[str, ...], as_json: bool) -> None:
    """List tasks with their outputs and scores."""
    from abaw.commands import listing_entries

    names = [_task_name(name) for name in filters]
    _list(listing_entries.tasks(), names, as_json)


@list_.command("detectors", epilog=examples("abaw list detectors"))
@_filters(completion.nothing)
@JSON_LIST
def list_detectors(filters: tuple[str, ...], as_json: bool) -> None:
    """List face detectors, with their sources.

    `abaw prepare --detector` also takes FILE.onnx of YuNet or SCRFD, and MODULE:CLASS.
    """
    from abaw.commands import listing_entries

    _list(listing_entries.detectors(), filters, as_json)


@list_.command("layouts", epilog=examples("abaw list layouts"))
@_filters(completion.nothing)
@JSON_LIST
def list_layouts(filters: tuple[str, ...], as_json: bool) -> None:
    """List layouts of data folders, with their sources."""
    from abaw.commands import listing_entries

    _list(listing_entries.layouts(), filters, as_json)


@list_.command("recipes", epilog=examples("abaw list recipes", "abaw list recipes situ-va"))
@_filters(completion.recipes)
@JSON_LIST
def list_recipes(filters: tuple[str, ...], as_json: bool) -> None:
    """List recipes: the options of published systems."""
    from abaw.commands import listing_entries

    _list(listing_entries.recipes(), filters, as_json)


@list_.command("published", epilog=examples("abaw list published --task va", "abaw list published 'HSEmotion*'"))
@_filters(completion.nothing)
@click.option("--task", type=TaskName(), help="Only scores of this task.", shell_complete=completion.tasks)
@JSON_LIST
def list_published(filters: tuple[str, ...], task: str | None, as_json: bool) -> None:
    """List scores that others published, with sources.

    Those of ce are of test videos, which a run of expr can predict.
    """
    from abaw.commands import listing_entries

    _list(listing_entries.published(task), filters, as_json)


def _task_name(text: str) -> str:
    """The name of the task of a file; other texts as they are."""
    from abaw import pipeline

    return pipeline.add_task(text).name if text.endswith(".toml") else text


def _list(listing: "Listing", filters: Sequence[str], as_json: bool) -> None:
    """Show the entries that match; a single one in full."""
    chosen = select(listing, filters)
    if len(chosen) == 1 and filters and not as_json:
        _show_content(chosen[0].content)
    else:
        _show(listing, chosen, as_json, bool(filters))


def select(listing: "Listing", filters: Sequence[str]) -> "list[Listed]":
    """The entries with one of these names, or that match a pattern or contain a part of a name, in their order.

    Raises:
        UsageError: nothing matches one of them; the message says what is similar.
    """
    names = [entry.name for entry in listing.entries]
    wanted = set(names) if not filters else set()
    for text in filters:
        if text in names:
            matches = [text]
        elif is_pattern(text):
            matches = fnmatch.filter(names, text)
        else:
            matches = [name for name in names if text.lower() in name.lower()]
        if not matches:
            raise UsageError(
                f"No {listing.thing} {text!r}. {did_you_mean(text, names)}`abaw list {listing.kind}` shows them all."
            )
        wanted |= set(matches)
    return [entry for entry in listing.entries if entry.name in wanted]


def _show(listing: "Listing", entries: "Sequence[Listed]", as_json: bool, is_filtered: bool) -> None:
    from abaw.commands import console

    if as_json:
        print_json({listing.kind: [dict(entry.content) for entry in entries]})
        return
    _show_rows(listing, listing.kind.capitalize(), entries)
    for sentence in listing.notes if not is_filtered else ():
        console.say(sentence)


def _show_rows(listing: "Listing", title: str, entries: "Sequence[Listed]") -> None:
    from abaw.commands import console

    rows = [(entry.name, *entry.cells) for entry in entries]
    console.show_table(title, listing.columns, rows, listing.optional, lines=False)


def _show_content(content: Mapping[str, Any]) -> None:
    """A line for each value, and for each part of a value that has parts."""
    from abaw.commands import console

    width = max(map(len, content)) + 2
    for key, value in content.items():
        title = f"{key.replace('_', ' ')}:"
        for line in _lines_of(value):
            console.say(f"{title:<{width}}{line}")
            title = ""


def _lines_of(value: object, before: str = "") -> list[str]:
    """A value of a JSON object as lines for people."""
    if isinstance(value, Mapping):
        lines = []
        for key, inner in value.items():
            name = f"{before}{key}"
            lines += _lines_of(inner, f"{name}.") if isinstance(inner, Mapping) else [f"{name} = {_in_line(inner)}"]
        return lines or ["-"]
    if isinstance(value, list | tuple) and any(isinstance(part, Mapping) for part in value):
        return [_in_line(list(part.values())) for part in value]
    if isinstance(value, list | tuple) and any(" " in str(part) for part in value):
        return [str(part) for part in value]
    return [_in_line(value)]


def _in_line(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_in_line, value)) or "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and value >= 10_000:
        return f"{value:,}"
    return "-" if value in (None, "") else f"{value:.4g}" if isinstance(value, float) else str(value)


def _write_csv(entries: "Sequence[Listed]") -> None:
    """A row for each entry; lists are joined by `+`."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    if entries:
        writer.writerow(entries[0].content)
    for entry in entries:
        cells = ("+".join(map(str, v)) if isinstance(v, list | tuple) else v for v in entry.content.values())
        writer.writerow(["" if cell is None else as_cell(cell) for cell in cells])


def show_weights() -> None:
    """A line for each family: whether its weights are on this machine, can be downloaded, or have to be requested."""
    from abaw import pipeline
    from abaw.commands import console

    weights = pipeline.list_weights()
    rows = [(family.family, family.line, family.licence) for family in weights]
    console.show_table("Weights", ["family", "weights", "licence"], rows, lines=False)
    console.say("")
    for page, families in _by_page([family for family in weights if family.state == "by hand"]).items():
        console.say(f"By hand, {', '.join(families)}:")
        console.say(page)
    console.say("")
    console.say(pipeline.describe_weights_folder())
    console.say("A file in that folder with the name of the family, such as mae.pth or dan.pth, is used by default.")


def _by_page(weights: "Sequence[FamilyWeights]") -> dict[str, list[str]]:
    """The families by the page where their weights are published."""
    pages: dict[str, list[str]] = {}
    for family in weights:
        for known in family.sources:
            if known.source:
                pages.setdefault(known.source, []).append(family.family)
    return pages
