"""The people of videos in the store, whose features were made straight from the video files."""

from collections.abc import Mapping, Sequence
from typing import Any

from abaw.core.errors import DataError
from abaw.extract.faces.followed_videos import FollowedFrames
from abaw.extract.selection import CurrentSource
from abaw.store import FeatureStore

VIDEO, PEOPLE = "video", "people"  # attributes of a person in the store: the video, and all people of it

Attrs = Mapping[str, Any]


class PeopleInStore:
    """Which people of which videos the store has, for some features.

    Args:
        stored: attributes of complete videos, by feature and name in the store.
    """

    def __init__(self, stored: Mapping[str, Mapping[str, Attrs]]) -> None:
        self._by_video: dict[str, dict[str, dict[str, Attrs]]] = {}
        for feature, videos in stored.items():
            of_feature = self._by_video.setdefault(feature, {})
            for name, attrs in videos.items():
                if VIDEO in attrs:
                    of_feature.setdefault(str(attrs[VIDEO]), {})[name] = attrs

    def of(self, feature: str, video: str, source: CurrentSource) -> tuple[str, ...] | None:
        """The people of a video; None unless all of them are stored, from its file as it is now."""
        people = self._by_video.get(feature, {}).get(video, {})
        if not people or not all(source.matches(attrs) for attrs in people.values()):
            return None
        names = tuple(next(iter(people.values())).get(PEOPLE, ()))
        return names if set(people) == set(names or (video,)) else None


def person_attrs(frames: FollowedFrames) -> dict[str, Any]:
    """Attributes of a person, see `FollowedFrames.as_person`."""
    return {VIDEO: frames.video, PEOPLE: list(frames.all_people or ())}


def stored_people(
    store: FeatureStore, feature: str, frames: FollowedFrames, source: CurrentSource
) -> tuple[str, ...] | None:
    """The people of a video that a feature has, see `PeopleInStore.of`; asks the store for this video alone."""
    found = (store.video_attrs(feature, name) for name in frames.possible_names())
    attrs = next((attrs for attrs in found if attrs.get(VIDEO) == frames.name), None)
    if attrs is None:
        return None
    names = tuple(attrs.get(PEOPLE, ()))
    whole = all(source.matches(store.video_attrs(feature, name)) for name in names or (frames.name,))
    return names if whole else None


def earlier_people(store: FeatureStore, feature: str, frames: FollowedFrames, names: Sequence[str]) -> list[str]:
    """People of a video that an earlier version of its file had, and who are not in it any more.

    Args:
        names: of the people that it has now.

    Raises:
        DataError: one of them has the name of another video's person.
    """
    video = frames.name
    stored = {name: store.video_attrs(feature, name) for name in dict.fromkeys((*frames.possible_names(), *names))}
    for name in names:
        other = stored[name].get(VIDEO, video)
        if other != video:
            raise DataError(
                f"{name} would be a person in {video}, and the store has it from video {other}. Rename one of the two files."
            )
    earlier = [name for attrs in stored.values() if attrs.get(VIDEO) == video for name in attrs.get(PEOPLE) or (video,)]
    return [name for name in dict.fromkeys(earlier) if name not in names]
