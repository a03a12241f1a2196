"""Tracking: faces are joined into tracks from frame to frame, tracks into people at the end, and people get names.

A track predicts its position with a velocity that decays, so that a face that was lost for up to a second is found again.

By default people are identified by position only: somebody else who appears later in the same position counts as the same
person. With embeddings of the faces (see `abaw.extract.faces.face_identity`), tracks end at cuts, and those whose embeddings
are alike are one person, wherever they are.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from abaw.core.names import SIDES
from abaw.extract.faces.boxes import areas, centres, match

LONGEST_LOSS_S = 1.0  # a face that was lost for longer starts a new track
SHORTEST_TRACK_S = 0.3  # shorter tracks are not faces, unless they last for half of the video
MOST_DISTANCE = 0.8  # from the predicted position to the face, in sides of the face
SAME_COSINE = 0.35  # between the mean embeddings of two tracks of one person; ArcFace has about 0 for two people
JOIN_DISTANCE = 1.5  # from the end of a track to the start of the next one of the same person, in sides
MEMORY_S = 0.2  # time over which velocities are averaged
EMBED_EVERY_S = 0.2  # of a track
LEAST_WEIGHT = 1e-3  # of a face whose quality is 0
FADING_S = 0.3  # time in which a velocity decays to 1/e without a face, so that nobody drifts away


@dataclass
class Track:
    """One face in consecutive frames.

    Attributes:
        number: from 1, in the order of appearance.
        first_box, last_box: (4,) where it was seen first and last.
        first_s, last_s: when it was seen first and last.
        seen_s: how long it was seen in total.
        area_s: integral of its area over the time it was seen, in square pixels times seconds.
        x_s: integral of its horizontal position over that time.
        embedding: (d,) weighted sum of unit embeddings of its faces; None if people are identified by position.
        embedded_s: when the last face was added to it.
    """

    number: int
    first_box: NDArray[np.float32]
    first_s: float
    last_box: NDArray[np.float32] = field(init=False)
    last_s: float = field(init=False)
    velocity: NDArray[np.float64] = field(default_factory=lambda: np.zeros(2))  # of the centre, in pixels per second
    seen_s: float = 0.0
    area_s: float = 0.0
    x_s: float = 0.0
    embedding: NDArray[np.float64] | None = None
    embedded_s: float = -math.inf

    def __post_init__(self) -> None:
        self.last_box, self.last_s = self.first_box, self.first_s

    def predicted(self, time_s: float) -> NDArray[np.float64]:
        """(4,) box at a later time: of the same size, moved by the integral of the decaying velocity."""
        reach_s = FADING_S * (1 - math.exp(-(time_s - self.last_s) / FADING_S))
        return self.last_box.astype(np.float64) + np.tile(self.velocity * reach_s, 2)

    def add(self, time_s: float, box: NDArray[np.float32], step_s: float) -> None:
        """Add the face in a frame that is `step_s` after the previous one."""
        passed_s = time_s - self.last_s
        if passed_s > 0:
            moved = (centres(box[None]) - centres(self.last_box[None]))[0] / passed_s
            weight = 1 - math.exp(-passed_s / MEMORY_S)
            self.velocity = self.velocity + weight * (moved - self.velocity)
        self.last_box, self.last_s = box, time_s
        self.seen_s += step_s
        self.area_s += float(areas(box[None])[0]) * step_s
        self.x_s += float(centres(box[None])[0, 0]) * step_s


class Tracker:
    """Assigns faces to tracks, frame by frame. Its memory grows only with the number of tracks.

    Args:
        forgets: keep only the tracks that can be continued; then `people` knows no others.
    """

    def __init__(self, forgets: bool = False) -> None:
        self._forgets, self._n_tracks = forgets, 0
        self._tracks: list[Track] = []
        self._alive: list[Track] = []
        self._last_s: float | None = None
        self._duration_s = 0.0

    def add(self, time_s: float, boxes: NDArray[np.float32], ends_tracks: bool = False) -> list[int]:
        """Track numbers of the boxes (k, 4) in the next frame; times must not decrease.

        Args:
            ends_tracks: no face continues one of the frame before.
        """
        before_s = time_s if self._last_s is None else self._last_s
        # the first frame counts 0 s: its duration is not known yet, and hardly matters
        step_s = min(time_s - before_s, LONGEST_LOSS_S)
        self._last_s, self._duration_s = time_s, self._duration_s + step_s
        # measured at the previous frame: frames may be more than a second apart
        self._alive = [track for track in self._alive if before_s - track.last_s <= LONGEST_LOSS_S and not ends_tracks]
        predicted = np.array([track.predicted(time_s) for track in self._alive]).reshape(-1, 4)
        owners = {column: self._alive[row] for row, column in match(predicted, boxes, MOST_DISTANCE)}
        for column in range(len(boxes)):
            if column not in owners:
                self._n_tracks += 1
                owners[column] = Track(self._n_tracks, boxes[column], time_s)
                self._tracks.append(owners[column])
                self._alive.append(owners[column])
            owners[column].add(time_s, boxes[column], step_s)
        if self._forgets:
            self._tracks = list(self._alive)
        return [owners[column].number for column in range(len(boxes))]

    def due(self, tracks: Sequence[int], time_s: float) -> list[int]:
        """Those of the tracks whose face in this frame is to be embedded."""
        return [number for number in tracks if time_s - self._tracks[number - 1].embedded_s >= EMBED_EVERY_S]

    def embed(self, track: int, time_s: float, embedding: NDArray[np.float64], weight: float) -> None:
        """Add the unit embedding of a track's face; a weight of 0 counts a little."""
        one = self._tracks[track - 1]
        weighted = embedding * max(weight, LEAST_WEIGHT)
        one.embedding = weighted if one.embedding is None else one.embedding + weighted
        one.embedded_s = time_s

    def alive(self) -> dict[int, Track]:
        """The tracks that can be continued, by number."""
        return {track.number: track for track in self._alive}

    def people(self) -> list["Person"]:
        """The people seen so far, from left to right, without tracks that are too short."""
        shortest_s = min(SHORTEST_TRACK_S, self._duration_s / 2)
        tracks = [track for track in self._tracks if track.seen_s >= shortest_s]
        embeddings = [track.embedding for track in tracks if track.embedding is not None]
        return join_alike(tracks, embeddings) if embeddings else join_tracks(tracks)


