"""Networks made for faces against independent ones: recorded outputs, other libraries, and plain functions."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor
from transformers import EfficientNetConfig, EfficientNetModel

from abaw.backbones.backbone import create_backbone
from abaw.backbones.extractor import Backbone
from abaw.backbones.registry import get_spec
from abaw.backbones.weights import identify
from abaw.core.errors import CheckpointError
from abaw.tests.data.reference import seeded
from abaw.tests.support.paths import DATA

RELATIVE_ERROR = 1e-4
State = dict[str, Tensor]


def relative_error(found: object, wanted: Tensor) -> float:
    assert isinstance(found, Tensor) and found.shape == wanted.shape
    return float((found - wanted).norm() / wanted.norm())


def seeded_state(layout: dict[str, list[int]]) -> State:
    return {key: torch.from_numpy(array) for key, array in seeded.seeded_state_dict(layout).items()}


def seeded_input(*shape: int) -> Tensor:
    return torch.from_numpy(seeded.seeded_input(shape))


def layout_of(name: str) -> dict[str, list[int]]:
    """Keys and shapes of a network, but for the counters of batches, which have no values."""
    network = create_backbone(name, untrained=True, device="meta")._network
    state = getattr(network, "model", network).state_dict()
    return {key: list(value.shape) for key, value in state.items()}


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Backbone]:
    """Makes backbones from a state dict, `load(state, "name", ...)`."""

    def make(state: State, *names: str) -> Backbone:
        save_file({key: value.contiguous() for key, value in state.items()}, tmp_path / "weights.safetensors")
        backbone = create_backbone(names, tmp_path / "weights.safetensors")
        (tmp_path / "weights.safetensors").unlink()
        return backbone

    return make


# IResNet


def iresnet_layout(depth: int) -> dict[str, list[int]]:
    """From the recorded layout of IResNet-50, whose second block of a stage is as all that follow."""
    blocks = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 14, 3), 100: (3, 13, 30, 3), 200: (6, 26, 60, 6)}[depth]
    recorded = json.loads((DATA / "reference" / "iresnet50.json").read_text())["layout"]
    layout = {key: shape for key, shape in recorded.items() if not key.startswith("layer")}
    for stage, n_blocks in enumerate(blocks, start=1):
        for block in range(n_blocks):
            like = f"layer{stage}.{min(block, 1)}."
            layout |= {
                f"layer{stage}.{block}.{key.removeprefix(like)}": shape
                for key, shape in recorded.items()
                if key.startswith(like)
            }
    return layout


@pytest.mark.parametrize("depth", [18, 34, 50, 100, 200])
def test_iresnet_layout(depth):
    assert layout_of(f"iresnet{depth}") == iresnet_layout(depth)
    if depth == 100:
        assert iresnet_layout(100) == json.loads((DATA / "reference" / "iresnet100.json").read_text())["layout"]


def norm(state: State, key: str, maps: Tensor, epsilon: float = 1e-5) -> Tensor:
    mean, var, weight, bias = (state[f"{key}.{name}"] for name in ("running_mean", "running_var", "weight", "bias"))
    return F.batch_norm(maps, mean, var, weight, bias, eps=epsilon)


def plain_iresnet(state: State, images: Tensor) -> Tensor:
    """Embeddings, block by block as long as the state dict has one."""
    hidden = F.prelu(norm(state, "bn1", F.conv2d(images, state["conv1.weight"], padding=1)), state["prelu.weight"])
    for stage in (1, 2, 3, 4):
        block = 0
        while f"layer{stage}.{block}.conv1.weight" in state:
            at = f"layer{stage}.{block}"
            stride = 2 if block == 0 else 1
            inside = F.conv2d(norm(state, f"{at}.bn1", hidden), state[f"{at}.conv1.weight"], padding=1)
            inside = F.prelu(norm(state, f"{at}.bn2", inside), state[f"{at}.prelu.weight"])
            inside = F.conv2d(inside, state[f"{at}.conv2.weight"], padding=1, stride=stride)
            if block == 0:
                hidden = F.conv2d(hidden, state[f"{at}.downsample.0.weight"], stride=2)
                hidden = norm(state, f"{at}.downsample.1", hidden)
            hidden = norm(state, f"{at}.bn3", inside) + hidden
            block += 1
    flat = norm(state, "bn2", hidden).reshape(len(images), -1)
    return norm(state, "features", flat @ state["fc.weight"].T + state["fc.bias"])


@pytest.mark.parametrize("depth", [18, 34])
def test_iresnet_agrees_with_plain_functions(depth, load):
    state = seeded_state(iresnet_layout(depth))
    images = seeded_input(2, 3, 112, 112)
    backbone = load(state, f"iresnet{depth}")
    assert backbone.notes == ()
    assert relative_error(backbone(images), plain_iresnet(state, images)) < RELATIVE_ERROR


# V-NAW and VGGFace2


def test_input_of_vggface_is_bgr_less_its_mean():
    backbone = create_backbone("resnet50-vggface-caffe", untrained=True)
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3), dtype=np.uint8))
    wanted = pixels.flip(3).permute(0, 3, 1, 2) - torch.tensor([91.4953, 103.8827, 131.0912]).reshape(1, 3, 1, 1)
    torch.testing.assert_close(backbone.preprocess(pixels).flip(1), wanted, rtol=0, atol=1e-3)
    seen: list[Tensor] = []
    backbone._network.conv1.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    backbone(backbone.preprocess(pixels))
    torch.testing.assert_close(seen[0], wanted, rtol=0, atol=1e-3)


# EmotiEffNet

# transformers has written EfficientNet after Google's TensorFlow, as timm its tf_ models
EFFICIENTNETS = {
    "emotieffnet-b0": EfficientNetConfig(
        image_size=224, width_coefficient=1.0, depth_coefficient=1.0, hidden_dim=1280, depthwise_padding=[]
    ),
    "emotieffnet-b2": EfficientNetConfig(
        image_size=260, width_coefficient=1.1, depth_coefficient=1.2, hidden_dim=1408, depthwise_padding=[5, 8, 16]
    ),
}
IN_BLOCK = {
    "first": (  # of the first stage, whose blocks do not widen
        ("depthwise_conv.depthwise_conv", "conv_dw"),
        ("depthwise_conv.depthwise_norm", "bn1"),
        ("projection.project_conv", "conv_pw"),
        ("projection.project_bn", "bn2"),
    ),
    "other": (
        ("expansion.expand_conv", "conv_pw"),
        ("expansion.expand_bn", "bn1"),
        ("depthwise_conv.depthwise_conv", "conv_dw"),
        ("depthwise_conv.depthwise_norm", "bn2"),
        ("projection.project_conv", "conv_pwl"),
        ("projection.project_bn", "bn3"),
    ),
    "both": (("squeeze_excite.reduce", "se.conv_reduce"), ("squeeze_excite.expand", "se.conv_expand")),
}
OUTSIDE = {
    "embeddings.convolution": "conv_stem",
    "embeddings.batchnorm": "bn1",
    "encoder.top_conv": "conv_head",
    "encoder.top_bn": "bn2",
}


def to_transformers(state: State) -> State:
    """A state dict of timm's EfficientNet under the names of transformers."""
    names = dict(OUTSIDE)
    blocks = list(dict.fromkeys(".".join(key.split(".")[:3]) for key in state if key.startswith("blocks.")))
    for number, block in enumerate(blocks):
        kind = "first" if block.startswith("blocks.0.") else "other"
        for theirs, ours in (*IN_BLOCK[kind], *IN_BLOCK["both"]):
            names[f"encoder.blocks.{number}.{theirs}"] = f"{block}.{ours}"
    return {
        f"{theirs}.{key.removeprefix(ours + '.')}": value
        for theirs, ours in names.items()
        for key, value in state.items()
        if key.startswith(f"{ours}.")
    }


