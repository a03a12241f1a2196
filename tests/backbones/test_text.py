"""Text backbones: rows and vectors against transformers itself, folders that are refused, and timing by hand."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    AutoModel,
    AutoTokenizer,
    BertConfig,
    BertModel,
    BertTokenizer,
    T5Config,
)

from abaw.backbones.backbone import create_backbone
from abaw.backbones.registry import get_spec, list_specs
from abaw.backbones.text.transcript_encoder import EncodedRows, spoken_at
from abaw.core.errors import CheckpointError, DataError, UsageError
from abaw.media.frame_times import NS
from abaw.media.transcript_files import Chunk, Transcript
from abaw.tests.support.text_models import LENGTH, TEXTS, save_roberta

TRANSCRIPT = Transcript(
    tuple(Chunk(text, start, start + 1.5) for text, start in zip(TEXTS, (0.4, 2.5, 4.0), strict=True))
)
EDGES = np.arange(13, dtype=np.int64) * NS // 2  # rows of half a second


def save_bert(folder: Path) -> Path:
    """A BERT with a pooler and a vocabulary of words, its weights as a pickle with old names."""
    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *[
            "well",
            ",",
            ".",
            "i",
            "do",
            "not",
            "know",
            "yes",
            "would",
            "like",
            "to",
            "but",
            "one",
            "part",
            "of",
            "me",
            "it",
        ],
    ]
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(words))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "BertTokenizer", "do_lower_case": True})
    )
    torch.manual_seed(0)
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    model = BertModel(BertConfig(vocab_size=len(words), max_position_embeddings=LENGTH, **size))
    model.config.save_pretrained(folder)
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    state = {}
    for key, value in model.state_dict().items():
        for new, name in old.items():
            key = key.replace(new, name)
        state[f"bert.{key}"] = torch.randn_like(value) / 4 if value.is_floating_point() else value
    torch.save({**state, "cls.predictions.bias": torch.zeros(4)}, folder / "pytorch_model.bin")
    return folder


@pytest.fixture(scope="module")
def roberta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_roberta(tmp_path_factory.mktemp("text") / "roberta")


def by_transformers(folder: Path, text: str) -> dict[str, np.ndarray]:
    """The vectors of a text by transformers alone, windows cut by hand."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
    n = LENGTH - 2
    windows = [[tokenizer.cls_token_id, *tokens[i : i + n], tokenizer.sep_token_id] for i in range(0, len(tokens), n)]
    found: dict[str, list[torch.Tensor]] = {"mean": [], "cls": [], "layer1": [], "last2": []}
    for window in windows:
        with torch.no_grad():
            result = model(input_ids=torch.tensor([window]), output_hidden_states=True)
        hidden = result.hidden_states
        found["mean"].append(result.last_hidden_state[0].mean(0))
        found["cls"].append(result.last_hidden_state[0, 0])
        found["layer1"].append(hidden[1][0].mean(0))
        found["last2"].append(((hidden[-1] + hidden[-2]) / 2)[0].mean(0))
    weights = torch.tensor([len(window) for window in windows]) / sum(map(len, windows))
    return {name: (torch.stack(parts) * weights[:, None]).sum(0).numpy() for name, parts in found.items()}


def encode(backbone, transcript: Transcript = TRANSCRIPT) -> EncodedRows:
    return backbone.transcript_encoder.encode(transcript, EDGES)


def test_rows_hold_what_transformers_gives_for_the_text_spoken_there(roberta: Path) -> None:
    backbone = create_backbone(["text", "text-cls", "text-layer1", "text-last2"], roberta)
    found = encode(backbone)
    # .4 to 1.9, 2.5 to 4 and 4 to 5.5 in rows of half a second: row 4 is silent, and so is the last
    spoken = [0, 0, 0, 0, None, 1, 1, 1, 2, 2, 2, None]
    assert found.rows.tolist() == [row for row, text in enumerate(spoken) if text is not None]
    wanted = [by_transformers(roberta, text) for text in TEXTS]
    for spec in backbone.specs:
        assert spec.shape == (16,) and spec.modality == "text"
        rows = np.stack([wanted[spoken[row]][spec.output] for row in found.rows])
        np.testing.assert_allclose(found.values[spec.output], rows, atol=2e-6)
    assert found.notes == ("a text is longer than the network takes, and was encoded in windows and averaged",)
    assert backbone.notes[0].startswith("Dropped lm_head.bias, ")
    assert not encode(backbone, Transcript(TRANSCRIPT.chunks[:2])).notes


