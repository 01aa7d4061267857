import math

import pytest
import torch
from likelihood_cases import make_case, plain_statistics, repeat_cell
from scipy import stats

from multiomics_vae.errors import InputError
from multiomics_vae.likelihoods.negative_binomial import NegativeBinomial
from multiomics_vae.likelihoods.zero_inflated_negative_binomial import ZeroInflatedNegativeBinomial


@pytest.mark.parametrize("dropout_logit", [-3.0, 0.0, 2.5])
def test_log_prob_agrees_with_the_mixture_of_scipy(dropout_logit: float) -> None:
    likelihood = ZeroInflatedNegativeBinomial(plain_statistics()).double()
    theta = torch.tensor([0.3, 2.0, 50.0], dtype=torch.float64)
    with torch.no_grad():
        likelihood.log_dispersion.table.copy_(theta.log())
    x = torch.tensor([[0.0, 0, 0], [1, 2, 30]], dtype=torch.float64)
    logits = torch.tensor([[0.0, 1.0, 2.0]], dtype=torch.float64).expand(2, 3)
    mean = torch.softmax(logits, 1) * 40.0
    pi = torch.sigmoid(torch.tensor(dropout_logit, dtype=torch.float64))
    counted = torch.tensor(stats.nbinom(n=theta.numpy(), p=(theta / (theta + mean)).numpy()).pmf(x.numpy()))
    exact = ((x == 0) * pi + (1 - pi) * counted).log()
    outputs = (logits, torch.full_like(logits, dropout_logit))
    torch.testing.assert_close(likelihood.log_prob(x, outputs, repeat_cell(40.0, 2)), exact)
    torch.testing.assert_close(likelihood.mean(outputs, repeat_cell(40.0, 2)), (1 - pi) * mean)


def test_without_dropout_it_is_the_negative_binomial() -> None:
    case, plain = make_case("zinb", "feature"), make_case("nb", "feature")
    logits, dropout = case.outputs(len(case.x))
    never = torch.full_like(dropout, -1000.0)
    torch.testing.assert_close(
        case.likelihood.log_prob(case.x, (logits, never), case.cells),
        plain.likelihood.log_prob(plain.x, (logits,), plain.cells),
    )


def test_normalized_is_the_share_before_dropout_and_dispersion_is_checked() -> None:
    case = make_case("zinb", "feature")
    logits, dropout = case.outputs(len(case.x))
    expected = NegativeBinomial(case.statistics).normalized((logits,), case.cells)
    torch.testing.assert_close(case.likelihood.normalized((logits, dropout), case.cells), expected)
    with pytest.raises(InputError, match="feature-batch"):
        ZeroInflatedNegativeBinomial(case.statistics, "cell")


def test_the_start_has_the_proportions_of_the_data_and_lacks_the_share_of_dropout() -> None:
    case = make_case("zinb", "feature").double()
    biases = case.likelihood.start_biases(case.statistics)
    start = case.likelihood.mean(tuple(bias.double().expand(len(case.x), -1) for bias in biases), case.cells)
    kept = 1.0 - 1.0 / (1.0 + math.exp(5.0))
    assert 0.993 < kept < 0.994
    torch.testing.assert_close(start.mean(0), kept * case.x.mean(0), rtol=1e-5, atol=1e-4)


def test_no_biases_give_dropout_and_the_mean_of_the_data() -> None:
    """Means before dropout add up to the depth, so means after it add up to less."""
    case = make_case("zinb", "feature").double()
    for shift in (-3.0, 0.0, 4.0):
        logits, dropout = case.outputs(len(case.x))
        outputs = (logits + shift, torch.full_like(dropout, -5.0))
        found = case.likelihood.mean(outputs, case.cells).sum(1)
        kept = 1.0 - 1.0 / (1.0 + math.exp(5.0))
        torch.testing.assert_close(found, kept * case.cells.depth)
