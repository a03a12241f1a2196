"""Training options: defaults, settings as text, and what the messages say about wrong ones."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from abaw.core.errors import UsageError
from abaw.core.tasks import TASKS
from abaw.train.config import TrainConfig, make_config
from abaw.train.head_options import HEADS, LinearConfig, TransformerConfig
from abaw.train.loss_options import LOSSES, BceConfig, CccBinsConfig
from abaw.train.runs import create_run, open_run
from abaw.train.sequence_options import EncoderConfig

BASE = {"task": "va", "features": ("hog",)}


def config(*settings: str, **values: object) -> TrainConfig:
    return make_config({**BASE, **values}, settings)


def message(*settings: str, **values: object) -> str:
    with pytest.raises(UsageError) as caught:
        config(*settings, **values)
    assert caught.value.exit_code == 2
    return str(caught.value)


# what is accepted


@pytest.mark.parametrize("task", sorted(TASKS))
def test_task_and_features_are_enough(task: str) -> None:
    found = make_config({"task": task, "features": ["a", "b"]})
    assert found.features == found.training_features() == ("a", "b")
    assert found.head == TransformerConfig()
    assert found.loss.name == TASKS[task].loss
    assert found.length == TASKS[task].window


def test_settings_are_parsed_by_the_type_of_the_option() -> None:
    found = config("epochs=3", "lr=2e-4", "missing=nearest", " window = 64 ", "loss.name=ccc-bins", "loss.bins=11")
    assert (found.epochs, found.lr, found.missing, found.window) == (3, 2e-4, "nearest", 64)
    assert found.loss == CccBinsConfig(bins=11)
    assert config("co_train=true", "views=a,b").co_train is True


def test_lists_are_given_with_commas() -> None:
    assert config("speed=0.6,1.4").speed == (0.6, 1.4)
    assert config("views=,hflip").views == ("", "hflip")
    assert config("views=mask0.75.0, mask0.75.1").views == ("mask0.75.0", "mask0.75.1")
    assert config("views=", views=["", "hflip"]).views == ()
    assert config("head.name=encoder", "head.convs=64,32").head == EncoderConfig(convs=(64, 32))
    found = config("loss.weights=" + ",".join(["0.5"] * 12), task="au")
    assert found.loss == BceConfig(weights=(0.5,) * 12)
    assert config("loss.weights=equal", task="au").loss == BceConfig(weights="equal")


def test_settings_reach_into_the_default_head_and_loss() -> None:
    found = config("head.dim=64", "head.mask_token=zero", "head.mask_ratio=0", "loss.moments=unbiased")
    assert isinstance(found.head, TransformerConfig)
    assert (found.head.dim, found.head.mask_token, found.head.mask_ratio) == (64, "zero", 0)
    assert found.head.layers == TransformerConfig().layers
    assert found.loss.model_dump() == {"name": "ccc", "shares": (), "moments": "unbiased"}


def test_settings_reach_into_the_named_head() -> None:
    assert config("head.dropout=0.5", head={"name": "linear"}).head == LinearConfig(dropout=0.5)
    assert config("head.name=linear").head == LinearConfig()


def test_later_settings_win_over_earlier_ones_and_over_values() -> None:
    assert config("epochs=3", "epochs=4", epochs=2).epochs == 4


def test_step_is_half_a_window_unless_said() -> None:
    assert config("window=100").step == 50
    assert config("window=1").step == 1
    assert config("window=100", "stride=30").step == 30


def test_windows_at_evaluation_are_half_a_window_apart_unless_said() -> None:
    assert config("window=100").eval_step == config("window=100", "stride=7").resolved().eval_stride == 50
    assert config("window=100", "eval_stride=30").eval_step == 30
    assert "eval_stride must not be above the window, 100 frames, found 101" in message("window=100", "eval_stride=101")


def test_training_takes_the_features_of_every_view() -> None:
    two = config("views=,hflip", features=("a", "b"))
    assert two.training_features() == ("a", "b", "a@hflip", "b@hflip")
    assert config("views=mask0.5.0,mask0.5.1").training_features() == ("hog@mask0.5.0", "hog@mask0.5.1")


def test_config_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        config().epochs = 5  # type: ignore[misc]


def test_values_of_the_caller_stay_as_they_are() -> None:
    head: dict[str, object] = {"name": "transformer"}
    config("head.dim=64", head=head)
    assert head == {"name": "transformer"}


# on disk

MANY = [
    config("head.dim=64", "epochs=3", "clip_norm=inf", "speed=0.6,1.4", "fold=2/5"),
    config("views=,hflip", "co_train=true", "missing=nearest", "loss.name=v-naw", task="expr"),
    config("loss.weights=" + ",".join(map(str, range(12))), "loss.name=focal", task="au"),
    config("synthetic=0.3", "head.name=cross-attention", "head.audio=", task="vgaf"),
    config("loss.name=ccc-bins", "head.name=encoder", "head.convs=32"),
    *(config(task=task) for task in TASKS),
    *(make_config({**BASE, "head": {"name": head}}) for head in HEADS if head != "logistic"),
    config("head.name=logistic", task="au"),
]


@pytest.mark.parametrize("found", MANY, ids=lambda found: f"{found.task}-{found.head.name}-{found.loss.name}")
def test_config_survives_a_run_folder(found: TrainConfig, tmp_path: Path) -> None:
    features = {name: {"fingerprint": "f", "shape": [2]} for name in (*found.features, *found.training_features())}
    run = create_run(tmp_path, found, features)
    opened = open_run(run.folder)
    assert opened.config == run.config == found.resolved()
    assert opened.shapes == {"hog": (2,)}
    assert make_config(found.model_dump(mode="json")) == found


def test_config_of_a_run_is_strict_json_without_defaults_to_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run keeps the length of its window and their distance, even where the task's default is another one by then."""
    run = create_run(tmp_path, config("clip_norm=inf"), {"hog": {"fingerprint": "f", "shape": [2]}})

    def refuse(word: str) -> None:
        raise AssertionError(word)

    written = json.loads((run.folder / "config.json").read_text(), parse_constant=refuse)["config"]
    assert (written["window"], written["stride"], written["clip_norm"]) == (100, 50, None)
    monkeypatch.setattr("abaw.train.config.recorded_task", lambda name, record: replace(TASKS[name], window=7))
    assert open_run(run.folder).config.length == 100
    assert open_run(run.folder).config.clip_norm == math.inf


