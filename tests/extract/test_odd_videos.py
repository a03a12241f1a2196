"""Videos that are unusual: straight to features as by way of lossless crops, and pictures out of order."""

import io
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.stream import Disposition
from PIL import Image

from abaw.core.devices import one_thread
from abaw.store import FeatureStore
from abaw.tests.extract.test_from_videos import VIDEOS, pictures, values_of
from abaw.tests.support.videos import NumberedVideos

N_FRAMES = 12
TONE = 0.5 * np.sin(np.arange(32_000) * 0.2).astype(np.float32)


def encoded(
    file: Path,
    images: Iterable[np.ndarray],
    codec: str = "libx264",
    pixels: str = "yuv420p",
    more: Callable[[av.container.OutputContainer], list[av.Packet]] = lambda container: [],
) -> None:
    """Write a video file.

    Args:
        more: adds streams after that of the pictures, and returns their packets.
    """
    first, *_ = images = list(images)
    with av.open(str(file), "w") as container:
        stream = container.add_stream(codec, rate=30, options={"bf": "2", "g": "6"} if codec == "libx264" else {})
        stream.height, stream.width, stream.pix_fmt = *first.shape[:2], pixels
        others = more(container)
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
        for packet in others:
            container.mux(packet)


def cover(container: av.container.OutputContainer) -> list[av.Packet]:
    """A picture of an album: all white, so that somebody would be seen on it."""
    stream = container.add_stream("mjpeg", rate=1)
    stream.width, stream.height, stream.pix_fmt = 64, 64, "yuvj420p"
    stream.disposition = Disposition.attached_pic
    packets = stream.encode(av.VideoFrame.from_ndarray(np.full((64, 64, 3), 255, np.uint8), format="rgb24"))
    return [*packets, *stream.encode(None)]


def second_stream(container: av.container.OutputContainer) -> list[av.Packet]:
    """Other pictures, smaller and later in the file, of nobody."""
    stream = container.add_stream("libx264", rate=30)
    stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
    black = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
    return [*stream.encode(black), *stream.encode(None)]


