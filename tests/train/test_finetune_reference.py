"""Fine-tuning against what the authors' programs compute: the files ft_* of tests/data/reference, whatever their seed.

Every number that depends on the seed, or is told by a file, is read from the files.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter
from safetensors.torch import save_file
from torch import Tensor, nn

from abaw.backbones.backbone import create_backbone
from abaw.backbones.registry import get_spec
from abaw.backbones.vision.dan import Dan
from abaw.backbones.vision.mae import BASE, MaeEncoder
from abaw.backbones.vision.swin_face import SwinFace
from abaw.core.doubles import Doubles
from abaw.core.tasks import TASKS, Task
from abaw.tests.data.reference import seeded
from abaw.tests.support.paths import DATA
from abaw.train.config import TrainConfig, make_config
from abaw.train.finetune.augment import CLIP_CHANGES, cut_out, resize
from abaw.train.finetune.batch_statistics import batch_norms
from abaw.train.finetune.colours import adjust_brightness, adjust_contrast, adjust_saturation, equalise_range, shift_hue
from abaw.train.finetune.finetune_config import FinetuneConfig
from abaw.train.finetune.layers import block_names, layer_numbers, learns_decay
from abaw.train.finetune.pixel_model import Outputs, PixelModel
from abaw.train.finetune.pixel_table import IMAGES, SIZES
from abaw.train.head_options import AnyHeadConfig, EmmaHeadConfig
from abaw.train.heads import create_head
from abaw.train.loop import Trainer
from abaw.train.loss_options import CotexConfig, EmmaLossConfig, LossConfig, VNawConfig
from abaw.train.losses import create_loss
from abaw.train.recipes import load_recipe
from abaw.train.schedules import create_optimizer, learning_rate

pytestmark = pytest.mark.usefixtures("one_thread")

FOLDER = DATA / "reference"
SMALL = 1e-4  # of the largest norm: below, rounding shows
NOUGHT = 1e-6  # below, there is nothing but rounding, as in a bias in front of batch normalisation
FIXED = ("relative_position_index", "attn_mask")  # follow from the windows of a Swin
TEMPORAL = {
    "temporal_model.conv1": "convs.0",
    "temporal_model.transformer_encoder": "encoder",
    "classifier": "outputs.0.last",
}
State = dict[str, Tensor]


# the files


@cache
def facts_of(name: str) -> Any:
    return json.loads((FOLDER / f"ft_{name}.json").read_text())


@cache
def arrays_of(name: str) -> dict[str, NDArray]:
    with np.load(FOLDER / f"{name}.npz") as arrays:
        return dict(arrays)


def recorded(name: str) -> tuple[Any, dict[str, NDArray]]:
    return facts_of(name), arrays_of(f"ft_{name}")


def weights(layout: Mapping[str, Sequence[int]], seed: int) -> State:
    """By the names of the file; without what follows from the windows."""
    drawn = {key: list(shape) for key, shape in layout.items() if not key.endswith(FIXED)}
    return {key: torch.from_numpy(value) for key, value in seeded.seeded_state_dict(drawn, seed).items()}


def images_of(shape: Sequence[int], seed: int) -> Tensor:
    return torch.from_numpy(seeded.seeded_input(tuple(shape), seed))


def numbers_in(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"-?\d*\.?\d+", text)]


def as_array(found: Any) -> NDArray:
    return found.detach().numpy() if isinstance(found, Tensor) else np.asarray(found)


def close(found: Any, expected: NDArray, tolerance: float = 1e-4) -> None:
    """Relative, over the whole array."""
    assert as_array(found).shape == expected.shape
    assert np.linalg.norm(as_array(found) - expected) <= tolerance * np.linalg.norm(expected)


def each_close(found: NDArray, expected: NDArray, tolerance: float) -> None:
    """Relative, each norm for itself; small ones to a hundredth, and what is nought but for rounding is as small."""
    shares = expected / expected.max()
    assert found.shape == expected.shape and (found[shares < NOUGHT] < 2 * NOUGHT * expected.max()).all()
    errors = np.abs(found - expected) / np.maximum(expected, NOUGHT * expected.max())
    tolerances = np.where(shares < SMALL, 1e-2, tolerance)
    assert (errors <= tolerances)[shares >= NOUGHT].all()


def norms(tensors: Sequence[Tensor | None]) -> NDArray:
    return np.array([float(one.detach().double().norm()) for one in tensors if one is not None])


# models with the weights of the files


class Pictures:
    """Samples of videos of equally many rows, whose images are their numbers."""

    n_readers, rows_per_batch = 1, 256
    doubles: Doubles | None = None
    shares: NDArray[np.float32] | None = None
    frame_labels: NDArray[np.float32] | None = None
    weights: NDArray[np.float32] | None = None

    def __init__(self, task: Task, labels: NDArray, n_each: int = 1) -> None:
        self.task, self.labels = task, labels.astype(np.float32)
        self.starts = np.arange(0, len(labels) + 1, n_each)
        self.videos = tuple(map(str, range(len(self.starts) - 1)))
        self.valid = task.valid(self.labels)
        self.synthetic = np.zeros(len(self.videos), dtype=bool)

    def present(self) -> NDArray[np.bool_]:
        return np.ones(len(self.labels), dtype=bool)

    def inputs(self, rows: NDArray, inside: NDArray) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        images = torch.from_numpy(rows.astype(np.uint8))[..., None, None, None]
        return {IMAGES: images, SIZES: torch.ones(*rows.shape, 2, dtype=torch.int64)}, {
            IMAGES: torch.from_numpy(inside)
        }


class Normalised(PixelModel):
    """Takes normalised images in place of the numbers that `Pictures` gives, and keeps its last outputs."""

    pictures: Tensor
    kept: Tensor | None = None  # (copies, images, patches)
    outputs: Tensor

    def forward(self, features, masks):
        self.outputs = super().forward(features, masks)
        if self.outputs.requires_grad:
            self.outputs.retain_grad()
        return self.outputs

    def _inputs(self, outputs, images, n_rows, views, places):
        ((_, numbers),) = images
        inputs = self.pictures[numbers.flatten().long()]
        return torch.cat([inputs.flip(-1) if view else inputs for view in views])[places.start : places.stop]

    def _kept(self, network, n_images, device):
        assert self.kept is not None
        (copy,) = (number for number, encoder in enumerate(self.encoders) if encoder is network)
        return self.kept[copy]


def config(values: Mapping[str, Any]) -> FinetuneConfig:
    made = make_config({"pixels": True, "augment": "none", "drop_path": 0.0, **values})
    assert isinstance(made, FinetuneConfig)
    return made


def spec_of(*names: str) -> Outputs:
    return Outputs({name: get_spec(name) for name in names})


def load(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and all(
        key.endswith(("num_batches_tracked", "inputs.mean", "inputs.scale")) for key in missing
    )


def train_on(options: FinetuneConfig, model: Normalised, labels: NDArray, n_each: int = 1) -> Trainer:
    task, device = options.own_task, torch.device("cpu")
    return Trainer(options, task, model, Pictures(task, labels, n_each), device)


def batch_of(trainer: Trainer, rows: slice = slice(None)) -> Any:
    windows = trainer._sampler.windows(trainer.config.length)[rows]
    return trainer._sampler.batch(windows), windows


def set_rates(trainer: Trainer, rate: float) -> None:
    for group in trainer.optimizer.param_groups:
        group["lr"] = group.get("constant", rate * group.get("scale", 1.0))


def values_at(parameters: Sequence[Tensor | None], index: NDArray) -> NDArray:
    listed = zip([one for one in parameters if one is not None], index, strict=True)
    return np.stack([one.detach().flatten()[places].numpy() for one, places in listed])


# EMMA


EMMA_HEADS = {"vit.head.": "heads.0.heads.0.head.", "va_head.": "heads.0.heads.0.va_head."}


def emma_key(key: str) -> str:
    for theirs, ours in {**EMMA_HEADS, "vit.": "encoders.0.", "cnn.": "encoders.1."}.items():
        if key.startswith(theirs):
            return ours + key.removeprefix(theirs)
    raise AssertionError(key)


def emma(n_passes: int) -> tuple[Normalised, Trainer, State]:
    facts, arrays = recorded("emma_step")
    groups = facts_of("layer_decay")
    options = config(
        {"task": "mtl", "features": ("mae-cls", "dan"), "freeze": ("dan",), "head": {"name": "emma"},
         "loss": {"name": "emma", "positive_weights": facts["positive_weights"]}, **groups["settings"],
         "decay_norms": False, "lr": float(arrays["lr"]), "va_rate": groups["emma_va_head"]["lr"], "clip_norm": 0.05,
         "batch_size": len(arrays["labels"]) // n_passes, "accumulate": n_passes, "epochs": 1},
    )  # fmt: skip
    shapes, networks = {"mae-cls": (768,), "dan": (8,)}, [MaeEncoder(BASE), Dan(8)]
    model = Normalised(options, options.own_task, shapes, networks, [spec_of("mae-cls"), spec_of("dan")])
    state = {emma_key(key): value for key, value in weights(facts["layout"], facts["seed"]).items()}
    load(model, state)
    model.pictures = images_of(facts["input_shape"], facts["seed"])
    model.freeze_unused()
    trainer = train_on(options, model, arrays["labels"])
    model.train()
    return model, trainer, state


def test_emma_takes_the_step_of_its_authors() -> None:
    facts, arrays = recorded("emma_step")
    n_passes = len(arrays["loss_parts_micro"])
    model, trainer, state = emma(n_passes)
    n_each = len(arrays["labels"]) // n_passes
    parameters = dict(model.named_parameters())
    trained = [parameters[emma_key(name)] for name in facts["parameters"]]
    for number in range(n_passes):
        rows = slice(number * n_each, (number + 1) * n_each)
        loss = trainer._add_gradients(*batch_of(trainer, rows), 0.0, 1 / n_passes)
        close(model.outputs[:, 0], arrays["output"][rows])
        close(loss, arrays["loss_parts_micro"][number, -1])
    each_close(norms([one.grad for one in trained]), arrays["accumulated_grad_norm"], 1e-4)
    chosen = [parameters[emma_key(name)] for name in facts["value_tensors"]]
    close(values_at([one.grad for one in chosen], arrays["value_index"]), arrays["accumulated_grad_values"], 1e-3)
    close(values_at(chosen, arrays["value_index"]), arrays["values_before"])
    set_rates(trainer, float(arrays["lr"]))
    before = [parameter.detach().clone() for parameter in trained]
    trainer._update()
    each_close(norms([now - then for now, then in zip(trained, before, strict=True)]), arrays["update_norm"], 1e-3)
    each_close(norms(trained), arrays["param_norm_after"], 1e-4)
    changes = values_at(chosen, arrays["value_index"]) - arrays["values_before"]
    np.testing.assert_allclose(changes, arrays["values_after"] - arrays["values_before"], rtol=1e-2, atol=2e-7)
    after = model.state_dict()
    assert all(torch.equal(after[key], value) for key, value in state.items() if key.startswith("encoders.1."))
    with torch.no_grad():
        batch, _ = batch_of(trainer, slice(0, 1))
        close(model(batch.features, batch.masks)[:, 0], arrays["output_after"][:1], 1e-3)


# masked CoTEX


def rates_of_masks() -> list[str]:
    return sorted(key.removesuffix("_kept") for key in arrays_of("ft_cotex_step") if key.endswith("_kept"))


def cotex_key(key: str, copy: int) -> str:
    name = key.removeprefix("vit.")
    head = f"heads.{copy}.heads.0.output."
    return name.replace("head.", head, 1) if name.startswith("head.") else f"encoders.{copy}.{name}"


@pytest.fixture(scope="module")
def vits() -> Iterator[tuple[list[nn.Module], State]]:
    """Networks of both ViTs, and the weights that they begin with."""
    facts, arrays = recorded("cotex_step")
    state: State = {}
    for copy in range(len(arrays["unmasked_logits"])):
        own = weights(facts["layout"], facts["seed"] + copy)
        state |= {cotex_key(key, copy): value for key, value in own.items()}
    yield [MaeEncoder(BASE) for _ in arrays["unmasked_logits"]], state


@pytest.mark.parametrize("mask", rates_of_masks()[-1:])
def test_cotex_takes_the_step_of_its_authors(mask: str, vits: tuple[list[nn.Module], State]) -> None:
    """At the higher rate; the lower one is the same computation on more patches, see the next test."""
    facts, arrays = recorded("cotex_step")
    model, trainer = cotex(mask, vits)
    copies = range(len(model.encoders))
    loss = trainer._add_gradients(*batch_of(trainer), 0.0, 1)
    close(model.outputs[:, :, 0], arrays[f"{mask}_logits"])
    close(loss, arrays[f"{mask}_loss_parts"][-1])
    assert model.outputs.grad is not None
    close(model.outputs.grad[:, :, 0], arrays[f"{mask}_logits_grad"], 1e-3)
    parameters = dict(model.named_parameters())
    trained = [[parameters[cotex_key(name, copy)] for name in facts["parameters"]] for copy in copies]
    chosen = [[parameters[cotex_key(name, copy)] for name in facts["value_tensors"]] for copy in copies]
    index = arrays["value_index"]
    for copy in copies:
        each_close(norms([one.grad for one in trained[copy]]), arrays[f"{mask}_grad_norm"][copy], 1e-4)
        close(values_at([one.grad for one in chosen[copy]], index), arrays[f"{mask}_grad_values"][copy], 1e-3)
    before = [[parameter.detach().clone() for parameter in listed] for listed in trained]
    set_rates(trainer, float(arrays["lr"]))
    trainer._update()
    for copy in copies:
        changes = norms([now - then for now, then in zip(trained[copy], before[copy], strict=True)])
        each_close(changes, arrays[f"{mask}_update_norm"][copy], 1e-3)
        expected = arrays[f"{mask}_values_after"][copy] - arrays["values_before"][copy]
        found = values_at(chosen[copy], index) - arrays["values_before"][copy]
        np.testing.assert_allclose(found, expected, rtol=1e-2, atol=2e-7)


def test_cotex_gives_the_outputs_of_its_authors(vits: tuple[list[nn.Module], State]) -> None:
    """Of one image: with more patches, and unmasked, where the class is that of the largest sum."""
    arrays = arrays_of("ft_cotex_step")
    for mask in rates_of_masks()[:-1]:
        model, trainer = cotex(mask, vits)
        model.kept = model.kept[:, :1] if model.kept is not None else None
        batch, _ = batch_of(trainer, slice(0, 1))
        with torch.no_grad():
            close(model(batch.features, batch.masks)[:, :, 0], arrays[f"{mask}_logits"][:, :1])
            found = model.eval()(batch.features, batch.masks)[:, 0]
        close(found, arrays["unmasked_logits"][:, :1].mean(axis=0))
        assert found.argmax(dim=-1).tolist() == arrays["unmasked_prediction"][:1].tolist()


def cotex(mask: str, vits: tuple[list[nn.Module], State]) -> tuple[Normalised, Trainer]:
    facts, arrays = recorded("cotex_step")
    networks, state = vits
    options = config(
        {"task": "lsd", "features": ("mae-cls",), "copies": len(networks), "head": {"name": "linear"},
         "loss": {"name": "cotex"}, "mask": float(mask.removeprefix("mask")) / 100, "grow_batch": False,
         **facts_of("layer_decay")["settings"], "decay_norms": False, "lr": float(arrays["lr"]), "clip_norm": 0.05,
         "batch_size": len(arrays["labels"]), "epochs": 1},
    )  # fmt: skip
    model = Normalised(options, options.own_task, {"mae-cls": (768,)}, networks, [spec_of("mae-cls")])
    load(model, state)
    model.pictures = images_of(facts["input_shape"], facts["seed"])
    model.kept = torch.from_numpy(arrays[f"{mask}_kept"].astype(np.int64))
    assert model.kept.shape[-1] == int(networks[0].n_patches * (1 - options.mask))
    model.freeze_unused()
    trainer = train_on(options, model, arrays["labels"][:, None])
    model.train()
    return model, trainer


# V-NAW


def vnaw_key(key: str) -> str:
    """Microsoft's Swin shrinks an image at the end of a stage, timm's at the start of the next."""
    for theirs, ours in TEMPORAL.items():
        if key.startswith(theirs):
            return f"heads.0.heads.0.{ours}{key.removeprefix(theirs)}"
    name = key.removeprefix("base_model.feature_extractor.0.")
    stage = re.sub(r"^layers\.(\d)\.downsample", lambda found: f"layers.{int(found[1]) + 1}.downsample", name)
    return f"encoders.0.{stage}"


def vnaw() -> tuple[Normalised, Trainer]:
    """The recipe's model, with the weights and the clip of the file, and without what is random."""
    facts, arrays = recorded("vnaw_step")
    recipe = load_recipe("v-naw-pixels").values
    head = {**recipe["head"], "dropout": 0.0}
    options = config(
        recipe
        | {"augment": "none", "drop_path": 0.0, "head": head, "window": facts["input_shape"][1], "speed": (1.0, 1.0)}
        | {"chunk": 0, "batch_size": 1, "epochs": facts["epochs_in_all"], "patience": facts["epochs_in_all"]}
    )
    network = SwinFace()
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    model = Normalised(options, options.own_task, {"swin-face": (512,)}, [network], [spec_of("swin-face")])
    state = {vnaw_key(key): value for key, value in weights(facts["layout"], facts["seed"]).items()}
    load(model, {key: value[..., 0] if key.endswith("convs.0.weight") else value for key, value in state.items()})
    model.pictures = images_of(facts["input_shape"], facts["seed"]).flatten(0, 1)
    trainer = train_on(options, model, arrays["labels"][:, None], len(arrays["labels"]))
    model.train()
    pooled = network.pool_images(torch.cat([model.pictures, model.pictures.flip(-1)]))
    network.pool_images = lambda images: pooled  # the same for both kinds of batch normalisation
    return model, trainer