def test_config_of_an_older_run_is_read_and_resolved(tmp_path: Path) -> None:
    """Before, an infinite limit was the word Infinity, and 0 a window of the task's length."""
    features = {"hog": {"fingerprint": "f", "shape": [2]}}
    run = create_run(tmp_path, config("clip_norm=inf"), features)
    file = run.folder / "config.json"
    content = json.loads(file.read_text())
    content["config"] |= {"clip_norm": math.inf, "window": 0, "stride": 0}
    file.write_text(json.dumps(content))
    assert "Infinity" in file.read_text()
    assert open_run(run.folder) == run


# unknown options and names


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("epoch=3", ["Unknown option 'epoch'", "Did you mean epochs"]),
        ("learning_rate=3", ["Unknown option 'learning_rate'. Did you mean lr?"]),
        ("batchsize=3", ["Unknown option 'batchsize'", "batch_size"]),
        ("cotrain=3", ["Unknown option 'cotrain'", "co_train"]),
        ("class_weights=1", ["Unknown option 'class_weights'"]),
        ("head.dimm=64", ["Unknown option 'head.dimm'", "head.dim"]),
        ("head.mask_rate=0.1", ["Unknown option 'head.mask_rate'", "head.mask_ratio"]),
        ("loss.moment=unbiased", ["Unknown option 'loss.moment'", "loss.moments"]),
        ("loss.zzz=1", ["Unknown option 'loss.zzz'", "Known options: loss.moments, loss.name, loss.shares."]),
        ("zzz=1", ["Unknown option 'zzz'", "Known options", "epochs", "window"]),
    ],
)
def test_unknown_option_names_the_near_ones(setting: str, words: list[str]) -> None:
    found = message(setting)
    assert all(word in found for word in words), found


def test_option_of_another_head_or_loss_is_not_offered() -> None:
    found = message("head.dim=64", head={"name": "linear"})
    assert "Unknown option 'head.dim'" in found
    assert "head.dim" not in found.replace("'head.dim'", "")
    assert "head.dropout" in found
    found = message("loss.gamma=2", task="expr")
    assert found == "Unknown option 'loss.gamma'. Did you mean loss.name?"


@pytest.mark.parametrize("setting", ["linear=1", "transformer.dim=64", "transformer=64", "ccc=1", "bce.weights=equal"])
def test_name_of_a_head_or_loss_as_option_is_refused(setting: str) -> None:
    assert "Unknown option" in message(setting)


