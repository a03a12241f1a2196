"""The columns in tables of face analysis programs: OpenFace, py-feat, LibreFace, and plain tables with their words.

    kind         OpenFace 2           OpenFace 3      py-feat                  LibreFace
    au           AU01_r, AU01_c       action_units    AU01                     au_1_intensity, au_1
    expression                        emotion         anger or Anger ...       facial_expression
    va                                                valence, arousal
    pose         pose_Tx, pose_Rx                     Pitch, Roll, Yaw, X      pitch, yaw, roll
    gaze         gaze_0_x, gaze_angle_x gaze_yaw      gaze_pitch               gaze_yaw
    landmarks    x_0, X_0, eye_lmk_x_0                x_0, mesh_x_0            lm_mp_0_x
    shape        p_scale, p_0
    box                                               FaceRectX, FaceScore
    identity                                          Identity_1

Names are those that the programs write: OpenFace 2.2, openface-test 0.1.26, py-feat 0.6 to 2, LibreFace 0.2.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from abaw.core.errors import did_you_mean
from abaw.core.expressions import plain_expression
from abaw.core.tasks import EXPRESSIONS

UnitForm = Literal["intensity", "presence", "probability"]

AFFECTNET = ("Neutral", "Happiness", "Sadness", "Surprise", "Fear", "Disgust", "Anger", "Contempt")
EXPRESSION_NAMES = frozenset(plain_expression(name) for name in (*AFFECTNET, *EXPRESSIONS))
N_OPENFACE3_UNITS = 8
PROBABILITY = "_probability"  # ends the columns of `abaw eval --csv`
# by kind, the forms of names; expressions and lists are apart
PATTERNS: tuple[tuple[str, str], ...] = (
    ("au", r"AU\d{1,2}(_r|_c|_probability)?|au_\d{1,2}(_intensity)?"),
    ("va", r"valence|arousal"),
    ("pose", r"pose_[TR][xyz]|[Pp]itch|[Rr]oll|[Yy]aw|[XYZ]"),
    ("gaze", r"gaze_[01]_[xyz]|gaze_angle(_[xy])?|gaze_(yaw|pitch)"),
    ("landmarks", r"[xyXYZ]_\d+|eye_lmk_[xyXYZ]_\d+|mesh_[xyz]_\d+|lm_mp_\d+_[xyz]"),
    ("shape", r"p_(scale|r[xyz]|t[xy]|\d+)"),
    ("box", r"FaceRect(X|Y|Width|Height)|FaceScore"),
    ("identity", r"Identity_\d+"),
)
KINDS = ("au", "expression", "va", "pose", "gaze", "landmarks", "shape", "box", "identity")
DEFAULT_KINDS = ("au", "expression", "va", "pose", "gaze")
# columns that are read for another purpose, or for none
ASIDE = re.compile(
    r"|frame|frame_idx|frame_index|video|image|input|video_path|path_to_frame|timestamp|time_s|approx_time|frame_time_in_ms|"
    r"face_id|confidence|success|face_detection|landmarks|Frame(Height|Width)|Identity|has_crop|label_.*|Unnamed: 0"
)
SUGGESTED = (
    *("frame", "video", "face_id", "confidence", "success", "valence", "arousal", "facial_expression", "emotion"),
    *("neutral", "anger", "disgust", "fear", "happiness", "sadness", "surprise", "contempt", "action_units"),
    *("pose_Rx", "Pitch", "gaze_angle_x", "gaze_yaw", "expression"),
    *(f"AU{unit:02}{suffix}" for unit in range(1, 46) for suffix in ("_r", "_c", "")),
    *(f"au_{unit}{suffix}" for unit in range(1, 46) for suffix in ("", "_intensity")),
)


@dataclass(frozen=True)
class FaceColumn:
    """One value of each row of a table.

    Attributes:
        name: as in the header; a column that names a class is one value for each class, `facial_expression=Anger`.
        kind: one of `KINDS`; empty for a column that was asked for by its name alone.
        place: position in the header.
        classes: of a column that names a class, all of them, in the order of its numbers.
        part: which class, or which value of a column with a list; -1 for a number.
    """

    name: str
    kind: str
    place: int
    classes: tuple[str, ...] = ()
    part: int = -1


def columns_of(header: Sequence[str], also: Iterable[str] = ()) -> list[FaceColumn]:
    """The columns that are known, in the order of the header.

    Args:
        also: names that are numbers, too.
    """
    columns, also = [], set(also)
    for place, name in enumerate(header):
        if classes := _classes_of(name):
            columns += [FaceColumn(f"{name}={one}", "expression", place, classes, i) for i, one in enumerate(classes)]
        elif name == "action_units":
            columns += [FaceColumn(f"{name}_{i}", "au", place, part=i) for i in range(N_OPENFACE3_UNITS)]
        elif (kind := _kind_of(name)) or name in also:
            columns.append(FaceColumn(name, kind, place))
    return columns


def _classes_of(name: str) -> tuple[str, ...]:
    """The classes that the cells of a column name; empty for a column of numbers."""
    if name in ("facial_expression", "emotion"):  # of LibreFace by name, of OpenFace 3 by number
        return AFFECTNET
    return EXPRESSIONS if name == "expression" else ()


def _kind_of(name: str) -> str:
    if plain_expression(name.removesuffix(PROBABILITY)) in EXPRESSION_NAMES:
        return "expression"
    return next((kind for kind, pattern in PATTERNS if re.fullmatch(pattern, name)), "")


def choose_columns(columns: Sequence[FaceColumn], wanted: Sequence[str]) -> tuple[list[FaceColumn], str]:
    """The columns of some kinds or names, and the first of these that a table does not have; empty if it has all.

    Args:
        wanted: kinds and names; `DEFAULT_KINDS` if empty.
    """
    if not wanted:
        return [column for column in columns if column.kind in DEFAULT_KINDS], ""
    chosen = [column for column in columns if column.kind in wanted or column.name in wanted]
    known = {column.kind for column in chosen} | {column.name for column in chosen}
    return chosen, next((one for one in wanted if one not in known), "")


def describe_unknown(header: Sequence[str], known: Iterable[FaceColumn]) -> str:
    """A clause on the columns that are not known, with names like them; empty if there are none."""
    places = {column.place for column in known}
    unknown = [name for i, name in enumerate(header) if i not in places and not ASIDE.fullmatch(name)]
    if not unknown:
        return ""
    listed = ", ".join(repr(name[:30]) for name in unknown[:3])
    near = next((text for name in unknown[:20] if (text := did_you_mean(name, SUGGESTED))), "")
    more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
    return f"{listed}{more}{f'. {near.strip()}' if near else ''}"


def action_unit(name: str) -> tuple[str, UnitForm] | None:
    """The action unit of a column, such as `AU1`, and what its numbers are; None for any other column.

    Intensities are from 0 to 5, presence is 0 or 1.
    """
    match = re.fullmatch(r"(?:AU|au_)(\d{1,2})(_r|_intensity|_c|_probability)?", name)
    if match is None:
        return None
    unit, suffix = f"AU{int(match[1])}", match[2] or ""
    if suffix in ("_r", "_intensity"):
        return unit, "intensity"
    return unit, "presence" if suffix == "_c" or name.startswith("au_") else "probability"