def vnaw_loss(trainer: Trainer, **factors: float) -> Any:
    """Parts of the recipe's loss, with their factors."""
    values = trainer.config.loss.model_dump() | {"plain": 0.0, "weighted": 0.0, "consistency": 0.0} | factors
    labels = arrays_of("ft_vnaw_step")["labels"][:, None].astype(np.float32)
    return create_loss(VNawConfig(**values), trainer.task, labels, labels >= 0)


def test_v_naw_takes_the_step_of_its_authors() -> None:
    """Parts of the loss by the running statistics, down to the layers behind the pooling; then a whole step by the batch."""
    facts, arrays = recorded("vnaw_step")
    model, trainer = vnaw()
    parameters = dict(model.named_parameters())
    trained = [parameters[vnaw_key(name)] for name in facts["parameters"]]
    batch, windows = batch_of(trainer)
    for norm in batch_norms(model.encoders[0]):
        norm.eval()
    outputs = model(batch.features, batch.masks)
    close(outputs[0, 0], arrays["logits"])
    close(outputs[1, 0], arrays["logits_mirrored"])
    late = [number for number, name in enumerate(facts["parameters"]) if ".layers." not in name and "patch" not in name]
    late += [number for number, name in enumerate(facts["parameters"]) if "transformer_encoder.layers" in name]
    last = [parameters[vnaw_key(facts["parameters"][number])] for number in late]

    def check(factors: dict[str, float], progress: float, value: NDArray, gradients: NDArray, tolerance: float) -> None:
        loss = vnaw_loss(trainer, **factors)(outputs, batch.labels, batch.valid, progress)
        close(loss, value, tolerance)
        found = torch.autograd.grad(loss, last, retain_graph=True, allow_unused=True)
        expected = gradients[late]
        each_close(norms([one if one is not None else torch.zeros(1) for one in found]), expected, tolerance)

    check({"plain": 1.0}, 0.0, arrays["cross_entropy"], arrays["grad_norm_cross_entropy"], 1e-4)
    check({"consistency": 1.0}, 0.0, arrays["divergence"], arrays["grad_norm_divergence"], 1e-3)
    loss = trainer.config.loss
    assert isinstance(loss, VNawConfig)
    whole = {"plain": loss.plain, "weighted": loss.weighted, "consistency": loss.consistency}
    for number, epoch in enumerate(facts["epochs"]):
        progress = epoch / facts["epochs_in_all"]
        check({"weighted": 1.0}, progress, arrays["noise_aware"][number], arrays["grad_norm_noise_aware"][number], 1e-4)
        check(whole, progress, arrays["total"][number], arrays["grad_norm_total"][number], 1e-4)

    model.train()
    (epoch,) = numbers_in(facts["outputs"]["bn_*"].split(" once")[0])
    found = trainer._add_gradients(batch, windows, epoch / facts["epochs_in_all"], 1)
    close(model.outputs[:, 0], np.stack([arrays["bn_logits"], arrays["bn_logits_mirrored"]]))
    close(found, arrays["bn_total"])
    each_close(norms([one.grad for one in trained]), arrays["bn_grad_norm_total"], 1e-4)
    for number in (1, 3):
        for statistic in ("mean", "var"):
            running = model.state_dict()[f"encoders.0.feature.{number}.running_{statistic}"]
            close(running, arrays[f"bn_running_{statistic}_{number}"])
    before = [parameter.detach().clone() for parameter in trained]
    assert len(trainer.optimizer.param_groups) == 1
    set_rates(trainer, facts_of("layer_decay")["vnaw_schedule"]["lr"])
    trainer._update()
    learns = arrays["bn_grad_norm_total"] > NOUGHT * arrays["bn_grad_norm_total"].max()  # Adam makes much of rounding
    assert learns.sum() > len(learns) - 3
    changes = norms([now - then for now, then in zip(trained, before, strict=True)])
    each_close(changes[learns], arrays["bn_update_norm"][learns], 1e-2)


