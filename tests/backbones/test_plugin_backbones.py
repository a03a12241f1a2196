"""Backbones of other distributions: listed, extracted with, and known to the workers of a cluster."""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from abaw.backbones import registry
from abaw.backbones.backbone import create_backbone
from abaw.backbones.backbone_names import parse_backbone
from abaw.backbones.checkpoint_fit import find_matches
from abaw.backbones.registry import Family, find_backbone, get_spec, register
from abaw.backbones.spec import BackboneSpec
from abaw.core import plugins
from abaw.core.errors import UsageError
from abaw.store import FeatureStore
from abaw.tests.support.plugins import run_commands, write_distribution
from abaw.tests.support.processes import Ended, assert_equal_stores

GROUP = "abaw.backbones"
# `tint` gives the mean colour and, by the name `tint-times-3`, a multiple of it.
TINT = """
from dataclasses import replace
from abaw.backbones.registry import Family
from abaw.backbones.spec import BackboneSpec, ImageInput

def build(specs, file):
    import torch

    class Tint(torch.nn.Module):
        def forward(self, images):
            return {"mean": images.mean((2, 3)) * specs[0].option("times", 1)}

    return Tint()

INPUT = ImageInput(112, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
TINT = BackboneSpec("tint", "tint", "mean", "vision", (3,), "mean colour", "none", INPUT)

def resolve(name):
    start, _, number = name.rpartition("-")
    return replace(TINT, name=name).with_options(times=int(number)) if start == "tint-times" else None

def build_misnamed(specs, file):
    import torch

    class Misnamed(torch.nn.Module):
        def forward(self, images):
            return {"meen": images.mean((2, 3))}

    return Misnamed()

MISNAMED = replace(TINT, name="misnamed", family="misnamed")
FAMILIES = (Family("tint", (TINT,), build, resolve=resolve), Family("misnamed", (MISNAMED,), build_misnamed))
HOG = BackboneSpec("hog", "grey-hog", "hog", "vision", (1764,), "another HOG", "none", INPUT)
TAKEN = Family("grey-hog", (HOG,), build)
BROKEN = Family("unlisted", (TINT,), build)
NO_FAMILY = "tint"
"""
# one of its own weights, which are drawn when it is made
OWN_CLASS = """
import torch

class Own(torch.nn.Module):
    shape = (2,)

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 2)

    def forward(self, images):
        return self.layer(images.mean((2, 3)))

class Misshapen(Own):
    shape = (5,)

class Shapeless(torch.nn.Module):
    pass

class Demanding(Own):
    def __init__(self, width):
        super().__init__()
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with the distribution `abaw-tint 1.2`, which has a plug-in that works and four that do not."""
    listed = {name.lower(): f"tint:{name}" for name in ("FAMILIES", "TAKEN", "BROKEN", "NO_FAMILY", "GONE")}
    modules = {"tint": TINT, "own_class": OWN_CLASS}
    write_distribution(tmp_path / "site", "abaw-tint", "1.2", {GROUP: listed}, modules)
    return tmp_path / "site"


@pytest.fixture
def run(site: Path, process_env: dict[str, str], tmp_path: Path) -> Callable[..., Ended]:
    """Runs `abaw ARGS` in a process that has the distribution."""
    environment = {**process_env, "PYTHONPATH": os.pathsep.join((process_env["PYTHONPATH"], str(site)))}
    return lambda *args: run_commands([args], environment, tmp_path / "work")


