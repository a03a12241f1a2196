"""Sound through the whole extraction: clicks in the right rows, bad files, and the command line."""

import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from scipy.io import wavfile
from transformers import Wav2Vec2Config, Wav2Vec2Model

from abaw.backbones.backbone import create_backbone, describe
from abaw.backbones.registry import get_spec
from abaw.core.progress import Stop
from abaw.core.tasks import get_task
from abaw.datasets.clips import Clip
from abaw.datasets.frames import FrameSource
from abaw.datasets.image_folders import CropFolder
from abaw.datasets.video_files import People
from abaw.extract.audio_runner import AudioRunner, AudioSource
from abaw.extract.feature import Feature
from abaw.media.waveform import RATE_HZ
from abaw.pipeline import ExtractOptions, extract
from abaw.store import FeatureStore
from abaw.train.data.table import load_table

FILM_S, CLICK_S, SOUND_S = 3.6, 1.834, (0.3, 3.4)
MS = 1000
FRAME_TIMES_MS = {
    "15": [i * MS / 15 for i in range(54)],
    "29.97": [i * MS * 1001 / 30000 for i in range(108)],
    "60": [i * MS / 60 for i in range(216)],
    "variable": [*range(0, 500, 20), *range(500, 1200, 100), *range(1200, 1900, 10), *range(1900, 3600, 50)],
}
SLOW = ("functionals", "vggish", "wav2vec2")  # these are tried at a variable rate alone
# How far the row found may be from the click: native frames are that long or that far apart.
ENCODERS = {
    "compare": 0.015,
    "egemaps": 0.015,
    "spectrogram": 0.010,
    "wav2vec2": 0.015,
    "vggish-0.04s": 0.040,
    "vggish-relu-0.04s": 0.040,
    "vggish-pca-0.04s": 0.040,
    "compare-functionals-0.2s-0.04s": 0.040,
    "egemaps-functionals-0.2s-0.04s": 0.040,
}


def write_film(file: Path, times_ms: list[float], voice: np.ndarray | None, start_s: float = 0.0) -> None:
    """A film whose frames are shown at given times, with a sound track that begins at a given time."""
    base = Fraction(1, 90_000)
    with av.open(str(file), "w") as container:
        picture = container.add_stream("libx264", rate=30, options={"preset": "ultrafast"})
        picture.width = picture.height = 32
        picture.pix_fmt = "yuv420p"
        picture.codec_context.time_base = base
        track = container.add_stream("pcm_s16le", rate=RATE_HZ, layout="mono") if voice is not None else None
        if voice is not None and track is not None:
            for first in range(0, len(voice), 1600):
                part = (voice[first : first + 1600] * 32767).astype(np.int16)[None]
                sound = av.AudioFrame.from_ndarray(np.ascontiguousarray(part), format="s16", layout="mono")
                sound.sample_rate, sound.time_base = RATE_HZ, Fraction(1, RATE_HZ)
                sound.pts = round(start_s * RATE_HZ) + first
                container.mux(track.encode(sound))
        for time_ms in times_ms:
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            frame.pts, frame.time_base = round(time_ms * 90), base
            container.mux(picture.encode(frame))
        container.mux(picture.encode(None))


def click(duration_s: float, at_s: float) -> np.ndarray:
    """Silence but for a millisecond."""
    voice = np.zeros(round(duration_s * RATE_HZ), np.float32)
    voice[round(at_s * RATE_HZ) : round(at_s * RATE_HZ) + 16] = 0.9
    return voice


@pytest.fixture(scope="module")
def features(tmp_path_factory) -> list[Feature]:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("hub") / "small"
    small = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    Wav2Vec2Model(Wav2Vec2Config(**small, conv_dim=[24] * 7)).save_pretrained(folder)
    groups = [["compare"], ["egemaps"], ["spectrogram"], [name for name in ENCODERS if "vggish" in name]]
    groups += [[name] for name in ENCODERS if "functionals" in name]
    made = [(name, create_backbone(group, untrained="vggish" in group[0])) for group in groups for name in group]
    made.append(("wav2vec2", create_backbone("wav2vec2", folder)))
    specs = {name: next(spec for spec in backbone.specs if spec.name == name) for name, backbone in made}
    return [Feature(name, backbone, specs[name]) for name, backbone in made]


def run(store: Path, features: list[Feature], sources: list[AudioSource]):
    opened = FeatureStore.create(store)
    for feature in features:
        opened.add_feature(feature.name, **describe(feature.backbone, feature.spec, ""))
    return opened, AudioRunner(opened, features).run(sources)


def loudness(name: str, values: np.ndarray, times_s: np.ndarray) -> np.ndarray:
    """A course over rows, shown at some times, that is highest where the click is."""
    if name == "spectrogram":
        return values[:, 0, :, 63:65].mean(axis=(1, 2))
    if name in ("compare", "egemaps"):
        return values[:, get_spec(name).classes.index("pcm_RMSenergy_sma" if name == "compare" else "Loudness_sma3")]
    deviation = np.linalg.norm(values - np.median(values, axis=0), axis=1)
    if name == "wav2vec2":
        return deviation
    # windows: what matters is the middle of the time in which a window has the click in it
    heard = np.flatnonzero(np.linalg.norm(values - values[0], axis=1) > 1e-4 * np.abs(values).max())
    return -np.abs(times_s - (times_s[heard[0]] + times_s[heard[-1]]) / 2)


