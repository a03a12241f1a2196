"""Who is in a video: what its name says, and which videos are drawn together.

Videos of one person resemble each other. Folds keep them on one side, and a bootstrap draws all of them at once.
"""

from collections.abc import Collection

from abaw.core.errors import some_of
from abaw.core.names import SIDES, has_unsafe_characters
from abaw.core.task_types import Level

QUESTION = "_Question_"  # after the person in names of BAH
LONGEST = 100  # characters in the name of a person
SHOWN_PEOPLE = 3


def is_person(name: str) -> bool:
    """True if a text can name a person."""
    return len(name) <= LONGEST and not has_unsafe_characters(name)


def person_of(video: str) -> str:
    """Who is in a whole video: the name before `_Question_` in BAH, else the video stands for itself."""
    person, found, _ = video.partition(QUESTION)
    return person if found and person else video


def without_side(video: str) -> str:
    """The name of a recording with several people, from that of one of them: `x` for `x_left` and `x_right`."""
    side = next((side for side in SIDES if video.endswith(side) and video != side), "")
    return video.removesuffix(side)


def person_in_name(video: str, level: Level) -> str:
    """The person that the name of a video tells; empty where it tells none.

    `x_left` and `x_right` count as one: they were recorded together. Names of folders of images tell nothing.
    """
    person = video if level == "image" else without_side(person_of(video))
    return person if person != video else ""


def drawn_with(video: str, person: str, level: Level) -> str:
    """What a bootstrap draws a video with: its person; a video without one is a person by itself.

    Args:
        person: from the labels; empty in stores of older versions, whose whole videos of BAH tell it by their names.
    """
    return person or (person_of(video) if level == "video" else video)


def describe_shared(trained: Collection[str], scored: Collection[str], split: str) -> str:
    """A sentence about people who are in the videos of a split and of the training; empty without such."""
    shared = sorted({*trained} & {*scored})
    if not shared:
        return ""
    count = "1 person is" if len(shared) == 1 else f"{len(shared):,} people are"
    return (
        f"{count} in both train and {split} ({some_of(shared, SHOWN_PEOPLE)}): scores of people who were trained on are "
        "too good. Use the official split, or --fold, which keeps people together."
    )
