"""Synthetic group-emotion clips: the rules on rendered frames, the pixels, files, labels, going on, and messages."""

import itertools
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from scipy import ndimage

from abaw.commands import console
from abaw.commands.synth_options import RULES
from abaw.core.errors import DataError, UsageError
from abaw.datasets.synth import LABELS, SynthOptions, clip_name, write_clips
from abaw.datasets.synth.cutouts import find_material, read_background, read_cutout
from abaw.datasets.synth.render import ClipMaker, Patch, blend, make_patch

N_COLOURS = 20
SHORT = SynthOptions(n_frames=4)
# Pairwise different in direction, so that a pixel tells its face however much of a black background shows through.
COLOURS = [(255, 40 + 50 * (i % 5), 20 + 60 * (i // 5)) for i in range(N_COLOURS)]


def paint_faces(root: Path, shape: str = "ellipse", alpha: int = 255, size: tuple[int, int] = (350, 350)) -> Path:
    """One cut-out of each colour for every class: an ellipse, or a whole rectangle."""
    for label in LABELS:
        (root / label).mkdir(parents=True)
        for number, colour in enumerate(COLOURS):
            image = Image.new("RGBA", size)
            draw = ImageDraw.Draw(image)
            getattr(draw, shape)((0, 0, size[0] - 1, size[1] - 1), fill=(*colour, alpha))
            image.save(root / label / f"{number:02d}.png")
    return root


@pytest.fixture(scope="module")
def ellipses(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return paint_faces(tmp_path_factory.mktemp("faces") / "ellipses")


@pytest.fixture(scope="module")
def black(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("black")
    Image.new("RGB", (400, 330)).save(folder / "black.png")
    return folder


def draw_clips(faces: Path, black: Path, options: SynthOptions, n_clips: int) -> list[np.ndarray]:
    maker = ClipMaker(find_material(faces, black), options)
    return [maker.draw(number) for number in range(n_clips)]


def whose(frame: np.ndarray) -> np.ndarray:
    """(side, side) number from 1 of the colour that a pixel has, 0 where it is less than half as bright as a face."""
    directions = np.array(COLOURS, np.float32) / np.linalg.norm(COLOURS, axis=1, keepdims=True).astype(np.float32)
    owner = np.zeros(frame.shape[:2], int)
    bright = frame[:, :, 0] >= 128  # all colours have a red of 255
    owner[bright] = (frame[bright] @ directions.T).argmax(1) + 1
    return owner


Boxes = dict[int, tuple[int, int, int, int]]


def boxes_in(frame: np.ndarray) -> Boxes:
    """Left, top, right, bottom (exclusive) of every face of a frame, by its colour."""
    owner = whose(frame)
    found = {}
    for colour, place in enumerate(ndimage.find_objects(owner), 1):
        if place is None:
            continue
        parts = ndimage.label(owner[place] == colour)[0]
        sizes = np.bincount(parts.ravel())[1:]
        if sizes.max() >= 200:  # not a seam between two faces, whose mixed colour may look like a third one
            rows, columns = ndimage.find_objects(parts)[int(sizes.argmax())]
            left, top = place[1].start, place[0].start
            found[colour] = (left + columns.start, top + rows.start, left + columns.stop, top + rows.stop)
    return found


# the rules, on what was drawn


@pytest.fixture(scope="module")
def films(ellipses: Path, black: Path) -> list[np.ndarray]:
    return draw_clips(ellipses, black, SynthOptions(motion="path", max_overlap=0.01), 6)


def test_a_clip_has_75_frames_of_326_pixels(films: list[np.ndarray]) -> None:
    assert {film.shape for film in films} == {(75, 326, 326, 3)}
    assert {film.dtype for film in films} == {np.dtype(np.uint8)}


@pytest.fixture(scope="module")
def found(films: list[np.ndarray]) -> list[list[Boxes]]:
    """The boxes in some frames of every film."""
    return [[boxes_in(frame) for frame in (*film[::9], film[-1])] for film in films]


def test_every_frame_has_3_to_15_faces_and_none_comes_back(found: list[list[Boxes]]) -> None:
    for frames in found:
        assert all(3 <= len(boxes) <= 15 for boxes in frames)
        assert all(set(later) <= set(earlier) for earlier, later in itertools.pairwise(frames))


def test_every_number_of_faces_from_3_to_15_is_drawn(ellipses: Path, black: Path) -> None:
    options = SynthOptions(n_frames=1, max_overlap=0)
    counts = {ndimage.label(frame.any(2))[1] for (frame,) in draw_clips(ellipses, black, options, 100)}
    assert counts - {2} == set(range(3, 16))  # two that touch may look like one


def test_nothing_is_drawn_within_the_growing_margin(films: list[np.ndarray]) -> None:
    nearest = []
    for film in films:
        for number, frame in enumerate(film):
            rows, columns = np.nonzero(frame.any(2))
            least = min(rows.min(), columns.min(), 325 - rows.max(), 325 - columns.max())
            assert least >= 30 + number
            nearest.append(least - 30 - number)
    assert min(nearest) == 0  # the room is used to the border


def test_faces_move_a_little_from_frame_to_frame(films: list[np.ndarray]) -> None:
    first, later = boxes_in(films[0][0]), boxes_in(films[0][1])
    steps = [abs(a - b) for colour in later for a, b in zip(first[colour], later[colour], strict=True)]
    assert 0 < max(steps) <= 5  # at most from one side of 266 px to the other in 74 frames


def test_sizes_of_faces_that_are_not_rotated(tmp_path: Path, black: Path) -> None:
    faces = paint_faces(tmp_path / "faces", "rectangle", size=(350, 280))
    options = SynthOptions(n_frames=1, rotate_probability=0, max_overlap=0, squash=False)
    sizes = [
        (right - left, bottom - top)
        for film in draw_clips(faces, black, options, 30)
        for left, top, right, bottom in boxes_in(film[0]).values()
    ]
    widths = {width for width, _ in sizes}
    assert widths == set(range(35, 53))  # 350 px x .10 to .15
    assert all(abs(height - width * 280 / 350) <= 0.5 for width, height in sizes)


def test_angles(tmp_path: Path, black: Path) -> None:
    for label in LABELS:
        (tmp_path / label).mkdir()
        image = Image.new("RGBA", (350, 350), (255, 40, 20, 255))
        image.paste((40, 40, 255, 255), (0, 0, 350, 175))  # the upper half is blue
        image.save(tmp_path / label / "half.png")
    angles = []
    for (frame,) in draw_clips(tmp_path, black, SynthOptions(n_frames=1, max_overlap=0), 40):
        labelled, n_faces = ndimage.label(ndimage.binary_opening(frame.any(2), iterations=2))
        for face in range(1, n_faces + 1):
            red, blue = (
                np.mean(np.nonzero((labelled == face) & (frame[:, :, channel] > 200)), axis=1) for channel in (0, 2)
            )
            angles.append(np.degrees(np.arctan2(blue[1] - red[1], red[0] - blue[0])))
    turned = np.abs(angles) > 2
    assert np.abs(angles).max() <= 47  # halves of some 20 px give the angle to a degree or two
    assert np.max(angles) > 35 and np.min(angles) < -35
    assert 0.35 < turned.mean() < 0.6  # .5, less the turns of under two degrees


@pytest.mark.parametrize(("allowed", "n_faces", "at_least"), [(0.01, 15, 1), (0.2, 2, 200)])
def test_pixels_of_overlapping_faces(tmp_path: Path, black: Path, allowed: float, n_faces: int, at_least: int) -> None:
    """Half-transparent squares of 45 px: where two overlap, it is brighter than one alone can be."""
    faces = paint_faces(tmp_path / "faces", "rectangle", alpha=128)
    options = SynthOptions(
        **{"min_scale": 0.13, "max_scale": 0.13, "rotate_probability": 0, "max_overlap": allowed},
        **{"min_faces": 2, "max_faces": n_faces, "motion": "path"},
    )
    most = 0
    for film in draw_clips(faces, black, options, 10):
        for frame in film[::8]:
            both, n_seams = ndimage.label(frame[:, :, 0] > 130)  # alone 255 x 128 / 255
            seams = ndimage.sum(both > 0, both, range(1, n_seams + 1)) if n_seams else np.zeros(1)
            most = max(most, int(seams.max()))
    assert at_least <= most <= allowed * 45 * 45


def test_boxes_of_rotated_faces_overlap_by_at_most_a_hundredth(found: list[list[Boxes]]) -> None:
    for boxes in itertools.chain.from_iterable(found):
        for one, other in itertools.combinations(boxes.values(), 2):
            width = min(one[2], other[2]) - max(one[0], other[0])
            height = min(one[3], other[3]) - max(one[1], other[1])
            areas = [(right - left) * (bottom - top) for left, top, right, bottom in (one, other)]
            assert max(width, 0) * max(height, 0) <= 0.01 * min(areas)


# pixels


def test_blend_is_that_of_pillow() -> None:
    rng = np.random.default_rng(1)
    face = Image.fromarray(rng.integers(0, 256, (40, 30, 4), dtype=np.uint8))
    scene = Image.fromarray(rng.integers(0, 256, (40, 30, 3), dtype=np.uint8))
    expected = np.asarray(Image.alpha_composite(scene.convert("RGBA"), face).convert("RGB"))
    pixels = np.asarray(face.convert("RGBa")).astype(np.uint16)
    behind = np.repeat(255 - pixels[:, :, 3:], 3, axis=2)
    place = np.array(scene)
    blend(place, Patch(pixels[:, :, :3], behind, 1))
    assert np.abs(place.astype(int) - expected).max() <= 1


def test_a_turned_cutout_is_that_of_pillow(tmp_path: Path) -> None:
    coarse = np.random.default_rng(2).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((350, 350), Image.Resampling.BICUBIC)
    outline = Image.new("L", (350, 350))
    ImageDraw.Draw(outline).ellipse((0, 0, 349, 349), fill=255)
    image.putalpha(outline)
    image.save(tmp_path / "face.png")
    patch = make_patch(read_cutout(tmp_path / "face.png", 104), 48, 30)
    shown = np.full((*patch.colour.shape[:2], 3), 90, np.uint8)
    blend(shown, patch)
    turned = image.resize((48, 48), Image.Resampling.BILINEAR).rotate(30, Image.Resampling.BILINEAR, expand=True)
    turned = turned.crop(turned.getchannel("A").getbbox())
    scene = Image.new("RGBA", turned.size, (90, 90, 90, 255))
    expected = np.asarray(Image.alpha_composite(scene, turned).convert("RGB")).astype(int)
    assert np.abs(np.subtract(expected.shape, shown.shape)).max() <= 1
    height, width = np.minimum(expected.shape, shown.shape)[:2]
    assert np.abs(shown[:height, :width] - expected[:height, :width]).mean() < 4


def test_transparent_borders_are_cut_away(tmp_path: Path) -> None:
    image = Image.new("RGBA", (350, 350))
    image.paste((200, 0, 0, 255), (100, 50, 200, 250))
    image.save(tmp_path / "face.png")
    assert read_cutout(tmp_path / "face.png", 104).size == (52, 104)


def test_a_crop_without_alpha_gets_an_ellipse(tmp_path: Path) -> None:
    Image.new("RGB", (112, 112), (200, 100, 50)).save(tmp_path / "face.png")
    alpha = np.asarray(read_cutout(tmp_path / "face.png", 104))[:, :, 3]
    assert alpha.shape == (104, 104)
    assert alpha.mean() / 255 == pytest.approx(np.pi / 4, abs=0.01)
    assert alpha[0, 0] == 0 and alpha[52, 52] == 255 and (alpha[52, [0, -1]] > 0).all()


def test_a_background_is_the_middle_square(tmp_path: Path) -> None:
    image = Image.new("RGB", (500, 100), (255, 0, 0))
    image.paste((0, 0, 255), (200, 0, 300, 100))
    image.save(tmp_path / "wide.png")
    found = read_background(tmp_path / "wide.png", 326)
    assert found.shape == (326, 326, 3)
    assert (found[:, 5:-5] == (0, 0, 255)).all()


# files


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("kind", ["mp4", "frames", "pt"])
def test_same_seed_same_bytes_however_many_clips(tmp_path: Path, ellipses: Path, kind: str) -> None:
    write_clips(ellipses, None, tmp_path / "few", 2, kind, SHORT, workers=1)
    write_clips(ellipses, None, tmp_path / "more", 4, kind, SHORT, workers=1)
    few, more = contents(tmp_path / "few"), contents(tmp_path / "more")
    clips = [name for name in few if name.startswith("synt-")]
    assert clips and all(few[name] == more[name] for name in clips)
    write_clips(ellipses, None, tmp_path / "other", 2, kind, SynthOptions(seed=1, n_frames=4), workers=1)
    assert all(few[name] != contents(tmp_path / "other")[name] for name in clips)


def test_same_bytes_with_more_workers(tmp_path: Path, ellipses: Path, black: Path) -> None:
    for workers in (1, 2):
        made = write_clips(ellipses, black, tmp_path / str(workers), 5, "mp4", SHORT, workers=workers)
        assert (made.n_made, made.n_kept) == (5, 0)
    assert contents(tmp_path / "1") == contents(tmp_path / "2")


def test_a_film_is_5_seconds_of_75_frames(tmp_path: Path, ellipses: Path, black: Path) -> None:
    write_clips(ellipses, black, tmp_path / "out", 1, workers=1)
    with av.open(str(tmp_path / "out" / "synt-positive-0001.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height, stream.average_rate, container.duration) == (326, 326, 15, 5_000_000)
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(pictures) == 75
    drawn = draw_clips(ellipses, black, SynthOptions(), 1)[0]
    assert np.abs(np.stack(pictures[::15]).astype(int) - drawn[::15]).mean() < 2


def test_a_tensor_and_pictures_show_the_same(tmp_path: Path, ellipses: Path, black: Path) -> None:
    for kind in ("pt", "frames"):
        write_clips(ellipses, black, tmp_path / "out", 2, kind, SHORT, workers=1)
    tensor = torch.load(tmp_path / "out" / "synt-neutral-0001.synt.img.4.pt", weights_only=True)
    assert (tensor.shape, tensor.dtype, tensor.is_contiguous()) == ((4, 3, 326, 326), torch.uint8, True)
    drawn = draw_clips(ellipses, black, SHORT, 2)[1]
    assert np.array_equal(tensor.permute(0, 2, 3, 1), drawn)
    pictures = sorted((tmp_path / "out" / "synt-neutral-0001").iterdir())
    assert [file.name for file in pictures] == ["00001.jpg", "00002.jpg", "00003.jpg", "00004.jpg"]
    assert np.abs(np.stack([np.asarray(Image.open(file)) for file in pictures]).astype(int) - drawn).mean() < 2


def labels_in(out: Path) -> dict[str, list[str]]:
    return {label: (out / f"{label}_labels.txt").read_text().splitlines() for label in LABELS}


def test_labels_are_balanced(tmp_path: Path, ellipses: Path) -> None:
    write_clips(ellipses, None, tmp_path, 7, "frames", SHORT, workers=1)
    assert labels_in(tmp_path) == {
        "Positive": ["Vid_name Label", *(f"synt-positive-000{n} 1" for n in (1, 2, 3))],
        "Neutral": ["Vid_name Label", *(f"synt-neutral-000{n} 2" for n in (1, 2))],
        "Negative": ["Vid_name Label", *(f"synt-negative-000{n} 3" for n in (1, 2))],
    }


def test_faces_are_those_of_the_class(tmp_path: Path, black: Path) -> None:
    for label, colour in zip(LABELS, ("red", "lime", "blue"), strict=True):
        (tmp_path / label).mkdir()
        Image.new("RGBA", (350, 350), colour).save(tmp_path / label / "only.png")  # one cut-out, shown many times
    for channel, film in enumerate(draw_clips(tmp_path, black, SHORT, 3)):
        assert film[..., channel].max() == 255
        assert np.delete(film, channel, axis=3).max() == 0


# going on after an interruption


class StopAfter:
    """A Reporter that stops the work as Ctrl-C does."""

    def __init__(self, n_clips: int) -> None:
        self.left = n_clips

    def start(self, label: str, total: int, unit: str, done: int = 0) -> None: ...

    def advance(self, n: int = 1, note: str = "") -> None:
        self.left -= n
        if self.left == 0:
            raise KeyboardInterrupt

    def finish(self) -> None: ...


@pytest.mark.parametrize("workers", [1, 2])
def test_an_interrupted_run_leaves_whole_clips_and_goes_on(tmp_path: Path, ellipses: Path, workers: int) -> None:
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        write_clips(ellipses, None, out, 12, "frames", SHORT, workers, StopAfter(2))
    clips = sorted(path.name.split(".")[0] for path in out.glob("synt-*"))
    assert 2 <= len(clips) < 12
    assert sorted(line.split()[0] for lines in labels_in(out).values() for line in lines[1:]) == clips
    assert not (out / ".partial").exists()
    before = {path: path.stat().st_mtime_ns for path in out.glob("synt-*")}
    made = write_clips(ellipses, None, out, 12, "frames", SHORT, workers=1)
    assert (made.n_made, made.n_kept) == (12 - len(clips), len(clips))
    assert all(path.stat().st_mtime_ns == then for path, then in before.items())
    write_clips(ellipses, None, tmp_path / "at once", 12, "frames", SHORT, workers=1)
    assert contents(out) == contents(tmp_path / "at once")


def test_what_a_killed_process_left_is_cleared_away(tmp_path: Path, ellipses: Path) -> None:
    half = tmp_path / ".partial" / clip_name(0)
    half.mkdir(parents=True)
    (half / "00001.jpg").write_bytes(b"half")
    assert write_clips(ellipses, None, tmp_path, 1, "frames", SHORT, workers=1).n_made == 1
    assert len(list((tmp_path / clip_name(0)).iterdir())) == 4
    assert not (tmp_path / ".partial").exists()


# wrong input


@pytest.fixture
def faces(tmp_path: Path) -> Iterator[Path]:
    yield paint_faces(tmp_path / "faces", size=(60, 60))


def run_short(faces: Path, out: Path, **given: object) -> None:
    write_clips(faces, given.get("backgrounds"), out, 3, "frames", SHORT, workers=1)  # type: ignore[arg-type]


def test_messages_about_folders(tmp_path: Path, faces: Path) -> None:
    with pytest.raises(DataError, match=r"No folder of faces .*nowhere\. Name one that holds .* Positive, Neutral"):
        run_short(tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(DataError, match=r"No images in .*nothing\. Name a folder of background images"):
        run_short(faces, tmp_path / "out", backgrounds=tmp_path / "nothing")
    (faces / "Happy").mkdir()
    with pytest.raises(DataError, match=r"a folder 'Happy', which is not a class\. Face folders are named Positive, "):
        run_short(faces, tmp_path / "out")
    (faces / "Happy").rmdir()
    (faces / "Negative").rename(tmp_path / "away")
    with pytest.raises(DataError, match=r"No faces of class Negative: put cut-outs .* into .*Negative"):
        run_short(faces, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda file: file.write_text("no image"), r"is not an image\. Replace or delete it"),
        (lambda file: file.write_bytes(file.read_bytes()[:-300]), r"Replace or delete it"),
        (lambda file: Image.new("RGBA", (60, 60)).save(file), r"shows no face: it is transparent everywhere"),
    ],
    ids=["text", "cut off", "transparent"],
)
def test_messages_about_images(tmp_path: Path, faces: Path, spoil: Callable[[Path], object], said: str) -> None:
    for file in (faces / "Neutral").iterdir():
        spoil(file)
    with pytest.raises(DataError, match=rf"Neutral/\d\d\.png .*{said}"):
        run_short(faces, tmp_path / "out")
    assert labels_in(tmp_path / "out")["Positive"] == ["Vid_name Label", "synt-positive-0001 1"]


def test_messages_about_the_output_folder(tmp_path: Path, faces: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"file is a file\. Choose another folder"):
        run_short(faces, tmp_path / "file")
    with pytest.raises(UsageError, match=r"faces holds something else, such as Negative\. Choose a new or empty"):
        run_short(faces, faces)
    run_short(faces, tmp_path / "out")
    with pytest.raises(UsageError, match=r"were made with other seed\. Choose another folder, or repeat"):
        write_clips(faces, None, tmp_path / "out", 3, "frames", SynthOptions(seed=5, n_frames=4), workers=1)
    (faces / "Neutral" / "00.png").unlink()
    with pytest.raises(UsageError, match=r"were made with other faces\."):
        run_short(faces, tmp_path / "out")
    (tmp_path / "out" / "synth.json").write_text("{")
    with pytest.raises(UsageError, match=r"synth\.json is damaged"):
        run_short(faces, tmp_path / "out")


def test_messages_about_options(tmp_path: Path, faces: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot have min_faces, max_faces = 5, 4"):
        SynthOptions(min_faces=5, max_faces=4)
    with pytest.raises(UsageError, match=r"leaves 18 px for a face of 52 px"):
        SynthOptions(n_frames=125)
    with pytest.raises(UsageError, match=r"Unknown kind of clip 'gif'\. Choose one of: mp4, frames, pt"):
        write_clips(faces, None, tmp_path / "out", 1, "gif")
    with pytest.raises(DataError, match=r"has no room for 15 faces in its last frame: none of 50 plans did"):
        write_clips(faces, None, tmp_path / "out", 1, options=SynthOptions(min_faces=15, motion="path"), workers=1)
    with pytest.raises(DataError, match=r"has no room for 15 faces in frame \d\d: none of 50 plans did"):
        write_clips(faces, None, tmp_path / "jumping", 1, options=SynthOptions(min_faces=15), workers=1)


@pytest.fixture(scope="module")
def jumping(ellipses: Path, black: Path) -> np.ndarray:
    """A clip whose faces are drawn in every frame, without any overlap."""
    return draw_clips(ellipses, black, SynthOptions(max_overlap=0, rotate_probability=0), 1)[0]


def test_faces_are_placed_and_scaled_in_every_frame(jumping: np.ndarray) -> None:
    seen: dict[int, list[tuple[int, int, int, int]]] = {}
    for number, frame in enumerate(jumping):
        boxes = boxes_in(frame)
        assert 3 <= len(boxes) <= 15
        for colour, box in boxes.items():
            seen.setdefault(colour, []).append(box)
            assert min(box[0], box[1], 326 - box[2], 326 - box[3]) >= 30 + number
    sizes = [box[2] - box[0] for box in max(seen.values(), key=len)]
    assert 33 <= min(sizes) < 38 and 48 < max(sizes) <= 52 and len(set(sizes)) > 8
    lefts = np.array([box[0] for box in max(seen.values(), key=len)])
    assert np.abs(np.diff(lefts)).mean() > 20
    assert len(boxes_in(jumping[-1])) < len(boxes_in(jumping[0])) <= len(seen)


def test_faces_turn_in_every_frame_and_overlap_by_at_most_a_thousandth(tmp_path: Path, black: Path) -> None:
    """Lines: their boxes tell the angle. 350 x 175 is squashed to a square, whose box is the same for all but angles."""
    faces = paint_faces(tmp_path / "faces", "rectangle", size=(350, 175))
    options = SynthOptions(n_frames=40, min_faces=1, max_faces=1, rotate_probability=1, min_scale=0.1, max_scale=0.1)
    (film,) = draw_clips(faces, black, options, 1)
    widths = [np.ptp(np.nonzero(frame.any(2))[1]) + 1 for frame in film]
    angles = 2 * np.degrees(np.arcsin(np.clip(np.array(widths) / 35 / 2**0.5, -1, 1))) - 90
    assert min(widths) < 39 and 46 < max(widths) <= 52 and np.std(angles) > 5
    many = SynthOptions(n_frames=3, min_faces=3, max_faces=15, rotate_probability=0)
    for clip in draw_clips(faces, black, many, 4):
        for frame in clip:
            boxes = boxes_in(frame).values()
            for one, other in itertools.combinations(boxes, 2):
                common = [min(one[k + 2], other[k + 2]) - max(one[k], other[k]) for k in (0, 1)]
                assert min(common) <= 0 or common[0] * common[1] <= 0.001 * 52 * 52 + 1


@pytest.mark.parametrize("is_squashed", [True, False])
def test_a_face_is_a_square_or_keeps_its_proportions(tmp_path: Path, black: Path, is_squashed: bool) -> None:
    faces = paint_faces(tmp_path / "faces", "rectangle", size=(350, 175))
    options = SynthOptions(n_frames=1, min_faces=1, max_faces=1, rotate_probability=0, squash=is_squashed)
    ((frame,),) = draw_clips(faces, black, options, 1)
    rows, columns = np.nonzero(frame.any(2))
    width, height = np.ptp(columns) + 1, np.ptp(rows) + 1
    assert abs(height - (width if is_squashed else width / 2)) <= 1


def test_a_background_is_stretched(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 80, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    expected = np.asarray(Image.fromarray(pixels).resize((20, 20), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(read_background(tmp_path / "wide.png", 20, True), expected)


def test_one_class_alone_is_that_of_all_classes(tmp_path: Path, ellipses: Path) -> None:
    write_clips(ellipses, None, tmp_path / "all", 6, "frames", SHORT, workers=1)
    made = write_clips(ellipses, None, tmp_path / "one", 2, "frames", SHORT, workers=1, only="Neutral")
    clips = sorted(path.name for path in (tmp_path / "one").iterdir() if path.is_dir())
    assert made.n_made == 2 and clips == ["synt-neutral-0001", "synt-neutral-0002"]
    for file in (f"{clip}/{number:05}.jpg" for clip in clips for number in (1, 4)):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "all" / file).read_bytes()
    with pytest.raises(UsageError, match="Unknown class 'Angry'"):
        write_clips(ellipses, None, tmp_path / "one", 2, only="Angry")


def test_clips_of_before_go_on_with_their_rules(tmp_path: Path, ellipses: Path) -> None:
    """The record of older versions has no motion, squash and stretch."""
    before = SynthOptions(n_frames=4, max_overlap=0.01, motion="path", squash=False, stretch=False)
    write_clips(ellipses, None, tmp_path, 1, "frames", before, workers=1)
    record = json.loads((tmp_path / "synth.json").read_text())
    for name in ("motion", "squash", "stretch"):
        del record[name]
    (tmp_path / "synth.json").write_text(json.dumps(record))
    assert write_clips(ellipses, None, tmp_path, 2, "frames", before, workers=1).n_made == 1
    with pytest.raises(UsageError, match="made with other max_overlap and motion and squash and stretch"):
        write_clips(ellipses, None, tmp_path, 2, "frames", SHORT, workers=1)


def test_every_rule_is_an_option(tmp_path: Path, faces: Path, run_cli: Callable) -> None:
    values = {
        **{"seed": 3, "n_frames": 2, "side_px": 200, "base_px": 300, "min_scale": 0.11, "max_scale": 0.12},
        **{"min_faces": 1, "max_faces": 2, "rotate_probability": 0.25, "max_angle_deg": 30.0, "max_overlap": 0.02},
        **{"margin_px": 5, "margin_growth_px": 2, "motion": "path", "squash": False, "stretch": False},
    }
    assert values.keys() == SynthOptions.__dataclass_fields__.keys()
    words = [
        f"--no-{name}" if value is False else f"--{name.replace('_', '-')}={value}" for name, value in values.items()
    ]
    done = run_cli(
        "synth",
        "--faces",
        faces,
        "--out",
        tmp_path / "out",
        "--clips",
        1,
        "--only",
        "Negative",
        "--to",
        "frames",
        *words,
    )
    assert done.exit_code == 0, done.output
    record = json.loads((tmp_path / "out/synth.json").read_text())
    assert {name: record[name] for name in values} == values
    assert {name: SynthOptions.__dataclass_fields__[name].default for name in RULES} == {
        name: default for name, (_, default, _) in RULES.items()
    }
    assert [path.name for path in (tmp_path / "out").iterdir() if path.is_dir()] == ["synt-negative-0001"]


def test_the_command(tmp_path: Path, faces: Path, run_cli: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "SHORT_S", 0.0)
    words = ("synth", "--faces", faces, "--out", tmp_path / "out", "--clips", 2, "--to", "frames", "--seed", 3)
    first, second = run_cli(*words), run_cli(*words)
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert "out: made 2 clips, 0 were there." in first.stdout
    assert "synth: 2 clips in" in first.stderr and "clips/s" in first.stderr
    assert "out: made 0 clips, 2 were there." in second.stdout
    assert json.loads((tmp_path / "out" / "synth.json").read_text())["seed"] == 3
    wrong = run_cli("synth", "--faces", tmp_path, "--out", tmp_path / "other", "--clips", 2)
    assert wrong.exit_code == 1 and wrong.stderr.startswith("Error: ") and "not a class" in wrong.stderr


def test_videos_need_no_torch(tmp_path: Path, faces: Path, process_env: dict[str, str]) -> None:
    code = (
        "import sys; from pathlib import Path; from abaw.datasets.synth import write_clips\n"
        f"write_clips(Path({str(faces)!r}), None, Path({str(tmp_path / 'out')!r}), 1, workers=1)\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], env=process_env, timeout=60).returncode == 0
