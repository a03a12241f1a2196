"""Pictures, sound and faces against OpenCV, Pillow, SciPy and drawings whose pixels are known."""

from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import simplejpeg
import torch
from PIL import Image
from scipy.io import wavfile
from skimage.feature import hog as reference_hog

from abaw.core.progress import Silent
from abaw.datasets.synth.clips_writer import write_images, write_tensor, write_video
from abaw.datasets.synth.cutouts import read_background, read_cutout
from abaw.extract.faces.alignment import CROP_PX, TEMPLATE, align
from abaw.extract.faces.detections import Detections
from abaw.extract.faces.keyframes import detect_pictures
from abaw.extract.faces.prepare import PrepareOptions, prepare_videos
from abaw.media.images import open_upright, read_image
from abaw.media.pictures import Picture, read_pictures, read_pictures_at
from abaw.media.sound import load_sound
from abaw.media.tensors import read_image_tensor
from abaw.pipeline import ExtractOptions, extract
from abaw.store import FeatureStore

RED, GREEN, BLUE, BROWN = (220, 30, 40), (20, 180, 60), (30, 50, 230), (150, 90, 30)
GREY_OF = np.array([0.299, 0.587, 0.114])


def quarters(height: int = 96, width: int = 128) -> np.ndarray:
    """A picture of four colours: red and green above, blue and brown below."""
    picture = np.empty((height, width, 3), dtype=np.uint8)
    picture[: height // 2, : width // 2], picture[: height // 2, width // 2 :] = RED, GREEN
    picture[height // 2 :, : width // 2], picture[height // 2 :, width // 2 :] = BLUE, BROWN
    return picture


def colours_in(picture: np.ndarray) -> np.ndarray:
    """(2, 2, 3) colours in the middles of the quarters."""
    height, width = picture.shape[:2]
    rows, columns = [height // 4, height * 3 // 4], [width // 4, width * 3 // 4]
    return np.asarray(picture)[np.ix_(rows, columns)].astype(int)


def assert_quarters(picture: np.ndarray, tolerance: int = 4) -> None:
    assert np.abs(colours_in(picture) - [[RED, GREEN], [BLUE, BROWN]]).max() <= tolerance


# pictures: every writer by every entrance


def by_simplejpeg(file: Path, picture: np.ndarray) -> None:
    file.write_bytes(simplejpeg.encode_jpeg(picture, quality=97, colorspace="RGB", colorsubsampling="444"))


def by_opencv(file: Path, picture: np.ndarray) -> None:
    cv2.imwrite(str(file), picture[:, :, ::-1])


def by_pillow(file: Path, picture: np.ndarray) -> None:
    Image.fromarray(picture).save(file, **({"quality": 97} if file.suffix in (".jpg", ".webp") else {}))


def progressive(file: Path, picture: np.ndarray) -> None:
    Image.fromarray(picture).save(file, "JPEG", quality=97, progressive=True)


def jpeg_called_png(file: Path, picture: np.ndarray) -> None:
    Image.fromarray(picture).save(file, "JPEG", quality=97)


def png_called_jpg(file: Path, picture: np.ndarray) -> None:
    Image.fromarray(picture).save(file, "PNG")


def cmyk(file: Path, picture: np.ndarray) -> None:
    Image.fromarray(picture).convert("CMYK").save(file, "JPEG", quality=97)


def palette(file: Path, picture: np.ndarray) -> None:
    Image.fromarray(picture).quantize(8).save(file)


def opaque(file: Path, picture: np.ndarray) -> None:
    Image.fromarray(np.dstack([picture, np.full(picture.shape[:2], 255, np.uint8)])).save(file)


def turned(file: Path, picture: np.ndarray) -> None:
    """Held upside down, as EXIF says."""
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(picture[::-1, ::-1].copy()).save(file, "JPEG", quality=97, exif=exif)


WRITERS = [
    *(
        (by_simplejpeg, "1.jpg"),
        (by_opencv, "1.jpg"),
        (by_opencv, "1.png"),
        (by_opencv, "1.bmp"),
        (by_opencv, "1.webp"),
    ),
    *((by_pillow, "1.jpg"), (by_pillow, "1.png"), (by_pillow, "1.bmp"), (by_pillow, "1.webp"), (progressive, "1.jpeg")),
    *((jpeg_called_png, "1.png"), (png_called_jpg, "1.jpg"), (cmyk, "1.jpg"), (palette, "1.png"), (opaque, "1.png")),
    *((turned, "1.jpg"), (turned, "1.png")),
]
ENTRANCES = {
    "read_image": read_image,
    "open_upright": lambda file: np.asarray(open_upright(file).convert("RGB")),
    "read_background": lambda file: read_background(file, 64),
    "read_cutout": lambda file: np.asarray(read_cutout(file, 128))[:, :, :3],
}


@pytest.mark.parametrize("entrance", ENTRANCES)
@pytest.mark.parametrize(("write", "name"), WRITERS)
def test_colours_of_every_writer_by_every_entrance(tmp_path, write, name, entrance):
    write(tmp_path / name, quarters())
    assert_quarters(ENTRANCES[entrance](tmp_path / name), 12 if name.endswith("webp") else 4)


@pytest.mark.parametrize("quality", [60, 95])
def test_every_pixel_of_a_jpeg_is_that_of_opencv(tmp_path, sample, quality):
    with Image.open(sample / "cropped_aligned/single_face/00001.jpg") as picture:
        picture.save(tmp_path / "1.jpg", quality=quality)
    peer = cv2.imread(str(tmp_path / "1.jpg"), cv2.IMREAD_COLOR)[:, :, ::-1].astype(int)
    found = read_image(tmp_path / "1.jpg").astype(int)
    assert np.abs(found - peer).max() <= 2
    assert np.abs(found - peer[:, :, ::-1]).mean() > 10, "the face would not look alike in blue"


@pytest.mark.parametrize("entrance", ENTRANCES)
@pytest.mark.parametrize("name", ["1.jpg", "1.png", "1.bmp"])
def test_grey_images_have_their_level_in_all_three_channels(tmp_path, name, entrance):
    levels = np.full((64, 64), 70, dtype=np.uint8)
    levels[:, 32:] = 180
    Image.fromarray(levels).save(tmp_path / name)
    found = ENTRANCES[entrance](tmp_path / name)
    np.testing.assert_allclose(found[32, 16], [70] * 3, atol=1)
    np.testing.assert_allclose(found[32, 48], [180] * 3, atol=1)


def test_transparent_pixels_have_the_colour_that_is_stored_below(tmp_path):
    pixels = np.dstack([quarters(), np.full((96, 128), 255, np.uint8)])
    pixels[:48, :64, 3], pixels[48:, :64, 3] = 0, 128
    Image.fromarray(pixels).save(tmp_path / "1.png")
    np.testing.assert_array_equal(read_image(tmp_path / "1.png"), quarters())
    # a cut-out: colours multiplied by alpha, and what is transparent is black
    found = np.asarray(read_cutout(tmp_path / "1.png", 128))
    assert found[24, 32].tolist() == [0, 0, 0, 0]
    assert found[24, 96].tolist() == [*GREEN, 255]
    np.testing.assert_allclose(found[72, 32], [*(np.array(BLUE) * 128 / 255), 128], atol=1)


def test_features_are_those_of_the_colours_of_opencv(tmp_path):
    """Through the whole extraction, and for each channel: grey of red is another one than grey of blue."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "data/cropped_aligned/v"
    folder.mkdir(parents=True)
    wanted = []
    for number, colour in enumerate((RED, GREEN, BLUE), start=1):
        coarse = rng.integers(0, 2, (14, 14, 1)) * np.array(colour) + rng.integers(0, 2, (14, 14, 1)) * [0, 15, 20]
        picture = coarse.astype(np.uint8).repeat(8, axis=0).repeat(8, axis=1)
        by_pillow(folder / f"{number:05}.jpg", picture)
        pixels = cv2.imread(str(folder / f"{number:05}.jpg"))[:, :, ::-1]
        wanted.append(
            reference_hog(pixels / 255 @ GREY_OF, orientations=9, pixels_per_cell=(8, 8), cells_per_block=(1, 1))
        )
    assert extract(ExtractOptions(tmp_path / "data", tmp_path / "store.zarr", ("hog",), device="cpu")).ok
    found = FeatureStore.open(tmp_path / "store.zarr").read("hog", "v").values.astype(float)
    close = np.abs(found - wanted).mean(axis=1)
    assert (close < 0.005).all(), close


@pytest.mark.parametrize("codec", ["libx264", "mpeg4", "mjpeg"])
@pytest.mark.parametrize("shorter_side", [0, 48])
def test_colours_of_videos(tmp_path, numbered, codec, shorter_side):
    suffix = ".avi" if codec == "mjpeg" else ".mp4"
    file = tmp_path / f"a{suffix}"
    if codec == "mjpeg":
        write = cv2.VideoWriter(str(file), cv2.VideoWriter_fourcc(*"MJPG"), 25, (128, 96))
        for _ in range(4):
            write.write(quarters()[:, :, ::-1])
        write.release()
    else:
        numbered.write(file, 4, codec=codec, pictures=[quarters()] * 4)
    pictures = [*read_pictures(file, shorter_side=shorter_side), *read_pictures_at(file, [0.05], shorter_side)]
    assert len(pictures) == 5
    for picture in pictures:
        assert picture.image.shape == ((96, 128, 3) if not shorter_side else (48, 64, 3))
        assert_quarters(picture.image, 12)
    peer = cv2.VideoCapture(str(file)).read()[1][:, :, ::-1]
    assert np.abs(colours_in(peer) - colours_in(pictures[0].image)).max() <= 8


def test_what_synthesis_writes_has_its_colours(tmp_path):
    frames = np.stack([quarters(), quarters()[::-1].copy(), quarters()])
    write_images(tmp_path / "images", frames)
    write_video(tmp_path / "v.mp4", frames)
    write_tensor(tmp_path / "v.pt", frames)
    with Image.open(tmp_path / "images/00001.jpg") as picture:
        assert_quarters(np.asarray(picture), 8)
    with Image.open(tmp_path / "images/00002.jpg") as picture:
        assert_quarters(np.asarray(picture)[::-1], 8)
    capture = cv2.VideoCapture(str(tmp_path / "v.mp4"))
    assert_quarters(capture.read()[1][:, :, ::-1], 12)
    assert_quarters(capture.read()[1][::-1, :, ::-1], 12)
    tensor = torch.load(tmp_path / "v.pt", weights_only=True)
    assert tensor.shape == (3, 3, 96, 128) and tensor[0, :, 10, 100].tolist() == list(GREEN)
    np.testing.assert_array_equal(read_image_tensor(tmp_path / "v.pt"), frames)


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("scale", [1.0, 1 / 255])
def test_colours_of_tensors(tmp_path, is_first, scale):
    pixels = torch.from_numpy(np.stack([quarters(40, 50), quarters(40, 50)[:, ::-1].copy()])).float() * scale
    torch.save(pixels.permute(0, 3, 1, 2).contiguous() if is_first else pixels, tmp_path / "a.pt")
    found = read_image_tensor(tmp_path / "a.pt")
    np.testing.assert_array_equal(found[0], quarters(40, 50))
    np.testing.assert_array_equal(found[1], quarters(40, 50)[:, ::-1])


# sound


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int32, np.float32])
def test_samples_of_a_wav_are_those_of_scipy(tmp_path, kind):
    rng = np.random.default_rng(0)
    high = 1 if kind == np.float32 else np.iinfo(kind).max
    values = rng.uniform(0 if kind == np.uint8 else -high, high, 4000).astype(kind)
    wavfile.write(tmp_path / "a.wav", 16_000, values)
    _, read = wavfile.read(tmp_path / "a.wav")
    wanted = {np.uint8: (read.astype(float) - 128) / 128, np.int16: read / 2**15, np.int32: read / 2**31}
    sound = load_sound(tmp_path / "a.wav")
    assert sound is not None and sound.start_s == 0 and len(sound.waveform) == 4000
    np.testing.assert_allclose(sound.waveform.read(0, 4000), wanted.get(kind, read), atol=1e-6)


def test_stereo_is_the_mean_of_both_channels_and_silence_is_around(tmp_path):
    rng = np.random.default_rng(1)
    channels = rng.integers(-(2**15), 2**15, (3000, 2)).astype(np.int16)
    wavfile.write(tmp_path / "a.wav", 16_000, channels)
    sound = load_sound(tmp_path / "a.wav")
    assert sound is not None
    found = sound.waveform.read(-10, 3010)
    np.testing.assert_allclose(found[10:-10], channels.mean(axis=1) / 2**15, atol=2**-14)
    assert not found[:10].any() and not found[-10:].any()


# faces


class Squares:
    """Finds the squares in a picture, each of another level of red; refines by taking the places for the faces.

    Attributes:
        n_searched: pictures that were searched in full.
    """

    def __init__(self) -> None:
        self.n_searched = 0

    def detect(self, images: np.ndarray) -> list[Detections]:
        self.n_searched += len(images)
        return [self._of(image) for image in images]

    def refine(self, images: np.ndarray, places: list[np.ndarray]) -> list[Detections]:
        return [self._at(place.copy()) for place in places]

    def _of(self, image: np.ndarray) -> Detections:
        boxes = []
        for level in sorted(set(np.unique(image[:, :, 0]).tolist()) - {0}):
            rows, columns = np.nonzero(image[:, :, 0] == level)
            boxes.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        if boxes and boxes[0][0] // 12 % 2:  # a detector may give them in any order
            boxes.reverse()
        return self._at(np.array(boxes, dtype=np.float32).reshape(-1, 4))

    def _at(self, boxes: np.ndarray) -> Detections:
        shares = np.array([(0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8)], dtype=np.float32)
        landmarks = boxes[:, None, :2] + shares * (boxes[:, None, 2:] - boxes[:, None, :2])
        return Detections(boxes, np.ones(len(boxes), dtype=np.float32), landmarks.astype(np.float32))


def moving_squares(n: int, height: int = 200, width: int = 300) -> tuple[list[Picture], np.ndarray]:
    """Pictures of two squares that move on straight lines, and the boxes (n, 2, 4) of both."""
    pictures, boxes = [], []
    for number in range(n):
        image = np.zeros((height, width, 3), dtype=np.uint8)
        here = [(20 + 3 * number, 30, 40), (200 - 2 * number, 120 + 2 * number, 40)]
        for level, (x, y, side) in zip((100, 200), here, strict=True):
            image[y : y + side, x : x + side] = level
        boxes.append([(x, y, x + side, y + side) for x, y, side in here])
        pictures.append(Picture(number, number / 25, image))
    return pictures, np.array(boxes, dtype=np.float32)


@pytest.mark.parametrize("every", [0, 2, 3, 4, 5])
@pytest.mark.parametrize("n", [1, 2, 9, 14])
def test_places_between_key_frames_are_on_the_straight_line(n, every):
    pictures, boxes = moving_squares(n)
    detector = Squares()
    found = list(detect_pictures(pictures, detector, every))
    assert [picture.number for picture, _ in found] == list(range(n))
    for (_, one), wanted in zip(found, boxes, strict=True):
        ours = one.boxes[np.argsort(one.boxes[:, 1])]
        np.testing.assert_allclose(ours, wanted, atol=1e-3)
    if n == 14:
        step = every or 4
        assert detector.n_searched == len({*range(0, n, step), n - 1}), "key frames, and the last one"


def test_places_in_pictures_so_large_that_only_two_are_held_at_once():
    pictures, boxes = moving_squares(11, 1500, 1400)
    for (_, one), wanted in zip(detect_pictures(pictures, Squares(), 2), boxes, strict=True):
        np.testing.assert_allclose(one.boxes[np.argsort(one.boxes[:, 1])], wanted, atol=1e-3)


class Losing(Squares):
    """Loses the lower one of two squares at every second place."""

    def refine(self, images: np.ndarray, places: list[np.ndarray]) -> list[Detections]:
        found = super().refine(images, places)
        for image, one in zip(images, found, strict=True):
            if np.nonzero(image[:, :, 0] == 100)[1].min() % 2:
                one.scores[one.boxes[:, 1].argmax()] = 0
                one.boxes[:] += 5
        return found


def test_a_picture_in_which_one_face_is_lost_is_searched_in_full():
    pictures, boxes = moving_squares(9)
    detector = Losing()
    found = [one for _, one in detect_pictures(pictures, detector, 4)]
    for one, wanted in zip(found, boxes, strict=True):
        assert one.scores.tolist() == [1, 1]
        np.testing.assert_allclose(one.boxes[np.argsort(one.boxes[:, 1])], wanted, atol=1e-3)
    assert detector.n_searched == 3 + 4, "key frames 0, 4 and 8, and the lost ones 1, 3, 5 and 7"


@pytest.mark.parametrize("shrinking", [0.7, 1.0, 1.9, 3.3, 4.4, 6.5, 7.3])
@pytest.mark.parametrize("degrees", [0, 180, 33])
def test_crops_of_a_ramp_are_neither_shifted_nor_swapped(shrinking, degrees):
    """Red rises to the right and green downwards, so that each pixel says where it is from; rounding cancels out."""
    side = int(CROP_PX * shrinking * 2) + 8
    rise = 250 / side
    ramp = np.zeros((side, side, 3))
    ramp[:, :, 0], ramp[:, :, 1] = rise * np.arange(side)[None], rise * np.arange(side)[:, None]
    ramp[:, :, 2] = 77
    # dithered, so that the mean of many pixels has no steps
    picture = np.floor(ramp + np.random.default_rng(0).random(ramp.shape)).astype(np.uint8)
    angle = np.deg2rad(degrees)
    turn = shrinking * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = (CROP_PX - 1) / 2
    shift = (side - 1) / 2 - turn @ (middle, middle)
    crop = align(picture, TEMPLATE @ turn.T + shift).astype(float)
    rows, columns = np.mgrid[:CROP_PX, :CROP_PX]
    places = np.stack([columns, rows], axis=-1) @ turn.T + shift  # x and y in the picture
    inside = ((places > 2 * shrinking) & (places < side - 1 - 2 * shrinking)).all(axis=2)
    assert inside.mean() > 0.9
    away = (crop[:, :, :2] - rise * places)[inside]
    assert np.abs(away.mean(axis=0) / rise).max() < 0.1, "pixels of the picture, of which a crop's has several"
    np.testing.assert_allclose(crop[:, :, 2][inside], 77, atol=1)


DETECTOR = f"""
import numpy as np
from {Detections.__module__} import Detections

class Middle:
    def __init__(self, device):
        pass

    def detect(self, images):
        shares = np.array([(0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8)])
        box, score = np.array([[80, 40, 240, 200]], np.float32), np.ones(1, np.float32)
        return [Detections(box, score, ((80, 40) + 160 * shares)[None].astype(np.float32)) for _ in images]
"""


def test_prepared_crops_have_the_colours_of_the_film(tmp_path, numbered, monkeypatch):
    (tmp_path / "middle_of_pictures.py").write_text(DETECTOR)
    monkeypatch.syspath_prepend(str(tmp_path))
    image = np.zeros((240, 320, 3), dtype=np.uint8)
    image[40:120, 80:240], image[120:200, 80:240] = RED, BLUE
    source = numbered.write(tmp_path / "in/a.mp4", 3, pictures=[image] * 3)
    options = PrepareOptions((source,), tmp_path / "data", detector="middle_of_pictures:Middle", device="cpu")
    summary = prepare_videos(options, Silent())
    assert summary.done == ["a"], summary.failed
    with Image.open(tmp_path / "data/cropped_aligned/a/00001.jpg") as crop:
        pixels = np.asarray(crop.convert("RGB"))
    np.testing.assert_allclose(pixels[40:50, 40:70].mean(axis=(0, 1)), RED, atol=10)
    np.testing.assert_allclose(pixels[80:95, 40:70].mean(axis=(0, 1)), BLUE, atol=10)


def test_frames_of_a_film_are_those_of_av(tmp_path, sample):
    """By numbers, whatever is asked for: the third is the third."""
    file = next(iter(sorted((sample / "videos").glob("single_face.*"))))
    with av.open(str(file)) as container:
        peers = [frame.to_image() for _, frame in zip(range(6), container.decode(video=0), strict=False)]
    found = {picture.number: picture.image for picture in read_pictures(file, {1, 4})}
    assert sorted(found) == [1, 4]
    for number, image in found.items():
        assert np.abs(image.astype(int) - np.asarray(peers[number]).astype(int)).max() <= 2
