"""Sound of all containers and of files with several tracks: bursts at known times are heard when they belong."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from scipy.io import wavfile

from abaw.datasets.sound_files import SUFFIXES, find_sound_files
from abaw.media.picture_times import decode_times
from abaw.media.redraw import redraw
from abaw.media.sound import Sound, load_sound
from abaw.media.waveform import RATE_HZ

FPS, SECONDS, LATE_S = 25, 4, 0.8
# suffix: container where the suffix does not tell, codec of the pictures, of the sound, rate of the sound
VIDEOS = {
    ".mp4": ("", "libx264", "aac", 48_000),
    ".mov": ("", "libx264", "pcm_s16le", 48_000),
    ".m4v": ("mp4", "libx264", "aac", 44_100),
    ".3gp": ("", "mpeg4", "aac", 16_000),
    ".mkv": ("", "libx264", "aac", 48_000),
    ".webm": ("", "libvpx", "libopus", 48_000),
    ".avi": ("", "mpeg4", "libmp3lame", 44_100),
    ".mpg": ("", "mpeg1video", "mp2", 44_100),
    ".mpeg": ("", "mpeg1video", "mp2", 48_000),
    ".vob": ("", "mpeg2video", "ac3", 48_000),
    ".wmv": ("asf", "wmv2", "wmav2", 44_100),
    ".asf": ("", "wmv1", "wmav1", 44_100),
    ".mts": ("mpegts", "libx264", "aac", 48_000),
    ".m2ts": ("mpegts", "mpeg2video", "ac3", 48_000),
    ".ts": ("mpegts", "libx264", "mp2", 48_000),
    ".flv": ("", "libx264", "aac", 44_100),
    ".ogv": ("ogg", "libvpx", "libopus", 48_000),
}
SOUNDS = {
    ".wav": ("", "pcm_s16le", 44_100),
    ".flac": ("", "flac", 44_100),
    ".mp3": ("", "libmp3lame", 44_100),
    ".m4a": ("mp4", "aac", 44_100),
    ".aac": ("adts", "aac", 16_000),
    ".ogg": ("", "libopus", 48_000),
    ".opus": ("", "libopus", 48_000),
    ".wma": ("asf", "wmav2", 44_100),
    ".aiff": ("", "pcm_s16be", 44_100),
    ".aif": ("aiff", "pcm_s16be", 44_100),
    ".mka": ("matroska", "libopus", 48_000),
    ".oga": ("ogg", "flac", 44_100),
    ".weba": ("webm", "libopus", 48_000),
    ".caf": ("", "pcm_s16le", 44_100),
    ".w64": ("", "pcm_s16le", 44_100),
    ".ac3": ("", "ac3", 48_000),
    ".amr": ("", "libopencore_amrnb", 8_000),
}


def bursts(rate_hz: int, first_s: float = 0.0, seconds: float = SECONDS) -> np.ndarray:
    """A tone of 40 ms in the middle of each second, counted from a clock at which the sound begins at `first_s`."""
    times = first_s + np.arange(round((seconds - first_s) * rate_hz)) / rate_hz
    return 0.6 * np.sin(2 * np.pi * 1000 * times) * (np.abs(times % 1 - 0.52) < 0.02)


def heard(sound: Sound | None, from_s: float | None = None) -> np.ndarray:
    """When bursts begin, on the clock of the file, or from the first sample on."""
    assert sound is not None
    samples = np.abs(sound.waveform.read(0, len(sound.waveform)))
    loud = np.flatnonzero(samples > 0.12)
    starts = loud[np.diff(loud, prepend=-RATE_HZ) > 0.3 * RATE_HZ] / RATE_HZ
    return starts + (sound.start_s if from_s is None else from_s)


def frames(voice: np.ndarray, rate_hz: int, first_s: float, n: int, kind: str) -> list[av.AudioFrame]:
    made = []
    for first in range(0, len(voice), n):
        part = np.ascontiguousarray((voice[first : first + n] * 32767).astype(np.int16)[None])
        frame = av.AudioFrame.from_ndarray(part, format="s16", layout="mono")
        frame.sample_rate, frame.time_base, frame.pts = rate_hz, Fraction(1, rate_hz), round(first_s * rate_hz) + first
        made += av.AudioResampler(kind, "mono", rate_hz).resample(frame)
    return made


def write(
    file: Path,
    container: str,
    tracks: list[tuple[str, int, np.ndarray, float, Disposition | None]],
    pictures: str = "",
) -> None:
    """A file of tracks of sound (codec, rate, samples, when they begin, disposition), with pictures or without."""
    with av.open(str(file), "w", format=container or None) as out:
        picture = None
        if pictures:
            picture = out.add_stream(pictures, rate=FPS)
            picture.width = picture.height = 64
            picture.pix_fmt = "yuv420p"
        streams = [out.add_stream(codec, rate=rate_hz, layout="mono") for codec, rate_hz, *_ in tracks]
        packets = []
        for stream, (_, rate_hz, voice, first_s, disposition) in zip(streams, tracks, strict=True):
            if disposition is not None:
                stream.disposition = disposition
            stream.bit_rate = 64_000
            stream.codec_context.open()
            made = frames(voice, rate_hz, first_s, stream.codec_context.frame_size or 1024, stream.format.name)
            packets += [packet for frame in [*made, None] for packet in (stream.encode(frame) if made else [])]
        for number in range(SECONDS * FPS if picture is not None else 0):
            assert picture is not None
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), number, np.uint8), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            packets += picture.encode(frame)
        packets += picture.encode(None) if picture is not None else []
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            out.mux(packet)


def first_picture_s(file: Path) -> float:
    with av.open(str(file)) as container:
        frame = next(container.decode(video=0))
        return float(frame.pts * frame.time_base)


@pytest.mark.parametrize("first_s", [0.0, LATE_S])
@pytest.mark.parametrize("suffix", VIDEOS)
def test_sound_of_a_video_lands_beside_its_pictures(tmp_path, suffix, first_s):
    container, pictures, codec, rate_hz = VIDEOS[suffix]
    if suffix == ".avi" and first_s:
        pytest.skip("an AVI does not say that its sound begins late")
    file = tmp_path / f"a{suffix}"
    write(file, container, [(codec, rate_hz, bursts(rate_hz, first_s), first_s, None)], pictures)
    sound = load_sound(file)
    assert sound is not None and sound.notes == []
    found = heard(sound) - first_picture_s(file)
    wanted = np.arange(SECONDS)[-len(found) :] + 0.5
    # an AVI does not tell of the run-in of an encoder either
    assert len(found) >= SECONDS - 1 and np.abs(found - wanted).max() < (0.03 if suffix == ".avi" else 0.012)


@pytest.mark.parametrize("suffix", SOUNDS)
def test_a_sound_file_begins_with_its_first_sample(tmp_path, suffix):
    container, codec, rate_hz = SOUNDS[suffix]
    folder = tmp_path / "audio"
    folder.mkdir()
    file = folder / f"talk{suffix.upper()}"
    write(file, container, [(codec, rate_hz, bursts(rate_hz), 0.0, None)])
    sound = load_sound(find_sound_files(tmp_path)["talk"])
    assert sound is not None and sound.notes == []
    found = heard(sound, from_s=0.0)
    assert len(found) == SECONDS and np.abs(found - np.arange(SECONDS) - 0.5).max() < 0.012


def test_every_suffix_of_sound_is_tried():
    assert set(SOUNDS) == set(SUFFIXES)


def test_which_of_several_sound_files_is_taken(tmp_path):
    folder = tmp_path / "audio"
    (folder / "b.wav").mkdir(parents=True)
    names = ("a.opus", "a.M4A", "a.mp3", "b.wma", "b.ogg", "c.FLAC", "c.mp3", "._d.wav", ".d.m4a", "e.txt", "f.m3u8")
    for name in (*names, "Rene\u0301.aac"):
        (folder / name).write_bytes(b"x")
    found = {name: file.name for name, file in find_sound_files(tmp_path).items()}
    assert found == {"a": "a.mp3", "b": "b.ogg", "c": "c.FLAC", "Ren\u00e9": "Rene\u0301.aac"}


@pytest.mark.parametrize("suffix", [".m4a", ".mp3"])
def test_a_cover_is_no_picture_of_a_sound_file(tmp_path, suffix):
    file = tmp_path / f"a{suffix}"
    with av.open(str(file), "w", format="mp4" if suffix == ".m4a" else "mp3") as out:
        track = out.add_stream("aac" if suffix == ".m4a" else "libmp3lame", rate=44_100, layout="mono")
        cover = out.add_stream("mjpeg", rate=1)
        cover.width = cover.height = 64
        cover.pix_fmt, cover.disposition = "yuvj420p", Disposition.attached_pic
        track.codec_context.open()
        packets = []
        for frame in frames(bursts(44_100), 44_100, 0.0, track.codec_context.frame_size, track.format.name):
            packets += track.encode(frame)
        packets += track.encode(None)
        picture = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 90, np.uint8), format="rgb24")
        picture.pts, picture.time_base = 0, Fraction(1, 1)
        for packet in [*cover.encode(picture), *cover.encode(None), *packets]:
            out.mux(packet)
    sound = load_sound(file)
    assert sound is not None and sound.notes == []
    assert heard(sound, from_s=0.0) == pytest.approx(np.arange(SECONDS) + 0.5, abs=0.012)


VOICE, OTHER = 1000.0, 300.0  # Hz


def tone(pitch_hz: float) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * pitch_hz * np.arange(48_000) / 48_000)


def pitch_of(sound: Sound | None) -> float:
    assert sound is not None
    samples = sound.waveform.read(0, len(sound.waveform))
    return float(np.abs(np.fft.rfft(samples[2000:14_000])).argmax() * RATE_HZ / 12_000)


PLAIN, DEFAULT = Disposition(0), Disposition.default
TRACKS = {
    "the second is default": ([PLAIN, DEFAULT], 1),
    "the first is a comment": ([Disposition.comment, DEFAULT], 1),
    "both are default": ([DEFAULT, DEFAULT], 0),
    "the default is for the blind": ([DEFAULT | Disposition.visual_impaired, PLAIN], 1),
    "the default is for the deaf": ([DEFAULT | Disposition.hearing_impaired, PLAIN, PLAIN], 1),
    "only the last is plain": ([Disposition.comment, Disposition.visual_impaired, DEFAULT], 2),
    "none is plain": ([Disposition.comment, Disposition.comment | DEFAULT], 1),
}


@pytest.mark.parametrize("case", TRACKS)
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_the_default_track_is_taken(tmp_path, suffix, case):
    dispositions, wanted = TRACKS[case]
    file = tmp_path / f"a{suffix}"
    tracks = [
        ("aac", 48_000, tone(VOICE if i == wanted else OTHER), 0.0, disposition)
        for i, disposition in enumerate(dispositions)
    ]
    write(file, "", tracks, "libx264")
    with av.open(str(file)) as container:
        kept = [stream.disposition for stream in container.streams.audio]
    if not any(kept[i] & DEFAULT for i in range(len(kept)) if dispositions[i] & DEFAULT):
        pytest.skip("the container does not hold this")
    sound = load_sound(file)
    assert pitch_of(sound) == pytest.approx(VOICE, abs=2)
    reason = ", the default one," if kept[wanted] & DEFAULT else ""
    assert sound is not None
    assert sound.notes == [f"a{suffix} has {len(tracks)} sound tracks: number {wanted + 1}{reason} is used"]


def test_a_video_drawn_over_has_the_same_track(tmp_path):
    file, out = tmp_path / "a.mp4", tmp_path / "drawn.mp4"
    write(file, "", [("aac", 48_000, tone(OTHER), 0.0, PLAIN), ("aac", 48_000, tone(VOICE), 0.0, DEFAULT)], "libx264")
    assert len(list(redraw(file, out, lambda number, picture: picture))) == SECONDS * FPS
    sound = load_sound(out)
    assert pitch_of(sound) == pytest.approx(VOICE, abs=2) and sound is not None and sound.notes == []


def test_a_default_track_without_a_sound_gives_way(tmp_path):
    file = tmp_path / "a.mkv"
    none = np.zeros(0)
    write(file, "", [("aac", 48_000, none, 0.0, DEFAULT), ("aac", 48_000, tone(VOICE), 0.0, PLAIN)], "libx264")
    sound = load_sound(file)
    assert pitch_of(sound) == pytest.approx(VOICE, abs=2)
    assert sound is not None and sound.notes == ["a.mkv has 2 sound tracks: number 2 is used"]


def test_a_track_of_an_unknown_codec_gives_way_or_is_told(tmp_path):
    file, other = tmp_path / "a.mkv", tmp_path / "b.mkv"
    write(file, "", [("flac", 48_000, tone(OTHER), 0.0, DEFAULT), ("aac", 48_000, tone(VOICE), 0.0, PLAIN)], "libx264")
    content = file.read_bytes()
    assert content.count(b"A_FLAC") == 1
    file.write_bytes(content.replace(b"A_FLAC", b"A_NONE"))
    assert pitch_of(load_sound(file)) == pytest.approx(VOICE, abs=2)
    write(other, "", [("flac", 48_000, tone(OTHER), 0.0, None)], "libx264")
    other.write_bytes(other.read_bytes().replace(b"A_FLAC", b"A_NONE"))
    sound = load_sound(other)
    assert sound is not None and not len(sound.waveform)
    assert sound.notes == ["the sound in b.mkv is in a format that FFmpeg cannot decode: put it into audio/ as b.wav"]
    assert len(list(redraw(other, tmp_path / "drawn.mp4", lambda number, picture: picture))) == SECONDS * FPS


def test_nothing_is_taken_for_the_end_of_a_sound_that_begins_late(tmp_path):
    file = tmp_path / "a.wmv"
    write(file, "asf", [("wmav2", 44_100, bursts(44_100, 2.0), 2.0, None)], "wmv2")
    sound = load_sound(file)
    assert sound is not None and sound.notes == [] and sound.start_s > 1.9


def test_a_wav_and_a_video_with_the_same_samples_sound_the_same(tmp_path):
    voice = np.random.default_rng(0).uniform(-0.9, 0.9, SECONDS * 44_100)
    wavfile.write(tmp_path / "a.wav", 44_100, (voice * 32767).astype(np.int16))
    write(tmp_path / "a.mkv", "", [("pcm_s16le", 44_100, voice, 0.0, None)], "libx264")
    write(tmp_path / "a.avi", "", [("pcm_s16le", 44_100, voice, 0.0, None)], "mpeg4")
    write(tmp_path / "a.mov", "", [("pcm_s16le", 44_100, voice, LATE_S, None)], "libx264")
    alone = load_sound(tmp_path / "a.wav")
    assert alone is not None
    wanted = alone.waveform.read(0, len(alone.waveform))
    for suffix in (".mkv", ".avi", ".mov"):
        sound = load_sound(tmp_path / f"a{suffix}")
        assert sound is not None and np.array_equal(sound.waveform.read(0, len(sound.waveform)), wanted)


def test_titles_may_be_in_any_encoding(tmp_path):
    file = tmp_path / "a.avi"
    with av.open(str(file), "w") as out:
        out.metadata["title"] = "Gesprach"
        track = out.add_stream("pcm_s16le", rate=48_000, layout="mono")
        for frame in frames(tone(VOICE), 48_000, 0.0, 1024, "s16"):
            out.mux(track.encode(frame))
        out.mux(track.encode(None))
    content = file.read_bytes()
    assert content.count(b"Gesprach") == 1
    file.write_bytes(content.replace(b"Gesprach", "Gespräch".encode("latin-1")))
    assert pitch_of(load_sound(file)) == pytest.approx(VOICE, abs=2)


@pytest.mark.parametrize(
    ("first", "second", "wanted"),
    [
        (Disposition(0), Disposition.default, 1),
        (Disposition.default, Disposition(0), 0),
        (Disposition(0), Disposition.default | Disposition.comment, 0),
    ],
    ids=["the second is the default", "the first is", "the second is, but comments"],
)
def test_the_clock_of_pictures_and_the_sound_go_by_the_same_track(tmp_path, first, second, wanted):
    """Pictures end after 3 s; the times that their clock notes of sound are those of the track that is heard."""
    file = tmp_path / "a.mkv"
    voices = [bursts(48_000)[:n_samples] for n_samples in (48_000, 96_000)]
    tracks = [("flac", 48_000, voice, 0.0, what) for voice, what in zip(voices, (first, second), strict=True)]
    write(file, "matroska", tracks, "mpeg4")
    sound = load_sound(file)
    assert sound is not None and round(sound.waveform.duration_s) == wanted + 1
    with av.open(str(file)) as container:
        decoding = decode_times(container, file, None)
    assert decoding.heard_s.max() == pytest.approx(wanted + 1, abs=0.2)
