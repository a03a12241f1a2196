"""Audio encoders: agreement with recorded outputs and with the packages they come from, and one contract for all."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import opensmile
import pytest
import torch
import transformers
from safetensors.numpy import load_file, save_file

from abaw.backbones.audio.mel import LogMel
from abaw.backbones.audio.vggish import PATCH_STEPS, SETTINGS, Vggish
from abaw.backbones.backbone import create_backbone
from abaw.backbones.extractor import Backbone
from abaw.backbones.registry import get_spec, list_families, list_specs
from abaw.core.errors import CheckpointError, UsageError
from abaw.media.waveform import RATE_HZ
from abaw.tests.data.reference import seeded
from abaw.tests.support.paths import CHECKOUT
from abaw.tests.support.voices import encode, make_voice, relative_error

REFERENCE = CHECKOUT / "tests" / "data" / "reference"
AUDIO = [spec.name for spec in list_specs() if spec.modality == "audio"]
QUICK = [name for name in AUDIO if get_spec(name).weights == "none"]
SETS = [("compare", "ComParE_2016"), ("egemaps", "eGeMAPSv02"), ("egemaps-v01a", "eGeMAPSv01a")]
SMALL = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}


def least_cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(torch.nn.functional.cosine_similarity(torch.from_numpy(a), torch.from_numpy(b), dim=1).min())


@pytest.fixture(scope="module")
def vggish_file(tmp_path_factory) -> Path:
    layout = json.loads((REFERENCE / "vggish.json").read_text())["layout"]
    file = tmp_path_factory.mktemp("vggish") / "vggish.safetensors"
    save_file(seeded.seeded_state_dict(layout), file)
    return file


@pytest.fixture(scope="module")
def vggish(vggish_file: Path) -> Backbone:
    """With the weights of the file, which take a second to load."""
    return create_backbone("vggish", vggish_file)


@pytest.fixture(scope="module")
def small_folder(tmp_path_factory) -> Path:
    """A folder of Hugging Face's with a small wav2vec 2.0 and a head for letters."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("hub") / "small"
    transformers.Wav2Vec2ForCTC(transformers.Wav2Vec2Config(**SMALL, conv_dim=[24] * 7, vocab_size=32)).save_pretrained(
        folder
    )
    return folder


def test_vggish_agrees_with_the_original(vggish_file):
    recorded = json.loads((REFERENCE / "vggish.json").read_text())
    backbone = create_backbone(["vggish", "vggish-relu"], vggish_file)
    outputs = backbone(torch.from_numpy(seeded.seeded_input(tuple(recorded["input_shape"]))))
    assert isinstance(outputs, dict) and backbone.notes == ()
    wanted = np.load(REFERENCE / "vggish.npz")["embedding"]
    assert relative_error(outputs["vggish-relu"].numpy(), wanted) < 1e-4
    assert outputs["vggish"].min() < 0, "before the ReLU"
    assert torch.equal(outputs["vggish"].relu(), outputs["vggish-relu"])


def test_vggish_input_agrees_with_the_original():
    with np.load(REFERENCE / "vggish_input.npz") as recorded:
        waveform, examples = recorded["waveform"], recorded["examples"]
    patches = Vggish(("embedding",), hop_steps=PATCH_STEPS).prepare(torch.from_numpy(waveform))[:, 0].numpy()
    assert patches.shape == examples.shape
    assert relative_error(patches, examples) < 1e-4
    assert np.abs(patches - examples).max() < 1e-3


def test_vggish_hops_and_centres(vggish_file, vggish):
    coarse, fine = create_backbone("vggish-0.96s", vggish_file), vggish
    samples = make_voice(5)
    coarse_s, coarse_frames = encode(coarse, samples)
    fine_s, fine_frames = encode(fine, samples)
    np.testing.assert_allclose(fine_frames["embedding"][::4][: len(coarse_s)], coarse_frames["embedding"], atol=1e-5)
    assert coarse_s.tolist() == pytest.approx([0.4875 + 0.96 * i for i in range(5)])
    assert fine_s[1] - fine_s[0] == pytest.approx(0.24)
    whole = fine(fine.preprocess(torch.from_numpy(samples)))
    assert isinstance(whole, torch.Tensor)
    np.testing.assert_allclose(fine_frames["embedding"], whole.numpy(), atol=1e-5)
    assert coarse.fingerprint(coarse.spec) != fine.fingerprint(fine.spec)