@pytest.mark.parametrize("prefix", ["", "encoder.", "module.base_model.feature_extractor.0."])
def test_the_swin_of_v_naw(prefix: str, tmp_path: Path) -> None:
    """Tables that follow from the windows are in the file, but must not matter."""
    facts, arrays = recorded("vnaw_net")
    layout = facts["swin_layout"]
    fixed = {key: torch.zeros(shape) for key, shape in layout.items() if key.endswith(FIXED)}
    assert len(fixed) > 12
    state = {prefix + key: value for key, value in (swin_weights() | fixed).items()}
    if prefix == "encoder.":
        state |= {"norm.weight": torch.ones(768), "head.weight": torch.zeros(7, 512), "head.bias": torch.zeros(7)}
    save_file(state, tmp_path / "swin.safetensors")
    backbone = create_backbone(("swin-face", "swin-face-mean"), tmp_path / "swin.safetensors")
    assert len(backbone.notes) == (prefix == "encoder.") and all("head.weight" in note for note in backbone.notes)
    outputs = backbone(images_of(facts["swin_input_shape"], facts["seed"]))
    assert isinstance(outputs, dict)
    close(outputs["swin-face"], arrays["swin_output"])
    close(outputs["swin-face-mean"], arrays["swin_pooled"])
    image = backbone.spec.image
    assert image is not None
    assert (image.size, list(image.mean), list(image.std)) == tuple(facts["image_input"].values())


