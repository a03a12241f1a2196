"""Fine-tuning against outputs of the authors' programs: steps, groups, schedules, augmentations; see tests/data/reference."""

import json
import os
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from abaw.backbones.registry import get_spec
from abaw.backbones.vision.dan import Dan
from abaw.backbones.vision.mae import BASE, MaeEncoder
from abaw.core.doubles import Doubles
from abaw.core.tasks import Task
from abaw.tests.data.reference import seeded
from abaw.tests.support.paths import DATA
from abaw.train.config import make_config
from abaw.train.finetune.augment import CLIP_CHANGES, cut_out, resize
from abaw.train.finetune.colours import adjust_brightness, adjust_contrast, adjust_saturation, equalise_range, shift_hue
from abaw.train.finetune.finetune_config import FinetuneConfig
from abaw.train.finetune.layers import block_names, layer_numbers, learns_decay
from abaw.train.finetune.pixel_model import Outputs, PixelModel
from abaw.train.finetune.pixel_table import IMAGES, SIZES
from abaw.train.loop import Trainer
from abaw.train.schedules import learning_rate

FOLDER = DATA / "reference"
EMMA_HEADS = {"vit.head.": "heads.0.heads.0.head.", "va_head.": "heads.0.heads.0.va_head."}


def recorded(name: str) -> tuple[dict[str, Any], dict[str, NDArray]]:
    with np.load(FOLDER / f"ft_{name}.npz") as arrays:
        return json.loads((FOLDER / f"ft_{name}.json").read_text()), dict(arrays)


def config(values: dict[str, Any], *settings: str) -> FinetuneConfig:
    made = make_config({"pixels": True, "augment": "none", "drop_path": 0.0, **values}, settings)
    assert isinstance(made, FinetuneConfig)
    return made


class Pictures:
    """Samples of one row for each video, whose image is its number."""

    n_readers, rows_per_batch = 1, 256
    doubles: Doubles | None = None
    shares: NDArray | None = None

    def __init__(self, task: Task, labels: NDArray) -> None:
        self.task, self.labels = task, labels.astype(np.float32)
        self.videos = tuple(map(str, range(len(labels))))
        self.starts = np.arange(len(labels) + 1)
        self.valid = task.valid(self.labels)
        self.synthetic = np.zeros(len(labels), dtype=bool)

    def present(self) -> NDArray[np.bool_]:
        return np.ones(len(self.labels), dtype=bool)

    def inputs(self, rows: NDArray, inside: NDArray) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        images = torch.from_numpy(rows.astype(np.uint8))[..., None, None, None]
        return {IMAGES: images, SIZES: torch.ones(*rows.shape, 2, dtype=torch.int64)}, {
            IMAGES: torch.from_numpy(inside)
        }


class Normalised(PixelModel):
    """Takes normalised images in place of the numbers that `Pictures` gives."""

    pictures: Tensor
    kept: Tensor | None = None  # (copies, images, patches)

    def _inputs(self, outputs, images, n_rows, views, places):
        ((_, numbers),) = images
        inputs = self.pictures[numbers.flatten().long()]
        return torch.cat([inputs.flip(-1) if view else inputs for view in views])[places.start : places.stop]

    def _kept(self, network, n_images, device):
        assert self.kept is not None
        (copy,) = (number for number, encoder in enumerate(self.encoders) if encoder is network)
        return self.kept[copy]


def spec_of(*names: str) -> Outputs:
    return Outputs({name: get_spec(name) for name in names})


def close(found: Tensor | NDArray, expected: NDArray, tolerance: float) -> None:
    """Relative, over the whole array."""
    found = found.detach().numpy() if isinstance(found, Tensor) else found
    assert np.linalg.norm(found - expected) <= tolerance * np.linalg.norm(expected)


def norms(tensors: list[Tensor]) -> NDArray:
    return np.array([float(tensor.detach().double().norm()) for tensor in tensors])


