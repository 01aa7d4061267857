"""Sums that are computed otherwise than term by term, and gradients that are added up where they lie."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from multiomics_vae.kernels import BernoulliKernel, SparseRows, bernoulli_log_likelihood, output_layer
from multiomics_vae.kernels.allocation import LARGE_FROM_BYTES, empty_buffer


@pytest.mark.parametrize("n_features", [1, 2, 3, 7, 8, 9, 31, 32, 100])
@pytest.mark.parametrize("scale", [0.1, 3.0, 60.0])
def test_sum_of_softplus(n_features: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(n_features)
    logits = scale * torch.randn(n_features, 5, generator=generator, dtype=torch.float64)
    expected = torch.nn.functional.softplus(logits, threshold=60.0).sum(0)
    found = BernoulliKernel().zero_cost_sums(logits, None, torch.empty_like(logits))
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=0.0)
    single = BernoulliKernel().zero_cost_sums(logits.float(), None, torch.empty(n_features, 5))
    torch.testing.assert_close(single.double(), expected, rtol=2e-6, atol=0.0)


@pytest.mark.parametrize("logit", [-85.0, -20.0, -1e-30, 0.0, 20.0, 90.0, 1e30])
def test_sum_of_softplus_at_the_ends(logit: float) -> None:
    """Tiny terms keep their digits, huge ones stay finite."""
    logits = torch.full((16, 2), logit)
    found = BernoulliKernel().zero_cost_sums(logits, None, torch.empty_like(logits))
    expected = 16 * torch.nn.functional.softplus(logits[0].double(), threshold=60.0)
    torch.testing.assert_close(found.double(), expected, rtol=2e-5, atol=0.0)


def test_two_gradients_of_one_large_weight_are_added_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    places = []

    def remember(shape: tuple[int, ...], like: Tensor) -> Tensor:
        buffer = empty_buffer(shape, like)
        places.append(buffer.data_ptr())
        return buffer

    monkeypatch.setattr(output_layer, "empty_buffer", remember)
    n_features = LARGE_FROM_BYTES // 16
    weight = torch.zeros(n_features, 4, requires_grad=True)
    data = SparseRows(torch.tensor([0, 1]), torch.tensor([3]), torch.ones(1), n_features)
    bias = torch.zeros(n_features)
    terms = [bernoulli_log_likelihood(torch.full((1, 4), h), weight, bias, data).total for h in (1.0, 2.0)]
    (-torch.stack(terms).sum()).backward()
    assert weight.grad is not None
    assert len(places) == 2
    assert weight.grad.data_ptr() in places
    torch.testing.assert_close(weight.grad[:, 0], 1.5 - 3.0 * (torch.arange(n_features) == 3))
