"""The demo dataset: official layout with its quirks, real files, and content that can be learned."""

from collections import Counter
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from abaw.core.errors import UsageError
from abaw.datasets.demo import SIZES, n_frames_of, write_demo
from abaw.datasets.demo import film as demo_film
from abaw.datasets.demo.film_plan import latents_of, person_of, plan_films
from abaw.datasets.demo.latents import draw_latents, draw_staging
from abaw.datasets.demo.voice import SAMPLE_RATE_HZ, speak

HEADERS = {
    "VA_Estimation_Challenge": "valence,arousal",
    "EXPR_Recognition_Challenge": "Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise,Other",
    "AU_Detection_Challenge": "AU1,AU2,AU4,AU6,AU7,AU10,AU12,AU15,AU23,AU24,AU25,AU26",
}
VA, EXPR, AU = HEADERS
SPLITS = ("Train_Set", "Validation_Set")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """A tiny dataset written in this process, and the number of faces reported meanwhile."""
    root = tmp_path_factory.mktemp("demo") / "tiny"
    reports: list[int] = []
    write_demo(root, "tiny", workers=1, on_frames=reports.append)
    return root, sum(reports)


@pytest.fixture(scope="module")
def root(demo: tuple[Path, int]) -> Path:
    return demo[0]


def read_labels(root: Path, challenge: str, split: str) -> dict[str, np.ndarray]:
    """All label tables of a split, by the name of the face."""
    files = sorted((root / "labels" / challenge / split).glob("*.txt"))
    return {file.stem: np.loadtxt(file, delimiter=",", skiprows=1, ndmin=2) for file in files}


def film_of(root: Path, face: str) -> Path:
    return root / "videos" / f"{face.removesuffix('_left').removesuffix('_right')}.mp4"


def n_frames_in(file: Path) -> int:
    with av.open(str(file)) as container:
        return container.streams.video[0].frames


def missing_frames(root: Path, face: str) -> np.ndarray:
    """True at every frame of the film that has no crop."""
    missing = np.ones(n_frames_in(film_of(root, face)), bool)
    for file in (root / "cropped_aligned" / face).iterdir():
        missing[int(file.stem) - 1] = False
    return missing


def faces(root: Path) -> list[str]:
    return sorted(folder.name for folder in (root / "cropped_aligned").iterdir())


def n_runs(flags: np.ndarray) -> int:
    return int((np.diff(np.concatenate([[0], flags.astype(int)])) == 1).sum())


def hear(file: Path) -> tuple[np.ndarray, int]:
    """Samples, (samples,) as the mean of the channels, and their rate in Hz."""
    with av.open(str(file)) as container:
        rate_hz = container.streams.audio[0].rate
        parts = [frame.to_ndarray() for frame in container.decode(audio=0)]
    return np.concatenate(parts, 1).mean(0), rate_hz


def test_layout(root: Path) -> None:
    assert sorted(path.name for path in root.iterdir()) == ["cropped_aligned", "labels", "videos"]
    assert {path.name for path in (root / "labels").iterdir()} == {*HEADERS, "MTL_Challenge"}
    for challenge, header in HEADERS.items():
        for split in SPLITS:
            files = list((root / "labels" / challenge / split).iterdir())
            assert files
            assert {file.read_text().split("\n")[0] for file in files} == {header}


def test_every_face_has_labels_and_one_training_face_has_no_action_units(root: Path) -> None:
    labelled = {key: {split: set(read_labels(root, key, split)) for split in SPLITS} for key in HEADERS}
    assert labelled[VA] == labelled[EXPR]
    assert labelled[VA]["Train_Set"] | labelled[VA]["Validation_Set"] == set(faces(root))
    assert not labelled[VA]["Train_Set"] & labelled[VA]["Validation_Set"]
    assert len(labelled[VA]["Train_Set"] - labelled[AU]["Train_Set"]) == 1
    assert labelled[AU]["Validation_Set"] == labelled[VA]["Validation_Set"]


def test_crops_are_rgb_jpegs_of_112_pixels_counted_from_one(root: Path) -> None:
    for face in faces(root):
        files = sorted((root / "cropped_aligned" / face).iterdir())
        assert all(len(file.stem) == 5 and file.suffix == ".jpg" for file in files)
        assert int(files[0].stem) >= 1
        with Image.open(files[0]) as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (112, 112))


def test_crops_are_missing_in_runs_also_at_the_beginning_and_the_end(root: Path) -> None:
    gaps = {face: missing_frames(root, face) for face in faces(root)}
    for gap in gaps.values():
        assert 1 <= n_runs(gap) <= 3
        assert 0.02 < gap.mean() < 0.1
    assert any(gap[0] for gap in gaps.values())
    assert any(gap[-1] for gap in gaps.values())


def test_most_label_files_have_a_row_too_many_and_one_has_a_row_too_few(root: Path) -> None:
    for challenge in HEADERS:
        spare = Counter(
            len(table) - n_frames_in(film_of(root, face))
            for split in SPLITS
            for face, table in read_labels(root, challenge, split).items()
        )
        assert set(spare) == {1, -1}
        assert spare[-1] == 1