@pytest.mark.parametrize("rate", FRAME_TIMES_MS)
def test_a_click_is_found_in_the_right_row(rate, features, tmp_path):
    times_s = np.array(FRAME_TIMES_MS[rate]) / MS
    start_s, end_s = SOUND_S
    write_film(tmp_path / "film.mkv", FRAME_TIMES_MS[rate], click(end_s - start_s, CLICK_S - start_s), start_s)
    film = CropFolder("film", tmp_path, tmp_path / "film.mkv").open(None, People(tmp_path))
    source = AudioSource(film, tmp_path / "film.mkv", "digest")
    if rate != "variable":
        features = [feature for feature in features if not any(word in feature.name for word in SLOW)]
    store, summary = run(tmp_path / "store.zarr", features, [source])
    assert summary.ok and summary.done == ["film"] and not summary.without_sound

    ends_s = np.append(times_s[1:], times_s[-1] + np.diff(times_s).mean())
    with_sound = (ends_s > start_s + 0.002) & (times_s < end_s - 0.002)
    unclear = np.abs(np.stack([ends_s - start_s, times_s - end_s])).min(axis=0) < 0.002  # Matroska counts milliseconds
    for name in store.features():
        reach_s = ENCODERS[name]
        found = store.read(name, "film")
        assert found.values.dtype == (np.float32 if get_spec(name).dtype == "float32" else np.float16)
        assert np.array_equal(found.present[~unclear], with_sound[~unclear])
        rows = np.flatnonzero(found.present)
        course = loudness(name, found.values[rows].astype(np.float32), ((times_s + ends_s) / 2)[rows])
        row = rows[round(np.flatnonzero(course >= course.max() - 1e-6).mean())]
        error_s = max(times_s[row] - CLICK_S, CLICK_S - ends_s[row], 0)
        assert error_s <= reach_s, f"{name}: row {row} is {error_s * MS:.0f} ms away"


@pytest.mark.parametrize("fps", [15, 30])
def test_a_click_in_a_sound_file_without_a_video(fps, features, tmp_path):
    wavfile.write(tmp_path / "film.wav", RATE_HZ, click(2.0, 1.234))
    source = AudioSource(regular("film", fps, 4 * fps), tmp_path / "film.wav", "digest")
    store, summary = run(tmp_path / "store.zarr", features[:3], [source])
    assert summary.ok and summary.n_frames == 2 * fps
    for name in ("compare", "egemaps", "spectrogram"):
        found = store.read(name, "film")
        assert found.present.tolist() == [True] * 2 * fps + [False] * 2 * fps
        values = found.values[found.present].astype(np.float32)
        row = int(loudness(name, values, np.arange(len(values)) / fps).argmax())
        assert row / fps - 0.015 <= 1.234 <= (row + 1) / fps + 0.015


def regular(name: str, fps: float, n_frames: int) -> FrameSource:
    """Frames at a constant rate, without a video file."""
    return Clip(name, Path(f"{name}.pt"), None, n_frames).open(fps, People(Path()))


def bad_sounds(root: Path) -> dict[str, Callable[[Path], None]]:
    voice = (0.2 * np.sin(np.arange(RATE_HZ) / 9)).astype(np.float32)

    def write(file: Path, samples: np.ndarray, rate_hz: int = RATE_HZ) -> None:
        wavfile.write(file, rate_hz, samples)

    def truncated(file: Path) -> None:
        write(file, voice)
        file.write_bytes(file.read_bytes()[:20_000])

    return {
        "silence": lambda file: write(file, 0 * voice),
        "short": lambda file: write(file, voice[:480]),
        "numberless": lambda file: write(file, np.full(RATE_HZ, np.nan, np.float32)),
        "empty": lambda file: write(file, voice[:0]),
        "truncated": truncated,
        "surround": lambda file: write(file, np.stack([voice] * 6, axis=1)),
        "telephone": lambda file: write(file, voice, 8000),
        "broken": lambda file: (file.write_bytes(b"no sound at all"), None)[1],
    }


def test_bad_sounds_give_a_feature_or_a_sentence(features, tmp_path):
    sources = []
    for name, write in bad_sounds(tmp_path).items():
        write(tmp_path / f"{name}.wav")
        sources.append(AudioSource(regular(name, 25, 25), tmp_path / f"{name}.wav", "digest"))
    sources.append(AudioSource(regular("nothing", 25, 25), None, "digest"))
    store, summary = run(tmp_path / "store.zarr", features, sources)
    assert set(summary.failed) == {"broken"} and "cannot be opened" in summary.failed["broken"]
    assert sorted(summary.without_sound) == ["empty", "nothing"]
    assert sorted(summary.done) == sorted(source.frames.name for source in sources if source.frames.name != "broken")
    notes = {note.split(":")[0] for note in summary.warnings}
    assert notes == {"numberless", "truncated"}
    n_present = {"silence": 25, "short": 1, "numberless": 25, "empty": 0, "truncated": 8, "surround": 25}
    for name in ENCODERS:
        for video, wanted in {**n_present, "telephone": 25, "nothing": 0}.items():
            found = store.read(name, video)
            assert found.present.sum() == wanted, f"{name} of {video}"
            assert found.values.shape == (25, *store.feature_attrs(name)["spec"]["shape"])
            assert np.isfinite(found.values).all()