@cache
def swin_weights() -> State:
    facts = facts_of("vnaw_net")
    return weights(facts["swin_layout"], facts["seed"])


@cache
def resnet_weights() -> State:
    facts = facts_of("vnaw_net")
    layout = {key: shape for key, shape in facts["r50_layout"].items() if not key.startswith("fc.")}
    return weights(layout, facts["seed"])


@pytest.mark.parametrize("name", ["resnet50-vggface", "resnet50-vggface-caffe"])
def test_the_resnet_of_v_naw(name: str, tmp_path: Path) -> None:
    """As its program runs, with one definition's pooling by accident, and as its weights were made for."""
    facts, arrays = recorded("vnaw_net")
    save_file(
        resnet_weights() | {"fc.weight": torch.zeros(8631, 1), "fc.bias": torch.zeros(8631)}, tmp_path / "r.safetensors"
    )
    backbone = create_backbone(name, tmp_path / "r.safetensors")
    assert len(backbone.notes) == 1 and "fc.weight" in backbone.notes[0]
    caffe = name.endswith("caffe")
    for output, shape in (("", facts["r50_input_shape"]), ("_224", facts["r50_input_shape_224"])):
        images = images_of(shape, facts["seed"])
        # the recorded network was given its channels as they come; Caffe's want blue first
        found = backbone(images.flip(1) if caffe else images)
        close(found, arrays[f"r50_{'caffe_' if caffe else ''}output{output}"])