@pytest.fixture
def in_process(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets this process load its plug-ins afresh, with the distribution."""
    monkeypatch.syspath_prepend(site)
    monkeypatch.delitem(sys.modules, "own_class", raising=False)
    monkeypatch.setattr(plugins, "_loaded", {})
    monkeypatch.setattr(registry, "_loaded", set())
    monkeypatch.setattr(registry, "_FAMILIES", {})


def test_the_list_shows_a_plugin_with_its_source_and_warns_once_of_each_broken_one(run):
    result = run("list", "backbones")
    assert result.code == 0, result.output
    lines = [line for line in result.output.splitlines() if "left out" not in line]
    assert [line for line in lines if line.startswith("tint ")]
    sources = [line for line in lines if ": from " in line]
    assert sources == ["tint: from abaw-tint 1.2.", "misnamed: from abaw-tint 1.2."], "not of abaw's own families"
    assert not [line for line in lines if "grey-hog" in line or "another HOG" in line]
    warnings = [line for line in result.output.splitlines() if "left out" in line]
    assert len(warnings) == 4 and all(f"({GROUP}) of abaw-tint 1.2 is left out" in line for line in warnings)
    reasons = {line.split()[1]: line for line in warnings}
    assert "'hog' of family 'grey-hog' is taken by family 'hog' of abaw" in reasons["taken"]
    assert "Family 'unlisted' has specs of tint" in reasons["broken"]
    assert "holds a str, not a Family" in reasons["no_family"]
    assert "no attribute 'GONE'" in reasons["gone"]


def test_a_plugin_is_extracted_with_in_one_process_and_by_workers(in_process, run, run_cli, make_data, tmp_path):
    root = make_data({"a": 5, "b": [2, 7]})
    names = ("tint", "tint-times-3", "own=own_class:Own")
    options = ("extract", "--data", root, "--device", "cpu", *(word for name in names for word in ("--backbone", name)))
    alone = run_cli(*options, "--store", tmp_path / "alone.zarr")
    assert alone.exit_code == 0, alone.output

    store = FeatureStore.open(tmp_path / "alone.zarr")
    frame = store.read("tint", "b")
    assert frame.present.tolist() == [False, True, False, False, False, False, True]
    for number in (2, 7):
        picture = np.asarray(Image.open(root / "cropped_aligned" / "b" / f"{number:05}.jpg"))
        colour = picture.mean((0, 1)) / 255
        np.testing.assert_allclose(frame.values[number - 1], colour, atol=2e-3)
        np.testing.assert_allclose(store.read("tint-times-3", "b").values[number - 1], 3 * colour, atol=6e-3)
    attributes = json.loads((tmp_path / "alone.zarr" / "features" / "tint" / "zarr.json").read_text())["attributes"]
    assert attributes["spec"]["source"] == "abaw-tint 1.2" and "source" not in attributes["record"]
    assert store.read("own", "b").values.shape == (7, 2)

    file = tmp_path / "cluster.toml"
    file.write_text('[cluster]\nkind = "local"\nworkers = 1\n')
    cluster = run(*options, "--store", tmp_path / "cluster.zarr", "--cluster", file)
    assert cluster.code == 0, cluster.output
    assert_equal_stores(tmp_path / "cluster.zarr", tmp_path / "alone.zarr")


def halved(initialise):
    def initialise_halved(network):
        initialise(network)
        network.layer.weight.data /= 2

    return initialise_halved


def test_a_class_is_another_backbone_once_its_code_or_weights_change(in_process, site, monkeypatch):
    """The fingerprints of the same class, of edited code, and of weights that were drawn otherwise."""
    (spec, family), (again, _) = find_backbone("own_class:Own"), find_backbone("own_class:Own")
    assert (spec, family.source) == (again, "module own_class") and spec.shape == (2,)
    first = create_backbone("own_class:Own")
    assert first.fingerprint(first.spec) == create_backbone("own_class:Own").fingerprint(first.spec)
    (site / "own_class.py").write_text(OWN_CLASS + "# edited")
    edited = create_backbone("own_class:Own")
    assert edited.fingerprint(edited.spec) != first.fingerprint(first.spec)
    assert edited.weights_sha256 == first.weights_sha256
    own = sys.modules["own_class"].Own
    monkeypatch.setattr(own, "__init__", halved(own.__init__))
    other = create_backbone("own_class:Own")
    assert other.weights_sha256 != first.weights_sha256


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "own_class:Gone",
            "own_class:Gone cannot be loaded (AttributeError: module 'own_class' has no attribute 'Gone')",
        ),
        ("no_module:Own", "no_module:Own cannot be loaded (ModuleNotFoundError: No module named 'no_module')"),
        ("own_class:Shapeless", "Give it the shape of the feature of a frame, such as `shape = (512,)`."),
        ("own_class:Demanding", "own_class:Demanding cannot be made by Demanding() (TypeError: "),
        ("misnamed", "misnamed needs a tensor called 'mean' in the dict that forward gives, and it gave meen."),
        ("own_class:Misshapen", "says that the shape of a frame is (5,), and 1 frames gave (1, 2)."),
        ("own_class:Own:w.pth", "own_class:Own:w.pth: a class loads its own weights."),
    ],
)
def test_a_class_that_is_no_backbone_says_why(in_process, name, words):
    with pytest.raises(UsageError) as caught:
        backbone = create_backbone(parse_backbone(name)[1])
        backbone(torch.zeros(1, 3, 8, 8))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("own_class:Own", ("own_class-Own", "own_class:Own", None)),
        ("mine=own_class:Own", ("mine", "own_class:Own", None)),
        ("emma:WEIGHTS", ("emma", "emma", "WEIGHTS")),
        ("vit-mean:WEIGHTS", ("vit-mean", "vit-mean", "WEIGHTS")),
        ("tint:FILE", ("tint", "tint", "FILE")),
        ("own_class:file.pth", ("own_class", "own_class", "file.pth")),
    ],
)
def test_a_class_and_a_weights_file_are_told_apart(in_process, text, parts):
    assert parse_backbone(text) == parts


def build_nothing(specs, file):
    raise AssertionError("never called")


def test_a_family_with_two_specs_of_one_name_is_refused(in_process):
    spec = replace(get_spec("hog"), name="twice", family="twin")
    with pytest.raises(UsageError, match="'twice' of family 'twin' is taken by family 'twin'"):
        register(Family("twin", (spec, replace(spec, output="other")), build_nothing))
    with pytest.raises(UsageError, match="Unknown backbone 'twice'"):
        get_spec("twice")


def test_a_name_that_one_family_refuses_may_be_that_of_another(in_process):
    def refuse(name: str) -> None:
        if name.startswith("odd-"):
            raise UsageError(f"{name} is too odd")

    def resolve(name: str) -> BackboneSpec | None:
        return replace(get_spec("hog"), name=name, family="second") if name == "odd-3" else None

    register(Family("first", (), build_nothing, resolve=refuse))
    register(Family("second", (), build_nothing, resolve=resolve))
    spec, family = find_backbone("odd-3")
    assert (spec.name, family.name) == ("odd-3", "second")
    with pytest.raises(UsageError, match="odd-5 is too odd"):
        find_backbone("odd-5")


def test_a_plugin_whose_builder_fails_fits_no_checkpoint(monkeypatch):
    def fail(specs, file):
        raise RuntimeError("no network today")

    broken = replace(get_spec("iresnet18"), name="broken", family="broken")
    families = {"iresnet18": find_backbone("iresnet18")[1], "broken": Family("broken", (broken,), fail, source="far 1")}
    monkeypatch.setattr(registry, "_FAMILIES", families)
    assert [match.names for match in find_matches({"conv1.weight": torch.zeros(64, 3, 3, 3)})] == [("iresnet18",)]
