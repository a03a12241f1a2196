"""EmotiEffNet (Savchenko, 2021 to 2024), the EfficientNets of HSEmotion and EmotiEffLib for expressions.

They are timm's `tf_efficientnet_b0` and `_b2`, which pad as TensorFlow does, with one linear layer on top: class scores,
followed by valence and arousal if the checkpoint was trained on them. Key names are timm's.
"""

from typing import Any, cast

import timm
from torch import Tensor, nn

MODELS = {"emotieffnet-b0": "tf_efficientnet_b0", "emotieffnet-b2": "tf_efficientnet_b2"}
N_AFFECT = 2  # valence and arousal


class EmotiEffNet(nn.Module):
    """(n, 3, size, size) normalised -> `embedding` (n, 1280 or 1408), `logits` (n, classes), `va` (n, 2) if trained.

    Args:
        family: a key of `MODELS`.
        n_outputs: of the linear layer.
        affect: whether the last two outputs are valence and arousal.
    """

    def __init__(self, family: str, n_outputs: int, affect: bool) -> None:
        super().__init__()
        self.model = timm.create_model(MODELS[family], num_classes=n_outputs)
        self._n_classes = n_outputs - N_AFFECT if affect else n_outputs

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """All outputs of a batch."""
        model = cast(Any, self.model)
        embedding = model.forward_head(model.forward_features(images), pre_logits=True)
        return split_scores(embedding, model.classifier(embedding), self._n_classes)


def split_scores(embedding: Tensor, scores: Tensor, n_classes: int) -> dict[str, Tensor]:
    """The outputs by name: the scores after those of the classes are valence and arousal."""
    outputs = {"embedding": embedding, "logits": scores[:, :n_classes]}
    return outputs if scores.shape[1] == n_classes else outputs | {"va": scores[:, n_classes:]}