def test_a_checkpoint_with_the_resnet_of_v_naw(tmp_path: Path) -> None:
    """It numbers the layers of a Sequential, below the names of a larger model."""
    facts, arrays = recorded("vnaw_net")
    numbers = {"conv1": 0, "bn1": 1, "layer1": 4, "layer2": 5, "layer3": 6, "layer4": 7}
    state = {}
    for key, value in resnet_weights().items():
        name, _, rest = key.partition(".")
        state[f"module.base_model.feature_extractor.0.{numbers[name]}.{rest}"] = value
    state |= {f"module.{key}": torch.zeros(1) for key in facts["temporal_layout"]}
    save_file(state, tmp_path / "r.safetensors")
    outputs = create_backbone("resnet50-vggface", tmp_path / "r.safetensors")(
        images_of(facts["r50_input_shape"], facts["seed"])
    )
    close(outputs, arrays["r50_output"])


@pytest.mark.parametrize("kind", ["", "r50_"])
def test_the_encoder_head_is_the_temporal_network_of_v_naw(kind: str) -> None:
    """One head of attention, no positions; on the features of the Swin, and on those of the ResNet."""
    facts, arrays = recorded("vnaw_net")
    layout = facts["temporal_layout"] | {
        key: shape for key, shape in facts[f"{kind}temporal_layout"].items() if key != "others"
    }
    width = facts[f"{kind}temporal_input_shape"][-1]
    options = {"name": "encoder", "convs": "512", "heads": 1, "positions": False}
    head = create_head(TypeAdapter(AnyHeadConfig).validate_python(options), {"f": (width,)}, (8,)).eval()
    state = {}
    for key, value in weights(layout, facts["seed"]).items():
        start = next(name for name in TEMPORAL if key.startswith(name))
        state[TEMPORAL[start] + key.removeprefix(start)] = value.squeeze(-1) if "conv1" in key else value
    load(head, state)
    frames = images_of(facts[f"{kind}temporal_input_shape"], facts["seed"])
    with torch.no_grad():
        logits = head({"f": frames}, {"f": torch.ones(frames.shape[:2]).bool()})
    close(logits, arrays[f"{kind}temporal_logits"])