@pytest.mark.parametrize("kind", ["in the checkpoint", "npz", "pth"])
def test_vggish_pca(vggish_file, vggish, tmp_path, kind):
    rng = np.random.default_rng(0)
    vectors = np.linalg.qr(rng.standard_normal((128, 128)))[0].astype(np.float32)
    means = (0.1 * rng.standard_normal((128, 1))).astype(np.float32)
    file = tmp_path / "vggish.safetensors"
    if kind == "in the checkpoint":
        state = {**load_file(vggish_file), "pproc.pca_eigen_vectors": vectors, "pproc.pca_means": means}
        save_file(state, file)
    else:
        file.symlink_to(vggish_file)
        arrays = {"pca_eigen_vectors": vectors, "pca_means": means}
        if kind == "npz":
            np.savez(tmp_path / "vggish_pca_params.npz", **arrays)
        else:
            tensors = {key: torch.from_numpy(value) for key, value in arrays.items()}
            torch.save(tensors, tmp_path / "vggish_pca_params-970ea276.pth")
    backbone = create_backbone(["vggish", "vggish-pca"], file)
    outputs = backbone(torch.from_numpy(seeded.seeded_input((3, 1, 96, 64))))
    assert isinstance(outputs, dict)
    projected = (vectors @ (outputs["vggish"].numpy().T - means)).T
    wanted = np.round((np.clip(projected, -2, 2) + 2) * 255 / 4)
    assert np.abs(outputs["vggish-pca"].numpy() - wanted).max() <= 1
    assert np.mean(outputs["vggish-pca"].numpy() == wanted) > 0.99
    assert backbone.weights_sha256 != vggish.weights_sha256


def test_vggish_pca_without_its_projection_says_where_to_put_it(vggish_file):
    with pytest.raises(CheckpointError, match=r"Put vggish_pca_params\.pth"):
        create_backbone("vggish-pca", vggish_file)


@pytest.mark.filterwarnings("ignore:Feature set:UserWarning")
@pytest.mark.parametrize(("name", "feature_set"), SETS)
def test_descriptors_are_those_of_opensmile(name, feature_set, monkeypatch):
    monkeypatch.setattr("abaw.backbones.audio.smile.FED_AHEAD_S", 4.0)
    monkeypatch.setattr("abaw.backbones.audio.smile.FEED_SAMPLES", 2 * RATE_HZ)
    samples = make_voice(13)  # longer than what is fed ahead, and than the frames that are taken at once
    centres_s, outputs = encode(create_backbone(name), samples)
    chosen = getattr(opensmile.FeatureSet, feature_set)
    smile = opensmile.Smile(chosen, opensmile.FeatureLevel.LowLevelDescriptors)
    wanted = smile.process_signal(samples, RATE_HZ)
    names = list(wanted.columns)
    starts_s = wanted.index.get_level_values("start").total_seconds().to_numpy()
    found = outputs["lld"]
    assert np.array_equal(found[:, : len(names)], wanted.to_numpy())
    np.testing.assert_allclose(centres_s[:-1], starts_s[:-1] + 0.01, atol=1e-6)
    if name == "compare":
        deltas = opensmile.Smile(chosen, opensmile.FeatureLevel.LowLevelDescriptors_Deltas)
        wanted_deltas = deltas.process_signal(samples, RATE_HZ)
        names += list(wanted_deltas.columns)
        assert np.array_equal(found[:, 65:], wanted_deltas.to_numpy()[: len(found)]), "both begin at the same time"
    assert tuple(names) == get_spec(name).classes


@pytest.mark.parametrize("name", ["compare", "egemaps", "egemaps-v01a"])
def test_the_ring_buffers_of_long_sounds_change_nothing(name, monkeypatch):
    samples, backbone = make_voice(45), create_backbone(name)
    wanted = encode(backbone, samples)[1]["lld"]
    monkeypatch.setattr("abaw.backbones.audio.smile.MEMORY_SAMPLES", 0)
    assert np.array_equal(encode(backbone, samples)[1]["lld"], wanted)


@pytest.mark.filterwarnings("ignore:Feature set:UserWarning")
@pytest.mark.parametrize(("name", "feature_set"), SETS)
def test_functionals_are_those_of_opensmile(name, feature_set):
    samples = make_voice(3.5)
    centres_s, outputs = encode(create_backbone(f"{name}-functionals-2s-0.5s"), samples)
    smile = opensmile.Smile(getattr(opensmile.FeatureSet, feature_set), opensmile.FeatureLevel.Functionals)
    assert centres_s.tolist() == [1.0, 1.5, 2.0, 2.5]
    for i, centre in enumerate(centres_s):
        window = samples[round((centre - 1) * RATE_HZ) : round((centre + 1) * RATE_HZ)]
        assert np.array_equal(outputs["func"][i], smile.process_signal(window, RATE_HZ).to_numpy()[0])