def test_whole_transcript_and_other_folders(roberta: Path, tmp_path: Path) -> None:
    found = encode(create_backbone("text-full", roberta))
    assert found.rows.tolist() == list(range(12))
    np.testing.assert_allclose(
        found.values["mean"], np.tile(by_transformers(roberta, " ".join(TEXTS))["mean"], (12, 1)), atol=2e-6
    )
    bert = save_bert(tmp_path / "bert")
    backbone = create_backbone("text-cls", bert)
    np.testing.assert_allclose(encode(backbone).values["cls"][0], by_transformers(bert, TEXTS[0])["cls"], atol=2e-6)
    assert backbone.spec.option("model", "") == "bert" and backbone.notes == (
        f"Dropped cls.predictions.bias of {bert}/pytorch_model.bin.",
    )
    assert BertTokenizer.from_pretrained(bert)("yes")["input_ids"] == [2, 12, 3]


def test_fingerprint_depends_on_weights_and_tokenizer_and_not_on_the_place(roberta: Path, tmp_path: Path) -> None:
    def fingerprint(name: str, folder: Path) -> str:
        backbone = create_backbone(name, folder)
        return backbone.fingerprint(backbone.spec)

    copy = Path(shutil.copytree(roberta, tmp_path / "copy"))
    assert fingerprint("text", copy) == fingerprint("text", roberta)
    assert len({fingerprint(name, roberta) for name in ("text", "text-full", "text-cls", "text-layer1")}) == 4
    before = fingerprint("text", copy)
    tokens = json.loads((copy / "tokenizer.json").read_text())
    tokens["normalizer"] = {"type": "Lowercase"}
    (copy / "tokenizer.json").write_text(json.dumps(tokens))
    assert fingerprint("text", copy) != before