def test_trouble_of_the_device_is_not_blamed_on_videos(features, monkeypatch, tmp_path):
    wavfile.write(tmp_path / "a.wav", RATE_HZ, click(2.0, 1.2))
    sources = [AudioSource(regular(name, 30, 90), tmp_path / "a.wav", "digest") for name in ("a", "b", "c")]
    (feature,) = [feature for feature in features if feature.name == "spectrogram"]

    def run_with(error: Exception):
        def encode(*_: object) -> None:
            raise error

        monkeypatch.setattr(feature.backbone.encoder, "encode", encode)
        return run(tmp_path / f"{type(error).__name__}.zarr", [feature], sources)[1]

    full = run_with(torch.OutOfMemoryError("2 GiB wanted"))
    assert not full.failed and full.stopped and full.stopped.reason == "out of memory"
    assert full.stopped.sentence.startswith("no memory left on the device at the sound of ")
    assert full.stopped.sentence.endswith("; free it, or use --device cpu (2 GiB wanted)")
    broken = run_with(torch.AcceleratorError("CUDA error: an illegal memory access was encountered"))
    assert broken.device_failed and not broken.failed
    assert broken.stopped == Stop(
        "device failed",
        "the device failed (CUDA error: an illegal memory access was encountered); run the same command again to continue",
    )
    other = run_with(RuntimeError("no such kernel"))
    assert other.failed == dict.fromkeys("abc", "no such kernel") and not other.stopped


def test_a_video_with_neither_crops_nor_a_file_fails_with_a_sentence(tiny_demo, tmp_path):
    data = shutil.copytree(tiny_demo, tmp_path / "data")
    (data / "cropped_aligned" / "nobody").mkdir()
    found = extract(ExtractOptions(data, tmp_path / "store.zarr", ("spectrogram",), device="cpu"))
    folder = data / "cropped_aligned" / "nobody"
    assert found.failed == {
        "nobody": f"{folder} has no files named <frame number>.jpg, such as 00001.jpg; it is empty."
    }
    assert len(found.done) == 7


def test_command_line(tiny_demo, tmp_path, run_cli):
    data, store = tmp_path / "data", tmp_path / "store.zarr"
    shutil.copytree(tiny_demo, data)
    films = [data / "videos" / "demo-02.mp4"]
    write_film(films[0].with_suffix(".mkv"), [i * 40.0 for i in range(130)], None)  # a film without sound
    films[0].unlink()
    arguments = ("extract", "--data", data, "--store", store, "--device", "cpu", "--backbone", "hog", "--backbone")
    result = run_cli(*arguments, "egemaps")
    assert result.exit_code == 0, result.output
    assert "1 videos without sound" in result.output and films[0].stem in result.output
    opened = FeatureStore.open(store)
    face, voice = opened.videos("hog"), opened.videos("egemaps")
    assert set(face) == set(voice)
    assert all(face[video]["n_frames"] == voice[video]["n_frames"] for video in face)
    assert voice[films[0].stem]["n_present"] == 0
    assert all(attrs["dtype"] == "float32" for attrs in voice.values())
    table = load_table(opened, get_task("va"), opened.labels("va", "train"), ("hog", "egemaps"))
    rows = table.rows(table.videos.index(films[0].stem))
    assert table.masks["hog"][rows].any() and not table.masks["egemaps"][rows].any()
    assert table.masks["egemaps"].any() and np.array_equal(table.has_face, table.masks["hog"]), "sound is no crop"

    again = run_cli(*arguments, "egemaps")
    assert again.exit_code == 0 and f"done 0, skipped {len(face)}" in again.output
    (data / "audio").mkdir()
    wavfile.write(data / "audio" / f"{films[0].stem}.wav", RATE_HZ, click(2, 1))
    summary = extract(ExtractOptions(data, store, ("hog", "egemaps"), device="cpu"))
    assert summary.done == [films[0].stem] and not summary.without_sound, "its sound is new, its frames are not"
    assert opened.videos("egemaps")[films[0].stem]["n_present"] > 0


def test_views_are_of_frames_alone(tiny_demo, tmp_path):
    options = ExtractOptions(tiny_demo, tmp_path / "store.zarr", ("hog", "egemaps"), views=("hflip",), device="cpu")
    assert extract(options).ok
    assert FeatureStore.open(tmp_path / "store.zarr").features() == ["egemaps", "hog", "hog@hflip"]
