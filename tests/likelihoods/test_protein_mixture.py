import math

import pytest
import torch
from likelihood_cases import make_case, plain_statistics, repeat_cell, summarise
from scipy import stats

from multiomics_vae.errors import InputError
from multiomics_vae.likelihoods import CellContext
from multiomics_vae.likelihoods.protein_mixture import ProteinMixture, start_background

LOG_INCREASE = torch.tensor([[-1.0, 2.0, 4.0]], dtype=torch.float64)
BACKGROUND_LOGIT = torch.tensor([[0.5, -1.0, 2.0]], dtype=torch.float64)
OUTPUTS = (LOG_INCREASE, BACKGROUND_LOGIT)
BACKGROUND = torch.tensor([[1.0, 4.0, 9.0], [2.0, 0.5, 30.0]], dtype=torch.float64)
THETA = torch.tensor([0.8, 3.0, 20.0], dtype=torch.float64)


def _likelihood() -> ProteinMixture:
    likelihood = ProteinMixture(plain_statistics()).double()
    with torch.no_grad():
        likelihood.log_background.table.copy_(BACKGROUND.log())
        likelihood.log_dispersion.table.copy_(THETA.log())
    return likelihood


@pytest.mark.parametrize("batch", [0, 1])
def test_log_prob_agrees_with_the_mixture_of_scipy(batch: int) -> None:
    x = torch.tensor([[0.0, 0, 0], [1, 3, 12], [40, 25, 900]], dtype=torch.float64)
    background = BACKGROUND[batch]
    foreground = background * (1 + LOG_INCREASE.exp())
    pi = torch.sigmoid(BACKGROUND_LOGIT)
    low, high = (
        torch.tensor(stats.nbinom(n=THETA.numpy(), p=(THETA / (THETA + mean)).numpy()).pmf(x.numpy()))
        for mean in (background, foreground)
    )
    exact = (pi * low + (1 - pi) * high).log()
    outputs = tuple(output.expand(3, 3) for output in OUTPUTS)
    ours = _likelihood().log_prob(x, outputs, repeat_cell(1.0, 3, batch=batch))
    torch.testing.assert_close(ours, exact)


def test_normalized_is_the_mean_without_its_background_part() -> None:
    likelihood, cells = _likelihood(), repeat_cell(1.0, 1, batch=1)
    pi = torch.sigmoid(BACKGROUND_LOGIT)
    denoised = likelihood.normalized(OUTPUTS, cells)
    torch.testing.assert_close(denoised, (1 - pi) * BACKGROUND[1] * (1 + LOG_INCREASE.exp()))
    torch.testing.assert_close(likelihood.mean(OUTPUTS, cells) - denoised, pi * BACKGROUND[1])


def test_foreground_is_never_below_background() -> None:
    likelihood, cells = _likelihood(), repeat_cell(1.0, 1)
    low, high = likelihood.log_levels((torch.full((1, 3), -30.0).double(), BACKGROUND_LOGIT), cells)
    assert (high >= low).all()


def test_depth_is_not_read() -> None:
    x = torch.tensor([[3.0, 0.0, 12.0]], dtype=torch.float64)
    shallow, deep = (_likelihood().log_prob(x, OUTPUTS, repeat_cell(depth, 1)) for depth in (1.0, 1e4))
    assert torch.equal(shallow, deep)


def test_prior_is_the_normal_density_of_log_background() -> None:
    statistics = plain_statistics(
        log1p_mean=torch.tensor([[2.0, 3.0, 4.0], [1.0, 3.0, 5.0]]),
        log1p_sd=torch.tensor([[0.5, 1.0, 0.0], [0.2, 0.3, 0.4]]),
    )
    likelihood = ProteinMixture(statistics).double()
    start = torch.expm1(statistics.log1p_mean - statistics.log1p_sd).double().log()
    torch.testing.assert_close(likelihood.log_background.table.detach(), start, rtol=1e-5, atol=1e-5)
    at_start = likelihood.log_prior()
    with torch.no_grad():
        likelihood.log_background.table.add_(0.3)
    prior_sd = statistics.log1p_sd.clamp(min=0.1).double()
    exact = stats.norm(start.numpy(), prior_sd.numpy()).logpdf(start.numpy() + 0.3).sum()
    assert likelihood.log_prior().item() == pytest.approx(exact, rel=1e-5)
    assert at_start > likelihood.log_prior()


def test_background_starts_positive_for_rare_and_unseen_proteins() -> None:
    log1p_mean = torch.tensor([[0.1, 0.0, 3.0]]).expand(2, -1)
    log1p_sd = torch.tensor([[0.4, 0.0, 0.5]]).expand(2, -1)
    started = start_background(plain_statistics(log1p_mean=log1p_mean, log1p_sd=log1p_sd))
    expected = torch.tensor([0.1 * math.expm1(0.1), 1e-3, math.expm1(2.5)])
    torch.testing.assert_close(started, expected.expand(2, -1))


def test_training_tells_foreground_from_background() -> None:
    """Half of the cells carry the protein: the true levels and the true cells are found."""
    generator = torch.Generator().manual_seed(0)
    n_cells = 2000
    positive = torch.arange(n_cells) % 4 < 2
    rate = torch.where(positive, 120.0, 6.0).unsqueeze(1)
    gamma = torch._standard_gamma(torch.full((n_cells, 1), 8.0), generator=generator) / 8.0
    x = torch.poisson(rate * gamma, generator=generator)
    batch = torch.arange(n_cells) % 2
    statistics = summarise(x, x.sum(1).clamp(min=1), batch)
    likelihood = ProteinMixture(statistics)
    outputs = [bias.clone().requires_grad_() for bias in likelihood.start_biases(statistics)]
    optimiser = torch.optim.Adam([*outputs, *likelihood.parameters()], lr=0.05)
    cells = CellContext(torch.ones(n_cells), batch)
    for _ in range(250):
        optimiser.zero_grad()
        expanded = tuple(output.expand(n_cells, 1) for output in outputs)
        loss = -likelihood.log_prob(x, expanded, cells).mean() - likelihood.log_prior() / n_cells
        loss.backward()
        optimiser.step()
    low, high = (level.exp().mean().item() for level in likelihood.log_levels(expanded, cells))
    assert low == pytest.approx(6.0, rel=0.1)
    assert high == pytest.approx(120.0, rel=0.1)
    assert torch.sigmoid(outputs[1]).item() == pytest.approx(0.5, abs=0.05)


def test_dispersion_is_checked() -> None:
    with pytest.raises(InputError, match="'protein_mixture'"):
        ProteinMixture(make_case("protein_mixture", "feature").statistics, "fixed")
