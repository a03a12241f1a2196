"""The sound of a video or sound file as mono 16 kHz, with its start time.

FFmpeg (through PyAV) decodes, resamples and downmixes. The weights of the downmix are scaled to a sum of one: without
that, full-scale stereo would reach 1.41 in float.
"""

import math
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition
from numpy.typing import NDArray

from abaw.core.errors import DataError
from abaw.media.decoder import MOST_BROKEN_PACKETS, open_media
from abaw.media.pace import GAP_S, TOLERANCE_S, PacePlan, Piece, plan, rebuild
from abaw.media.picture_times import CUT_S, JUMP_S, RESTART_S, STREAMED
from abaw.media.resampler import Resampler
from abaw.media.stamps import read_stamps
from abaw.media.stated_length import describe_cut
from abaw.media.tracks import describe_choice, sound_tracks
from abaw.media.waveform import RATE_HZ, Waveform

RUN_IN_COUNTED = ("wmav1", "wmav2")  # the decoder drops the encoder's padding, but the timestamps count it


@dataclass
class Sound:
    """The sound of a file.

    Attributes:
        waveform: mono, 16 kHz.
        start_s: time of its first sample, on the clock of the file.
        notes: a sentence for each thing that is wrong with the file.
    """

    waveform: Waveform
    start_s: float = 0.0
    notes: list[str] = field(default_factory=list)


def load_sound(file: Path) -> Sound | None:
    """Decode the sound track of a file that players choose; None if the file has no track, or only empty ones.

    From a damaged track, whatever can be decoded is used, with a note. If that is nothing, the next track is used; if no
    track can be decoded, the sound is empty. Holes between packets are filled with silence, and samples that drift away
    from their timestamps are moved back to them.

    Raises:
        DataError: the file cannot be opened at all.
    """
    notes: list[str] = []
    try:
        attempt, n_tracks = 0, 1
        holes: frozenset[int] | None = None
        while attempt < n_tracks:
            with open_media(file) as container:
                tracks = sound_tracks(container)
                n_tracks = len(tracks)
                if not tracks:
                    return _unheard(file, container)
                decoder = _Decoder(file, container, tracks[attempt], holes, _jumps(file, container))
                sound = decoder.decode()
                if holes is None and decoder.was_misled:  # decode again, without breaks where there is no hole
                    holes = decoder.holes
                    continue
                if len(sound.waveform):
                    choice = describe_choice(file.name, container, tracks[attempt])
                    sound.notes = [note for note in (choice, *notes, *sound.notes) if note]
                    return sound
                notes += sound.notes
            attempt, holes = attempt + 1, None
    except (av.FFmpegError, OSError) as error:
        raise DataError(
            f"{file} cannot be opened ({error}). Replace it, or delete it to continue without it."
        ) from error
    return Sound(Waveform(), notes=notes) if notes else None


def _jumps(file: Path, container: InputContainer) -> Sequence[tuple[float, float]] | None:
    """Where the clock of the pictures in a file jumps ahead: the time after the jump, and its size, in seconds.

    None if there are no pictures: then the jumps must be found in the sound itself.
    """
    if container.format.name.split(",")[0] not in STREAMED:
        return ()
    try:
        stamps = read_stamps(file)
    except DataError:  # no pictures
        return None
    base = float(stamps.base)
    return [(after * base, less * base) for after, less in stamps.jumps.tolist()]


def _unheard(file: Path, container: InputContainer) -> Sound | None:
    """An empty sound with a note if the file has sound that cannot be decoded; None if it has no sound."""
    if not container.streams.audio:
        return None
    note = f"the sound in {file.name} is in a format that FFmpeg cannot decode: put it into audio/ as {file.stem}.wav"
    return Sound(Waveform(), notes=[note])


