"""`abaw predict` on real short clips: rows, the picture over time, the video with predictions, and bad files."""

import csv
import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from scipy.special import expit, softmax

from abaw.backbones.backbone import create_backbone, describe
from abaw.core.errors import AbawError, DataError, UsageError
from abaw.core.progress import Silent
from abaw.core.tasks import AU, EXPR, MTL, VA
from abaw.evaluate.prediction_table import output_columns
from abaw.exchange.importer import new_origin
from abaw.extract.faces.prepare import PrepareOptions, prepare_videos
from abaw.media.images import read_image
from abaw.media.pictures import read_pictures
from abaw.media.redraw import redraw
from abaw.predict.input_files import PredictOptions
from abaw.predict.output_rows import OutputRow, output_values
from abaw.predict.overlay import Overlay
from abaw.predict.run_predictor import load_features
from abaw.predict.timeline import N_COLUMNS, PersonSeries, draw_timeline
from abaw.predict.videos import predict_video, predict_videos
from abaw.store import FeatureStore
from abaw.tests.support.paths import DATA
from abaw.tests.support.stores import put_feature
from abaw.train.checkpoint import load_weights, save_tensors
from abaw.train.model import Model
from abaw.train.run_files import BEST
from abaw.train.runs import Run, open_run

VIDEOS = DATA / "sample" / "videos"
FILES = {"overlay.mp4", "predictions.csv", "predictions.json", "timeline.png"}
TIMES_MS = (0, 40, 80, 130, 160, 210, 300, 330, 360, 400, 450, 500)