def emma() -> tuple[dict[str, Any], dict[str, NDArray], Normalised, Trainer, dict[str, Tensor]]:
    """EMMA's model with the recorded weights, a trainer, and the recorded numbers."""
    facts, arrays = recorded("emma_step")
    options = config(
        {"task": "mtl", "features": ("mae-cls", "dan"), "freeze": ("dan",), "head": {"name": "emma"},
         "loss": {"name": "emma", "positive_weights": facts["positive_weights"]}, "layer_decay": 0.65, "weight_decay": 0.05,
         "lr": float(arrays["lr"]), "va_rate": 1e-4, "clip_norm": 0.05, "batch_size": 4, "accumulate": 2, "epochs": 1},
    )  # fmt: skip
    model = Normalised(
        options,
        options.own_task,
        {"mae-cls": (768,), "dan": (8,)},
        [MaeEncoder(BASE), Dan(8)],
        [spec_of("mae-cls"), spec_of("dan")],
    )
    values = {
        key: torch.from_numpy(value) for key, value in seeded.seeded_state_dict(facts["layout"], facts["seed"]).items()
    }
    own = {own_key(key): value for key, value in values.items()}
    missing, unexpected = model.load_state_dict(own, strict=False)
    assert not unexpected and all("num_batches" in key for key in missing)
    model.pictures = torch.from_numpy(seeded.seeded_input(tuple(facts["input_shape"]), facts["seed"]))
    model.freeze_unused()
    labels = arrays["labels"]
    trainer = Trainer(options, options.own_task, model, Pictures(options.own_task, labels), torch.device("cpu"))
    return facts, arrays, model, trainer, values


def own_key(key: str) -> str:
    for theirs, ours in EMMA_HEADS.items():
        if key.startswith(theirs):
            return ours + key.removeprefix(theirs)
    return key.replace("vit.", "encoders.0.", 1) if key.startswith("vit.") else key.replace("cnn.", "encoders.1.", 1)


def test_emma_takes_the_step_of_its_authors():
    facts, arrays, model, trainer, values = emma()
    parameters = dict(model.named_parameters())
    trained = [parameters[own_key(name)] for name in facts["parameters"]]
    model.train()
    windows = trainer._sampler.windows(1)

    def batch(rows):
        return trainer._sampler.batch(windows[rows])

    with torch.no_grad():
        half = batch(slice(0, 4))
        close(model(half.features, half.masks)[:, 0], arrays["output"][:4], 1e-4)
    losses = [
        float(trainer._add_gradients(batch(rows), windows[rows], 0.0, 0.5)) for rows in (slice(0, 4), slice(4, 8))
    ]
    close(np.array(losses), arrays["loss_parts_micro"][:, -1], 1e-4)
    close(norms([parameter.grad for parameter in trained]), arrays["accumulated_grad_norm"], 1e-4)
    trainer.lr = float(arrays["lr"])
    for group in trainer.optimizer.param_groups:
        group["lr"] = group.get("constant", trainer.lr * group.get("scale", 1.0))
    before = [parameter.detach().clone() for parameter in trained]
    trainer._update()
    close(norms([now - then for now, then in zip(trained, before, strict=True)]), arrays["update_norm"], 1e-3)
    for number, name in enumerate(facts["value_tensors"]):
        index = arrays["value_index"][number]
        changed = parameters[own_key(name)].detach().flatten()[index].numpy()
        start = arrays["values_before"][number]
        np.testing.assert_allclose(changed - start, arrays["values_after"][number] - start, rtol=1e-2, atol=2e-7)
    frozen = [key for key in values if key.startswith("cnn.")]
    state = model.state_dict()
    assert all(torch.equal(state[own_key(key)], values[key]) for key in frozen)


