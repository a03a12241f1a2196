"""`abaw predict` with nothing trained: which arguments are runs, videos and images; what `fer` says of them, and draws."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from PIL import Image

from abaw.backbones.backbone import create_backbone
from abaw.core.errors import UsageError
from abaw.core.progress import Silent
from abaw.core.tasks import EXPR, LSD, VGAF
from abaw.evaluate.report.palette import CLASS_COLOURS, expression_colours
from abaw.extract.faces.prepare import PrepareOptions, prepare_videos
from abaw.media.images import read_image
from abaw.media.pictures import read_pictures
from abaw.predict.fer import FER
from abaw.predict.image_overlay import draw_faces
from abaw.predict.input_files import list_inputs, name_of, split_arguments
from abaw.predict.output_rows import OutputRow, output_values
from abaw.predict.overlay import Overlay
from abaw.predict.videos import predict_video
from abaw.tests.support.paths import DATA

CLIP = DATA / "sample" / "videos" / "single_face.mp4"
CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")


@pytest.fixture(scope="module")
def face() -> list[np.ndarray]:
    """A face that starts to smile, 20 frames (180, 320, 3)."""
    return [picture.image for picture in read_pictures(CLIP, range(8, 28), shorter_side=180)]


def table_of(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


def shares_of(rows: list[dict[str, str]]) -> np.ndarray:
    return np.array([[float(row[f"{name}_probability"]) for name in CLASSES] for row in rows])


def shares_by_network(crops: list[np.ndarray]) -> np.ndarray:
    """(crops, classes), each crop by itself."""
    backbone = create_backbone("fer-logits")
    logits = backbone(backbone.preprocess(torch.from_numpy(np.stack(crops))))
    assert isinstance(logits, torch.Tensor)
    powers = np.exp(logits.numpy().astype(float))
    return powers / powers.sum(axis=1, keepdims=True)


def test_videos_and_images_with_nothing_trained(tmp_path, numbered, face, run_cli):
    source = numbered.write(tmp_path / "in" / "a.mp4", pictures=face, n_frames=len(face), rate=25)
    Image.fromarray(face[0]).save(tmp_path / "in" / "=a.png")
    Image.fromarray(np.full((180, 320, 3), 90, dtype=np.uint8)).save(tmp_path / "in" / "wall.JPG")
    (tmp_path / "in" / "notes.txt").write_text("no video\n")
    out = tmp_path / "out"
    done = run_cli("predict", tmp_path / "in", "--runs", tmp_path / "none", "--out", out, "--device", "cpu")
    assert done.exit_code == 0, done.output
    assert "Device: cpu" in done.output and done.output.index("Device: cpu") < done.output.index("done 3")
    for sentence in ("a: 1 person, a face in 20 of 20 frames", "=a_png: 1 person (", "wall_jpg: no face (", "FER2013"):
        assert sentence in done.output
    tables = {"predictions.csv", "predictions.json"}
    assert {path.name for path in (out / "a").iterdir()} == tables | {"timeline.png", "overlay.mp4"}
    assert {path.name for path in (out / "=a_png").iterdir()} == tables | {"overlay.jpg"}
    # the mean over 13 frames, which are half a second, of what the network says of each crop
    prepare_videos(PrepareOptions((source,), tmp_path / "data", device="cpu"), Silent())
    files = sorted((tmp_path / "data" / "cropped_aligned" / "a").iterdir())
    single = shares_by_network([read_image(file) for file in files])
    means = [single[max(0, n - 6) : n + 7].mean(axis=0) for n in range(len(files))]
    assert np.ptp(single, axis=0).max() > 0.2  # there is something to average
    np.testing.assert_allclose(shares_of(table_of(out / "a" / "predictions.csv")), means, atol=2e-5)
    # the overlay has its time: the last frame is that of 0.76 s
    *_, last = read_pictures(out / "a" / "overlay.mp4")
    row = row_of(6, "a", (0.0, 0.0, 1.0, 1.0))
    drawn = [Overlay(FER, ["a"]).draw(face[-1], {"a": row}, time_s)[180:, -60:] for time_s in (0.76, 0.86, 1.76, 2.0)]
    distances = [np.abs(last.image[180:, -60:].astype(int) - clock).mean() for clock in drawn]
    assert distances[0] < 0.8 * min(distances[1:]), distances
    # an image by itself: the first frame, before it went through H.264
    (row,) = table_of(out / "=a_png" / "predictions.csv")
    assert row["person"] == "'=a_png", "as text for a spreadsheet"
    assert json.loads((out / "=a_png" / "predictions.json").read_text())["rows"][0][2] == "=a_png"
    np.testing.assert_allclose(shares_of([row])[0], single[0], atol=0.1)
    assert row["expression"] == CLASSES[shares_of([row])[0].argmax()]
    assert 90 < float(row["left"]) < 130 < 170 < float(row["right"]) < 200
    together = table_of(out / "images.csv")
    assert [(one["image"], one["expression"]) for one in together] == [("'=a_png", row["expression"])]
    assert json.loads((out / "wall_jpg" / "predictions.json").read_text())["rows"] == []
    assert "done 0, skipped 3" in run_cli("predict", tmp_path / "in", "--out", out, "--device", "cpu").output
    wall = tmp_path / "in" / "wall.JPG"
    wall.write_bytes(wall.read_bytes()[:-1] + b"x")
    tree = out / "=a_png" / "predictions.json"
    tree.write_text(re.sub(' "content": .*\n', "", tree.read_text()))  # as older versions wrote it
    changed = run_cli("predict", tmp_path / "in", "--out", out, "--device", "cpu").output
    assert "done 0, skipped 2, failed 1" in changed and "wall_jpg exists. Delete it" in changed


def test_raw_is_each_frame_by_itself(tmp_path, numbered, face):
    source = numbered.write(tmp_path / "a.mp4", pictures=face[:6], n_frames=6, rate=25)
    prepare_videos(PrepareOptions((source,), tmp_path / "data", device="cpu"), Silent())
    files = sorted((tmp_path / "data" / "cropped_aligned" / "a").iterdir())
    single = shares_by_network([read_image(file) for file in files])
    rows = predict_video(None, source, raw=True, device="cpu")
    found = [[row.outputs[f"{name}_probability"] for name in CLASSES] for row in rows]
    np.testing.assert_allclose(found, single, atol=2e-5)


def test_people_of_an_image_are_named_from_the_left_and_the_largest_is_kept(tmp_path, face):
    small = np.asarray(Image.fromarray(face[0]).resize((240, 135)))
    image = np.zeros((180, 560, 3), dtype=np.uint8)
    image[:135, :240], image[:, 240:] = small, face[0]
    Image.fromarray(image).save(tmp_path / "two.png")
    rows = {row.person: row for row in predict_video(None, tmp_path / "two.png", device="cpu")}
    assert set(rows) == {"two_png_left", "two_png_right"}
    assert rows["two_png_left"].box[2] < 240 < rows["two_png_right"].box[0]
    (row,) = predict_video(None, tmp_path / "two.png", faces=1, device="cpu")
    assert row.person == "two_png" and row.box == rows["two_png_right"].box


# arguments


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A working folder with runs va and both, a video, an image, and a folder that is called as a run is."""
    for name in ("va", "both"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "config.json").write_text("{}")
    for name in ("talk.mp4", "talk.jpg", "both/clip.mov"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "run", "files"),
    [
        (["talk.mp4"], None, ["talk.mp4"]),
        (["talk.mp4", "va"], None, ["talk.mp4", "va"]),
        (["va", "talk.mp4", "talk.jpg"], "va", ["talk.mp4", "talk.jpg"]),
        (["runs/va", "talk.mp4"], "runs/va", ["talk.mp4"]),
        (["fer", "talk.jpg"], None, ["talk.jpg"]),
        (["both"], None, ["both"]),
        (["./both", "talk.mp4"], None, ["both", "talk.mp4"]),
    ],
)
def test_first_argument_names_a_run_if_it_is_no_file(place, arguments, run, files):
    assert split_arguments(Path("runs"), arguments) == (run, [Path(name) for name in files])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["vb", "talk.mp4"], r"No run 'vb' in runs; available: both, va\. Without a run: `abaw predict talk\.mp4`"),
        (["tlak.mp4"], r"No file tlak\.mp4\. Give video files, images, or folders"),
        (["va"], "va is a run, and no file follows it"),
        (["fer"], "fer is a run, and no file follows it"),
        (["both", "talk.mp4"], r"'both' is a run in runs and a file or folder, too\. Write runs/both .* \./both"),
    ],
)
def test_arguments_that_name_nothing(place, arguments, words):
    with pytest.raises(UsageError, match=words):
        split_arguments(Path("runs"), arguments)


