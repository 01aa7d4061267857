"""What a likelihood computes fused with the decoder's last layer is what its `log_prob` says."""

from __future__ import annotations

import pytest
import torch
from likelihood_cases import plain_statistics

from multiomics_vae.kernels import SparseRows, fused_log_likelihood
from multiomics_vae.likelihoods import LIKELIHOODS, CellContext

N_CELLS, N_FEATURES, N_HIDDEN = 7, 5, 3

FUSED = [
    (name, dispersion)
    for name in LIKELIHOODS
    for dispersion in LIKELIHOODS[name].dispersions
    if LIKELIHOODS[name](plain_statistics(n_features=N_FEATURES), dispersion).fused_terms(
        CellContext(torch.ones(2), torch.zeros(2, dtype=torch.int64))
    )
    is not None
]


def test_the_wide_likelihoods_are_fused() -> None:
    assert {"nb", "poisson", "bernoulli"} <= {name for name, _ in FUSED}


@pytest.mark.parametrize(("name", "dispersion"), FUSED)
def test_fused_value_and_gradients_are_those_of_log_prob(name: str, dispersion: str) -> None:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    likelihood = LIKELIHOODS[name](plain_statistics(n_features=N_FEATURES), dispersion).double()
    with torch.no_grad():
        for parameter in likelihood.parameters():
            parameter.add_(normal(*parameter.shape))
    hidden, weight, bias = normal(N_CELLS, N_HIDDEN), normal(N_FEATURES, N_HIDDEN), normal(N_FEATURES)
    leaves = [
        hidden.requires_grad_(),
        weight.requires_grad_(),
        bias.requires_grad_(),
        *likelihood.parameters(),
    ]
    x = torch.poisson(torch.full((N_CELLS, N_FEATURES), 1.5, dtype=torch.float64), generator=generator)
    cells = CellContext(1.0 + x.sum(1), torch.arange(N_CELLS) % likelihood.n_batches)
    importance = torch.linspace(0, 2, N_CELLS, dtype=torch.float64)

    plain = likelihood.log_prob(x, (hidden @ weight.T + bias,), cells).sum(-1)
    expected = torch.autograd.grad((plain * importance).sum(), leaves)
    terms = likelihood.fused_terms(cells)
    assert terms is not None
    fused = fused_log_likelihood(
        terms.kernel,
        hidden,
        weight,
        bias,
        SparseRows.from_dense(x),
        depth=terms.depth,
        offset=terms.offset,
        log_dispersion=terms.log_dispersion,
        batch=terms.batch,
        cell_weights=importance,
    )
    torch.testing.assert_close(fused.per_cell, plain.detach(), rtol=1e-6, atol=1e-6)
    for found, wanted in zip(torch.autograd.grad(fused.total, leaves), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)
