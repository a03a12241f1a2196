"""Faces joined into tracks, tracks into people, and the names of people."""

import math

import numpy as np
import pytest

from abaw.extract.faces.boxes import match, overlaps
from abaw.extract.faces.tracking import FADING_S, MEMORY_S, Track, Tracker, join_alike, name_people

FPS = 25


def box(x: float, y: float = 100, side: float = 80) -> np.ndarray:
    return np.array([x - side / 2, y - side / 2, x + side / 2, y + side / 2], dtype=np.float32)


def followed(frames: list[list[np.ndarray]], fps: float = FPS) -> tuple[list[list[int]], Tracker]:
    tracker = Tracker()
    tracks = [tracker.add(n / fps, np.array(boxes).reshape(-1, 4)) for n, boxes in enumerate(frames)]
    return tracks, tracker


def names(tracker: Tracker, most: int = 0) -> dict[int, str]:
    people = name_people(tracker.people(), "v", most)
    return {track.number: name for name, person in people.items() for track in person.tracks}


def test_overlaps_by_hand():
    first = np.array([[0, 0, 2, 2], [10, 10, 12, 12]])
    np.testing.assert_allclose(overlaps(first, np.array([[1, 0, 3, 2]])), [[2 / 6], [0]])


def test_pairs_are_one_to_one_near_and_of_like_size():
    first = np.stack([box(100), box(200), box(400)])
    second = np.stack([box(205), box(110), box(400, side=200), box(130)])
    assert sorted(match(first, second, 0.8)) == [(0, 1), (1, 0)]
    assert match(first[:0], second, 0.8) == [] and match(first, second[:0], 0.8) == []


def test_two_people_keep_their_tracks_however_the_detector_orders_them():
    frames = [[box(100 + n), box(300 - n)][:: 1 if n % 2 else -1] for n in range(40)]
    tracks, tracker = followed(frames)
    left, right = tracks[0][1], tracks[0][0]
    assert all(found == ([left, right] if n % 2 else [right, left]) for n, found in enumerate(tracks))
    assert names(tracker) == {left: "v_left", right: "v_right"}


def test_boxes_are_predicted_with_a_decaying_velocity():
    track = Track(1, box(100), 0.0)
    track.add(0.1, box(110), 0.1)  # 100 pixels a second, of which the memory takes in a part
    speed = 100 * (1 - math.exp(-0.1 / MEMORY_S))
    moved = speed * FADING_S * (1 - math.exp(-0.5 / FADING_S))
    np.testing.assert_allclose(track.predicted(0.6), box(110) + np.array([moved, 0, moved, 0]), atol=1e-4)


@pytest.mark.parametrize(("lost_s", "n_tracks"), [(0.2, 1), (0.9, 1), (1.4, 2)])
def test_a_face_is_the_same_after_a_short_loss(lost_s, n_tracks):
    n_lost = round(lost_s * FPS)
    tracks, tracker = followed([[box(100)]] * 25 + [[]] * n_lost + [[box(104)]] * 25)
    assert len({track for found in tracks for track in found}) == n_tracks
    assert set(names(tracker).values()) == {"v"}  # in the same place: the same person


def test_a_moving_face_is_found_where_it_went():
    path = [100 + 8 * n for n in range(60)]
    frames = [[box(x)] if not 20 <= n < 28 else [] for n, x in enumerate(path)]
    tracks, _ = followed(frames)
    assert {track for found in tracks for track in found} == {1}


def test_somebody_in_another_place_is_somebody_else():
    _, tracker = followed([[box(100)]] * 25 + [[]] * 40 + [[box(500)]] * 25)
    assert names(tracker) == {1: "v_left", 2: "v_right"}
    _, tracker = followed([[box(500)]] * 25 + [[]] * 40 + [[box(100)]] * 25)
    assert names(tracker) == {1: "v_right", 2: "v_left"}


def test_what_is_seen_for_a_moment_is_no_face():
    frames = [[box(100)] + ([box(400)] if 30 <= n < 35 else []) for n in range(100)]  # 0.2 s
    _, tracker = followed(frames)
    assert names(tracker) == {1: "v"}
    frames = [[box(100)] + ([box(400)] if 30 <= n < 40 else []) for n in range(100)]  # 0.4 s
    assert names(followed(frames)[1]) == {1: "v_left", 2: "v_right"}