@pytest.mark.parametrize("how", ["value", "setting"])
@pytest.mark.parametrize(
    ("what", "wrong", "near"), [("head", "lineer", "linear"), ("loss", "cross_entropy", "cross-entropy")]
)
def test_unknown_head_or_loss_names_the_near_one_and_all(how: str, what: str, wrong: str, near: str) -> None:
    values = {"task": "expr", what: {"name": wrong}} if how == "value" else {"task": "expr"}
    found = message(*([f"{what}.name={wrong}"] if how == "setting" else []), **values)
    assert f"Unknown {what} {wrong!r}. Did you mean {near}? Choose one of: " in found
    assert all(name in found for name in (HEADS if what == "head" else LOSSES))


def test_unknown_task_lists_the_known_ones() -> None:
    assert message(task="vaa") == (
        "Unknown task 'vaa'. Did you mean va? Choose one of: va, expr, au, mtl, lsd, vgaf, ah, ah-frames, vd, emi, ce, mer, engagement; "
        "or name a .toml file of your own."
    )


def test_head_or_loss_set_as_a_text_says_how_to_name_it() -> None:
    assert message("head=linear").startswith(
        "head: choose one with head.name=..., one of: anchored, bilstm, cross-attention, difference, emma, "
    )
    assert "found 'linear'" in message("head=linear")
    assert message("loss=bce").startswith("loss: choose one with loss.name=..., one of: bce, ccc, ccc-bins")


# wrong values


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("epochs=many", ["epochs", "integer", "'many'"]),
        ("epochs=2.5", ["epochs", "integer", "'2.5'"]),
        ("epochs=0", ["epochs", "greater than or equal to 1", "'0'"]),
        ("lr=0", ["lr", "greater than 0", "'0'"]),
        ("lr=nan", ["lr", "'nan'"]),
        ("warmup=1", ["warmup", "less than 1", "'1'"]),
        ("synthetic=1.1", ["synthetic", "less than or equal to 1", "'1.1'"]),
        ("seed=-1", ["seed", "greater than or equal to 0", "'-1'"]),
        ("missing=drop", ["missing", "'mask' or 'nearest'", "'drop'"]),
        ("balance=labels", ["balance", "'none', 'class' or 'video'", "'labels'"]),
        ("co_train=perhaps", ["co_train", "boolean", "'perhaps'"]),
        ("head.dim=7", ["head.dim", "multiple of 2", "'7'"]),
        ("head.mask_ratio=1", ["head.mask_ratio", "less than 1", "'1'"]),
        ("head.mask_token=ones", ["head.mask_token", "'learned' or 'zero'", "'ones'"]),
        ("head.heads=5", ["head.dim (128)", "multiple of head.heads (5)"]),
        ("window.length=3", ["window", "{'length': '3'}"]),
        ("speed=1", ["speed: too few values, found ['1']"]),
        ("speed=", ["speed: too few values, found []"]),
        ("speed=1,2,3", ["speed", "at most 2", "['1', '2', '3']"]),
        ("speed=slow,fast", ["speed.0", "number", "'slow'"]),
        ("speed=1.4,0.6", ["speed must be two factors above 0, the smaller one first", "[1.4, 0.6]"]),
        ("speed=0,1", ["speed must be two factors above 0", "[0.0, 1.0]"]),
        ("speed=1,inf", ["speed must be two factors above 0", "inf"]),
        ("speed=nan,1", ["speed must be two factors above 0", "nan"]),
        ("loss.moments=sample", ["loss.moments", "'population' or 'unbiased'", "'sample'"]),
        ("fold=0/5", ["A fold is written NUMBER/FOLDS", "'0/5'"]),
        ("fold=3", ["A fold is written NUMBER/FOLDS", "'3'"]),
    ],
)
def test_wrong_value_says_option_range_and_what_was_found(setting: str, words: list[str]) -> None:
    found = message(setting)
    assert all(word in found for word in words), found


@pytest.mark.parametrize("setting", ["lr=inf", "weight_decay=inf", "clip_norm=nan"])
def test_rate_that_is_no_number_is_refused(setting: str) -> None:
    assert setting.split("=")[0] in message(setting)


def test_weights_that_are_none_are_refused() -> None:
    found = message("loss.weights=often", task="expr")
    assert found.startswith("loss.weights: must be equal, inverse, or comma-separated numbers of 0 and above")
    assert "found 'often'" in found


def test_setting_without_a_value_is_refused() -> None:
    assert message("epochs") == "--set needs key=value, found 'epochs'."


def test_option_without_options_of_its_own_is_refused() -> None:
    assert "epochs has no options" in message("epochs.most=3", epochs=2)