@pytest.mark.parametrize(("split", "file"), [(SPLITS[0], "training_set"), (SPLITS[1], "validation_set")])
def test_multi_task_rows_are_the_labels_of_the_frames_with_a_crop(root: Path, split: str, file: str) -> None:
    header, *lines = (root / f"labels/MTL_Challenge/{file}_annotations.txt").read_text().splitlines()
    assert header == "image,valence,arousal,expression,aus"
    rows = {line.partition(",")[0]: np.array(line.split(",")[1:], float) for line in lines}
    tables = [read_labels(root, challenge, split) for challenge in (VA, EXPR, AU)]
    assert len(rows) == len(lines)
    assert set(rows) == {
        f"{face}/{file.name}" for face in tables[0] for file in (root / "cropped_aligned" / face).iterdir()
    }
    for image, row in rows.items():
        face, frame = image.split("/")
        parts = [table[face][int(frame.removesuffix(".jpg")) - 1] if face in table else [-1] * 12 for table in tables]
        np.testing.assert_array_equal(row, np.concatenate(parts))


@pytest.mark.parametrize("split", SPLITS)
def test_some_labels_are_invalid(root: Path, split: str) -> None:
    va = np.concatenate(list(read_labels(root, VA, split).values()))
    invalid = va == -5
    assert invalid.all(1).any()
    assert (invalid[:, 0] & ~invalid[:, 1]).any()
    assert (~invalid[:, 0] & invalid[:, 1]).any()
    assert np.abs(va[~invalid]).max() <= 1
    expression = np.concatenate(list(read_labels(root, EXPR, split).values()))
    assert set(np.unique(expression)) == {-1, *range(8)}
    units = np.concatenate(list(read_labels(root, AU, split).values()))
    assert set(np.unique(units)) == {-1, 0, 1}
    whole = (units == -1).all(1)
    assert whole.any()
    assert (units[~whole] == -1).any()


def test_the_lowest_valence_occurs_as_a_legal_label(root: Path) -> None:
    tables = [table for split in SPLITS for table in read_labels(root, VA, split).values()]
    assert (np.concatenate(tables) == -1).any()


@pytest.mark.parametrize("size", ["tiny", "small"])
@pytest.mark.parametrize("split", ["train", "validation"])
def test_every_class_and_unit_occurs_with_both_values(size: str, split: str) -> None:
    films = [film for film in plan_films(size) if film.split == split]
    latents = [latents_of(film, face) for film in films for face in range(len(film.seeds))]
    shares = np.bincount(np.concatenate([one.expression_labels() for one in latents]), minlength=8)
    assert shares.min() > 0.5 * shares.mean()
    labelled = [latents_of(film) for film in films if "au" in film.tasks]
    units = np.concatenate([one.unit_labels() for one in labelled])
    assert ((units.mean(0) > 0.03) & (units.mean(0) < 0.7)).all()


def test_two_people_share_one_film(root: Path) -> None:
    pair = [face for face in faces(root) if face.endswith(("_left", "_right"))]
    assert len(pair) == 2
    assert set(pair) <= set(read_labels(root, VA, "Train_Set"))
    film = film_of(root, pair[0])
    assert film == film_of(root, pair[1])
    single = film_of(root, next(face for face in faces(root) if face not in pair))
    with av.open(str(film)) as both, av.open(str(single)) as one:
        assert both.streams.video[0].width == 2 * one.streams.video[0].width
    assert {file.stem for file in (root / "videos").iterdir()} == {film_of(root, face).stem for face in faces(root)}


def test_films_have_two_frame_rates_and_a_sound_track_of_their_length(root: Path) -> None:
    rates = set()
    for file in (root / "videos").iterdir():
        with av.open(str(file)) as container:
            video = container.streams.video[0]
            rates.add(video.average_rate)
            n_decoded = sum(1 for _ in container.decode(video=0))
            assert n_decoded == video.frames
            duration_s = float(video.frames / video.average_rate)
        sound, rate_hz = hear(file)
        assert rate_hz >= 16000
        assert len(sound) / rate_hz == pytest.approx(duration_s, abs=0.1)
        assert np.abs(sound).max() < 1
    assert rates == {Fraction(30), Fraction(25)}


def test_sound_gets_louder_with_arousal(root: Path) -> None:
    energies, arousals = [], []
    for split in SPLITS:
        for face, table in read_labels(root, VA, split).items():
            if face.endswith(("_left", "_right")):
                continue
            sound, _ = hear(film_of(root, face))
            n_frames = min(len(table), n_frames_in(film_of(root, face)))
            per_frame = [np.log(np.mean(part**2) + 1e-9) for part in np.array_split(sound, n_frames)]
            smooth = np.convolve(per_frame, np.ones(9) / 9, mode="same")
            valid = table[:n_frames, 1] != -5
            valid[:5] = valid[-5:] = False
            energies.append(smooth[valid])
            arousals.append(table[:n_frames, 1][valid])
    assert np.corrcoef(np.concatenate(energies), np.concatenate(arousals))[0, 1] > 0.5


