"""Encoders of text of Hugging Face's transformers, such as BERT, RoBERTa, DeBERTa, e5 and GTE, over transcripts.

Each chunk of a transcript is encoded by itself, and its rows get its vector. A text of more tokens than the network
takes is cut into windows, whose vectors are averaged by their numbers of tokens. Texts are never padded.
"""

import os
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")

from transformers import BertConfig, PretrainedConfig
from transformers.models.auto.modeling_auto import AutoModel

from abaw.backbones.hidden_states import LAST, choose_states
from abaw.backbones.text.transcript_encoder import EncodedRows, TranscriptEncoder, spoken_at
from abaw.media.frame_times import Nanoseconds
from abaw.media.transcript_files import Transcript

MEAN, CLS = "mean", "cls"  # of the last states: over all tokens, or that of the first token
CUT = "a text is longer than the network takes, and was encoded in windows and averaged"
MOST_TOKENS = 512  # in a window: memory grows with the square
BATCH_SIZES = {"cuda": 64, "cpu": 8}
# gives the tokens of a text, in windows with special tokens
Windows = Callable[[str], list[list[int]]]
N_BYTES, FIRST, SEPARATOR = 256, 256, 257  # tokens of `byte_windows`


class TextEncoder(TranscriptEncoder):
    """Hidden states of a transformer, averaged over the tokens of a text.

    Args:
        outputs: "mean" and "cls" (the first token) of the last states; "layer0" (what goes into the first layer) to
            "layerN" and "last4" (the mean of the last four), averaged over all tokens, special ones included.
        config: of the network.
        windows: see `Windows`.
        is_full: the rows get the vector of the whole transcript, not of what is said at their time.
    """

    def __init__(
        self, outputs: Sequence[str], config: PretrainedConfig, windows: Windows, is_full: bool = False
    ) -> None:
        super().__init__()
        self.outputs, self.windows, self.is_full = tuple(outputs), windows, is_full
        self.model: Any = AutoModel.from_config(config, trust_remote_code=False)
        if isinstance(getattr(self.model, "pooler", None), torch.nn.Module):
            self.model.pooler = None  # a head, which many checkpoints do not have
        self.n_layers = int(config.num_hidden_layers)

    def forward(self, tokens: Tensor) -> dict[str, Tensor]:
        """Vectors (n, width) of tokens (n, length) int64, by output."""
        states_of = {name: LAST if name in (MEAN, CLS) else name for name in self.outputs}
        needs_hidden = any(name != LAST for name in states_of.values())
        result = self.model(input_ids=tokens, attention_mask=torch.ones_like(tokens), output_hidden_states=needs_hidden)
        hidden = result.hidden_states if needs_hidden else None
        states = choose_states(tuple(states_of.values()), result.last_hidden_state, hidden)
        return {
            name: states[source][:, 0] if name == CLS else states[source].mean(dim=1)
            for name, source in states_of.items()
        }

    def encode(self, transcript: Transcript, edges_ns: Nanoseconds) -> EncodedRows:
        """The vector of what is said at each row; rows in silence have none."""
        if self.is_full:
            spoken, texts = np.zeros(len(edges_ns) - 1, dtype=np.int64), [transcript.text]
        else:
            spoken, texts = spoken_at(transcript.chunks, edges_ns), [chunk.text for chunk in transcript.chunks]
        rows = np.flatnonzero(spoken >= 0)
        numbers, positions = np.unique(spoken[rows], return_inverse=True)
        vectors, n_cut = self.encode_texts([texts[number] for number in numbers])
        values = {name: of_texts[positions] for name, of_texts in vectors.items()}
        return EncodedRows(rows, values, (CUT,) if n_cut else ())

    def encode_texts(self, texts: Sequence[str]) -> tuple[dict[str, NDArray[np.float32]], int]:
        """Vectors (texts, width) by output, and the number of texts that were cut into windows."""
        windows = [(number, tokens) for number, text in enumerate(texts) for tokens in self.windows(text)]
        device = next(self.model.parameters()).device
        width = int(self.model.config.hidden_size)
        sums = {name: np.zeros((len(texts), width), dtype=np.float64) for name in self.outputs}
        n_tokens, n_windows = np.zeros(len(texts)), np.zeros(len(texts), dtype=np.int64)
        for batch in _batches(windows, BATCH_SIZES.get(device.type, BATCH_SIZES["cpu"])):
            with torch.inference_mode():
                outputs = self(torch.tensor([tokens for _, tokens in batch], device=device))
            for name, vectors in outputs.items():
                for (number, tokens), vector in zip(
                    batch, vectors.float().cpu().numpy().astype(np.float64), strict=True
                ):
                    sums[name][number] += vector * len(tokens)
            for number, tokens in batch:
                n_tokens[number] += len(tokens)
                n_windows[number] += 1
        means = {name: (total / n_tokens[:, None]).astype(np.float32) for name, total in sums.items()}
        return means, int((n_windows > 1).sum())


def _batches(windows: Sequence[tuple[int, list[int]]], size: int) -> list[list[tuple[int, list[int]]]]:
    """Windows of equal length together: padding would change the last digits."""
    by_length = sorted(windows, key=lambda window: len(window[1]))
    groups = [list(group) for _, group in groupby(by_length, key=lambda window: len(window[1]))]
    return [group[start : start + size] for group in groups for start in range(0, len(group), size)]


def untrained_config() -> PretrainedConfig:
    """BERT base over bytes, for random weights: a vocabulary comes with weights alone."""
    return BertConfig(vocab_size=N_BYTES + 2, type_vocab_size=1, max_position_embeddings=MOST_TOKENS)


def byte_windows(text: str) -> list[list[int]]:
    """The bytes of a text in UTF-8 as tokens."""
    tokens, length = list(text.encode()), MOST_TOKENS - 2
    return [[FIRST, *tokens[start : start + length], SEPARATOR] for start in range(0, len(tokens), length)]
