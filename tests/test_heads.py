"""The contract of every head, the frame masking of the transformer, and the standardisation of the inputs."""

import pytest
import torch
from torch import Tensor

from abaw.train.heads import HEADS, Head, create_head
from abaw.train.heads.inputs import JoinFeatures

SHAPES = {"flat": (6,), "grid": (3, 4)}
N_OUTPUTS = 5
SMALL = {
    "transformer": {"dim": 16, "layers": 2, "heads": 2, "feedforward": 32, "dropout": 0.2, "mask_ratio": 0.3},
    "linear": {"dropout": 0.2},
}
CONTRACT = pytest.mark.parametrize("name", sorted(HEADS))


def make(name: str, **options: object) -> Head:
    """A small head with weights of its own and statistics that are not trivial."""
    torch.manual_seed(0)
    head = create_head(HEADS[name][0](**{**SMALL.get(name, {}), **options}), SHAPES, N_OUTPUTS)
    means = {feature: torch.randn(shape, dtype=torch.float64) for feature, shape in SHAPES.items()}
    stds = {feature: torch.rand(shape, dtype=torch.float64) + 0.5 for feature, shape in SHAPES.items()}
    head.inputs.set_statistics(means, stds)
    return head


def batch(n: int = 3, length: int = 9, seed: int = 0) -> tuple[dict[str, Tensor], Tensor]:
    """Features, and a mask with a few missing frames in every window of more than one frame."""
    draw = torch.Generator().manual_seed(seed)
    features = {name: torch.randn(n, length, *shape, generator=draw) for name, shape in SHAPES.items()}
    mask = torch.rand(n, length, generator=draw) > 0.3
    mask[:, 0] = True
    if length > 1:
        mask[:, 1] = False
    return features, mask


def with_values_at_masked(features: dict[str, Tensor], mask: Tensor, value: float) -> dict[str, Tensor]:
    return {
        name: torch.where(mask.view(*mask.shape, *[1] * (values.ndim - 2)), values, value)
        for name, values in features.items()
    }


@CONTRACT
@pytest.mark.parametrize("length", [1, 2, 7, 32, 101])
@pytest.mark.parametrize("training", [True, False])
def test_one_output_for_every_frame(name: str, length: int, training: bool) -> None:
    found = make(name).train(training)(*batch(2, length))
    assert found.shape == (2, length, N_OUTPUTS)
    assert found.isfinite().all()


@CONTRACT
def test_gradients_reach_every_parameter(name: str) -> None:
    head = make(name).train()
    head(*batch()).square().sum().backward()
    untouched = [key for key, value in head.named_parameters() if value.grad is None or not value.grad.any()]
    assert untouched == []


@CONTRACT
@pytest.mark.parametrize("junk", [0.0, 1e4, float("nan"), float("inf")])
@pytest.mark.parametrize("training", [True, False])
def test_values_at_masked_frames_change_nothing(name: str, junk: float, training: bool) -> None:
    head = make(name).train(training)
    features, mask = batch()
    assert not mask.all()
    torch.manual_seed(1)
    wanted = head(features, mask)
    torch.manual_seed(1)
    found = head(with_values_at_masked(features, mask, junk), mask)
    assert torch.equal(found, wanted)


@CONTRACT
def test_gradients_are_finite_with_nan_at_masked_frames(name: str) -> None:
    head = make(name).train()
    features, mask = batch()
    head(with_values_at_masked(features, mask, float("nan")), mask).square().sum().backward()
    assert all(value.grad is not None and value.grad.isfinite().all() for value in head.parameters())


@CONTRACT
def test_values_at_shown_frames_matter(name: str) -> None:
    head = make(name).eval()
    features, mask = batch()
    for feature in SHAPES:
        moved = {**features, feature: features[feature] + 1}
        assert not torch.allclose(head(moved, mask), head(features, mask)), feature


@CONTRACT
@pytest.mark.parametrize("training", [True, False])
def test_window_without_a_frame_is_finite(name: str, training: bool) -> None:
    head = make(name).train(training)
    features, mask = batch()
    mask[1] = False
    found = head(with_values_at_masked(features, mask, float("nan")), mask)
    assert found.isfinite().all()
    found.sum().backward()
    assert all(value.grad is None or value.grad.isfinite().all() for value in head.parameters())


@CONTRACT
def test_evaluation_is_deterministic(name: str) -> None:
    head = make(name).eval()
    features, mask = batch()
    assert torch.equal(head(features, mask), head(features, mask))


@CONTRACT
@pytest.mark.parametrize("grad", [True, False])
def test_other_windows_of_the_batch_do_not_matter(name: str, grad: bool) -> None:
    """Without gradients torch may take another path through the encoder: both must agree with windows one by one."""
    head = make(name).eval()
    features, mask = batch(4)
    mask[2] = False
    with torch.set_grad_enabled(grad):
        together = head(features, mask)
    alone = [head({key: v[i : i + 1] for key, v in features.items()}, mask[i : i + 1]) for i in range(4)]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-5)


@CONTRACT
def test_features_are_found_by_name(name: str) -> None:
    head = make(name).eval()
    features, mask = batch()
    turned = dict(reversed(features.items()))
    assert torch.equal(head(turned, mask), head(features, mask))


@CONTRACT
def test_weights_hold_all_that_evaluation_needs(name: str) -> None:
    """A head of other weights and statistics gives the same outputs once it has taken the state of the first."""
    head = make(name).eval()
    torch.manual_seed(5)
    other = create_head(HEADS[name][0](**SMALL.get(name, {})), SHAPES, N_OUTPUTS).eval()
    features, mask = batch()
    assert not torch.allclose(other(features, mask), head(features, mask))
    other.load_state_dict(head.state_dict())
    assert torch.equal(other(features, mask), head(features, mask))


