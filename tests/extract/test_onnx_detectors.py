"""YuNet and SCRFD in ONNX files: small graphs laid out like them, whose faces are worked out by hand.

Published weights cannot be shipped, so that what a trained network finds is not tested here.
"""

import csv
import importlib

import numpy as np
import pytest

from abaw.core.errors import CheckpointError, UsageError
from abaw.extract.faces.detections import RefiningDetector
from abaw.extract.faces.detector import create_detector

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

FLOAT = onnx.TensorProto.FLOAT
STRIDES = (8, 16, 32)
OPSET = 17


def save(file, nodes, constants, outputs, input_shape=(1, 3, "height", "width")):
    """Write a graph; `outputs` are names, their shapes are left open as exporters leave them."""
    graph = onnx.helper.make_graph(
        nodes,
        "made",
        [onnx.helper.make_tensor_value_info("input", FLOAT, input_shape)],
        [onnx.helper.make_tensor_value_info(name, FLOAT, None) for name in outputs],
        [onnx.numpy_helper.from_array(np.asarray(values), name) for name, values in constants.items()],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=8)
    onnx.save(model, str(file))
    return file


def save_arrays(file, arrays, input_shape):
    """A graph whose outputs are the given arrays, whatever the picture."""
    nodes, constants = [], {}
    for name, values in arrays.items():
        constants[f"{name}.values"] = np.asarray(values, dtype=np.float32)
        nodes.append(onnx.helper.make_node("Identity", [f"{name}.values"], [name]))
    return save(file, nodes, constants, list(arrays), input_shape)


