import math

import pytest
import torch
from likelihood_cases import make_case, plain_statistics, repeat_cell
from scipy import stats

from multiomics_vae.errors import InputError
from multiomics_vae.likelihoods import CellContext
from multiomics_vae.likelihoods.bernoulli import Bernoulli


def test_log_prob_agrees_with_scipy_and_counts_above_one_are_open() -> None:
    case = make_case("bernoulli", "feature", jitter=0.4).double()
    (logits,) = case.outputs(len(case.x))
    depth = case.cells.depth.log() - case.statistics.mean_log_depth
    probability = torch.sigmoid(logits + case.likelihood.gamma.detach() * depth[:, None])
    exact = torch.tensor(stats.bernoulli(probability.numpy()).logpmf(case.x.numpy()))
    ours = case.likelihood.log_prob(case.x, (logits,), case.cells)
    torch.testing.assert_close(ours, exact, rtol=1e-6, atol=1e-6)
    assert torch.equal(case.likelihood.log_prob(3 * case.x, (logits,), case.cells), ours)


def test_a_confident_mistake_costs_its_logit_and_keeps_its_gradient() -> None:
    """Through a probability in float32 both would be lost: 1 − σ(60) = 0."""
    likelihood = Bernoulli(plain_statistics())
    logits = torch.tensor([[60.0, -60.0, 60.0]], requires_grad=True)
    cells = CellContext(torch.ones(1), torch.zeros(1, dtype=torch.int64))
    value = likelihood.log_prob(torch.tensor([[0.0, 1.0, 1.0]]), (logits,), cells)
    torch.testing.assert_close(value, torch.tensor([[-60.0, -60.0, 0.0]]))
    value.sum().backward()
    torch.testing.assert_close(logits.grad, torch.tensor([[-1.0, 1.0, 0.0]]))


def test_twice_the_depth_is_twice_the_odds_and_normalized_is_at_average_depth() -> None:
    likelihood = Bernoulli(plain_statistics(mean_log_depth=math.log(100.0))).double()
    assert likelihood.gamma.item() == 1.0
    logits = torch.tensor([[-2.0, 0.0, 1.5]], dtype=torch.float64)
    at_average = likelihood.mean((logits,), repeat_cell(100.0, 1))
    at_twice = likelihood.mean((logits,), repeat_cell(200.0, 1))
    torch.testing.assert_close(
        at_twice / (1 - at_twice), 2 * at_average / (1 - at_average), rtol=1e-5, atol=0
    )
    torch.testing.assert_close(
        likelihood.normalized((logits,), repeat_cell(200.0, 1)), at_average, rtol=1e-5, atol=0
    )


def test_biases_are_finite_for_peaks_always_or_never_open() -> None:
    (bias,) = Bernoulli(plain_statistics()).start_biases(
        plain_statistics(nonzero_fraction=torch.tensor([0.0, 0.25, 1.0]))
    )
    torch.testing.assert_close(torch.sigmoid(bias), torch.tensor([1e-5, 0.25, 1 - 1e-5]), rtol=1e-3, atol=0)
    with pytest.raises(InputError, match="'bernoulli'"):
        Bernoulli(plain_statistics(), "shared")
