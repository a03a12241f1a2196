"""`--compile`: networks compiled for a fixed batch, and what of it is in the record of a feature."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from abaw.backbones import registry
from abaw.backbones.backbone import create_backbone, describe
from abaw.backbones.extractor import Backbone
from abaw.backbones.spec import UNTRAINED, BackboneSpec, ImageInput
from abaw.core.errors import UsageError
from abaw.core.records import describe_other
from abaw.extract.feature import Feature
from abaw.extract.precision import describe_compiled
from abaw.extract.remake import Remaker
from abaw.pipeline import ExtractOptions, extract
from abaw.store import FeatureStore


class Tiny(nn.Module):
    """A small network whose result depends on weights."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.linspace(-1, 1, 12).view(3, 4))

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"values": torch.tanh(images.mean((2, 3)) @ self.weights)}


@pytest.fixture
def backend(monkeypatch):
    """Replaces the backend of `torch.compile`, whose own one takes half a minute: `backend("eager")`."""

    def choose(name: object) -> None:
        monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=name))

    return choose


@pytest.fixture
def tiny(monkeypatch):
    """Registers `tiny-values`."""
    registry.list_specs()
    monkeypatch.setattr(registry, "_FAMILIES", dict(registry._FAMILIES))
    spec = BackboneSpec("tiny-values", "tiny", "values", "vision", (4,), "tiny", "file", ImageInput(8))
    registry.register(registry.Family("tiny", (spec,), lambda specs, file: Tiny()))


def made(compiled: bool, precision: str = "float32") -> Backbone:
    spec = BackboneSpec("tiny-values", "tiny", "values", "vision", (4,), "tiny", UNTRAINED, ImageInput(8))
    return Backbone(registry.Built(Tiny(), (spec,)), "cpu", precision, compiled)


def test_a_compiled_network_gives_the_same_features(make_data, tiny, backend, tmp_path):
    backend("eager")
    root = make_data({"a": 5, "b": 4})
    stores = []
    for compiled in (False, True):
        torch._dynamo.utils.counters.clear()
        place = tmp_path / f"{compiled}.zarr"
        options = ExtractOptions(root, place, ("tiny-values",), (), 1, "cpu", "fp32", 4, untrained=True)
        assert extract(replace(options, compile=compiled)).ok
        # one size of batches: the last one, of one frame, is filled up
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == int(compiled)
        stores.append(FeatureStore.open(place))
    plain, compiled = stores
    for video in "ab":
        wanted, found = (store.read("tiny-values", video).values for store in stores)
        np.testing.assert_allclose(found, wanted, rtol=1e-3)
        assert np.abs(wanted).max() > 0.1
    assert compiled.videos("tiny-values")["a"]["compiled"] and "compiled" not in plain.videos("tiny-values")["a"]
    # in float32 both may be in one store
    assert [s.feature_attrs("tiny-values")["fingerprint"] for s in stores] == [
        made(False).fingerprint(made(False).spec)
    ] * 2


def test_only_half_precision_is_another_feature_when_compiled():
    plain, compiled = (made(compiled, "bfloat16") for compiled in (False, True))
    records = [backbone.record(backbone.spec) for backbone in (plain, compiled)]
    assert records[1] == {**records[0], "compiled": True} and "compiled" not in records[0]
    assert made(True).record(made(True).spec) == made(False).record(made(False).spec)
    words = "compiled {} there, {} here ({} --compile to continue as before)"
    assert describe_other(records[1], records[0], "", "") == words.format("yes", "no", "add")
    assert describe_other(records[0], records[1], "", "") == words.format("no", "yes", "leave out")
    assert compiled.in_precision("bfloat16") is compiled
    assert made(True).in_precision("bfloat16").compiled and not made(False).in_precision("bfloat16").compiled


@pytest.mark.parametrize(("precision", "compiled"), [("float32", False), ("bfloat16", False), ("bfloat16", True)])
def test_features_are_made_again_as_they_were(precision, compiled):
    before = made(compiled, precision)
    attrs = describe(before, before.spec, "")
    today = made(False)
    again = Remaker("float32").remake(Feature("tiny", today, today.spec), None, attrs)
    assert again is not None
    assert (again.backbone.precision, again.backbone.compiled) == (precision, compiled)


def test_networks_without_weights_are_not_compiled():
    hog, tiny = create_backbone("hog", compiled=True), made(True)
    assert not hog.compiled and "compiled" not in hog.record(hog.spec)
    features = [Feature("hog", hog, hog.spec), Feature("a", tiny, tiny.spec), Feature("a@hflip", tiny, tiny.spec)]
    assert describe_compiled(features) == "Compiled with the first batch, about a minute for each network: a."
    assert describe_compiled(features[:1]) == "Nothing is compiled: only networks for images that have weights are."


def test_a_network_that_cannot_be_compiled_is_wrong_use(backend):
    def fail(graph: object, inputs: object) -> None:
        raise RuntimeError("no code for this network\nand details")

    backend(fail)
    words = r"^Backbone tiny-values cannot be compiled here \(.*no code for this network\)\. Leave out --compile\.$"
    with pytest.raises(UsageError, match=words):
        made(True)(torch.zeros(2, 3, 8, 8))


def test_without_a_compiler_nothing_begins(run_cli, make_data, monkeypatch, tmp_path):
    root = make_data({"a": 1})
    monkeypatch.setenv("PATH", str(tmp_path))
    result = run_cli("extract", "--backbone", "hog", "--data", root, "--store", tmp_path / "s.zarr", "--compile")
    assert result.exit_code == 2 and not (tmp_path / "s.zarr").exists()
    assert "--compile needs a C++ compiler, and none was found. Install g++, or leave out --compile." in result.output