def yunet_arrays(height, width):
    """Empty outputs for an input of this size, (1, n, k) as in OpenCV's model zoo."""
    n = {stride: (height // stride) * (width // stride) for stride in STRIDES}
    kinds = {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}
    return {f"{kind}_{stride}": np.zeros((1, n[stride], k)) for kind, k in kinds.items() for stride in STRIDES}


def scrfd_arrays(height, width):
    """Empty outputs for an input of this size, (n * 2, k) under the numbers that PyTorch gives."""
    shapes = [((height // s) * (width // s) * 2, k) for k in (1, 4, 10) for s in STRIDES]
    return {str(448 + number): np.zeros(shape) for number, shape in enumerate(shapes)}


POINTS = [(-1.0, -0.5), (1.0, -0.5), (0.25, 0.0), (-0.5, 1.0), (0.5, 1.25)]  # in strides from the cell


def put_yunet_face(arrays, stride, cell, cls, obj, box, points=POINTS):
    arrays[f"cls_{stride}"][0, cell], arrays[f"obj_{stride}"][0, cell] = cls, obj
    arrays[f"bbox_{stride}"][0, cell], arrays[f"kps_{stride}"][0, cell] = box, np.ravel(points)


def put_scrfd_face(arrays, stride, row, score, distances, points=POINTS):
    level = STRIDES.index(stride)
    for kind, values in zip(range(3), (score, distances, np.ravel(points)), strict=True):
        arrays[str(448 + 3 * kind + level)][row] = values


def blank(height, width, n=1):
    return np.zeros((n, height, width, 3), dtype=np.uint8)


# an input of 64x96 has 12 cells a row at stride 8; cell 41 is column 5 of row 3
YUNET_BOX = (0.5, -0.25, np.log(2.0), np.log(4.0))
YUNET_CORNERS = (36.0, 6.0, 52.0, 38.0)  # centre (5.5, 2.75) * 8 = (44, 22), size 16 x 32
YUNET_POINTS = [(32, 20), (48, 20), (42, 24), (36, 32), (44, 34)]  # (5 + x, 3 + y) * 8


@pytest.fixture
def yunet_file(tmp_path):
    arrays = yunet_arrays(64, 96)
    put_yunet_face(arrays, 8, 41, 0.81, 1.0, YUNET_BOX)
    return save_arrays(tmp_path / "yunet.onnx", arrays, (1, 3, 64, 96))


def test_yunet_at_a_known_cell(yunet_file):
    (found,) = create_detector(str(yunet_file), "cpu").detect(blank(64, 96))
    np.testing.assert_allclose(found.scores, [0.9], atol=1e-6)  # sqrt(.81 * 1)
    np.testing.assert_allclose(found.boxes, [YUNET_CORNERS], atol=1e-4)
    np.testing.assert_allclose(found.landmarks, [YUNET_POINTS], atol=1e-4)
    assert [values.dtype for values in (found.boxes, found.scores, found.landmarks)] == [np.float32] * 3


@pytest.mark.parametrize(
    ("height", "width", "shown"),
    [(128, 192, 0.5), (64, 192, 0.5), (128, 96, 0.5), (50, 70, 1.0), (40, 240, 0.4)],
)
def test_yunet_with_a_fixed_input_shrinks_pictures_and_does_not_enlarge_them(yunet_file, height, width, shown):
    (found,) = create_detector(str(yunet_file), "cpu").detect(blank(height, width))
    np.testing.assert_allclose(found.boxes, [np.array(YUNET_CORNERS) / shown], rtol=1e-5)
    np.testing.assert_allclose(found.landmarks, [np.array(YUNET_POINTS) / shown], rtol=1e-5)


def test_yunet_at_all_strides_with_threshold_and_clamping(tmp_path):
    arrays = yunet_arrays(64, 96)
    put_yunet_face(arrays, 8, 0, 1.7, 1.2, (0, 0, 0, 0))  # clamped to 1 each
    put_yunet_face(arrays, 16, 23, 0.5, 0.98, (0, 0, 0, 0))  # sqrt(.49) = .7 in the last cell: column 5 of row 3
    put_yunet_face(arrays, 32, 5, 0.6, 0.64, (0, 0, 0, 0))  # sqrt(.384) = .62: column 2 of row 1
    put_yunet_face(arrays, 8, 50, 0.35, 1.0, (0, 0, 0, 0))  # sqrt(.35) = .592 is below .6
    put_yunet_face(arrays, 8, 60, -0.9, -0.9, (0, 0, 0, 0))  # clamped to 0, whatever the product
    file = save_arrays(tmp_path / "y.onnx", arrays, (1, 3, 64, 96))
    (found,) = create_detector(str(file), "cpu").detect(blank(64, 96))
    np.testing.assert_allclose(found.scores, [1, 0.7, 0.6196773], atol=1e-6)
    np.testing.assert_allclose(found.boxes, [(-4, -4, 4, 4), (72, 40, 88, 56), (48, 16, 80, 48)], atol=1e-4)
    np.testing.assert_allclose(found.landmarks[2, 0], [32, 16], atol=1e-4)  # (2 - 1, 1 - .5) * 32


def test_yunet_doubles_are_suppressed_from_an_overlap_of_three_tenths_on(tmp_path):
    arrays = yunet_arrays(64, 96)
    size = np.log(4.0)  # boxes of 32 x 32 at stride 8
    put_yunet_face(arrays, 8, 40, 0.9, 0.9, (0, 0, size, size))
    put_yunet_face(arrays, 8, 42, 0.8, 0.8, (0, 0, size, size))  # 16 px to the right: 16 / 48 = .333
    put_yunet_face(arrays, 8, 38, 0.7, 0.7, (-0.25, 0, size, size))  # 18 px to the left: 14 / 50 = .28
    file = save_arrays(tmp_path / "y.onnx", arrays, (1, 3, 64, 96))
    (found,) = create_detector(str(file), "cpu").detect(blank(64, 96))
    np.testing.assert_allclose(found.scores, [0.9, 0.7], atol=1e-6)


# an input of 640x640 has 80 cells a row at stride 8 and 40 at stride 16, with two anchors each
@pytest.fixture
def scrfd_file(tmp_path):
    arrays = scrfd_arrays(640, 640)
    put_scrfd_face(arrays, 16, (10 * 40 + 20) * 2 + 1, 0.75, (2, 1, 3, 4))
    return save_arrays(tmp_path / "scrfd.onnx", arrays, (1, 3, "?", "?"))


@pytest.mark.parametrize(("height", "width", "shown"), [(640, 640, 1.0), (1280, 720, 0.5), (100, 160, 4.0)])
def test_scrfd_at_a_known_cell_in_pictures_that_fill_its_input(scrfd_file, height, width, shown):
    (found,) = create_detector(str(scrfd_file), "cpu").detect(blank(height, width))
    np.testing.assert_allclose(found.scores, [0.75], atol=1e-6)
    box = np.array([288, 144, 368, 224]) / shown  # (20 - 2, 10 - 1, 20 + 3, 10 + 4) * 16
    np.testing.assert_allclose(found.boxes, [box], rtol=1e-5)
    points = np.array([(304, 152), (336, 152), (324, 160), (312, 176), (328, 180)]) / shown  # (20 + x, 10 + y) * 16
    np.testing.assert_allclose(found.landmarks, [points], rtol=1e-5)


def test_a_picture_whose_shrunk_sides_are_no_whole_pixels(scrfd_file):
    """333 x 100 pixels become 640 x 192 (192.19 rounded), so that the two axes are scaled a little differently."""
    (found,) = create_detector(str(scrfd_file), "cpu").detect(blank(100, 333))
    x, y = 333 / 640, 100 / 192
    np.testing.assert_allclose(found.boxes, [(288 * x, 144 * y, 368 * x, 224 * y)], rtol=1e-5)
    np.testing.assert_allclose(found.landmarks[0, 0], (304 * x, 152 * y), rtol=1e-5)


def test_scrfd_with_a_fixed_input_that_is_no_square(tmp_path):
    arrays = scrfd_arrays(64, 96)
    put_scrfd_face(arrays, 8, 41 * 2, 0.9, (1, 1, 1, 1))
    put_scrfd_face(arrays, 32, 5 * 2 + 1, 0.5, (1, 1, 1, 1))  # the threshold is a face; column 2 of row 1
    put_scrfd_face(arrays, 16, 3, 0.49, (1, 1, 1, 1))
    file = save_arrays(tmp_path / "s.onnx", arrays, (1, 3, 64, 96))
    (found,) = create_detector(str(file), "cpu").detect(blank(32, 36))  # twice as large is 64 x 72
    np.testing.assert_allclose(found.scores, [0.9, 0.5], atol=1e-6)
    np.testing.assert_allclose(found.boxes, [(16, 8, 24, 16), (16, 0, 48, 32)], atol=1e-4)


def test_scrfd_doubles_are_suppressed_from_an_overlap_of_four_tenths_on(tmp_path):
    arrays = scrfd_arrays(64, 96)
    put_scrfd_face(arrays, 8, 40 * 2, 0.6, (2, 2, 2, 2))
    put_scrfd_face(arrays, 8, 40 * 2 + 1, 0.9, (2, 2, 2, 2))  # the other anchor of the cell has the same box
    put_scrfd_face(arrays, 8, 41 * 2, 0.8, (2, 2, 2, 2))  # 8 px to the right: 24 / 40 = .6
    put_scrfd_face(arrays, 8, 42 * 2, 0.7, (2, 2, 2, 2))  # 16 px to the right: 16 / 48 = .333
    file = save_arrays(tmp_path / "s.onnx", arrays, (1, 3, 64, 96))
    (found,) = create_detector(str(file), "cpu").detect(blank(64, 96))
    np.testing.assert_allclose(found.scores, [0.9, 0.7], atol=1e-6)


@pytest.mark.parametrize("make", [yunet_arrays, scrfd_arrays])
def test_names_and_order_of_outputs_do_not_matter(tmp_path, make):
    arrays = make(64, 96)
    if make is yunet_arrays:
        put_yunet_face(arrays, 8, 41, 0.81, 1.0, YUNET_BOX)
        box = YUNET_CORNERS
    else:
        put_scrfd_face(arrays, 8, 41 * 2, 0.9, (0.5, 1, 1.5, 2))
        box = (36, 16, 52, 40)  # (5 - .5, 3 - 1, 5 + 1.5, 3 + 2) * 8
    mixed = {f"output{number}": values for number, values in enumerate(reversed(arrays.values()))}
    file = save_arrays(tmp_path / "mixed.ONNX", mixed, (1, 3, 64, 96))
    (found,) = create_detector(str(file), "cpu").detect(blank(64, 96))
    np.testing.assert_allclose(found.scores, [0.9], atol=1e-6)
    np.testing.assert_allclose(found.boxes, [box], atol=1e-4)


def test_scrfd_with_an_axis_for_the_batch(tmp_path):
    arrays = scrfd_arrays(64, 96)
    put_scrfd_face(arrays, 8, 41 * 2, 0.9, (1, 1, 1, 1))
    file = save_arrays(tmp_path / "s.onnx", {name: values[None] for name, values in arrays.items()}, (1, 3, 64, 96))
    (found,) = create_detector(str(file), "cpu").detect(blank(64, 96))
    np.testing.assert_allclose(found.boxes, [(32, 16, 48, 32)], atol=1e-4)


def test_no_face(tmp_path):
    file = save_arrays(tmp_path / "y.onnx", yunet_arrays(64, 96), (1, 3, 64, 96))
    for found in create_detector(str(file), "cpu").detect(blank(30, 40, n=2)):
        assert (found.boxes.shape, found.scores.shape, found.landmarks.shape) == ((0, 4), (0,), (0, 5, 2))


def test_every_frame_is_searched_in_full(yunet_file):
    assert not isinstance(create_detector(str(yunet_file), "cpu"), RefiningDetector)


def looking_graph(file, channels, kinds, n_anchors, input_shape=(1, 3, "height", "width")):
    """A graph that looks at the picture: with every stride's mean of one channel as `channels[stride]` says.

    All values of an anchor are the mean of that channel over its cell, so that a pixel's way into the network shows in
    boxes and scores. `kinds` names the outputs and how many values they have.
    """
    nodes, constants, outputs = [], {}, []
    for stride in STRIDES:
        names = [f"picked_{stride}", f"mean_{stride}", f"flat_{stride}", f"column_{stride}"]
        constants[f"channel_{stride}"] = np.array([channels[stride]], dtype=np.int64)
        constants[f"shape_{stride}"] = np.array([-1, 1], dtype=np.int64)
        nodes += [
            onnx.helper.make_node("Gather", ["input", f"channel_{stride}"], [names[0]], axis=1),
            onnx.helper.make_node(
                "AveragePool", [names[0]], [names[1]], kernel_shape=[stride] * 2, strides=[stride] * 2
            ),
            onnx.helper.make_node("Reshape", [names[1], f"shape_{stride}"], [names[2]]),
            onnx.helper.make_node("Concat", [names[2]] * n_anchors, [names[3]], axis=1),
        ]
        for kind, n_values in kinds.items():
            constants[f"anchors_{kind}_{stride}"] = np.array([-1, 1], dtype=np.int64)
            constants[f"repeat_{kind}_{stride}"] = np.array([1, n_values], dtype=np.int64)
            nodes += [
                onnx.helper.make_node("Reshape", [names[3], f"anchors_{kind}_{stride}"], [f"rows_{kind}_{stride}"]),
                onnx.helper.make_node(
                    "Tile", [f"rows_{kind}_{stride}", f"repeat_{kind}_{stride}"], [f"{kind}_{stride}"]
                ),
            ]
            outputs.append(f"{kind}_{stride}")
    return save(file, nodes, constants, outputs, input_shape)


YUNET_KINDS = {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}
SCRFD_KINDS = {"score": 1, "box": 4, "points": 10}


def test_yunet_sees_bgr_from_0_to_255_without_scaling_at_the_pictures_own_size(tmp_path):
    file = looking_graph(tmp_path / "y.onnx", {8: 0, 16: 1, 32: 2}, YUNET_KINDS, n_anchors=1)
    images = blank(40, 50, n=2)  # padded to 64 x 64: 8 cells a row at stride 8
    images[0, 8:16, 16:24] = (0, 0, 1)  # blue: one cell of the first channel, column 2 of row 1
    images[1, 0:32, 0:32] = (2, 0, 0)  # red: one cell of the third channel
    first, second = create_detector(str(file), "cpu").detect(images)
    e = np.exp(1) * 8 / 2  # width and height are exp(1) strides, the centre is one stride from the cell
    np.testing.assert_allclose(first.scores, [1.0])
    np.testing.assert_allclose(first.boxes, [(24 - e, 16 - e, 24 + e, 16 + e)], rtol=1e-5)
    np.testing.assert_allclose(first.landmarks, np.full((1, 5, 2), (24, 16)), rtol=1e-5)
    e = np.exp(2) * 32 / 2
    np.testing.assert_allclose(second.boxes, [(64 - e, 64 - e, 64 + e, 64 + e)], rtol=1e-5)


@pytest.mark.parametrize(("height", "width", "row", "column"), [(33, 100, 3, 11), (96, 64, 11, 7), (9, 8, 0, 0)])
def test_yunet_fits_each_size_of_picture(tmp_path, height, width, row, column):
    """The last whole cell of a picture is told by its row and column in an input that is padded to whole strides."""
    file = looking_graph(tmp_path / "y.onnx", {8: 0, 16: 1, 32: 2}, YUNET_KINDS, n_anchors=1)
    images = blank(height, width)
    images[0, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8, 2] = 1
    (found,) = create_detector(str(file), "cpu").detect(images)
    np.testing.assert_allclose(found.scores, [1.0])
    np.testing.assert_allclose(found.landmarks, np.full((1, 5, 2), (8 * column + 8, 8 * row + 8)), rtol=1e-5)


def test_scrfd_sees_rgb_scaled_by_127_and_a_half_and_128(tmp_path):
    file = looking_graph(tmp_path / "s.onnx", {8: 0, 16: 1, 32: 2}, SCRFD_KINDS, 2, (1, 3, 64, 64))
    images = blank(64, 64, n=2)
    images[0, 8:16, 16:24] = (255, 0, 0)  # red: one cell of the first channel, column 2 of row 1
    images[1, 16:32, 32:48] = (0, 207, 0)  # green: one cell of the second channel, column 2 of row 1
    first, second = create_detector(str(file), "cpu").detect(images)
    value = 127.5 / 128  # (255 - 127.5) / 128, and so are distances and offsets in strides; both anchors are the same
    np.testing.assert_allclose(first.scores, [value], rtol=1e-6)
    np.testing.assert_allclose(
        first.boxes, [((2 - value) * 8, (1 - value) * 8, (2 + value) * 8, (1 + value) * 8)], rtol=1e-5
    )
    np.testing.assert_allclose(first.landmarks, np.full((1, 5, 2), ((2 + value) * 8, (1 + value) * 8)), rtol=1e-5)
    np.testing.assert_allclose(second.scores, [79.5 / 128], rtol=1e-6)
    np.testing.assert_allclose(second.landmarks[0, 0], [(2 + 79.5 / 128) * 16, (1 + 79.5 / 128) * 16], rtol=1e-5)


def test_what_is_beyond_the_picture_is_black(tmp_path):
    """A picture of 320 x 640 fills the upper half of 640 x 640; the half below is no face, though the graph is eager."""
    file = looking_graph(tmp_path / "s.onnx", {8: 0, 16: 0, 32: 0}, SCRFD_KINDS, 2)
    images = blank(320, 640)
    images[:] = 255
    (found,) = create_detector(str(file), "cpu").detect(images)
    assert len(found) > 0 and found.boxes[:, 3].max() <= 320 + 32
    (turned,) = create_detector(str(file), "cpu").detect(np.ascontiguousarray(images.transpose(0, 2, 1, 3)))
    assert len(turned) == len(found) and turned.boxes[:, 2].max() <= 320 + 32


def test_a_shrunk_picture_is_still_where_it_was(tmp_path):
    file = looking_graph(tmp_path / "s.onnx", {8: 0, 16: 1, 32: 2}, SCRFD_KINDS, 2, (1, 3, 64, 64))
    images = blank(256, 192)  # shrunk fourfold to 64 x 48
    images[0, 32:64, 64:96, 0] = 255  # the cell in column 2 of row 1 of the input
    (found,) = create_detector(str(file), "cpu").detect(images)
    best = found.landmarks[0, 0]
    np.testing.assert_allclose(best, [(2 + 127.5 / 128) * 32, (1 + 127.5 / 128) * 32], rtol=1e-5)


def test_a_missing_file(tmp_path):
    with pytest.raises(CheckpointError, match=r"No file .*gone\.onnx\. Give an ONNX file of YuNet or SCRFD\."):
        create_detector(str(tmp_path / "gone.onnx"), "cpu")


@pytest.mark.parametrize("content", [b"", b"no model at all", bytes(range(256))])
def test_a_file_that_is_no_onnx(tmp_path, content, capfd):
    (tmp_path / "false.onnx").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"false\.onnx cannot be read as an ONNX file \(.*\)\. Give one of YuNet"):
        create_detector(str(tmp_path / "false.onnx"), "cpu")
    assert capfd.readouterr() == ("", "")


def other_layouts():
    without_points = {name: values for name, values in scrfd_arrays(64, 96).items() if values.shape[1] != 10}
    yield "no_keypoints", without_points, r"gives 448 \(192, 1\), 449 \(48, 1\)"
    yield "classifier", {"logits": np.zeros((1, 8))}, r"gives logits \(1, 8\)"
    yield (
        "one_anchor",
        {n: a for n, a in yunet_arrays(64, 96).items() if not n.startswith("obj")},
        r"cls_8 \(1, 96, 1\)",
    )
    yield "flat", {"number": np.zeros(())}, r"gives number \(\)"
    yield "other_size", yunet_arrays(64, 64), r"cls_8 \(1, 64, 1\)"


@pytest.mark.parametrize(("arrays", "shapes"), [pytest.param(a, s, id=name) for name, a, s in other_layouts()])
def test_a_file_of_another_layout(tmp_path, arrays, shapes):
    file = save_arrays(tmp_path / "other.onnx", arrays, (1, 3, 64, 96))
    with pytest.raises(
        CheckpointError, match=rf"neither YuNet \(12 outputs.* nor SCRFD .*{shapes}.*Choose another file"
    ):
        create_detector(str(file), "cpu")


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 3), r"takes tensor\(float\) of shape \[1, 3\], not one float picture"),
        ((2, 3, 64, 96), r"cannot be run on"),
    ],
)
def test_a_file_with_another_input(tmp_path, shape, message):
    file = save_arrays(tmp_path / "other.onnx", yunet_arrays(64, 96), shape)
    with pytest.raises(CheckpointError, match=message):
        create_detector(str(file), "cpu")


