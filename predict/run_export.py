"""A trained run for programs without torch: its encoders and its head as ONNX files, checked against torch."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from abaw import __version__
from abaw.backbones.registry import get_spec, is_known
from abaw.backbones.vision.preprocess import apply_view, prepare_images
from abaw.backbones.vision.views import HFLIP
from abaw.core.claim_files import claimed, drop_dead_claim
from abaw.core.errors import AbawError, UsageError
from abaw.core.files import writing
from abaw.core.names import without_view
from abaw.core.progress import Reporter, Silent, Ticker
from abaw.core.records import GIVEN
from abaw.evaluate.postprocessing.tuning import load_tuning
from abaw.exchange.importer import is_imported
from abaw.extract.feature import Feature
from abaw.predict.onnx_graphs import (
    IMAGES,
    INSTALL,
    MASK,
    OUTPUTS,
    EncoderGraph,
    Graph,
    HeadGraph,
    Input,
    PixelGraph,
    check_packages,
    image_of,
    largest_difference,
    write_graph,
)
from abaw.predict.run_predictor import load_features
from abaw.train.finetune import pixel_table
from abaw.train.finetune.encoder_build import best_pixel_model
from abaw.train.finetune.finetune_config import FinetuneConfig
from abaw.train.heads.inputs import JoinFeatures
from abaw.train.model import Model, best_model
from abaw.train.runs import Run

MOST_DIFFERENCE = 1e-4
HEAD, WHOLE = "head.onnx", "run.onnx"
CLOCK = "row i is the frame with number i, counted from 0, of the video as it decodes"
BATCHES, LENGTHS = (1, 3), (1, 7)  # that a graph is tried with; the third length is that of the run's window
LONGEST = 256  # frames to try


@dataclass(frozen=True)
class ExportedGraph:
    """A file of an export: its name, and its inputs and outputs in words."""

    name: str
    inputs: str
    outputs: str


@dataclass
class Exported:
    """What `export_run` wrote.

    Attributes:
        folder: that has the files.
        files: in the order of use.
        difference: the largest from torch, see `largest_difference`; None if onnxruntime is not installed.
        notes: sentences on what is not in the files.
    """

    folder: Path
    files: list[ExportedGraph] = field(default_factory=list)
    difference: float | None = None
    notes: list[str] = field(default_factory=list)


def export_run(
    run: Run,
    out: Path,
    backbones: Sequence[str] = (),
    untrained: bool = False,
    reporter: Reporter | None = None,
) -> Exported:
    """Write the networks of a run into a new folder, as ONNX.

    `encoder-<feature>.onnx` of each network of images and `head.onnx`, or for a fine-tuned run `run.onnx` alone.
    Batch and time are dynamic. Statistics of features, and mean and deviation of pixels, are in the graphs.

    Args:
        backbones, untrained: see `PredictOptions`.

    Raises:
        UsageError: `out` exists, a package is missing, or a network cannot be written as ONNX.
        CheckpointError: weights are missing or differ from the run's, or the run is damaged.
        AbawError: the files compute something else than torch.
    """
    check_packages()
    if out.exists():
        drop_dead_claim(out)
        raise UsageError(f"{out} exists. Delete it, or choose another folder with --out.")
    reporter, exported = reporter or Silent(), Exported(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with claimed(out), writing(out) as folder:
        folder.mkdir()
        graphs = _graphs(run, backbones, untrained, exported)
        reporter.start("export", len(graphs), "networks")
        with Ticker(reporter) as ticker:
            for name, (graph, metadata) in graphs.items():
                ticker.doing(name)
                write_graph(graph, folder / name, metadata, _named(run, name))
                _check(graph, folder / name, exported)
                exported.files.append(_in_words(name, graph))
                reporter.advance(1, name)
        reporter.finish()
    return exported


def _named(run: Run, name: str) -> str:
    return f"Head {run.config.head.name!r}" if name == HEAD else f"The network of {name}"


def _check(graph: Graph, file: Path, exported: Exported) -> None:
    difference = largest_difference(graph, file)
    if difference is None:
        exported.notes = [f"The files were not checked against torch: {INSTALL}"]
        return
    if difference > MOST_DIFFERENCE:
        raise AbawError(
            f"{file.name} computes something else than torch: the outputs differ by {difference:.1e} (limit "
            f"{MOST_DIFFERENCE:g}). Nothing was written; try another version of onnxscript or onnxruntime."
        )
    exported.difference = max(exported.difference or 0.0, difference)


def _graphs(
    run: Run, backbones: Sequence[str], untrained: bool, exported: Exported
) -> dict[str, tuple[Graph, dict[str, str]]]:
    """Graphs and metadata by the name of the file."""
    if isinstance(run.config, FinetuneConfig):
        if backbones or untrained:
            raise UsageError(f"Run {run.name} has its own encoders. Leave out --backbone and --untrained.")
        return {WHOLE: _pixel_graph(run)}
    visual = [name for name in run.config.features if _is_of_images(run, name)]
    for name in run.config.features:
        if name not in visual:
            kind = "imported" if is_imported(name, run.features[name]) else "not made from images"
            exported.notes.append(f"Feature {name!r} is {kind}: {HEAD} takes its values, and no file makes them.")
    features = load_features(run, backbones, "cpu", untrained, visual) if visual else []
    groups: dict[tuple[int, str], list[Feature]] = {}
    for feature in features:
        groups.setdefault((id(feature.backbone), feature.view), []).append(feature)
    graphs = {f"encoder-{group[0].name}.onnx": _encoder_graph(run, group) for group in groups.values()}
    return {**graphs, HEAD: _head_graph(run)}


def _is_of_images(run: Run, name: str) -> bool:
    record, base = run.features[name].get("record"), without_view(name)
    if is_imported(name, run.features[name]):
        return False
    if record is not None:
        return "image" in record
    # of a store before there were records
    return not is_known(base) or get_spec(base).modality == "vision"


def _encoder_graph(run: Run, features: Sequence[Feature]) -> tuple[Graph, dict[str, str]]:
    first = features[0]
    if first.view not in ("", HFLIP):
        raise UsageError(
            f"Feature {first.name!r} has the view {first.view}, which depends on the numbers of frames, and is not written "
            "as ONNX. Export a run on other features."
        )
    specs = [feature.spec for feature in features]
    network, image = first.backbone.network.float(), image_of(first.spec)
    module = EncoderGraph(network, specs, first.view == HFLIP)
    height, width = image.height_width

    def reference(images: Tensor) -> tuple[Tensor, ...]:
        encoded = network(prepare_images(apply_view(images, first.view), image))
        return tuple(encoded[spec.output].float() for spec in specs)

    graph = Graph(
        module,
        {IMAGES: Input((height, width, 3), torch.uint8)},
        tuple(feature.name for feature in features),
        ("n",),
        (BATCHES,),
        reference,
    )
    metadata = {
        **_about(run),
        "features": json.dumps({feature.name: feature.spec.shape for feature in features}),
        "image": json.dumps(_describe_image(first)),
    }
    return graph, metadata


def _describe_image(feature: Feature) -> dict[str, Any]:
    """How a crop becomes an image of the graph; mean and deviation, on the scale of [0, 1], are applied in the graph."""
    image = image_of(feature.spec)
    return {
        "size": list(image.height_width),
        "colours": "RGB",
        "mean": image.mean,
        "std": image.std,
        "interpolation": image.interpolation,
        "crop": image.crop,
        "crop_pct": image.crop_pct,
        "alignment": feature.alignment or GIVEN,
    }


def _head_graph(run: Run) -> tuple[Graph, dict[str, str]]:
    model = best_model(run, torch.device("cpu"))
    names, task = list(run.config.features), run.task
    levels = _levels(model, run)
    inputs = {name: Input(run.shapes[name], torch.float32, *levels.get(name, (0.0, 1.0))) for name in names}
    masks = {f"{name}.{MASK}": Input((), torch.bool) for name in names}
    lengths = (*LENGTHS, min(run.config.length, LONGEST))
    module = HeadGraph(model, names, len(task.outputs))
    graph = Graph(module, {**inputs, **masks}, (OUTPUTS,), ("batch", "time"), (BATCHES, lengths))
    return graph, {**_about_head(run), "features": json.dumps({name: run.shapes[name] for name in names})}


def _levels(model: Model, run: Run) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Mean and deviation of the training rows of each feature that a head standardises, (*shape) each."""
    inputs = next(iter(model.heads)).inputs
    if inputs is None:
        return {}
    assert isinstance(inputs, JoinFeatures)
    widths = list(inputs.widths.values())
    spread = torch.where(inputs.scale > 0, 1 / inputs.scale.clamp(min=1e-9), 0.0)
    parts = zip(inputs.widths, inputs.mean.split(widths), spread.split(widths), strict=True)
    return {name: (mean.view(run.shapes[name]), std.view(run.shapes[name])) for name, mean, std in parts}