def test_more_than_two_are_numbered_from_the_left():
    _, tracker = followed([[box(700), box(100), box(400)]] * 20)
    assert names(tracker) == {1: "v_3", 2: "v_1", 3: "v_2"}


def test_the_main_people_are_the_large_and_long_seen_ones():
    frames = [[box(100, side=60), box(400, side=120)] + ([box(800, side=130)] if n < 10 else []) for n in range(100)]
    _, tracker = followed(frames)
    assert names(tracker, 1) == {2: "v"}
    assert names(tracker, 2) == {1: "v_left", 2: "v_right"}
    assert set(names(tracker, 7).values()) == {"v_1", "v_2", "v_3"}


def test_pictures_that_are_seconds_apart():
    tracks, tracker = followed([[box(100)]] * 5, fps=0.5)
    assert tracks == [[1]] * 5
    assert names(tracker) == {1: "v"}


def test_one_picture_and_none():
    assert names(followed([[box(100)]])[1]) == {1: "v"}
    assert names(followed([[]] * 5)[1]) == {}
    assert names(Tracker()) == {}


def spans(*seconds: tuple[float, float], x: float = 100) -> list[Track]:
    """Tracks that are seen from a time to another, all in one place."""
    tracks = []
    for number, (first_s, last_s) in enumerate(seconds, 1):
        tracks.append(Track(number, box(x), first_s))
        tracks[-1].add(last_s, box(x), last_s - first_s)
    return tracks


def joined(tracks: list[Track], *directions: tuple[float, float]) -> list[list[int]]:
    people = join_alike(tracks, [np.array(direction) for direction in directions])
    return sorted([track.number for track in person.tracks] for person in people)


def test_tracks_are_joined_by_likeness_and_not_by_place():
    """Angles of 0, 80 and 10 degrees: cosines of .17, .98 and .34 between them, where .35 is asked for."""
    zero, ten, eighty = ((math.cos(angle), math.sin(angle)) for angle in np.radians([0, 10, 80]))
    apart = spans((0, 1), (2, 3), (4, 5))
    assert joined(apart, zero, eighty, ten) == [[1, 3], [2]]
    assert joined(apart, zero, zero, ten) == [[1, 2, 3]]
    assert joined(spans((4, 5), (2, 3), (0, 1)), zero, zero, zero) == [[3, 2, 1]]  # in the order of time


def test_tracks_at_the_same_time_are_two_people_however_alike():
    assert joined(spans((0, 2), (1, 3), (4, 5)), (1, 0), (1, 0.02), (1, 0.01)) == [[1], [2, 3]]
    # 3 is joined with 1 first, so that 2 cannot be either of them
    assert joined(spans((0, 2), (1, 3), (4, 5)), (1, 0), (1, 0.2), (1, 0)) == [[1, 3], [2]]


def test_longer_embeddings_weigh_more():
    """1 and 3 are joined first; their sum is like 2 only if it is mostly that of 1."""
    left, up, back = (1.0, 0.0), (0.45, 0.9), (0.7, -0.7)
    tracks = spans((0, 1), (2, 3), (4, 5))
    assert joined(tracks, (10.0, 0.0), up, back) == [[1, 2, 3]]
    assert joined(tracks, left, (4.5, 9.0), back) == [[1, 3], [2]]


def test_with_embeddings_a_cut_ends_tracks_and_people_are_found_again():
    tracker, seen = Tracker(), []
    for n in range(60):
        (number,) = tracker.add(n / FPS, np.array([box(100 if n < 40 else 300)]), ends_tracks=n in (20, 40))
        seen.append(number)
        for track in tracker.due([number], n / FPS):
            tracker.embed(track, n / FPS, np.array([0.0, 1.0] if 20 <= n < 40 else [1.0, 0.0]), 0.5)
    assert seen == [1] * 20 + [2] * 20 + [3] * 20
    assert names(tracker) == {1: "v_right", 3: "v_right", 2: "v_left"}  # at 200 on average, and at 100
    assert tracker.due([3], 59 / FPS) == [] and tracker.due([3], 3.0) == [3]
