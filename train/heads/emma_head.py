"""The heads of EMMA, a multi-task network of the 4th ABAW challenge (ICT-VIPL, 2022)."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from abaw.core.errors import UsageError
from abaw.train.head_options import EmmaHeadConfig
from abaw.train.heads.inputs import Head, Tensors, width_of

N_VA = 2
N_EXPRESSIONS = 8
N_ACTION_UNITS = 12
N_SCORES = N_EXPRESSIONS + N_ACTION_UNITS


class EmmaHead(Head):
    """Expression and action unit logits from the ViT; from these and DAN's logits valence and arousal.

    The outputs are valence, arousal, 8 expression logits and 12 action unit logits, for each frame. The features
    are not standardised; missing ones are zero. Key names are those of EMMA's checkpoint.
    """

    def __init__(self, config: EmmaHeadConfig, shapes: Mapping[str, tuple[int, ...]], groups: Sequence[int]) -> None:
        super().__init__(None)
        if sum(groups) != N_VA + N_SCORES:
            raise UsageError(
                f"Head 'emma' is for task mtl, whose outputs are {N_VA + N_SCORES}; this task has {sum(groups)}. "
                "Choose another head, or --task mtl."
            )
        if set(shapes) != {config.vit, config.dan}:
            raise UsageError(
                f"Head 'emma' takes the features {config.vit!r} (head.vit) and {config.dan!r} (head.dan), found "
                f"{', '.join(shapes)}. Train on exactly these two features, or set head.vit and head.dan."
            )
        self._vit, self._dan = config.vit, config.dan
        self.head = nn.Sequential(
            nn.Linear(width_of(shapes[config.vit]), config.vit_hidden),
            nn.ReLU(),
            nn.Linear(config.vit_hidden, N_SCORES),
        )
        self.va_head = nn.Sequential(
            nn.Linear(width_of(shapes[config.dan]) + N_SCORES, config.va_hidden),
            nn.ReLU(),
            nn.Linear(config.va_hidden, N_VA),
        )

    def forward(self, features: Tensors, masks: Tensors) -> Tensor:
        """(batch, time, 22)."""
        vit, dan = (
            torch.where(masks[name][..., None], features[name].flatten(2), 0.0) for name in (self._vit, self._dan)
        )
        scores = self.head(vit)
        return torch.cat([self.va_head(torch.cat([dan, scores], dim=-1)), scores], dim=-1)