@pytest.fixture(scope="module")
def face() -> list[np.ndarray]:
    """A face, 12 frames (180, 320, 3)."""
    return [picture.image for picture in read_pictures(VIDEOS / "single_face.mp4", range(12), shorter_side=180)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """Runs `va`, `expr` and `au` of probes on HOG of noise: what they say is nothing, but they say it of faces."""
    from abaw.pipeline import train_seeds
    from abaw.train.config import make_config

    folder = tmp_path_factory.mktemp("runs")
    store = FeatureStore.create(folder / "store.zarr")
    hog = create_backbone("hog")
    store.add_feature("hog", **describe(hog, hog.spec, ""))
    rng = np.random.default_rng(0)
    n, width = 60, hog.spec.shape[0]
    labels = {
        "va": rng.uniform(-1, 1, (n, 2)),
        "expr": rng.integers(0, 8, (n, 1)),
        "au": rng.integers(0, 2, (n, 12)),
    }
    for split in ("train", "val"):
        put_feature(store, "hog", split, rng.random((n, width)))
        for task, rows in labels.items():
            store.write_labels(task, split, split, rows.astype(np.float32))
    for task, head in (("va", "ridge"), ("expr", "logistic"), ("au", "logistic")):
        config = make_config({"task": task, "features": ("hog",), "head": {"name": head}, "window": 10})
        list(train_seeds([config], store, folder, task, device="cpu"))
    return folder


def table_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "predictions.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def times_of(file: Path) -> list[float]:
    return [picture.time_s for picture in read_pictures(file)]


def packets_of_sound(file: Path) -> list[bytes]:
    with av.open(str(file)) as container:
        return [bytes(packet) for packet in container.demux(audio=0) if packet.size]


def probe_outputs(run: Run, crops: list[np.ndarray]) -> np.ndarray:
    """A run's outputs for crops, each by itself: probes look at one frame at a time."""
    hog = create_backbone("hog")
    features = hog(hog.preprocess(torch.from_numpy(np.stack(crops)))).to(torch.float16).float()[None]
    model = Model(run.config, {"va": VA, "expr": EXPR, "au": AU}[run.config.task], run.shapes).eval()
    load_weights(model, run.folder / BEST)
    with torch.inference_mode():
        return model({"hog": features}, {"hog": torch.ones(1, len(crops), dtype=torch.bool)})[0].numpy()


def test_a_video_with_a_face_and_sound(tmp_path, numbered, face, runs, run_cli):
    sound = 0.3 * np.sin(np.arange(8000) * 0.2).astype(np.float32)
    source = numbered.write(tmp_path / "in" / "a.mp4", pictures=face, times_ms=TIMES_MS, sound=sound)
    out = tmp_path / "out"
    done = run_cli("predict", "va", source, "--runs", runs, "--out", out, "--device", "cpu")
    assert done.exit_code == 0, done.output
    assert "done 1, skipped 0, failed 0 (12 frames" in done.output
    assert {path.name for path in out.iterdir()} == {"a"} and {path.name for path in (out / "a").iterdir()} == FILES
    rows = table_of(out / "a")
    assert tuple(rows[0]) == ("frame", "time_s", "person", "valence", "arousal", "left", "top", "right", "bottom")
    assert [int(row["frame"]) for row in rows] == list(range(1, 13)) and {row["person"] for row in rows} == {"a"}
    np.testing.assert_allclose([float(row["time_s"]) for row in rows], np.array(TIMES_MS) / 1000, atol=1e-6)
    # the same crops by another way: hog and the head, without store, windows and files of rows
    prepare_videos(PrepareOptions((source,), tmp_path / "data", device="cpu"), Silent())
    crops = [read_image(file) for file in sorted((tmp_path / "data" / "cropped_aligned" / "a").iterdir())]
    wanted = np.clip(probe_outputs(open_run(runs / "va"), crops), -1, 1)
    given = [[float(row["valence"]), float(row["arousal"])] for row in rows]
    np.testing.assert_allclose(given, wanted, atol=2e-5)
    tree = json.loads((out / "a" / "predictions.json").read_text())
    assert (tree["run"], tree["task"], tree["people"], tree["n_frames"]) == ("va", "va", ["a"], 12)
    assert tree["features"] == {"hog": create_backbone("hog").fingerprint(create_backbone("hog").spec)}
    assert [[str(value) for value in row[:1]] for row in tree["rows"]] == [[row["frame"]] for row in rows]
    np.testing.assert_allclose([row[3:5] for row in tree["rows"]], given, atol=1e-6)
    overlay = out / "a" / "overlay.mp4"
    np.testing.assert_allclose(times_of(overlay), times_of(source), atol=1e-6)
    assert packets_of_sound(overlay) == packets_of_sound(source) != []
    with Image.open(out / "a" / "timeline.png") as picture:
        assert picture.size[0] == 1430
    again = run_cli("predict", "va", source, "--runs", runs, "--out", out, "--device", "cpu")
    assert again.exit_code == 0 and "done 0, skipped 1, failed 0" in again.output
    other = run_cli("predict", "expr", source, "--runs", runs, "--out", out, "--device", "cpu")
    assert (
        other.exit_code == 1 and f"{out / 'a'} exists. Delete it, or choose another folder with --out." in other.output
    )


def test_rows_by_python(tmp_path, numbered, face, runs):
    source = numbered.write(tmp_path / "a.mp4", pictures=face[:4], n_frames=4)
    rows = predict_video(open_run(runs / "expr"), source, device="cpu")
    assert [row.frame for row in rows] == [1, 2, 3, 4] and [row.time_s for row in rows] == pytest.approx(
        times_of(source), abs=1e-6
    )
    for row in rows:
        shares = {name: float(row.outputs[f"{name}_probability"]) for name in EXPR.outputs}
        assert (
            sum(shares.values()) == pytest.approx(1)
            and max(shares, key=shares.__getitem__) == row.outputs["expression"]
        )
        left, top, right, bottom = row.box
        assert 90 < left < 130 < 170 < right < 200 and 20 < top < 60 < 130 < bottom < 170


def test_an_image_is_a_window_of_one_frame(tmp_path, face, runs, run_cli):
    source = tmp_path / "a.png"
    Image.fromarray(face[0]).save(source)
    done = run_cli("predict", "va", source, "--runs", runs, "--out", tmp_path / "out", "--device", "cpu")
    assert done.exit_code == 0, done.output
    assert "Run va looks at 10 frames at once, and an image is one" in done.output and "fps" not in done.output
    (row,) = table_of(tmp_path / "out" / "a_png")
    # the crop by another way: that of a video of this one picture, without loss
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 180, "bgr0"
        frame = av.VideoFrame.from_ndarray(face[0], format="rgb24")
        container.mux([*stream.encode(frame), *stream.encode(None)])
    prepare_videos(PrepareOptions((tmp_path / "a.mkv",), tmp_path / "data", every=1, device="cpu"), Silent())
    crops = [read_image(file) for file in (tmp_path / "data" / "cropped_aligned" / "a").iterdir()]
    wanted = np.clip(probe_outputs(open_run(runs / "va"), crops), -1, 1)
    np.testing.assert_allclose([[float(row["valence"]), float(row["arousal"])]], wanted, atol=1e-4)


class InterruptedExtraction(Silent):
    """Ctrl-C at the first batch of the step "extract"."""

    step = ""

    def start(self, label: str, total: int, unit: str, done: int = 0) -> None:
        self.step = label

    def advance(self, n: int = 1, note: str = "") -> None:
        if self.step == "extract":
            raise KeyboardInterrupt


def test_ctrl_c_while_features_are_made(tmp_path, numbered, face, runs):
    source = numbered.write(tmp_path / "a.mp4", pictures=face[:4], n_frames=4)
    options = PredictOptions((source,), tmp_path / "out", device="cpu")
    with pytest.raises(KeyboardInterrupt):
        predict_videos(open_run(runs / "va"), options, InterruptedExtraction())
    assert list((tmp_path / "out").iterdir()) == []


def test_videos_of_a_folder_one_of_them_a_text_and_one_without_a_face(tmp_path, numbered, face, runs, run_cli):
    videos, out = tmp_path / "in", tmp_path / "out"
    numbered.write(videos / "face.mp4", pictures=face[:3], n_frames=3)
    numbered.write(videos / "wall.mp4", n_frames=3)
    (videos / "text.mp4").write_text("not a video\n")
    done = run_cli("predict", "au", videos, "--runs", runs, "--out", out, "--no-overlay", "--device", "cpu")
    assert done.exit_code == 1
    assert "done 2, skipped 0, failed 1" in done.output
    assert "text.mp4 cannot be read as a video" in done.output and "wall: no face was found in it" in done.output
    assert {path.name for path in out.iterdir()} == {"face", "wall"}  # nothing half made
    assert {path.name for path in (out / "wall").iterdir()} == FILES - {"overlay.mp4"}
    assert (out / "wall" / "predictions.csv").read_text().count("\n") == 1
    assert json.loads((out / "wall" / "predictions.json").read_text())["rows"] == []
    for row in table_of(out / "face"):
        assert all(row[unit] == str(int(float(row[f"{unit}_probability"]) > 0.5)) for unit in AU.outputs)


def test_no_face_has_an_overlay_too_and_exits_with_0(tmp_path, numbered, runs, run_cli):
    source = numbered.write(tmp_path / "wall.mp4", n_frames=3)
    done = run_cli("predict", "va", source, "--runs", runs, "--out", tmp_path / "out", "--device", "cpu")
    assert done.exit_code == 0, done.output
    assert times_of(tmp_path / "out" / "wall" / "overlay.mp4") == times_of(source)


def test_a_file_that_is_cut_off_is_used_as_far_as_it_goes(tmp_path, numbered, face, runs):
    whole = numbered.write(tmp_path / "whole.mp4", pictures=face * 4, n_frames=48)
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    options = PredictOptions((cut,), tmp_path / "out", device="cpu")
    summary = predict_videos(open_run(runs / "va"), options)
    assert summary.ok, summary
    n_frames = len(times_of(cut))
    assert 0 < n_frames < 48 and any("cut off or damaged" in note for note in summary.warnings)
    assert times_of(tmp_path / "out" / "cut" / "overlay.mp4") == times_of(cut)
    assert len(table_of(tmp_path / "out" / "cut")) == n_frames


def altered(source: Path, place: Path, feature: str, fingerprint: str) -> Run:
    """A copy of a run that says that its feature was another one."""
    content = json.loads((source / "config.json").read_text())
    [made] = content["features"].values()
    content["config"]["features"] = [feature]
    content["features"] = {feature: {**made, "fingerprint": fingerprint}}
    folder = place / f"run-{feature}-{fingerprint[:6]}"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(content))
    (folder / BEST).write_bytes((source / BEST).read_bytes())
    return open_run(folder)