def test_a_file_that_takes_any_size_and_gives_one(tmp_path):
    file = save_arrays(tmp_path / "y.onnx", yunet_arrays(640, 640), (1, 3, "height", "width"))
    detector = create_detector(str(file), "cpu")
    assert len(detector.detect(blank(640, 640))[0]) == 0
    with pytest.raises(CheckpointError, match=r"do not fit an input of 128x96 pixels, although it accepts it"):
        detector.detect(blank(90, 100))


def test_onnxruntime_is_missing(yunet_file, monkeypatch):
    real = importlib.import_module

    def without(name: str, package: str | None = None):
        if name == "onnxruntime":
            raise ModuleNotFoundError("No module named 'onnxruntime'")
        return real(name, package)

    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(UsageError, match=r"need the package onnxruntime .*pip install '.\[onnx\]' in abaw's folder"):
        create_detector(str(yunet_file), "cpu")


def test_prepare_with_an_onnx_file(tmp_path, yunet_file, numbered, run_cli):
    source = numbered.write(tmp_path / "in" / "a.mp4", n_frames=12, size=(192, 128))
    data = tmp_path / "data"
    done = run_cli("prepare", source, "--data", data, "--detector", yunet_file, "--device", "cpu")
    assert done.exit_code == 0, done.output
    with (data / "faces" / "a.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row["frame"]) for row in rows] == list(range(1, 13))
    names = ["left", "top", "right", "bottom", "left_eye_x", "left_eye_y", "mouth_right_x", "mouth_right_y", "score"]
    wanted = [72, 12, 104, 76, 64, 40, 88, 68, 0.9]  # the picture is twice as large as the input
    np.testing.assert_allclose([[float(row[name]) for name in names] for row in rows], [wanted] * 12, atol=0.01)
    assert len(list((data / "cropped_aligned" / "a").iterdir())) == 12


def test_prepare_says_what_is_wrong_with_an_onnx_file(tmp_path, numbered, run_cli):
    source = numbered.write(tmp_path / "in" / "a.mp4", n_frames=2)
    (tmp_path / "x.onnx").write_bytes(b"no model")
    failed = run_cli("prepare", source, "--data", tmp_path / "data", "--detector", tmp_path / "x.onnx")
    assert failed.exit_code == 1 and "cannot be read as an ONNX file" in " ".join(failed.output.split())