# gradients of losses; their inputs are in losses.npz


def input_of(name: str) -> Tensor:
    return torch.from_numpy(arrays_of("losses")[name])


def gradient_of(
    options: LossConfig, task: str, outputs: Tensor, labels: Tensor, progress: float
) -> tuple[Tensor, Tensor]:
    """The loss and its gradient; labels below 0, and of valence and arousal those at -5, do not count."""
    leaf, valid = outputs.clone().requires_grad_(), torch.from_numpy(TASKS[task].valid(labels.numpy()))
    own = create_loss(options, TASKS[task], labels.numpy(), valid.numpy())
    loss = own(leaf, labels, valid, progress)
    return loss.detach(), torch.autograd.grad(loss, leaf)[0]


def epochs_of_gradients() -> list[tuple[int, int]]:
    found = (re.fullmatch(r"naw_epoch(\d+)_of_(\d+)_grad", key) for key in arrays_of("ft_losses_grad"))
    return [(int(match[1]), int(match[2])) for match in found if match]


@pytest.mark.parametrize(("epoch", "n_epochs"), epochs_of_gradients())
@pytest.mark.parametrize("through_weights", [True, False])
def test_gradient_of_the_noise_aware_loss(epoch: int, n_epochs: int, through_weights: bool) -> None:
    """With the gradient through the noise weights, as published, and with the weights held."""
    options = VNawConfig(plain=0, weighted=1, through_weights=through_weights)
    labels = input_of("expr_labels").float()[:, None]
    loss, gradient = gradient_of(options, "expr", input_of("expr_logits"), labels, epoch / n_epochs)
    name = f"naw_epoch{epoch}_of_{n_epochs}"
    close(loss, arrays_of("losses")[name])
    close(gradient, arrays_of("ft_losses_grad")[f"{name}_grad{'' if through_weights else '_weight_held'}"])


def test_gradient_of_the_divergence_from_the_mean_logits() -> None:
    expected = arrays_of("ft_losses_grad")
    views, labels = (
        torch.stack([input_of("expr_logits"), input_of("expr_logits_flipped")]),
        input_of("expr_labels").float(),
    )
    options = VNawConfig(plain=0, weighted=0, consistency=1, divergence="logit-sum")
    loss, gradient = gradient_of(options, "expr", views, labels[:, None], 0.0)
    close(loss, expected["divergence"])
    close(gradient, np.stack([expected["divergence_grad"], expected["divergence_grad_flipped"]]))


