"""What holds for every likelihood in the registry."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from likelihood_cases import EVERY_LIKELIHOOD, make_case, plain_statistics, repeat_cell, take_cells

from multiomics_vae.errors import InputError
from multiomics_vae.kernels import softmax_normaliser
from multiomics_vae.likelihoods import LIKELIHOODS, FeaturePart

every_likelihood = pytest.mark.parametrize(("name", "dispersion"), EVERY_LIKELIHOOD)
N_DRAWS = 20_000
COVERAGE = torch.tensor([12.0, 1.0, 5.0])


def test_registry_holds_the_eight_likelihoods() -> None:
    assert set(LIKELIHOODS) >= {
        "nb", "zinb", "poisson", "bernoulli", "gaussian", "protein_mixture", "beta_binomial", "categorical",
    }  # fmt: skip


@every_likelihood
@pytest.mark.parametrize("pattern", ["moderate", "high", "low", "alternating"])
def test_log_prob_and_gradients_are_finite(name: str, dispersion: str, pattern: str) -> None:
    case = make_case(name, dispersion)
    outputs = list(case.outputs(len(case.x)))
    for i, output in enumerate(outputs):
        sign = torch.ones_like(output)
        sign[:, ::2] = -1.0
        extreme = {
            "moderate": output,
            "high": 30.0 + 0 * output,
            "low": -30.0 + 0 * output,
            "alternating": 30 * sign,
        }
        outputs[i] = extreme[pattern].requires_grad_()
    value = case.likelihood.log_prob(case.x, tuple(outputs), case.cells)
    assert value.shape == case.x.shape
    assert value.dtype == torch.float32
    assert torch.isfinite(value).all()
    if case.likelihood.support != "real":
        assert (value <= 1e-5).all()
    value.sum().backward()
    leaves = [*outputs, *case.likelihood.parameters()]
    assert all(torch.isfinite(leaf.grad).all() for leaf in leaves)
    sample = case.likelihood.sample(tuple(outputs), case.cells, torch.Generator().manual_seed(0))
    assert torch.isfinite(sample).all()
    assert torch.isfinite(case.likelihood.mean(tuple(outputs), case.cells)).all()
    assert torch.isfinite(case.likelihood.normalized(tuple(outputs), case.cells)).all()


@every_likelihood
def test_gradients_agree_with_finite_differences(name: str, dispersion: str) -> None:
    case = make_case(name, dispersion, jitter=0.3).double()
    x, cells = case.rows(6)
    outputs = tuple(output.requires_grad_() for output in case.outputs(6))
    parameters = tuple(case.likelihood.parameters())
    # gradcheck perturbs its inputs in place, so the parameters need not be passed on
    assert torch.autograd.gradcheck(
        lambda *leaves: case.likelihood.log_prob(x, leaves[: len(outputs)], cells), (*outputs, *parameters)
    )


@every_likelihood
def test_log_prob_as_it_is_has_the_value_and_leaves_the_parameters_alone(name: str, dispersion: str) -> None:
    case = make_case(name, dispersion, jitter=0.3)
    outputs = tuple(output.requires_grad_() for output in case.outputs(len(case.x)))
    free = case.likelihood.log_prob(case.x, outputs, case.cells)
    held = case.likelihood.log_prob_as_it_is(case.x, outputs, case.cells)
    assert torch.equal(held, free)
    parameters = list(case.likelihood.parameters())
    of_free = torch.autograd.grad(free.sum(), [*outputs, *parameters], allow_unused=True)
    of_held = torch.autograd.grad(held.sum(), [*outputs, *parameters], allow_unused=True)
    for one, other in zip(of_held[: len(outputs)], of_free[: len(outputs)], strict=True):
        assert torch.equal(one, other)
    assert all(gradient is None for gradient in of_held[len(outputs) :])
    assert all(gradient is not None for gradient in of_free[len(outputs) :])


@every_likelihood
def test_log_prior_is_absent_or_a_differentiable_scalar(name: str, dispersion: str) -> None:
    case = make_case(name, dispersion, jitter=0.3).double()
    prior = case.likelihood.log_prior()
    if prior is None:
        return
    assert prior.shape == ()
    grads = torch.autograd.grad(prior, list(case.likelihood.parameters()), allow_unused=True)
    assert any(grad is not None and grad.abs().sum() > 0 for grad in grads)


@every_likelihood
def test_start_biases_are_the_marginal_model(name: str, dispersion: str) -> None:
    case = make_case(name, dispersion)
    biases = case.likelihood.start_biases(case.statistics)
    assert tuple(len(bias) for bias in biases) == case.likelihood.output_widths
    assert case.likelihood.dispersion == dispersion
    outputs = tuple(bias.expand(len(case.x), -1) for bias in biases)
    if case.likelihood.support == "codes":
        expected = -case.statistics.n_categories.float().log().expand_as(case.x)
        actual = case.likelihood.log_prob(case.x, outputs, case.cells)
        torch.testing.assert_close(actual, expected)
    else:
        mean = case.likelihood.mean(outputs, case.cells).mean(0)
        torch.testing.assert_close(mean, case.x.mean(0), rtol=0.05, atol=0.02)


def _one_cell_many_times(name: str, dispersion: str, n_rows: int):
    """A likelihood of three features, and outputs and cells that repeat one cell."""
    case = make_case(name, dispersion)
    likelihood = LIKELIHOODS[name](plain_statistics(), dispersion).double()
    with torch.no_grad():
        for parameter in likelihood.parameters():
            parameter.add_(torch.linspace(-0.5, 0.5, parameter.numel()).view(parameter.shape))
    case = replace(case, likelihood=likelihood)
    outputs = tuple(output.double().expand(n_rows, -1) for output in case.outputs(1, scale=0.7))
    coverage = COVERAGE if likelihood.support == "fractions" else None
    return likelihood, outputs, repeat_cell(8.0, n_rows, coverage, batch=1)


def _grid(support: str) -> torch.Tensor:
    if support == "real":
        return torch.linspace(-40.0, 40.0, 40_001, dtype=torch.float64)
    end = {"counts": 1500, "binary": 2, "codes": 3, "fractions": 13}[support]
    return torch.arange(end, dtype=torch.float64)


@every_likelihood
def test_probability_adds_up_to_one_and_gives_the_mean(name: str, dispersion: str) -> None:
    grid = _grid(LIKELIHOODS[name].support)
    likelihood, outputs, cells = _one_cell_many_times(name, dispersion, len(grid))
    x = grid.unsqueeze(1).expand(-1, 3)
    step = (grid[1] - grid[0]).item()
    if cells.coverage is None:
        density = likelihood.log_prob(x, outputs, cells).exp()
    else:
        density = likelihood.log_prob(x.clamp(max=COVERAGE), outputs, cells).exp() * (x <= COVERAGE)
    torch.testing.assert_close(density.sum(0) * step, torch.ones(3, dtype=torch.float64), rtol=0, atol=1e-6)
    mean = likelihood.mean(outputs, cells)[0]
    if likelihood.support == "codes":
        assert torch.equal(grid[density.argmax(0)], mean)
    else:
        torch.testing.assert_close((density * x).sum(0) * step, mean, rtol=1e-5, atol=1e-5)
    variance = likelihood.variance(outputs, cells)[0]
    if likelihood.support == "codes":
        torch.testing.assert_close(variance, 1.0 - density.amax(0))
    else:
        squares = (density * (x - mean).square()).sum(0) * step
        torch.testing.assert_close(squares, variance, rtol=1e-4, atol=1e-5)


@every_likelihood
def test_samples_follow_the_mean_and_the_log_prob(name: str, dispersion: str) -> None:
    likelihood, outputs, cells = _one_cell_many_times(name, dispersion, N_DRAWS)
    draws = likelihood.sample(outputs, cells, torch.Generator().manual_seed(5))
    assert draws.shape == (N_DRAWS, 3)
    if likelihood.support != "codes":
        error = draws.std(0) / math.sqrt(N_DRAWS)
        assert ((draws.mean(0) - likelihood.mean(outputs, cells)[0]).abs() < 4.5 * error).all()
    if likelihood.support == "real":
        log_density = likelihood.log_prob(draws, outputs, cells)
        # E log p = −entropy of a Gaussian, ½ log 2πe + log sd
        entropy = 0.5 * math.log(2 * math.pi * math.e) + draws.std(0).log()
        torch.testing.assert_close(-log_density.mean(0), entropy, rtol=0, atol=0.02)
        return
    values = _grid(likelihood.support)[:6]
    for value in values:
        row = torch.full((1, 3), value.item(), dtype=torch.float64)
        possible = row <= COVERAGE if cells.coverage is not None else torch.ones_like(row, dtype=torch.bool)
        limited = torch.minimum(row, COVERAGE.double()) if cells.coverage is not None else row
        first = take_cells(cells, torch.tensor([0]))
        probability = likelihood.log_prob(limited, tuple(output[:1] for output in outputs), first).exp()
        probability = (probability * possible)[0]
        frequency = (draws == value).double().mean(0)
        error = (probability * (1 - probability) / N_DRAWS).sqrt()
        assert ((frequency - probability).abs() <= 4.5 * error + 1e-9).all(), value


@every_likelihood
def test_sampling_reads_only_its_generator(name: str, dispersion: str) -> None:
    likelihood, outputs, cells = _one_cell_many_times(name, dispersion, 50)
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first = likelihood.sample(outputs, cells, torch.Generator().manual_seed(1))
    again = likelihood.sample(outputs, cells, torch.Generator().manual_seed(1))
    other = likelihood.sample(outputs, cells, torch.Generator().manual_seed(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())
    assert np.array_equal(numpy_before, np.random.get_state()[1])  # noqa: NPY002


@every_likelihood
def test_cells_do_not_see_each_other(name: str, dispersion: str) -> None:
    case = make_case(name, dispersion, jitter=0.3)
    outputs = case.outputs(len(case.x))
    order = torch.randperm(len(case.x), generator=torch.Generator().manual_seed(0))[:50]
    cells = take_cells(case.cells, order)
    moved = tuple(output[order] for output in outputs)
    for all_rows, some_rows in (
        (
            case.likelihood.log_prob(case.x, outputs, case.cells),
            case.likelihood.log_prob(case.x[order], moved, cells),
        ),
        (case.likelihood.mean(outputs, case.cells), case.likelihood.mean(moved, cells)),
        (case.likelihood.normalized(outputs, case.cells), case.likelihood.normalized(moved, cells)),
    ):
        torch.testing.assert_close(all_rows[order], some_rows)


@every_likelihood
@pytest.mark.parametrize("features", [[2, 0, 2], [1], [3, 2, 1, 0], []])
def test_a_part_of_the_features_is_answered_from_its_outputs(
    name: str, dispersion: str, features: list[int]
) -> None:
    case = make_case(name, dispersion, jitter=0.3).double()
    x, cells = case.rows(20)
    outputs = case.outputs(20)
    chosen = torch.tensor(features, dtype=torch.int64)
    # The outputs as those of a layer that reads a unit vector a cell.
    normaliser = None
    if case.likelihood.normalised_over_features:
        normaliser = softmax_normaliser(torch.eye(20, dtype=x.dtype), outputs[0].T, torch.zeros(4).double())
    part = FeaturePart(chosen, normaliser)
    columns = case.likelihood.output_columns(chosen)
    some = tuple(output[:, columns] for output in outputs)
    uniform = torch.rand(20, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = case.likelihood.from_uniform(uniform[:, chosen], some, cells, part)
    torch.testing.assert_close(found, case.likelihood.from_uniform(uniform, outputs, cells)[:, chosen])
    for ask in (case.likelihood.mean, case.likelihood.variance, case.likelihood.normalized):
        torch.testing.assert_close(ask(some, cells, part), ask(outputs, cells)[:, chosen])


@pytest.mark.parametrize("name", [name for name in LIKELIHOODS if LIKELIHOODS[name].normalised_over_features])
def test_a_part_of_a_softmax_needs_the_normaliser_of_all(name: str) -> None:
    case = make_case(name, "feature")
    _, cells = case.rows(2)
    some = tuple(output[:, :1] for output in case.outputs(2))
    with pytest.raises(InputError, match=r"normaliser of all.*softmax_normaliser\(hidden, weight, bias\)"):
        case.likelihood.normalized(some, cells, FeaturePart(torch.tensor([0])))


@every_likelihood
def test_a_row_per_batch_is_read_only_by_that_batch(name: str, dispersion: str) -> None:
    case = make_case(name, dispersion)
    first = case.cells.batch == 0
    cells = take_cells(case.cells, first.nonzero().squeeze(1))
    outputs = case.outputs(int(first.sum()))
    value = case.likelihood.log_prob(case.x[first], outputs, cells).sum()
    if not value.requires_grad:
        value = value + sum(output.requires_grad_().sum() for output in outputs)
    value.backward()
    tables = [table for table in case.likelihood.parameters() if table.ndim == 2 and table.shape[0] == 2]
    assert tables or dispersion != "feature-batch"
    for table in tables:
        assert table.grad[0].abs().sum() > 0
        assert table.grad[1].abs().sum() == 0


@every_likelihood
def test_single_precision_agrees_with_double(name: str, dispersion: str) -> None:
    case = make_case(name, dispersion, jitter=0.3)
    outputs = case.outputs(len(case.x), scale=2.0)
    single = case.likelihood.log_prob(case.x, outputs, case.cells)
    assert all(p.dtype == torch.float32 for p in case.likelihood.parameters())
    double = case.double()
    exact = double.likelihood.log_prob(double.x, tuple(o.double() for o in outputs), double.cells)
    assert exact.dtype == torch.float64
    torch.testing.assert_close(single.double(), exact, rtol=1e-4, atol=1e-4)


@every_likelihood
def test_state_dict_round_trip(name: str, dispersion: str) -> None:
    case = make_case(name, dispersion, jitter=0.5)
    fresh = LIKELIHOODS[name](case.statistics, dispersion)
    outputs = case.outputs(len(case.x))
    expected = case.likelihood.log_prob(case.x, outputs, case.cells)
    if list(case.likelihood.parameters()):
        assert not torch.equal(fresh.log_prob(case.x, outputs, case.cells), expected)
    fresh.load_state_dict(case.likelihood.state_dict())
    assert torch.equal(fresh.log_prob(case.x, outputs, case.cells), expected)


@pytest.mark.parametrize("name", list(LIKELIHOODS))
def test_unknown_dispersion_is_refused_with_the_allowed_ones(name: str) -> None:
    with pytest.raises(InputError, match=rf"{name}.*'gene'.*Allowed: .*'feature'.*dispersion=\"feature\""):
        LIKELIHOODS[name](plain_statistics(), "gene")


def test_misspelt_dispersion_is_guessed() -> None:
    with pytest.raises(InputError, match="Did you mean 'feature-batch'"):
        LIKELIHOODS["nb"](plain_statistics(), "feature_batch")