@pytest.mark.parametrize("name", list(EFFICIENTNETS))
def test_emotieffnet_agrees_with_transformers(name, load):
    state = seeded_state(layout_of(name))
    model = EfficientNetModel(EFFICIENTNETS[name]).eval()
    model.load_state_dict(to_transformers(state))
    size = model.config.image_size
    images = seeded_input(2, 3, size, size)
    with torch.inference_mode():
        pooled = model(images).pooler_output
    n_outputs, width = state["classifier.weight"].shape
    scores = pooled @ state["classifier.weight"].T + state["classifier.bias"]

    backbone = load(state, name, f"{name}-logits")
    outputs = backbone(images)
    assert backbone.notes == () and isinstance(outputs, dict)
    spec = get_spec(name)
    assert spec.image is not None
    assert (spec.image.size, spec.shape, spec.image.interpolation) == (size, (width,), "bilinear")
    assert relative_error(outputs[name], pooled) < RELATIVE_ERROR
    assert relative_error(outputs[f"{name}-logits"], scores[:, :8]) < RELATIVE_ERROR
    if n_outputs == 10:
        found = load(state, f"{name}-va")(images)
        assert relative_error(found, scores[:, 8:]) < RELATIVE_ERROR


SEVEN = ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")
EIGHT = ("anger", "contempt", *SEVEN[1:])