def test_features_of_other_names_and_views(tmp_path, runs):
    hog = create_backbone("hog")
    named = altered(runs / "va", tmp_path, "mine", hog.fingerprint(hog.spec))
    with pytest.raises(UsageError, match=r"'mine', which is not named after a backbone.* --backbone mine=BACKBONE"):
        load_features(named, ())
    assert [(made.name, made.spec.name) for made in load_features(named, ("mine=hog",))] == [("mine", "hog")]
    mirrored = altered(runs / "va", tmp_path, "hog@hflip", hog.fingerprint(hog.spec, "hflip"))
    assert [(made.name, made.view) for made in load_features(mirrored, ())] == [("hog@hflip", "hflip")]


@pytest.mark.parametrize("alignment", ["prepare", "mixed", None])
def test_crops_of_any_alignment_can_be_behind_a_run(tmp_path, numbered, face, runs, alignment):
    """The features of a video are those of the run, whose outputs they give; None is a run from before alignments."""
    hog = create_backbone("hog")
    if alignment is None:
        run, notes = open_run(DATA / "store-v1" / "runs" / "hog"), 0
    else:
        run = altered(runs / "va", tmp_path, "hog", hog.fingerprint(hog.spec, "", alignment))
        notes = int(alignment == "mixed")
    source = numbered.write(tmp_path / "a.mp4", pictures=face[:4], n_frames=4)
    summary = predict_videos(run, PredictOptions((source,), tmp_path / "out", overlay=False, device="cpu"))
    assert summary.ok, summary
    tree = json.loads((tmp_path / "out" / "a" / "predictions.json").read_text())
    assert len(tree["rows"]) == 4
    assert len([note for note in tree["notes"] if "did not make" in note]) == notes