def test_inputs_of_a_folder_and_their_names(place):
    for name in ("._talk.mp4", "notes.txt", "z.PNG"):
        Path(name).write_bytes(b"")
    files = list_inputs([Path()])
    assert [file.name for file in files] == ["talk.jpg", "talk.mp4", "z.PNG"]
    assert [name_of(file) for file in files] == ["talk_jpg", "talk", "z_png"]
    Path("talk_jpg.avi").write_bytes(b"")
    with pytest.raises(UsageError, match="would both be called 'talk_jpg'"):
        list_inputs([Path()])
    with pytest.raises(UsageError, match=r"notes.txt does not end in one of .*\.mp4.*\.png"):
        list_inputs([Path("notes.txt")])
    with pytest.raises(UsageError, match="runs has no video files and no images"):
        list_inputs([Path("runs")])


def test_options_of_runs_need_a_run(place, run_cli):
    done = run_cli("predict", "talk.mp4", "--backbone", "hog")
    assert done.exit_code == 2 and "--backbone is for runs, and no run was named" in done.output


# drawing


def test_an_expression_has_one_colour_in_all_tasks():
    assert expression_colours(EXPR.outputs) == list(CLASS_COLOURS)
    by_name = dict(zip(EXPR.outputs, CLASS_COLOURS, strict=True))
    assert expression_colours(LSD.outputs) == [by_name[name] for name in LSD.outputs]
    wanted = ("Anger", "Disgust", "Fear", "Happiness", "Sadness", "Surprise", "Neutral")
    assert expression_colours(FER.outputs) == [by_name[name] for name in wanted] and FER.outputs == CLASSES
    assert expression_colours(VGAF.outputs) == list(CLASS_COLOURS[:3])


