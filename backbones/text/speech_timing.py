"""How people speak rather than what they say: 16 numbers from the times of a transcript, see `timing_names`."""

import re
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from abaw.backbones.text.timing_names import LONG_PAUSE_S, PAUSE_S, TIMING_NUMBERS
from abaw.backbones.text.transcript_encoder import EncodedRows, TranscriptEncoder
from abaw.media.frame_times import NS, Nanoseconds
from abaw.media.transcript_files import Chunk, Transcript

# a run of letters and digits with ' or - inside; each character of scripts without spaces between words
WORD = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]|(?:(?![\u3040-\u30ff\u3400-\u9fff])\w)+(?:['’-]\w+)*")
MINUTE_S = 60.0
EPSILON_S = 1e-6  # by which computed lengths may fall short of a limit


class SpeechTiming(TranscriptEncoder):
    """Numbers of a transcript by the times of its words, or where it has none by those of its chunks.

    The words of a chunk count as spread evenly over it. A transcript without times has no rows.

    Args:
        window_s: seconds around the middle of each row that its numbers are about, cut at the ends of the video; 0 for
            the whole video, whose numbers all rows share.
    """

    def __init__(self, window_s: float = 0.0) -> None:
        super().__init__()
        self.window_s = window_s

    def forward(self, spans: Tensor) -> dict[str, Tensor]:
        """The numbers (1, 16) of speech (n, 3) from, to, number of words, in the first row the time that they are about."""
        table = spans.double().cpu().numpy()
        start_s, end_s = table[0, :2]
        speech = Speech(table[1:, 0], table[1:, 1], table[1:, 2])
        return {"timing": torch.from_numpy(speech.numbers(start_s, end_s))[None]}

    def encode(self, transcript: Transcript, edges_ns: Nanoseconds) -> EncodedRows:
        """The numbers of each row."""
        n_rows, end_s = len(edges_ns) - 1, float(edges_ns[-1] / NS)
        if not transcript.is_timed:
            none = np.zeros((0, len(TIMING_NUMBERS)), dtype=np.float32)
            return EncodedRows(np.zeros(0, dtype=np.int64), {"timing": none}, ("its transcript has no times",))
        speech = Speech.of(transcript.words or transcript.chunks, end_s)
        if not self.window_s:
            values = np.tile(speech.numbers(0.0, end_s), (n_rows, 1))
        else:
            middles_s = (edges_ns[:-1] + np.diff(edges_ns) // 2) / NS
            half_s = self.window_s / 2
            values = np.stack(
                [speech.numbers(max(0.0, middle - half_s), min(end_s, middle + half_s)) for middle in middles_s]
            )
        return EncodedRows(np.arange(n_rows), {"timing": values})


@dataclass(frozen=True)
class Speech:
    """When there is speech.

    Attributes:
        starts, ends: (n,) seconds, by start.
        words: (n,) number of words from start to end.
    """

    starts: NDArray[np.float64]
    ends: NDArray[np.float64]
    words: NDArray[np.float64]

    @classmethod
    def of(cls, chunks: tuple[Chunk, ...], end_s: float) -> "Speech":
        """The speech of words or chunks; those without an end last to the end of the video."""
        spans = np.array([(chunk.start_s, min(chunk.end_s, max(end_s, chunk.start_s))) for chunk in chunks])
        words = np.array([len(WORD.findall(chunk.text)) for chunk in chunks], dtype=np.float64)
        starts, ends = spans.reshape(-1, 2).T
        return cls(starts, ends, words)

    def numbers(self, start_s: float, end_s: float) -> NDArray[np.float32]:
        """(16,) numbers of the time from `start_s` to `end_s`, which is not empty, in the order of `TIMING_NUMBERS`.

        Without speech all are 0, but `lead_s` and `tail_s`, which are the whole time.
        """
        total_s = end_s - start_s
        lasts = self.ends - self.starts
        starts, ends = self.starts.clip(start_s, end_s), self.ends.clip(start_s, end_s)
        is_inside = ends > starts
        if not is_inside.any():
            silent = dict.fromkeys(TIMING_NUMBERS, 0.0) | {"lead_s": total_s, "tail_s": total_s}
            return np.array(list(silent.values()), dtype=np.float32)
        starts, ends, lasts = starts[is_inside], ends[is_inside], lasts[is_inside]
        n_words = float((self.words[is_inside] * (ends - starts) / lasts).sum())
        until = np.maximum.accumulate(ends)  # speakers may overlap
        gaps = (starts[1:] - until[:-1]).clip(min=0)
        pauses = gaps[gaps >= PAUSE_S - EPSILON_S]
        is_first = np.append(True, gaps >= PAUSE_S - EPSILON_S)
        runs = until[np.append(np.flatnonzero(is_first)[1:] - 1, len(until) - 1)] - starts[is_first]
        speech_s = float(until[-1] - starts[0] - gaps.sum())
        minutes = total_s / MINUTE_S
        values = {
            "speech_share": speech_s / total_s,
            "speech_s": speech_s,
            "words_per_s": n_words / total_s,
            "words_per_speech_s": n_words / speech_s,
            "runs_per_min": len(runs) / minutes,
            "run_mean_s": runs.mean(),
            "run_max_s": runs.max(),
            "words_per_run": n_words / len(runs),
            "pauses_per_min": len(pauses) / minutes,
            "long_pauses_per_min": (pauses >= LONG_PAUSE_S - EPSILON_S).sum() / minutes,
            "pause_share": pauses.sum() / total_s,
            "pause_mean_s": pauses.mean() if len(pauses) else 0.0,
            "pause_max_s": pauses.max(initial=0.0),
            "pause_std_s": pauses.std() if len(pauses) else 0.0,
            "lead_s": starts[0] - start_s,
            "tail_s": end_s - until[-1],
        }
        return np.array([values[name] for name in TIMING_NUMBERS], dtype=np.float32)
