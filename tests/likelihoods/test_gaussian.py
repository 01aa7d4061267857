import math

import pytest
import torch
from likelihood_cases import make_case, plain_statistics, repeat_cell
from scipy import stats

from multiomics_vae.errors import InputError
from multiomics_vae.likelihoods.gaussian import GaussianValues

VARIANCE = torch.tensor([1.0, 0.01, 1600.0])


def outputs_with_mean(likelihood: GaussianValues, center: torch.Tensor) -> tuple[torch.Tensor]:
    """Standardised outputs at which the likelihood's mean, in the units of the data, is ``center``."""
    scale = (0.5 * likelihood.log_data_variance).exp()
    return ((center - likelihood.location) / scale,)


def test_outputs_are_standardised() -> None:
    mean = torch.tensor([5.0, -2.0, 300.0])
    likelihood = GaussianValues(plain_statistics(mean=mean, variance=VARIANCE))
    cells = repeat_cell(1.0, 1)
    torch.testing.assert_close(likelihood.mean((torch.zeros(1, 3),), cells), mean.unsqueeze(0))
    one_sd = likelihood.mean((torch.ones(1, 3),), cells) - mean
    torch.testing.assert_close(one_sd, VARIANCE.sqrt().unsqueeze(0), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("dispersion", GaussianValues.dispersions)
def test_log_prob_agrees_with_scipy(dispersion: str) -> None:
    likelihood = GaussianValues(plain_statistics(variance=VARIANCE), dispersion).double()
    with torch.no_grad():
        for parameter in likelihood.parameters():
            parameter.add_(torch.linspace(-1, 1, parameter.numel()).view(parameter.shape))
    cells = repeat_cell(1.0, 4, batch=1)
    center = torch.tensor([[0.0, 1.0, 200.0]], dtype=torch.float64).expand(4, 3)
    x = center + torch.linspace(-3, 3, 12, dtype=torch.float64).view(4, 3)
    learned = likelihood.learned
    reference = VARIANCE.mean(0, keepdim=True) if dispersion == "shared" else VARIANCE
    variance = reference.double()
    if learned is not None:
        variance = learned.table[-1].detach().exp() + 1e-4 * reference
    exact = torch.tensor(stats.norm(center.numpy(), variance.sqrt().expand(4, 3).numpy()).logpdf(x.numpy()))
    outputs = outputs_with_mean(likelihood, center)
    torch.testing.assert_close(likelihood.log_prob(x, outputs, cells), exact, rtol=1e-6, atol=1e-6)


def test_scales_start_at_the_data_and_are_shared_as_asked() -> None:
    cells = repeat_cell(1.0, 2)
    for dispersion, n_learned in (("feature", 3), ("feature-batch", 6), ("shared", 1), ("fixed", 0)):
        likelihood = GaussianValues(plain_statistics(variance=VARIANCE), dispersion)
        assert sum(p.numel() for p in likelihood.parameters()) == n_learned
        expected = VARIANCE.mean().expand(3) if dispersion == "shared" else VARIANCE
        started = likelihood.log_variance(cells).exp().expand(2, 3)
        torch.testing.assert_close(started, expected.expand(2, 3), rtol=1e-4, atol=0)


@pytest.mark.parametrize("dispersion", ["feature", "feature-batch", "shared"])
def test_the_scale_has_a_floor(dispersion: str) -> None:
    likelihood = GaussianValues(plain_statistics(variance=VARIANCE), dispersion)
    with torch.no_grad():
        for parameter in likelihood.parameters():
            parameter.fill_(-200.0)
    reference = VARIANCE.mean().expand(3) if dispersion == "shared" else VARIANCE
    lowest = likelihood.log_variance(repeat_cell(1.0, 1)).exp().expand(1, 3)
    torch.testing.assert_close(lowest[0], 1e-4 * reference, rtol=1e-3, atol=0)


def test_a_constant_feature_counts_as_having_variance_one() -> None:
    mean = torch.tensor([5.0, 0.0, 300.0])
    rounding = torch.tensor([0.0, 0.0, 1e-6])
    likelihood = GaussianValues(plain_statistics(mean=mean, variance=rounding), "fixed")
    torch.testing.assert_close(likelihood.log_variance(repeat_cell(1.0, 1)), torch.zeros(1, 3))


def test_maximum_likelihood_of_the_shared_scale_is_the_mean_squared_error() -> None:
    case = make_case("gaussian", "shared").double()
    x = case.x / case.statistics.variance.clamp(min=1.0).sqrt()
    likelihood = GaussianValues(plain_statistics(n_features=4), "shared").double()
    center = x.mean(0).expand_as(x)
    outputs = outputs_with_mean(likelihood, center)
    optimiser = torch.optim.LBFGS(likelihood.parameters(), max_iter=50, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        value = -likelihood.log_prob(x, outputs, case.cells).mean()
        value.backward()
        return value

    optimiser.step(loss)
    expected = (x - center).square().mean()
    torch.testing.assert_close(
        likelihood.log_variance(case.cells).exp().squeeze(), expected, rtol=1e-4, atol=0
    )
    assert -loss().item() == pytest.approx(-0.5 * (math.log(2 * math.pi * expected.item()) + 1), abs=1e-6)


def test_samples_are_gaussian() -> None:
    likelihood = GaussianValues(plain_statistics(variance=VARIANCE), "fixed").double()
    center = torch.tensor([[0.0, 1.0, 200.0]], dtype=torch.float64).expand(20_000, 3)
    draws = likelihood.sample(
        outputs_with_mean(likelihood, center), repeat_cell(1.0, 20_000), torch.Generator().manual_seed(0)
    )
    for feature in range(3):
        known = stats.norm(center[0, feature].item(), VARIANCE[feature].sqrt().item())
        assert stats.kstest(draws[:, feature].numpy(), known.cdf).pvalue > 1e-3


def test_unknown_dispersion_names_the_four() -> None:
    with pytest.raises(InputError, match="'feature', 'feature-batch', 'fixed', 'shared'"):
        GaussianValues(plain_statistics(), "full")
