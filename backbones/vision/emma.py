"""EMMA, a multi-task network of the 4th ABAW challenge (ICT-VIPL, 2022): an MAE ViT-B/16 and a frozen DAN.

The ViT's class token gives 8 expression and 12 action unit logits; these, with DAN's 8 expression logits, give
valence and arousal. Key names are those of its checkpoint.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn

from abaw.backbones.vision.dan import Dan
from abaw.backbones.vision.mae import BASE, MaeEncoder

N_EXPRESSIONS = 8
N_ACTION_UNITS = 12
VIT_HIDDEN = 512
VA_HIDDEN = 256


class Emma(nn.Module):
    """(n, 3, 224, 224) normalised -> all outputs, of the heads and of both towers.

    `output` (n, 22): valence, arousal, 8 expression logits, 12 action unit logits. `hidden` (n, 768): what these are
    linear in, the hidden layer of the ViT's head (512) and that of the valence and arousal head (256), after their
    ReLU. `vit` (n, 768): the ViT's class token. `dan` (n, 8): DAN's logits; `dan-head` (n, 512): their input.
    """

    def __init__(self) -> None:
        super().__init__()
        n_scores = N_EXPRESSIONS + N_ACTION_UNITS
        self.vit = cast(Any, MaeEncoder(BASE))  # timm declares a linear head
        self.vit.head = nn.Sequential(nn.Linear(BASE.width, VIT_HIDDEN), nn.ReLU(), nn.Linear(VIT_HIDDEN, n_scores))
        self.cnn = Dan(N_EXPRESSIONS)
        self.va_head = nn.Sequential(nn.Linear(N_EXPRESSIONS + n_scores, VA_HIDDEN), nn.ReLU(), nn.Linear(VA_HIDDEN, 2))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """All outputs of a batch."""
        dan, token = self.cnn(images), self.vit(images)["cls"]
        vit_hidden = self.vit.head[:2](token)
        scores = self.vit.head[2](vit_hidden)
        va_hidden = self.va_head[:2](torch.cat([dan["logits"], scores], dim=1))
        return {
            "output": torch.cat([self.va_head[2](va_hidden), scores], dim=1),
            "hidden": torch.cat([vit_hidden, va_hidden], dim=1),
            "vit": token,
            "dan": dan["logits"],
            "dan-head": dan["head"],
        }
