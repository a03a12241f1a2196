"""Encoders that compute their features in chunks, and again for the gradient, against the whole gradient."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from abaw.backbones.backbone import build_network
from abaw.backbones.registry import get_spec
from abaw.backbones.vision import swin_face
from abaw.backbones.vision.mae import MaeEncoder, Size
from abaw.core.errors import UsageError
from abaw.train.config import make_config
from abaw.train.finetune import pixel_model
from abaw.train.finetune.finetune_config import FinetuneConfig
from abaw.train.finetune.pixel_model import Outputs, PixelModel
from abaw.train.finetune.pixel_table import IMAGES, SIZES

pytestmark = pytest.mark.usefixtures("one_thread")

TOLERANCE = 1e-5
VIT, RESNET, MAE, SWIN = "timm/test_vit@32-mean", "timm/test_resnet@32", "mae-cls", "swin-face"
VARIANTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "plain": ((VIT,), ()),
    "views, and paths that are dropped": ((VIT,), ("drop_path=0.5", "views=,hflip", "augment=light")),
    "blocks that are computed again, too": ((VIT,), ("drop_path=0.5", "checkpoint=true")),
    "copies that hide patches": ((MAE,), ("copies=2", "mask=0.5")),
    "one frozen": ((VIT, RESNET), (f"freeze={RESNET}",)),
    "low rank": ((VIT,), ("lora.rank=2", "drop_path=0.5")),
    "last blocks": ((VIT,), ("unfreeze=1", "drop_path=0.5")),
    "batch normalisation by its weights": ((RESNET,), ()),
    "batch normalisation by the batch": ((SWIN,), ("batchnorm=train", "views=,hflip")),
}
CHUNK = "chunk=4"


@pytest.fixture(autouse=True)
def small_swin(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("WIDTH", 6), ("DEPTHS", (1, 1, 2, 1)), ("HEADS", (1, 1, 2, 2)), ("EMBEDDING", 16)):
        monkeypatch.setattr(swin_face, name, value)


def network(name: str) -> nn.Module:
    if name == MAE:
        return MaeEncoder(Size(patch=32, width=16, depth=3, heads=2))
    built = build_network([get_spec(name)], untrained=True).network
    for module in built.modules():
        if isinstance(module, nn.Dropout):  # of attention, whose draws would differ
            module.p = 0.0
    return built


def model(names: tuple[str, ...], *settings: str) -> PixelModel:
    values: dict[str, Any] = {"pixels": True, "task": "expr", "features": names, "window": 4, "head": {"name": "mlp"}}
    config = make_config({**values, "drop_path": 0.0, "augment": "none"}, settings)
    assert isinstance(config, FinetuneConfig)
    torch.manual_seed(1)
    networks = [network(name) for name in names for _ in range(config.copies)]
    widths = {VIT: 64, RESNET: 96, MAE: 16, SWIN: 16}
    made = PixelModel(config, config.own_task, {name: (widths[name],) for name in names}, networks,
                      [Outputs({name: get_spec(name)}) for name in names])  # fmt: skip
    made.freeze_unused()
    return made.train()


def batch() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Two windows of four frames, of two sizes; one frame is missing."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(64, (2, 4, 40, 40, 3), dtype=torch.uint8, generator=generator)
    images += torch.randint(192, (2, 4, 1, 1, 3), dtype=torch.uint8, generator=generator)
    sizes = torch.full((2, 4, 2), 40)
    sizes[1, :2] = 36
    shown = torch.ones(2, 4).bool()
    shown[1, 1] = False
    return {IMAGES: images, SIZES: sizes}, {IMAGES: shown, SIZES: shown}


def step(made: PixelModel) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
    """A loss that is no mean over frames, its gradients, and the running statistics after it."""
    torch.manual_seed(2)
    outputs = made(*batch())
    loss = outputs.flatten(0, -2).softmax(dim=-1).std(dim=0).sum() + outputs[..., 0].sum().square()
    loss.backward()
    gradients = {name: one.grad for name, one in made.named_parameters() if one.grad is not None}
    return loss.detach(), gradients, dict(made.named_buffers())


def relative_error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm().clamp(min=1e-12))


@pytest.mark.parametrize("variant", VARIANTS)
def test_chunks_give_the_whole_gradient(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths to drop are drawn for each chunk; the whole gradient of the same draws is that of chunks that keep all."""
    names, settings = VARIANTS[variant]
    draws = any("drop_path" in setting for setting in settings)
    whole = model(names, *settings, CHUNK if draws else "chunk=0")
    with monkeypatch.context() as patched:
        patched.setattr(pixel_model, "checkpoint", lambda encode, *inputs, use_reentrant: encode(*inputs))
        expected_loss, expected, expected_buffers = step(whole)
    loss, gradients, buffers = step(model(names, *settings, CHUNK))
    torch.testing.assert_close(loss, expected_loss, rtol=TOLERANCE, atol=0)
    assert gradients.keys() == expected.keys() and any(name.startswith("encoders.0") for name in gradients)
    largest = max(float(one.norm()) for one in expected.values())
    for name, gradient in expected.items():
        error = float((gradients[name] - gradient).norm())
        assert error < TOLERANCE * max(float(gradient.norm()), 1e-2 * largest), name
    for name, value in expected_buffers.items():
        torch.testing.assert_close(buffers[name], value, rtol=TOLERANCE, atol=TOLERANCE)


def test_statistics_of_a_batch_need_normalisation_behind_the_pooling() -> None:
    with pytest.raises(UsageError, match=r"cannot see in chunks\. Use batchnorm=eval"):
        model((RESNET,), "batchnorm=train", CHUNK)


def test_blocks_that_are_computed_again_move_their_statistics_once() -> None:
    plain, again = (
        step(model((RESNET,), "batchnorm=train", setting)) for setting in ("batch_size=2", "checkpoint=true")
    )
    torch.testing.assert_close(again[0], plain[0], rtol=TOLERANCE, atol=0)
    for one, other in zip(again[1:], plain[1:], strict=True):
        for name, value in other.items():
            torch.testing.assert_close(one[name], value, rtol=1e-4, atol=1e-6)
