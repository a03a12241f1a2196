"""Options of a training run: one frozen, validated record that is saved with the run."""

import copy
import difflib
import pkgutil
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    model_validator,
)

from abaw.core.errors import UsageError
from abaw.core.names import name_of_view
from abaw.core.tasks import TASKS, Task, record_for, recorded_task
from abaw.train.data.folds import parse_fold
from abaw.train.head_options import COMMAS, HEADS, AnyHeadConfig, TransformerConfig
from abaw.train.loss_options import LOSSES, AnyLossConfig
from abaw.train.options import Options
from abaw.train.postprocess_settings import PostprocessSettings

MAX_WINDOW = 1_000_000  # frames: 9 hours at 30 a second
# words that others use
SYNONYMS = {"batch": "batch_size", "learning_rate": "lr", "model": "head", "wd": "weight_decay"}
FINETUNING = "abaw.train.finetune.finetune_config:FinetuneConfig"  # of configs with pixels, derived from TrainConfig
NOT_FOR_PROBES = (
    "views",
    "co_train",
    "phase",
    "clips_per_video",
    "standardise",
    "speed",
    "balance",
    "synthetic",
    "ema",
    "weigh_by",
    "frame_labels",
)

# strict JSON has no infinity: null stands for a limit that never applies
OrUnlimited = Annotated[
    float,
    BeforeValidator(lambda value: float("inf") if value is None else value),
    PlainSerializer(lambda value: None if value == float("inf") else value, float | None, when_used="json"),
]

Beta = Annotated[float, Field(ge=0, lt=1)]


