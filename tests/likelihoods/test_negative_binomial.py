import math

import pytest
import torch
from likelihood_cases import N_BATCHES, make_case, plain_statistics, repeat_cell, summarise
from scipy import stats

from multiomics_vae.likelihoods import LIKELIHOODS, CellContext
from multiomics_vae.likelihoods.negative_binomial import NegativeBinomial


def test_log_prob_agrees_with_scipy() -> None:
    likelihood = NegativeBinomial(plain_statistics(), "feature-batch").double()
    theta = torch.tensor([[0.3, 2.0, 50.0], [1.0, 7.0, 0.1]], dtype=torch.float64)
    with torch.no_grad():
        likelihood.log_dispersion.table.copy_(theta.log())
    logits = torch.tensor([[0.0, 1.0, -2.0], [3.0, 0.5, 0.0]], dtype=torch.float64)
    cells = CellContext(torch.tensor([30.0, 800.0], dtype=torch.float64), torch.tensor([1, 0]))
    x = torch.tensor([[0.0, 20.0, 3.0], [500.0, 0.0, 90.0]], dtype=torch.float64)
    mean = torch.softmax(logits, 1) * cells.depth[:, None]
    used = theta[[1, 0]]
    exact = torch.tensor(stats.nbinom(n=used.numpy(), p=(used / (used + mean)).numpy()).logpmf(x.numpy()))
    torch.testing.assert_close(likelihood.log_prob(x, (logits,), cells), exact)


def test_means_of_a_cell_add_up_to_its_depth_and_ignore_a_shift_of_all_logits() -> None:
    case = make_case("nb", "feature")
    (logits,) = case.outputs(len(case.x))
    mean = case.likelihood.mean((logits,), case.cells)
    torch.testing.assert_close(mean.sum(1), case.cells.depth)
    torch.testing.assert_close(case.likelihood.mean((logits + 3.0,), case.cells), mean)
    torch.testing.assert_close(
        mean / case.cells.depth[:, None], case.likelihood.normalized((logits,), case.cells)
    )
    assert NegativeBinomial.normalised_over_features


def test_dispersion_of_simulated_counts_is_recovered_at_the_start() -> None:
    generator = torch.Generator().manual_seed(0)
    theta, n_cells = torch.tensor([1.5, 3.0, 10.0]), 20_000
    gamma = torch._standard_gamma(theta.expand(n_cells, 3), generator=generator) / theta
    x = torch.poisson(20.0 * gamma, generator=generator)
    depth = x.sum() / n_cells * torch.ones(n_cells)
    likelihood = NegativeBinomial(summarise(x, depth, torch.arange(n_cells) % N_BATCHES))
    torch.testing.assert_close(likelihood.log_dispersion.table[0].exp(), theta, rtol=0.1, atol=0)


def test_maximum_likelihood_finds_the_dispersion() -> None:
    generator = torch.Generator().manual_seed(1)
    theta, n_cells = torch.tensor([0.5, 2.0, 10.0]).double(), 20_000
    gamma = torch._standard_gamma(theta.expand(n_cells, 3), generator=generator) / theta
    x = torch.poisson(20.0 * gamma, generator=generator)
    likelihood = NegativeBinomial(plain_statistics()).double()
    cells, logits = repeat_cell(60.0, n_cells), torch.zeros(n_cells, 3, dtype=torch.float64)
    optimiser = torch.optim.LBFGS(likelihood.parameters(), max_iter=30, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        value = -likelihood.log_prob(x, (logits,), cells).mean()
        value.backward()
        return value

    optimiser.step(loss)
    torch.testing.assert_close(likelihood.log_dispersion.table[0].exp(), theta, rtol=0.06, atol=0)


def test_an_unseen_gene_costs_nothing_and_a_misspelt_name_is_guessed() -> None:
    case = make_case("nb", "feature")
    (bias,) = case.likelihood.start_biases(case.statistics)
    value = case.likelihood.log_prob(case.x, (bias.expand_as(case.x),), case.cells)
    assert value[:, 3].min() > -1e-5
    assert math.isfinite(bias[3].item())
    with pytest.raises(ValueError, match="Did you mean 'zinb'"):
        LIKELIHOODS["zinbb"]
