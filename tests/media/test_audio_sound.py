"""Sound of files: downmix, resampling, start times, and files that are short, empty, damaged or odd."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from scipy.io import wavfile
from scipy.signal import resample_poly

from abaw.core.errors import DataError
from abaw.datasets.image_folders import CropFolder
from abaw.datasets.layouts import open_dataset
from abaw.datasets.sound_files import find_sound_files, sound_digest, sound_file_of
from abaw.datasets.video_files import People
from abaw.media.sound import Sound, load_sound
from abaw.media.waveform import MEMORY_SAMPLES, RATE_HZ, Waveform
from abaw.pipeline import ExtractOptions, extract
from abaw.store import FeatureStore

EDGE = 400  # samples at either end, where filters differ


def tones(times: np.ndarray) -> np.ndarray:
    return 0.4 * np.sin(2 * np.pi * 440 * times) + 0.3 * np.sin(2 * np.pi * 1900 * times)


def samples_of(sound: Sound | None) -> np.ndarray:
    assert sound is not None
    return sound.waveform.read(0, len(sound.waveform))


def rms(difference: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(difference[EDGE:-EDGE]))))


@pytest.mark.parametrize("rate_hz", [8000, 16000, 22050, 44100, 48000])
@pytest.mark.parametrize("kind", [np.int16, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("n_channels", [1, 2])
def test_tones_come_out_as_they_are(tmp_path, rate_hz, kind, n_channels):
    times = np.arange(2 * rate_hz) / rate_hz
    channels = np.stack([tones(times), 0.2 * tones(times)][:n_channels], axis=1)
    scale = np.iinfo(kind).max if np.issubdtype(kind, np.integer) else 1
    wavfile.write(tmp_path / "a.wav", rate_hz, (channels * scale).astype(kind))
    found = samples_of(load_sound(tmp_path / "a.wav"))
    wanted = tones(np.arange(2 * RATE_HZ) / RATE_HZ) * (1 if n_channels == 1 else 0.6)
    assert found.dtype == np.float32 and len(found) == len(wanted)
    assert rms(found - wanted) < 1e-4


def test_resampling_agrees_with_an_independent_one(tmp_path):
    rng = np.random.default_rng(0)
    voice = resample_poly(rng.standard_normal(44100 * 3 // 9), 9, 1) * 0.1  # noise below 2.4 kHz
    wavfile.write(tmp_path / "a.wav", 44100, voice.astype(np.float32))
    found = samples_of(load_sound(tmp_path / "a.wav"))
    wanted = resample_poly(voice.astype(np.float32).astype(float), 160, 441)
    n = min(len(found), len(wanted))
    assert rms(found[:n] - wanted[:n]) < 1e-3


def test_full_scale_stereo_does_not_clip(tmp_path):
    tone = np.sin(2 * np.pi * 300 * np.arange(48000) / 48000)
    wavfile.write(tmp_path / "a.wav", 48000, (np.stack([tone, tone], axis=1) * 32767).astype(np.int16))
    found = samples_of(load_sound(tmp_path / "a.wav"))
    assert rms(found - np.sin(2 * np.pi * 300 * np.arange(RATE_HZ) / RATE_HZ)) < 1e-4
    wavfile.write(tmp_path / "b.wav", 48000, np.stack([tone, -tone], axis=1).astype(np.float32))
    assert np.abs(samples_of(load_sound(tmp_path / "b.wav"))).max() < 1e-6


def test_surround_sound_is_mixed_as_ffmpeg_does(tmp_path):
    """Front .707 each, centre 1, surround .5 each, no subwoofer; scaled to a sum of one."""
    rate_hz, weights = 16000, np.array([0.7071, 0.7071, 1.0, 0, 0.5, 0.5])
    channels = np.stack([np.sin(2 * np.pi * 100 * (i + 1) * np.arange(rate_hz) / rate_hz) for i in range(6)])
    file = tmp_path / "a.flac"
    with av.open(str(file), "w") as container:
        stream = container.add_stream("flac", rate=rate_hz, layout="5.1")
        frame = av.AudioFrame.from_ndarray(
            (channels.T.reshape(1, -1) * 32767).round().astype(np.int16), format="s16", layout="5.1"
        )
        frame.sample_rate = rate_hz
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    found = samples_of(load_sound(file))
    wanted = weights @ channels / weights.sum()
    assert rms(found - wanted) < 1e-3


def write_film(file: Path, voice: np.ndarray, start_s: float, duration_s: float = 2.0, codec: str = "aac") -> None:
    """A film of 25 fps whose sound track begins late."""
    with av.open(str(file), "w") as container:
        picture = container.add_stream("libx264", rate=25)
        picture.width = picture.height = 32
        picture.pix_fmt = "yuv420p"
        track = container.add_stream(codec, rate=RATE_HZ, layout="mono")
        for number in range(round(duration_s * 25)):
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(picture.encode(frame))
        container.mux(picture.encode(None))
        for first in range(0, len(voice), 1024):
            part = (voice[first : first + 1024] * 32767).astype(np.int16)[None]
            sound = av.AudioFrame.from_ndarray(np.ascontiguousarray(part), format="s16", layout="mono")
            sound.sample_rate, sound.time_base = RATE_HZ, Fraction(1, RATE_HZ)
            sound.pts = round(start_s * RATE_HZ) + first
            container.mux(track.encode(sound))
        container.mux(track.encode(None))


@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", "aac"), (".mkv", "aac"), (".mkv", "pcm_s16le")])
def test_the_start_of_a_late_track_is_kept(tmp_path, suffix, codec):
    voice = np.zeros(RATE_HZ, np.float32)
    voice[8000:8100] = 0.9
    write_film(tmp_path / f"a{suffix}", voice, start_s=0.7, codec=codec)
    sound = load_sound(tmp_path / f"a{suffix}")
    peak_s = np.abs(samples_of(sound)).argmax() / RATE_HZ
    assert sound is not None and sound.start_s + peak_s == pytest.approx(1.203, abs=0.006)


def test_a_hole_in_the_track_is_silence(tmp_path):
    file = tmp_path / "a.mkv"
    with av.open(str(file), "w") as container:
        track = container.add_stream("pcm_s16le", rate=RATE_HZ, layout="mono")
        for start in (0, 1600, 16000, 17600):
            sound = av.AudioFrame.from_ndarray(np.full((1, 1600), 8000, np.int16), format="s16", layout="mono")
            sound.sample_rate, sound.time_base, sound.pts = RATE_HZ, Fraction(1, RATE_HZ), start
            container.mux(track.encode(sound))
    loud = samples_of(load_sound(file)) > 0.1
    assert len(loud) == 19200
    assert loud[100:3100].all() and not loud[3300:15900].any() and loud[16100:19100].all()


def test_samples_that_are_no_numbers_are_silence(tmp_path):
    tone = np.sin(np.arange(RATE_HZ) / 20).astype(np.float32)
    tone[5000:5100] = np.nan
    tone[7000] = np.inf
    wavfile.write(tmp_path / "a.wav", RATE_HZ, tone)
    sound = load_sound(tmp_path / "a.wav")
    found = samples_of(sound)
    assert sound is not None and "101 samples of a.wav are not finite" in sound.notes[0]
    assert np.isfinite(found).all() and not found[5000:5100].any() and rms(found[:4900] - tone[:4900]) < 1e-6


def test_short_and_empty_tracks(tmp_path):
    wavfile.write(tmp_path / "short.wav", RATE_HZ, np.ones(480, np.int16))
    assert len(samples_of(load_sound(tmp_path / "short.wav"))) == 480
    wavfile.write(tmp_path / "empty.wav", RATE_HZ, np.ones(0, np.int16))
    assert load_sound(tmp_path / "empty.wav") is None
    write_film(tmp_path / "a.mkv", np.zeros(0, np.float32), 0)
    assert load_sound(tmp_path / "a.mkv") is None


@pytest.mark.parametrize("suffix", [".mkv", ".wav", ".flac"])
def test_of_a_truncated_file_what_is_there_is_used(tmp_path, suffix):
    whole, cut = tmp_path / f"whole{suffix}", tmp_path / f"cut{suffix}"
    voice = (0.3 * np.random.default_rng(0).standard_normal(4 * RATE_HZ)).clip(-1, 1).astype(np.float32)
    if suffix == ".mkv":
        write_film(whole, voice, 0, 4.0)
    elif suffix == ".wav":
        wavfile.write(whole, RATE_HZ, (voice * 32767).astype(np.int16))
    else:
        with av.open(str(whole), "w") as container:
            track = container.add_stream("flac", rate=RATE_HZ, layout="mono")
            part = av.AudioFrame.from_ndarray((voice * 32767).astype(np.int16)[None], format="s16", layout="mono")
            part.sample_rate = RATE_HZ
            container.mux([*track.encode(part), *track.encode(None)])
    content = whole.read_bytes()
    cut.write_bytes(content[: int(len(content) * 0.6)])
    sound = load_sound(cut)
    assert sound is not None and 1.0 < sound.waveform.duration_s < 3.5
    assert any("is cut off" in note for note in sound.notes)
    intact = load_sound(whole)
    assert intact is not None and intact.notes == []


def test_a_file_that_cannot_be_opened_is_an_error(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"nothing of the kind")
    with pytest.raises(DataError, match=r"a\.mp4 cannot be opened"):
        load_sound(tmp_path / "a.mp4")


def test_long_sounds_wait_in_a_file():
    waveform, wanted = Waveform(), np.arange(MEMORY_SAMPLES + 50_000, dtype=np.float32)
    for start in range(0, len(wanted), 1_000_000):
        waveform.append(wanted[start : start + 1_000_000])
    assert waveform._file is not None and len(waveform) == len(wanted)
    assert np.array_equal(waveform.read(MEMORY_SAMPLES - 5, MEMORY_SAMPLES + 5), wanted[MEMORY_SAMPLES - 5 :][:10])
    assert np.array_equal(waveform.read(-2, 2), [0, 0, 0, 1])
    assert waveform.read(len(wanted) - 1, len(wanted) + 2).tolist() == [wanted[-1], 0, 0]


def test_where_sound_is_looked_for(tmp_path):
    (tmp_path / "audio").mkdir()
    for name in ("a.mp3", "a.wav", "b.flac", "notes.txt"):
        (tmp_path / "audio" / name).write_bytes(b"x")
    files, people = find_sound_files(tmp_path), People(tmp_path)
    film = tmp_path / "videos" / "c.mp4"
    assert {name: file.name for name, file in files.items()} == {"a": "a.wav", "b": "b.flac"}
    assert sound_file_of(CropFolder("a_left", tmp_path, None), files, people) == tmp_path / "audio" / "a.wav"
    assert sound_file_of(CropFolder("b", tmp_path, film), files, people) == tmp_path / "audio" / "b.flac"
    assert sound_file_of(CropFolder("c_right", tmp_path, film), files, people) == film
    assert sound_file_of(CropFolder("d", tmp_path, None), files, people) is None
    digests = {sound_digest("x", file) for file in (None, files["a"], files["b"])} | {sound_digest("y", None)}
    assert len(digests) == 4


@pytest.mark.parametrize("name", ["talk_2", "talk_left"])
def test_a_video_with_a_file_of_its_own_has_no_sound_of_another(tmp_path, make_crops, name):
    voice = (0.3 * np.random.default_rng(0).standard_normal(RATE_HZ)).clip(-1, 1).astype(np.float32)
    data = tmp_path / "data"
    for video in ("talk", name, "talk_right"):
        make_crops(data / "cropped_aligned" / video, 10)
    (data / "videos").mkdir()
    write_film(data / "videos/talk.mp4", voice, 0, 1.0)
    write_film(data / f"videos/{name}.mp4", np.zeros(0, np.float32), 0, 1.0)
    (data / "audio").mkdir()
    wavfile.write(data / "audio/talk.wav", RATE_HZ, voice)
    summary = extract(ExtractOptions(data, tmp_path / "store.zarr", ("spectrogram",), device="cpu"))
    assert sorted(summary.done) == sorted(["talk", name, "talk_right"]) and summary.without_sound == [name]
    store = FeatureStore.open(tmp_path / "store.zarr")
    assert not store.read("spectrogram", name).present.any()
    assert store.read("spectrogram", "talk_right").present.any()  # the second person in `talk`
    wavfile.write(data / f"audio/{name}.wav", RATE_HZ, voice)
    summary = extract(ExtractOptions(data, tmp_path / "store.zarr", ("spectrogram",), device="cpu"))
    assert summary.done == [name] and store.read("spectrogram", name).present.any()


def test_crops_that_go_on_after_the_end_of_the_video_file_leave_sound_its_times(make_data, numbered):
    data = make_data({"a": 6})
    numbered.write(data / "videos/a.mkv", times_ms=[0, 40, 200, 240])
    dataset = open_dataset(data)
    frames = dataset.open(dataset.videos[0])
    clock, edges_ns = frames.clock(), frames.times().edges_ns
    assert "crops continue for 2 frames after the end" in clock.warning
    assert edges_ns[:4].tolist() == pytest.approx([0, 40e6, 200e6, 240e6], abs=2e6) and len(edges_ns) == 7
