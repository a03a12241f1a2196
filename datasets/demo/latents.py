"""What the faces of the demo dataset feel and how they are filmed: smooth random courses over the frames.

The affect of a face starts from segments of one expression each, faded into one another. Every expression has
a typical valence, arousal and set of action units; each of these also varies on its own, so that no label
follows exactly from another one.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from abaw.core.tasks import ACTION_UNITS, EXPRESSIONS

FADE_S = 0.22  # standard deviation of the fade from one expression to the next
VARIATION_S = 0.5  # standard deviation of the window that smooths a face's own variation
STAGING_S = 1.2  # the same for head movement and light
AFFECT_VARIATION = 0.14  # standard deviation of valence and arousal around those of the expression
UNIT_VARIATION = 0.18  # the same for the intensity of an action unit
N_VARIATIONS = 3 + len(ACTION_UNITS)  # courses of strength, valence, arousal and the action units
N_STAGINGS = 11  # courses of place, shift, angle, size, turn and light
LABEL_THRESHOLD = 0.5  # an action unit is labelled as present above this intensity

# Valence and arousal of each expression at full strength, after the circumplex of affect.
CIRCUMPLEX = {
    "Neutral": (0.0, -0.15),
    "Anger": (-0.6, 0.65),
    "Disgust": (-0.85, 0.2),
    "Fear": (-0.5, 0.8),
    "Happiness": (0.95, 0.35),
    "Sadness": (-0.95, -0.65),
    "Surprise": (0.25, 0.75),
    "Other": (0.15, -0.4),
}

# Intensity of the action units of each expression at full strength; those not named stay at rest.
PROTOTYPES = {
    "Neutral": {},
    "Anger": {"AU4": 1.0, "AU7": 0.9, "AU23": 0.85, "AU24": 0.6},
    "Disgust": {"AU4": 0.6, "AU7": 0.45, "AU10": 1.0},
    "Fear": {"AU1": 0.85, "AU2": 0.65, "AU4": 0.7, "AU25": 0.85},
    "Happiness": {"AU6": 0.95, "AU12": 1.0, "AU25": 0.65},
    "Sadness": {"AU1": 0.9, "AU4": 0.55, "AU15": 0.95},
    "Surprise": {"AU1": 0.85, "AU2": 1.0, "AU25": 1.0, "AU26": 0.95},
    "Other": {"AU2": 0.65, "AU12": 0.5, "AU24": 0.95},
}


@dataclass(frozen=True)
class Latents:
    """The affect of one face in every frame; all arrays are float64.

    Attributes:
        expression: (frames, 8) weights of `EXPRESSIONS` that sum to 1.
        strength: (frames,) in [0, 1], how strongly the expression shows.
        valence, arousal: (frames,) in [-1, 1].
        action_units: (frames, 12) intensities of `ACTION_UNITS` in [0, 1].
        blink: (frames,) in [0, 1], 1 with closed eyes; it has nothing to do with affect.
    """

    expression: NDArray
    strength: NDArray
    valence: NDArray
    arousal: NDArray
    action_units: NDArray
    blink: NDArray

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return len(self.valence)

    def unit(self, name: str) -> NDArray:
        """(frames,) intensities of the action unit called `name`."""
        return self.action_units[:, ACTION_UNITS.index(name)]

    def expression_labels(self) -> NDArray:
        """(frames,) int64 index of the leading expression in `EXPRESSIONS`."""
        return self.expression.argmax(1)

    def unit_labels(self) -> NDArray:
        """(frames, 12) int64, 1 where an action unit is present."""
        return (self.action_units > LABEL_THRESHOLD).astype(np.int64)


@dataclass(frozen=True)
class Staging:
    """How one face is filmed in every frame; all arrays are float64.

    Attributes:
        wander: (frames, 2) place of the head in the scene in pixels off the centre; the crop follows it.
        shift: (frames, 2) what the alignment of the crop misses, in half crop widths.
        angle: (frames,) roll of the head in radians.
        scale: (frames,) size of the face, about 1.
        turn: (frames, 2) yaw and pitch, within about [-2, 2].
        light: (frames, 3) gain (about 1) and slope of the light to the right and downwards.
    """

    wander: NDArray
    shift: NDArray
    angle: NDArray
    scale: NDArray
    turn: NDArray
    light: NDArray


def smooth_noise(rng: np.random.Generator, n_frames: int, sigma_frames: float, n_columns: int) -> NDArray:
    """Smooth random courses.

    Args:
        rng: source of randomness.
        n_frames: length of the courses.
        sigma_frames: standard deviation of the Gaussian window that smooths white noise.
        n_columns: how many independent courses.

    Returns:
        (n_frames, n_columns) float64 of mean 0 and standard deviation 1 in expectation.
    """
    margin = int(4 * sigma_frames) + 1
    white = rng.standard_normal((n_frames + 2 * margin, n_columns))
    smooth = gaussian_filter1d(white, sigma_frames, axis=0)[margin : margin + n_frames]
    return smooth * np.sqrt(2 * np.sqrt(np.pi) * sigma_frames)


def draw_latents(rng: np.random.Generator, n_frames: int, n_segments: int, rate_hz: float) -> Latents:
    """Draw the affect of one face.

    Args:
        rng: source of randomness.
        n_frames: number of frames.
        n_segments: number of segments of one expression each; every 8 of them hold all 8 expressions.
        rate_hz: frames per second.
    """
    return latents_around(rng, _expression_weights(rng, n_frames, n_segments, rate_hz), rate_hz)


def latents_around(rng: np.random.Generator, expression: NDArray, rate_hz: float) -> Latents:
    """Draw the affect of a face that shows given expressions.

    Args:
        rng: source of randomness.
        expression: (frames, 8) weights of `EXPRESSIONS` that sum to 1.
        rate_hz: frames per second.
    """
    n_frames = len(expression)
    variation = smooth_noise(rng, n_frames, VARIATION_S * rate_hz, N_VARIATIONS)
    strength = np.clip(0.82 + 0.18 * variation[:, 0], 0.5, 1.0)
    return compose_latents(expression, strength, variation[:, 1:], _blinks(rng, n_frames, rate_hz))


def compose_latents(expression: NDArray, strength: NDArray, variation: NDArray, blink: NDArray) -> Latents:
    """What a face shows that has these expressions.

    Args:
        expression: (frames, 8) weights of `EXPRESSIONS` that sum to 1.
        strength: (frames,) in [0, 1].
        variation: (frames, 14) of standard deviation 1: of valence, arousal and the action units.
        blink: (frames,) in [0, 1].
    """
    base = strength[:, None] * (expression @ np.array([CIRCUMPLEX[name] for name in EXPRESSIONS]))
    affect = np.clip(base + AFFECT_VARIATION * variation[:, :2], -1, 1)
    units = strength[:, None] * (expression @ _prototype_matrix()) + UNIT_VARIATION * variation[:, 2:]
    return Latents(
        expression=expression,
        strength=strength,
        valence=affect[:, 0],
        arousal=affect[:, 1],
        action_units=np.clip(units, 0, 1),
        blink=blink,
    )


def draw_staging(rng: np.random.Generator, n_frames: int, rate_hz: float) -> Staging:
    """Draw how one face is filmed.

    Args:
        rng: source of randomness.
        n_frames: number of frames.
        rate_hz: frames per second.
    """
    course = smooth_noise(rng, n_frames, STAGING_S * rate_hz, N_STAGINGS)
    return compose_staging(course, rng.uniform(-0.16, 0.16))


def compose_staging(course: NDArray, lamp: NDArray | float) -> Staging:
    """How a face is filmed.

    Args:
        course: (frames, 11) of standard deviation 1: two columns each of place, shift and (after angle and size) turn,
            then the three of the light.
        lamp: where the lamp stands, left of the face (below 0) or right of it.
    """
    light = np.column_stack([0.97 + 0.06 * course[:, 8], 0.07 * course[:, 9], 0.04 * course[:, 10]])
    light[:, 1] += lamp
    return Staging(
        wander=np.clip(course[:, :2] * (7, 2.5), (-22, -7), (22, 7)),
        shift=0.015 * course[:, 2:4],
        angle=np.radians(2.5) * course[:, 4],
        scale=1 + 0.02 * course[:, 5],
        turn=np.clip(course[:, 6:8], -2, 2),
        light=light,
    )


def _expression_weights(rng: np.random.Generator, n_frames: int, n_segments: int, rate_hz: float) -> NDArray:
    """(frames, 8) weights: one expression per segment, faded at the borders."""
    n_classes = len(EXPRESSIONS)
    order: list[int] = []
    while len(order) < n_segments:
        deck = rng.permutation(n_classes).tolist()
        if order and deck[0] == order[-1]:  # two equal neighbours would make one long segment
            deck.reverse()
        order += deck
    lengths = rng.uniform(0.7, 1.3, n_segments)
    ends = np.cumsum(lengths) / lengths.sum() * n_frames
    segment = np.searchsorted(ends, np.arange(n_frames), side="right").clip(max=n_segments - 1)
    one_hot = np.eye(n_classes)[np.array(order)[segment]]
    sigma = min(FADE_S * rate_hz, n_frames / n_segments / 5)
    return gaussian_filter1d(one_hot, sigma, axis=0, mode="nearest")


def _prototype_matrix() -> NDArray:
    """(8, 12) intensities of the action units of each expression."""
    return np.array([[PROTOTYPES[name].get(unit, 0.0) for unit in ACTION_UNITS] for name in EXPRESSIONS])


def _blinks(rng: np.random.Generator, n_frames: int, rate_hz: float) -> NDArray:
    """(frames,) closing of the eyes: a blink of about 0.2 s every 4 s."""
    times = np.arange(n_frames) / rate_hz
    starts = np.cumsum(rng.uniform(2, 6, int(n_frames / rate_hz / 2) + 1))
    return np.exp(-(((times[:, None] - starts) / 0.07) ** 2)).max(1)
