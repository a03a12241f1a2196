"""Networks of a run as graphs in the ONNX format: what goes in and comes out by name, the file, and the check against torch."""

import importlib.util
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from abaw.backbones.spec import BackboneSpec, ImageInput
from abaw.core.errors import UsageError, first_line
from abaw.train.finetune.pixel_model import PixelModel
from abaw.train.model import Model

PACKAGES = ("onnx", "onnxscript")  # that torch writes ONNX with
RUNTIME = "onnxruntime"
INSTALL = "pip install onnx onnxscript onnxruntime"
IMAGES, MASK, OUTPUTS = "images", "mask", "outputs"
LARGEST_FILE = 1_900_000_000  # bytes; a single protobuf ends at 2 GiB
EXAMPLE = (2, 7)  # sizes of the dynamic axes that a graph is traced with: none is 1, which torch would keep


@dataclass(frozen=True)
class Input:
    """An input of a graph.

    Attributes:
        shape: after the dynamic axes.
        dtype: float32, uint8 or bool.
        level, spread: of float values to try it with, (*shape) or a number.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    level: Tensor | float = 0.0
    spread: Tensor | float = 1.0

    def draw(self, sizes: Sequence[int], random: torch.Generator) -> Tensor:
        """Values of one size; a mask hides about a third of the frames."""
        shape = (*sizes, *self.shape)
        if self.dtype == torch.uint8:
            return torch.randint(0, 256, shape, dtype=torch.uint8, generator=random)
        if self.dtype == torch.bool:
            return torch.rand(shape, generator=random) > 1 / 3
        return torch.randn(shape, generator=random) * self.spread + self.level


@dataclass(frozen=True)
class Graph:
    """A module that takes tensors in the order of `inputs`, and gives one, or a tuple of them in the order of `outputs`.

    Attributes:
        inputs, outputs: by name.
        axes: names of the dynamic axes, which come first.
        sizes: of each of these axes, to try it with.
        reference: gives the outputs in the way of `abaw predict`; None for that of the module.
    """

    module: nn.Module
    inputs: Mapping[str, Input]
    outputs: tuple[str, ...]
    axes: tuple[str, ...]
    sizes: tuple[tuple[int, ...], ...]
    reference: Callable[..., Tensor | tuple[Tensor, ...]] | None = None

    def draw(self, sizes: Sequence[int], seed: int = 0) -> tuple[Tensor, ...]:
        """Random inputs of one size."""
        random = torch.Generator().manual_seed(seed)
        return tuple(one.draw(sizes, random) for one in self.inputs.values())


class HeadGraph(nn.Module):
    """Features, then their masks -> the outputs of the task."""

    def __init__(self, model: Model, names: Sequence[str], width: int) -> None:
        super().__init__()
        self.model, self._names, self._width = model, list(names), width

    def forward(self, *tensors: Tensor) -> Tensor:
        """(batch, time, outputs), or (batch, outputs) for whole videos."""
        n = len(self._names)
        features, masks = (dict(zip(self._names, part, strict=True)) for part in (tensors[:n], tensors[n:]))
        outputs: Tensor = self.model(features, masks)
        return outputs[..., : self._width]


class EncoderGraph(nn.Module):
    """(n, height, width, 3) uint8 images of the size of the network -> its features, in the order of the specs."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, specs: Sequence[BackboneSpec], mirrored: bool = False) -> None:
        super().__init__()
        self.network, self._outputs, self._mirrored = network, [spec.output for spec in specs], mirrored
        image = image_of(specs[0])
        self.register_buffer("mean", torch.tensor(image.mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(image.std).view(3, 1, 1))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(n, *shape) of each feature."""
        pixels = images.permute(0, 3, 1, 2).float() / 255
        if self._mirrored:
            pixels = pixels.flip(3)
        encoded = self.network((pixels - self.mean) / self.std)
        return tuple(encoded[output].float() for output in self._outputs)


class PixelGraph(nn.Module):
    """(batch, time, height, width, 3) uint8 images and a mask -> the outputs of a fine-tuned run."""

    def __init__(self, model: PixelModel, width: int) -> None:
        super().__init__()
        self.model, self._width = model, width
        self._specs = [dict(specs) for _, specs in model.networks()]
        self.encoders = nn.ModuleList(
            EncoderGraph(network, list(specs.values())) for network, specs in model.networks()
        )

    def forward(self, images: Tensor, mask: Tensor) -> Tensor:
        """As `HeadGraph.forward`."""
        features: list[dict[str, Tensor]] = [{} for _ in self.model.heads]
        for number, encoder in enumerate(self.encoders):
            encoded = encoder(images.flatten(0, 1))
            own = features[number % len(features)]  # a head for each copy of the only encoder, or one for all encoders
            for name, values in zip(self._specs[number], encoded, strict=True):
                own[name] = values.unflatten(0, mask.shape)
        outputs = self.model.from_features([(own, dict.fromkeys(own, mask)) for own in features])
        return outputs[..., : self._width]


def image_of(spec: BackboneSpec) -> ImageInput:
    """The image input of a backbone that has one."""
    assert spec.image is not None, "backbones of images only"
    return spec.image


def check_packages() -> None:
    """Raise a UsageError if a package is missing that torch writes ONNX with."""
    if missing := [name for name in PACKAGES if importlib.util.find_spec(name) is None]:
        raise UsageError(f"Exporting needs {' and '.join(missing)}. Install: {INSTALL}")


def write_graph(graph: Graph, file: Path, metadata: Mapping[str, str], what: str) -> None:
    """Write a graph into an ONNX file; weights beyond 1.9 GB go into a second file next to it.

    Args:
        metadata: what the file says about itself.
        what: name of what it is, for an error.

    Raises:
        UsageError: torch cannot write this network as ONNX.
    """
    dynamic = dict(enumerate([torch.export.Dim.DYNAMIC] * len(graph.axes)))
    shapes: Any = tuple(dynamic for _ in graph.inputs)
    is_variadic = isinstance(graph.module, HeadGraph)
    try:
        with torch.no_grad(), _quiet():
            program = torch.onnx.export(
                graph.module.eval(),
                graph.draw(EXAMPLE[: len(graph.axes)]),
                dynamo=True,
                verbose=False,
                input_names=list(graph.inputs),
                output_names=list(graph.outputs),
                dynamic_shapes=(shapes,) if is_variadic else shapes,
            )
    except (torch.onnx.OnnxExporterError, RuntimeError) as error:
        cause = first_line(error.__cause__ or error)
        raise UsageError(f"{what} cannot be written as ONNX: {cause}. Export another run.") from error
    assert program is not None, "of dynamo=True"
    program.model.metadata_props.update(metadata)
    n_bytes = sum(value.numel() * value.element_size() for value in graph.module.state_dict().values())
    program.save(file, external_data=n_bytes > LARGEST_FILE)


def largest_difference(graph: Graph, file: Path) -> float | None:
    """The largest difference between the outputs of torch and onnxruntime, as a part of the largest output above 1.

    Every combination of `graph.sizes` is tried. None where onnxruntime is not installed.
    """
    if importlib.util.find_spec(RUNTIME) is None:
        return None
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    largest = 0.0
    for seed, sizes in enumerate(product(*graph.sizes)):
        tensors = graph.draw(sizes, seed)
        with torch.no_grad():
            expected = (graph.reference or graph.module)(*tensors)
        inputs = {name: tensor.numpy() for name, tensor in zip(graph.inputs, tensors, strict=True)}
        outputs = session.run(list(graph.outputs), inputs)
        for one, other in zip(expected if isinstance(expected, tuple) else (expected,), outputs, strict=True):
            values = one.numpy()
            if values.shape != other.shape or not np.isfinite(other).all():
                return float("inf")
            scale = max(1.0, float(np.abs(values).max(initial=0)))
            largest = max(largest, float(np.abs(values - other).max(initial=0)) / scale)
    return largest


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings and log lines of the exporter, which are about its own passes."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
