"""Group emotion from sound and scene, the EmotiW 2023 winner (Augusma et al.)."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from abaw.core.errors import UsageError
from abaw.train.head_options import CrossAttentionConfig
from abaw.train.heads.audio_branch import WIDTH, AudioBranch, is_spectrogram
from abaw.train.heads.inputs import Head, JoinFeatures, Tensors, any_mask, hidden_keys, width_of
from abaw.train.heads.segments import average, middle

Steps = tuple[Tensor, Tensor]  # (batch, segments, 1024) and a mask (batch, segments) of present ones


class CrossAttentionHead(Head):
    """Concatenates sound, scene, and the scene attended to by the sound; one linear output for the window.

    With only sound or only scene it is a linear output of that one. All features but spectrograms are standardised. A
    scene that is not 1024 wide is projected to 1024. Segments without a frame are left out of the mean; with `flatten`
    they are zero.
    """

    level: ClassVar[Literal["frame", "video"]] = "video"

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
        self.audio = AudioBranch(shapes[config.audio], config.dropout) if config.audio else None
        self.video = [name for name in shapes if name != config.audio]
        width = sum(width_of(shapes[name]) for name in self.video)
        self.project = nn.Linear(width, WIDTH) if width not in (0, WIDTH) else nn.Identity()
        self.attention = None
        if self.audio is not None and self.video:
            self.attention = nn.MultiheadAttention(WIDTH, num_heads=1, dropout=config.dropout, batch_first=True)
        n_parts = 1 if self.attention is None else 3
        n_steps = config.segments if config.pool == "flatten" else 1
        self.output = nn.Linear(n_parts * n_steps * WIDTH, sum(groups))

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
        return self.output(torch.cat([self._pool(*part) for part in steps], dim=-1).flatten(1))

    def _hear(self, branch: AudioBranch, values: Tensor, mask: Tensor) -> Steps:
        if self.config.audio_frames == "all":
            return average(branch(values, mask), mask, self.config.segments)
        values, mask = middle(values, mask, self.config.segments)
        return branch(values, mask), mask

    def _look(self, values: Tensor, mask: Tensor) -> Steps:
        reduce = average if self.config.video_frames == "all" else middle
        values, mask = reduce(values, mask, self.config.segments)
        return self.project(values), mask

    def _pool(self, values: Tensor, mask: Tensor) -> Tensor:
        """(batch, segments, 1024) -> (batch, 1, 1024), or the same shape."""
        values = values * mask[..., None]
        if self.config.pool == "flatten":
            return values
        return values.sum(dim=1, keepdim=True) / mask.sum(dim=1).clamp(min=1)[:, None, None]


def _attend(attention: nn.MultiheadAttention, audio: Steps, video: Steps) -> Steps:
    """The scene attended to by each step of the sound; masked where there is no sound, or no scene at all."""
    (queries, heard), (keys, seen) = audio, video
    attended, _ = attention(queries, keys, keys, key_padding_mask=hidden_keys(seen), need_weights=False)
    return attended, heard & seen.any(dim=1, keepdim=True)
