"""Lists of backbones, weights, heads, losses, recipes and tasks."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from abaw.commands.console import say, show_table

if TYPE_CHECKING:
    from abaw.backbones.published import FamilyWeights
    from abaw.backbones.spec import ImageInput
    from abaw.core.tasks import Task

SHOWN_CLASSES = 30  # some backbones of sound have 130


def show_backbones() -> None:
    """Every registered backbone with its preprocessing."""
    from abaw import pipeline

    families, rows = pipeline.list_backbones(), []
    specs = [spec for family in families for spec in family.specs]
    for spec in [*specs, *(spec for family in families for spec in family.variants)]:
        image = spec.image
        size = _input_of(image) if image else "16 kHz mono"
        norm = f"{_triple(image.mean)} / {_triple(image.std)}" if image else "-"
        shape = "x".join(map(str, spec.shape))
        parameters = f"{spec.parameters / 1e6:.1f} M" if spec.parameters else "-"
        cells = (spec.name, shape, size, norm, parameters, spec.weights, spec.architecture)
        shown = spec.classes[:SHOWN_CLASSES]
        more = f", and {len(spec.classes) - len(shown)} more" if len(spec.classes) > len(shown) else ""
        rows.append((*cells, spec.licence or "-", ", ".join(shown) + more or "-"))
    columns = ["backbone", ">shape", "input", "mean / std of [0, 1]", ">parameters", "weights", "architecture"]
    show_table("Backbones", [*columns, "licence", "classes"], rows)
    for family in families:
        if family.source:
            say(f"{', '.join(spec.name for spec in family.specs) or family.syntax}: from {family.source}.")
    say("timm/<model>[-mean|-cls] takes any model of timm: its pooled output, its mean patch token or its class token.")
    say("timm/hf-hub:ORG/MODEL is a model on the hub, timm/local-dir:FOLDER one in a folder of timm or transformers.")
    say(
        "The whole crop is resized to the input. After the name of a timm network, @224 or @HEIGHTxWIDTH sets another "
        "input size, and +center takes timm's own crop, without the edges: vit-mean@112, timm/resnet18+center."
    )


def _input_of(image: "ImageInput") -> str:
    """Size, interpolation and crop rule of an input, as "224 bicubic, whole crop"."""
    height, width = image.height_width
    size = f"{height}" if height == width else f"{height}x{width}"
    rule = "whole crop" if image.crop == "resize" else f"{image.crop} {image.crop_pct:g}"
    return f"{size} {image.interpolation}, {rule}"


def _triple(values: Sequence[float]) -> str:
    return f"{values[0]:g}" if len(set(values)) == 1 else " ".join(f"{value:.4g}" for value in values)


def show_weights() -> None:
    """A line for each family: whether its weights are on this machine, can be downloaded, or have to be requested."""
    from abaw import pipeline

    weights = pipeline.list_weights()
    width = max(len(family.family) for family in weights) + 2
    for family in weights:
        room = 100 - width - len(family.licence) - 2
        line = family.line if len(family.line) <= room else f"{family.line[: room - 3]}..."
        say(f"{family.family:<{width}}{line:<{room}}  {family.licence}".rstrip())
    say("")
    for page, families in _by_page([family for family in weights if family.state == "by hand"]).items():
        say(f"By hand, {', '.join(families)}:")
        say(page)
    say("")
    say(pipeline.describe_weights_folder())
    say("A file in that folder with the name of the family, such as mae.pth or dan.pth, is used by default.")


def _by_page(weights: "Sequence[FamilyWeights]") -> dict[str, list[str]]:
    """The families by the page where their weights are published."""
    pages: dict[str, list[str]] = {}
    for family in weights:
        for known in family.sources:
            if known.source:
                pages.setdefault(known.source, []).append(family.family)
    return pages


def show_heads() -> None:
    """Every head with its options and their defaults."""
    from abaw import pipeline

    rows = [
        (
            name,
            ", ".join(
                f"{key}={_setting(field.default)}" for key, field in config.model_fields.items() if key != "name"
            ),
        )
        for name, config in pipeline.list_heads().items()
    ]
    show_table("Heads", ["head", "options (--set head.KEY=VALUE)"], rows)


def _setting(value: object) -> str:
    """A value as --set takes it."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def show_losses() -> None:
    """Every loss with the tasks it fits and its options and their defaults."""
    from abaw import pipeline

    rows = [
        (
            name,
            ", ".join(task.name for task in pipeline.list_tasks() if task.kind in config.kinds),
            config.min_views,
            ", ".join(f"{key}={field.default}" for key, field in config.model_fields.items() if key != "name"),
            summary,
        )
        for name, (config, summary) in pipeline.list_losses().items()
    ]
    show_table("Losses", ["loss", "tasks", ">views", "options (--set loss.KEY=VALUE)", "what it is"], rows)


def show_recipes() -> None:
    """Every recipe that comes with abaw, with the features it needs."""
    from abaw import pipeline

    rows = [(r.name, r.values["task"], ", ".join(r.values["features"]), r.summary) for r in pipeline.list_recipes()]
    show_table("Recipes", ["recipe", "task", "features", "what it is"], rows)


def show_tasks() -> None:
    """Every task with its outputs and measure."""
    from abaw import pipeline

    rows = [
        (
            task.name,
            task.level,
            task.measure.name,
            task.loss,
            task.window,
            _invalid_values(task),
            ", ".join(task.outputs),
        )
        for task in pipeline.list_tasks()
    ]
    columns = ["task", "labels of a", "score", "default loss", ">window", ">invalid", "outputs"]
    show_table("Tasks", columns, rows)


def _invalid_values(task: "Task") -> str:
    """The value that marks a label as not annotated; for a task with parts, the value of each part."""
    if task.parts:
        return ", ".join(f"{part.name} {part.invalid:g}" for part in task.parts)
    return f"{task.invalid:g}"