def _pixel_graph(run: Run) -> tuple[Graph, dict[str, str]]:
    model = best_pixel_model(run, torch.device("cpu"))
    specs = {name: spec for _, own in model.networks() for name, spec in own.items()}
    images = {name: image_of(spec) for name, spec in specs.items()}
    sizes = {image.height_width for image in images.values()}
    if len(sizes) > 1:
        raise UsageError(
            f"Run {run.name} has encoders of images of different sizes, which do not fit into one graph. Export a run of one "
            "encoder."
        )
    first = next(iter(images.values()))
    (height, width), about = next(iter(sizes)), _about_head(run)
    about["image"] = json.dumps(
        {
            "size": [height, width],
            "colours": "RGB",
            "interpolation": getattr(run.config, "interpolation", "") or first.interpolation,
            "crop": first.crop,
            "crop_pct": first.crop_pct,
            "mean": {name: image.mean for name, image in images.items()},
            "std": {name: image.std for name, image in images.items()},
        }
    )
    inputs = {IMAGES: Input((height, width, 3), torch.uint8), MASK: Input((), torch.bool)}
    n_outputs = len(run.task.outputs)

    def reference(images: Tensor, mask: Tensor) -> Tensor:
        sizes = torch.tensor([height, width]).expand(*mask.shape, 2)
        outputs: Tensor = model({pixel_table.IMAGES: images, pixel_table.SIZES: sizes}, {pixel_table.IMAGES: mask})
        return outputs[..., :n_outputs]

    return Graph(
        PixelGraph(model, n_outputs), inputs, (OUTPUTS,), ("batch", "time"), ((1, 2), (1, 2, 5)), reference
    ), about


def _about(run: Run) -> dict[str, str]:
    return {"abaw": __version__, "run": run.name, "task": run.task.name, "clock": CLOCK}


def _about_head(run: Run) -> dict[str, str]:
    """What a program needs to know to use the outputs."""
    config, task, tuning = run.config, run.task, load_tuning(run)
    kinds = [part.kind for part, _, _ in task.each() for _ in part.outputs]
    return {
        **_about(run),
        "checkpoint": run.digest(),
        "level": task.level,
        "outputs": json.dumps(task.outputs),
        "kinds": json.dumps(kinds),
        "window": str(config.length),
        "stride": str(config.eval_step),
        "missing": config.missing,
        "min_quality": f"{config.min_quality:g}",
        "postprocess": tuning.postprocess.model_dump_json() if tuning else "",
    }


def _in_words(name: str, graph: Graph) -> ExportedGraph:
    def words(name: str, shape: Sequence[int]) -> str:
        return f"{name} ({', '.join(map(str, (*graph.axes, *shape)))})"

    inputs = [words(name, one.shape) for name, one in graph.inputs.items()]
    return ExportedGraph(name, ", ".join(inputs), ", ".join(graph.outputs))