def test_folders_that_are_refused(roberta: Path, tmp_path: Path) -> None:
    def refusal(folder: Path, name: str = "text") -> str:
        with pytest.raises(CheckpointError) as raised:
            create_backbone(name, folder)
        return str(raised.value)

    def copy_with(name: str, **config: object) -> Path:
        folder = Path(shutil.copytree(roberta, tmp_path / name))
        (folder / "config.json").write_text(json.dumps(json.loads((folder / "config.json").read_text()) | config))
        return folder

    assert "has no config.json; backbone text takes the folder of a model" in refusal(tmp_path)
    assert "does not exist" in refusal(tmp_path / "nowhere")
    assert "Pass it as --backbone wav2vec2:" in refusal(copy_with("sound", model_type="wav2vec2"))
    T5Config(vocab_size=20).save_pretrained(tmp_path / "t5")
    shutil.copy(roberta / "model.safetensors", tmp_path / "t5")
    assert "an encoder with a decoder" in refusal(tmp_path / "t5")
    assert "does not fit text: " in refusal(copy_with("wide", hidden_size=32))
    assert "has 3 layers: use layer0 to layer3, not layer7" in refusal(roberta, "text-layer7")
    small = copy_with("small", vocab_size=100)
    assert "does not fit text" in refusal(small)
    no_tokens = copy_with("no-tokens")
    for file in no_tokens.glob("tokenizer*"):
        file.unlink()
    assert "has no tokenizer: neither tokenizer.json nor another of" in refusal(no_tokens)
    (no_tokens / "tokenizer.json").write_text("{}")
    assert "The tokenizer in" in refusal(no_tokens)
    many = copy_with("many")
    tokenizer = AutoTokenizer.from_pretrained(roberta)
    tokenizer.add_tokens(["another", "token", *map(str, range(100, 130))])
    tokenizer.save_pretrained(many)
    assert "tokens and a network of 280: they do not belong together" in refusal(many)
    # a tokenizer with code of its own is not run
    config = json.loads((many / "tokenizer_config.json").read_text()) | {
        "auto_map": {"AutoTokenizer": ["evil.Tokenizer", None]},
        "tokenizer_class": "Evil",
    }
    (many / "tokenizer_config.json").write_text(json.dumps(config))
    (many / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    refusal(many)
    assert not (tmp_path / "ran").exists()


def test_the_chunk_that_shares_the_longest_time_with_a_row() -> None:
    edges = np.arange(6, dtype=np.int64) * NS
    chunks = (
        Chunk("a", 0.2, 1.3),
        Chunk("b", 1.1, 1.9),
        Chunk("c", 1.2, 2.0),
        Chunk("d", 3.0, 3.0),
        Chunk("e", 4.5, 9e5),
    )
    assert spoken_at(chunks, edges).tolist() == [0, 1, -1, -1, 4]  # b and c share .8 s with row 1: the first
    with pytest.raises(DataError, match="more than 100 chunks"):
        spoken_at((Chunk("x", 0, 5),) * 250, edges)


# speech-timing

SPOKEN = Transcript(
    (Chunk("one, two three-and 4", 1, 3), Chunk("it's so.", 3.1, 4.1), Chunk("你好", 5, 6), Chunk("oh", 8, 9))
)
BY_HAND = {  # 10 s with 4 + 2 + 2 + 1 words; runs from 1 to 4.1, 5 to 6, 8 to 9; pauses of .9 and 2 s
    **{"speech_share": 0.5, "speech_s": 5, "words_per_s": 0.9, "words_per_speech_s": 1.8, "runs_per_min": 18},
    **{"run_mean_s": 5.1 / 3, "run_max_s": 3.1, "words_per_run": 3, "pauses_per_min": 12, "long_pauses_per_min": 6},
    **{"pause_share": 0.29, "pause_mean_s": 1.45, "pause_max_s": 2, "pause_std_s": 0.55, "lead_s": 1, "tail_s": 1},
}
IN_WINDOW = {  # from 2.5 to 6.5: a quarter of the first chunk, one word of it
    **{"speech_share": 0.625, "speech_s": 2.5, "words_per_s": 1.25, "words_per_speech_s": 2, "runs_per_min": 30},
    **{"run_mean_s": 1.3, "run_max_s": 1.6, "words_per_run": 2.5, "pauses_per_min": 15, "long_pauses_per_min": 0},
    **{"pause_share": 0.225, "pause_mean_s": 0.9, "pause_max_s": 0.9, "pause_std_s": 0, "lead_s": 0, "tail_s": 0.5},
}


def test_timing_by_hand() -> None:
    edges, whole = np.arange(11, dtype=np.int64) * NS, create_backbone("speech-timing")
    assert whole.spec.classes == tuple(BY_HAND) and len(BY_HAND) == 16 and whole.spec.dtype == "float32"
    found = whole.transcript_encoder.encode(SPOKEN, edges)
    assert found.rows.tolist() == list(range(10))
    np.testing.assert_allclose(found.values["timing"], np.tile(list(BY_HAND.values()), (10, 1)), rtol=1e-5)
    window = create_backbone("speech-timing-4s").transcript_encoder.encode(SPOKEN, edges)
    np.testing.assert_allclose(window.values["timing"][4], list(IN_WINDOW.values()), rtol=1e-5, atol=1e-6)
    silent = create_backbone("speech-timing-1s").transcript_encoder.encode(SPOKEN, edges).values["timing"]
    assert silent[[0, 6, 7, 9]].tolist() == [[0] * 14 + [1, 1]] * 4
    # the times of words, where there are any, take the place of those of chunks; overlaps count once
    words = Transcript((Chunk("x y z", 0, 9),), (Chunk("x", 1, 3), Chunk("y", 1.5, 2), Chunk("z", 3.125, 4)))
    values = dict(zip(BY_HAND, whole.transcript_encoder.encode(words, edges).values["timing"][0].tolist(), strict=True))
    assert (values["speech_s"], values["run_max_s"], values["words_per_run"], values["tail_s"]) == (2.875, 3, 3, 6)
    untimed = whole.transcript_encoder.encode(Transcript((Chunk("x", 0, np.inf),)), edges)
    assert len(untimed.rows) == 0 and untimed.notes == ("its transcript has no times",)


# names


def test_names() -> None:
    text = {
        spec.name: (spec.output, spec.shape, spec.dtype, spec.weights)
        for spec in list_specs()
        if spec.modality == "text"
    }
    assert text == {"text": ("mean", (768,), "float16", "file"), "speech-timing": ("timing", (16,), "float32", "none")}
    assert get_spec("text-last4-full").options == (("rows", "full"),) and get_spec("text-last4-full").output == "last4"
    assert get_spec("speech-timing-2.5s").option("window_s", 0) == 2.5
    with torch.device("meta"):
        backbone = create_backbone("text", untrained=True, device="meta")
    assert sum(parameter.numel() for parameter in backbone.transcript_encoder.parameters()) == backbone.spec.parameters
    for name, words in (
        ("text-last1", "text-last4"),
        ("text-layer99", "no network has"),
        ("speech-timing-0.1s", "from 1 to 600 s"),
    ):
        with pytest.raises(UsageError, match=words):
            get_spec(name)
