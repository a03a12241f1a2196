"""Aligning sound with its timestamps.

Sound drifts away from the pictures if a sound card delivers more or fewer samples than its nominal rate, if packets
are lost, or if stamps jump. The lasting part of the difference between stamps and counted samples is removed: a
stretch is moved, or made slightly longer or shorter. The rest is jitter of the stamps and changes nothing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from abaw.media.waveform import RATE_HZ, Waveform

GAP_S = 0.1  # between two frames: a hole or a jump, whose edge is kept
TOLERANCE_S = 0.02  # smaller differences are not corrected
ROUGHEST_S = 0.04  # the same, where stamps have much jitter
RESTART_S = 1.0  # stamps that go back by more restart: another recording was appended
MOST_SLOPE = 0.05  # no clock is that wrong: a steeper change is a jump
STEP_S, CLEAN_S = 0.015, 0.005  # lost packets are visible if jitter is at most `CLEAN_S`
HELD_S = 2.0  # the stamps on either side that decide whether a jump is real
BLOCK_S, BLOCK_FRAMES, FEW_FRAMES = 1.0, 25, 5  # for medians
CHUNK = 10 * RATE_HZ  # samples at a time
N_TAPS, N_PHASES = 32, 4096  # of the filter that reads between samples

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Piece:
    """A stretch of the decoded samples, and where it belongs.

    Attributes:
        sources: (points,) ascending, positions in the decoded sound.
        targets: (points,) where they belong. Between two points the sound is stretched or squeezed evenly.
    """

    sources: Floats
    targets: Floats

    @classmethod
    def moved(cls, first: float, stop: float, by: float) -> "Piece":
        """A stretch that is moved but not stretched."""
        sources = np.array([first, stop])
        return cls(sources, sources + round(by))

    @property
    def is_even(self) -> bool:
        """True if it is moved but not stretched."""
        return len(self.sources) == 2 and float(np.ptp(self.targets - self.sources)) == 0.0

    @property
    def change(self) -> float:
        """Samples by which it is made longer or shorter."""
        return float(np.ptp(self.targets - self.sources))


@dataclass(frozen=True)
class PacePlan:
    """Where the stretches of a sound belong.

    Attributes:
        pieces: in order; their targets count from the first timestamp.
        restarts: times, in seconds of decoded sound, at which the stamps go back and restart.
    """

    pieces: list[Piece]
    restarts: list[float]

    @property
    def is_needed(self) -> bool:
        """False if the sound needs no correction."""
        return not (len(self.pieces) == 1 and self.pieces[0].is_even and self.pieces[0].targets[0] == 0)

    @property
    def change_s(self) -> float:
        """Total seconds that are stretched, squeezed or left out; added silence does not count."""
        ends = [piece.targets[-1] for piece in self.pieces[:-1]]
        overlaps = [max(0.0, end - piece.targets[0]) for end, piece in zip(ends, self.pieces[1:], strict=True)]
        return float(sum(piece.change for piece in self.pieces) + sum(overlaps)) / RATE_HZ


def plan(positions: Floats, stamps: Floats, n_samples: int, is_counted: bool = False) -> PacePlan:
    """Find where the stretches of a decoded sound belong by its timestamps.

    Args:
        positions: (frames,) where the frames with a stamp begin in the decoded sound, in samples.
        stamps: (frames,) their timestamps, in samples.
        n_samples: length of the decoded sound.
        is_counted: the container has no timestamps. They are computed from byte counts at its stated rate, which may
            differ from the rate of the samples, and they wander if bytes are not spread evenly.
    """
    lateness = stamps - stamps[0] - (positions - positions[0])
    if np.abs(lateness).max() <= TOLERANCE_S * RATE_HZ:
        return PacePlan([Piece.moved(0, n_samples, 0)], [])
    cuts, lateness, restarts = _jumps(positions, lateness)
    pieces: list[Piece] = []
    for first, stop in zip([0, *cuts], [*cuts, len(positions)], strict=True):
        begin = round(positions[first]) if first else 0
        end = round(positions[stop]) if stop < len(positions) else n_samples
        pieces += _pieces(positions[first:stop], lateness[first:stop], begin, end, is_counted)
    return PacePlan(pieces, [positions[number] / RATE_HZ for number in restarts])


def rebuild(decoded: Waveform, pieces: Sequence[Piece]) -> Waveform:
    """The sound with its stretches where they belong: silence in gaps, and the earlier stretch where two overlap."""
    built = Waveform()
    for piece in pieces:
        first, stop = round(piece.targets[0]), round(piece.targets[-1])
        while len(built) < min(first, stop):
            built.append(np.zeros(min(first - len(built), CHUNK), dtype=np.float32))
        for samples in _read(decoded, piece, max(first, len(built)), stop):
            built.append(samples)
    return built


def _jumps(positions: Floats, lateness: Floats) -> tuple[list[int], Floats, list[int]]:
    """Frames at which stamps jump for good, the lateness without restarts, and the frames of the restarts."""
    lateness = lateness.copy()
    cuts: list[int] = []
    restarts: list[int] = []
    first = 0
    for number in (np.flatnonzero(np.abs(np.diff(lateness)) > GAP_S * RATE_HZ) + 1).tolist():
        nearby = np.searchsorted(positions, positions[number] + np.array([-HELD_S, HELD_S]) * RATE_HZ)
        before = float(np.median(lateness[min(max(first, nearby[0]), number - 1) : number]))
        following = lateness[number : max(nearby[1], number + 1)]
        jump = float(np.median(following)) - before
        # sound that catches up was only delayed, and wrong stamps are soon right again
        if abs(jump) <= GAP_S * RATE_HZ or (jump < 0 and len(following) < FEW_FRAMES):
            continue
        if jump >= -RESTART_S * RATE_HZ:
            cuts.append(number)
            first = number
        elif number - first < FEW_FRAMES:  # wrong stamps at the start
            lateness[first:number] += jump
        else:
            lateness[number:] -= jump
            restarts.append(number)
    return cuts, lateness, restarts


def _pieces(positions: Floats, lateness: Floats, begin: int, end: int, is_counted: bool) -> list[Piece]:
    """Pieces from `begin` to `end` for frames whose stamps do not jump far."""
    edges, middles, levels = _blocks(positions, lateness)
    apart = np.abs(lateness - np.interp(positions, middles, levels))
    # with much jitter the first stamp is no worse than others
    tolerance = float(np.clip(1.25 * np.percentile(apart, 90), TOLERANCE_S * RATE_HZ, GAP_S / 2 * RATE_HZ))
    if np.abs(levels - lateness[0]).max() <= tolerance:
        return [Piece.moved(begin, end, lateness[0])]
    if is_counted and not _is_straight(positions, lateness):
        return [Piece.moved(begin, end, lateness[0])]
    firm, rough = _firm(positions, lateness, falls=levels[-1] < levels[0])
    is_steep = np.abs(np.diff(levels)) > MOST_SLOPE * np.diff(middles)
    is_stepped = np.append(is_steep, False) | np.insert(is_steep, 0, False)
    if rough <= CLEAN_S * RATE_HZ:  # then each lost packet is visible
        is_step = np.abs(np.diff(firm)) >= np.maximum(STEP_S * RATE_HZ, MOST_SLOPE * np.diff(positions))
        is_stepped |= np.array([is_step[max(0, first - 1) : stop - 1].any() for first, stop in pairwise(edges)])
    borders = [0, *(np.flatnonzero(np.diff(is_stepped)) + 1).tolist(), len(levels)]
    pieces: list[Piece] = []
    for first, stop in pairwise(borders):
        until = round(positions[edges[stop]]) if stop < len(levels) else end
        if is_stepped[first]:
            frames = slice(edges[first], edges[stop])
            pieces += _steps(positions[frames], firm[frames], max(TOLERANCE_S * RATE_HZ, 3 * rough), begin, until)
        else:
            pieces.append(_slope(middles[first:stop], levels[first:stop], float(np.median(apart)), begin, until))
        begin = until
    return pieces


def _slope(middles: Floats, levels: Floats, rough: float, begin: int, end: int) -> Piece:
    """A piece that is stretched or squeezed slightly."""
    tolerance = min(max(TOLERANCE_S * RATE_HZ, 9 * rough / BLOCK_FRAMES**0.5), ROUGHEST_S * RATE_HZ)
    if len(levels) == 1 or np.ptp(levels) <= tolerance:
        return Piece.moved(begin, end, float(np.median(levels)))
    slopes = np.diff(levels) / np.diff(middles)
    outer = levels[0] + slopes[0] * (begin - middles[0]), levels[-1] + slopes[-1] * (end - middles[-1])
    sources = np.array([begin, *middles, end])
    return Piece(sources, sources + np.array([outer[0], *levels, outer[1]]))


def _steps(positions: Floats, levels: Floats, tolerance: float, begin: int, end: int) -> list[Piece]:
    """Pieces that are each moved to their stamps."""
    pieces: list[Piece] = []
    level = float(levels[0])
    for number in range(1, len(levels)):
        if abs(levels[number] - level) >= tolerance:
            cut = round(positions[number])
            pieces.append(Piece.moved(begin, cut, level))
            begin, level = cut, float(levels[number])
    return [*pieces, Piece.moved(begin, end, level)]


def _firm(positions: Floats, lateness: Floats, falls: bool) -> tuple[Floats, float]:
    """The lasting part of the lateness, and the typical distance of stamps from it.

    Where packets are lost, it is exact to the frame.

    Args:
        falls: True if samples run ahead; False if some are missing.
    """
    signed = -lateness if falls else lateness
    span_s = max((positions[-1] - positions[0]) / RATE_HZ, 1e-3)
    n_held = min(len(signed), max(FEW_FRAMES, round(len(signed) / span_s * HELD_S)))
    padded = np.pad(signed, (0, n_held - 1), mode="edge")
    least = np.lib.stride_tricks.sliding_window_view(padded, n_held).min(axis=1)
    rough = float(np.median(signed - least))
    return -(least + rough) if falls else least + rough, rough


def _is_straight(positions: Floats, lateness: Floats) -> bool:
    """True if the lateness grows linearly, as from a clock at the wrong rate."""
    line = np.interp(positions, positions[[0, -1]], lateness[[0, -1]])
    is_flat = abs(lateness[-1] - lateness[0]) <= MOST_SLOPE * max(positions[-1] - positions[0], 1)
    return bool(is_flat and np.abs(lateness - line).max() <= CLEAN_S * RATE_HZ)


def _blocks(positions: Floats, lateness: Floats) -> tuple[list[int], Floats, Floats]:
    """Blocks of about a second: their edges, and the medians of positions and lateness."""
    n_frames = len(positions)
    frames_a_second = n_frames / max((positions[-1] - positions[0]) / RATE_HZ, 1e-3)
    size = max(round(frames_a_second * BLOCK_S), min(BLOCK_FRAMES, max(FEW_FRAMES, n_frames // 8)), 1)
    edges = np.linspace(0, n_frames, max(1, n_frames // size) + 1).astype(int).tolist()
    parts = [slice(first, stop) for first, stop in pairwise(edges)]
    middles = np.array([np.median(positions[part]) for part in parts])
    levels = np.array([np.median(lateness[part]) for part in parts])
    # blocks that are late and then catch up were only delayed
    levels = np.array([np.median(levels[max(0, i - r) : i + r + 1]) for i, r in enumerate(_reaches(len(levels)))])
    return edges, middles, levels


def _reaches(n: int) -> list[int]:
    """The number of neighbours to use on each side of each of n blocks: equal on both sides, two at most."""
    return [min(2, i, n - 1 - i) for i in range(n)]


def _read(decoded: Waveform, piece: Piece, first: int, stop: int) -> Iterator[NDArray[np.float32]]:
    """Samples of a piece that belong at `first` to `stop`, in chunks."""
    for start in range(first, stop, CHUNK):
        targets = np.arange(start, min(start + CHUNK, stop))
        if piece.is_even:
            source = start - round(piece.targets[0] - piece.sources[0])
            yield decoded.read(source, source + len(targets))
        else:
            yield _between(decoded, np.interp(targets, piece.targets, piece.sources))


def _between(decoded: Waveform, positions: Floats) -> NDArray[np.float32]:
    """The sound at fractional sample positions, in ascending order."""
    samples_before = np.floor(positions).astype(np.int64)
    base = int(samples_before[0]) - N_TAPS // 2 + 1
    around = decoded.read(base, int(samples_before[-1]) + N_TAPS // 2 + 1)
    phases = np.rint((positions - samples_before) * N_PHASES).astype(np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(around, N_TAPS)[samples_before - int(samples_before[0])]
    values: NDArray[np.float32] = np.einsum("nt,nt->n", windows, _filters()[phases], optimize=False)
    return values


@cache
def _filters() -> NDArray[np.float32]:
    """(phases + 1, taps) weights of the samples around a position: a sinc under a Kaiser window, with a sum of one."""
    offsets = np.arange(N_TAPS) - (N_TAPS // 2 - 1) - (np.arange(N_PHASES + 1) / N_PHASES)[:, None]
    window = np.i0(9.0 * np.sqrt(np.clip(1 - (offsets / (N_TAPS // 2)) ** 2, 0, None))) / np.i0(9.0)
    weights = np.sinc(offsets) * window
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
