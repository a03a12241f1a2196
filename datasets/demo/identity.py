"""The people of the demo dataset: how each one looks."""

from dataclasses import dataclass

import numpy as np

Colour = tuple[float, float, float]

SKINS: tuple[Colour, ...] = (
    (250, 218, 196),
    (240, 198, 168),
    (226, 178, 142),
    (198, 146, 108),
    (158, 110, 78),
    (116, 78, 56),
)
HAIRS: tuple[Colour, ...] = (
    (38, 30, 30),
    (70, 46, 32),
    (112, 72, 44),
    (164, 84, 42),
    (206, 164, 98),
    (150, 148, 150),
)
IRISES: tuple[Colour, ...] = ((92, 62, 38), (70, 112, 150), (88, 122, 82), (110, 92, 60), (60, 44, 36))
BACKGROUNDS: tuple[Colour, ...] = (
    (188, 208, 220),
    (214, 222, 200),
    (226, 210, 196),
    (206, 200, 222),
    (172, 192, 190),
)
SHIRTS: tuple[Colour, ...] = (
    (62, 96, 140),
    (150, 64, 66),
    (70, 120, 92),
    (90, 82, 120),
    (196, 150, 74),
    (80, 84, 90),
)


@dataclass(frozen=True)
class Identity:
    """The looks of one person. Lengths are in half crop widths (56 pixels), colours are RGB in [0, 255].

    Attributes:
        skin, hair, iris, background, shirt, lips: colours.
        hair_style: 0 short, 1 parted to a side, 2 long, 3 long with a fringe.
        head_width, chin, jaw: half width of the head, height of the chin, squareness of the jaw (about 1).
        eye_distance, eye_width, eye_height, eye_slant: half the distance of the eyes' centres, half the size
            of an eye, rise of the outer corner.
        brow_height, brow_width, brow_arch: place of the brows above the eyes, thickness, curvature.
        nose_length, nose_width: size of the nose.
        mouth_width, lip_width: half width of the mouth, thickness of the lips.
        glasses: whether the person wears them.
        beard: opacity of a beard, 0 for none.
        moustache: opacity of a moustache, 0 for none.
    """

    skin: Colour
    hair: Colour
    iris: Colour
    background: Colour
    shirt: Colour
    lips: Colour
    hair_style: int
    head_width: float
    chin: float
    jaw: float
    eye_distance: float
    eye_width: float
    eye_height: float
    eye_slant: float
    brow_height: float
    brow_width: float
    brow_arch: float
    nose_length: float
    nose_width: float
    mouth_width: float
    lip_width: float
    glasses: bool
    beard: float
    moustache: float


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """The colour `share` of the way from `first` to `second`."""
    red, green, blue = (a + (b - a) * share for a, b in zip(first, second, strict=True))
    return red, green, blue


def draw_identity(rng: np.random.Generator) -> Identity:
    """Draw a person; persons of different random states practically never look the same."""
    colours = _draw_colours(rng)
    bearded = rng.random() < 0.25
    hair_style = int(rng.integers(2 if bearded else 4))

    def around(middle: float, spread: float) -> float:
        return float(middle + spread * rng.uniform(-1, 1))

    return Identity(
        **colours,
        hair_style=hair_style,
        head_width=around(0.75, 0.06),
        chin=around(1.02, 0.05),
        jaw=around(0.86, 0.12),
        eye_distance=around(0.325, 0.03),
        eye_width=around(0.165, 0.018),
        eye_height=around(0.078, 0.008),
        eye_slant=around(0.0, 0.02),
        brow_height=around(0.25, 0.016),
        brow_width=around(0.034, 0.014),
        brow_arch=around(0.035, 0.025),
        nose_length=around(0.32, 0.04),
        nose_width=around(0.12, 0.018),
        mouth_width=around(0.27, 0.035),
        lip_width=around(0.062, 0.018),
        glasses=bool(rng.random() < 0.25),
        beard=around(0.45, 0.2) if bearded else 0.0,
        moustache=around(0.5, 0.2) if bearded and rng.random() < 0.6 else 0.0,
    )


def _draw_colours(rng: np.random.Generator) -> dict[str, Colour]:
    """The colours of a person."""

    def pick(palette: tuple[Colour, ...]) -> Colour:
        index = rng.integers(len(palette), size=2)
        return mix(palette[index[0]], palette[index[1]], float(rng.uniform(0, 0.3)))

    skin = pick(SKINS)
    return {
        "skin": skin,
        "hair": pick(HAIRS),
        "iris": pick(IRISES),
        "background": pick(BACKGROUNDS),
        "shirt": pick(SHIRTS),
        "lips": mix(skin, (186, 62, 70), float(rng.uniform(0.4, 0.75))),
    }
