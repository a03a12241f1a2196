"""The clock of video files: frame i is the i-th picture that decodes, in every container and whatever is wrong with it.

Pictures show their number from 0, at 25 a second, and the sound is a chirp: its pitch tells the time. So the picture in
a row and the sound in it can be compared, and both with what OpenCV decodes.
"""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import simplejpeg
from scipy.io import wavfile

from abaw.core.errors import DataError
from abaw.media import clock_cache, stamps
from abaw.media.picture_times import Decoding, in_order
from abaw.media.pictures import read_pictures
from abaw.media.probe import probe_timing
from abaw.media.redraw import redraw
from abaw.media.sound import load_sound
from abaw.media.stamps import is_timed, read_stamps
from abaw.pipeline import ExtractOptions, doctor, extract
from abaw.store import FeatureStore
from abaw.tests.support.paths import DATA

MEDIA = DATA / "media"
FPS, N_FRAMES, RATE_HZ = 25, 100, 48_000
SIZE = 128, 64
# suffix: codec of the pictures, with its options, and of the sound
KINDS: dict[str, tuple[str, dict[str, str], str]] = {
    ".mp4": ("libx264", {"bf": "2", "g": "20"}, "aac"),
    ".mov": ("mpeg4", {"bf": "2", "g": "20", "qscale": "2"}, "pcm_s16le"),
    ".mkv": ("libx265", {"x265-params": "log-level=none:keyint=20:open-gop=1:bframes=2"}, "flac"),
    ".webm": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "b": "1M", "g": "20"}, "libopus"),
    ".avi": ("mpeg4", {"bf": "2", "g": "20", "qscale": "2"}, "mp3"),
    ".ts": ("libx264", {"bf": "2", "g": "20"}, "aac"),
    ".m2ts": ("mpeg2video", {"bf": "2", "g": "15", "b": "3M"}, "ac3"),
    ".mpg": ("mpeg2video", {"bf": "2", "g": "15", "b": "3M"}, "mp2"),
    ".flv": ("libx264", {"bf": "2", "g": "20"}, "aac"),
    ".wmv": ("wmv2", {"g": "20", "b": "3M"}, "wmav2"),
    ".3gp": ("libx264", {"bf": "0", "g": "20"}, "aac"),
    ".m4v": ("libx264", {"bf": "2", "g": "20", "x264-params": "open-gop=1"}, "aac"),
}
FORMATS = {".m4v": "mp4", ".ts": "mpegts", ".m2ts": "mpegts", ".wmv": "asf", ".mpg": "mpeg"}


