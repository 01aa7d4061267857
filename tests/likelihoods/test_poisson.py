import pytest
import torch
from likelihood_cases import make_case
from scipy import stats

from multiomics_vae.errors import InputError
from multiomics_vae.likelihoods.poisson import Poisson


def test_log_prob_agrees_with_scipy() -> None:
    case = make_case("poisson", "feature").double()
    (logits,) = case.outputs(len(case.x))
    mean = case.cells.depth[:, None] * torch.softmax(logits, 1)
    exact = torch.tensor(stats.poisson(mean.numpy()).logpmf(case.x.numpy()))
    torch.testing.assert_close(case.likelihood.log_prob(case.x, (logits,), case.cells), exact)
    torch.testing.assert_close(case.likelihood.mean((logits,), case.cells), mean)


def test_gradient_is_count_minus_mean() -> None:
    """Of the sum over features, whose counts add up to the depth."""
    case = make_case("poisson", "feature").double()
    keep = case.x.sum(1) >= 1
    (logits,) = case.outputs(len(case.x))
    logits.requires_grad_()
    case.likelihood.log_prob(case.x, (logits,), case.cells).sum().backward()
    expected = case.x - case.likelihood.mean((logits.detach(),), case.cells)
    torch.testing.assert_close(logits.grad[keep], expected[keep])


def test_there_is_no_dispersion_by_batch() -> None:
    with pytest.raises(InputError, match="'poisson' has no dispersion 'feature-batch'"):
        Poisson(make_case("poisson", "feature").statistics, "feature-batch")