def row_of(expression: int, person: str, box: tuple[float, ...]) -> OutputRow:
    outputs = output_values(FER, (4 * np.eye(7)[expression]).astype(np.float32))
    return OutputRow(1, 0.0, person, outputs, box)


@pytest.mark.parametrize("size", [(360, 640), (1080, 1920)])
def test_faces_of_an_image_get_boxes_and_plates_that_cover_no_face(size):
    image = np.random.default_rng(0).integers(90, 110, (*size, 3), dtype=np.uint8)
    scale = np.array([size[1] / 640, size[0] / 360] * 2)
    # the second has no room above, the third has the first below
    boxes = [np.rint(scale * box) for box in ((100, 150, 200, 290), (400, 2, 480, 100), (110, 30, 190, 130))]
    rows = [row_of(n, f"a_{n + 1}", tuple(map(float, box))) for n, box in enumerate(boxes)]
    drawn = draw_faces(FER, image, rows)
    assert drawn.shape == image.shape
    changed = (drawn != image).any(axis=2)
    for number, box in enumerate(boxes):
        left, top, right, bottom = box.astype(int)
        assert not changed[top:bottom, left:right].any()
        colour = tuple(round(255 * value) for value in to_rgb(expression_colours(CLASSES)[number]))
        assert tuple(drawn[(top + bottom) // 2, left - 1]) == colour == tuple(drawn[bottom, (left + right) // 2])
    outside = (drawn.max(axis=2) > 240) & changed  # letters
    for box in boxes:
        left, top, right, bottom = box.astype(int)
        reach = round(0.12 * size[0])
        near = outside[max(0, top - reach) : bottom + reach, max(0, left - 5 * reach) : right + 5 * reach]
        assert near.sum() > 20
    assert draw_faces(FER, image, []).shape[0] > size[0]
