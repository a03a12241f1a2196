"""Sets of still images: what each layout means, and what happens to files that are not as they should be."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from abaw import pipeline
from abaw.core.errors import DataError
from abaw.core.tasks import ACTION_UNITS, EXPRESSIONS
from abaw.datasets.demo.demo_stills import _draw_set
from abaw.datasets.layouts import open_dataset
from abaw.datasets.stills.still_images import read_still
from abaw.datasets.stills.still_labels import label_rows, vote_shares
from abaw.datasets.stills.still_layouts import open_still_set
from abaw.datasets.stills.still_set import CONTEMPT, Still, StillSet

NEUTRAL, ANGER, DISGUST, FEAR, HAPPINESS, SADNESS, SURPRISE, OTHER = range(8)
ROW = "{},0,0,9,9,{},{},{},{}"  # of AffectNet's tables


def image(path: Path, colour: int = 0, kind: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (colour, colour, colour)).save(path, kind)


def text(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def by_name(found: StillSet) -> dict[str, Still]:
    return {Path(still.name).name: still for still in found.stills}


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("stills")
    assert pipeline.demo(root, "tiny", seed=3, kind="stills") == []
    return root / "data"


@pytest.mark.parametrize(
    ("folder", "kind", "tasks", "counts", "has_subjects"),
    [
        ("affectnet", "AffectNet", ("va", "expr"), {"train": 21, "val": 14}, False),
        ("affectnet-small", "AffectNet, the small release", ("va", "expr"), {"train": 24, "val": 16}, False),
        ("rafdb", "RAF-DB", ("expr",), {"train": 21, "val": 14}, False),
        ("ferplus", "FER+", ("expr",), {"train": 24, "val": 16}, False),
        ("ferplus-png", "FER+", ("expr",), {"train": 24, "val": 16}, False),
        ("disfa", "DISFA", ("au",), {"train": 40}, True),
        ("bp4d", "BP4D", ("au",), {"train": 40}, True),
        ("emotionet", "EmotioNet", ("au",), {"train": 24, "val": 16}, False),
        ("folders", "folders by class", ("expr",), {"train": 24, "val": 16}, False),
        ("table", "a table of images", ("va", "expr", "au"), {"train": 24, "val": 16}, True),
    ],
)
def test_the_demo_has_each_layout(demo, folder, kind, tasks, counts, has_subjects):
    found = open_still_set(demo / folder)
    assert (found.kind, found.tasks, found.counts(), found.has_subjects) == (kind, tasks, counts, has_subjects)
    picture = read_still(found.root, found.stills[-1])
    assert picture.std() > 20 and picture.shape[2] == 3
    assert pipeline.doctor(demo / folder)[0].video == kind
    with pytest.raises(DataError, match="has no videos, but still images"):
        open_dataset(demo / folder)


def test_the_demo_is_drawn_from_its_seed(demo):
    first = next(_draw_set("tiny", (3, 8)))  # of the folders by class, which are lossless
    np.testing.assert_array_equal(first.image, np.asarray(Image.open(demo / "folders/train/neutral/0.png")))
    assert not np.array_equal(first.image, next(_draw_set("tiny", (4, 8))).image)


def test_affectnet_of_the_first_release(tmp_path):
    points = ";".join(str(value) for value in range(136))
    classes = range(11)
    names = [f"1/{number}.{'JPG' if number == 3 else 'png'}" for number in classes]
    for number, name in enumerate(names):
        image(tmp_path / "Manually_Annotated_Images" / name, number, "PNG")
    rows = [ROW.format(name, points, number, -0.5, 0.25) for name, number in zip(names, classes, strict=True)]
    rows[8:] = [ROW.format(names[number], "", number, -2, -2) for number in (8, 9, 10)]
    rows[3] = rows[3].replace("1/3.JPG", "1\\3.jpg")  # another separator and case than on the disk
    text(tmp_path / "training.csv", b"\xef\xbb\xbf" + "\r\n".join(rows).encode() + b"\r\n")  # without a header
    text(tmp_path / "validation.csv", "subDirectory_filePath,face_x,a,b,c,d,e,f,g\n")
    found = open_still_set(tmp_path)
    stills = by_name(found)
    order = [NEUTRAL, HAPPINESS, SADNESS, SURPRISE, FEAR, DISGUST, ANGER, CONTEMPT]
    assert [stills[Path(name).name].expression for name in names[:8]] == order
    assert all(stills[Path(name).name].affect == (-0.5, 0.25) for name in names[:8]) and len(stills) == 8
    x = np.arange(0, 136, 2)
    five = [x[36:42].mean(), x[42:48].mean(), x[30], x[48], x[54]]
    np.testing.assert_allclose(stills["0.png"].landmarks, [value + axis for value in five for axis in (0, 1)])
    assert any(sentence.startswith("3 images show no expression") for sentence in found.left_out)


def test_affectnet_of_the_small_release(tmp_path):
    values = {"exp": np.array("1"), "val": np.array("-0.25"), "aro": np.array(b"0.75"), "lnd": np.zeros(136)}
    for number in range(3):
        image(tmp_path / "train_set/images" / f"{number}.jpg")
        for name, value in values.items():
            (tmp_path / "train_set/annotations").mkdir(exist_ok=True)
            np.save(tmp_path / "train_set/annotations" / f"{number}_{name}.npy", value)
    np.save(tmp_path / "train_set/annotations/1_exp.npy", np.array(7))
    (tmp_path / "train_set/annotations/2_exp.npy").unlink()
    found = open_still_set(tmp_path)
    stills = by_name(found)
    assert stills["0.jpg"].expression == HAPPINESS and stills["0.jpg"].affect == (-0.25, 0.75)
    assert stills["1.jpg"].expression == CONTEMPT and set(stills) == {"0.jpg", "1.jpg"}
    assert found.left_out == ("1 images have no annotation, such as train_set/images/2.jpg",)
    for content in (np.array(None, dtype=object), np.zeros(10**6), np.array("x")):
        np.save(tmp_path / "train_set/annotations/0_exp.npy", content, allow_pickle=True)
        with pytest.raises(DataError, match="0_exp"):
            open_still_set(tmp_path)


def test_rafdb(tmp_path):
    for number in range(1, 8):
        image(tmp_path / "Image/aligned" / f"train_0000{number}_aligned.jpg")
    image(tmp_path / "Image/original/test_0001.jpg")
    lines = [f"train_0000{number}.jpg {number}" for number in range(1, 8)]
    text(tmp_path / "EmoLabel/list_patition_label.txt", "\n".join([*lines, "test_0001.jpg 4 ", "test_0002.jpg 1"]))
    found = open_still_set(tmp_path)
    assert [still.expression for still in found.stills] == [
        SURPRISE, FEAR, DISGUST, HAPPINESS, SADNESS, ANGER, NEUTRAL, HAPPINESS,
    ]  # fmt: skip
    assert found.counts() == {"train": 7, "val": 1} and found.left_out[0].startswith("1 images are missing")


VOTES = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"


def test_ferplus_from_pixels_and_from_pictures(tmp_path):
    rows = [
        "Training,fer0000000.png,4,0,0,1,3,0,0,2,0,0",
        "Training,,0,0,0,0,0,0,0,0,0,10",
        "PublicTest,fer0000002.png,0,0,0,0,0,1,0,6,3,0",
        "PrivateTest,fer0000003.png,5,5,0,0,0,0,0,0,0,0",
    ]
    text(tmp_path / "fer2013new.csv", "\n".join([VOTES, *rows]))
    pixels = [" ".join(str((value + first) % 256) for value in range(48 * 48)) for first in (0, 1, 2, 3)]
    usages = ("Training", "Training", "PublicTest", "PrivateTest")
    lines = [f'3,"{values}",{usage}' for values, usage in zip(pixels, usages, strict=True)]
    text(tmp_path / "fer2013.csv", "\r\n".join(["emotion,pixels,Usage", *lines]))
    found = open_still_set(tmp_path)
    assert [(still.split, still.expression) for still in found.stills] == [("train", NEUTRAL), ("val", CONTEMPT)]
    for still, first in zip(found.stills, (0, 2), strict=True):
        picture = read_still(tmp_path, still)
        assert picture.shape == (48, 48, 3) and picture[0, :4, 1].tolist() == [first + i for i in range(4)]
    np.testing.assert_allclose(vote_shares(found.stills, "drop")[0], np.array([4, 3, 0, 0, 0, 1, 0, 0]) / 8)
    np.testing.assert_allclose(vote_shares(found.stills, "other")[0], np.array([4, 3, 0, 0, 0, 1, 0, 2]) / 10)
    assert label_rows(found.stills, "expr", "drop").tolist() == [[NEUTRAL], [-1]]
    assert label_rows(found.stills, "expr", "other").tolist() == [[NEUTRAL], [OTHER]]
    text(tmp_path / "fer2013.csv", "\n".join(["emotion,pixels,Usage", *reversed(lines)]))
    with pytest.raises(DataError, match="not in the same order"):
        open_still_set(tmp_path)
    (tmp_path / "fer2013.csv").unlink()
    image(tmp_path / "FER2013Train/fer0000000.png", 9)
    (still,) = open_still_set(tmp_path).stills
    assert read_still(tmp_path, still).max() == 9


def test_disfa(tmp_path):
    for frame in (1, 2):
        image(tmp_path / "Images/SN003" / f"{frame}.jpg")
    for unit, values in {1: (1, 2), 4: (5, 0), 5: (0, 3)}.items():
        text(tmp_path / f"ActionUnit_Labels/SN003/SN003_au{unit}.txt", f"1,{values[0]}\n2,{values[1]}\n3,0\n")
    found = open_still_set(tmp_path)
    units = [dict(zip(ACTION_UNITS, still.units, strict=True)) for still in found.stills]
    assert [(one["AU1"], one["AU4"], one["AU2"]) for one in units] == [(0, 1, -1), (1, 0, -1)]
    assert {still.subject for still in found.stills} == {"SN003"} and "AU5 are not" in found.notes[1]
    text(tmp_path / "ActionUnit_Labels/SN003/SN003_au1.txt", "1,6\n")
    with pytest.raises(DataError, match="line 1: the intensity should be a whole number from 0 to 5, found '6'"):
        open_still_set(tmp_path)


def test_bp4d(tmp_path):
    image(tmp_path / "2D+3D/F001/T1/0007.jpg")
    text(tmp_path / "AUCoding/F001_T1.csv", "0,1,2,12,14\n7,1,9,0,1\n8,0,0,0,0\n")
    found = open_still_set(tmp_path)
    (still,) = found.stills
    units = dict(zip(ACTION_UNITS, still.units, strict=True))
    assert (units["AU1"], units["AU2"], units["AU12"], units["AU4"], still.subject) == (1, -1, 0, -1, "F001")
    assert found.left_out == ("1 labelled frames have no image, such as F001/T1 frame 8",)


@pytest.mark.parametrize("has_header", [True, False])
def test_emotionet(tmp_path, has_header):
    values = ["999"] * 60
    values[0], values[11], values[24] = "1", "0", "1"
    header = ["URL", "original", *(f"'AU {unit}'" for unit in range(1, 61))]
    rows = [header] if has_header else []
    rows += [["http://host/x/N_1.JPG", "o", *values], ["http://host/N_2.jpg", "o", *["999"] * 60]]
    text(tmp_path / "validation_list.txt", "\n".join("\t".join(row) for row in rows))
    image(tmp_path / "images/N_1.jpg")
    found = open_still_set(tmp_path)
    (still,) = found.stills
    units = dict(zip(ACTION_UNITS, still.units, strict=True))
    assert (units["AU1"], units["AU12"], units["AU25"], units["AU2"], still.split) == (1, 0, 1, -1, "val")


def test_folders_by_class_and_a_table(tmp_path):
    folders, table = tmp_path / "folders", tmp_path / "table"
    for name in ("train/happy/a.TIF", "train/contempt/b.png", "valid/Sadness/c.bmp", "train/poses/d.png"):
        image(folders / name, 5, "TIFF" if name.endswith("TIF") else None)
    found = open_still_set(folders)
    stills = {name: (still.split, still.expression) for name, still in by_name(found).items()}
    assert stills == {"a.TIF": ("train", HAPPINESS), "b.png": ("train", CONTEMPT), "c.bmp": ("val", SADNESS)}
    assert found.left_out == ("1 folders are not called after a class, such as train/poses",)
    assert read_still(folders, by_name(found)["a.TIF"]).max() == 5
    for name in ("a, b.png", "c.png", "d.png"):
        image(table / name)
    rows = [
        "image,Label,AU12,au01,valence,arousal,split",
        '"a, b.png",happy,1,999,.5,-1,train',
        "c.png,7,,0,,,validation",
    ]
    text(table / "faces.csv", "\r\n".join([*rows, "d.png,,,,,,test", "", "e.png,1,,,,,train"]))
    found = open_still_set(table)
    first, second = found.stills
    assert (first.expression, first.affect, first.split) == (HAPPINESS, (0.5, -1.0), "train")
    assert (first.units[ACTION_UNITS.index("AU12")], first.units[0]) == (1, -1)
    assert (second.expression, second.affect, second.units[0], second.split) == (OTHER, (-5.0, -5.0), 0, "val")
    assert [sentence.split(",")[0] for sentence in found.left_out] == ["1 images have no label", "1 images are missing"]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("image,label\n../a.png,1", "inside of it, found '../a.png'"),
        ("image,label\n/etc/a.png,1", "inside of it"),
        ("image,label\nC:\\a.png,1", "inside of it"),
        ("image,label\na.png,8", "line 2: the label should be one of 0 Neutral"),
        ("image,label\na.png", "line 2: 2 values expected"),
        ("image,valence\na.png,1", "Add the other one"),
        ("image,colour\na.png,1", "has no column of labels"),
        ("image,label,label\na.png,1,2", "two columns label"),
        ("image,valence,arousal\na.png,2,0", "valence should be a number from -5 to 1"),
        ("image,valence,arousal\na.png,nan1,0", "found 'nan1'"),
        ("image,label,split\na.png,1,holdout", "split should be train, val or test"),
        ("image,label,split,subject\na.png,1,train,p\nb.png,1,val,p", "Subject p of .* train and val"),
        (b"image,label\n\xff\xfe.png,1", "cannot be read"),
        ("image,label\nb\0.png,1", "line 2"),
        ("image,label\nz.png,1", "none of its images can be used: 1 images are missing"),
        ("image,label\n" + "x" * 200_000 + ",1", "cannot be read"),
    ],
)
def test_broken_tables_are_refused_with_the_line(tmp_path, table, words):
    image(tmp_path / "a.png")
    image(tmp_path / "b.png")
    text(tmp_path / "t.csv", table)
    with pytest.raises(DataError, match=words):
        open_still_set(tmp_path)


def test_an_unknown_folder_is_answered_with_what_is_near(tmp_path):
    with pytest.raises(DataError, match="There is no folder"):
        open_still_set(tmp_path / "none")
    with pytest.raises(DataError, match="it is empty"):
        open_still_set(tmp_path)
    image(tmp_path / "up/happy/a.png")
    image(tmp_path / "up/sad/a.png")
    with pytest.raises(DataError, match=r"up is folders by class\. Name that folder"):
        open_still_set(tmp_path)
    image(tmp_path / "raf/Image/aligned/train_00001_aligned.jpg")
    with pytest.raises(DataError, match="looks like RAF-DB, which is known by EmoLabel/list_patition_label"):
        open_still_set(tmp_path / "raf")


def test_doctor_decodes_stills_and_says_what_they_are(tmp_path):
    for name in ("happy/a.png", "sad/b.png"):
        image(tmp_path / "train" / name)
    (tmp_path / "train/sad/c.png").write_bytes(b"no image")
    reports = pipeline.doctor(tmp_path)
    (report,) = [report for report in reports if report.video == "folders by class"]
    assert "labels of expr: 3 train images" in report.warnings[0]
    assert any("1 images cannot be read" in sentence and "c.png" in sentence for sentence in report.warnings)
    assert pipeline.doctor_totals(reports)["errors"] == 0
    (tmp_path / "train").rename(tmp_path / "other")
    with pytest.raises(DataError, match="Known layouts are"):
        pipeline.doctor(tmp_path)


def test_class_names_are_those_of_the_task():
    assert EXPRESSIONS[HAPPINESS] == "Happiness" and EXPRESSIONS[OTHER] == "Other" and len(EXPRESSIONS) == CONTEMPT
