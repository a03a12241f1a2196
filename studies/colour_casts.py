"""Operations on colours in augmentation, against crops of another colour cast.

Built in: the people of `test` come twice, with other pictures: as those to train on, and with a colour cast of each person, as of
a camera with another white balance: red, green and blue are multiplied by numbers (log-normal, of standard deviation .3).
The network has learnt valence and arousal from 80 other people, without a cast. `light` crops and mirrors; `emma` also
changes the colours of one image in five, and `situ` those of all.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from studies.faces import SPLITS, Person, draw_stills, write_faces
from studies.study import Idea, Scores, Variants
from studies.tiny_vit import fine_tune, pretrained, score

PEOPLE = {"train": 30, "val": 12, "test": 30}
CAST = 0.3
WITHOUT = "crops and mirrors (light)"
VARIANTS: Variants = {
    WITHOUT: {"augment": "light"},
    "and colours of one image in five (emma)": {"augment": "emma"},
    "mirrors, blurs, and all colours (situ)": {"augment": "situ"},
}


def measure(seed: int, folder: Path) -> Scores:
    """Scores of every variant on people drawn with a seed."""
    rng = np.random.default_rng([seed, 26])
    for split in SPLITS:
        write_faces(folder / "data", split, draw_stills(rng, PEOPLE[split], split))
    places = {"the colours of the training": folder / "same", "another colour cast of each person": folder / "cast"}
    write_faces(folder / "same", "val", draw_stills(rng, PEOPLE["test"], "test"))
    write_faces(folder / "cast", "val", cast(rng, draw_stills(rng, PEOPLE["test"], "test")))
    weights = pretrained(seed, folder)
    scores: Scores = {setting: {} for setting in places}
    for variant, options in VARIANTS.items():
        run = fine_tune(folder / "data", folder / "runs", {"task": "expr", **options}, seed, weights)
        for setting, place in places.items():
            scores[setting][variant] = score(run, place)
    return scores


def cast(rng: np.random.Generator, people: Sequence[Person]) -> list[Person]:
    """People in a light of another colour each."""
    return [
        Person(person.name, _multiplied(person.pictures, rng.lognormal(0, CAST, 3)), person.labels) for person in people
    ]


def _multiplied(pictures: np.ndarray, gains: np.ndarray) -> np.ndarray:
    return np.clip(pictures * gains, 0, 255).round().astype(np.uint8)


IDEA = Idea(
    name="finetune-colours",
    title="Colours in augmentation (emma, situ): expressions, macro F1",
    built_in=__doc__ or "",
    measure=measure,
    against=dict.fromkeys(list(VARIANTS)[1:], (WITHOUT,)),
)