def test_full_scale_does_not_turn_over():
    loud = np.ones(RATE_HZ, dtype=np.float32)
    loud[::2] = 0.999
    quieter = (loud * 0.999).astype(np.float32)
    frames = [encode(create_backbone("egemaps"), samples)[1]["lld"] for samples in (loud, quieter)]
    assert np.abs(frames[0][20:80, 0] - frames[1][20:80, 0]).max() < 0.5, "loudness of +1.0 is not that of -1.0"


def test_wav2vec2_in_chunks_is_the_whole(small_folder):
    samples = make_voice(45.3)
    backbone = create_backbone(["wav2vec2", "wav2vec2-layer1"], small_folder)
    assert backbone.spec.shape == (48,) and "lm_head" in backbone.notes[0]
    centres_s, outputs = encode(backbone, samples)
    original = transformers.Wav2Vec2Model.from_pretrained(small_folder, local_files_only=True).eval()
    normalised = (samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)
    with torch.inference_mode():
        whole = original(torch.from_numpy(normalised)[None], output_hidden_states=True)
    for output, wanted in (("last", whole.last_hidden_state), ("layer1", whole.hidden_states[1])):
        assert outputs[output].shape == wanted[0].shape
        assert least_cosine(outputs[output], wanted[0].numpy()) > 0.998
    assert centres_s[0] == 0.0125 and np.allclose(np.diff(centres_s), 0.02)
    found = backbone(backbone.preprocess(torch.from_numpy(samples[:32000])))
    assert isinstance(found, dict) and found["wav2vec2"].shape == (99, 48)


def test_other_networks_of_hugging_face(tmp_path):
    torch.manual_seed(0)
    config = transformers.HubertConfig(**SMALL, conv_dim=[24] * 7, feat_extract_norm="layer", do_stable_layer_norm=True)
    original = transformers.HubertModel(config).eval()
    original.save_pretrained(tmp_path / "hubert")
    (tmp_path / "hubert" / "preprocessor_config.json").write_text('{"do_normalize": false}')
    backbone = create_backbone("wav2vec2", tmp_path / "hubert")
    samples = make_voice(2)
    with torch.inference_mode():
        wanted = original(torch.from_numpy(samples)[None]).last_hidden_state[0].numpy()
    assert dict(backbone.spec.options) == {"model": "hubert"}
    np.testing.assert_allclose(encode(backbone, samples)[1]["last"], wanted, atol=1e-4)


def test_wav2vec2_from_one_file_with_old_names(tmp_path):
    """The layout of wav2vec2-base-960h as it is published: a head for letters, and the old names of the weight norm."""
    torch.manual_seed(1)
    original = transformers.Wav2Vec2ForCTC(transformers.Wav2Vec2Config(vocab_size=32)).eval()
    state = {
        key.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): value
        for key, value in original.state_dict().items()
    }
    assert any(key.endswith("weight_g") for key in state)
    torch.save(state, tmp_path / "pytorch_model.bin")
    backbone = create_backbone("wav2vec2", tmp_path / "pytorch_model.bin")
    assert "of base size for normalised sound: a file does not say" in backbone.notes[0]
    samples = make_voice(1)
    with torch.inference_mode():
        normalised = torch.from_numpy((samples - samples.mean()) / np.sqrt(samples.var() + 1e-7))[None]
        wanted = original.wav2vec2(normalised).last_hidden_state[0].numpy()
    assert relative_error(encode(backbone, samples)[1]["last"], wanted) < 1e-4