def test_missing_features_are_said() -> None:
    assert "features" in message(features=())
    with pytest.raises(UsageError, match=r"^Option 'features' is missing\.$"):
        make_config({"task": "va"})


def test_missing_task_lists_the_known_ones() -> None:
    with pytest.raises(
        UsageError,
        match=r"^Option 'task' is missing\. Choose one of: va, expr, au, mtl, lsd, vgaf, ah, ah-frames, vd, emi, ce, mer, engagement\.$",
    ):
        make_config({"features": ("hog",)})


# what does not fit together


def test_loss_of_another_kind_of_task_names_the_fitting_ones() -> None:
    found = message(loss={"name": "bce"})
    assert found == "loss bce does not fit task va; choose one of: ccc, ccc-bins, ccc-mse, mse."
    found = message("loss.name=ccc", task="au")
    assert found == "loss ccc does not fit task au; choose one of: bce, focal."


def test_views_are_asked_for() -> None:
    found = message("loss.name=cotex", task="expr")
    assert found == "loss cotex needs 2 or more views, found 1: set views too."
    assert "found 1" in message("loss.name=cotex", "views=hflip", task="expr")
    assert config("loss.name=cotex", "views=,hflip", task="expr").loss.name == "cotex"
    assert message("co_train=true") == "co_train needs two or more views, found 0: set views too."
    assert message("co_train=true", "views=hflip") == "co_train needs two or more views, found 1: set views too."


def test_images_have_windows_of_one() -> None:
    assert message("window=5", task="lsd") == "task lsd has single images: window must be 1, found 5."
    assert config("window=1", task="lsd").length == config(task="lsd").length == 1


def test_images_have_no_neighbours() -> None:
    found = message("missing=nearest", task="lsd")
    assert found == "task lsd has single images, which have no nearest frame: use missing=mask."


def test_classes_of_images_are_no_videos_to_deal_out() -> None:
    found = message("fold=1/5", task="lsd")
    assert (
        "task lsd cannot be split into folds, because its videos are whole classes: leave out fold, found 1/5" in found
    )
    for task in set(TASKS) - {"lsd"}:
        assert config("fold=1/5", task=task).fold == "1/5"


def test_synthetic_clips_are_for_whole_videos() -> None:
    assert "synthetic clips are for tasks of whole videos, not for expr" in message("synthetic=0.3", task="expr")
    assert config("synthetic=0.3", task="vgaf").synthetic == 0.3
    assert "must be less than 1: " in message("synthetic=1", task="vgaf")
    assert config("synthetic=1", "synthetic_draw=run", task="vgaf").synthetic == 1


def test_invalid_as_names_a_class() -> None:
    assert "invalid_as of task va must be empty: no classes; found 'Other'" in message("invalid_as=Other")
    found = message("invalid_as=other", task="expr")
    assert "invalid_as of task expr must be one of its classes: Neutral, Anger" in found and "found 'other'" in found
    assert config("invalid_as=Other", task="expr").invalid_as == "Other"


def test_balance_by_class_wants_classes() -> None:
    assert "task va has no classes to balance: use balance=video or balance=none" in message("balance=class")
    for task in ("expr", "au", "mtl", "lsd", "vgaf", "ah", "vd"):
        assert config("balance=class", task=task).balance == "class"


# probes


@pytest.mark.parametrize(
    ("head", "task", "hint"),
    [
        ("ridge", "expr", "use logistic"),
        ("ridge", "au", "use logistic"),
        ("logistic", "va", "use ridge"),
        ("ridge", "mtl", "train its parts, va, expr and au, separately"),
        ("logistic", "mtl", "train its parts, va, expr and au, separately"),
    ],
)
def test_probe_of_another_kind_of_task_is_refused(head: str, task: str, hint: str) -> None:
    assert message(task=task, head={"name": head}) == f"head {head} does not fit task {task}: {hint}."


@pytest.mark.parametrize(
    ("setting", "option"),
    [
        ("views=,hflip", "views"),
        ("speed=0.6,1.4", "speed"),
        ("balance=class", "balance"),
        ("synthetic=0.3", "synthetic"),
    ],
)
def test_probe_takes_no_options_of_batches(setting: str, option: str) -> None:
    found = message(setting, task="vgaf", head={"name": "logistic"})
    assert found == f"head logistic is solved directly, not trained on windows: leave out {option}."


def test_probe_takes_no_other_loss() -> None:
    found = message("loss.name=ccc-bins", head={"name": "ridge"})
    assert found == "head ridge has a fixed loss: leave out loss, found ccc-bins."