def chirp() -> np.ndarray:
    """(samples,) float32 of 4 s; its pitch rises by 1450 Hz a second."""
    t = np.arange(N_FRAMES * RATE_HZ // FPS) / RATE_HZ
    return (0.5 * np.sin(2 * np.pi * (200 * t + 725 * t * t))).astype(np.float32)


def write_film(file: Path, picture: Callable[[int, tuple[int, int]], np.ndarray]) -> Path:
    codec, options, sound_codec = KINDS[file.suffix]
    file.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(file), "w", format=FORMATS.get(file.suffix)) as container:
        stream = container.add_stream(codec, rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        voice = container.add_stream(sound_codec, rate=RATE_HZ, layout="mono")
        voice.bit_rate = 128_000
        for number in range(N_FRAMES):
            frame = av.VideoFrame.from_ndarray(picture(number, SIZE), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(stream.encode(frame))
            if number % FPS == 0:  # a second of sound at a time, so that the two are interleaved
                part = chirp()[number * RATE_HZ // FPS :][:RATE_HZ]
                for heard in as_frames(part, voice, number * RATE_HZ // FPS):
                    container.mux(voice.encode(heard))
        container.mux(stream.encode(None))
        container.mux(voice.encode(None))
    return file


def as_frames(samples: np.ndarray, voice: av.AudioStream, pts: int) -> Iterator[av.AudioFrame]:
    frame = av.AudioFrame.from_ndarray(samples[None], "fltp", "mono")
    frame.sample_rate, frame.pts, frame.time_base = RATE_HZ, pts, Fraction(1, RATE_HZ)
    yield from av.AudioResampler(voice.format.name, "mono", RATE_HZ, voice.frame_size or 1024).resample(frame)


def without_beginning(source: Path, file: Path) -> None:
    """The packets from 1.3 s on, in the middle of a group of pictures, as a copy without decoding cuts."""
    with av.open(str(source)) as old, av.open(str(file), "w", format=FORMATS.get(file.suffix)) as new:
        streams = {stream.index: new.add_stream_from_template(stream) for stream in old.streams}
        start_s = min(
            float(stream.start_time * stream.time_base) for stream in old.streams if stream.start_time is not None
        )
        for packet in old.demux():
            if packet.dts is not None and float(packet.dts * packet.time_base) - start_s > 1.3:
                shift = round((start_s + 1.3) / packet.time_base)  # AVI has no other times than those from 0 on
                packet.pts, packet.dts = packet.pts and packet.pts - shift, packet.dts - shift
                packet.stream = streams[packet.stream.index]
                new.mux(packet)


def with_damage(source: Path, file: Path) -> None:
    """Some packets of pictures in the middle are overwritten."""
    with av.open(str(source)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        places = [(packet.pos, packet.size) for packet in packets[41:44] + packets[63:64]]
    content = bytearray(source.read_bytes())
    rng = np.random.default_rng(0)
    for share, (start, size) in zip((0.42, 0.43, 0.44, 0.63), places, strict=True):
        start = round(share * len(content)) if start is None else start  # some containers do not tell
        content[start : start + size] = rng.bytes(len(content[start : start + size]))
    file.write_bytes(content)


def shown_by_opencv(file: Path, number: Callable[[np.ndarray], int]) -> list[int]:
    """The numbers of all pictures, as another program decodes them."""
    capture, found = cv2.VideoCapture(str(file)), []
    while True:
        is_there, picture = capture.read()
        if not is_there:
            return found
        found.append(number(picture))


@pytest.fixture(scope="module")
def films(tmp_path_factory, numbered) -> Path:
    """A dataset of films of each kind, whole, cut and damaged; their crops are the pictures that decode, in their order."""
    root = tmp_path_factory.mktemp("films")
    for suffix in KINDS:
        stem = suffix[1:]
        whole = write_film(root / "videos" / f"{stem}{suffix}", numbered.picture)
        without_beginning(whole, root / "videos" / f"{stem}-cut{suffix}")
        with_damage(whole, root / "videos" / f"{stem}-damaged{suffix}")
    wavfile.write(root.parent / "chirp.wav", RATE_HZ, chirp())
    for file in (root / "videos").iterdir():
        folder = root / "cropped_aligned" / file.stem
        folder.mkdir(parents=True)
        for picture in read_pictures(file):
            image = np.full((16, 16, 3), numbered.number(picture.image), dtype=np.uint8)
            (folder / f"{picture.number + 1:05}.jpg").write_bytes(simplejpeg.encode_jpeg(image, quality=100))
    (root / "cropped_aligned" / "plain").mkdir()
    shutil.copyfile(folder / f"{picture.number + 1:05}.jpg", root / "cropped_aligned" / "plain" / f"{N_FRAMES:05}.jpg")
    (root / "audio").mkdir()
    wavfile.write(root / "audio" / "plain.wav", RATE_HZ, chirp())
    return root


@pytest.fixture(scope="module")
def store(films: Path) -> FeatureStore:
    summary = extract(ExtractOptions(films, films.parent / "films.zarr", ("spectrogram",), device="cpu", fps=FPS))
    assert not summary.failed and not summary.stopped
    return FeatureStore.open(films.parent / "films.zarr")


def heard_at(store: FeatureStore, video: str, plain: FeatureStore | None = None) -> np.ndarray:
    """(rows,) the frame of the undisturbed chirp that sounds most like each row; -1 where there is no sound."""
    reference = (plain or store).read("spectrogram", "plain").values.astype(np.float32).reshape(N_FRAMES, -1)
    found = store.read("spectrogram", video)
    rows = found.values.astype(np.float32).reshape(len(found.values), -1)
    nearest = ((rows[:, None] - reference[None]) ** 2).sum(axis=2).argmin(axis=1)
    return np.where(found.present, nearest, -1)


@pytest.mark.parametrize("fault", ["", "-cut", "-damaged"])
@pytest.mark.parametrize("suffix", KINDS)
def test_sound_lies_beside_its_picture(suffix, fault, films, store, numbered):
    file = films / "videos" / f"{suffix[1:]}{fault}{suffix}"
    shown = np.array([numbered.number(picture.image) for picture in read_pictures(file)])
    seen = shown_by_opencv(file, numbered.number)
    if fault != "-damaged" and (suffix, fault) != (".webm", "-cut"):  # OpenCV gives up at the first broken packet
        assert shown.tolist() == seen
    assert len(shown) == (N_FRAMES if not fault else len(shown)) and len(shown) >= 30
    assert len(store.read("spectrogram", file.stem).values) == len(shown) == probe_timing(file).n_frames
    heard = heard_at(store, file.stem)
    is_sure = (heard >= 0) & (shown > 8) & (shown < N_FRAMES - 8)
    assert is_sure.sum() > 20
    away = np.abs(heard - shown)[is_sure]
    within = (
        3 if (suffix, fault) == (".avi", "-cut") else 1
    )  # a copy of AVI's packets, which have no times, is not in step
    assert np.median(away) <= within and np.quantile(away, 0.8) <= within + 1, list(
        zip(shown[is_sure], heard[is_sure], strict=True)
    )


@pytest.mark.parametrize(
    ("name", "n_frames", "fps"),
    [("hidden_frames.webm", 100, 25.0), ("edit_list.mp4", 70, 25.0), ("variable_rate.mkv", 40, 39 / 3.8)],
)
def test_recorded_files(name, n_frames, fps, tmp_path, store, films):
    file = MEDIA / name
    assert (probe_timing(file).n_frames, probe_timing(file).fps) == (n_frames, pytest.approx(fps))
    assert len(shown_by_opencv(file, lambda picture: 0)) == n_frames
    data = tmp_path / "data"
    for place in ("videos", "cropped_aligned/film", "VA_Estimation_Challenge/Train_Set"):
        (data / place).mkdir(parents=True)
    shutil.copyfile(file, data / "videos" / f"film{file.suffix}")
    crop = (films / "cropped_aligned" / "plain" / f"{N_FRAMES:05}.jpg").read_bytes()
    for number in range(1, n_frames + 1):
        (data / "cropped_aligned" / "film" / f"{number:05}.jpg").write_bytes(crop)
    rows = "0.1,0.2\n" * (n_frames + 1)
    (data / "VA_Estimation_Challenge" / "Train_Set" / "film.txt").write_text(f"valence,arousal\n{rows}")
    assert extract(ExtractOptions(data, tmp_path / "film.zarr", ("spectrogram",), device="cpu")).ok
    found = FeatureStore.open(tmp_path / "film.zarr").read("spectrogram", "film")
    assert len(found.values) == n_frames and found.fps == pytest.approx(fps)
    report = next(report for report in doctor(data) if report.video == "film")
    assert (report.n_missing, report.extra_rows, report.warnings, report.errors) == (0, {"va": 1}, (), ())


def test_row_i_of_hidden_frames_has_the_sound_of_picture_i(tmp_path, store):
    """The chirp of these files is the same as here; where the edit list begins, 1.2 s of it have gone by."""
    for name, gone in (("hidden_frames.webm", 0), ("edit_list.mp4", 30)):
        data = tmp_path / name
        (data / "videos").mkdir(parents=True)
        (data / "cropped_aligned" / "film").mkdir(parents=True)
        image = np.zeros((16, 16, 3), dtype=np.uint8)
        (data / "cropped_aligned" / "film" / "00001.jpg").write_bytes(simplejpeg.encode_jpeg(image))
        shutil.copyfile(MEDIA / name, data / "videos" / f"film{Path(name).suffix}")
        assert extract(ExtractOptions(data, data / "film.zarr", ("spectrogram",), device="cpu")).ok
        made = FeatureStore.open(data / "film.zarr").read("spectrogram", "film")
        reference = store.read("spectrogram", "plain").values.astype(np.float32).reshape(N_FRAMES, -1)
        rows = made.values.astype(np.float32).reshape(len(made.values), -1)
        heard = ((rows[:, None] - reference[None]) ** 2).sum(axis=2).argmin(axis=1)
        away = np.abs(heard - gone - np.arange(len(heard)))[8:-8]
        assert np.median(away) <= 1 and away.max() <= 3, name


def test_lost_pictures_are_told_where_crops_are_from_elsewhere(films, tmp_path):
    for suffix in (".mp4", ".mkv", ".avi", ".ts", ".flv"):
        for fault, is_told in (("", False), ("-cut", False), ("-damaged", True)):
            file = films / "videos" / f"{suffix[1:]}{fault}{suffix}"
            found = read_stamps(file)
            assert bool(found.n_lost or found.ends_early) == is_told, (
                file
            )  # what FFmpeg reads of FLV ends at the damage
            assert not found.n_lost or 35 <= found.lost_after <= 45
            assert suffix == ".flv" or bool(found.n_lost) == is_told, file
    (report,) = [report for report in doctor(films) if report.video == "mp4-damaged"]
    assert any(
        "pictures in the middle of mp4-damaged.mp4 seem to be lost, the first after frame" in w for w in report.warnings
    )
    data = tmp_path / "own"
    shutil.copytree(films / "cropped_aligned" / "mp4-damaged", data / "cropped_aligned" / "mp4-damaged")
    (data / "videos").mkdir()
    (data / "faces").mkdir()
    shutil.copy(films / "videos" / "mp4-damaged.mp4", data / "videos")
    (data / "faces" / "mp4-damaged.json").write_text(
        '{"people": ["mp4-damaged"]}'
    )  # of `abaw prepare`, which counts alike
    (report,) = [report for report in doctor(data) if report.kind == "video"]
    assert not any("are lost" in warning for warning in report.warnings)


def test_what_was_decoded_is_kept(tmp_path, numbered, monkeypatch):
    monkeypatch.setenv("ABAW_CACHE", str(tmp_path / "cache"))
    file = numbered.write(tmp_path / "a.mp4", n_frames=12)
    assert not is_timed(file)
    first = read_stamps(file)
    assert is_timed(file) and len(list((tmp_path / "cache").iterdir())) == 1

    def fail(*arguments: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr("abaw.media.stamps._decode_times", fail)
    link = tmp_path / "b.mp4"
    link.hardlink_to(file)
    for path in (file, link):
        stamps._recent.clear()  # what this process remembers
        again = read_stamps(path)
        assert again.shown.tolist() == first.shown.tolist()
        assert (again.base, again.fps, again.nominal, again.n_stated) == (first.base, 30.0, first.nominal, 12)
    (kept_file,) = (tmp_path / "cache").iterdir()
    kept_file.write_bytes(kept_file.read_bytes()[:40])
    stamps._recent.clear()
    assert clock_cache.load(kept_file.stem) is None and not is_timed(file)
    monkeypatch.undo()
    monkeypatch.setenv("ABAW_CACHE", str(tmp_path / "cache"))
    numbered.write(file, n_frames=14)  # another video of the same name
    assert len(read_stamps(file).shown) == 14


@pytest.mark.parametrize("place", [10, 500_000, 999_990])
def test_another_file_is_not_taken_for_the_one_that_was_decoded(place, tmp_path):
    file = tmp_path / "a.mp4"
    content = bytearray(1_000_000)
    file.write_bytes(content)
    before, status = clock_cache.key_of(file), file.stat()
    content[place] = 1
    file.write_bytes(content)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))  # of the same size and time
    changed = clock_cache.key_of(file)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    longer = tmp_path / "b.mp4"
    longer.write_bytes(bytes(content) + b"\0")
    os.utime(longer, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert len({before, changed, clock_cache.key_of(file), clock_cache.key_of(longer)}) == 4


def test_the_bytes_of_an_unchanged_file_are_read_once(tmp_path, monkeypatch):
    file, n_read = tmp_path / "a.mp4", []
    file.write_bytes(bytes(1000))
    sample = clock_cache.sample_of
    monkeypatch.setattr(clock_cache, "sample_of", lambda path: n_read.append(path) or sample(path))
    keys = [clock_cache.key_of(file) for _ in range(3)]
    assert len(n_read) == 3  # it has just been written, and may be written again within the same tick of the clock
    monkeypatch.setattr(clock_cache, "SETTLED_NS", -1)
    keys += [clock_cache.key_of(file) for _ in range(3)]
    assert len(n_read) == 4 and len(set(keys)) == 1
    file.write_bytes(bytes(1001))
    assert clock_cache.key_of(file) not in keys and len(n_read) == 5


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(tmp_path, numbered, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("ABAW_CACHE", str(tmp_path / "file"))
    file = numbered.write(tmp_path / "a.mkv", n_frames=7)
    assert len(read_stamps(file).shown) == 7 and is_timed(file)  # this process remembers it
    stamps._recent.clear()
    assert len(read_stamps(file).shown) == 7


def test_pictures_beyond_the_limit_are_refused_before_they_are_decoded(tmp_path):
    with av.open(str(tmp_path / "a.mov"), "w") as container:
        stream = container.add_stream("png", rate=25, options={"compression_level": "1"})
        stream.width, stream.height, stream.pix_fmt = 16000, 16000, "monob"
        frame = av.VideoFrame(16000, 16000, "monob")
        frame.planes[0].update(bytes(frame.planes[0].buffer_size))
        container.mux([*stream.encode(frame), *stream.encode(None)])
    del frame
    for read in (read_stamps, lambda file: next(read_pictures(file))):
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins at what is in use now
        before = peak_kib()
        with pytest.raises(DataError, match="16000 x 16000 pixels"):
            read(tmp_path / "a.mov")
        assert peak_kib() - before < 8_000, "the picture, of 31,250 KiB, was decoded"


def peak_kib() -> int:
    """The most memory that this process has used."""
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])


def test_the_default_pictures_are_read_and_no_cover(tmp_path, numbered):
    small = np.zeros((32, 32, 3), dtype=np.uint8)
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        still = container.add_stream("mjpeg", rate=25)
        still.width, still.height, still.pix_fmt = 32, 32, "yuvj420p"
        still.disposition = av.stream.Disposition.attached_pic
        film = container.add_stream("libx264", rate=25)
        film.width, film.height, film.pix_fmt = *SIZE, "yuv420p"
        film.disposition = av.stream.Disposition.default
        container.mux(still.encode(av.VideoFrame.from_ndarray(small, format="rgb24")))
        for number in range(9):
            frame = av.VideoFrame.from_ndarray(numbered.picture(number), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(film.encode(frame))
        container.mux(film.encode(None))
    assert [numbered.number(picture.image) for picture in read_pictures(tmp_path / "a.mkv")] == list(range(9))
    assert probe_timing(tmp_path / "a.mkv").n_frames == 9


def as_an_older_version_stored_it(store: FeatureStore, feature: str, video: str, n_frames: int) -> None:
    """Write a video anew with other rows, and without the mark that they are counted as they decode."""
    attrs = store.videos(feature)[video]
    clock_cache = {key: attrs[key] for key in ("fps", "source", "precision")}
    values = store.read(feature, video).values
    rows = np.arange(n_frames)
    writer = store.writer(feature, video, n_frames, rows, clock_cache)
    writer.write(rows, np.resize(values, (n_frames, *values.shape[1:])).astype(np.float32))
    writer.finish()


def test_what_older_versions_counted_otherwise_is_made_again(tmp_path, numbered, make_data, monkeypatch):
    root = make_data({"right": 8, "wrong": 8})
    for name in ("right", "wrong"):
        numbered.write(root / "videos" / f"{name}.mp4", n_frames=8, sound=np.zeros(16000, dtype=np.float32))
    options = ExtractOptions(root, tmp_path / "s.zarr", ("hog", "spectrogram"), device="cpu")
    assert extract(options).ok
    made = FeatureStore.create(tmp_path / "s.zarr")
    before = {feature: made.read(feature, "wrong").values for feature in ("hog", "spectrogram")}
    for feature in before:
        as_an_older_version_stored_it(made, feature, "right", 8)
        as_an_older_version_stored_it(made, feature, "wrong", 10)  # as if two packets had no picture
    summary = extract(options)
    assert (sorted(summary.done), summary.skipped) == (["wrong"], ["right"])
    for feature, values in before.items():
        np.testing.assert_array_equal(made.read(feature, "wrong").values, values)
    monkeypatch.setattr("abaw.media.stamps._decode_times", None)  # what is marked need not be decoded again
    monkeypatch.setenv("ABAW_CACHE", str(tmp_path / "empty"))
    shutil.rmtree(root / "cropped_aligned" / "right"), (root / "videos" / "right.mp4").unlink()
    assert extract(options).skipped == ["wrong"]


def test_a_recording_behind_another_is_shown_after_it(tmp_path, films, numbered):
    """Two transport streams, one written behind the other: times begin anew."""
    first = (films / "videos" / "ts.ts").read_bytes()
    (tmp_path / "both.ts").write_bytes(first + first)
    times_s = read_stamps(tmp_path / "both.ts").times_s()
    shown = [numbered.number(picture.image) for picture in read_pictures(tmp_path / "both.ts")]
    assert shown == shown_by_opencv(tmp_path / "both.ts", numbered.number)
    assert len(shown) == len(times_s) >= 2 * N_FRAMES - 2
    np.testing.assert_allclose(np.diff(times_s), 1 / FPS, atol=0.05)


def test_a_clock_that_was_set_anew_stays_with_its_sound(tmp_path, films, numbered, store):
    """A transport stream whose times jump ahead by a day in the middle."""
    later = tmp_path / "later.ts"
    with av.open(str(films / "videos" / "ts.ts")) as old, av.open(str(later), "w", format="mpegts") as new:
        streams = {stream.index: new.add_stream_from_template(stream) for stream in old.streams}
        for packet in old.demux():
            if packet.dts is not None:
                shift = round(20_000 / packet.time_base)
                packet.pts, packet.dts, packet.stream = (
                    packet.pts + shift,
                    packet.dts + shift,
                    streams[packet.stream.index],
                )
                new.mux(packet)
    data = tmp_path / "data"
    (data / "videos").mkdir(parents=True)
    (data / "cropped_aligned" / "film").mkdir(parents=True)
    shutil.copyfile(films / "cropped_aligned" / "ts" / "00001.jpg", data / "cropped_aligned" / "film" / "00001.jpg")
    file = data / "videos" / "film.ts"
    file.write_bytes((films / "videos" / "ts.ts").read_bytes() + later.read_bytes())
    found = read_stamps(file)
    assert len(found.jumps) == 1 and found.fps == pytest.approx(FPS, rel=0.03) and found.times_s()[-1] < 12
    assert any("jumps to" in note for note in found.notes("film.ts"))
    sound = load_sound(file)
    assert sound is not None and sound.waveform.duration_s == pytest.approx(8, abs=0.3)
    assert extract(ExtractOptions(data, tmp_path / "s.zarr", ("spectrogram",), device="cpu")).ok
    heard = heard_at(FeatureStore.open(tmp_path / "s.zarr"), "film", store)
    shown = np.array([numbered.number(picture.image) for picture in read_pictures(file)])
    is_sure = (heard >= 0) & (shown > 8) & (shown < N_FRAMES - 8)
    assert np.quantile(np.abs(heard - shown)[is_sure], 0.9) <= 3
    assert len(list(redraw(file, tmp_path / "drawn.mp4", lambda number, image: image))) == len(found.shown)
    with av.open(str(tmp_path / "drawn.mp4")) as container:
        ends_s = [float(stream.duration * stream.time_base) for stream in container.streams]
    assert len(ends_s) == 2 and abs(ends_s[0] - ends_s[1]) < 0.3 and max(ends_s) < 12


@pytest.mark.parametrize(
    ("kind", "heard_s", "n_jumps"),
    [
        ("mpegts", [0.0, 0.2, 60.0, 60.2], 1),  # nothing was recorded meanwhile: the clock was set anew
        ("mpegts", [0.0, 0.2, 20.0, 40.0, 60.0], 0),  # sound went on: pictures are missing
        ("mpegts", [], 1),
        ("matroska", [], 0),  # a still picture may be shown for a minute
    ],
)
def test_a_hole_in_the_pictures_is_no_jump_of_the_clock(kind, heard_s, n_jumps):
    times = [0, 40, 80, 60_000, 60_040, None]
    made = Decoding(
        *(kind, "h264", times, Fraction(1, 1000), Fraction(FPS), 0, 0, 0, [], []),
        *(np.array(heard_s), None, 0, False),
    )
    shown, jumps = in_order(made)
    begin = 120 if n_jumps else 60_000
    assert shown.tolist() == [0, 40, 80, begin, begin + 40, begin + 80]
    assert jumps.tolist() == ([[60_000, 59_880]] if n_jumps else [])


def test_pictures_lost_without_a_word_show_in_the_gap(tmp_path, films):
    gone = tmp_path / "a.webm"
    with av.open(str(films / "videos" / "webm.webm")) as old, av.open(str(gone), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.dts is not None and not 800 <= packet.pts < 1600:  # a group of pictures is not there
                packet.stream = stream
                new.mux(packet)
    found = read_stamps(gone)
    assert (len(found.shown), found.n_lost, found.lost_after) == (N_FRAMES - 20, 20, 20)


def test_a_variable_rate_is_its_mean_in_every_container(tmp_path, numbered):
    times = [*range(0, 1000, 40), *range(1000, 4000, 200)]
    for suffix in (".mp4", ".mov", ".mkv"):
        file = numbered.write(tmp_path / f"a{suffix}", times_ms=times)
        assert probe_timing(file).fps == pytest.approx(39 / 3.8, rel=0.03), suffix


def test_a_file_that_is_cut_off_is_told(tmp_path, films):
    for suffix in (".mkv", ".avi", ".flv"):
        whole = films / "videos" / f"{suffix[1:]}{suffix}"
        cut = tmp_path / f"a{suffix}"
        cut.write_bytes(whole.read_bytes()[: round(whole.stat().st_size * 0.6)])
        assert "is cut off" in " ".join(read_stamps(cut).notes("a")), suffix
        assert not read_stamps(whole).notes("a") and not read_stamps(cut).n_lost


def with_order_lost(file: Path) -> Path:
    """A film whose decoder gives pictures in the order of the file, and not of their times."""
    with av.open(str(file), "w") as container:
        stream = container.add_stream("mjpeg", rate=25, options={"qscale": "3"})
        stream.width, stream.height, stream.pix_fmt = (*SIZE, "yuvj420p")
        for number, time in enumerate((0, 1, 4, 2, 3, 5)):
            packet = av.Packet(simplejpeg.encode_jpeg(np.full((SIZE[1], SIZE[0], 3), 40 * time, np.uint8)))
            packet.stream, packet.time_base = stream, Fraction(1, 25)
            packet.pts, packet.dts = time, number - 3
            container.mux(packet)
    return file


def test_times_taken_on_the_way_are_those_of_a_pass_of_their_own(tmp_path, films, numbered, monkeypatch):
    gap = numbered.write(tmp_path / "gap.mp4", times_ms=[0, 40, 80, 20_000, 20_040])
    files = [*sorted((films / "videos").iterdir()), *(MEDIA / name for name in ("edit_list.mp4", "hidden_frames.webm"))]
    decode, decoded = stamps._decode_times, list[str]()

    def count(file: Path, cancelled: None) -> Decoding:
        decoded.append(file.name)
        return decode(file, cancelled)

    for number, file in enumerate([*files, MEDIA / "variable_rate.mkv", gap, with_order_lost(tmp_path / "lost.mkv")]):
        results = []
        for is_timed_first in (False, True):
            monkeypatch.setenv("ABAW_CACHE", str(tmp_path / f"cache-{number}-{is_timed_first}"))
            stamps._recent.clear()
            if is_timed_first:
                read_stamps(file)
            else:
                monkeypatch.setattr(stamps, "_decode_times", count)
            notes: list[str] = []
            shown = [(one.number, one.time_s) for one in read_pictures(file, shorter_side=8, n_threads=0, notes=notes)]
            monkeypatch.setattr(stamps, "_decode_times", decode)
            assert is_timed(file)
            results.append(
                (shown, notes, {name: np.asarray(values).tolist() for name, values in vars(read_stamps(file)).items()})
            )
        assert results[0] == results[1], file.name
        assert file.name in decoded or not read_stamps(file).n_broken
    assert {"mp4.mp4", "mkv.mkv", "webm.webm", "3gp.3gp", "edit_list.mp4", "variable_rate.mkv"}.isdisjoint(decoded)
    assert {"avi.avi", "ts.ts", "gap.mp4", "lost.mkv"} <= set(decoded)
