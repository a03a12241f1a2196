"""The precision of new features on a processor: bfloat16 where a trial shows that it pays, float32 otherwise."""

from pathlib import Path

import pytest
import torch
from torch import nn

from abaw.backbones import registry
from abaw.backbones.backbone import create_backbone
from abaw.backbones.spec import BackboneSpec, ImageInput
from abaw.extract import bfloat16, request
from abaw.extract.bfloat16 import Trial, has_bfloat16, try_bfloat16
from abaw.extract.stage import Stage
from abaw.pipeline import ExtractOptions, extract
from abaw.store import FeatureStore

LINES = "processor : 0\n{} : fpu avx2 {} rdtscp\n"


class Network(nn.Module):
    """Four values of an image; `offset` is added to them and taken away again, which costs digits."""

    def __init__(self, offset: float = 0.0, refuses: bool = False) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.linspace(-1, 1, 12).view(3, 4))
        self.offset, self.refuses = offset, refuses

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        if self.refuses and images.dtype == torch.bfloat16:
            raise NotImplementedError("\"made_up\" not implemented for 'BFloat16'")
        values = torch.tanh(images.mean((2, 3)) @ self.weights)
        return {"values": values + self.offset - self.offset}


@pytest.fixture
def networks(monkeypatch):
    """Registers `exact-values`, `rough-values` and `float-values`; the trial is won by whatever the clock says."""
    registry.list_specs()
    monkeypatch.setattr(registry, "_FAMILIES", dict(registry._FAMILIES))
    for name, network in {"exact": Network(), "rough": Network(3e3), "float": Network(refuses=True)}.items():
        spec = BackboneSpec(f"{name}-values", name, "values", "vision", (4,), name, "file", ImageInput(8))
        registry.register(registry.Family(name, (spec,), lambda specs, file, network=network: network))
    monkeypatch.setattr(bfloat16, "_trials", {})
    monkeypatch.setattr(bfloat16, "LEAST_SPEEDUP", 0.0)
    monkeypatch.setattr(request, "has_bfloat16", lambda: True)


class Heard:
    """A reporter that keeps its sentences."""

    def __init__(self) -> None:
        self.sentences: list[str] = []

    def warn(self, sentence: str) -> None:
        self.sentences.append(sentence)

    def __getattr__(self, name: str):
        return lambda *arguments: None


@pytest.fixture
def run(make_data, tmp_path):
    """Extracts untrained networks and returns what is said about precision, with the records: `run("exact-values")`."""
    root, store = make_data({"a": 3}), tmp_path / "store.zarr"

    def extract_some(*names: str, **options: object) -> tuple[str, dict[str, str]]:
        heard = Heard()
        assert extract(ExtractOptions(root, store, names, device="cpu", untrained=True, **options), heard).ok
        opened = FeatureStore.open(store)
        records = {name: opened.feature_record(name) or {} for name in opened.features()}
        line = next(line for line in heard.sentences if line.startswith("Precision"))
        return line, {name: record.get("precision", "float32") for name, record in records.items()}

    return extract_some


@pytest.mark.parametrize(
    ("key", "flag", "limit", "expected"),
    [
        ("flags", "avx512_bf16", "", True),
        ("flags", "amx_bf16", "AVX512_CORE_AMX", True),
        ("Features", "bf16", "", True),
        ("flags", "avx512f", "", False),
        ("flags", "avx512_bf16", "avx512_core", False),
    ],
)
def test_processors_say_what_they_can(tmp_path, key, flag, limit, expected):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(LINES.format(key, flag))
    assert has_bfloat16(tmp_path, limit) is expected


def test_a_system_that_says_nothing_has_no_bfloat16(tmp_path, monkeypatch):
    assert not has_bfloat16(tmp_path, "")
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    has_bfloat16.cache_clear()
    assert not has_bfloat16()
    has_bfloat16.cache_clear()


def test_a_trial_compares_features_and_leaves_random_states_alone(networks):
    state = torch.get_rng_state()
    exact, rough, refused = (
        try_bfloat16(create_backbone(f"{name}-values", untrained=True)) for name in ("exact", "rough", "float")
    )
    assert exact.cosine > 0.9999 and exact.speedup > 0
    assert rough.cosine < 0.9 and not rough.is_won, "bfloat16 has 8 bits: 3,000 swallows what is added to it"
    assert not refused.is_won and "not implemented" in str(refused)
    assert torch.equal(torch.get_rng_state(), state)


def test_bfloat16_has_to_be_clearly_faster():
    assert Trial(1.5, 0.9995).is_won
    assert not Trial(1.1, 0.9999).is_won and not Trial(3.0, 0.998).is_won


def test_the_trial_chooses_for_new_features(networks, run):
    said, precisions = run("exact-values", "rough-values", "float-values", "hog", views=("hflip",))
    assert said.startswith("Precision: bfloat16 for exact-values; float32 for rough-values, float-values, hog (")
    assert "exact-values in bfloat16: " in said and "hog in" not in said
    assert {name for name, precision in precisions.items() if precision == "bfloat16"} == {
        "exact-values",
        "exact-values@hflip",
    }


def test_a_stored_feature_keeps_its_precision(networks, run, monkeypatch):
    assert run("exact-values", precision="fp32")[1] == {"exact-values": "float32"}
    # so do its views, while another feature of the same network is new
    said, precisions = run("exact-values", "new=exact-values", views=("hflip",))
    assert said.startswith("Precision: bfloat16 for new; float32 for exact-values (new in bfloat16: ")
    assert precisions["exact-values@hflip"] == "float32" and precisions["new@hflip"] == "bfloat16"
    monkeypatch.setattr(bfloat16, "_trials", {})
    monkeypatch.setattr(bfloat16, "LEAST_SPEEDUP", 1e9)
    assert run("new=exact-values")[0] == "Precision: bfloat16 for new."


def test_workers_of_a_cluster_are_not_asked(networks, make_data, tmp_path):
    options = ExtractOptions(make_data({"a": 2}), tmp_path / "store.zarr", ("exact-values",), untrained=True)
    assert Stage.open(options).options.precision == "fp32", "their processors may be others"


def test_the_demands_are_those_of_the_documents():
    text = (Path(__file__).parents[2] / "docs/environment.md").read_text()
    assert f"{bfloat16.LEAST_SPEEDUP:g} times" in text and "ONEDNN_MAX_CPU_ISA" in text
