"""Which of the sound tracks of a file is heard: the one that players and ffmpeg take."""

from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition

# of a track that is no plain sound of the scene: spoken descriptions, remarks, music to sing to, parts of a mix
ASIDE = (
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
    """The tracks of sound that can be decoded, the one to take first, the others as they would stand in for it.

    A plain track goes before one of remarks or for the impaired, a default one before others, the first of equals
    before those behind it.
    """
    tracks = [track for track in container.streams.audio if track.codec_context is not None]
    return sorted(tracks, key=lambda track: (bool(track.disposition & ASIDE), not is_default(track)))


def sound_track(container: InputContainer) -> AudioStream | None:
    """The track of sound to take; None if there is none that can be decoded."""
    return next(iter(sound_tracks(container)), None)


def is_default(track: AudioStream) -> bool:
    """True if the file says that this track is played unless another is asked for."""
    return bool(track.disposition & Disposition.default)


def describe_choice(name: str, container: InputContainer, track: AudioStream) -> str:
    """A sentence on which of the tracks of a file is taken; empty where it has one."""
    tracks = container.streams.audio
    if len(tracks) < 2:
        return ""
    number = next(i for i, other in enumerate(tracks, 1) if other.index == track.index)
    reason = ", the default one," if is_default(track) else ""
    return f"{name} has {len(tracks)} sound tracks: number {number}{reason} is taken"
