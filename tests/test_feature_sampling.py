"""A step that looks at some features only: loss and gradient keep their expectation."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from evaluated_objectives import WEIGHTS, fix_noise, number
from handmade_models import data_of, module_for, table
from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.data.loader import make_minibatch
from multiomics_vae.errors import InputError
from multiomics_vae.kernels import FeatureSample, SparseRows, bernoulli_log_likelihood
from multiomics_vae.loss_terms import LossTerms
from multiomics_vae.module import MultimodalModule
from multiomics_vae.objective import EXACT, Economy, Objective, ObjectiveConfig
from multiomics_vae.training.config import TrainingConfig
from small_models import make_cells, make_model, register, train

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:mudata", "ignore::UserWarning:anndata")


def cells_with_peaks(n_cells: int = 14, n_peaks: int = 6) -> MultimodalData:
    rng = np.random.default_rng(0)
    counts, peaks = rng.poisson(2.0, (n_cells, 5)), rng.random((n_cells, n_peaks)) < 0.4
    without = np.arange(n_cells) % 5 != 0
    return data_of(
        [table(counts, sparse=True), table(peaks, present=without, sparse=True)], ["nb", "bernoulli"]
    )


def loss_and_gradients(
    module: MultimodalModule, data: MultimodalData, economy: Economy, kind: Any, seed: int = 0
) -> tuple[LossTerms, list[Tensor]]:
    objective = Objective(ObjectiveConfig(subset_objective=kind), WEIGHTS[:2], 50)
    noise = torch.Generator().manual_seed(seed)
    terms = objective(module, make_minibatch(data, np.arange(data.n_cells)), 0.7, noise, economy)
    found = torch.autograd.grad(terms.loss, list(module.parameters()), allow_unused=True)
    return terms, [
        torch.zeros_like(p) if g is None else g for p, g in zip(module.parameters(), found, strict=True)
    ]


# --- the sample itself -------------------------------------------------------------------------------


def test_entries_of_a_sample_are_the_columns_of_the_data() -> None:
    rng = np.random.default_rng(1)
    dense = torch.from_numpy((rng.random((7, 20)) < 0.3) * rng.random((7, 20)))
    dense[2] = 0.0
    sample = FeatureSample.draw(20, 6, torch.Generator().manual_seed(3))
    taken = sample.entries(SparseRows.from_dense(dense))
    taken.validate()
    torch.testing.assert_close(taken.to_dense(), dense[:, sample.features])


def test_every_feature_is_drawn_equally_often_and_once() -> None:
    generator = torch.Generator().manual_seed(0)
    counts = torch.zeros(12)
    for _ in range(2000):
        features = FeatureSample.draw(12, 5, generator).features
        assert bool((features.diff() > 0).all())
        counts[features] += 1
    expected = 2000 * 5 / 12
    # Σ (o − e)²/e of sampling without replacement is (1 − n/F) F/(F − 1) times a chi-square of 11 degrees.
    assert float(((counts - expected) ** 2 / expected).sum()) < 31.3 * (7 / 12) * (12 / 11)  # p = .001


@pytest.mark.parametrize("n", [0, 13])
def test_numbers_that_cannot_be_drawn(n: int) -> None:
    with pytest.raises(InputError, match=f"1 to 12 can be drawn, not {n}"):
        FeatureSample.draw(12, n, torch.Generator())


def test_gradient_of_taken_rows() -> None:
    sample = FeatureSample(torch.tensor([0, 2, 3]), 5)
    table_of = torch.randn(5, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: sample.rows_of(t).square(), table_of)


def test_kernel_averages_exactly_over_all_samples() -> None:
    """Mean over the C(6, n) samples of value and gradients, in float64."""
    generator = torch.Generator().manual_seed(0)
    hidden, weight = (torch.randn(k, 3, generator=generator, dtype=torch.float64) for k in (4, 6))
    bias, offset = (torch.randn(k, generator=generator, dtype=torch.float64) for k in (6, 4))
    data = SparseRows.from_dense((torch.rand(4, 6, generator=generator) < 0.4).double())
    leaves = [tensor.requires_grad_() for tensor in (hidden, weight, bias, offset)]

    def run(sample: FeatureSample) -> list[Tensor]:
        fused = bernoulli_log_likelihood(
            hidden, sample.rows_of(weight), sample.rows_of(bias), sample.entries(data), offset=offset
        )
        total = fused.total * sample.scale
        return [total.detach(), *torch.autograd.grad(total, leaves)]

    exact = run(FeatureSample(torch.arange(6), 6))
    for n in (1, 2, 5):
        samples = [run(FeatureSample(torch.tensor(each), 6)) for each in combinations(range(6), n)]
        for whole, *parts in zip(exact, *samples, strict=True):
            torch.testing.assert_close(torch.stack(parts).mean(0), whole, rtol=1e-12, atol=1e-12)


# --- the objective -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["within", "cross", "none"])
def test_loss_and_gradient_average_exactly_over_all_samples(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fix_noise(monkeypatch)
    data = cells_with_peaks()
    module = module_for(data, decoder="mlp", weight_precision=0.5)
    terms, gradients = loss_and_gradients(module, data, EXACT, kind)
    losses, sums = [], [torch.zeros_like(g) for g in gradients]
    for each in combinations(range(6), 2):
        sample = FeatureSample(torch.tensor(each), 6)
        monkeypatch.setattr(FeatureSample, "draw", classmethod(lambda *_, s=sample: s))
        estimated, parts = loss_and_gradients(module, data, Economy(n_features=2), kind)
        losses.append(number(estimated.loss))
        sums = [total + part / 15 for total, part in zip(sums, parts, strict=True)]
    assert np.std(losses) > 0.1
    assert np.mean(losses) == pytest.approx(number(terms.loss), rel=1e-5)
    for found, expected in zip(sums, gradients, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=2e-5)


def test_loss_and_gradient_are_unbiased_by_monte_carlo(monkeypatch: pytest.MonkeyPatch) -> None:
    fix_noise(monkeypatch)
    data = cells_with_peaks(n_peaks=40)
    module = module_for(data)
    terms, gradients = loss_and_gradients(module, data, EXACT, "within")
    drawn = []
    for seed in range(300):
        estimated, parts = loss_and_gradients(module, data, Economy(n_features=10), "within", seed)
        drawn.append(torch.cat([estimated.loss.detach().reshape(1), *(part.reshape(-1) for part in parts)]))
    draws = torch.stack(drawn).double()
    expected = torch.cat([terms.loss.detach().reshape(1), *(g.reshape(-1) for g in gradients)]).double()
    error = draws.std(0) / 300**0.5
    z = (draws.mean(0) - expected) / error.clamp(min=1e-5)
    assert float(z[0].abs()) < 4
    assert float(z.abs().max()) < 5
    assert float((error > 1e-5).double().mean()) > 0.3  # most parameters do feel the sampling


def test_joint_and_subsets_share_the_features_and_normalised_likelihoods_keep_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = cells_with_peaks()
    module = module_for(data)
    draw, drawn = FeatureSample.draw, []
    monkeypatch.setattr(FeatureSample, "draw", lambda *a: drawn.append(a[0]) or draw(*a))
    loss_and_gradients(module, data, Economy(n_features=2), "cross")
    assert drawn == [6]
    loss_and_gradients(module, data, Economy(n_features=6), "cross")
    assert drawn == [6]
    minibatch = make_minibatch(data, np.arange(4))
    noise = torch.Generator()
    assert module.draw_features(0, minibatch.modalities[0], minibatch.covariates, 2, noise) is None


def test_more_features_than_there_are_means_all_of_them() -> None:
    data = cells_with_peaks()
    module = module_for(data)
    whole, gradients = loss_and_gradients(module, data, EXACT, "within")
    same, others = loss_and_gradients(module, data, Economy(n_features=1000), "within")
    assert torch.equal(whole.loss, same.loss)
    assert all(torch.equal(a, b) for a, b in zip(gradients, others, strict=True))


# --- training ----------------------------------------------------------------------------------------


def test_training_on_samples_is_reproducible_and_validates_on_all() -> None:
    mdata = register(make_cells(n_cells=33, n_features=12))

    def run(**choices: Any) -> Any:
        return train(make_model(mdata), 3, early_stopping=False, **choices)

    first, again, whole = run(n_features_per_step=4), run(n_features_per_step=4), run()
    assert first.history.to_frame().equals(again.history.to_frame())
    assert first.history["atac_log_likelihood_train"].iloc[0] != pytest.approx(
        whole.history["atac_log_likelihood_train"].iloc[0], rel=1e-3
    )
    # With hardly any learning the held-out ELBO is that of training on all features.
    slow = [run(learning_rate=1e-9, n_features_per_step=n).history["elbo_validation"] for n in (4, None)]
    np.testing.assert_allclose(slow[0], slow[1], rtol=1e-6)
    assert np.isfinite(first.get_elbo()).all()


@pytest.mark.parametrize("value", [0, -5, 2.5, "100", True])
def test_numbers_of_features_that_make_no_sense(value: Any) -> None:
    with pytest.raises(InputError, match=r"n_features_per_step must be a whole number.*10_000"):
        TrainingConfig(n_features_per_step=value)
