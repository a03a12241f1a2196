"""The options of `abaw synth` that are the rules of a clip: one for each field of `SynthOptions`."""

from collections.abc import Callable
from functools import reduce
from typing import Any

import click

POSITIVE = click.IntRange(min=1)
SCALE = click.FloatRange(min=0, min_open=True)
RULES: dict[str, tuple[Any, Any, str]] = {  # type, default, help
    "seed": (click.IntRange(min=0), 0, "Another seed, other clips."),
    "n_frames": (POSITIVE, 75, "Frames of a clip."),
    "side_px": (click.IntRange(min=2), 326, "Width and height of a frame, even."),
    "base_px": (POSITIVE, 350, "Longer side of a face before scaling."),
    "min_scale": (SCALE, 0.10, "Smallest scale of a face."),
    "max_scale": (SCALE, 0.15, "Largest scale of a face."),
    "min_faces": (POSITIVE, 3, "Fewest faces of a frame."),
    "max_faces": (POSITIVE, 15, "Most faces of a clip."),
    "rotate_probability": (click.FloatRange(0, 1), 0.5, "Share of the faces that are rotated."),
    "max_angle_deg": (click.FloatRange(0, 180), 45.0, "Largest rotation, either way."),
    "max_overlap": (click.FloatRange(0, 1, max_open=True), 0.001, "Overlap of two faces, as a share of the smaller."),
    "margin_px": (click.IntRange(min=0), 30, "Margin of the first frame."),
    "margin_growth_px": (click.IntRange(min=0), 1, "What every frame adds to the margin."),
    "motion": (
        click.Choice(["frame", "path"]),
        "frame",
        "Place, scale and angle of a face: new in every frame, or on a straight path.",
    ),
}


def rule_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add an option for every rule; their values arrive under the names of `SynthOptions`."""
    flags = (
        click.option(f"--{name.replace('_', '-')}", name, type=kind, default=default, show_default=True, help=text)
        for name, (kind, default, text) in RULES.items()
    )
    shapes = (
        click.option("--squash/--no-squash", default=True, show_default=True, help="Make every face a square."),
        click.option("--stretch/--no-stretch", default=True, show_default=True, help="Stretch backgrounds to a square, or take their middle."),
    )  # fmt: skip
    return reduce(lambda inner, option: option(inner), reversed([*flags, *shapes]), command)