class TrainConfig(BaseModel):
    """How a head is trained.

    Attributes:
        task: what to predict.
        task_record: all about a task that does not come with abaw, so that a run needs no file of it; from `task`.
        outputs: those of the task's outputs that are trained and scored, such as `valence`; empty for all.
        features: names of the features; a frame may lack some of them.
        head: the head's name and options.
        loss: the loss's name and options; by default the task's.
        views: names of views of the same frames: with `("", "hflip")` a training batch holds each
            window of feature `F` as it is and as `F@hflip`. Evaluation takes the plain features.
        co_train: a separate head for each view; their outputs are averaged at evaluation.
        invalid_as: class that frames without an annotation are trained as, such as `Other`; empty leaves them out.
        missing: mask frames without a feature, or fill them from the nearest frame that has it.
        min_quality: mask visual features of frames whose crop has a lower quality, from 0 to 1; a quality that is not in
            the store counts as 1.
        weigh_by: how much each frame counts in the loss of a training: all alike (none), or by the quality of its crop over
            the mean quality of the labelled frames; a frame without a known quality counts like the mean one.
        frame_labels: for a task of whole videos, the name of labels of frames in the store, such as `ah-frames`: the outputs
            of the frames that have one are trained on it, too; empty for none. They have the outputs of the task.
        frame_weight: factor of the loss of these frames, which is added to that of the videos.
        window: length of a window, in frames; 0 takes the task's.
        stride: distance between windows, in frames; 0 takes half a window.
        phase: windows of a training video start at a random frame, anew in every epoch, or at its first frame (fixed).
        clips_per_video: an epoch has this many windows of each video, at random places; 0 has all windows.
        eval_stride: distance between the windows whose outputs are averaged at evaluation; 0 takes half a window.
        standardise: z-scores by the mean and deviation of each value in the training videos (train), or by those of
            all values of a frame (frame).
        speed: in training a window covers `window` times a factor drawn from this range, resampled by nearest frame.
        balance: draw windows so that every class, or every video, counts alike.
        synthetic: share of the training clips that are synthetic: n real ones get n * synthetic / (1 - synthetic).
        synthetic_draw: draw synthetic clips for each epoch, equally many of each class and some several times if there are
            too few; or once for the whole run, at random, as in EmotiW's code. Then a share of 1 is synthetic clips alone.
        fold: empty, or `K/N`: split all labelled videos into N folds and validate on number K. Not for tasks of
            images, whose videos are whole classes.
        epochs: passes over the training videos.
        batch_size: windows in a batch, over all processes.
        optimizer: AdamW, Adam or SGD.
        lr: learning rate after the warm-up.
        weight_decay: of the optimizer.
        decay_norms: weight decay also applies to biases and to the weights of normalisations.
        momentum: of SGD.
        betas: of AdamW and Adam.
        schedule: after the warm-up the rate falls to `min_lr` along half a cosine or a line; falls and rises along a
            cosine (cyclic-cosine); is multiplied by `lr_factor` in every epoch (exponential), every `lr_epochs` epochs
            (step), or after more than `lr_epochs` epochs without a better score (plateau); or stays.
        warmup: share of all steps in which the rate grows to `lr`.
        min_lr: the lowest rate after the warm-up.
        lr_factor: of the exponential, step and plateau schedules.
        lr_epochs: of the step and plateau schedules; of cyclic-cosine, the epochs from the highest rate to the lowest.
        lr_per: after the warm-up the rate changes with every step, or only between epochs.
        precision: of forward passes in training: `auto` is bf16 on a GPU, else fp32; fp16 scales the loss, and needs a GPU.
        ema: validate and keep an exponential moving average of the weights, of which each step keeps this share; 0 none.
        clip_norm: largest norm of the gradient; `inf` (null in JSON) disables clipping.
        eval_every: share of an epoch between validations; 0.25 validates four times in an epoch, and the best of all
            is kept.
        eval_share: share of the labelled windows, drawn by the seed, that validations take; at the end of the training the
            best model is scored on all.
        save_every: epochs between checkpoints that are kept in the run's folder `checkpoints`; 0 keeps none. Equal to
            `eval_every`, every validated model is kept.
        patience: stop after this many epochs without a better validation score.
        seed: of the initial weights, the windows and the masks.
        postprocess: of the predictions, by `abaw tune` and `abaw run`; nothing of the training.
    """

    # heads and losses are loaded with the first config
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    task: str
    task_record: dict[str, Any] | None = None
    outputs: Annotated[tuple[str, ...], COMMAS] = ()
    features: tuple[str, ...] = Field(min_length=1)
    head: AnyHeadConfig = TransformerConfig()
    loss: AnyLossConfig
    views: Annotated[tuple[str, ...], COMMAS] = ()
    co_train: bool = False
    invalid_as: str = ""
    missing: Literal["mask", "nearest"] = "mask"
    min_quality: float = Field(0.0, ge=0, le=1)
    weigh_by: Literal["none", "quality"] = "none"
    frame_labels: str = ""
    frame_weight: float = Field(1.0, gt=0, allow_inf_nan=False)
    window: int = Field(0, ge=0, le=MAX_WINDOW)
    stride: int = Field(0, ge=0, le=MAX_WINDOW)
    phase: Literal["random", "fixed"] = "random"
    clips_per_video: int = Field(0, ge=0, le=MAX_WINDOW)
    eval_stride: int = Field(0, ge=0, le=MAX_WINDOW)
    standardise: Literal["train", "frame"] = "train"
    speed: Annotated[tuple[float, float], COMMAS] = (1.0, 1.0)
    balance: Literal["none", "class", "video"] = "none"
    synthetic: float = Field(0.0, ge=0, le=1)
    synthetic_draw: Literal["epoch", "run"] = "epoch"
    fold: str = ""
    epochs: int = Field(30, ge=1)
    batch_size: int = Field(16, ge=1, le=MAX_WINDOW)
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    lr: float = Field(1e-3, gt=0, allow_inf_nan=False)
    weight_decay: float = Field(0.05, ge=0, allow_inf_nan=False)
    decay_norms: bool = True
    momentum: float = Field(0.9, ge=0, lt=1)
    betas: Annotated[tuple[Beta, Beta], COMMAS] = (0.9, 0.999)
    schedule: Literal["cosine", "constant", "linear", "step", "plateau", "exponential", "cyclic-cosine"] = "cosine"
    warmup: float = Field(0.1, ge=0, lt=1)
    min_lr: float = Field(0.0, ge=0, allow_inf_nan=False)
    lr_factor: float = Field(0.1, gt=0, le=1)
    lr_epochs: int = Field(10, ge=1)
    lr_per: Literal["step", "epoch"] = "step"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    ema: float = Field(0.0, ge=0, lt=1)
    clip_norm: OrUnlimited = Field(1.0, gt=0)
    eval_every: float = Field(1.0, gt=0, le=1)
    eval_share: float = Field(1.0, gt=0, le=1)
    save_every: float = Field(0.0, ge=0, allow_inf_nan=False)
    patience: int = Field(10, ge=1)
    seed: int = Field(0, ge=0, lt=2**32)
    postprocess: PostprocessSettings = PostprocessSettings()

    @model_validator(mode="after")
    def _fits_together(self) -> "TrainConfig":
        task = self.whole_task
        if task.whole:
            raise ValueError(f"task {task.name} is task {task.whole} with the option outputs={','.join(task.outputs)}")
        if self.outputs == task.outputs:
            raise ValueError(f"outputs are all of task {task.name}: leave it out")
        task = self.own_task
        if not 0 < self.speed[0] <= self.speed[1] < float("inf"):
            raise ValueError(f"speed must be two factors above 0, the smaller one first, found {list(self.speed)}")
        if self.eval_stride > self.length:
            raise ValueError(
                f"eval_stride must not be above the window, {self.length} frames, found {self.eval_stride}: set it too"
            )
        if self.min_lr > self.lr:
            raise ValueError(f"min_lr must not be above lr, {self.lr:g}, found {self.min_lr:g}")
        if self.co_train and len(self.views) < 2:
            raise ValueError(f"co_train needs two or more views, found {len(self.views)}: set views too")
        if task.kind not in self.loss.kinds:
            fitting = [name for name, known in LOSSES.items() if task.kind in known.kinds]
            raise ValueError(
                f"loss {self.loss.name} does not fit task {task.name}; choose one of: {', '.join(fitting)}"
            )
        n_views = max(1, self.n_branches)
        if n_views < self.loss.min_views:
            raise ValueError(
                f"loss {self.loss.name} needs {self.loss.min_views} or more views, found {n_views}: set views too"
            )
        if task.kind not in self.head.kinds:
            alike = [name for name, known in HEADS.items() if known.is_probe == self.head.is_probe]
            fitting = [name for name in alike if task.kind in HEADS[name].kinds]
            hint = f"use {' or '.join(fitting)}" if fitting else "train its parts, va, expr and au, separately"
            raise ValueError(f"head {self.head.name} does not fit task {task.name}: {hint}")
        if self.synthetic and task.level != "video":
            raise ValueError(f"synthetic clips are for tasks of whole videos, not for {task.name}")
        if self.synthetic == 1 and self.synthetic_draw == "epoch":
            raise ValueError(
                "synthetic is a share of all windows and must be less than 1: for synthetic clips alone use "
                "synthetic_draw=run"
            )
        if self.balance == "class" and task.kind == "regression":
            raise ValueError(f"task {task.name} has no classes to balance: use balance=video or balance=none")
        if self.invalid_as and (task.kind != "classes" or self.invalid_as not in task.outputs):
            classes = (
                f"one of its classes: {', '.join(task.outputs)}" if task.kind == "classes" else "empty: no classes"
            )
            raise ValueError(f"invalid_as of task {task.name} must be {classes}; found {self.invalid_as!r}")
        if self.fold:
            parse_fold(self.fold)
        self.postprocess.check_fits(task)
        return self

    @model_validator(mode="after")
    def _validates_and_saves_regularly(self) -> "TrainConfig":
        if abs(1 / self.eval_every - self.n_evaluations) > 1e-3:
            raise ValueError(f"eval_every must be 1, 1/2, 1/3, 1/4 and so on of an epoch, found {self.eval_every:g}")
        if self.save_every != self.eval_every and not self.save_every.is_integer():
            raise ValueError(
                f"save_every must be a whole number of epochs, or eval_every ({self.eval_every:g}), found {self.save_every:g}"
            )
        return self

    @model_validator(mode="after")
    def _has_frames_to_count(self) -> "TrainConfig":
        task = self.own_task
        if self.frame_labels and task.level != "video":
            raise ValueError(
                f"task {task.name} has no whole videos, whose frames frame_labels={self.frame_labels} would label: leave it out"
            )
        if self.weigh_by == "none":
            return self
        if task.level == "video" and not self.frame_labels:
            raise ValueError(
                f"task {task.name} has labels of whole videos and no frames to weigh: set frame_labels too, or leave out weigh_by"
            )
        if not self.loss.weighs_frames:
            fitting = [name for name, known in LOSSES.items() if task.kind in known.kinds and known.weighs_frames]
            raise ValueError(
                f"loss {self.loss.name} cannot weigh frames: leave out weigh_by, or choose one of: {', '.join(fitting)}"
            )
        return self

    @model_validator(mode="after")
    def _suits_images(self) -> "TrainConfig":
        task = self.whole_task
        if task.level != "image":
            return self
        if self.length != 1:
            raise ValueError(f"task {task.name} has single images: window must be 1, found {self.window}")
        if self.missing == "nearest":
            raise ValueError(f"task {task.name} has single images, which have no nearest frame: use missing=mask")
        if self.fold and task.table is None:
            raise ValueError(
                f"task {task.name} cannot be split into folds, because its videos are whole classes: leave out fold, found "
                f"{self.fold}"
            )
        return self

    @model_validator(mode="after")
    def _suits_probe(self) -> "TrainConfig":
        if not self.head.is_probe:
            return self
        for option in NOT_FOR_PROBES:
            if getattr(self, option) != type(self).model_fields[option].default:
                raise ValueError(
                    f"head {self.head.name} is solved directly, not trained on windows: leave out {option}"
                )
        if self.loss.name != self.whole_task.loss:
            raise ValueError(f"head {self.head.name} has a fixed loss: leave out loss, found {self.loss.name}")
        return self

    @property
    def whole_task(self) -> Task:
        """The task, with all of its outputs."""
        return recorded_task(self.task, self.task_record)

    @property
    def own_task(self) -> Task:
        """The task, with the chosen outputs alone."""
        task = self.whole_task
        return task.only(self.outputs) if self.outputs else task

    @property
    def length(self) -> int:
        """Length of a window in frames."""
        return self.window or self.whole_task.window

    @property
    def step(self) -> int:
        """Distance between windows in frames."""
        return self.stride or max(1, self.length // 2)

    @property
    def eval_step(self) -> int:
        """Distance between windows in frames, at evaluation."""
        return self.eval_stride or max(1, self.length // 2)

    @property
    def is_of_pixels(self) -> bool:
        """True for a fine-tuning, which takes images in place of features."""
        return False

    @property
    def n_branches(self) -> int:
        """Outputs of the same windows that the loss compares; 0 without views."""
        return len(self.views)

    @property
    def step_windows(self) -> int:
        """Windows that are drawn for a step, over all processes."""
        return self.batch_size

    @property
    def pass_windows(self) -> int:
        """Windows in one forward pass, over all processes; a step may add up the gradients of several."""
        return self.batch_size

    @property
    def n_evaluations(self) -> int:
        """Validations in an epoch."""
        return round(1 / self.eval_every)

    @property
    def plateau(self) -> int | None:
        """Epochs without a better score that the plateau schedule accepts; None for other schedules."""
        return self.lr_epochs if self.schedule == "plateau" else None

    def is_over(self, epoch: int, best_epoch: int) -> bool:
        """True if no epoch follows this one: it is the last, or there were `patience` of them since the best (0: none yet)."""
        return epoch >= self.epochs or epoch - best_epoch >= self.patience

    def resolved(self) -> "TrainConfig":
        """The config with the numbers that 0 stands for: a run keeps these, whatever the defaults become."""
        return self.model_copy(update={"window": self.length, "stride": self.step, "eval_stride": self.eval_step})

    def of_training(self) -> "TrainConfig":
        """The config without what comes after training: runs of equal ones are trained in the same way."""
        return self.model_copy(update={"postprocess": PostprocessSettings()})

    def training_features(self) -> tuple[str, ...]:
        """Names of the features that a training batch holds: those of every view."""
        return tuple(dict.fromkeys(name_of_view(name, view) for view in self.views or ("",) for name in self.features))

    def all_features(self) -> tuple[str, ...]:
        """Names of the features that evaluation takes, then of the views that only training takes."""
        return tuple(dict.fromkeys((*self.features, *self.training_features())))


def make_config(values: Mapping[str, Any], settings: Iterable[str] = ()) -> TrainConfig:
    """A config from values, with `key=value` settings on top; `head.dim=64` reaches into the head.

    Raises:
        UsageError: an unknown key (the message suggests similar ones) or an invalid value.
    """
    merged: dict[str, Any] = copy.deepcopy(dict(values))
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise UsageError(f"--set needs key=value, found {setting!r}.")
        _assign(merged, key.strip().split("."), value.strip(), setting)
    if "task" not in merged:
        raise UsageError(f"Option 'task' is missing. Choose one of: {', '.join(TASKS)}.")
    task = recorded_task(str(merged["task"]), merged.get("task_record"))
    if not task.whole:  # else the config says what is wrong
        merged |= {"task": task.name, "task_record": record_for(task)}
    for choice, default in (("head", TransformerConfig().name), ("loss", task.loss)):
        if isinstance(merged.setdefault(choice, {}), dict):
            merged[choice].setdefault("name", default)
    kind: type[TrainConfig] = TrainConfig
    if merged.get("pixels"):
        kind = pkgutil.resolve_name(FINETUNING)
    try:
        return kind.model_validate(merged)
    except ValidationError as error:
        raise UsageError(_explain(error, kind)) from None


def _assign(values: dict[str, Any], keys: list[str], value: str, setting: str) -> None:
    inner = values
    for key in keys[:-1]:
        nested = inner.setdefault(key, {})
        if not isinstance(nested, dict):
            raise UsageError(f"--set {setting}: {key} has no options.")
        inner = nested
    inner[keys[-1]] = value


def _explain(error: ValidationError, kind: type[TrainConfig]) -> str:
    """The first problem as a sentence."""
    first = error.errors()[0]
    choices: dict[str, Mapping[str, type[Options]]] = {"head": HEADS, "loss": LOSSES}
    loc = [str(key) for key in first["loc"]]
    choice = loc[0] if loc and loc[0] in choices else ""
    chosen = loc[1] if choice and len(loc) > 1 else ""
    # pydantic puts the tag of the chosen head into the location; users write head.dim
    option = ".".join(key for number, key in enumerate(loc) if not (number == 1 and choice and key in choices[choice]))
    if first["type"] == "extra_forbidden":
        return f"Unknown option {option!r}. {_near(option, choice, chosen, kind)}"
    if first["type"] == "union_tag_invalid":
        return _unknown(choice, str(first["ctx"]["tag"]), list(choices[choice]))
    if option == choice and choice and not isinstance(first["input"], dict):
        known = ", ".join(choices[choice])
        return f"{choice}: choose one with {choice}.name=..., one of: {known}; found {first['input']!r}."
    if first["type"] == "missing" and isinstance(first["loc"][-1], int):
        return f"{'.'.join(loc[:-1])}: too few values, found {first['input']!r}."
    if first["type"] == "missing":
        return f"Option {option!r} is missing."
    message = first["msg"].removeprefix("Value error, ")
    # a rule about several options includes the values in its message
    return f"{option}: {message}, found {first['input']!r}." if option and option != choice else f"{message}."


def check_choices(head: str = "", loss: str = "") -> None:
    """Raise a UsageError if no head, or no loss, has this name; the message suggests a similar one and lists all."""
    choices: tuple[tuple[str, str, Mapping[str, type[Options]]], ...] = (("head", head, HEADS), ("loss", loss, LOSSES))
    for choice, name, known in choices:
        if name and name not in known:
            raise UsageError(_unknown(choice, name, list(known)))


def _unknown(choice: str, name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean {near[0]}? " if near else ""
    return f"Unknown {choice} {name!r}. {hint}Choose one of: {', '.join(known)}."


def find_setting(word: str, head: str = "", loss: str = "", *, pixels: bool = False) -> str:
    """The key that `--set` takes for a word such as `dropout`, or for a similar one; empty if there is none.

    Args:
        word: words of the key, separated by `-` or `_`.
        head, loss: names of those that will be trained; by default the default head, and no loss.
        pixels: for a fine-tuning.
    """
    kind: type[TrainConfig] = pkgutil.resolve_name(FINETUNING) if pixels else TrainConfig
    keys = {name: name for name in kind.model_fields}
    options: tuple[tuple[str, type[Options] | None], ...] = (
        ("head", HEADS.get(head or TransformerConfig().name)),
        ("loss", LOSSES.get(loss)),
    )
    for choice, chosen in options:
        for name in chosen.model_fields if chosen else ():
            keys.setdefault(name, f"{choice}.{name}")
    word = word.replace("-", "_")
    near = difflib.get_close_matches(SYNONYMS.get(word, word), keys, n=1, cutoff=0.75)
    return keys[near[0]] if near else ""


def _near(option: str, choice: str, chosen: str, kind: type[TrainConfig]) -> str:
    """Suggestions for an unknown option, among those of the chosen head or loss if it belongs to one."""
    if choice:
        options: type[Options] = HEADS[chosen] if choice == "head" else LOSSES[chosen]
        known = [f"{choice}.{field}" for field in options.model_fields]
    else:
        known = list(kind.model_fields)
    near = difflib.get_close_matches(SYNONYMS.get(option, option), known, n=3)
    return f"Did you mean {' or '.join(near)}?" if near else f"Known options: {', '.join(sorted(known))}."
