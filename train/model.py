"""The model of a run: its head, or one per view, and the steps between a head and its loss."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from abaw.core.devices import own_random_state
from abaw.core.errors import UsageError
from abaw.core.names import name_of_view
from abaw.core.tasks import Task
from abaw.train.checkpoint import load_weights
from abaw.train.config import TrainConfig
from abaw.train.data.statistics import frame_z_scores
from abaw.train.heads import Head, create_head
from abaw.train.heads.inputs import Tensors, any_mask, width_of
from abaw.train.losses import n_bins
from abaw.train.losses.regression import expectation
from abaw.train.runs import Run

MAX_PARAMETERS = 2_000_000_000  # 8 GB, and 32 GB while it is trained; a dim of 2048 on (197, 1024) has 449 million


class Model(nn.Module):
    """Heads over one or several views of the same windows.

    In training `forward(features, masks)` takes the features of every view (`F`, `F@hflip`) and gives (batch, time,
    outputs), or with views (views, batch, time, outputs). In evaluation it takes the unmodified features. Tasks of
    whole videos have no time axis; if labels of frames train them, too, the outputs of a training are (..., 1 + time,
    outputs): those of the whole window, then those of its frames. Outputs beyond the task's are for the loss.
    """

    def __init__(self, config: TrainConfig, task: Task, shapes: Mapping[str, tuple[int, ...]]) -> None:
        super().__init__()
        self._names, self._views, self._head_name = tuple(shapes), config.views, config.head.name
        self._bins = n_bins(config.loss)
        self._is_whole = task.level == "video"
        groups = [(self._bins or 1,) * len(part.outputs) if part.kind == "regression" else (len(part.outputs),)
                  for part, _, _ in task.each()]  # fmt: skip
        sizes = tuple(size for group in groups for size in group)
        self._n_outputs = sum(sizes)
        n_heads = len(config.views) if config.co_train else 1
        self.heads = nn.ModuleList(create_head(config.head, shapes, sizes) for _ in range(n_heads))
        if not self._is_whole and not all(self._head(number).give_frames() for number in range(n_heads)):
            raise UsageError(
                f"Head {config.head.name!r} gives one output for a whole video; task {task.name} needs one per frame."
            )
        self._has_frame_labels = bool(config.frame_labels)
        heads = [self._head(number) for number in range(n_heads)]
        if self._has_frame_labels and not all(head.level == "frame" or head.gives_both for head in heads):
            raise UsageError(
                f"Head {config.head.name!r} gives one output for a whole video and none for its frames. Leave out --set "
                "frame_labels=..., or choose a head such as mil."
            )
        self._by_frame = self._joined() if config.standardise == "frame" else ()
        for name in self._by_frame:
            if width_of(shapes[name]) == 1:
                raise UsageError(
                    f"Feature {name!r} has a single value, whose z-score over a frame is always 0. Leave out --set "
                    "standardise=frame."
                )

    def standardised(self) -> tuple[str, ...]:
        """Names of the features that the heads standardise and need statistics of."""
        return () if self._by_frame else self._joined()

    def _joined(self) -> tuple[str, ...]:
        """Names of the features that the heads join."""
        inputs = self._head(0).inputs
        return tuple(inputs.widths) if inputs is not None else ()

    def set_statistics(self, mean: Tensors, std: Tensors) -> None:
        """Standardise the heads' inputs by mean and standard deviation of the training rows, (*shape) by feature."""
        for number in range(len(self.heads)):
            inputs = self._head(number).inputs
            if inputs is not None and not self._by_frame:
                inputs.set_statistics(mean, std)

    def forward(self, features: Tensors, masks: Tensors) -> Tensor:
        """Outputs of a batch; see the class."""
        if self.training and self._views:
            outputs = []
            for number, view in enumerate(self._views):
                names = {name: name_of_view(name, view) for name in self._names}
                view_features = {name: features[stored] for name, stored in names.items()}
                view_masks = {name: masks[stored] for name, stored in names.items()}
                outputs.append(self._outputs(number % len(self.heads), view_features, view_masks))
            return torch.stack(outputs)
        total = self._outputs(0, features, masks)
        for number in range(1, len(self.heads)):
            total = total + self._outputs(number, features, masks)
        return total / len(self.heads)

    def _outputs(self, number: int, features: Tensors, masks: Tensors) -> Tensor:
        head = self._head(number)
        features = {**features, **{name: frame_z_scores(features[name]) for name in self._by_frame}}
        if head.gives_both and self._has_frame_labels and self.training:
            whole, frames = map(self._with_expectations, head.window_and_frames(features, masks))
        else:
            outputs = head(features, masks)
            self._check_shape(outputs, head)
            frames = self._with_expectations(outputs)
            if not self._is_whole or head.level == "video":
                return frames
            counted = any_mask(masks)[..., None].to(frames.dtype)
            whole = (frames * counted).sum(dim=1) / counted.sum(dim=1).clamp(min=1)
        return torch.cat([whole[:, None], frames], dim=1) if self._has_frame_labels and self.training else whole

    def _check_shape(self, outputs: Tensor, head: Head) -> None:
        if outputs.ndim != (3 if head.level == "frame" else 2) or outputs.shape[-1] != self._n_outputs:
            wanted = "(batch, time, {})" if head.level == "frame" else "(batch, {})"
            raise UsageError(
                f"Head {self._head_name!r} gave outputs of shape {tuple(outputs.shape)}, not "
                f"{wanted.format(self._n_outputs)}. Correct its forward."
            )

    def _with_expectations(self, outputs: Tensor) -> Tensor:
        """The expected values of bins, then the outputs; without bins the outputs alone."""
        if not self._bins:
            return outputs
        return torch.cat([expectation(outputs.unflatten(-1, (-1, self._bins)), self._bins), outputs], dim=-1)

    def _head(self, number: int) -> Head:
        head = self.heads[number]
        assert isinstance(head, Head)
        return head


