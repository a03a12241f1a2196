"""`--decoder`: in the record of a feature, kept by its store, with the frames that the processor decoded instead."""

import pytest

from abaw.backbones.backbone import create_backbone
from abaw.core.errors import StoreError, UsageError
from abaw.extract import decoding
from abaw.extract.extraction import extract
from abaw.extract.feature import Feature
from abaw.extract.remake import Remaker
from abaw.extract.request import ExtractOptions
from abaw.extract.stage import Stage
from abaw.media.decoders import Decoded, ProcessorDecoder
from abaw.store import FeatureStore


class OtherDecoder(ProcessorDecoder):
    """Decodes the first image of a piece as the GPU would not, as it says."""

    def images(self, files, contents):
        first, *others = super().images(files, contents)
        assert isinstance(first, Decoded)
        return [first._replace(by_processor=True), *others]


@pytest.fixture
def on_gpu(monkeypatch):
    """Lets extraction decode as with a GPU."""
    monkeypatch.setattr("abaw.extract.stage.decoder_on", lambda device: OtherDecoder())
    monkeypatch.setattr(decoding, "decoder_on", lambda device: OtherDecoder())


def test_the_decoder_is_recorded_and_kept(make_data, on_gpu, tmp_path):
    root, place = make_data({"a": 5, "b": 40}), tmp_path / "store.zarr"

    def run(decoder: str = "auto", *names: str):
        return extract(ExtractOptions(root, place, names or ("hog",), device="cpu", decoder=decoder))

    summary = run("gpu")
    assert summary.done == ["a", "b"]
    assert [line for line in summary.warnings if "decoded" in line] == [
        "The processor decoded 3 frames of 2 videos, such as a, which the decoder of the GPU does not decode alike; the "
        "store says so for each video."
    ]
    store = FeatureStore.open(place)
    assert store.feature_record("hog")["decoder"] == "gpu"
    assert [attrs["by_processor"] for attrs in store.videos("hog").values()] == [1, 2]  # of pieces of 32 frames
    make_data({"c": 3})
    assert run().done == ["c"], "as the store has it"
    assert FeatureStore.open(place).videos("hog")["c"]["by_processor"] == 1
    with pytest.raises(StoreError, match=r"decoder gpu there, cpu here \(leave out --decoder to continue as before\)"):
        run("cpu")
    assert run("cpu", "plain=hog").ok
    plain = FeatureStore.open(place)
    assert "decoder" not in plain.feature_record("plain") and "by_processor" not in plain.videos("plain")["a"]
    assert (plain.read("hog", "a").values == plain.read("plain", "a").values).all()
    with pytest.raises(UsageError, match="Feature hog was decoded by the GPU and plain by the processor"):
        run("auto", "hog", "plain=hog")


def test_a_processor_is_no_gpu(make_data, tmp_path):
    options = ExtractOptions(make_data({"a": 2}), tmp_path / "store.zarr", ("hog",), device="cpu", decoder="gpu")
    with pytest.raises(UsageError, match=r"device is cpu\. Add --device cuda"):
        extract(options)
    assert not (tmp_path / "store.zarr").exists(), "nothing is promised to the store"
    # a driver leaves it to its workers, which learn what it has decided
    assert Stage.open(options).options.decoder == "gpu"
    auto = ExtractOptions(options.data, options.store, ("hog",), device="cpu")
    assert Stage.open(auto).options.decoder == "gpu" and Stage.open(auto).features[0].decoder == "gpu"


def test_features_are_made_again_from_records_with_a_decoder():
    backbone = create_backbone("hog")
    feature = Feature("hog", backbone, backbone.spec)
    for decoder in ("", "gpu"):
        made = Feature("hog", backbone, backbone.spec, alignment="prepare", decoder=decoder)
        again = Remaker("float32").remake(feature, None, made.describe())
        assert again is not None and (again.decoder, again.alignment) == (decoder, "prepare")
        assert again.describe()["fingerprint"] == made.describe()["fingerprint"]