def test_gradient_of_the_loss_of_cotex() -> None:
    expected = arrays_of("ft_losses_grad")
    views, labels = (
        torch.stack([input_of("expr_logits"), input_of("expr_logits_flipped")]),
        input_of("cotex_labels").float(),
    )
    gradients = [
        gradient_of(CotexConfig(consistency=factor, unlabelled=True), "expr", views, labels[:, None], 0.0)[1]
        for factor in (100, 0)
    ]
    close(gradients[0], expected["cotex_grad"])
    close((gradients[0] - gradients[1]) / 100, expected["cotex_jsd_grad"])


def test_gradient_of_the_loss_of_emma() -> None:
    expected = arrays_of("ft_losses_grad")
    outputs = torch.cat([input_of("va_pred"), input_of("expr_logits"), input_of("au_logits")], dim=1)
    labels = torch.cat([input_of("va_labels"), input_of("cotex_labels").float()[:, None], input_of("au_labels")], dim=1)
    options = EmmaLossConfig(positive_weights=tuple(facts_of("emma_step")["positive_weights"]))
    loss, gradient = gradient_of(options, "mtl", outputs, labels, 0.0)
    close(loss, expected["emma_total"])
    close(gradient, expected["emma_grad"])


# groups and schedules


def test_every_layer_has_the_rate_and_the_decay_of_the_authors() -> None:
    facts = facts_of("layer_decay")
    settings = facts["settings"]
    with torch.device("meta"):
        network = MaeEncoder(BASE)
    numbers, last = layer_numbers(network), len(block_names(network)) + 1
    for name, parameter in network.named_parameters():
        scale, decay = facts["emma_groups"][f"vit.{name}"]
        assert facts["cotex_groups"][f"vit.{name}"] == [scale, decay]
        assert settings["layer_decay"] ** (last - numbers[name]) == pytest.approx(scale, rel=1e-9)
        assert (settings["weight_decay"] if learns_decay(name, parameter) else 0.0) == decay


def test_the_same_parameters_of_a_head_decay_as_in_emmas_program() -> None:
    facts = facts_of("layer_decay")
    head = create_head(EmmaHeadConfig(), {"mae-cls": (768,), "dan": (8,)}, (1, 1, 8, *(1,) * 12))
    names = {id(value): name for name, value in head.named_parameters()}
    options = make_config(
        {"task": "va", "features": ("f",), "decay_norms": False, "weight_decay": facts["settings"]["weight_decay"]}
    )
    found = sorted(
        group["weight_decay"]
        for group in create_optimizer(options, head).param_groups
        for value in group["params"]
        if names[id(value)].startswith("head.")
    )
    assert found == sorted(decay for name, (_, decay) in facts["emma_groups"].items() if name.startswith("vit.head."))


def schedule_of(system: str) -> tuple[dict[str, Any], NDArray, NDArray, int]:
    """Its options, the recorded positions in epochs and rates, and the recorded positions in an epoch."""
    facts = facts_of("layer_decay")
    values, positions = facts[f"{system}_schedule"], np.array(facts[f"{system}_epoch"])
    options = {key: values[key] for key in ("lr", "min_lr", "epochs")}
    options["warmup"] = values["warmup_epochs"] / values["epochs"]
    return options, positions, np.array(facts[f"{system}_lr"]), round(1 / (positions[1] - positions[0]))


@pytest.mark.parametrize("system", ["emma", "cotex"])
def test_rates_follow_the_schedules_of_the_authors(system: str) -> None:
    options, positions, expected, n_steps = schedule_of(system)
    lead = "epoch" if positions[0] else "step"  # a first epoch with the number 1, or a first step with the number 1
    chosen = config({"task": "va", "features": ("mae-cls",), "lead": lead, **options})
    steps = np.rint((positions - positions[0]) * n_steps).astype(int) - (lead == "step")
    rates = [learning_rate(chosen, int(step), options["epochs"] * n_steps) for step in steps]
    np.testing.assert_allclose(rates, expected, rtol=1e-9, atol=1e-18)


@pytest.mark.parametrize("system", ["emma", "cotex"])
def test_rates_of_heads_after_the_warm_up_are_those_of_the_authors(system: str) -> None:
    """At the positions in epochs that their programs name; their warm-up grows from nought, ours from its first step."""
    options, positions, expected, n_steps = schedule_of(system)
    chosen = make_config({"task": "va", "features": ("f",), **options})
    after = (positions >= options["warmup"] * options["epochs"]) & (positions <= options["epochs"])
    found = [
        learning_rate(chosen, round(position * n_steps), options["epochs"] * n_steps) for position in positions[after]
    ]
    np.testing.assert_allclose(found, expected[after], rtol=1e-9)


