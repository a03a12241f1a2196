"""The memory that a fine-tuning will take, from what its networks take for a few images, and options that need less."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from abaw.backbones.spec import BackboneSpec, ImageInput
from abaw.core.memory import free_memory, gigabytes
from abaw.core.names import name_of_view
from abaw.train.finetune.encoder_build import FirstWeights, build_first
from abaw.train.finetune.finetune_config import FinetuneConfig
from abaw.train.finetune.layers import checkpoint_blocks
from abaw.train.finetune.memory_trace import StorageRecorder, Trace, bytes_of, peak, trace
from abaw.train.finetune.pixel_table import BATCHES_AHEAD
from abaw.train.training_precision import check_precision, forward_type

GB = 1_000_000_000
CUDA_GB = 0.8  # of the driver and of libraries on a GPU
SPARE_SHARE = 0.05  # of the memory, lost between blocks of the allocator
STATES = {"adamw": 2, "adam": 2, "sgd": 1}  # numbers of the optimizer for each that learns


@dataclass(frozen=True)
class MemoryUse:
    """Bytes that a fine-tuning takes with some settings.

    Attributes:
        settings: `key=value` that differ from the options that were asked for.
        n_images: whose activations an encoder keeps at a time.
        weights: of the networks and the heads, frozen ones among them.
        gradients, states: of what learns: its gradients, and the numbers of the optimizer.
        activations: what they keep for the gradients, and the images.
        training: the most that is in use in a step.
        validation: the most that is in use while a batch of the validation is predicted.
    """

    settings: tuple[str, ...]
    n_images: int
    weights: int
    gradients: int
    states: int
    activations: int
    training: int
    validation: int

    @property
    def most(self) -> int:
        """The most that is in use at any time."""
        return max(self.training, self.validation)


@dataclass(frozen=True)
class MemoryPlan:
    """Whether a fine-tuning fits the memory of a device, and what does.

    Attributes:
        device: such as `a GPU of 24 GB`.
        room: bytes that it may take there.
        asked: with the options that were asked for.
        others: with other options, where those do not fit; those that change no numbers first.
        networks: names of the backbones.
        precision: of the networks.
    """

    device: str
    room: int
    asked: MemoryUse
    others: tuple[MemoryUse, ...]
    networks: tuple[str, ...]
    precision: str

    @property
    def fits(self) -> bool:
        """True if the options that were asked for fit."""
        return self.asked.most <= self.room

    @property
    def remedy(self) -> MemoryUse | None:
        """The first of the others that fits; None if none does."""
        return next((use for use in self.others if use.most <= self.room), None)


@dataclass(frozen=True)
class _Encoder:
    """What one network takes: for each image in training, forwards and backwards, and in evaluation."""

    forward: Trace
    backward: Trace
    evaluation: Trace
    input_bytes: int


@dataclass(frozen=True)
class _Measured:
    """What a model takes; the head for each window, the rest for each image."""

    encoders: tuple[_Encoder, ...]
    heads: tuple[tuple[Trace, Trace], ...]
    weights: int
    learning: int
    feature_bytes: int


def plan_memory(config: FinetuneConfig, device: torch.device | None, memory_gb: float = 0.0) -> MemoryPlan:
    """The memory that a fine-tuning takes on a device, or on a GPU with so much that is not here.

    The networks are built with random weights and run on the CPU for a few images. What other options take is measured
    where those that were asked for do not fit.

    Args:
        device: None for a GPU with `memory_gb`.
        memory_gb: instead of what the device has; 0 takes that.
    """
    kind = "cuda" if device is None else device.type
    if device is not None:
        check_precision(config, device)
    room, name = _room(device, memory_gb)
    dtype = forward_type(config, kind)
    measured = _measure(config, dtype)
    asked = _use(config, measured, kind, ())
    others = tuple(_others(config, measured, kind, dtype, room)) if asked.most > room else ()
    networks = tuple(config.backbone_of().values())
    return MemoryPlan(name, room, asked, others, networks, str(dtype).removeprefix("torch."))


def _others(
    config: FinetuneConfig, measured: _Measured, kind: str, dtype: torch.dtype, room: int
) -> Iterator[MemoryUse]:
    """What other options take: activations of fewer layers, of fewer images, and smaller batches."""
    if not config.checkpoint:
        lighter = config.model_copy(update={"checkpoint": True})
        yield _use(lighter, _measure(lighter, dtype), kind, ("checkpoint=true",))
    if config.batchnorm == "eval":
        yield from _in_chunks(config, measured, kind, room)
    yield from _in_parts(config, measured, kind, room)


def _in_chunks(config: FinetuneConfig, measured: _Measured, kind: str, room: int) -> Iterator[MemoryUse]:
    """Activations of half of the images at a time, a quarter and so on, until they fit."""
    chunk = 2 ** int(math.log2(max(1, _kept_images(config) - 1)))
    while chunk:
        use = _use(config.model_copy(update={"chunk": chunk}), measured, kind, (f"chunk={chunk}",))
        if use.most <= room or chunk == 1:
            yield use
            return
        chunk //= 2


def _in_parts(config: FinetuneConfig, measured: _Measured, kind: str, room: int) -> Iterator[MemoryUse]:
    """The batch in 2, 4, 8 and so on parts, whose gradients are added up, until it fits."""
    n_parts = 2
    while config.batch_size >= n_parts:
        size = -(-config.batch_size // n_parts)
        changed = {"batch_size": size, "accumulate": config.accumulate * n_parts}
        words = tuple(f"{key}={value}" for key, value in changed.items())
        use = _use(config.model_copy(update=changed), measured, kind, words)
        if use.most <= room or size == 1:
            yield use
            return
        n_parts *= 2


def _images_of_pass(config: FinetuneConfig) -> int:
    """Images in a forward pass of an encoder, with their mirrored views."""
    return config.pass_windows * config.length * max(1, len(config.views))


def _kept_images(config: FinetuneConfig) -> int:
    """Images of which an encoder keeps activations at a time."""
    n_images = _images_of_pass(config)
    return min(config.chunk or n_images, n_images)


def _room(device: torch.device | None, memory_gb: float) -> tuple[int, str]:
    """Bytes that a training may take, and what the device is called."""
    if device is not None and device.type in ("cpu", "mps"):  # Apple's GPUs share the memory of the processor
        room = int(memory_gb * GB) or free_memory()
        return (
            room,
            f"{'the CPU' if device.type == 'cpu' else device} with {gigabytes(room)} GB {'of memory' if memory_gb else 'free'}",
        )
    if device is not None and not memory_gb:
        free, total = torch.cuda.mem_get_info(device)
        return int(free - SPARE_SHARE * total), f"{device} with {gigabytes(free)} GB free"
    return int(((1 - SPARE_SHARE) * memory_gb - CUDA_GB) * GB), f"a GPU of {memory_gb:g} GB"


def _use(config: FinetuneConfig, measured: _Measured, kind: str, settings: tuple[str, ...]) -> MemoryUse:
    n_images, n_kept = _images_of_pass(config), _kept_images(config)
    encoders, in_chunks = measured.encoders, n_kept < n_images
    states = STATES[config.optimizer] * measured.learning + (measured.weights if config.ema else 0)  # and averages
    forwards = [encoder.forward.levels(n_kept) for encoder in encoders]
    backwards = [encoder.backward.levels(n_kept) for encoder in encoders]
    heads = [part.levels(config.pass_windows) for head in measured.heads for part in head]
    image_bytes = max(encoder.input_bytes for encoder in encoders) // 4
    inputs = (
        sum(encoder.input_bytes for encoder in encoders) * n_kept + 2 * image_bytes * n_images
    )  # before augmentation, too
    if in_chunks:  # one after another, between the features of all images and their gradients
        inputs += 2 * measured.feature_bytes * n_images
        taken = max(peak(heads), *(peak(pair) for pair in zip(forwards, backwards, strict=True)))
        kept = max(int(levels[-1]) for levels in forwards)
    else:
        taken = peak([*forwards, *heads, *reversed(backwards)])
        kept = sum(int(levels[-1]) for levels in forwards)
    earlier = measured.learning if config.accumulate > 1 or in_chunks else 0  # gradients of what came before
    # AdamW works on all tensors at once on a GPU, with room for the roots of its averages
    update = measured.weights + states + measured.learning * (2 if kind == "cuda" else 1)
    n_shown = max(config.shown_images, config.length)
    validation = max(
        int(encoder.evaluation.levels(n_shown).max()) + encoder.input_bytes * n_shown for encoder in encoders
    )
    waiting = (BATCHES_AHEAD + 1) * image_bytes * n_images if kind == "cpu" else 0  # batches that are read ahead
    return MemoryUse(
        settings=settings,
        n_images=n_kept,
        weights=measured.weights,
        gradients=measured.learning,
        states=states,
        activations=kept + inputs,
        training=max(update, measured.weights + states + earlier + inputs + taken) + waiting,
        validation=measured.weights + states + validation + waiting,
    )


def _measure(config: FinetuneConfig, dtype: torch.dtype) -> _Measured:
    plain = config.model_copy(update={"checkpoint": False})
    model, features = build_first(plain, FirstWeights({}, untrained=True))
    model.freeze_unused()
    model.train()
    if config.checkpoint:
        for network, _ in model.networks():
            if _learning(network):
                checkpoint_blocks(network)
    encoders = [_measure_encoder(network, specs, config, dtype) for network, specs in model.networks()]
    shapes = {name: tuple(feature["shape"]) for name, feature in features.items()}
    heads = [_measure_head(head, shapes, config, dtype) for head in model.heads]
    weights = bytes_of([*model.parameters(), *model.buffers()])
    features_each = 4 * sum(math.prod(shape) for shape in shapes.values()) * config.copies
    return _Measured(tuple(encoders), tuple(heads), weights, bytes_of(_learning(model)), features_each)


def _autocast(dtype: torch.dtype) -> torch.autocast:
    """On the CPU float16 takes as much as bfloat16."""
    return torch.autocast("cpu", torch.bfloat16, enabled=dtype != torch.float32)


def _learning(module: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def _measure_encoder(
    network: nn.Module,
    specs: Mapping[str, BackboneSpec],
    config: FinetuneConfig,
    dtype: torch.dtype,
) -> _Encoder:
    image = next(iter(specs.values())).image
    assert image is not None, "backbones of sound are refused"
    learns = bool(_learning(network))

    def run(n: int) -> list[list[int]]:
        network.zero_grad()
        images, kept = _inputs(network, image, n, config.mask if learns else 0.0)
        with StorageRecorder() as recorder:
            with _autocast(dtype):
                encoded = network(images, **kept)
                outputs = [encoded[spec.output] for spec in specs.values()]
            del encoded
            recorded = [recorder.take()]
            if learns:
                torch.autograd.backward(outputs, [torch.ones_like(output) for output in outputs])
            recorded.append(recorder.take())
        return recorded

    def predict(n: int) -> list[list[int]]:
        with StorageRecorder() as recorder, torch.no_grad():
            network(_inputs(network, image, n, 0.0)[0])
            return [recorder.take()]

    forward, backward = trace(run)
    network.zero_grad()
    network.eval()
    (evaluation,) = trace(predict)
    height, width = image.height_width
    return _Encoder(forward, backward, evaluation, 4 * 3 * height * width)


def _inputs(network: nn.Module, image: ImageInput, n: int, mask: float) -> tuple[Tensor, dict[str, Tensor]]:
    images = torch.zeros(n, 3, *image.height_width)
    if not mask:
        return images, {}
    n_patches = int(network.n_patches)  # type: ignore[arg-type]  # networks that can hide patches have it
    return images, {"kept": torch.rand(n, n_patches).argsort(dim=1)[:, : int(n_patches * (1 - mask))]}


def _measure_head(
    head: nn.Module, shapes: Mapping[str, tuple[int, ...]], config: FinetuneConfig, dtype: torch.dtype
) -> tuple[Trace, Trace]:
    names = [name_of_view(name, view) for view in config.views or ("",) for name in shapes]
    sizes = [shape for _ in config.views or ("",) for shape in shapes.values()]

    def run(n: int) -> list[list[int]]:
        head.zero_grad()
        features = {
            name: torch.zeros(n, config.length, *shape, requires_grad=True)
            for name, shape in zip(names, sizes, strict=True)
        }
        masks = {name: torch.ones(n, config.length, dtype=torch.bool) for name in features}
        with StorageRecorder() as recorder:
            with _autocast(dtype):
                outputs = head(features, masks)
            recorded = [recorder.take()]
            outputs.float().sum().backward()
            recorded.append(recorder.take())
        return recorded

    forward, backward = trace(run)
    head.zero_grad()
    return forward, backward