@pytest.mark.parametrize(
    ("name", "layer", "n_outputs", "classes"),
    [
        ("emotieffnet-b0", "classifier.0", 10, EIGHT),
        ("emotieffnet-b0", "classifier.0", 8, EIGHT),
        ("emotieffnet-b0", "classifier", 7, SEVEN),
        ("emotieffnet-b0", "classifier", 5, ()),
        ("emotieffnet-b2", "classifier.0", 7, SEVEN),
        ("emotiddamfn", "fc", 8, ()),
    ],
)
def test_classes_follow_from_the_file(name, layer, n_outputs, classes, load, tmp_path):
    layout = {key: shape for key, shape in layout_of(name).items() if key.split(".")[0] != layer.split(".")[0]}
    width = get_spec(name).shape[0]
    state = seeded_state(layout | {f"{layer}.weight": [n_outputs, width], f"{layer}.bias": [n_outputs]})
    backbone = load(state, f"{name}-logits", name)
    logits = backbone.specs[0]
    assert (logits.classes, logits.shape) == (classes, (8 if n_outputs == 10 else n_outputs,))
    usual = 8 if name.endswith("b2") else 10
    assert len(backbone.notes) == (n_outputs != usual)
    assert n_outputs == usual or f"has {n_outputs} outputs instead of {usual}" in backbone.notes[0]
    image = logits.image
    assert image is not None
    outputs = backbone(seeded_input(1, 3, image.size, image.size))
    assert isinstance(outputs, dict)
    wanted = outputs[name] @ state[f"{layer}.weight"].T + state[f"{layer}.bias"]
    torch.testing.assert_close(outputs[f"{name}-logits"], wanted[:, : logits.shape[0]])
    same = create_backbone(f"{name}-logits", untrained=True).spec
    assert (same.options == logits.options) == (n_outputs == usual), "a record of its own for each form"
    if n_outputs != 10 and not name.endswith("b2"):
        with pytest.raises(CheckpointError, match=f"scores of {n_outputs} classes, but neither valence nor arousal"):
            load(state, name, f"{name}-va")


# MT-EmotiDDAMFN


