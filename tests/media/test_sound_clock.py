"""Sound and its timestamps: what runs away is brought back, what is rough changes nothing."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from scipy.io import wavfile

from abaw.backbones.registry import get_spec
from abaw.media.pace import plan, rebuild
from abaw.media.sound import Sound, load_sound
from abaw.media.waveform import RATE_HZ, Waveform
from abaw.pipeline import ExtractOptions, extract
from abaw.store import FeatureStore

RATE, BLOCK = 11_025, 256  # of the sound in an FLV; samples of a packet, 23 ms
SECONDS = 20
NEAR_S = 0.010
Times = np.ndarray


def bursts(times: Times) -> np.ndarray:
    """A tone of 40 ms from each full second on."""
    return 0.6 * np.sin(2 * np.pi * 1000 * times) * (times % 1 < 0.04)


def write_flv(file: Path, voice: np.ndarray, stamps_s: Times, block: int = BLOCK) -> None:
    """Sound in an FLV, written byte by byte: its packets may have any timestamps, in whole milliseconds."""
    parts = [b"FLV\x01\x04\x00\x00\x00\x09\x00\x00\x00\x00"]
    samples = (voice * 32767).astype("<i2")
    for number, stamp in enumerate(np.rint(np.asarray(stamps_s) * 1000).astype(int).tolist()):
        body = (
            b"\x36" + samples[number * block : (number + 1) * block].tobytes()
        )  # little-endian, 11 kHz, 16 bits, mono
        stamp = max(stamp, 0)
        header = b"\x08" + len(body).to_bytes(3, "big") + (stamp & 0xFFFFFF).to_bytes(3, "big") + bytes([stamp >> 24])
        parts += [header, b"\0\0\0", body, (11 + len(body)).to_bytes(4, "big")]
    file.write_bytes(b"".join(parts))


def packet_times(seconds: float = SECONDS, block: int = BLOCK) -> Times:
    return np.arange(int(seconds * RATE) // block) * (block / RATE)


def sample_times(stamps_s: Times, block: int = BLOCK, pace: float = 1.0) -> Times:
    """True times of the samples of packets with true timestamps."""
    return (np.asarray(stamps_s)[:, None] + np.arange(block) * (pace / RATE)).ravel()


def samples_of(sound: Sound | None) -> np.ndarray:
    assert sound is not None
    return sound.waveform.read(0, len(sound.waveform))


def heard(sound: Sound | None) -> Times:
    """When bursts begin, on the clock of the file."""
    loud = np.flatnonzero(np.abs(samples_of(sound)) > 0.12)
    assert sound is not None
    return sound.start_s + loud[np.diff(loud, prepend=-RATE_HZ) > 0.3 * RATE_HZ] / RATE_HZ


@pytest.mark.parametrize("pace", [0.98, 0.99, 1.01, 1.02, 1.04])
def test_samples_that_run_away_are_brought_back(tmp_path, pace):
    """A card that delivers too many samples (pace below one) or too few, all said to be at the same rate."""
    stamps_s = packet_times() * pace
    write_flv(tmp_path / "a.flv", bursts(sample_times(stamps_s, pace=pace)), stamps_s)
    sound = load_sound(tmp_path / "a.flv")
    found = heard(sound)
    assert np.abs(found - np.rint(found)).max() < NEAR_S and len(found) == np.ceil(stamps_s[-1])
    assert sound is not None and sound.waveform.duration_s == pytest.approx(stamps_s[-1] + BLOCK / RATE, abs=0.01)
    change_s = abs(1 - pace) * SECONDS
    note = f"the sound in a.flv drifts away from its timestamps, by {change_s:.1f} s in total: it was moved back"
    assert sound.notes == [note]


@pytest.mark.parametrize("pace", [0.98, 1.02])
def test_a_tone_that_is_brought_back_has_no_clicks(tmp_path, pace):
    stamps_s = packet_times() * pace
    write_flv(tmp_path / "a.flv", 0.5 * np.sin(2 * np.pi * 440 * sample_times(stamps_s, pace=pace)), stamps_s)
    sound = load_sound(tmp_path / "a.flv")
    samples = samples_of(sound)[RATE_HZ:-RATE_HZ]
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)))) ** 2
    pitches_hz = np.fft.rfftfreq(len(samples), 1 / RATE_HZ)
    around = np.abs(pitches_hz - 440) < 20
    assert 10 * np.log10(spectrum[~around].sum() / spectrum[around].sum()) < -55
    assert pitches_hz[spectrum.argmax()] == pytest.approx(440, abs=0.5)
    assert np.abs(np.diff(samples)).max() < 0.5 * 2 * np.pi * 440 / RATE_HZ * 1.05


@pytest.mark.parametrize("block", [BLOCK, 2048])
@pytest.mark.parametrize("pace", [0.995, 1.005])
def test_an_hour_stays_within_forty_milliseconds(pace, block):
    rng = np.random.default_rng(0)
    positions = np.arange(0, 3600 * RATE_HZ, block * RATE_HZ / RATE)
    for rough_s in (0.0005, 0.02):
        stamps = positions * pace + rng.uniform(-rough_s, rough_s, len(positions)) * RATE_HZ
        found = plan(positions, stamps, int(positions[-1]))
        sources = np.concatenate([piece.sources for piece in found.pieces])
        targets = np.concatenate([piece.targets for piece in found.pieces]) + stamps[0]
        error_s = np.abs(np.interp(positions, sources, targets) - positions * pace) / RATE_HZ
        assert error_s.max() < (0.005 if rough_s < 0.01 else 0.04)
        assert found.change_s == pytest.approx(18, abs=0.2)


def test_a_crystal_that_is_a_little_off_matters_after_an_hour():
    positions = np.arange(0, 3600 * RATE_HZ, 341.0)
    few, many = (plan(positions[:n], positions[:n] * (1 - 20e-6), n * 341) for n in (10_000, len(positions)))
    assert not few.is_needed and many.is_needed
    assert many.pieces[-1].targets[-1] / RATE_HZ == pytest.approx(3600 * (1 - 20e-6), abs=0.03)


ROUGH: dict[str, Callable[[Times, np.random.Generator], Times]] = {
    "whole milliseconds": lambda t, _: t,
    "ten milliseconds": lambda t, rng: t + rng.uniform(-0.01, 0.01, len(t)) * (t > 0),
    "twenty milliseconds": lambda t, rng: t + rng.uniform(-0.02, 0.02, len(t)) * (t > 0),
    "forty milliseconds": lambda t, rng: t + rng.uniform(-0.04, 0.04, len(t)) * (t > 0),
    "in bursts": lambda t, _: np.floor(t / 0.08) * 0.08,
    "one is far ahead": lambda t, _: t + 5 * (np.arange(len(t)) == 300),
    "one is far behind": lambda t, _: t - 5 * (np.arange(len(t)) == 300),
    "held up, then let go": lambda t, _: np.where((t > 5) & (t < 5.5), 5.5, t),
    "held up for a while": lambda t, _: t + 0.3 * ((t > 5) & (t < 5.8)),
    "ahead, then made up for": lambda t, _: t - 0.06 * ((t > 5) & (t < 5.6)),
}


@pytest.mark.parametrize("case", ROUGH)
def test_rough_timestamps_change_no_sample(tmp_path, case):
    rng = np.random.default_rng(0)
    times_s = packet_times()
    voice = rng.uniform(-0.9, 0.9, len(times_s) * BLOCK)
    wavfile.write(tmp_path / "a.wav", RATE, (voice * 32767).astype(np.int16))
    stamps_s = ROUGH[case](times_s, rng)
    write_flv(tmp_path / "a.flv", voice, stamps_s)
    sound = load_sound(tmp_path / "a.flv")
    assert sound is not None and sound.notes == [] and sound.start_s == 0
    assert np.array_equal(samples_of(sound), samples_of(load_sound(tmp_path / "a.wav")))


def test_a_wrong_first_timestamp_is_put_right(tmp_path):
    stamps_s = packet_times()
    write_flv(tmp_path / "a.flv", bursts(sample_times(stamps_s)), stamps_s + 3 * (stamps_s == 0))
    assert heard(load_sound(tmp_path / "a.flv")) == pytest.approx(np.arange(SECONDS), abs=NEAR_S)


@pytest.mark.parametrize("jump_s", [-0.7, -0.3, -0.06, 0.03, 0.06, 0.3, 1.4])
def test_after_a_jump_of_the_timestamps_sound_is_where_they_say(tmp_path, jump_s):
    """The samples between are lost, or were delivered twice."""
    times_s = packet_times()
    stamps_s = times_s + jump_s * (times_s > 10.5)
    write_flv(tmp_path / "a.flv", bursts(sample_times(stamps_s)), stamps_s)
    sound = load_sound(tmp_path / "a.flv")
    found = heard(sound)
    seconds = np.arange(np.ceil(stamps_s[-1] + BLOCK / RATE))
    expected = seconds if jump_s < 1 else seconds[~((seconds > 10.5) & (seconds < 12.0))]
    assert found == pytest.approx(expected, abs=NEAR_S)
    assert sound is not None and sound.waveform.duration_s == pytest.approx(SECONDS + jump_s, abs=0.05)


@pytest.mark.parametrize("lost", [0.05, 0.3])
def test_lost_packets_leave_holes_where_they_were(tmp_path, lost):
    """Every packet tells its own number, as loud as that; what is heard at its time is that number."""
    rng = np.random.default_rng(0)
    times_s = packet_times()
    kept = (rng.random(len(times_s)) >= lost) | (times_s == 0)
    times_s = times_s[kept]
    level = 0.2 + 0.7 * np.arange(len(times_s)) / len(times_s)
    write_flv(tmp_path / "a.flv", np.repeat(level, BLOCK), times_s)
    samples = samples_of(load_sound(tmp_path / "a.flv"))
    middles = np.rint((times_s + BLOCK / RATE / 2) * RATE_HZ).astype(int)
    assert len(samples) == pytest.approx((times_s[-1] + BLOCK / RATE) * RATE_HZ, abs=400)
    assert (np.abs(samples[middles] - level) < 0.01).mean() > 0.9  # holes of one packet wait for a second one


def test_timestamps_that_begin_anew_lose_no_sound(tmp_path):
    """Two recordings, one behind the other in a file: the second goes on after the first."""
    times_s = packet_times()
    write_flv(tmp_path / "a.flv", bursts(sample_times(times_s)), np.where(times_s > 12.5, times_s - 12.5, times_s))
    sound = load_sound(tmp_path / "a.flv")
    assert heard(sound) == pytest.approx(np.arange(SECONDS), abs=NEAR_S)
    assert sound is not None and sound.notes == [
        "the timestamps of the sound in a.flv go back, first after 12.5 s: the sound after that was assumed to continue from there"
    ]


def test_frames_in_front_of_the_first_timestamp_belong_before_it():
    """Positions of the frames that have one begin later than the sound."""
    positions = np.arange(3200, 160_000, 320.0)
    found = plan(positions, positions + 8000, 160_000)
    assert not found.is_needed and found.pieces[0].sources.tolist() == [0, 160_000]


def with_header(content: bytes, rate: int, is_bytes: bool) -> bytes:
    """An AVI whose sound is said to be of another rate: of samples, or of bytes, as old writers do with any MP3."""
    changed = bytearray(content)
    header = content.index(b"strh", content.index(b"strh") + 4) + 8
    assert content[header : header + 4] == b"auds"
    changed[header + 24 : header + 28] = rate.to_bytes(4, "little")
    if is_bytes:
        form = content.index(b"strf", header) + 8
        changed[header + 20 : header + 24] = changed[header + 44 : header + 48] = (1).to_bytes(4, "little")
        changed[form + 8 : form + 12], changed[form + 12 : form + 14] = rate.to_bytes(4, "little"), b"\1\0"
    return bytes(changed)


def write_avi(file: Path, voice: np.ndarray, codec: str) -> int:
    """Gives the bytes of its sound."""
    with av.open(str(file), "w") as out:
        picture = out.add_stream("mpeg4", rate=25)
        picture.width = picture.height = 32
        picture.pix_fmt = "yuv420p"
        track = out.add_stream(codec, rate=44_100, layout="mono", options={"q": "4"} if codec == "libmp3lame" else {})
        if codec == "libmp3lame":
            track.codec_context.qscale = True
            track.codec_context.global_quality = 4 * 118
        track.codec_context.open()
        block, resampler = track.codec_context.frame_size or 1024, av.AudioResampler(track.format.name, "mono", 44_100)
        packets = []
        for first in range(0, len(voice), block):
            part = np.ascontiguousarray((voice[first : first + block] * 32767).astype(np.int16)[None])
            frame = av.AudioFrame.from_ndarray(part, format="s16", layout="mono")
            frame.sample_rate, frame.time_base, frame.pts = 44_100, Fraction(1, 44_100), first
            packets += [packet for same in resampler.resample(frame) for packet in track.encode(same)]
        packets += track.encode(None)
        for number in range(round(len(voice) / 44_100 * 25)):
            image = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            image.pts, image.time_base = number, Fraction(1, 25)
            packets += picture.encode(image)
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            out.mux(packet)
        return sum(packet.size for packet in packets if packet.stream is track)


@pytest.mark.parametrize("wrong", [1.0, 1.3])
def test_bytes_of_an_avi_are_no_clock(tmp_path, wrong):
    """Loud noise takes more bytes than silence: counted in bytes, time runs ahead and behind."""
    rng = np.random.default_rng(0)
    voice = rng.uniform(-0.8, 0.8, 12 * 44_100) * (np.arange(12 * 44_100) // (2 * 44_100) % 2)
    n_bytes = write_avi(tmp_path / "a.avi", voice, "libmp3lame")
    content = (tmp_path / "a.avi").read_bytes()
    (tmp_path / "b.avi").write_bytes(with_header(content, round(n_bytes / 12 * wrong), is_bytes=True))
    with av.open(str(tmp_path / "b.avi")) as container:
        stamps_s = np.array([float(frame.pts * frame.time_base) for frame in container.decode(audio=0)])
    steps = np.diff(stamps_s)
    assert steps.max() > 1.5 * steps.min(), "a variable rate"
    assert np.array_equal(samples_of(load_sound(tmp_path / "b.avi")), samples_of(load_sound(tmp_path / "a.avi")))


def test_the_rate_that_an_avi_states_beside_that_of_its_samples_is_its_clock(tmp_path):
    write_avi(tmp_path / "a.avi", bursts(np.arange(12 * 44_100) / 44_100), "pcm_s16le")
    changed = with_header((tmp_path / "a.avi").read_bytes(), round(44_100 / 1.02), is_bytes=False)
    (tmp_path / "a.avi").write_bytes(changed)
    assert heard(load_sound(tmp_path / "a.avi")) == pytest.approx(np.arange(12) * 1.02, abs=NEAR_S)


def test_samples_that_stay_are_copied_and_silence_goes_between():
    decoded = Waveform.of(np.arange(1, 32_001, dtype=np.float32))
    positions = np.arange(0, 32_000, 320.0)
    found = plan(positions, positions + np.where(positions >= 16_000, 5000, 0), 32_000)
    built = rebuild(decoded, found.pieces)
    wanted = np.concatenate([np.arange(1, 16_001), np.zeros(5000), np.arange(16_001, 32_001)])
    assert np.array_equal(built.read(0, len(built)), wanted) and found.change_s == 0
    back = plan(positions, positions - np.where(positions >= 16_000, 5000, 0), 32_000)
    built = rebuild(decoded, back.pieces)
    assert np.array_equal(built.read(0, len(built)), np.delete(np.arange(1, 32_001), slice(16_000, 21_000)))
    assert back.change_s == pytest.approx(5000 / RATE_HZ)


PACES = {"fast": 0.97, "slow": 1.03}


def test_bursts_are_in_the_rows_of_their_frames(tmp_path, make_crops):
    data, fps, seconds = tmp_path / "data", 25, 10
    (data / "videos").mkdir(parents=True)
    for name, pace in PACES.items():
        make_crops(data / "cropped_aligned" / name, seconds * fps, size=16)
        write_film(data / "videos" / f"{name}.mkv", pace, fps, seconds)
    summary = extract(ExtractOptions(data, tmp_path / "store.zarr", ("spectrogram", "egemaps"), device="cpu"))
    for name in PACES:
        assert any(f"{name}.mkv drifts away from its timestamps" in warning for warning in summary.warnings)
    store = FeatureStore.open(tmp_path / "store.zarr")
    for name in PACES:
        loudness = store.read("egemaps", name).values[:, get_spec("egemaps").classes.index("Loudness_sma3")]
        middle = store.read("spectrogram", name).values[:, 0, :, 63:65].astype(np.float32).mean(axis=(1, 2))
        for course in (loudness, middle):
            for second in range(1, seconds):
                around = course[second * fps - 12 : second * fps + 13]
                assert abs(int(around.argmax()) - 12) <= 1, f"second {second} of {name}"


def write_film(file: Path, pace: float, fps: int, seconds: int) -> None:
    """Pictures at a rate, and sound of a card whose samples are not at the rate it says; packets have true times."""
    with av.open(str(file), "w") as out:
        picture = out.add_stream("mpeg4", rate=fps)
        picture.width = picture.height = 32
        picture.pix_fmt = "yuv420p"
        track = out.add_stream("pcm_s16le", rate=RATE_HZ, layout="mono")
        stamps_s = np.arange(int(seconds * RATE_HZ / pace) // 400) * (400 * pace / RATE_HZ)
        for stamp_s in stamps_s:
            samples = bursts(stamp_s + np.arange(400) * (pace / RATE_HZ))
            packet = av.Packet((samples * 32767).astype("<i2").tobytes())
            packet.stream, packet.time_base = track, Fraction(1, 1000)
            packet.pts = packet.dts = round(stamp_s * 1000)
            out.mux(packet)
        for number in range(seconds * fps):
            image = av.VideoFrame.from_ndarray(np.full((32, 32, 3), number % 256, np.uint8), format="rgb24")
            image.pts, image.time_base = number, Fraction(1, fps)
            out.mux(picture.encode(image))
        out.mux(picture.encode(None))