# transformer


def test_mask_ratio_hides_frames_in_training_only() -> None:
    """All else that is random is off: what differs between two passes is the choice of hidden frames."""
    features, mask = batch(8, 50)
    hiding, showing = (make("transformer", dropout=0.0, mask_ratio=ratio) for ratio in (0.5, 0.0))
    showing.load_state_dict(hiding.state_dict())
    assert torch.equal(hiding.eval()(features, mask), showing.eval()(features, mask))
    hiding.train()
    showing.train()
    assert torch.equal(showing(features, mask), showing(features, mask))
    assert not torch.allclose(hiding(features, mask), hiding(features, mask))


@pytest.mark.parametrize("ratio", [0.3, 0.8])
def test_mask_ratio_is_the_share_of_hidden_frames(ratio: float) -> None:
    """A hidden frame's own value has no influence, so the gradient with respect to it is exactly zero."""
    head = make("transformer", dropout=0.0, mask_ratio=ratio).train()
    features, _ = batch(16, 100)
    features = {key: value.requires_grad_() for key, value in features.items()}
    head(features, torch.ones(16, 100).bool()).square().sum().backward()
    gradient = features["flat"].grad
    assert gradient is not None
    assert float((gradient == 0).all(-1).float().mean()) == pytest.approx(ratio, abs=0.04)


def test_hidden_frames_are_drawn_for_every_window() -> None:
    head = make("transformer", dropout=0.0, mask_ratio=0.5).train()
    features, _ = batch(2, 60)
    features = {key: value.requires_grad_() for key, value in features.items()}
    head(features, torch.ones(2, 60).bool()).square().sum().backward()
    gradient = features["flat"].grad
    assert gradient is not None
    hidden = (gradient == 0).all(-1)
    assert not torch.equal(hidden[0], hidden[1])


def test_no_frame_attends_to_a_missing_one() -> None:
    """Cutting missing frames off the end of a window leaves the outputs of the others as they are."""
    head = make("transformer", dropout=0.0).eval()
    features, _ = batch(2, 10)
    mask = torch.ones(2, 10).bool()
    mask[:, 6:] = False
    shorter = head({key: value[:, :6] for key, value in features.items()}, mask[:, :6])
    torch.testing.assert_close(head(features, mask)[:, :6], shorter, atol=1e-5, rtol=1e-5)


def test_transformer_uses_the_neighbours_and_their_order() -> None:
    head = make("transformer", dropout=0.0).eval()
    features, _ = batch(1, 10)
    mask = torch.ones(1, 10).bool()
    first = head(features, mask)[:, 0]
    moved = {key: value.clone() for key, value in features.items()}
    moved["flat"][:, 7] += 3
    assert not torch.allclose(head(moved, mask)[:, 0], first)
    swapped = {key: value[:, [0, 1, 2, 3, 4, 5, 6, 7, 9, 8]] for key, value in features.items()}
    assert not torch.allclose(head(swapped, mask)[:, 0], first)


def test_linear_head_looks_at_each_frame_alone() -> None:
    head = make("linear").eval()
    features, _ = batch(1, 10)
    mask = torch.ones(1, 10).bool()
    moved = {key: value.clone() for key, value in features.items()}
    moved["flat"][:, 7] += 3
    changed = (head(moved, mask) != head(features, mask)).any(-1)[0]
    assert changed.nonzero().flatten().tolist() == [7]


def test_mask_token_is_learned_or_zero() -> None:
    learned, zero = make("transformer"), make("transformer", mask_token="zero")
    assert dict(learned.named_parameters())["mask_token"].any()
    assert "mask_token" not in dict(zero.named_parameters())
    assert not dict(zero.named_buffers())["mask_token"].any()


def test_learned_mask_token_stands_at_missing_frames() -> None:
    head = make("transformer", dropout=0.0).eval()
    features, mask = batch()
    before = head(features, mask)
    with torch.no_grad():
        dict(head.named_parameters())["mask_token"] += torch.randn(16)
    changed = (head(features, mask) - before).abs().amax(-1) > 1e-6
    assert torch.equal(changed, ~mask)


# inputs


def test_inputs_are_standardised_flattened_and_joined() -> None:
    join = JoinFeatures(SHAPES)
    features, _ = batch(4, 50)
    rows = {name: values.flatten(0, 1).double() for name, values in features.items()}
    join.set_statistics(
        {name: values.mean(0) for name, values in rows.items()},
        {name: values.std(0, correction=0) for name, values in rows.items()},
    )
    joined = join(features, torch.ones(4, 50).bool())
    assert joined.shape == (4, 50, 6 + 3 * 4)
    torch.testing.assert_close(joined.flatten(0, 1).mean(0), torch.zeros(18), atol=1e-5, rtol=0)
    torch.testing.assert_close(joined.flatten(0, 1).std(0, correction=0), torch.ones(18), atol=1e-5, rtol=0)


def test_standardised_values_by_hand() -> None:
    join = JoinFeatures({"f": (2,)})
    join.set_statistics({"f": torch.tensor([1.0, 10.0])}, {"f": torch.tensor([2.0, 0.0])})
    found = join({"f": torch.tensor([[[5.0, 10.0], [1.0, 99.0], [3.0, 0.0]]])}, torch.tensor([[True, True, False]]))
    # (5 - 1) / 2; a value that never varied in training is left out, whatever it is now; a missing frame is zero
    assert found.tolist() == [[[2.0, 0.0], [0.0, 0.0], [0.0, 0.0]]]