class _Decoder:
    """Decodes a track, and records for each frame its position in the decoded sound and its timestamp.

    Args:
        holes: frames before which there is a hole; if None, they are detected from the timestamps during decoding.
        jumps: of the clock, see `_jumps`.

    Attributes:
        holes: frames before which there is a hole, with all timestamps known.
        was_misled: it assumed a hole that does not exist.
    """

    def __init__(
        self,
        file: Path,
        container: InputContainer,
        stream: AudioStream,
        holes: frozenset[int] | None = None,
        jumps: Sequence[tuple[float, float]] | None = (),
    ) -> None:
        self._jumps, self._less_s = jumps, 0.0
        self._known, self.holes, self.was_misled = holes, frozenset[int](), False
        self._seen: dict[int, int] = {}  # holes by frame: position in the decoded sound
        self._n_frames = 0
        self._file, self._container, self._stream = file, container, stream
        self._sound = Sound(Waveform())
        self._resampler: Resampler | None = None
        self._base, self._since_s = 0, 0.0  # where the resampler's input began, and its length so far
        self._positions, self._stamps_s = array("d"), array("d")
        self._end_s: float | None = None  # end of the last frame, by its samples since the last hole
        self._n_broken = self._n_not_finite = 0
        self._run_in_s = 0.0
        self._is_adts = container.format.name == "aac"

    def decode(self) -> Sound:
        for frame in self._frames():
            self._take(frame)
        self._drain()
        if len(self._sound.waveform):
            self._align()
        self._add_notes()
        return self._sound

    def _frames(self) -> Iterator[av.AudioFrame]:
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
                if packet is None:
                    return
                frames = packet.decode()
            except (av.error.EOFError, IndexError):  # PyAV fails at the end if a stream appeared late
                return
            except av.FFmpegError:  # one damaged packet; a container that cannot continue raises the same, then ends
                self._n_broken += 1
                if self._n_broken > MOST_BROKEN_PACKETS:
                    return
                continue
            yield from (frame for frame in frames if isinstance(frame, av.AudioFrame) and frame.samples)

    def _take(self, frame: av.AudioFrame) -> None:
        duration_s = frame.samples / frame.sample_rate
        if not self._run_in_s:
            self._run_in_s = duration_s
            if self._is_adts:  # only the encoder's padding, which other containers declare
                return
        time_s = float(frame.pts * frame.time_base) if frame.pts is not None and frame.time_base else None
        if time_s is not None and self._stamps_s and time_s >= self._limit_s():
            time_s = None
        if time_s is not None:
            time_s = self._without_jumps(time_s)
        self._n_frames += 1
        is_hole = time_s is not None and self._is_hole(time_s)
        if is_hole or self._resampler is None or not self._resampler.fits(frame):
            self._drain()
            self._resampler = Resampler(frame)
            self._base, self._since_s = len(self._sound.waveform), 0.0
        if is_hole:
            self._seen[self._n_frames] = self._base
        if time_s is not None:
            self._positions.append(self._base + self._since_s * RATE_HZ)
            self._stamps_s.append(time_s)
        for samples in self._resampler.push(frame):
            self._append(samples)
        self._since_s += duration_s
        begin_s = time_s if is_hole or self._end_s is None else self._end_s
        self._end_s = None if begin_s is None else begin_s + duration_s

    def _without_jumps(self, time_s: float) -> float:
        """A timestamp on a clock without jumps ahead, like that of the pictures."""
        if self._jumps is not None:
            return time_s - sum(less_s for after_s, less_s in self._jumps if time_s >= after_s - RESTART_S)
        ahead_s = time_s - self._less_s - self._end_s if self._end_s is not None else 0.0
        self._less_s += ahead_s if ahead_s > JUMP_S else 0.0
        return time_s - self._less_s

    def _is_hole(self, time_s: float) -> bool:
        """True if a frame suddenly begins so late that its first samples do not follow the previous ones."""
        if self._known is not None:
            return self._n_frames in self._known
        if self._end_s is None or time_s - self._end_s <= GAP_S:
            return False
        elapsed_s = (self._base - self._positions[-1]) / RATE_HZ + self._since_s
        return time_s - self._stamps_s[-1] - elapsed_s > GAP_S / 2

    def _limit_s(self) -> float:
        """The latest possible time of sound: a later timestamp is wrong."""
        if self._container.duration is None:
            return math.inf
        start = (self._container.start_time or 0) / av.time_base
        return start + self._container.duration / av.time_base + CUT_S

    def _drain(self) -> None:
        if self._resampler is not None:
            for samples in self._resampler.push(None):
                self._append(samples)
        self._resampler = None

    def _append(self, samples: NDArray[np.float32]) -> None:
        finite = np.isfinite(samples)
        if not finite.all():
            self._n_not_finite += int((~finite).sum())
            samples = np.where(finite, samples, np.float32(0))
        self._sound.waveform.append(samples)

    def _align(self) -> None:
        """Move the samples to their timestamps."""
        sound = self._sound
        if not self._stamps_s:
            return
        positions, stamps_s = np.array(self._positions), np.array(self._stamps_s)
        first_s, lead_s = self._beginning(float(stamps_s[0] - positions[0] / RATE_HZ))
        stamps = (stamps_s - stamps_s[0]) * RATE_HZ
        pace_plan = plan(positions, stamps, len(sound.waveform), is_counted=self._container.format.name == "avi")
        begins = {piece.sources[0] for piece in pace_plan.pieces}
        self.holes = frozenset(frame for frame, position in self._seen.items() if position in begins)
        self.was_misled = len(self.holes) < len(self._seen)
        begin = round(-lead_s * RATE_HZ if lead_s else pace_plan.pieces[0].targets[0])
        sound.start_s = first_s + begin / RATE_HZ
        pieces = [Piece(piece.sources, piece.targets - begin) for piece in pace_plan.pieces]
        if len(pieces) > 1 or not pieces[0].is_even or lead_s:
            sound.waveform = rebuild(sound.waveform, pieces)
        self._note_pace(pace_plan)

    def _beginning(self, first_s: float) -> tuple[float, float]:
        """When the first sample is heard, and how much silence must precede it.

        A file with only sound starts at its own start time, even if its first packets cannot be decoded.

        Args:
            first_s: time of the first sample by the timestamps.
        """
        if any(not stream.disposition & Disposition.attached_pic for stream in self._container.streams.video):
            return first_s, 0.0
        origin_s = max(0, self._container.start_time or 0) / av.time_base
        if self._stream.codec_context.name in RUN_IN_COUNTED or self._is_adts:
            first_s -= min(self._run_in_s, max(0.0, first_s - origin_s))
        lead_s = first_s - origin_s
        return first_s, lead_s if lead_s > TOLERANCE_S else 0.0

    def _note_pace(self, pace_plan: PacePlan) -> None:
        name, notes = self._file.name, self._sound.notes
        if pace_plan.change_s > GAP_S:
            notes.append(
                f"the sound in {name} drifts away from its timestamps, by {pace_plan.change_s:.1f} s in total: it was moved back"
            )
        if pace_plan.restarts:
            notes.append(
                f"the timestamps of the sound in {name} go back, first after {min(pace_plan.restarts):.1f} s: the sound after that was "
                "assumed to continue from there"
            )

    def _add_notes(self) -> None:
        notes, decoded_s = self._sound.notes, self._sound.waveform.duration_s
        if self._n_broken:
            notes.append(f"{self._n_broken} packets of the sound in {self._file.name} could not be decoded")
        if self._n_not_finite:
            notes.append(
                f"{self._n_not_finite} samples of {self._file.name} are not finite and were replaced by silence"
            )
        is_steady = not self._jumps and not self._less_s  # a clock that jumps states no duration
        cut = (
            describe_cut(self._file, self._container, self._stream, self._sound.start_s, decoded_s) if decoded_s else ""
        )
        if cut and is_steady:
            notes.append(cut)
