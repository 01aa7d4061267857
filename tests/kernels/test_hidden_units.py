"""Hidden units in one pass are layer normalisation, ReLU and dropout, and their gradients."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from multiomics_vae.errors import InputError
from multiomics_vae.kernels import hidden_units as module
from multiomics_vae.kernels.hidden_units import hidden_units
from multiomics_vae.networks.blocks import MLP

EPSILON = 1e-5


@pytest.fixture(autouse=True)
def own_generator() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FEWEST_COMPILED", 0)


def inputs(n_rows: int = 50, n_units: int = 37) -> tuple[Tensor, Tensor, Tensor]:
    x = 3.0 * torch.randn(n_rows, n_units) + 1.0
    return tuple(t.requires_grad_() for t in (x, torch.rand(n_units) + 0.5, torch.randn(n_units)))  # type: ignore[return-value]


def plain(x: Tensor, weight: Tensor, bias: Tensor, shown: Tensor | None = None, share: float = 0.0) -> Tensor:
    found = functional.layer_norm(x, weight.shape, weight, bias, EPSILON).relu()
    return found if shown is None else found * shown / (1.0 - share)


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("n_units", [1, 2, 37, 128])
@pytest.mark.parametrize("share", [0.0, 0.3])
def test_values_and_gradients_against_pytorch_in_double_precision(n_units: int, share: float) -> None:
    arguments = inputs(n_units=n_units)
    found = hidden_units(*arguments, EPSILON, share)
    wide = [t.detach().double().requires_grad_() for t in arguments]
    # What is 0 was hidden, or cut off: then showing it changes nothing.
    expected = plain(*wide, (found != 0).double() if share else None, share)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=2e-6)
    upstream = torch.randn_like(found)
    gradients = torch.autograd.grad(found, arguments, upstream)
    wanted = torch.autograd.grad(expected, wide, upstream.double())
    for gradient, want in zip(gradients, wanted, strict=True):
        scale = float(want.abs().max()) + 1.0
        torch.testing.assert_close(gradient.double(), want, rtol=1e-4, atol=1e-5 * scale)


@pytest.mark.parametrize("compiled", [True, False])
def test_the_stated_share_is_hidden_and_the_rest_scaled(
    compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FEWEST_COMPILED", 0 if compiled else 2**30)
    x, weight, share = torch.randn(512, 64), torch.ones(64), 0.2
    bias = torch.full((64,), 20.0)  # nothing is cut off
    found, all_shown = hidden_units(x, weight, bias, EPSILON, share), plain(x, weight, bias)
    shown = found != 0
    error = np.sqrt(share * (1.0 - share) / x.numel())
    assert abs(1.0 - float(shown.float().mean()) - share) < 5.0 * error
    torch.testing.assert_close(found[shown], all_shown[shown] / 0.8)
    for other in (shown[1:].float() * shown[:-1], shown[:, 1:].float() * shown[:, :-1]):  # independently
        assert abs(float(other.mean()) - 0.8**2) < 5.0 * np.sqrt(0.64 * 0.36 / other.numel()) * 1.5


@pytest.mark.usefixtures("always")
def test_only_the_generator_decides_what_is_hidden() -> None:
    arguments, state = inputs(), torch.get_rng_state()
    once = hidden_units(*arguments, EPSILON, 0.5)
    assert not torch.equal(hidden_units(*arguments, EPSILON, 0.5), once)
    torch.set_rng_state(state)
    assert torch.equal(hidden_units(*arguments, EPSILON, 0.5), once)
    before = torch.get_rng_state()
    hidden_units(*arguments, EPSILON, 0.0)
    assert torch.equal(torch.get_rng_state(), before)  # nothing to decide


@pytest.mark.usefixtures("always")
def test_what_is_not_a_number_is_not_cut_off() -> None:
    x, weight, bias = (t.detach() for t in inputs())
    x[3, 5] = torch.nan
    found = hidden_units(x.requires_grad_(), weight, bias, EPSILON, 0.0)
    assert bool(found[3].isnan().all())
    assert not bool(found[2].isnan().any())
    (gradient,) = torch.autograd.grad(found.sum(), [x])
    assert bool(gradient[3].isnan().all())
    assert not bool(gradient[2].isnan().any())


@pytest.mark.usefixtures("always")
def test_rows_that_do_not_lie_in_one_piece_and_weights_that_are_fixed() -> None:
    x, weight, bias = (t.detach() for t in inputs())
    turned = x.t().contiguous().t().requires_grad_()
    found = hidden_units(turned, weight, bias, EPSILON, 0.0)
    torch.testing.assert_close(found, plain(x, weight, bias))
    (gradient,) = torch.autograd.grad(found, [turned], torch.ones(50, 1).expand(50, 37))
    own = x.clone().requires_grad_()
    (want,) = torch.autograd.grad(plain(own, weight, bias).sum(), [own])
    torch.testing.assert_close(gradient, want, rtol=1e-4, atol=1e-5)
    assert hidden_units(x[:0], weight, bias, EPSILON, 0.0).shape == (0, 37)


@pytest.mark.usefixtures("always")
def test_double_precision_is_left_to_pytorch() -> None:
    arguments = tuple(t.detach().double().requires_grad_() for t in inputs(5, 6))
    assert torch.autograd.gradcheck(lambda *each: hidden_units(*each, EPSILON, 0.0), arguments)


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(InputError, match=r"from 0 to below 1.*dropout=0\.1"):
        hidden_units(*inputs(), EPSILON, share)


@pytest.mark.usefixtures("always")
def test_layers_are_those_of_the_sequence_of_modules() -> None:
    mlp, x = MLP(20, n_hidden=12, n_layers=2, dropout=0.4), torch.randn(9, 20)
    torch.testing.assert_close(mlp.eval()(x), mlp.layers(x), rtol=1e-5, atol=1e-6)
    state = torch.get_rng_state()
    assert not torch.equal(mlp.train()(x), mlp(x))
    torch.set_rng_state(state)
    assert torch.equal(MLP(20, 12, 0, 0.4)(x), x)
