import pytest
import torch
from likelihood_cases import make_case, plain_statistics, repeat_cell

from multiomics_vae.errors import InputError
from multiomics_vae.likelihoods.categorical import Categorical

UNEQUAL = torch.tensor([3, 2, 1])


def _likelihood() -> Categorical:
    return Categorical(plain_statistics(n_categories=UNEQUAL)).double()


def _logits(n_rows: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n_rows, 9, generator=generator, dtype=torch.float64)


def test_log_prob_agrees_with_torch_distributions_over_the_possible_codes() -> None:
    likelihood, logits = _likelihood(), _logits(3)
    x = torch.tensor([[0.0, 0, 0], [2, 1, 0], [1, 1, 0]], dtype=torch.float64)
    ours = likelihood.log_prob(x, (logits,), repeat_cell(1.0, 3))
    table = logits.view(3, 3, 3)
    for feature, n_codes in enumerate(UNEQUAL.tolist()):
        known = torch.distributions.Categorical(logits=table[:, feature, :n_codes])
        torch.testing.assert_close(ours[:, feature], known.log_prob(x[:, feature]))


def test_impossible_codes_are_never_predicted_drawn_or_given_a_gradient() -> None:
    likelihood = _likelihood()
    logits = torch.full((500, 3, 3), -5.0, dtype=torch.float64)
    logits[:, 1, 2] = logits[:, 2, 1:] = 50.0
    leaf = logits.view(500, 9).clone().requires_grad_()
    cells = repeat_cell(1.0, 500)
    draws = likelihood.sample((leaf.detach(),), cells, torch.Generator().manual_seed(0))
    assert (draws < UNEQUAL).all()
    assert (likelihood.mean((leaf.detach(),), cells) < UNEQUAL).all()
    likelihood.log_prob(draws, (leaf,), cells).sum().backward()
    gradient = leaf.grad.view(500, 3, 3)
    assert torch.isfinite(gradient).all()
    assert (gradient[:, 1, 2] == 0).all()
    assert (gradient[:, 2] == 0).all()
    assert gradient[:, 0].abs().sum() > 0


def test_mean_is_the_most_probable_code() -> None:
    case = make_case("categorical", "feature")
    outputs = case.outputs(len(case.x))
    log_prob = case.likelihood.category_log_probs(outputs)
    mean = case.likelihood.mean(outputs, case.cells)
    best = case.likelihood.log_prob(mean, outputs, case.cells)
    torch.testing.assert_close(best, log_prob.amax(-1))


@pytest.mark.parametrize("code", [2.0, 7.0, -1.0, 0.5])
def test_a_code_that_is_no_category_is_refused_with_its_place(code: float) -> None:
    x = torch.zeros(2, 3, dtype=torch.float64)
    x[1, 1] = code
    with pytest.raises(InputError, match=f"Row 1, feature 1 has the code {code:g}.*codes 0 to 1"):
        _likelihood().log_prob(x, (_logits(2),), repeat_cell(1.0, 2))


def test_a_feature_without_categories_counts_as_having_one() -> None:
    likelihood = Categorical(plain_statistics(n_categories=torch.tensor([0, 2, 2])))
    assert likelihood.output_widths == (6,)
    cells = repeat_cell(1.0, 1)
    assert likelihood.log_prob(torch.zeros(1, 3), (torch.randn(1, 6),), cells)[0, 0] == 0
