"""Networks as they are built: ordinary modules that can be trained, until a `Backbone` freezes them."""

import pytest
import torch

from abaw.backbones.backbone import build_network
from abaw.backbones.extractor import Backbone
from abaw.backbones.registry import get_spec
from abaw.core.errors import UsageError

INPUTS = {"vit-tiny-mean": (2, 3, 224, 224), "iresnet18": (2, 3, 112, 112), "vggish": (2, 1, 96, 64)}


@pytest.mark.parametrize("name", INPUTS)
def test_gradients_reach_every_parameter_until_the_network_is_frozen(name):
    spec = get_spec(name)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    built = build_network([spec], untrained=True)
    assert torch.equal(torch.get_rng_state(), before), "the caller's random numbers go on as before"
    network = built.network
    assert network.training
    assert built.specs[0].weights == "untrained" and built.weights_sha256 is None
    parameters = dict(network.named_parameters())
    assert sum(parameter.numel() for parameter in parameters.values()) == spec.parameters
    inputs = torch.randn(INPUTS[name])
    target = torch.randn(2, *spec.shape)

    loss = (network(inputs)[spec.output] * target).sum()
    loss.backward()

    without = [key for key, value in parameters.items() if value.grad is None or not value.grad.any()]
    assert without == []
    step = 1e-3 / float(torch.stack([value.grad.norm() for value in parameters.values()]).norm())
    torch.optim.SGD(parameters.values(), lr=step).step()
    assert (network(inputs)[spec.output] * target).sum() < loss, "a step against the gradient"

    frozen = Backbone(built)
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    features = frozen(inputs)
    assert isinstance(features, torch.Tensor) and not features.requires_grad


def test_specs_of_two_networks_are_refused():
    with pytest.raises(UsageError, match=r"^vit-tiny-mean, dan are not outputs of one network"):
        build_network([get_spec("vit-tiny-mean"), get_spec("dan")], untrained=True)