def test_a_run_on_sound_wants_sound(tmp_path, numbered, face, runs):
    """The features of one are as many as of the other: what counts is that there are none."""
    pytest.importorskip("opensmile")
    sound = create_backbone("egemaps")
    run = altered(runs / "va", tmp_path, "egemaps", sound.fingerprint(sound.spec))
    run.features["egemaps"]["shape"] = list(sound.spec.shape)
    save_tensors(run.folder / BEST, Model(run.config, VA, run.shapes).state_dict(), {"epoch": "1", "score": "0"})
    wave = 0.3 * np.sin(np.arange(3000) * 0.2).astype(np.float32)
    heard = numbered.write(tmp_path / "heard.mp4", pictures=face[:4], n_frames=4, sound=wave)
    assert len(predict_video(run, heard, device="cpu")) == 4
    silent = numbered.write(tmp_path / "silent.mp4", pictures=face[:4], n_frames=4)
    with pytest.raises(DataError, match=r"it has no sound, and run run-egemaps-.* uses sound only"):
        predict_video(run, silent, device="cpu")


def test_runs_that_cannot_predict_a_video(tmp_path, numbered, face, runs):
    source = numbered.write(tmp_path / "a.mp4", pictures=face[:2], n_frames=2)
    run = open_run(runs / "va")
    shape = tuple(run.features["hog"]["shape"])
    other = altered(runs / "va", tmp_path, "hog", "ab" * 32)
    hog = create_backbone("hog")
    with pytest.raises(
        AbawError, match=f"fingerprint abababababab; hog here has {hog.fingerprint(hog.spec)[:12]}: other"
    ):
        predict_video(other, source, device="cpu")
    imported = altered(runs / "va", tmp_path, "hog", new_origin("hog", shape, "vision").fingerprint)
    with pytest.raises(UsageError, match="feature 'hog' that was imported; the network that makes it is unknown"):
        predict_video(imported, source, device="cpu")
    with pytest.raises(UsageError, match="takes no feature 'vit-mean'; it takes hog"):
        predict_video(run, source, backbones=("vit-mean",), device="cpu")
    with pytest.raises(UsageError, match="No file"):
        predict_video(run, tmp_path / "none.mp4", device="cpu")


def test_a_folder_that_cannot_be_written(tmp_path, numbered, runs):
    source = numbered.write(tmp_path / "a.mp4", n_frames=2)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"cannot be written to .* Choose another folder with --out"):
        predict_videos(open_run(runs / "va"), PredictOptions((source,), tmp_path / "file" / "out", device="cpu"))


def test_columns_of_all_tasks_together():
    columns = output_columns(MTL)
    assert columns[:4] == ("valence", "arousal", "expression", "Neutral_probability")
    assert len(columns) == 2 + 1 + 8 + 12 + 12
    outputs = np.random.default_rng(0).normal(0, 1, 22).astype(np.float32)
    values = output_values(MTL, outputs)
    assert tuple(values) == columns
    assert values["expression"] == EXPR.outputs[int(outputs[2:10].argmax())]
    assert values["Fear_probability"] == pytest.approx(softmax(outputs[2:10].astype(float))[3])
    assert values["AU26_probability"] == pytest.approx(expit(float(outputs[21]))) and values["AU26"] == int(
        outputs[21] > 0
    )