def test_wrong_weights_say_what_to_do(tmp_path, small_folder, vggish_file, monkeypatch):
    with pytest.raises(CheckpointError, match="--backbone wav2vec2:FILE"):
        create_backbone("wav2vec2")
    with pytest.raises(CheckpointError, match="--backbone vggish:FILE"):
        create_backbone("vggish")
    with pytest.raises(CheckpointError, match="No weights file"):
        create_backbone("wav2vec2", tmp_path / "nowhere.safetensors")
    with pytest.raises(CheckpointError, match=r"has no config\.json"):
        create_backbone("wav2vec2", tmp_path)
    with pytest.raises(CheckpointError, match=r"does not fit wav2vec2: .* missing"):
        create_backbone("wav2vec2", small_folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="has 2 layers: use layer0 to layer2"):
        create_backbone("wav2vec2-layer9", small_folder)
    with pytest.raises(CheckpointError, match="does not fit vggish"):
        create_backbone("vggish", small_folder / "model.safetensors")
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "wav2vec2").symlink_to(small_folder)
    monkeypatch.setenv("ABAW_WEIGHTS", str(tmp_path / "weights"))
    assert create_backbone("wav2vec2").spec.shape == (48,), "a folder of the family's name is taken by default"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("vggish-0.015s", "multiple of 0.01 s"),
        ("egemaps-functionals-0.01s-1s", "window of at least 0.1 s"),
        ("wav2vec2-layer99", "layer0"),
        ("wavlm-last1", "fewer than two layers. For the last layer use wavlm"),
        ("hubert-last99", "use hubert-last4"),
        ("ast-0.015s", "multiple of 0.01 s"),
        ("egemap", "Did you mean egemaps"),
    ],
)
def test_wrong_names_say_what_to_do(name, words):
    with pytest.raises(UsageError, match=words):
        get_spec(name)


@pytest.mark.parametrize("name", AUDIO)
def test_contract(name):
    spec = get_spec(name)
    assert spec.modality == "audio" and spec.image is None
    assert spec.name == spec.family or spec.name.startswith(f"{spec.family}-")
    assert not spec.classes or spec.shape == (len(spec.classes),)
    assert spec.licence or spec.name == "spectrogram"
    assert spec.weights in ("none", "file")
    with torch.device("meta" if spec.weights != "none" else "cpu"):
        backbone = create_backbone(
            name, untrained=spec.weights != "none", device="meta" if spec.weights != "none" else "cpu"
        )
    assert sum(parameter.numel() for parameter in backbone.encoder.parameters()) == spec.parameters


@pytest.mark.parametrize("name", [*QUICK, "vggish-untrained"])
@pytest.mark.parametrize("samples", [make_voice(1.5), np.zeros(RATE_HZ, np.float32), make_voice(0.03), np.zeros(1, np.float32)],
                         ids=["voice", "silence", "30 ms", "one sample"])  # fmt: skip
def test_any_sound_gives_finite_frames_in_order(name, samples, untrained_vggish):
    backbone = untrained_vggish if name == "vggish-untrained" else create_backbone(name)
    if name == "spectrogram" and len(samples) < 1000:
        pytest.skip("its native frames are made by row")
    centres_s, outputs = encode(backbone, samples)
    values = outputs[backbone.spec.output]
    assert values.shape == (len(centres_s), *backbone.spec.shape) and len(values) > 0
    assert values.dtype == np.float32 and np.isfinite(values).all()
    assert (np.diff(centres_s) > 0).all()


@pytest.fixture(scope="module")
def untrained_vggish() -> Backbone:
    return create_backbone("vggish", untrained=True)


def test_mel_bands_all_see_something():
    for spectrogram in (LogMel(SETTINGS), create_backbone("spectrogram").encoder.mel):
        assert isinstance(spectrogram, LogMel)
        assert (spectrogram.filters.sum(0) > 0).all()


def test_a_missing_extra_says_how_to_install_it():
    code = (
        "import sys; sys.modules['opensmile'] = sys.modules['transformers'] = None\n"
        "from abaw.core.errors import AbawError; from abaw.backbones.backbone import create_backbone\n"
        "for name in ('compare', 'egemaps-v01a-functionals', 'wav2vec2', 'hubert-last4', 'whisper', 'ast-0.5s'):\n"
        "    try: create_backbone(name, untrained=name[:2] not in ('co', 'eg'))\n"
        "    except AbawError as error: print(error)\n"
    )
    environment = {"PYTHONPATH": str(CHECKOUT / ".dev")}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    lines = result.stdout.splitlines()
    assert len(lines) == 6 and all("pip install '.[audio]' in abaw's folder" in line for line in lines)


def test_audio_families_have_one_builder_each():
    assert {family.name for family in list_families() for spec in family.specs if spec.modality == "audio"} == {
        *("spectrogram", "vggish", "wav2vec2", "hubert", "wavlm", "whisper", "ast"),
        *(f"{name}{level}" for name in ("compare", "egemaps", "egemaps-v01a") for level in ("", "-functionals")),
    }