def test_voice_is_higher_and_louder_when_aroused() -> None:
    calm, aroused = (speak(np.random.default_rng(1), np.full(90, level), 30.0) for level in (-0.8, 0.8))
    assert len(calm) == 3 * SAMPLE_RATE_HZ
    assert np.square(aroused).mean() > 10 * np.square(calm).mean()

    def pitch_hz(sound: np.ndarray) -> float:
        part = sound[16000:18400]
        similarity = np.correlate(part, part, "full")[len(part) :]
        return SAMPLE_RATE_HZ / (similarity[40:300].argmax() + 41)

    assert pitch_hz(aroused) > 1.5 * pitch_hz(calm)


def test_a_dropped_jaw_shows_in_the_crop(root: Path) -> None:
    darkness: dict[int, list[float]] = {0: [], 1: []}
    for face, table in read_labels(root, AU, "Validation_Set").items():
        dark = {}
        for file in (root / "cropped_aligned" / face).iterdir():
            with Image.open(file) as image:
                mouth = np.asarray(image.convert("L"), float)[76:106, 40:72]
            dark[int(file.stem) - 1] = (mouth < 0.5 * np.median(mouth)).mean()
        for value in (0, 1):
            darkness[value].append(np.mean([dark[k] for k in dark if table[k, -1] == value]))
    assert np.mean(darkness[1]) > 1.5 * np.mean(darkness[0])


def test_same_files_whatever_the_number_of_workers(demo: tuple[Path, int], tmp_path: Path) -> None:
    root, n_reported = demo
    reports: list[int] = []
    write_demo(tmp_path / "again", "tiny", workers=2, on_frames=reports.append)
    assert sum(reports) == n_reported == n_frames_of("tiny")
    for folder in ("cropped_aligned", "labels", "videos"):
        first = {p.relative_to(root): p.read_bytes() for p in (root / folder).rglob("*.*")}
        second = {p.relative_to(tmp_path / "again"): p.read_bytes() for p in (tmp_path / "again" / folder).rglob("*.*")}
        assert first == second


def test_another_seed_gives_another_dataset() -> None:
    one, other = plan_films("tiny", seed=0), plan_films("tiny", seed=1)
    assert not np.array_equal(latents_of(one[0]).valence[:50], latents_of(other[0]).valence[:50])
    assert person_of(one[0].seeds[0]) != person_of(other[0].seeds[0])


def test_nobody_is_in_both_splits() -> None:
    for size in SIZES:
        people: dict[str, set] = {"train": set(), "validation": set()}
        for film in plan_films(size):
            people[film.split].update(person_of(seed) for seed in film.seeds)
        assert not people["train"] & people["validation"]
        assert len(people["train"]) == SIZES[size].n_train + 1


def test_affect_is_smooth_and_in_range() -> None:
    latents = draw_latents(np.random.default_rng(0), 600, 8, 30.0)
    assert latents.expression.sum(1) == pytest.approx(1)
    assert set(latents.expression_labels()) == set(range(8))
    for course, low in ((latents.valence, -1), (latents.arousal, -1), (latents.action_units, 0)):
        assert low <= course.min() < course.max() <= 1
        assert np.abs(np.diff(course, axis=0)).max() < 0.2


def test_head_stays_inside_the_scene() -> None:
    staging = draw_staging(np.random.default_rng(0), 3000, 30.0)
    assert (np.abs(staging.wander) <= (24, 8)).all()  # half of what a 160x128 scene has beyond a crop
    assert np.abs(np.diff(staging.angle)).max() < np.radians(2)


def test_a_folder_with_something_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"new or empty folder.*already holds something.*choose another folder"):
        write_demo(tmp_path, "tiny")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_an_unknown_size_is_refused(tmp_path: Path) -> None:
    for call in (lambda: write_demo(tmp_path / "x", "huge"), lambda: n_frames_of("huge")):
        with pytest.raises(UsageError, match=r"Unknown demo size 'huge'.*tiny, small, large"):
            call()
    assert not (tmp_path / "x").exists()


def test_a_failure_leaves_no_half_written_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class FullDisk(demo_film.FilmWriter):
        n_written = 0

        def write(self, picture: np.ndarray) -> None:
            FullDisk.n_written += 1
            if FullDisk.n_written > 150:  # in the second film
                raise OSError("no space left")
            super().write(picture)

    monkeypatch.setattr(demo_film, "FilmWriter", FullDisk)
    with pytest.raises(OSError, match="no space left"):
        write_demo(tmp_path, "tiny", workers=1)
    assert len(list((tmp_path / "videos").iterdir())) == 1
    assert len(faces(tmp_path)) == 2  # the pair of the first film
    assert all(missing_frames(tmp_path, face).mean() < 0.1 for face in faces(tmp_path))
    assert not list(tmp_path.glob(".*"))
