"""Networks of transformers over sound, from folders as it saves them: their states are those of transformers itself."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    AutoFeatureExtractor,
    PreTrainedModel,
    Wav2Vec2Config,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
    Wav2Vec2Processor,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)

from abaw.backbones.backbone import create_backbone
from abaw.core.errors import CheckpointError
from abaw.media.waveform import RATE_HZ
from abaw.tests.support.voices import encode, make_voice, relative_error

SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "conv_dim": (16,) * 7,
}
STABLE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
XVECTOR = {"tdnn_dim": (16,) * 5, "xvector_output_dim": 16}
DATA2VEC = {"num_conv_pos_embeddings": 2, "conv_pos_kernel_size": 3}
SQUEEZED = {"conv_dim": (16,) * 13, "squeeze_factor": 2}
# class of transformers, its config, what more is in that
NETWORKS = {
    "wav2vec2-ctc": ("Wav2Vec2ForCTC", "Wav2Vec2Config", {"vocab_size": 32}),
    "wav2vec2-large": ("Wav2Vec2ForSequenceClassification", "Wav2Vec2Config", STABLE),
    "wav2vec2-adapter": ("Wav2Vec2Model", "Wav2Vec2Config", {"add_adapter": True, "output_hidden_size": 24}),
    "mms": ("Wav2Vec2Model", "Wav2Vec2Config", {"adapter_attn_dim": 8}),
    "hubert": ("HubertForSequenceClassification", "HubertConfig", {"conv_pos_batch_norm": True}),
    "wavlm": ("WavLMModel", "WavLMConfig", {}),
    "wavlm-xvector": ("WavLMForXVector", "WavLMConfig", XVECTOR),
    "wavlm-adapter": ("WavLMForXVector", "WavLMConfig", XVECTOR | {"add_adapter": True}),
    "data2vec": ("Data2VecAudioForCTC", "Data2VecAudioConfig", DATA2VEC | {"vocab_size": 32}),
    "unispeech-sat": ("UniSpeechSatModel", "UniSpeechSatConfig", {}),
    "sew": ("SEWForCTC", "SEWConfig", SQUEEZED | {"vocab_size": 32}),
    "sew-d": ("SEWDModel", "SEWDConfig", SQUEEZED),
}
VOICE = make_voice(1.71)
NORMALISED = (VOICE - VOICE.mean()) / np.sqrt(VOICE.var() + 1e-7)
WHISPER = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 1,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "vocab_size": 40,
    "num_mel_bins": 20,
    "max_source_positions": 150,  # 3 s
    **dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"), 1),
}
AST = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_length": 96,
    "num_mel_bins": 32,
}


def make(kind: str, **more: object) -> PreTrainedModel:
    """A network of transformers with random weights; biases and norms, too, so that none can be left out."""
    name, config, own = NETWORKS[kind]
    torch.manual_seed(0)
    return randomised(getattr(transformers, name)(getattr(transformers, config)(**{**SMALL, **own, **more})))


def randomised(model: PreTrainedModel) -> PreTrainedModel:
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter += 0.05 * torch.randn_like(parameter)
    return model.eval()


def wanted_states(model: PreTrainedModel, samples: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """The last states of the bare encoder, and all hidden states."""
    encoder = getattr(model, model.base_model_prefix, model)
    with torch.inference_mode():
        found = encoder(torch.from_numpy(samples)[None], output_hidden_states=True)
    return found.last_hidden_state[0].numpy(), [states[0].numpy() for states in found.hidden_states]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A small wav2vec 2.0 as transformers saves it, without a word on its input."""
    made: Path = tmp_path_factory.mktemp("hub") / "model"
    make("wav2vec2-ctc").save_pretrained(made)
    return made


def copy_of(folder: Path, into: Path) -> Path:
    into.mkdir()
    for file in folder.iterdir():
        (into / file.name).write_bytes(file.read_bytes())
    return into


