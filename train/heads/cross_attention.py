"""Group emotion from sound and scene, the EmotiW 2023 winner (Augusma et al.)."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from abaw.core.errors import UsageError
from abaw.train.head_options import CrossAttentionConfig
from abaw.train.heads.audio_branch import AudioBranch, is_spectrogram
from abaw.train.heads.inputs import Head, JoinFeatures, Tensors, any_mask, hidden_keys, width_of
from abaw.train.heads.segments import average, middle

Steps = tuple[Tensor, Tensor]  # (batch, segments or frames, dim) and a mask (batch, segments or frames) of present ones


class CrossAttentionHead(Head):
    """Concatenates sound, scene, and the scene attended to by the sound; one linear output for the window.

    With only sound or only scene it is a linear output of that one. All features but spectrograms are standardised. A
    scene that is not as wide as the embeddings is projected. Segments without a frame are left out of the mean; with `flatten`
    they are zero.
    """

    level: Literal["frame", "video"] = "video"

    def __init__(
        self, config: CrossAttentionConfig, shapes: Mapping[str, tuple[int, ...]], groups: Sequence[int]
    ) -> None:
        if config.audio and config.audio not in shapes:
            raise UsageError(
                f"Head 'cross-attention' takes its sound from the feature {config.audio!r} (head.audio), found "
                f"{', '.join(shapes)}. Add that feature, choose another, or train without sound (--set head.audio=)."
            )
        joined = {name: shape for name, shape in shapes.items() if name != config.audio or not is_spectrogram(shape)}
        super().__init__(JoinFeatures(joined) if joined else None)
        self.config = config
        self.audio = AudioBranch(shapes[config.audio], config) if config.audio else None
        self.video = [name for name in shapes if name != config.audio]
        width = sum(width_of(shapes[name]) for name in self.video)
        self.project = nn.Linear(width, config.dim) if width not in (0, config.dim) else nn.Identity()
        self.attention = None
        if self.audio is not None and self.video:
            dropout = config.dropout_of(config.cross_dropout)
            self.attention = nn.MultiheadAttention(config.dim, config.heads, dropout, batch_first=True)
        n_parts = 1 if self.attention is None else 3
        n_steps = config.segments if config.pool == "flatten" else 1
        self.output = nn.Linear(n_parts * n_steps * config.dim, sum(groups))

    def forward(self, features: Tensors, masks: Tensors) -> Tensor:
        """(batch, outputs)."""
        if self.inputs is not None:
            parts = self.inputs(features, masks).split(list(self.inputs.widths.values()), dim=-1)
            features = {**features, **dict(zip(self.inputs.widths, parts, strict=True))}
        steps: list[Steps] = []
        if self.audio is not None:
            steps.append(self._hear(self.audio, features[self.config.audio], masks[self.config.audio]))
        if self.video:
            scene = torch.cat([features[name] for name in self.video], dim=-1)
            steps.append(self._look(scene, any_mask({name: masks[name] for name in self.video})))
        if self.attention is not None:
            steps.insert(1, _attend(self.attention, *steps))
        if self.config.attend == "frames":
            steps = [average(*part, self.config.segments) for part in steps]
        return self.output(torch.cat([self._pool(*part) for part in steps], dim=-1).flatten(1))

    def _hear(self, branch: AudioBranch, values: Tensor, mask: Tensor) -> Steps:
        if self.config.audio_frames == "all":
            return self._reduce(branch(values, mask), mask)
        values, mask = middle(values, mask, self.config.segments)
        return branch(values, mask), mask

    def _look(self, values: Tensor, mask: Tensor) -> Steps:
        if self.config.video_frames == "all":
            values, mask = self._reduce(values, mask)
        else:
            values, mask = middle(values, mask, self.config.segments)
        return self.project(values), mask

    def _reduce(self, values: Tensor, mask: Tensor) -> Steps:
        """All frames, or their averages in segments if the attention is between those."""
        return (values, mask) if self.config.attend == "frames" else average(values, mask, self.config.segments)

    def _pool(self, values: Tensor, mask: Tensor) -> Tensor:
        """(batch, segments, dim) -> (batch, 1, dim), or the same shape."""
        values = values * mask[..., None]
        if self.config.pool == "flatten":
            return values
        return values.sum(dim=1, keepdim=True) / mask.sum(dim=1).clamp(min=1)[:, None, None]


def _attend(attention: nn.MultiheadAttention, audio: Steps, video: Steps) -> Steps:
    """The scene attended to by each step of the sound; masked where there is no sound, or no scene at all."""
    (queries, heard), (keys, seen) = audio, video
    attended, _ = attention(queries, keys, keys, key_padding_mask=hidden_keys(seen), need_weights=False)
    return attended, heard & seen.any(dim=1, keepdim=True)