def ddamfn_layout() -> dict[str, list[int]]:
    """As the authors' program prints their network: width in, inside and out, and the channels of each kernel."""
    layout: dict[str, list[int]] = {}

    def normed(at: str, shape: list[int], prelu: bool = False) -> None:
        layout[f"{at}.conv.weight"] = shape
        norm_layout(f"{at}.bn", shape[0])
        if prelu:
            layout[f"{at}.prelu.weight"] = shape[:1]

    def norm_layout(at: str, width: int) -> None:
        layout.update({f"{at}.{key}": [width] for key in ("weight", "bias", "running_mean", "running_var")})
        layout[f"{at}.num_batches_tracked"] = []

    def attention(at: str, width: int, squeezed: int) -> None:
        for name, shape in (("1", [squeezed, width]), ("2", [width, squeezed]), ("3", [width, squeezed])):
            layout.update({f"{at}.conv{name}.weight": [*shape, 1, 1], f"{at}.conv{name}.bias": shape[:1]})
        norm_layout(f"{at}.bn1", squeezed)

    def block(at: str, width_in: int, inside: int, width: int, channels: list[int]) -> None:
        normed(f"{at}.conv", [inside, width_in, 1, 1], prelu=True)
        for number, part in enumerate(channels):
            kernel = 3 + 2 * number
            layout[f"{at}.conv_dw.mixed_depthwise_conv.{number}.weight"] = [part, 1, kernel, kernel]
        norm_layout(f"{at}.conv_dw.bn", inside)
        layout[f"{at}.conv_dw.prelu.weight"] = [inside]
        attention(f"{at}.CA", inside, max(8, inside // 32))
        normed(f"{at}.project", [width, inside, 1, 1])

    normed("features.0", [64, 3, 3, 3], prelu=True)
    normed("features.1", [64, 1, 3, 3], prelu=True)
    block("features.2", 64, 128, 64, [64, 32, 32])
    for number in range(9):
        block(f"features.3.model.{number}", 64, 128, 64, [96, 32])
    block("features.4", 64, 256, 128, [128, 64, 64])
    for number in range(16):
        block(f"features.5.model.{number}", 128, 256, 128, [192, 64])
    block("features.6", 128, 1024, 256, [256, 256, 256, 256])
    for number in range(6):
        block(f"features.7.model.{number}", 256, 512, 256, [172, 170, 170])
    normed("features.8", [512, 256, 1, 1], prelu=True)
    for head in ("cat_head0.CoordAtt", "cat_head1.CoordAtt"):
        normed(f"{head}.Linear_h", [512, 1, 1, 7])
        normed(f"{head}.Linear_w", [512, 1, 7, 1])
        attention(head, 512, 16)
        normed(f"{head}.Linear", [512, 1, 7, 7])
    normed("Linear", [512, 1, 7, 7])
    return layout | {"fc.weight": [10, 512], "fc.bias": [10]}


class Plain:
    """DDAMFN++ in plain functions, with note of the keys that it took."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.taken: set[str] = set()

    def __getitem__(self, key: str) -> Tensor:
        self.taken.add(key)
        return self.state[key]

    def conv(self, key: str, maps: Tensor, stride: int = 1, padding: int = 0, groups: int = 1) -> Tensor:
        bias = self[f"{key}.bias"] if f"{key}.bias" in self.state else None
        return F.conv2d(maps, self[f"{key}.weight"], bias, stride, padding, groups=groups)

    def norm(self, key: str, maps: Tensor) -> Tensor:
        self.taken |= {name for name in self.state if name.startswith(f"{key}.")}
        return norm(self.state, key, maps)

    def block(self, at: str, maps: Tensor, sizes: tuple[int, ...], stride: int) -> Tensor:
        hidden = self.norm(f"{at}.conv.bn", self.conv(f"{at}.conv.conv", maps))
        hidden = F.prelu(hidden, self[f"{at}.conv.prelu.weight"])
        parts, start = [], 0
        for number, size in enumerate(sizes):
            key = f"{at}.conv_dw.mixed_depthwise_conv.{number}"
            stop = start + len(self[f"{key}.weight"])
            parts.append(self.conv(key, hidden[:, start:stop], stride, size // 2, groups=stop - start))
            start = stop
        hidden = torch.cat(parts, dim=1)
        hidden = hidden * self.attention(f"{at}.CA", hidden.mean(3, keepdim=True), hidden.mean(2, keepdim=True))
        hidden = self.norm(f"{at}.project.bn", self.conv(f"{at}.project.conv", hidden))
        return maps + hidden if stride == 1 else hidden

    def attention(self, at: str, rows: Tensor, columns: Tensor) -> Tensor:
        """One half after the other: a 1x1 convolution and a norm do not look at neighbours."""
        halves = []
        for half, key in ((rows, "conv2"), (columns, "conv3")):
            hidden = self.norm(f"{at}.bn1", self.conv(f"{at}.conv1", half))
            halves.append(torch.sigmoid(self.conv(f"{at}.{key}", hidden * (hidden + 3).clamp(0, 6) / 6)))
        return halves[0] * halves[1]

    def stem(self, at: str, maps: Tensor, **options: int) -> Tensor:
        return F.prelu(self.norm(f"{at}.bn", self.conv(f"{at}.conv", maps, **options)), self[f"{at}.prelu.weight"])

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.stem("features.0", images, stride=2, padding=1)
        maps = self.stem("features.1", maps, padding=1, groups=64)
        maps = self.block("features.2", maps, (3, 5, 7), 2)
        for number in range(9):
            maps = self.block(f"features.3.model.{number}", maps, (3, 5), 1)
        maps = self.block("features.4", maps, (3, 5, 7), 2)
        for number in range(16):
            maps = self.block(f"features.5.model.{number}", maps, (3, 5), 1)
        maps = self.block("features.6", maps, (3, 5, 7, 9), 2)
        for number in range(6):
            maps = self.block(f"features.7.model.{number}", maps, (3, 5, 7), 1)
        maps = self.stem("features.8", maps)
        heads = []
        for head in ("cat_head0.CoordAtt", "cat_head1.CoordAtt"):
            rows, columns = (
                self.norm(f"{head}.{name}.bn", self.conv(f"{head}.{name}.conv", maps, groups=512))
                for name in ("Linear_h", "Linear_w")
            )
            assert rows.shape[2:] == (7, 1) and columns.shape[2:] == (1, 7)
            heads.append(self.attention(head, rows, columns))
        weighed = maps * torch.stack(heads).amax(0)
        embedding = self.norm("Linear.bn", self.conv("Linear.conv", weighed, groups=512)).flatten(1)
        return embedding, F.linear(embedding, self["fc.weight"], self["fc.bias"])


def test_emotiddamfn_agrees_with_plain_functions(load):
    names = ("emotiddamfn", "emotiddamfn-logits", "emotiddamfn-va")
    assert layout_of("emotiddamfn") == ddamfn_layout()
    state = seeded_state(ddamfn_layout())
    plain, images = Plain(state), seeded_input(2, 3, 112, 112)
    embedding, scores = plain(images)
    unused = {key for key in state.keys() - plain.taken if not key.endswith("num_batches_tracked")}
    # what the authors made, saved and never applied
    assert all(".conv_dw.bn." in key or ".conv_dw.prelu." in key or ".CoordAtt.Linear." in key for key in unused)

    backbone = load(state | {"bn.weight": torch.ones(10), "bn.running_mean": torch.zeros(10)}, *names)
    outputs = backbone(images)
    assert isinstance(outputs, dict)
    for name, wanted in zip(names, (embedding, scores[:, :8], scores[:, 8:]), strict=True):
        assert relative_error(outputs[name], wanted) < RELATIVE_ERROR


@pytest.mark.parametrize(
    ("name", "n_outputs", "others"),
    [
        ("swin-face", 0, ["mean"]),
        ("emotieffnet-b0", 10, ["logits", "va"]),
        ("emotieffnet-b0", 8, ["logits"]),
        ("emotiddamfn", 10, ["logits", "va"]),
    ],
)
def test_a_file_tells_its_backbones(name, n_outputs, others, tmp_path):
    state = {key: torch.zeros(shape) for key, shape in layout_of(name).items()}
    if n_outputs == 8:
        state = {key: value[:8] if key.startswith("classifier.") else value for key, value in state.items()}
    save_file({key: value.contiguous() for key, value in state.items()}, tmp_path / "weights.safetensors")
    assert identify(tmp_path / "weights.safetensors") == [name, *(f"{name}-{other}" for other in others)]