@dataclass
class Person:
    """Tracks of one person in temporal order."""

    tracks: list[Track]

    @property
    def weight(self) -> float:
        """Area times duration, or the area alone in an image: a measure of prominence."""
        return sum(track.area_s for track in self.tracks) or float(areas(self.tracks[0].first_box[None])[0])

    @property
    def mean_x(self) -> float:
        """Mean horizontal position."""
        seen_s = sum(track.seen_s for track in self.tracks)
        if not seen_s:  # a video of one frame
            return float(centres(self.tracks[0].first_box[None])[0, 0])
        return sum(track.x_s for track in self.tracks) / seen_s


def join_tracks(tracks: Sequence[Track]) -> list[Person]:
    """Join tracks into people, ordered from left to right.

    A track continues a person whose last track ended before it, within 1.5 sides of its start; the best match if there are
    several. Otherwise it is a new person.
    """
    people: list[Person] = []
    for track in sorted(tracks, key=lambda track: (track.first_s, track.number)):
        gone = [person for person in people if person.tracks[-1].last_s < track.first_s]
        lasts = np.array([person.tracks[-1].last_box for person in gone]).reshape(-1, 4)
        pairs = match(lasts, track.first_box[None], JOIN_DISTANCE)
        if pairs:
            gone[pairs[0][0]].tracks.append(track)
        else:
            people.append(Person([track]))
    return sorted(people, key=lambda person: person.mean_x)


def join_alike(tracks: Sequence[Track], embeddings: Sequence[NDArray[np.float64]]) -> list[Person]:
    """Join tracks into people by their embeddings, ordered from left to right.

    The two groups of tracks that are most alike are joined, by the cosine of the sums of their embeddings, until it is
    below `SAME_COSINE`. Tracks that are seen at the same time are never one person.

    Args:
        embeddings: (d,) of each track.
    """
    groups = [[number] for number in range(len(tracks))]
    sums = np.array(embeddings).reshape(len(tracks), -1)
    cosines = _cosines(sums, sums)
    starts, ends = (np.array([getattr(track, key) for track in tracks]) for key in ("first_s", "last_s"))
    cosines[(starts[:, None] <= ends) & (starts <= ends[:, None])] = -np.inf  # at the same time; and with itself
    while cosines.size and cosines.max() >= SAME_COSINE:
        kept, gone = sorted(divmod(int(cosines.argmax()), len(tracks)))
        groups[kept] += groups[gone]
        sums[kept] += sums[gone]
        is_apart = np.isneginf(cosines[kept]) | np.isneginf(cosines[gone])
        joined = np.where(is_apart, -np.inf, _cosines(sums[kept : kept + 1], sums)[0])
        cosines[kept], cosines[:, kept] = joined, joined
        cosines[gone], cosines[:, gone], groups[gone] = -np.inf, -np.inf, []
    people = [
        Person(sorted((tracks[number] for number in group), key=lambda track: track.first_s))
        for group in groups
        if group
    ]
    return sorted(people, key=lambda person: person.mean_x)


def _cosines(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths = np.linalg.norm(first, axis=1)[:, None] * np.linalg.norm(second, axis=1)
    return first @ second.T / np.maximum(lengths, 1e-12)


def name_people(people: Sequence[Person], video: str, most: int = 0) -> dict[str, Person]:
    """Names of people in the layout of Aff-Wild2.

    One person has the name of the video, two are `<video>_left` and `<video>_right`, more are `<video>_1` and so on from
    left to right.

    Args:
        people: from left to right.
        most: number of people to keep, the most prominent ones; 0 keeps all.
    """
    prominent = sorted(people, key=lambda person: -person.weight)[: most or None]
    ordered = [person for person in people if any(person is other for other in prominent)]
    if len(ordered) == 1:
        return {video: ordered[0]}
    suffixes = SIDES if len(ordered) == 2 else [f"_{number}" for number in range(1, len(ordered) + 1)]
    return {f"{video}{suffix}": person for suffix, person in zip(suffixes, ordered, strict=True)}