class _SkipInitialisation(TorchFunctionMode):
    """Skips random initialisation, for which torch imports seconds of other code on the meta device."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func.__name__.endswith(("normal_", "uniform_")):  # methods of tensors, and functions of torch.nn.init
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def standardised_features(config: TrainConfig, shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, ...]:
    """Names of the features that a model will standardise. Allocates no memory."""
    return _without_memory(config, shapes).standardised()


def _without_memory(config: TrainConfig, shapes: Mapping[str, tuple[int, ...]]) -> Model:
    with torch.device("meta"), _SkipInitialisation():
        return Model(config, config.own_task, shapes)


def expected_state(config: TrainConfig, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, torch.Size]:
    """Shape of every tensor in the state dict of a model. Allocates no memory."""
    return {key: value.shape for key, value in _without_memory(config, shapes).state_dict().items()}


def check_size(config: TrainConfig, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise a UsageError if a model would have more than `MAX_PARAMETERS`. Allocates no memory."""
    model = _without_memory(config, shapes)
    n_parameters = sum(value.numel() for value in model.parameters())
    if n_parameters > MAX_PARAMETERS:
        raise UsageError(
            f"Head {config.head.name!r} would have {n_parameters:,} parameters with these options, more than the "
            f"limit of {MAX_PARAMETERS:,}. Make it smaller."
        )


def build_model(run: Run) -> Model:
    """The model of a run with initial weights drawn by its seed.

    Raises:
        UsageError: it has too many parameters, or does not fit into memory.
    """
    check_size(run.config, run.shapes)
    try:
        with own_random_state(run.config.seed):
            return Model(run.config, run.task, run.shapes)
    except RuntimeError as error:
        if "can't allocate memory" not in str(error):  # torch has no exception type for this on the CPU
            raise
        raise UsageError(
            f"Not enough memory for the head of run {run.name}. Free some memory, or train a smaller head."
        ) from error


def best_model(run: Run, device: torch.device) -> Model:
    """The model of a run's checkpoint, the best unless its name says another, on a device.

    Raises:
        CheckpointError: it is missing, or does not fit the run's config.
    """
    model = build_model(run)
    load_weights(model, run.checkpoint)
    return model.to(device)
