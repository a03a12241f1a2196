"""The choice between the sound tracks of a file: the same as that of players and ffmpeg."""

from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition

# marks of tracks other than the plain sound of the scene: spoken descriptions, comments, karaoke, parts of a mix
SECONDARY = (
    Disposition.visual_impaired
    | Disposition.hearing_impaired
    | Disposition.comment
    | Disposition.karaoke
    | Disposition.clean_effects
    | Disposition.non_diegetic
    | Disposition.descriptions
    | Disposition.dependent
)


def sound_tracks(container: InputContainer) -> list[AudioStream]:
    """The sound tracks that can be decoded, best first.

    Plain tracks precede secondary ones such as comments, default tracks precede others, and ties keep their order.
    """
    tracks = [track for track in container.streams.audio if track.codec_context is not None]
    return sorted(tracks, key=lambda track: (bool(track.disposition & SECONDARY), not is_default(track)))


def sound_track(container: InputContainer) -> AudioStream | None:
    """The best sound track; None if there is no track that can be decoded."""
    return next(iter(sound_tracks(container)), None)


def is_default(track: AudioStream) -> bool:
    """True if the file marks this track as the one to play."""
    return bool(track.disposition & Disposition.default)


def describe_choice(name: str, container: InputContainer, track: AudioStream) -> str:
    """A sentence about which track of a file is used; empty if it has only one."""
    tracks = container.streams.audio
    if len(tracks) < 2:
        return ""
    number = next(i for i, candidate in enumerate(tracks, 1) if candidate.index == track.index)
    reason = ", the default one," if is_default(track) else ""
    return f"{name} has {len(tracks)} sound tracks: number {number}{reason} is used"
