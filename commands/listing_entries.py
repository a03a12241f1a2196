"""What the lists of `abaw list` show: an entry for each backbone, head, loss, recipe, task, published score and run."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abaw import pipeline

if TYPE_CHECKING:
    from pydantic import BaseModel

    from abaw.evaluate.run_summaries import RunSummary


@dataclass(frozen=True)
class Listed:
    """One thing to choose from.

    Attributes:
        name: what the user types.
        cells: of its row, after the name.
        content: all about it, for JSON and CSV.
    """

    name: str
    cells: tuple[object, ...]
    content: Mapping[str, Any]


@dataclass(frozen=True)
class Listing:
    """A list.

    Attributes:
        kind: what is listed, in the plural, as it is typed after `abaw list`.
        thing: the same in the singular.
        columns: titles, that of the name first; those of numbers begin with `>`.
        entries: in the order in which they are shown.
        notes: sentences under the list.
        optional: columns that a narrow terminal can do without.
    """

    kind: str
    thing: str
    columns: tuple[str, ...]
    entries: tuple[Listed, ...]
    notes: tuple[str, ...] = ()
    optional: tuple[str, ...] = field(default=())


def backbones() -> Listing:
    """Every registered backbone, with the state and licence of its weights."""
    families, entries, notes = pipeline.list_backbones(), [], []
    specs = [spec for family in families for spec in family.specs]
    for spec in [*specs, *(spec for family in families for spec in family.variants)]:
        content = pipeline.outline_backbone(spec)
        shape = "x".join(map(str, spec.shape))
        parameters = f"{spec.parameters / 1e6:.1f} M" if spec.parameters else "-"
        cells = (shape, parameters, content["weights"], content["licence"] or "-")
        entries.append(Listed(spec.name, cells, content))
    for family in families:
        if family.source:
            names = ", ".join(spec.name for spec in family.specs) or family.syntax
            notes.append(f"{names}: from {family.source}.")
    notes += [
        "`abaw list backbones NAME` shows all about one, and 'vit*' those whose names begin with vit.",
        "timm/<model>[-mean|-cls] is any model of timm: its pooled output, mean patch token or class token;",
        "timm/hf-hub:ORG/MODEL is one on the hub, timm/local-dir:FOLDER one in a folder of timm or transformers.",
        "After the name of a timm network, @224 or @HEIGHTxWIDTH sets the size of the input, and +center takes timm's",
        "own crop, without the edges, instead of the whole face crop: vit-mean@112, timm/resnet18+center.",
    ]
    columns = ("backbone", ">width", ">parameters", "weights", "licence")
    return Listing("backbones", "backbone", columns, tuple(entries), tuple(notes))


def heads() -> Listing:
    """Every head with its options and their defaults."""
    entries = []
    for name, config in pipeline.list_heads().items():
        tasks, options = _tasks_of(config.kinds), _options(config)
        causal = config.model_construct(name=name).is_causal  # with these defaults
        content = {"name": name, "summary": config.summary, "tasks": tasks, "causal": causal, "options": options}
        entries.append(Listed(name, (config.summary, _assignments(options)), content))
    columns = ("head", "what it is", "options (--set head.KEY=VALUE)")
    return _with_sources(Listing("heads", "head", columns, tuple(entries)))


def losses() -> Listing:
    """Every loss with the tasks it fits and its options and their defaults."""
    entries = []
    for name, config in pipeline.list_losses().items():
        tasks, options = _tasks_of(config.kinds), _options(config)
        content = {"name": name, "summary": config.summary, "tasks": tasks, "min_views": config.min_views}
        cells = (", ".join(tasks), config.min_views, config.summary, _assignments(options))
        entries.append(Listed(name, cells, {**content, "options": options}))
    columns = ("loss", "tasks", ">views", "what it is", "options (--set loss.KEY=VALUE)")
    return _with_sources(Listing("losses", "loss", columns, tuple(entries)))


def recipes() -> Listing:
    """Every recipe that comes with abaw, with the features it needs; those of a task together."""
    entries, order = [], [task.name for task in pipeline.list_tasks()]
    for recipe in sorted(pipeline.list_recipes(), key=lambda recipe: order.index(recipe.values["task"])):
        task, features = recipe.values["task"], list(recipe.values["features"])
        content = {"name": recipe.name, "summary": recipe.summary, "task": task, "features": features}
        options = {key: str(value) if value == float("inf") else value for key, value in recipe.values.items()}
        content |= {"extract": list(recipe.extract), "options": options}  # JSON has no infinity
        entries.append(Listed(recipe.name, (task, ", ".join(features), recipe.summary), content))
    return Listing("recipes", "recipe", ("recipe", "task", "features", "what it is"), tuple(entries))


def tasks() -> Listing:
    """Every task with its outputs and measure."""
    entries = []
    for task in pipeline.list_tasks():
        parts = task.parts or (task,)
        invalid = {part.name: part.invalid for part in parts}
        marks = ", ".join(f"{name} {value:g}" if task.parts else f"{value:g}" for name, value in invalid.items())
        cells = (task.level, task.measure.name, task.loss, task.window, marks, ", ".join(task.outputs))
        content = {
            "name": task.name,
            "labels_of_a": task.level,
            "score": task.measure.name,
            "default_loss": task.loss,
            "window": task.window,
            "invalid": invalid,
            "outputs": list(task.outputs),
            "label_folders": list(task.labels.folders) if task.labels else [],
            "label_header": task.labels.header if task.labels else "",
            "submission_header": task.submission.images
            or task.submission.videos
            or (task.submission.rows.header if task.submission.rows else ""),
            "label_tables": [name for _, name in task.table.files] if task.table else [],
            "also": list(task.measure.also),
        }
        entries.append(Listed(task.name, cells, content))
    columns = ("task", "labels of a", "score", "default loss", ">window", ">invalid", "outputs")
    return _with_sources(Listing("tasks", "task", columns, tuple(entries)))


def detectors() -> Listing:
    """Every face detector with the distribution that it comes from."""
    return _of_sources("detectors", "detector", pipeline.list_detectors())


def layouts() -> Listing:
    """Every layout of data folders with the distribution that it comes from."""
    return _of_sources("layouts", "layout", pipeline.list_layouts())


def _of_sources(kind: str, thing: str, sources: Mapping[str, str]) -> Listing:
    entries = [Listed(name, (source,), {"name": name, "from": source}) for name, source in sources.items()]
    return Listing(kind, thing, (thing, "from"), tuple(entries))


def _with_sources(listing: Listing) -> Listing:
    """The list with the distribution of each entry, and a note about each that is not of abaw itself."""
    sources, entries, notes = pipeline.list_sources(listing.kind), [], []
    for entry in listing.entries:
        source = sources.get(entry.name, "")
        entries.append(replace(entry, content={**entry.content, "from": source}))
        if source and source.split()[0] != "abaw":
            notes.append(f"{entry.name}: from {source}.")
    return replace(listing, entries=tuple(entries), notes=(*listing.notes, *notes))


def published(task: str | None) -> Listing:
    """Published scores, of a task or of all."""
    scores = pipeline.list_published(task)
    entries = []
    for one in scores:
        content = {
            "name": one.system,
            "task": one.task,
            "edition": one.venue,
            "year": one.year,
            "split": one.split,
            "score": float(one.score),
            "high": float(one.high) if one.high else None,
            "protocol": one.protocol,
            "source": one.source,
        }
        edition = one.venue.partition(",")[0]
        cells = (one.task, edition, one.year, one.split, one.numbers, one.protocol or "-", one.source)
        entries.append(Listed(one.system, cells, content))
    columns = ("system", "task", "edition", ">year", "split", ">score", "protocol", "source")
    notes = (
        "Split: V validation, T hidden test, P public test. --json has the sources.",
        pipeline.describe_published(),
    )
    return Listing("published", "published score", columns, tuple(entries), notes, optional=("source", "year"))


def runs(folder: Path, task: str | None, features: Sequence[str], head: str | None) -> tuple[Listing, dict[str, str]]:
    """Runs and ensembles in a folder, by task and the best first; and why others cannot be read, by name.

    Args:
        task, features, head: show only those of this task, with all of these features, and with this head.
    """
    summaries, broken = pipeline.list_runs(folder)
    entries = tuple(
        _listed_run(run)
        for run in summaries
        if task in (None, run.task) and head in (None, run.head) and set(features) <= set(run.features)
    )
    columns = ("run", "task", "features", "head", ">score", "on", ">epoch", ">seed", "tuned on", ">tuned", "made")
    optional = ("made", "seed", "epoch", "features", "head", "task", "tuned", "tuned on")
    return Listing("runs", "run", columns, entries, optional=optional), broken


def _listed_run(run: "RunSummary") -> Listed:
    epoch = f"{run.epoch}/{run.epochs}" if run.epoch and run.epochs else str(run.epoch or "-")
    cells = (
        run.task,
        ", ".join(run.features),
        f"{len(run.members)} runs" if run.members else run.head,
        _score(run.score) + ("*" if run.is_optimistic else ""),
        run.validated_on,
        epoch,
        "-" if run.seed is None else run.seed,
        run.tuned or "-",
        _score(run.tuned_score),
        run.created[:10],
    )
    return Listed(run.name, cells, run.as_json())


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _tasks_of(kinds: Iterable[str]) -> list[str]:
    """Names of the tasks of these kinds."""
    return [task.name for task in pipeline.list_tasks() if task.kind in kinds]


def _options(config: "type[BaseModel]") -> dict[str, Any]:
    """Options and their defaults."""
    return {key: value.default for key, value in config.model_fields.items() if key != "name"}


def _assignments(options: Mapping[str, Any]) -> str:
    """Options as --set takes them."""

    def text_of(value: Any) -> str:
        return ",".join(map(str, value)) if isinstance(value, tuple) else "" if value is None else str(value)

    return ", ".join(f"{key}={text_of(value)}" for key, value in options.items())