@pytest.mark.parametrize("pixels", [True, False])
@pytest.mark.parametrize("schedule", ["cosine", "exponential"])
def test_rates_of_v_naw_are_those_of_its_program(schedule: str, pixels: bool) -> None:
    facts, n_steps = facts_of("layer_decay"), 11
    values, expected = facts["vnaw_schedule"], facts[f"vnaw_{schedule}_lr"]
    cosine = {"schedule": "cyclic-cosine", "lr_epochs": values["T_max"], "min_lr": values["eta_min"]}
    options = cosine if schedule == "cosine" else {"schedule": "exponential", "lr_factor": values["gamma"]}
    of_both = {"task": "expr", "features": ("f",), "lr": values["lr"], "epochs": len(expected), "warmup": 0.0}
    chosen: TrainConfig = make_config({**of_both, **options, "lr_per": "epoch", **({"pixels": True} if pixels else {})})
    assert isinstance(chosen, FinetuneConfig) == pixels
    found = [learning_rate(chosen, step, len(expected) * n_steps) for step in range(len(expected) * n_steps)]
    np.testing.assert_allclose(found, np.repeat(expected, n_steps), rtol=1e-9)


# augmentations, at the values that the file tells of each result


def picture() -> Tensor:
    return torch.from_numpy(arrays_of("ft_augment")["input"]).permute(2, 0, 1)[None]


def told(name: str) -> str:
    return str(facts_of("augment")["outputs"][name])


def same(image: Tensor, name: str) -> None:
    """The stored part, and the whole by its digest."""
    found, expected = image[0].permute(1, 2, 0).contiguous().numpy(), arrays_of("ft_augment")[name]
    np.testing.assert_array_equal(found[: expected.shape[0], : expected.shape[1]], expected)
    assert hashlib.sha256(found.tobytes()).hexdigest() == facts_of("augment")["sha256"][name]


def factor(value: float) -> Tensor:
    return torch.tensor([value], dtype=torch.float64)


CHANGES = {
    "brightness": adjust_brightness, "contrast": adjust_contrast, "saturation": adjust_saturation,
    "color": adjust_saturation, "hue": shift_hue,
}  # fmt: skip


def results(stem: str) -> list[str]:
    return sorted(name for name in facts_of("augment")["outputs"] if re.fullmatch(rf"{stem}(_\d+)?", name))


def test_colours_are_those_of_pillow() -> None:
    same(equalise_range(picture()), "autocontrast")
    for stem in ("brightness", "color", "contrast"):
        for name in results(stem):
            same(CHANGES[stem](picture(), factor(numbers_in(told(name))[0])), name)


def test_squares_are_cut_out_as_published() -> None:
    for name in ("cutout", "cutout_corner"):
        share, width, _, x, y = numbers_in(told(name))[:5]
        same(cut_out(picture()[0], share * width, x, y)[None], name)


def jittered(image: Tensor, name: str) -> Tensor:
    for part in told(name).partition(":")[2].split(","):
        change, value = part.split()
        image = CHANGES[change](image, factor(float(value)))
    return image


def cropped(image: Tensor, text: str) -> Tensor:
    side, top, left = (int(value) for value in numbers_in(text[text.index("crop") :])[:3])
    return image[:, :, top : top + side, left : left + side]


def test_views_of_training_are_those_of_the_authors() -> None:
    for name in results("jitter"):
        same(jittered(picture(), name), name)
    for name in results("resize"):
        same(resize(picture(), int(numbers_in(told(name))[0]), "bilinear"), name)
    same(picture().flip(-1), "flip")
    for name in ("emma_train", "cotex_train"):
        text = told(name).partition(":")[2]
        image = resize(picture(), int(re.findall(r"resize (\d+)", text)[0]), "bilinear")
        if jitter := re.findall(r"jitter_\d+", text):
            image = jittered(image, jitter[0])
        image = cropped(image, text)
        same(image if "no flip" in text else image.flip(-1), name)


def test_the_operations_of_a_clip_are_those_of_the_authors() -> None:
    """Nine at equal chances, two of which change nothing, in the order of the published list."""
    listed = [(change(picture(), (low + high) / 2), low, high) for change, low, high in CLIP_CHANGES]
    assert [(low, high) for _, low, high in listed] == [(0, 0), *[(0.6, 1.4)] * 3, *[(0, 0)] * 3, (6, 8), (0.6, 1.4)]
    same(listed[0][0], "autocontrast")
    same(listed[4][0], "equalize")
    assert torch.equal(listed[5][0], picture()) and torch.equal(listed[6][0], picture())
    for number, stem in ((1, "brightness"), (2, "color"), (3, "contrast"), (8, "sharpness")):
        for name in results(stem):
            same(CLIP_CHANGES[number][0](picture(), numbers_in(told(name))[0]), name)
    for name in results("posterize"):
        value = float(re.findall(r"value ([\d.]+\d)", told(name))[0])
        same(CLIP_CHANGES[7][0](picture(), value), name)
