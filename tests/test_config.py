"""Training options: defaults, settings as text, and what the messages say about wrong ones."""

import pytest

from abaw.errors import UsageError
from abaw.tasks import TASKS
from abaw.train.config import TrainConfig, make_config
from abaw.train.heads import HEADS, LinearConfig, TransformerConfig
from abaw.train.losses import get_loss

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
    assert found.features == ("a", "b")
    assert found.head == TransformerConfig()
    assert get_loss(found.loss or TASKS[task].loss, TASKS[task].kind)


def test_settings_are_parsed_by_the_type_of_the_option() -> None:
    found = config("epochs=3", "lr=2e-4", "class_weights=true", "missing=nearest", " window = 64 ", "loss=ccc")
    assert (found.epochs, found.lr, found.class_weights, found.missing) == (3, 2e-4, True, "nearest")
    assert (found.window, found.loss) == (64, "ccc")


def test_settings_reach_into_the_default_head() -> None:
    found = config("head.dim=64", "head.mask_token=zero", "head.mask_ratio=0")
    assert isinstance(found.head, TransformerConfig)
    assert (found.head.dim, found.head.mask_token, found.head.mask_ratio) == (64, "zero", 0)
    assert found.head.layers == TransformerConfig().layers


def test_settings_reach_into_the_named_head() -> None:
    assert config("head.dropout=0.5", head={"name": "linear"}).head == LinearConfig(dropout=0.5)
    assert config("head.name=linear").head == LinearConfig()


def test_later_settings_win_over_earlier_ones_and_over_values() -> None:
    assert config("epochs=3", "epochs=4", epochs=2).epochs == 4


def test_config_survives_json() -> None:
    found = config("head.dim=64", "epochs=3")
    assert make_config(found.model_dump(mode="json")) == found


def test_step_is_half_a_window_unless_said() -> None:
    assert config("window=100").step == 50
    assert config("window=1").step == 1
    assert config("window=100", "stride=30").step == 30


def test_config_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        config().epochs = 5  # type: ignore[misc]


def test_values_of_the_caller_stay_as_they_are() -> None:
    head: dict[str, object] = {"name": "transformer"}
    config("head.dim=64", head=head)
    assert head == {"name": "transformer"}


# what is refused


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("epoch=3", ["Unknown option 'epoch'", "epochs"]),
        ("learning_rate=3", ["Unknown option 'learning_rate'"]),
        ("batchsize=3", ["Unknown option 'batchsize'", "batch_size"]),
        ("head.dimm=64", ["Unknown option 'head.dimm'", "head.dim"]),
        ("head.mask_rate=0.1", ["Unknown option 'head.mask_rate'", "head.mask_ratio"]),
        ("zzz=1", ["Unknown option 'zzz'", "Known are", "epochs", "window"]),
    ],
)
def test_unknown_option_names_the_near_ones(setting: str, words: list[str]) -> None:
    found = message(setting)
    assert all(word in found for word in words), found


def test_option_of_another_head_is_not_offered() -> None:
    found = message("head.dim=64", head={"name": "linear"})
    assert "Unknown option 'head.dim'" in found
    assert "head.dim" not in found.replace("'head.dim'", "")
    assert "head.dropout" in found


@pytest.mark.parametrize("setting", ["linear=1", "transformer.dim=64", "transformer=64"])
def test_name_of_a_head_as_option_is_refused(setting: str) -> None:
    assert "Unknown option" in message(setting)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("epochs=many", ["epochs", "integer", "'many'"]),
        ("epochs=2.5", ["epochs", "integer", "'2.5'"]),
        ("epochs=0", ["epochs", "greater than or equal to 1", "'0'"]),
        ("lr=0", ["lr", "greater than 0", "'0'"]),
        ("lr=nan", ["lr", "'nan'"]),
        ("warmup=1", ["warmup", "less than 1", "'1'"]),
        ("seed=-1", ["seed", "greater than or equal to 0", "'-1'"]),
        ("missing=drop", ["missing", "'mask' or 'nearest'", "'drop'"]),
        ("class_weights=perhaps", ["class_weights", "boolean", "'perhaps'"]),
        ("head.dim=7", ["head.dim", "multiple of 2", "'7'"]),
        ("head.mask_ratio=1", ["head.mask_ratio", "less than 1", "'1'"]),
        ("head.mask_token=ones", ["head.mask_token", "'learned' or 'zero'", "'ones'"]),
        ("head.heads=5", ["head.dim (128)", "multiple of head.heads (5)"]),
        ("window.length=3", ["window", "{'length': '3'}"]),
    ],
)
def test_wrong_value_says_option_range_and_what_was_found(setting: str, words: list[str]) -> None:
    found = message(setting)
    assert all(word in found for word in words), found


@pytest.mark.parametrize("setting", ["lr=inf", "weight_decay=inf"])
def test_infinite_rate_is_refused(setting: str) -> None:
    assert setting.split("=")[0] in message(setting)


def test_setting_without_a_value_is_refused() -> None:
    assert message("epochs") == "--set wants key=value, found 'epochs'."


def test_option_without_options_of_its_own_is_refused() -> None:
    assert "epochs has no options of its own" in message("epochs.most=3", epochs=2)


def test_unknown_head_lists_the_known_ones() -> None:
    found = message(head={"name": "lstm"})
    assert "Unknown head 'lstm'" in found
    assert all(name in found for name in HEADS)
    assert "Unknown head 'lstm'" in message("head.name=lstm")


def test_head_set_as_a_text_says_how_to_name_it() -> None:
    found = message("head=linear")
    assert "'linear'" in found
    assert "head.name" in found or "--head" in found


def test_no_feature_is_refused() -> None:
    assert "features" in message(features=())
