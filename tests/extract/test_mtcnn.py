"""The detector against recorded outputs of facenet-pytorch, its weights, and detectors of other people."""

import json
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from abaw.core import plugins
from abaw.core.errors import CheckpointError, UsageError
from abaw.extract.faces.area_means import SummedAreas
from abaw.extract.faces.detector import create_detector
from abaw.extract.faces.detector_weights import SHA256, read_weights, weights_folder
from abaw.extract.faces.mtcnn import Mtcnn
from abaw.extract.faces.networks import proposal_network, refine_network
from abaw.media.pictures import read_pictures
from abaw.tests.support.paths import DATA
from abaw.tests.support.plugins import write_distribution
from abaw.tests.support.processes import run_code

RECORDED = json.loads((DATA / "reference" / "mtcnn.json").read_text())["frames"]


@pytest.fixture(scope="module")
def detector() -> Mtcnn:
    return Mtcnn(min_face_px=40)


def pictures_of(name: str, numbers: list[int]) -> np.ndarray:
    if name.endswith(".jpg"):
        return np.asarray(Image.open(DATA / "pictures" / name).convert("RGB"))[None]
    file = DATA / "sample" / "videos" / name
    return np.stack([picture.image for picture in read_pictures(file, set(numbers))])


@pytest.mark.parametrize("name", RECORDED)
def test_faces_are_those_that_were_recorded(detector, name):
    frames = RECORDED[name]
    found = detector.detect(pictures_of(name, [int(number) for number in frames]))
    assert [len(one) for one in found] == [len(faces) for faces in frames.values()]
    for one, faces in zip(found, frames.values(), strict=True):
        if faces:
            np.testing.assert_allclose(one.boxes, [face["box"] for face in faces], atol=0.05)
            np.testing.assert_allclose(one.landmarks, [face["landmarks"] for face in faces], atol=0.05)
            np.testing.assert_allclose(one.scores, [face["score"] for face in faces], atol=1e-3)


def test_faces_near_given_places(detector):
    images = pictures_of("single_face.mp4", [20, 60])
    boxes = [np.array(RECORDED["single_face.mp4"][number][0]["box"], dtype=np.float32) for number in ("20", "60")]
    moved = boxes[0] + np.float32([12, -10, 8, -14])
    wall = np.array([520, 20, 620, 140], dtype=np.float32)
    found = detector.refine(images, [np.stack([wall, moved]), boxes[1][None]])
    assert [len(one) for one in found] == [2, 1]
    assert found[0].scores[0] == 0 and found[0].scores[1] > 0.9 and found[1].scores[0] > 0.9
    for landmarks, number in ((found[0].landmarks[1], "20"), (found[1].landmarks[0], "60")):
        recorded = np.array(RECORDED["single_face.mp4"][number][0]["landmarks"])
        assert np.linalg.norm(landmarks - recorded, axis=1).mean() < 0.03 * 180  # 3 % of the face
    nowhere = detector.refine(images, [np.zeros((0, 4), dtype=np.float32)] * 2)
    assert [len(one) for one in nowhere] == [0, 0]


def test_nothing_is_found_in_noise_or_in_a_tiny_picture(detector):
    noise = np.random.default_rng(0).integers(0, 256, (2, 90, 120, 3), dtype=np.uint8)
    assert [len(one) for one in detector.detect(noise)] == [0, 0]
    assert [len(one) for one in detector.detect(noise[:, :8, :8])] == [0, 0]


def test_a_missing_package_is_said_with_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "mtcnn", None)  # how the import system marks what cannot be imported
    with pytest.raises(CheckpointError, match=r"mtcnn, which is not installed. Run `pip install mtcnn==1.0.0`"):
        Mtcnn()