@pytest.mark.parametrize(
    "rate", [75, pytest.param(50, marks=pytest.mark.skipif("ABAW_ALL_TESTS" not in os.environ, reason="takes 15 s"))]
)
def test_cotex_takes_the_step_of_its_authors(rate: int):
    facts, arrays = recorded("cotex_step")
    options = config(
        {"task": "lsd", "features": ("mae-cls",), "copies": 2, "head": {"name": "linear"}, "loss": {"name": "cotex"},
         "mask": rate / 100, "grow_batch": False, "layer_decay": 0.65, "weight_decay": 0.05, "lr": float(arrays["lr"]),
         "clip_norm": 0.05, "batch_size": 8, "epochs": 1, "window": 1},
    )  # fmt: skip
    networks = [MaeEncoder(BASE), MaeEncoder(BASE)]
    model = Normalised(options, options.own_task, {"mae-cls": (768,)}, networks, [spec_of("mae-cls")])
    for copy in range(2):
        state = seeded.seeded_state_dict(facts["layout"], facts["seed"] + copy)
        own = {cotex_key(key, copy): torch.from_numpy(value) for key, value in state.items()}
        assert not model.load_state_dict(own, strict=False).unexpected_keys
    model.pictures = torch.from_numpy(seeded.seeded_input(tuple(facts["input_shape"]), facts["seed"]))
    model.kept = torch.from_numpy(arrays[f"mask{rate}_kept"].astype(np.int64))
    model.freeze_unused()
    trainer = Trainer(
        options, options.own_task, model, Pictures(options.own_task, arrays["labels"][:, None]), torch.device("cpu")
    )
    model.train()
    windows = trainer._sampler.windows(1)
    loss = trainer._add_gradients(trainer._sampler.batch(windows), windows, 0.0, 1)
    close(np.array(float(loss)), arrays[f"mask{rate}_loss_parts"][3], 1e-4)
    parameters = dict(model.named_parameters())
    trained = [[parameters[cotex_key(name, copy)] for name in facts["parameters"]] for copy in range(2)]
    close(np.stack([norms([one.grad for one in listed]) for listed in trained]), arrays[f"mask{rate}_grad_norm"], 1e-4)
    before = [[parameter.detach().clone() for parameter in listed] for listed in trained]
    for group in trainer.optimizer.param_groups:
        group["lr"] = float(arrays["lr"]) * group["scale"]
    trainer._update()
    changes = [
        norms([now - then for now, then in zip(now_listed, then_listed, strict=True)])
        for now_listed, then_listed in zip(trained, before, strict=True)
    ]
    close(np.stack(changes), arrays[f"mask{rate}_update_norm"], 1e-3)


def cotex_key(key: str, copy: int) -> str:
    name = key.removeprefix("vit.")
    head = f"heads.{copy}.heads.0.output."
    return name.replace("head.", head, 1) if name.startswith("head.") else f"encoders.{copy}.{name}"


def test_every_layer_has_the_rate_and_the_decay_of_the_authors():
    facts = json.loads((FOLDER / "ft_layer_decay.json").read_text())
    settings = facts["settings"]
    with torch.device("meta"):
        network = MaeEncoder(BASE)
    numbers, last = layer_numbers(network), len(block_names(network)) + 1
    for name, parameter in network.named_parameters():
        scale, decay = facts["emma_groups"][f"vit.{name}"]
        assert facts["cotex_groups"][f"vit.{name}"] == [scale, decay]
        assert settings["layer_decay"] ** (last - numbers[name]) == pytest.approx(scale, rel=1e-9)
        assert (settings["weight_decay"] if learns_decay(name, parameter) else 0.0) == decay


