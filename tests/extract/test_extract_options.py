"""What extraction is asked for: names, weights, views, precision; wrong requests leave no trace."""

import signal
import socket
from pathlib import Path

import numpy as np
import pytest

from abaw.core.errors import CheckpointError, StoreError, UsageError
from abaw.extract.request import ExtractOptions, Request, create_features
from abaw.pipeline import extract
from abaw.store import FeatureStore


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every connection fails at once."""

    def refuse(*arguments: object, **options: object) -> None:
        raise OSError("no network")

    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture
def options(make_data, tmp_path):
    """`options(*backbones, **others)` for a small dataset and `tmp_path/store.zarr`."""
    root = make_data({"a": 2})

    def make(*backbones: str, **others: object) -> ExtractOptions:
        return ExtractOptions(root, tmp_path / "store.zarr", backbones, device="cpu", **others)

    return make


def test_precision_and_untrained_are_recorded(options, run_cli, tmp_path):
    store = tmp_path / "store.zarr"
    places = ("--data", options().data, "--store", store, "--device", "cpu")
    result = run_cli("extract", "--backbone", "timm/resnet10t", *places, "--untrained", "--precision", "bf16")
    assert result.exit_code == 0
    assert "Untrained weights" in result.stderr
    opened = FeatureStore.open(store)
    assert opened.feature_attrs("timm-resnet10t")["spec"]["weights"] == "untrained"
    assert opened.videos("timm-resnet10t")["a"]["precision"] == "bfloat16"
    assert "untrained" in run_cli("store", "info", store).stdout


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("hogg", "Unknown backbone 'hogg'.*Did you mean hog"),
        ("vit-maen", "Unknown backbone 'vit-maen'.*vit-mean"),
        ("qqqq", "Unknown backbone 'qqqq'.*Known are: .*hog.*timm/"),
        ("", "Unknown backbone ''"),
        ("timm/resnet18x", "timm has no model 'resnet18x'.*resnet18"),
        ("timm/resnet18-cls", "resnet18 ends in a map of features, not in one row of tokens.*Use timm/resnet18"),
        ("=hog", r"--backbone takes \[NAME=\]BACKBONE\[:WEIGHTS\], found '=hog'"),
        ("hog:", r"--backbone takes .*found 'hog:'"),
    ],
)
def test_a_wrong_request_is_wrong_use_and_makes_no_store(options, tmp_path, name, words):
    with pytest.raises(UsageError, match=words):
        extract(options(name))
    assert not (tmp_path / "store.zarr").exists()


def test_weights_of_what_has_none(options, tmp_path):
    with pytest.raises(UsageError, match=r"hog has no weights. Leave out .*x\.pth"):
        extract(options(f"hog:{tmp_path}/x.pth"))


@pytest.mark.parametrize("name", ["iresnet50", "vit-tiny-mean", "timm/resnet18"])
def test_missing_weights_name_the_file_and_the_ways_to_pass_it(options, no_network, tmp_path, monkeypatch, name):
    monkeypatch.setenv("ABAW_WEIGHTS", str(tmp_path))
    with pytest.raises(
        CheckpointError, match=rf"{name}.*--backbone {name}:FILE.*ABAW_WEIGHTS.*safetensors.*--untrained"
    ):
        extract(options(name))
    with pytest.raises(CheckpointError, match=r"No weights file .*nothing\.pth"):
        extract(options(f"{name}:{tmp_path}/nothing.pth"))
    assert not (tmp_path / "store.zarr").exists()


def test_two_features_of_one_name(options):
    with pytest.raises(UsageError, match=r"Two backbones would write feature 'hog'.*NEWNAME=BACKBONE"):
        extract(options("hog", "hog"))
    with pytest.raises(UsageError, match="'x'"):
        extract(options("x=hog", "x=timm/resnet18", untrained=True))
    assert [feature.name for feature in create_features(options("hog", "x=hog"))] == ["hog", "x"]


@pytest.mark.parametrize(
    ("backbones", "views"), [(("hog",), ("hflip", "hflip")), (("hog", "hog@hflip=hog"), ("hflip",))]
)
def test_a_view_asked_for_twice_does_not_break_the_videos(options, backbones, views):
    try:
        summary = extract(options(*backbones, views=views))
    except UsageError as error:  # to refuse is as good
        assert "hflip" in str(error)
    else:
        assert summary.ok, summary.failed


def test_an_unknown_view(options):
    with pytest.raises(UsageError, match=r"Unknown view 'vflip'.*hflip"):
        extract(options("hog", views=("vflip",)))


@pytest.mark.parametrize("device", ["tpu", "cuda:99", "gpu", ""])
def test_a_device_that_cannot_be_used(run_cli, options, device):
    result = run_cli("extract", "--backbone", "hog", "--data", options().data, "--device", device)
    assert result.exit_code == 2
    assert f"Device {device!r} cannot be used" in result.stderr and "Choose cpu" in result.stderr


@pytest.mark.parametrize(
    ("text", "feature", "weights"),
    [
        ("hog", "hog", None),
        ("mine=hog", "mine", None),
        ("timm/resnet18", "timm-resnet18", None),
        ("vit-mean:/w/x.pth", "vit-mean", "/w/x.pth"),
        ("mine=vit-mean:/w/x.pth", "mine", "/w/x.pth"),
        ("vit-mean:/w/epoch=3-step=100.ckpt", "vit-mean", "/w/epoch=3-step=100.ckpt"),
        ("mine=vit-mean:/w/epoch=3.ckpt", "mine", "/w/epoch=3.ckpt"),
        ("vit-mean:/w/a:b.pth", "vit-mean", "/w/a:b.pth"),
    ],
)
def test_requests_are_read(text, feature, weights):
    request = Request.parse(text)
    assert request.feature == feature
    assert request.weights == (Path(weights) if weights else None)


def test_a_handler_of_sigterm_that_python_does_not_know_is_no_matter(run_cli, tmp_path, monkeypatch):
    """A handler that C code has set is None to Python, which does not take None back."""
    real, before = signal.signal, signal.getsignal(signal.SIGTERM)
    given = []

    def set_handler(number, handler):
        given.append(handler)
        real(number, handler)

    monkeypatch.setattr(signal, "signal", set_handler)
    try:
        result = run_cli("extract", "--backbone", "hog", "--data", tmp_path, "--store", tmp_path / "store.zarr")
    finally:
        real(signal.SIGTERM, before)
    assert result.exit_code == 1 and "Error: " in result.output
    assert given == [signal.default_int_handler, signal.SIG_DFL]


def test_a_feature_name_that_is_no_name_is_refused(options, tmp_path):
    with pytest.raises((UsageError, StoreError), match=r"'\.\./x' cannot be the name of a feature"):
        extract(options("../x=hog"))
    assert not (tmp_path / "x").exists()


def test_other_weights_under_the_same_name_are_refused_and_under_another_kept(options, tmp_path):
    extract(options("f=hog"))
    before = FeatureStore.open(tmp_path / "store.zarr").read("f", "a").values
    with pytest.raises(StoreError, match=r"'f' .*was made differently: .*NEWNAME="):
        extract(options("f=timm/resnet10t", untrained=True))
    extract(options("g=timm/resnet10t", untrained=True))
    store = FeatureStore.open(tmp_path / "store.zarr")
    assert store.features() == ["f", "g"]
    np.testing.assert_array_equal(store.read("f", "a").values, before)


def test_untrained_weights_are_the_same_every_time(options, tmp_path):
    extract(options("f=timm/resnet10t", untrained=True))
    extract(options("g=timm/resnet10t", untrained=True))
    store = FeatureStore.open(tmp_path / "store.zarr")
    np.testing.assert_array_equal(store.read("f", "a").values, store.read("g", "a").values)