class WritesFile:
    """A pickle of this runs code when it is opened."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


def test_other_files_are_never_opened(tmp_path):
    trap = tmp_path / "opened"
    (tmp_path / "pnet.lz4").write_bytes(pickle.dumps(WritesFile(trap)))
    with pytest.raises(CheckpointError, match=r"pnet.lz4 is not the file of mtcnn 1.0.0 .* was not opened"):
        read_weights("pnet", tmp_path)
    assert not trap.exists()
    with pytest.raises(CheckpointError, match=r"rnet.lz4 cannot be read \(No such file"):
        read_weights("rnet", tmp_path)


def test_weights_are_read_without_importing_their_package(process_env, tmp_path):
    code = (
        "import sys\nfrom abaw.extract.faces.mtcnn import Mtcnn\nMtcnn()\n"
        "assert not {'mtcnn', 'tensorflow'} & set(sys.modules)"
    )
    done = run_code(code, environment=process_env, folder=tmp_path)
    assert done.code == 0, done.output
    assert all((weights_folder() / f"{name}.lz4").is_file() for name in SHA256)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("yolo", r"No detector 'yolo'. Choose mtcnn, or give MODULE:CLASS"),
        ("no_such_module:Detector", r"No module named 'no_such_module'"),
        ("mine_to_test:Missing", r"module 'mine_to_test' has no attribute 'Missing'"),
        ("mine_to_test:Needy", r"Detector 'mine_to_test:Needy' cannot be made"),
        ("mine_to_test:Blind", r"has no method detect"),
    ],
)
def test_detectors_that_cannot_be_used(tmp_path, monkeypatch, name, message):
    lines = ["class Needy:", "    pass", "class Blind:", "    def __init__(self, device): pass"]
    (tmp_path / "mine_to_test.py").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mine_to_test", raising=False)
    with pytest.raises(UsageError, match=message):
        create_detector(name, "cpu")


def test_detectors_of_other_distributions(tmp_path, monkeypatch):
    source = (
        "class Whole:\n    def __init__(self, device): self.device = device\n    def detect(self, images): return []\n"
    )
    entries = {"abaw.detectors": {"whole": "whole_faces:Whole"}}
    write_distribution(tmp_path, "abaw-whole", "1.0", entries, {"whole_faces": source})
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(plugins, "_loaded", {})
    monkeypatch.setattr(plugins, "_named", {})
    detector = create_detector("whole", "cpu")
    assert type(detector).__module__ == "whole_faces" and vars(detector) == {"device": "cpu"}
    assert isinstance(create_detector("mtcnn", "cpu"), Mtcnn)
    with pytest.raises(UsageError, match=r"Choose mtcnn, whole, or give"):
        create_detector("half", "cpu")


def test_areas_are_averaged_as_torch_does_it():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 41, 67, 3), dtype=np.uint8)
    pictures = SummedAreas(images)
    pixels = torch.tensor(images).permute(0, 3, 1, 2).float()
    for size in ((13, 20), (41, 67), (50, 9)):
        expected = functional.interpolate(pixels, size, mode="area")
        shrunk = pictures.resized(*size)
        assert torch.equal(shrunk, expected) and shrunk.stride() == expected.stride()  # convolutions look at strides
    owners, corners = np.array([0, 1, 1]), np.array([[0, 3, 60], [0, 5, 40], [67, 4, 67], [41, 30, 41]])
    parts = [
        functional.interpolate(pixels[owner, None, :, top:bottom, left:right], (24, 24), mode="area")
        for owner, (left, top, right, bottom) in zip(owners, corners.T, strict=True)
    ]
    assert torch.equal(pictures.crops(owners, tuple(corners), 24), torch.cat(parts))


@pytest.mark.parametrize(("network", "size"), [(proposal_network, 2), (refine_network, 3)])
def test_maxima_are_those_of_torch(network, size):
    pool = network().trunk[2]
    for height, width in ((9, 10), (10, 7), (5, 6), (size, 4), (24, 24)):
        maps = torch.randn(2, 3, height, width)
        assert torch.equal(pool(maps), functional.max_pool2d(maps, size, 2, ceil_mode=True))
