"""The interface of encoders of transcripts: what is said, and when the rows are shown, in; features of rows out."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from abaw.core.errors import DataError
from abaw.media.frame_times import NS, Nanoseconds
from abaw.media.transcript_files import Chunk, Transcript

MOST_AT_ONCE = 100  # chunks that may be spoken at the same time, on average


@dataclass(frozen=True)
class EncodedRows:
    """Features of the rows of a video that have some.

    Attributes:
        rows: (n,) int64, ascending.
        values: by output, (n, *shape) float32.
        notes: sentences about the transcript.
    """

    rows: NDArray[np.int64]
    values: dict[str, NDArray[np.float32]]
    notes: tuple[str, ...] = ()


class TranscriptEncoder(nn.Module):
    """A network, or a set of numbers, over what is said in a video.

    Attributes:
        float32_only: always True; a video has few texts.
    """

    float32_only = True

    def encode(self, transcript: Transcript, edges_ns: Nanoseconds) -> EncodedRows:
        """Features of the rows of a video.

        Args:
            transcript: with at least one chunk.
            edges_ns: (rows + 1,) borders of the rows, the first at 0.

        Raises:
            DataError: its times make no sense.
        """
        raise NotImplementedError


def spoken_at(chunks: tuple[Chunk, ...], edges_ns: Nanoseconds) -> NDArray[np.int64]:
    """(rows,) number of the chunk that is spoken while each row is shown; -1 in silence.

    Of several, it is the one that is spoken for the longest time while the row is shown, and of equals the first.

    Raises:
        DataError: far too many are spoken at once.
    """
    spans = np.array([[chunk.start_s, min(chunk.end_s, edges_ns[-1] / NS)] for chunk in chunks]).reshape(-1, 2)
    starts, ends = np.rint(spans.T * NS).astype(np.int64)
    first = np.searchsorted(edges_ns[1:], starts, side="right")
    last = np.maximum(np.searchsorted(edges_ns[:-1], ends, side="left"), first)
    n_rows = len(edges_ns) - 1
    if (last - first).sum() > MOST_AT_ONCE * n_rows + 2 * len(chunks):
        raise DataError(f"more than {MOST_AT_ONCE} chunks of its transcript are spoken at once. Transcribe it again.")
    spoken, longest = np.full(n_rows, -1, dtype=np.int64), np.zeros(n_rows, dtype=np.int64)
    for number, (start, end, low, high) in enumerate(zip(starts, ends, first, last, strict=True)):
        rows = slice(low, high)
        shared = np.minimum(edges_ns[low + 1 : high + 1], end) - np.maximum(edges_ns[low:high], start)
        is_longer = shared > longest[rows]
        longest[rows] = np.where(is_longer, shared, longest[rows])
        spoken[rows] = np.where(is_longer, number, spoken[rows])
    return spoken