def sound_alone(file: Path) -> None:
    with av.open(str(file), "w") as container:
        voice = container.add_stream("aac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(TONE[None], "fltp", "mono")
        frame.sample_rate, frame.pts, frame.time_base = 16000, 0, Fraction(1, 16000)
        container.mux(voice.encode(frame))
        container.mux(voice.encode(None))


def swapped(file: Path, source: Path, first: int) -> None:
    """Copy a file, with the times of two pictures one after the other exchanged."""
    with av.open(str(source)) as old, av.open(str(file), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        packets = [packet for packet in old.demux(video=0) if packet.size]
        times = [packet.pts for packet in packets]
        times[first], times[first + 1] = times[first + 1], times[first]
        for packet, time, due in zip(packets, times, sorted(times), strict=True):
            packet.pts, packet.dts, packet.stream = time, due - 400, stream
            new.mux(packet)


def write_odd_videos(folder: Path, numbered: NumberedVideos) -> None:
    """A file of each kind; those named `no_...` have nothing to show."""
    folder.mkdir()
    pair, solo = pictures(2, N_FRAMES), pictures(1, N_FRAMES)
    numbered.write(folder / "short.mp4", 1, pictures=solo[:1])
    numbered.write(folder / "varying.mkv", times_ms=np.cumsum([5, 90, 33] * 4).tolist(), pictures=pair)
    numbered.write(folder / "turned.mp4", rotation=90, n_frames=N_FRAMES, pictures=[np.rot90(one) for one in solo])
    numbered.write(folder / "portrait.mp4", N_FRAMES, pictures=[np.vstack([one[:, :96]] * 2) for one in solo])
    numbered.write(folder / "long_sound.mp4", N_FRAMES, pictures=solo, sound=TONE)
    sound_alone(folder / "no_picture.mp4")
    encoded(folder / "reordered.avi", pair)
    encoded(folder / "stream.ts", solo)
    encoded(folder / "odd.mkv", [one[:95, :191] for one in pair], "ffv1", "bgr0")
    encoded(folder / "deep.mkv", pair, "ffv1", "yuv420p10le")
    encoded(folder / "cover.mp4", solo, more=cover)
    encoded(folder / "streams.mkv", solo, more=second_stream)
    numbered.write(folder / "plain.mkv", N_FRAMES, pictures=pair)
    content = bytearray((folder / "stream.ts").read_bytes())
    content[-400:-200] = bytes(200)
    (folder / "damaged.ts").write_bytes(content)
    content = bytearray((folder / "plain.mkv").read_bytes())
    (folder / "cut.mkv").write_bytes(content[: len(content) * 2 // 3])
    (folder / "no_bytes.mp4").write_bytes(b"")


def as_png(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


SHOWN = {  # frames with a face
    **{f"{name}_left": N_FRAMES for name in ("deep", "odd", "plain", "reordered", "varying")},
    **{f"{name}_right": N_FRAMES - 2 for name in ("deep", "odd", "plain", "reordered", "varying")},
    **dict.fromkeys(
        ("cover", "long_sound", "portrait_left", "portrait_right", "stream", "streams", "turned"), N_FRAMES
    ),
    "short": 1,
}


def test_odd_videos_give_what_prepare_and_extract_give(tmp_path, numbered, run_cli, monkeypatch):
    films, data = tmp_path / "films", tmp_path / "data"
    write_odd_videos(films, numbered)
    files = sorted(films.iterdir())
    monkeypatch.setenv("ABAW_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("abaw.extract.faces.layout.as_jpeg", as_png)
    words = ("extract", "--backbone", "hog", "--batch-size", 4, "--data")
    with one_thread():
        straight = run_cli(*words, films, *VIDEOS, "--store", tmp_path / "a").output
        prepared = run_cli("prepare", *files, "--data", data, *VIDEOS[2:]).output
        run_cli(*words, data, "--store", tmp_path / "b")
    for said in (straight, prepared):
        assert "done 14, skipped 0, failed 2" in said and "no_picture.mp4 has no pictures, only sound" in said, said
        assert "no_bytes.mp4 cannot be read" in said, said
    first, second = values_of(tmp_path / "a"), values_of(tmp_path / "b")
    shown = {name: int(present.sum()) for name, (_, present) in first.items()}
    assert shown == {name: int(present.sum()) for name, (_, present) in second.items()}
    lacking = {name: n for name, n in shown.items() if name.startswith(("cut", "damaged"))}
    assert shown == SHOWN | lacking and all(0 < n < N_FRAMES for n in lacking.values()), shown
    assert {"cut_left", "damaged"} <= lacking.keys()
    attrs = [FeatureStore.open(tmp_path / store).videos("hog") for store in ("a", "b")]
    for name, (values, present) in first.items():
        np.testing.assert_array_equal(present, second[name][1], name)
        np.testing.assert_allclose(values, second[name][0], atol=1e-3, err_msg=name)
        assert attrs[0][name]["fps"] == attrs[1][name]["fps"], name


def test_pictures_out_of_order_are_read_again(tmp_path, numbered, run_cli, monkeypatch):
    monkeypatch.setenv("ABAW_CACHE", str(tmp_path / "cache"))
    # so that networks have seen some pictures by the time that others turn out to be out of order
    monkeypatch.setattr("abaw.extract.faces.keyframes.CHUNK_PIXELS", 1)
    monkeypatch.setattr("abaw.extract.follow_ahead.PICTURES_PER_PIECE", 3)
    plain = numbered.write(tmp_path / "films" / "plain.mkv", N_FRAMES, pictures=pictures(2, N_FRAMES))
    swapped(tmp_path / "films" / "swapped.mkv", plain, 8)
    words = ("extract", "--backbone", "hog", "--batch-size", 4, "--data", tmp_path / "films", *VIDEOS)
    done = run_cli(*words, "--store", tmp_path / "store").output
    assert f"done 2, skipped 0, failed 0 ({2 * (2 * N_FRAMES - 2)} frames into" in done
    assert "swapped: its pictures are not in the order of their times, so it was read twice" in done
    values, attrs = values_of(tmp_path / "store"), FeatureStore.open(tmp_path / "store").videos("hog")
    assert [name for name in values if "read_twice" in attrs[name]] == ["swapped_left", "swapped_right"]
    for side in ("left", "right"):  # the same pictures, whose times are put in order
        for one, other in zip(values[f"swapped_{side}"], values[f"plain_{side}"], strict=True):
            np.testing.assert_allclose(one, other, atol=1e-3)
        assert attrs[f"swapped_{side}"]["fps"] == attrs[f"plain_{side}"]["fps"]
