from dataclasses import replace

import pytest
import torch
from likelihood_cases import make_case, plain_statistics, repeat_cell
from scipy import stats

from multiomics_vae.errors import InputError
from multiomics_vae.likelihoods.beta_binomial import BetaBinomial

LOGITS = torch.tensor([[-2.0, 0.3, 4.0]], dtype=torch.float64)


def _likelihood(concentration: list[float]) -> BetaBinomial:
    likelihood = BetaBinomial(plain_statistics()).double()
    with torch.no_grad():
        likelihood.log_concentration.table.copy_(torch.tensor([concentration]).double().log())
    return likelihood


@pytest.mark.parametrize("concentration", [[0.2, 2.0, 9.0], [15.0, 300.0, 5000.0]])
def test_log_prob_agrees_with_scipy(concentration: list[float]) -> None:
    coverage = torch.tensor([40.0, 7.0, 1.0])
    x = torch.tensor([[0.0, 3, 1], [40, 7, 0], [13, 0, 1]], dtype=torch.float64)
    p, c = torch.sigmoid(LOGITS), torch.tensor([concentration]).double()
    exact = stats.betabinom(coverage.numpy(), (p * c).numpy(), ((1 - p) * c).numpy()).logpmf(x.numpy())
    ours = _likelihood(concentration).log_prob(x, (LOGITS.expand(3, 3),), repeat_cell(1.0, 3, coverage))
    torch.testing.assert_close(ours, torch.tensor(exact), rtol=1e-6, atol=1e-6)


def test_a_high_concentration_is_the_binomial() -> None:
    coverage = torch.tensor([30.0, 20.0, 5.0])
    x = torch.tensor([[4.0, 11, 5]], dtype=torch.float64)
    exact = stats.binom(coverage.numpy(), torch.sigmoid(LOGITS).numpy()).logpmf(x.numpy())
    ours = _likelihood([1e8] * 3).log_prob(x, (LOGITS,), repeat_cell(1.0, 1, coverage))
    torch.testing.assert_close(ours, torch.tensor(exact), rtol=1e-5, atol=1e-5)


def test_what_is_not_covered_says_nothing() -> None:
    case = make_case("beta_binomial", "feature")
    (logits,) = case.outputs(len(case.x))
    logits.requires_grad_()
    value = case.likelihood.log_prob(case.x, (logits,), case.cells)
    uncovered = case.cells.coverage == 0
    assert uncovered.any()
    assert (value[uncovered] == 0).all()
    assert (value[~uncovered] < 0).any()
    value.sum().backward()
    assert (logits.grad[uncovered] == 0).all()
    draws = case.likelihood.sample((logits.detach(),), case.cells, torch.Generator().manual_seed(0))
    assert (draws[uncovered] == 0).all()


@pytest.mark.parametrize("concentration", [0.01, 0.5, 30.0])
def test_samples_have_the_variance_of_the_beta_binomial(concentration: float) -> None:
    coverage = torch.tensor([20.0, 10.0, 5.0])
    n_draws = 40_000
    draws = _likelihood([concentration] * 3).sample(
        (LOGITS.expand(n_draws, 3),), repeat_cell(1.0, n_draws, coverage), torch.Generator().manual_seed(0)
    )
    p = torch.sigmoid(LOGITS)[0].numpy()
    known = stats.betabinom(coverage.numpy(), p * concentration, (1 - p) * concentration)
    torch.testing.assert_close(draws.var(0), torch.tensor(known.var()), rtol=0.06, atol=0)
    assert ((draws >= 0) & (draws <= coverage)).all()


def test_coverage_is_needed_for_counts_but_not_for_fractions() -> None:
    case = make_case("beta_binomial", "feature")
    x, outputs, bare = case.x, case.outputs(len(case.x)), replace(case.cells, coverage=None)
    with pytest.raises(InputError, match="coverage"):
        case.likelihood.log_prob(x, outputs, bare)
    for ask in (case.likelihood.normalized, case.likelihood.mean):
        assert torch.equal(ask(outputs, bare), torch.sigmoid(outputs[0]))


@pytest.mark.parametrize("concentration", [8.0, 30.0])
def test_without_coverage_the_fraction_is_a_beta(concentration: float) -> None:
    n_draws = 20_000
    likelihood, bare = _likelihood([concentration] * 3), repeat_cell(1.0, n_draws)
    outputs = (LOGITS.expand(n_draws, 3),)
    p = torch.sigmoid(LOGITS)[0].numpy()
    known = stats.beta(p * concentration, (1 - p) * concentration)
    torch.testing.assert_close(likelihood.variance(outputs, bare)[0], torch.tensor(known.var()))
    draws = likelihood.sample(outputs, bare, torch.Generator().manual_seed(0))
    for feature in range(3):
        column = stats.beta(known.args[0][feature], known.args[1][feature])
        assert stats.kstest(draws[:, feature].numpy(), column.cdf).pvalue > 1e-3
