"""The moving average of the weights against its closed form."""

from __future__ import annotations

import torch

from multiomics_vae.training.averaging import WeightAverage


def steps(n: int) -> torch.Tensor:
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(0))


def averaged(decay: float, values: torch.Tensor) -> tuple[WeightAverage, torch.nn.Linear]:
    module = torch.nn.Linear(2, 1, bias=False)
    module.register_buffer("count", torch.zeros(()))
    with torch.no_grad():
        module.weight.zero_()
    average = WeightAverage(module, decay)
    for value in values:
        with torch.no_grad():
            module.weight.copy_(value.unsqueeze(0))
        average.update()
    return average, module


def test_closed_form_of_a_constant_decay() -> None:
    """(1 − d) Σ_t d^(T − t) w_t; a decay below 1/10 is never held back by the ramp."""
    values = steps(6)
    average, _ = averaged(0.05, values)
    powers = 0.05 ** torch.arange(5, -1, -1.0)
    torch.testing.assert_close(average.average[0][0], (0.95 * powers.unsqueeze(1) * values).sum(0))


def test_the_start_is_forgotten_along_the_ramp() -> None:
    values = steps(6)
    average, _ = averaged(0.3, values)
    expected = torch.zeros(2)
    for t, value in enumerate(values):
        decay = min(0.3, (1 + t) / (10 + t))
        expected = decay * expected + (1 - decay) * value
    torch.testing.assert_close(average.average[0][0], expected)


def test_decay_zero_is_the_weights_themselves() -> None:
    values = steps(5)
    average, module = averaged(0.0, values)
    assert torch.equal(average.average[0], module.weight)


def test_swapping_twice_changes_nothing() -> None:
    average, module = averaged(0.9, steps(5))
    live, mean = module.weight.detach().clone(), average.average[0].clone()
    assert not torch.equal(live, mean)
    average.swap()
    assert average.in_use
    assert torch.equal(module.weight, mean)
    average.swap()
    assert not average.in_use
    assert torch.equal(module.weight, live)
    assert torch.equal(average.average[0], mean)


def test_fixed_parameters_and_buffers_are_left_alone() -> None:
    module = torch.nn.Linear(2, 2)
    module.bias.requires_grad_(False)
    average = WeightAverage(module, 0.9)
    assert len(average.average) == 1
    average.swap()
    assert module.weight.requires_grad


def test_the_average_follows_the_weights_to_another_device() -> None:
    module = torch.nn.Linear(2, 1)
    average = WeightAverage(module, decay=0.5)
    average.parameters = [parameter.to("meta") for parameter in module.parameters()]
    average.follow()
    assert {tensor.device.type for tensor in average.average} == {"meta"}
    average.update()
    assert average.n_updates == 1
