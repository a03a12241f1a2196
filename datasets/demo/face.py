"""The drawn face of the demo dataset: what each latent moves, in the units of `abaw.datasets.demo.shapes`."""

import numpy as np
from numpy.typing import NDArray

from abaw.datasets.demo.identity import Colour, Identity, mix
from abaw.datasets.demo.latents import Latents
from abaw.datasets.demo.shapes import AROUND, Shapes

EYE_Y, NOSE_Y, MOUTH_Y = -0.13, 0.24, 0.55
DARK: Colour = (52, 18, 24)
WHITE: Colour = (250, 248, 244)
ALONG = np.linspace(-1, 1, 15)  # positions along a lid, a lip or a brow


class FaceShapes(Shapes):
    """The layers of one face in all frames."""

    def __init__(self, identity: Identity, latents: Latents) -> None:
        """Compute the shapes of `identity` showing `latents`."""
        super().__init__(latents.n_frames)
        self.person = identity
        self.latents = latents
        self.shade = mix(identity.skin, (96, 40, 30), 0.33)
        self.crease = mix(identity.skin, (40, 14, 12), 0.62)
        self._body()
        self._head()
        self._cheeks()
        for side in (-1, 1):
            self._eye(side)
        self._nose()
        self._mouth()
        for side in (-1, 1):
            self._brow(side)
        self._fringe()
        if identity.glasses:
            self._glasses()

    def _unit(self, name: str) -> NDArray:
        """(frames, 1) intensities of an action unit."""
        return self.latents.unit(name)[:, None]

    def _body(self) -> None:
        """Long hair, shoulders, neck and ears."""
        person = self.person
        if person.hair_style >= 2:
            angle = np.linspace(np.pi, 2 * np.pi, 20)
            wide = person.head_width + 0.13
            x = np.concatenate([np.cos(angle) * wide, [wide * 1.06, wide * 0.9, -wide * 0.9, -wide * 1.06]])
            y = np.concatenate([-0.15 + 1.0 * np.sin(angle), [0.75, 1.1, 1.1, 0.75]])
            self.fill(x, y, mix(person.hair, (0, 0, 0), 0.25), depth=0.15)
        self.fill([-1.75, -1.35, -0.4, 0.4, 1.35, 1.75], [1.9, 1.3, 1.08, 1.08, 1.3, 1.9], person.shirt, depth=0)
        self.fill([-0.36, 0.36, 0.4, 0.0, -0.4], [0.6, 0.6, 1.1, 1.28, 1.1], self.shade, depth=0.1)
        if person.hair_style < 2:
            for side in (-1, 1):
                self.oval(side * (person.head_width + 0.02), -0.02, 0.1, 0.17, self.shade)

    def _head(self) -> None:
        """Outline of the head with a shaded rim, and the beard."""
        person = self.person
        drop = 0.13 * self._unit("AU26")
        for inset, colour in ((0.0, self.shade), (0.045, person.skin)):
            x, y = self._outline(inset, drop)
            self.fill(x, y, colour, depth=0.3)
        if person.beard:
            x, y = self._outline(0.01, drop)
            # The beard follows the jaw; its upper edge hangs below the lower lip.
            lower = slice(1, len(AROUND) // 2)
            edge = np.broadcast_to(0.5 + 0.27 * (1 - ALONG**4) + drop, (len(y), len(ALONG)))
            edge_x = np.broadcast_to(ALONG * person.head_width * 0.82, edge.shape)
            beard_x = np.concatenate([x[:, lower], edge_x], 1)
            self.fill(beard_x, np.concatenate([y[:, lower], edge], 1), person.hair, person.beard, depth=0.4)

    def _outline(self, inset: float, drop: NDArray) -> tuple[NDArray, NDArray]:
        """Outline of the head: x and y of (frames, corners), from the right over the chin to the left."""
        person = self.person
        below = np.sin(AROUND) > 0
        power = np.where(below, person.jaw, 1.0)
        x = (person.head_width - inset) * np.sign(np.cos(AROUND)) * np.abs(np.cos(AROUND)) ** power
        height = np.where(below, person.chin + 0.12 - inset + drop, 0.95)
        y = -0.12 + np.sin(AROUND) * height
        return np.broadcast_to(x, y.shape), y

    def _cheeks(self) -> None:
        """Blush, the line under a raised cheek, the fold beside the nose and the furrow of the brows."""
        cheek, fold, furrow = self._unit("AU6"), self._unit("AU10"), self._unit("AU4")
        smile = self._unit("AU12")
        blush = mix(self.person.skin, (226, 84, 84), 0.42)
        valence = self.latents.valence[:, None]
        for side in (-1, 1):
            x = side * (self.person.eye_distance + 0.09)
            self.oval(x, 0.2 - 0.05 * cheek, 0.15, 0.1, blush, 0.35 + 0.3 * valence)
            arc_x = x - side * 0.03 + side * ALONG * 0.17
            arc_y = EYE_Y + 0.22 - 0.03 * cheek - 0.05 * ALONG**2
            self.stroke(arc_x, arc_y, 0.02 * (1.2 - ALONG**2), self.crease, 0.85 * cheek)
            down = np.linspace(0, 1, 8)
            fold_x = side * (self.person.nose_width + 0.04 + (0.14 + 0.05 * smile) * down**0.8)
            fold_y = NOSE_Y - 0.06 - 0.03 * fold + 0.27 * down
            self.stroke(fold_x, fold_y, 0.022 * (1.1 - down), self.crease, 0.1 + 0.85 * fold + 0.15 * smile)
            self.stroke(side * (0.065 + 0.015 * ALONG), EYE_Y - 0.16 + 0.1 * ALONG, 0.017, self.crease, 0.9 * furrow)
        raised = self._unit("AU1") * self._unit("AU2")
        for y in (-0.62, -0.55):
            self.stroke(ALONG * 0.3, y + 0.03 * ALONG**2, 0.011, self.crease, 0.6 * raised, 0.4)

    def _eye(self, side: int) -> None:
        """One eye: ball, iris and pupil, and the lids that cover them."""
        person, arousal = self.person, self.latents.arousal[:, None]
        open_share = 1 + 0.65 * arousal - 0.5 * self._unit("AU7")
        closed = 1 - self.latents.blink[:, None]
        upper = np.maximum(person.eye_height * open_share, 0.012) * closed
        lower = person.eye_height * (0.75 - 0.5 * self._unit("AU6") - 0.15 * self._unit("AU7")) * closed
        middle = side * person.eye_distance
        x = middle + ALONG * person.eye_width
        axis = EYE_Y - side * ALONG * person.eye_slant
        lid = axis - upper * (1 - ALONG**2) ** 0.75
        bottom = axis + lower * (1 - ALONG**2) ** 0.75
        self.between(x, axis - 0.13, axis + 0.12, WHITE)
        self.oval(middle, EYE_Y, 0.082, 0.082, mix(person.iris, (0, 0, 0), 0.35))
        self.oval(middle, EYE_Y, 0.068, 0.068, person.iris)
        pupil = 0.036 + 0.016 * arousal
        self.oval(middle, EYE_Y, pupil, pupil, (16, 14, 16))
        self.oval(middle + 0.026, EYE_Y - 0.028, 0.017, 0.017, WHITE)
        wide = middle + ALONG * person.eye_width * 1.04
        self.between(wide, axis - 0.19, lid, mix(person.skin, self.shade, 0.35))
        self.between(wide, bottom, axis + 0.14, person.skin)
        self.stroke(x, lid, 0.02 * (1.15 - ALONG**2) + 0.004, mix(person.hair, (20, 14, 14), 0.7))
        self.stroke(x, bottom, 0.008, self.crease, 0.7)
        self.stroke(x, lid - 0.05, 0.007, self.crease, 0.45 * closed)

    def _brow(self, side: int) -> None:
        """One brow; its inner end follows AU1, its outer end AU2, and AU4 lowers it and draws it inwards."""
        person = self.person
        inner, outer, lower = self._unit("AU1"), self._unit("AU2"), self._unit("AU4")
        out = (ALONG + 1) / 2
        x = side * (person.eye_distance + (out - 0.47) * 0.43 - 0.05 * lower * (1 - out))
        rise = (0.13 * inner - 0.03) * (1 - out) ** 1.5 + (0.15 * outer - 0.02) * out**1.2
        y = (
            EYE_Y
            - person.brow_height
            - rise
            + lower * (0.12 * (1 - out) + 0.03)
            - 0.065 * self.latents.arousal[:, None]
        )
        y = y - person.brow_arch * (1 - ALONG**2) + 0.03 * out**2
        width = person.brow_width * (1.1 - 0.75 * out**1.5)
        self.stroke(x, y, width, mix(person.hair, (30, 22, 20), 0.6))

    def _nose(self) -> None:
        """Bridge, wings and nostrils; AU10 lifts the wings, arousal flares them."""
        person, lift = self.person, 0.04 * self._unit("AU10")
        wings = person.nose_width * (1 + 0.35 * self.latents.arousal[:, None])
        down = np.linspace(0, 1, 8)
        bridge_x = person.nose_width * (0.45 + 0.35 * down**2)
        self.stroke(bridge_x, NOSE_Y - person.nose_length * (1 - down), 0.016 * (0.4 + down), self.shade, 0.6, 0.8)
        self.fill(np.cos(AROUND) * wings, NOSE_Y - lift + np.sin(AROUND) * 0.06, self.shade, 0.5, 0.9)
        self.fill(
            np.cos(AROUND) * 0.07,
            NOSE_Y - 0.03 + np.sin(AROUND) * 0.06,
            mix(person.skin, WHITE, 0.35),
            0.6,
            1.0,
        )
        for side in (-1, 1):
            x = side * wings * 0.55 + 0.028 * np.cos(AROUND)
            self.fill(x, NOSE_Y + 0.035 - lift + 0.015 * np.sin(AROUND), self.crease, 0.85, 0.9)

    def _mouth(self) -> None:
        """Lips, teeth and tongue, moved by seven action units and by valence."""
        person, valence = self.person, self.latents.valence[:, None]
        smile, frown, parted = self._unit("AU12"), self._unit("AU15"), self._unit("AU25")
        tight, pressed, raised = self._unit("AU23"), self._unit("AU24"), self._unit("AU10")
        drop = self._unit("AU26")
        width = person.mouth_width * (1 + 0.25 * smile - 0.4 * tight - 0.12 * drop + 0.05 * frown)
        corner = 0.15 * frown - 0.15 * smile - 0.1 * valence
        arch = (1 - ALONG**2) ** 0.8
        x = width * ALONG
        line = MOUTH_Y + corner * (np.abs(ALONG) ** 1.8 - 0.35)
        above = line - arch * (0.035 * parted + 0.05 * raised + 0.03 * drop)
        below = line + arch * (0.06 * parted + 0.16 * drop + 0.015 * raised)
        thickness = person.lip_width * (1 - 0.7 * pressed + 0.3 * tight)
        bow = arch**0.7 * (1 - 0.22 * np.exp(-((ALONG / 0.16) ** 2)))
        top = above - thickness * bow - 0.02 * raised * arch
        bottom = below + 1.15 * thickness * arch
        if person.moustache:
            self.between(1.15 * x, top - 0.1 * arch, top, person.hair, person.moustache)
        self.between(x, top, line, mix(person.lips, (90, 20, 30), 0.18))
        self.between(x, line, bottom, person.lips)
        inside = 0.96 * x
        self.between(inside, above, below, DARK)
        gap = (below - above).max(1)
        teeth = np.minimum(above + 0.06 * arch, below)
        self.between(inside, above, teeth, WHITE, 80 * gap - 2.4)
        self.between(
            0.7 * x,
            np.maximum(below - 0.07 * arch, line + 0.01),
            below,
            (196, 84, 92),
            (below - above).max(1) * 8,
        )
        closed = np.clip(1 - 3 * (parted + drop), 0.15, 1)
        self.stroke(1.03 * x, line, 0.013 + 0.012 * pressed, DARK, 0.85 * closed)
        self._corners(width, line, smile, frown, pressed)

    def _corners(self, width: NDArray, line: NDArray, smile: NDArray, frown: NDArray, pressed: NDArray) -> None:
        """Dimples of a smile, the lines under drooping corners and the crease under pressed lips."""
        for side, end in ((-1, line[:, :1]), (1, line[:, -1:])):
            x = side * (width + 0.05 + 0.02 * (1 - ALONG**2))
            self.stroke(x, end - 0.01 + 0.07 * ALONG, 0.015, self.crease, 0.8 * smile)
            self.stroke(x - side * 0.03, end + 0.09 + 0.06 * ALONG, 0.015, self.crease, 0.8 * frown)
        self.stroke(0.16 * ALONG, MOUTH_Y + 0.15 - 0.03 * ALONG**2, 0.018, self.crease, 0.75 * pressed)

    def _fringe(self) -> None:
        """The hair above the forehead."""
        person = self.person
        angle = np.linspace(np.pi * 1.1, np.pi * 1.9, 20)
        wide = person.head_width + 0.03
        part = np.linspace(-1, 1, 15)[::-1]
        edge = {
            0: -0.72 + 0.22 * np.abs(part) ** 3,
            1: -0.76 + 0.26 * np.abs(part - 0.35) ** 1.5,
            2: -0.86 + 0.5 * np.abs(part) ** 1.4,
            3: -0.62 + 0.03 * np.cos(14 * part),
        }[person.hair_style]
        edge_x = part * (person.head_width * np.sqrt(1 - ((edge + 0.12) / 0.95) ** 2) + 0.02)
        x = np.concatenate([np.cos(angle) * wide, edge_x])
        y = np.concatenate([-0.3 + 0.86 * np.sin(angle), edge])
        self.fill(x, y, person.hair, depth=0.25)
        gleam = np.linspace(np.pi * 1.25, np.pi * 1.5, 10)
        self.stroke(
            np.cos(gleam) * wide * 0.7,
            -0.3 + 0.72 * np.sin(gleam),
            0.02,
            mix(person.hair, WHITE, 0.3),
            0.6,
            0.25,
        )

    def _glasses(self) -> None:
        """Round glasses with thin rims."""
        angle = np.append(AROUND, AROUND[0])
        for side in (-1, 1):
            x = side * (self.person.eye_distance + 0.01) + 0.235 * np.cos(angle)
            self.stroke(x, EYE_Y + 0.02 + 0.2 * np.sin(angle), 0.014, (48, 44, 50), depth=0.6)
        bridge = np.linspace(-1, 1, 5) * max(self.person.eye_distance - 0.22, 0.05)
        self.stroke(bridge, EYE_Y - 0.03 * (1 - np.linspace(-1, 1, 5) ** 2), 0.014, (48, 44, 50), depth=0.7)