@pytest.mark.parametrize("kind", NETWORKS)
def test_states_are_those_of_transformers(kind, tmp_path):
    model = make(kind)
    model.save_pretrained(tmp_path, max_shard_size="40KB")
    assert (tmp_path / "model.safetensors.index.json").is_file() and not (tmp_path / "model.safetensors").exists()
    Wav2Vec2FeatureExtractor().save_pretrained(tmp_path)
    backbone = create_backbone("wav2vec2", tmp_path)
    centres_s, outputs = encode(backbone, VOICE)
    last, hidden = wanted_states(model, NORMALISED)
    wanted = hidden[-1] if "adapter" in kind else last
    assert outputs["last"].shape == wanted.shape == (85, 32) == (len(centres_s), *backbone.spec.shape)
    assert relative_error(outputs["last"], wanted) < 1e-5
    names = {name.split(".")[0] for name in model.state_dict()} - {"masked_spec_embed"}
    heads = names - {model.base_model_prefix} if model.base_model_prefix in names else set()
    assert len(backbone.notes) == bool(heads) + ("adapter" in kind)
    assert not heads or re.match(f"Dropped .*({'|'.join(heads)})", backbone.notes[0])
    assert "adapter" not in kind or "before it, every 20 ms" in backbone.notes[-1]


@pytest.mark.parametrize(
    "kind", ["wav2vec2-ctc", "wav2vec2-large", "wav2vec2-adapter", "hubert", "wavlm-xvector", "data2vec"]
)
def test_layers_and_the_mean_of_the_last_ones(kind, tmp_path):
    model = make(kind)
    model.save_pretrained(tmp_path)
    family = kind.split("-")[0] if kind.startswith(("hubert", "wavlm")) else "wav2vec2"
    names = {f"{family}-{output}": output for output in ("last2", "last4", "layer0", "layer3")}
    backbone = create_backbone([family, *names], tmp_path)
    _, outputs = encode(backbone, VOICE)
    hidden = wanted_states(model, NORMALISED)[1]
    for output, wanted in (("layer0", hidden[0]), ("layer3", hidden[3])):
        assert relative_error(outputs[output], wanted) < 1e-5
    for k in (2, 4):
        assert relative_error(outputs[f"last{k}"], sum(hidden[-k:]) / k) < 1e-5
    assert len({backbone.fingerprint(spec) for spec in backbone.specs}) == 5
    with pytest.raises(CheckpointError, match="has 3 layers: use last2 to last4, not last5"):
        create_backbone(f"{family}-last5", tmp_path)


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("files", ["processor", "extractor", "both", "processor of before"])
def test_how_sound_becomes_input_is_read_where_transformers_reads_it(files, normalise, folder, tmp_path):
    copy_of(folder, tmp_path / "m")
    extractor = Wav2Vec2FeatureExtractor(do_normalize=normalise)
    if files in ("processor", "both"):
        (tmp_path / "vocab.json").write_text(json.dumps({"a": 0, "<pad>": 1, "<unk>": 2, "|": 3, "<s>": 4, "</s>": 5}))
        Wav2Vec2Processor(extractor, Wav2Vec2CTCTokenizer(str(tmp_path / "vocab.json"))).save_pretrained(tmp_path / "m")
        assert not (tmp_path / "m" / "preprocessor_config.json").exists(), "transformers 5 writes none"
    if files in ("extractor", "processor of before"):
        extractor.save_pretrained(tmp_path / "m")
    if files == "both":  # the processor's wins
        Wav2Vec2FeatureExtractor(do_normalize=not normalise).save_pretrained(tmp_path / "m")
    if files == "processor of before":
        (tmp_path / "m" / "processor_config.json").write_text('{"processor_class": "Wav2Vec2Processor"}')
    theirs = AutoFeatureExtractor.from_pretrained(tmp_path / "m", local_files_only=True)
    inputs = theirs(VOICE, sampling_rate=RATE_HZ, return_tensors="np").input_values[0]
    model = Wav2Vec2Model.from_pretrained(tmp_path / "m", local_files_only=True).eval()
    backbone = create_backbone("wav2vec2", tmp_path / "m")
    assert relative_error(encode(backbone, VOICE)[1]["last"], wanted_states(model, inputs)[0]) < 1e-5
    assert len(backbone.notes) == 1 and "lm_head" in backbone.notes[0]


