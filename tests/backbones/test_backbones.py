"""Backbones: agreement with recorded outputs of the originals, one contract for all of them, and masked views."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import save_file

from abaw.backbones.backbone import create_backbone
from abaw.backbones.registry import get_spec, list_families, list_specs
from abaw.core.errors import CheckpointError, UsageError
from abaw.tests.data.reference import seeded
from abaw.tests.support.paths import CHECKOUT, DATA

RELATIVE_ERROR = 1e-4
SMALL = 30_000_000  # parameters; larger networks are only made on the meta device by the contract test
# recorded file -> recorded output -> backbone
REFERENCES = {
    "iresnet50": {"embedding": "iresnet50"},
    "iresnet100": {"embedding": "iresnet100"},
    "dan": {"logits": "dan", "head_sum": "dan-head", "pooled_feature_map": "dan-map"},
    "mae_vit_base": {"cls": "mae-cls", "mean": "mae-mean"},
    "mae_vit_base_global_pool": {"global_pool": "mae-mean"},
    "emma": {"output": "emma"},
}
QUICK = ("iresnet50", "dan", "mae_vit_base")
VISION = [family for family in list_families() if family.specs and family.specs[0].modality == "vision"]


def read_faces() -> torch.Tensor:
    files = sorted((DATA / "faces").glob("*_112.jpg"))
    return torch.from_numpy(np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files]))


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(a.float(), b.float(), dim=1).min())


@pytest.mark.parametrize(
    "reference", [name if name in QUICK else pytest.param(name, marks=pytest.mark.full) for name in REFERENCES]
)
def test_agrees_with_the_original(reference, tmp_path):
    recorded = json.loads((DATA / "reference" / f"{reference}.json").read_text())
    file = tmp_path / "weights.safetensors"
    save_file(seeded.seeded_state_dict(recorded["layout"]), file)
    names = REFERENCES[reference]

    backbone = create_backbone(list(names.values()), file)
    file.unlink()  # hundreds of megabytes
    outputs = backbone(torch.from_numpy(seeded.seeded_input(tuple(recorded["input_shape"]))))

    assert backbone.notes == (), "the layout fits as it is"
    outputs = outputs if isinstance(outputs, dict) else {backbone.spec.name: outputs}
    with np.load(DATA / "reference" / f"{reference}.npz") as wanted:
        assert set(wanted) == set(names)
        for output, name in names.items():
            found = outputs[name].numpy()
            assert found.shape == wanted[output].shape == (2, *get_spec(name).shape)
            error = np.linalg.norm(found - wanted[output]) / np.linalg.norm(wanted[output])
            assert error < RELATIVE_ERROR, f"{name}: {error:.2g}"


@pytest.mark.parametrize("family", VISION, ids=lambda family: family.name)
def test_contract(family):
    specs = family.specs
    with torch.device("meta"):
        backbone = create_backbone([spec.name for spec in specs], untrained=specs[0].weights != "none", device="meta")
    assert specs[0].image is not None
    size = specs[0].image.size
    features = backbone(torch.empty(3, 3, size, size, device="meta"))

    features = features if isinstance(features, dict) else {specs[0].name: features}
    assert list(features) == [spec.name for spec in specs]
    for spec in specs:
        assert features[spec.name].shape == (3, *spec.shape)
        assert features[spec.name].dtype == torch.float32
        assert spec.image == specs[0].image, "one pass has one input"
        assert not spec.classes or spec.shape == (len(spec.classes),)
        assert spec.name == spec.family or spec.name.startswith(f"{spec.family}-")
        assert spec.weights in ("none", "shipped", "timm", "file")
        assert spec.licence or spec.weights == "none"
    n_parameters = sum(parameter.numel() for parameter in backbone._network.parameters())
    assert n_parameters == specs[0].parameters
    assert all(spec.parameters == n_parameters for spec in specs)


@pytest.mark.parametrize(
    "names",
    [[spec.name for spec in family.specs] for family in VISION if family.specs[0].parameters < SMALL],
    ids=str,
)
def test_one_pass_gives_what_each_output_gives(names):
    faces = read_faces()
    untrained = get_spec(names[0]).weights != "none"
    together = create_backbone(names, untrained=untrained)
    features = together(together.preprocess(faces))
    features = features if isinstance(features, dict) else {names[0]: features}
    for name in names:
        alone = create_backbone(name, untrained=untrained)
        feature = alone(alone.preprocess(faces))
        assert isinstance(feature, torch.Tensor)
        assert torch.equal(feature, features[name]), "random weights are the same each time"
        assert feature.dtype == torch.float32 and bool(feature.isfinite().all())


@pytest.mark.parametrize("name", ["dan-head", "iresnet50", "swin-t", "vit-tiny-mean"])
def test_bfloat16_stays_close_to_float32(name):
    exact, rounded = (create_backbone(name, untrained=True, precision=kind) for kind in ("float32", "bfloat16"))
    faces = read_faces()
    wanted, found = exact(exact.preprocess(faces)), rounded(rounded.preprocess(faces))
    assert isinstance(wanted, torch.Tensor) and isinstance(found, torch.Tensor)
    assert found.dtype == torch.bfloat16
    assert cosine(wanted, found) > 0.999


def test_fingerprint_tells_weights_views_and_outputs_apart():
    mean, cls = get_spec("mae-mean"), get_spec("mae-cls")
    prints = {
        mean.fingerprint("a"),
        mean.fingerprint("b"),
        mean.fingerprint(None),
        mean.fingerprint("a", "hflip"),
        mean.fingerprint("a", "mask0.75.0"),
        mean.fingerprint("a", "mask0.75.1"),
        cls.fingerprint("a"),
    }
    assert len(prints) == 7
    assert mean.fingerprint("a") == get_spec("mae-mean").fingerprint("a")


def test_names_are_unique_and_specs_load_no_torch():
    names = [spec.name for spec in list_specs()]
    assert len(names) == len(set(names))
    wanted = {"mae-mean", "mae-l-cls", "mae-h-mean", "dan", "dan-head", "dan-map", "iresnet50", "iresnet100"}
    assert wanted | {"resnet50", "swin-t", "clip-l14", "emma", "emma-vit", "vit-mean", "vit-tiny-cls", "hog"} <= set(
        names
    )
    code = (
        "import sys; from abaw.backbones.registry import list_specs; from abaw.backbones.vision.views import parse_view;"
        "list_specs(); print('torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=python_path())
    assert result.stdout.strip() == "False"


def python_path() -> dict[str, str]:
    return {"PYTHONPATH": str(CHECKOUT / ".dev")}


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"names": "mae-meen"}, UsageError, "Did you mean mae-mean"),
        ({"names": ("dan", "mae-cls")}, UsageError, "not outputs of one network"),
        ({"names": ("mae-cls", "mae-mean-bilinear")}, UsageError, "not outputs of one network"),  # another input
        ({"names": "dan", "weights": "dan.pth", "untrained": True}, UsageError, "Choose one"),
        ({"names": "hog", "weights": "hog.pth"}, UsageError, "has no weights"),
        ({"names": "dan"}, CheckpointError, "--backbone dan:FILE"),
        ({"names": "dan", "weights": "nowhere.pth"}, CheckpointError, "No weights file nowhere.pth"),
    ],
)
def test_wrong_use_says_what_to_do(arguments, error, words, monkeypatch):
    monkeypatch.delenv("ABAW_WEIGHTS", raising=False)
    with pytest.raises(error, match=words):
        create_backbone(**arguments)