@pytest.mark.parametrize(("name", "n_steps"), [("emma", 20), ("cotex", 50)])
def test_rates_follow_the_schedules_of_the_authors(name: str, n_steps: int):
    facts = json.loads((FOLDER / "ft_layer_decay.json").read_text())
    schedule = facts[f"{name}_schedule"]
    options = config(
        {"task": "va", "features": ("mae-cls",), "lr": schedule["lr"], "min_lr": schedule["min_lr"],
         "epochs": schedule["epochs"], "warmup": schedule["warmup_epochs"] / schedule["epochs"],
         "lead": "epoch" if name == "emma" else "step", "clip_norm": 0.05},
    )  # fmt: skip
    positions = np.array(facts[f"{name}_epoch"])
    steps = np.rint((positions - positions[0]) * n_steps).astype(int)
    shift = 0 if name == "emma" else 1  # its first recorded position is that before the first step
    rates = [learning_rate(options, int(step) - shift, schedule["epochs"] * n_steps) for step in steps]
    np.testing.assert_allclose(rates, facts[f"{name}_lr"], rtol=1e-9, atol=1e-18)


def picture() -> tuple[Tensor, dict[str, NDArray]]:
    _, arrays = recorded("augment")
    return torch.from_numpy(arrays["input"]).permute(2, 0, 1)[None], arrays


def same(image: Tensor, expected: NDArray) -> None:
    np.testing.assert_array_equal(image[0].permute(1, 2, 0)[: expected.shape[0], : expected.shape[1]].numpy(), expected)


def factor(value: float) -> Tensor:
    return torch.tensor([value], dtype=torch.float64)


def test_colours_are_those_of_pillow():
    image, expected = picture()
    same(equalise_range(image), expected["autocontrast"])
    for name, change, values in (
        ("brightness", adjust_brightness, (0.7, 1.3)),
        ("color", adjust_saturation, (0.65, 1.35)),
        ("contrast", adjust_contrast, (0.6, 1.4)),
    ):
        for number, value in enumerate(values):
            same(change(image, factor(value)), expected[f"{name}_{number}"])
    same(cut_out(image[0], 0.31 * 112, 37.3, 80.9)[None], expected["cutout"])
    same(cut_out(image[0], 0.5 * 112, 5.2, 108.6)[None], expected["cutout_corner"])


def jittered(image: Tensor) -> Tensor:
    bright = adjust_contrast(adjust_brightness(image, factor(1.23)), factor(0.81))
    return shift_hue(adjust_saturation(bright, factor(1.37)), factor(-0.06))


def test_views_of_training_are_those_of_the_authors():
    image, expected = picture()
    same(jittered(image), expected["jitter_0"])
    hue_first = adjust_saturation(shift_hue(image, factor(-0.06)), factor(1.37))
    same(adjust_brightness(adjust_contrast(hue_first, factor(0.81)), factor(1.23)), expected["jitter_1"])
    for side in (232, 228, 224):
        same(resize(image, side, "bilinear"), expected[f"resize_{side}"])
    same(jittered(resize(image, 232, "bilinear"))[:, :, 3:227, 6:230].flip(-1), expected["emma_train"])
    same(resize(image, 228, "bilinear")[:, :, 1:225, 4:228], expected["cotex_train"])


def test_the_operations_of_a_clip_are_those_of_the_authors():
    """Nine at equal chances, two of which change nothing; the others by fixed values are compared above."""
    image, expected = picture()
    listed = [(change(image, (low + high) / 2), low, high) for change, low, high in CLIP_CHANGES]
    assert [(low, high) for _, low, high in listed] == [(0, 0), *[(0.6, 1.4)] * 3, *[(0, 0)] * 3, (6, 8), (0.6, 1.4)]
    same(listed[0][0], expected["autocontrast"])
    same(listed[4][0], expected["equalize"])
    assert torch.equal(listed[5][0], image) and torch.equal(listed[6][0], image)
    for number, name, values in (
        (1, "brightness", (0.7, 1.3)),
        (2, "color", (0.65, 1.35)),
        (3, "contrast", (0.6, 1.4)),
    ):
        for position, value in enumerate(values):
            same(CLIP_CHANGES[number][0](image, value), expected[f"{name}_{position}"])
    same(CLIP_CHANGES[7][0](image, 6.9), expected["posterize_6"])
    for position, value in enumerate((0.75, 1.25)):
        same(CLIP_CHANGES[8][0](image, value), expected[f"sharpness_{position}"])