@pytest.mark.parametrize("size", [(361, 203), (64, 48)])
def test_odd_sizes_and_other_sound_in_the_new_film(tmp_path, size):
    """ffv1 and PCM, which MP4 does not take, and sides that H.264 does not take."""
    source, out = tmp_path / "a.mkv", tmp_path / "a.mp4"
    with av.open(str(source), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv444p"
        voice = container.add_stream("pcm_s16le", rate=16000, layout="mono")
        for number in range(5):
            picture = np.full((size[1], size[0], 3), 40 * number, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
        tone = (8000 * np.sin(np.arange(3200) * 0.2)).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(tone[None], "s16", "mono")
        frame.sample_rate = 16000
        container.mux(voice.encode(frame))
    assert list(redraw(source, out, lambda number, image: image)) == list(range(5))
    made = list(read_pictures(out))
    assert [picture.time_s for picture in made] == pytest.approx([picture.time_s for picture in read_pictures(source)])
    height, width = made[0].image.shape[:2]
    assert (width, height) == (size[0] + size[0] % 2, size[1] + size[1] % 2)
    assert [round(picture.image.mean() / 40) for picture in made] == list(range(5))
    with av.open(str(out)) as container:
        assert container.streams.audio[0].codec_context.name == "aac"
    (tmp_path / "text.mp4").write_text("no")
    with pytest.raises(DataError, match="cannot be read as a video"):
        list(redraw(tmp_path / "text.mp4", out, lambda number, image: image))


def test_pixels_that_are_no_squares_stay_so(tmp_path):
    source, out = tmp_path / "a.mp4", tmp_path / "b.mp4"
    with av.open(str(source), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 72, 58, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(16, 11)
        picture = av.VideoFrame.from_ndarray(np.zeros((58, 72, 3), dtype=np.uint8), format="rgb24")
        container.mux([*stream.encode(picture), *stream.encode(None)])
    assert list(redraw(source, out, lambda number, image: image)) == [0]
    with av.open(str(out)) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(16, 11)


@pytest.mark.parametrize("size", [(360, 640), (1080, 1920), (640, 360), (75, 101)])
def test_the_overlay_leaves_the_inside_of_faces_alone(size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    outputs = output_values(MTL, np.ones(22, dtype=np.float32))
    height, width = size
    boxes = {"a_left": (0.1, 0.3, 0.4, 0.9), "a_right": (0.6, -0.1, 1.2, 0.8)}
    scale = np.array([width, height, width, height])
    rows = {
        name: OutputRow(1, 0.0, name, outputs, tuple(map(float, np.rint(box * scale)))) for name, box in boxes.items()
    }
    overlay = Overlay(MTL, ["a_left", "a_right"])
    drawn = overlay.draw(image, rows)
    assert drawn.shape[1:] == image.shape[1:] and drawn.shape[0] > height
    for row in rows.values():
        left, top, right, bottom = (max(0, int(value)) for value in row.box)
        np.testing.assert_array_equal(drawn[top : min(bottom, height), left:right], image[top:bottom, left:right])
    assert (drawn[:height] != image).any() and drawn.shape == overlay.draw(image, {}).shape


def test_the_timeline_shows_where_nobody_is_seen():
    series = PersonSeries(
        [0.0, 0.1, 0.2, 1.0, 1.1],
        [np.array([number, *np.eye(8)[number]], dtype=np.float32) for number in (0, 0, 4, 4, 4)],
    )
    axis = draw_timeline(EXPR, {"a": series}, "title", 0.0, 2.0).axes[0]
    shown = np.asarray(axis.images[0].get_array())[0]
    times_s = (np.arange(N_COLUMNS) + 0.5) * 2 / N_COLUMNS
    hidden = np.ma.getmaskarray(np.ma.masked_invalid(shown))
    np.testing.assert_array_equal(hidden, ((times_s > 0.2) & (times_s < 1)) | (times_s > 1.1))
    assert set(shown[times_s < 0.2]) == {0} and set(shown[(times_s > 1) & (times_s < 1.1)]) == {4}
    assert [text.get_text() for text in draw_timeline(VA, {}, "title", 0, 1).axes[0].texts] == ["no face"]


def test_times_that_go_back_or_begin_before_zero_are_drawn(tmp_path, numbered):
    """A transport stream behind another; and one whose clock wrapped, so that it begins before 0."""
    source = tmp_path / "a.ts"
    sound = np.sin(np.arange(32_000) / 9).astype(np.float32)
    numbered.write(source, n_frames=30, rate=25, sound=sound)
    twice = tmp_path / "twice.ts"
    twice.write_bytes(source.read_bytes() * 2)
    early = tmp_path / "early.mkv"
    numbered.write(early, times_ms=range(-400, 800, 40))
    for file in (twice, early):
        out = tmp_path / f"{file.stem}-out.mp4"
        drawn = list(redraw(file, out, lambda number, image: image))
        made = [numbered.number(picture.image) for picture in read_pictures(out)]
        assert made == [numbered.number(picture.image) for picture in read_pictures(file)] and len(made) == len(drawn)
    with av.open(str(tmp_path / "twice-out.mp4")) as container:
        heard = [packet.dts for packet in container.demux(audio=0) if packet.dts is not None]
    assert heard == sorted(set(heard)) and len(heard) > 50
