"""Post-processing as it is written on the command line and in recipes."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from abaw.core.errors import UsageError, did_you_mean
from abaw.core.tasks import Task
from abaw.evaluate.postprocessing.postprocess import LARGEST_OFFSET, FitMethod, Postprocess
from abaw.evaluate.postprocessing.preference import Preference
from abaw.evaluate.postprocessing.smoothing import Smoothing, parse_smoothing
from abaw.train.config import TrainConfig

T = TypeVar("T")


def parse_method(
    task: Task,
    threshold: str | None = None,
    smooth: str | None = None,
    bias: str | None = None,
    per_person: bool = False,
    prefer: str | None = None,
) -> FitMethod:
    """How post-processing is fitted, from the options of `abaw tune`; see `FitMethod`.

    Args:
        threshold: `best` or `plateau`, or what is given, such as `AU1=.69,AU2=.69`.
        smooth: `box:51`, or by output `valence=box:101,arousal=box:41`.
        bias: `prior` or `free`, or what is given, such as `Anger=.5,Fear=-1`.
        prefer: stored logits and how sure they must be, such as `fer-logits>0.85`.

    Raises:
        UsageError: something is mistyped, or is not for this task.
    """
    for option, value, names, what in (("--threshold", threshold, task.outputs_of("binary"), "action units"),
                                       ("--bias", bias, task.outputs_of("classes"), "classes")):  # fmt: skip
        if value and not names:
            raise UsageError(f"{option} is for {what}, which task {task.name} does not have. Leave it out.")
    given = Postprocess(
        smoothing=parse_smoothings(task, smooth) if smooth else {},
        thresholds=_thresholds(task, threshold) if threshold and "=" in threshold else {},
        offsets=_offsets(task, bias) if bias and "=" in bias else {},
    )
    given.check_fits(task)
    if threshold not in (None, "best", "plateau") and not given.thresholds:
        raise UsageError(f"--threshold is best, plateau, or by name such as AU1=.69,AU2=.5; found {threshold!r}.")
    if bias not in (None, "prior", "free") and not given.offsets:
        raise UsageError(f"--bias is prior, free, or by name such as Anger=.5,Fear=-1; found {bias!r}.")
    if per_person and task.level != "frame":
        raise UsageError(f"--per-person is about frames of videos, which task {task.name} does not have. Leave it out.")
    return FitMethod(
        thresholds="plateau" if threshold == "plateau" else "best",
        offsets="free" if bias == "free" else "prior",
        per_person=per_person,
        prefer=Preference.parse(task, prefer) if prefer else None,
        given=given,
    )


def parse_smoothings(task: Task, text: str) -> dict[str, Smoothing]:
    """The smoothing of each output: `box:51` for all, or by output (or part of `mtl`) `valence=box:101,arousal=box:41`.

    Raises:
        UsageError: the text is something else, or the task has no such outputs or no time.
    """
    if "=" not in text:
        smoothing = dict.fromkeys(task.outputs, parse_smoothing(text))
    else:
        smoothing = _by_output(task, "--smooth", text, task.outputs, parse_smoothing)
    Postprocess(smoothing=smoothing).check_fits(task)
    return smoothing


def method_of(config: TrainConfig) -> FitMethod:
    """How the post-processing of a run is fitted without options: it is that of its recipe, if this has any.

    Raises:
        UsageError: a name or a value does not fit the task.
    """

    def text_of(values: Mapping[str, str | float]) -> str | None:
        return ",".join(f"{name}={value}" for name, value in values.items()) or None

    settings = config.postprocess
    method = parse_method(
        config.own_task,
        text_of(settings.thresholds),
        text_of(settings.smoothing),
        text_of(settings.bias) or settings.fit_bias or None,
        prefer=settings.prefer or None,
    )
    return method.model_copy(update={"fit_rest": bool(settings.fit_bias)})


def _thresholds(task: Task, text: str) -> dict[str, float]:
    def probability(value: str) -> float:
        number = _number(value)
        if not 0 < number < 1:
            raise UsageError(f"A threshold is a probability above 0 and below 1; found {value!r} in --threshold.")
        return number

    return _by_output(task, "--threshold", text, task.outputs_of("binary"), probability)


def _offsets(task: Task, text: str) -> dict[str, float]:
    def offset(value: str) -> float:
        number = _number(value)
        if not abs(number) <= LARGEST_OFFSET:
            ends = f"from -{LARGEST_OFFSET} to {LARGEST_OFFSET}"
            raise UsageError(f"A bias is added to a logit, {ends}; found {value!r} in --bias.")
        return number

    return _by_output(task, "--bias", text, task.outputs_of("classes"), offset)


def _number(text: str) -> float:
    """A number; NaN for anything else."""
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _by_output(task: Task, option: str, text: str, known: Sequence[str], parse: Callable[[str], T]) -> dict[str, T]:
    """Values of `NAME=VALUE,...`; the name of a part of the task (`au`) stands for all its outputs."""
    groups = {part.name: part.outputs for part, _, _ in task.each() if set(part.outputs) <= set(known)}
    values: dict[str, T] = {}
    for item in text.split(","):
        name, equals, value = (word.strip() for word in item.partition("="))
        if not equals:
            raise UsageError(f"{option} needs NAME=VALUE between commas; found {item!r}.")
        if name not in known and name not in groups:
            raise UsageError(
                f"{option}: task {task.name} has no {name!r}. {did_you_mean(name, known)}Choose from: {', '.join(known)}."
            )
        parsed = parse(value)
        for output in groups.get(name, (name,)):
            if output in values:
                raise UsageError(f"{option} names {output} twice. Leave out one of them.")
            values[output] = parsed
    return values