def test_what_a_folder_or_a_file_does_not_say_is_told(folder, tmp_path):
    backbone = create_backbone("wav2vec2", folder)
    model = Wav2Vec2Model.from_pretrained(folder, local_files_only=True).eval()
    assert relative_error(encode(backbone, VOICE)[1]["last"], wanted_states(model, NORMALISED)[0]) < 1e-5
    (note,) = [note for note in backbone.notes if "lm_head" not in note]
    assert "neither preprocessor_config.json nor a processor_config.json" in note and "do_normalize to be true" in note
    with pytest.raises(CheckpointError, match="Pass its whole folder instead"):
        create_backbone("wav2vec2", folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"has no config\.json"):
        create_backbone("hubert", tmp_path)


def test_parts_of_both_formats_and_what_is_missing_of_them(folder, tmp_path):
    (tmp_path / "pickled").mkdir()
    state = make("wav2vec2-ctc").state_dict()
    places = {}
    for number, keys in enumerate(np.array_split(np.array(sorted(state)), 3)):
        places |= dict.fromkeys(keys.tolist(), f"pytorch_model-{number + 1:05d}-of-00003.bin")
        torch.save({key: state[key] for key in keys}, tmp_path / "pickled" / places[keys[0]])
    (tmp_path / "pickled" / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": places}))
    (tmp_path / "pickled" / "config.json").write_bytes((folder / "config.json").read_bytes())
    whole, parts = (create_backbone("wav2vec2", path) for path in (folder, tmp_path / "pickled"))
    assert np.array_equal(encode(whole, VOICE)[1]["last"], encode(parts, VOICE)[1]["last"])
    (tmp_path / "pickled" / "pytorch_model-00002-of-00003.bin").unlink()
    with pytest.raises(CheckpointError, match=r"lacks 1 of the 3 files .*00002-of-00003\.bin"):
        create_backbone("wav2vec2", tmp_path / "pickled")
    for content in ("{}", "[]", '{"weight_map": {}}', '{"weight_map": {"a": "../../model.safetensors"}}', "{"):
        (tmp_path / "pickled" / "pytorch_model.bin.index.json").write_text(content)
        with pytest.raises(CheckpointError, match=r"Download (it again|these, too)\."):
            create_backbone("wav2vec2", tmp_path / "pickled")


def test_the_fingerprint_covers_config_input_and_every_part(tmp_path):
    def fingerprint(change: Callable[[Path], object], number: list[int] = [0]) -> str:  # noqa: B006  it counts
        number[0] += 1
        path = tmp_path / str(number[0])
        make("wav2vec2-ctc").save_pretrained(path, max_shard_size="60KB")
        Wav2Vec2FeatureExtractor().save_pretrained(path)
        change(path)
        backbone = create_backbone("wav2vec2", path)
        return backbone.fingerprint(backbone.spec)

    def rewrite(name: str, **values: object) -> Callable[[Path], object]:
        return lambda path: (path / name).write_text(json.dumps({**json.loads((path / name).read_text()), **values}))

    def other_weights(part: int) -> Callable[[Path], object]:
        def change(path: Path) -> None:
            file = sorted(path.glob("*.safetensors"))[part]
            save_file({key: value + 1 for key, value in load_file(file).items()}, file, {"format": "pt"})

        return change

    plain = fingerprint(lambda path: None)
    assert plain == fingerprint(rewrite("config.json", transformers_version="4.0")), "who wrote it changes nothing"
    changed = [
        fingerprint(rewrite("config.json", layer_norm_eps=1e-3)),
        fingerprint(rewrite("preprocessor_config.json", do_normalize=False)),
        *(fingerprint(other_weights(part)) for part in (0, 1, -1)),
    ]
    assert len({plain, *changed}) == 6


@pytest.mark.parametrize("n_frames", [1, 2, 99, 100, 1251])
def test_the_squeezed_frames_of_sew_in_chunks(n_frames, tmp_path):
    model = make("sew")
    model.save_pretrained(tmp_path)
    backbone = create_backbone("wav2vec2", tmp_path)
    samples = make_voice(26)[: 400 + (n_frames - 1) * 320]
    _, outputs = encode(backbone, samples)
    samples = np.pad(samples, (0, max(0, 720 - len(samples))))  # less gives transformers nothing to squeeze
    normalised = (samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)
    wanted = wanted_states(model, normalised.astype(np.float32))[0]
    assert outputs["last"].shape == wanted.shape
    if 2 <= n_frames <= 1000:
        assert relative_error(outputs["last"], wanted) < 1e-5
    if n_frames > 1000:
        cosines = (outputs["last"] * wanted).sum(1)[:-1] / np.linalg.norm(outputs["last"][:-1], axis=1)
        assert (cosines / np.linalg.norm(wanted[:-1], axis=1)).min() > 0.99
    with pytest.raises(CheckpointError, match="layers see 2 frames at once"):
        create_backbone("wav2vec2-layer1", tmp_path)


def test_states_that_are_fewer_than_frames_are_an_error(folder):
    backbone = create_backbone("wav2vec2", folder)
    adapted = Wav2Vec2Model(Wav2Vec2Config(**SMALL, add_adapter=True, vocab_size=32))
    backbone.encoder.model.adapter = adapted.adapter.eval()
    with pytest.raises(CheckpointError, match=r"gives 11 states \(last\) for 85 frames"):
        encode(backbone, VOICE)


def test_folders_go_to_the_backbone_of_their_kind(folder, tmp_path, monkeypatch):
    WhisperForConditionalGeneration(WhisperConfig(**WHISPER)).save_pretrained(tmp_path / "w")
    copy_of(folder, tmp_path / "s")
    (tmp_path / "s" / "config.json").write_text('{"model_type": "speecht5", "conv_kernel": [10, 3]}')
    for family, path, words in (
        ("hubert", folder, f"is of the kind wav2vec2, not a hubert. Pass it as --backbone wav2vec2:{folder}."),
        ("wav2vec2", tmp_path / "w", f"Pass it as --backbone whisper:{tmp_path / 'w'}."),
        ("ast", tmp_path / "w", "is of the kind whisper, not an AST."),
        ("whisper", folder, "is of the kind wav2vec2, not a Whisper."),
        (
            "wav2vec2",
            tmp_path / "s",
            "is of the kind speecht5, not a wav2vec 2.0, HuBERT or WavLM for waveforms.",
        ),
    ):
        with pytest.raises(CheckpointError, match=re.escape(words)):
            create_backbone(family, path)
    make("wavlm").save_pretrained(tmp_path / "weights" / "wavlm")
    monkeypatch.setenv("ABAW_WEIGHTS", str(tmp_path / "weights"))
    own = create_backbone("wavlm")
    assert own.spec.options == () and own.spec.shape == (32,) and own.spec.licence.startswith("CC BY-SA")
    assert dict(create_backbone("wav2vec2", tmp_path / "weights" / "wavlm").spec.options) == {"model": "wavlm"}
    Wav2Vec2FeatureExtractor(sampling_rate=8000).save_pretrained(tmp_path / "weights" / "wavlm")
    with pytest.raises(CheckpointError, match="needs sound at 8000 Hz"):
        create_backbone("wavlm")


@pytest.fixture(scope="module")
def whisper(tmp_path_factory) -> tuple[Path, PreTrainedModel, WhisperFeatureExtractor]:
    torch.manual_seed(0)
    model = randomised(WhisperForConditionalGeneration(WhisperConfig(**WHISPER)))
    path = tmp_path_factory.mktemp("hub") / "whisper"
    model.save_pretrained(path, max_shard_size="30KB")
    extractor = WhisperFeatureExtractor(feature_size=20, chunk_length=3)
    extractor.save_pretrained(path)
    return path, model, extractor


def whisper_states(model: PreTrainedModel, extractor: WhisperFeatureExtractor, samples: np.ndarray) -> list[np.ndarray]:
    inputs = extractor(samples, sampling_rate=RATE_HZ, return_tensors="pt").input_features
    with torch.inference_mode():
        return [states[0].numpy() for states in model.model.encoder(inputs, output_hidden_states=True).hidden_states]


@pytest.mark.parametrize("duration_s", [0.0001, 0.33, 1.999, 3.0])
def test_whisper_is_that_of_transformers(duration_s, whisper):
    path, model, extractor = whisper
    samples = make_voice(duration_s)[: round(duration_s * RATE_HZ)]
    backbone = create_backbone(["whisper", "whisper-layer1", "whisper-last2"], path)
    assert "decoder" in backbone.notes[0] and len(backbone.notes) == 1 and backbone.spec.shape == (32,)
    centres_s, outputs = encode(backbone, samples)
    hidden = whisper_states(model, extractor, samples)
    n = -(-len(samples) // 320)
    assert len(centres_s) == n and centres_s.tolist() == pytest.approx([0.02 * i for i in range(n)])
    assert relative_error(outputs["last"], hidden[-1][:n]) < 1e-5
    assert relative_error(outputs["layer1"], hidden[1][:n]) < 1e-5
    assert relative_error(outputs["last2"], (hidden[1][:n] + hidden[2][:n]) / 2) < 1e-5
    found = backbone(backbone.preprocess(torch.from_numpy(samples)))
    assert isinstance(found, dict) and relative_error(found["whisper"].numpy(), hidden[-1]) < 1e-5


@pytest.mark.parametrize("duration_s", [3.02, 5.0, 7.3])
def test_whisper_over_long_sounds(duration_s, whisper):
    path, model, extractor = whisper
    samples = make_voice(duration_s)
    centres_s, outputs = encode(create_backbone("whisper", path), samples)
    n = -(-len(samples) // 320)
    wanted = np.full((n, 32), np.nan, dtype=np.float32)
    for low in range(0, n, 100):  # windows of 150 states that move on by 100; the first 25 of later ones are context
        first = low + (25 if low else 0)
        if first >= n or np.isfinite(wanted[first:]).all():
            break
        states = whisper_states(model, extractor, samples[low * 320 : (low + 150) * 320])[-1]
        wanted[first : low + 150] = states[first - low :][: n - first]
    assert outputs["last"].shape == wanted.shape and (np.diff(centres_s) > 0).all()
    assert relative_error(outputs["last"], wanted) < 1e-5


def test_whisper_at_the_length_of_the_published_ones(tmp_path):
    model = randomised(WhisperForConditionalGeneration(WhisperConfig(**WHISPER | {"max_source_positions": 1500})))
    model.save_pretrained(tmp_path)
    backbone = create_backbone("whisper", tmp_path)
    assert "assumed a spectrogram of 20 bands" in backbone.notes[-1], "its folder says nothing of its input"
    hidden = whisper_states(model, WhisperFeatureExtractor(feature_size=20), VOICE)
    assert relative_error(encode(backbone, VOICE)[1]["last"], hidden[-1][:86]) < 1e-5
    WhisperFeatureExtractor(feature_size=80).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="spectrograms of 20 bands, and an extractor that makes 80"):
        create_backbone("whisper", tmp_path)


@pytest.fixture(scope="module")
def ast_model() -> PreTrainedModel:
    torch.manual_seed(0)
    model = transformers.ASTForAudioClassification(ASTConfig(**AST))
    with torch.no_grad():
        for token in (model.audio_spectrogram_transformer.embeddings.position_embeddings, *model.parameters()):
            token += 0.05 * torch.randn_like(token)
    return model.eval()


def pooled(model: PreTrainedModel, extractor: ASTFeatureExtractor, samples: np.ndarray) -> np.ndarray:
    inputs = extractor(samples, sampling_rate=RATE_HZ, return_tensors="pt").input_values
    with torch.inference_mode():
        return model.audio_spectrogram_transformer(inputs).pooler_output[0].numpy()


@pytest.mark.parametrize("names", ["published", "of today"])
def test_ast_is_that_of_transformers(names, ast_model, tmp_path):
    extractor = ASTFeatureExtractor(max_length=96, num_mel_bins=32, mean=-3.5, std=4.0)
    ast_model.save_pretrained(tmp_path)
    extractor.save_pretrained(tmp_path)
    state = ast_model.state_dict()
    if names == "published":
        state = {published_name(key): value for key, value in state.items()}
        assert "audio_spectrogram_transformer.encoder.layer.1.attention.attention.query.weight" in state
    torch.save(state, tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    backbone = create_backbone("ast-0.25s", tmp_path)
    assert len(backbone.notes) == 1 and "classifier" in backbone.notes[0] and backbone.spec.shape == (32,)
    samples = make_voice(2.5)
    centres_s, outputs = encode(backbone, samples)
    window = 400 + 95 * 160  # 96 steps
    assert centres_s.tolist() == pytest.approx([window / 2 / RATE_HZ + 0.25 * i for i in range(7)])
    for i in range(7):
        wanted = pooled(ast_model, extractor, samples[i * 4000 : i * 4000 + window])
        assert relative_error(outputs["pooled"][i], wanted) < 1e-5
    for n_samples in (400, 401, 7000, window - 1):  # shorter than a window: transformers fills up with zeros
        assert relative_error(encode(backbone, samples[:n_samples])[1]["pooled"][0],
                              pooled(ast_model, extractor, samples[:n_samples])) < 1e-5  # fmt: skip
    assert np.isfinite(encode(backbone, samples[:3])[1]["pooled"]).all()


def published_name(key: str) -> str:
    """As the published files call a tensor of AST."""
    for letter, word in (("q", "query"), ("k", "key"), ("v", "value")):
        key = key.replace(f".{letter}_proj.", f".attention.{word}.")
    for new, old in ((".layers.", ".encoder.layer."), (".attention.o_proj.", ".attention.output.dense."),
                     (".mlp.fc1.", ".intermediate.dense."), (".mlp.fc2.", ".output.dense.")):  # fmt: skip
        key = key.replace(new, old)
    return key


def test_ast_input_that_is_not_normalised_or_does_not_fit(ast_model, tmp_path):
    ast_model.save_pretrained(tmp_path)
    samples = make_voice(0.965)
    assumed = create_backbone("ast", tmp_path)
    assert "standard deviation of AudioSet" in assumed.notes[-1]
    theirs = ASTFeatureExtractor(max_length=96, num_mel_bins=32)
    assert relative_error(encode(assumed, samples)[1]["pooled"][0], pooled(ast_model, theirs, samples)) < 1e-5
    bare = ASTFeatureExtractor(max_length=96, num_mel_bins=32, do_normalize=False)
    bare.save_pretrained(tmp_path)
    backbone = create_backbone("ast", tmp_path)
    assert relative_error(encode(backbone, samples)[1]["pooled"][0], pooled(ast_model, bare, samples)) < 1e-5
    assert backbone.fingerprint(backbone.spec) != assumed.fingerprint(assumed.spec)
    ASTFeatureExtractor(max_length=128, num_mel_bins=32).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="for max_length 96, and an extractor for 128"):
        create_backbone("ast", tmp_path)
