"""A step that looks at some features only: loss and gradient keep their expectation."""

from __future__ import annotations

from itertools import product
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
from multiomics_vae.kernels import FeatureSample, SparseRows, chances_by_size
from multiomics_vae.loss_terms import LossTerms
from multiomics_vae.module import MultimodalModule
from multiomics_vae.objective import EXACT, Economy, Objective, ObjectiveConfig
from multiomics_vae.training.chances import feature_chances
from multiomics_vae.training.config import TrainingConfig
from multiomics_vae.training.drawn_ahead import draws_ahead
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
    sample = FeatureSample.draw(torch.full((20,), 0.3), torch.Generator().manual_seed(3))
    taken = sample.entries(SparseRows.from_dense(dense))
    taken.validate()
    torch.testing.assert_close(taken.to_dense(), dense[:, sample.features])


def test_every_feature_is_drawn_by_its_chance_and_independently() -> None:
    generator, chances = torch.Generator().manual_seed(0), torch.linspace(0.05, 1.0, 20)
    drawn = torch.zeros(4000, 20)
    for one in drawn:
        sample = FeatureSample.draw(chances, generator)
        assert bool((sample.features.diff() > 0).all())
        assert sample.chances is not None
        assert torch.equal(sample.chances, chances[sample.features])
        one[sample.features] = 1
    error = (chances * (1 - chances) / 4000).sqrt()
    assert bool(((drawn.mean(0) - chances).abs() <= 4 * error).all())
    together = torch.cov(drawn[:, :-1].T)  # the last is certain
    alone = torch.diag(together)
    correlation = together / (alone * alone.unsqueeze(1)).sqrt() - torch.eye(19)
    assert float(correlation.abs().max()) < 4.5 / 4000**0.5


@pytest.mark.parametrize("n", [1, 3, 7, 20])
def test_chances_are_in_proportion_to_sizes_and_add_up(n: int) -> None:
    sizes = torch.cat([torch.linspace(0.1, 1.0, 17), torch.tensor([30.0, 5.0, 900.0])])
    chances = chances_by_size(sizes, n)
    assert float(chances.sum()) == pytest.approx(n, rel=1e-5)
    assert float(chances.max()) <= 1.0
    uncertain = chances < 1.0
    ratio = (chances / sizes)[uncertain]
    assert not len(ratio) or float(ratio.max() / ratio.min()) == pytest.approx(1.0, rel=1e-4)
    # None is certain that could be left to chance.
    if len(ratio):
        assert bool((sizes[~uncertain] * ratio[0] >= 1.0 - 1e-5).all())


def test_drawing_by_size_varies_less_than_drawing_alike() -> None:
    """Variance of a Horvitz-Thompson sum, Σ t² (1/π − 1), whose terms are known up to a factor."""
    generator = torch.Generator().manual_seed(0)
    sizes = torch.randn(1000, generator=generator).exp()
    terms = sizes * (0.5 + torch.rand(1000, generator=generator))
    by_size, alike = chances_by_size(sizes, 100), chances_by_size(torch.ones(1000), 100)
    expected = [float((terms**2 * (1 / chances - 1)).sum()) for chances in (by_size, alike)]
    assert expected[0] < 0.5 * expected[1]
    sums = []
    for _ in range(2000):
        sample = FeatureSample.draw(by_size, generator)
        sums.append(float((terms[sample.features] / sample.chances).sum()))
    assert np.mean(sums) == pytest.approx(float(terms.sum()), abs=4 * (expected[0] / 2000) ** 0.5)
    assert np.var(sums) == pytest.approx(expected[0], rel=0.15)


@pytest.mark.parametrize("n", [0, 13])
def test_numbers_that_cannot_be_drawn(n: int) -> None:
    with pytest.raises(InputError, match=f"1 to 12 can be drawn, not {n}"):
        chances_by_size(torch.ones(12), n)


def test_sizes_must_be_positive() -> None:
    with pytest.raises(InputError, match="must be positive, and one is -2"):
        chances_by_size(torch.tensor([1.0, -2.0]), 1)


def test_gradient_of_taken_rows() -> None:
    sample = FeatureSample(torch.tensor([0, 2, 3]), 5)
    table_of = torch.randn(5, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: sample.rows_of(t).square(), table_of)


# --- the objective -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["within", "cross", "none"])
def test_loss_and_gradient_average_exactly_over_all_samples(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fix_noise(monkeypatch)
    data = cells_with_peaks()
    module = module_for(data, decoder="mlp", weight_precision=0.5)
    terms, gradients = loss_and_gradients(module, data, EXACT, kind)
    chances = torch.tensor([0.5, 1.0, 0.8, 1.0, 1.0]), torch.tensor([1.0, 0.7, 1.0, 0.4, 1.0, 1.0])
    loss, losses, sums = 0.0, [], [torch.zeros_like(g) for g in gradients]
    for each in product((0.0, 1.0), repeat=4):  # those that are not certain: two genes and two peaks
        drawn = [chance.clone() for chance in chances]
        for one, place, answer in zip((0, 0, 1, 1), (0, 2, 1, 3), each, strict=True):
            drawn[one][place] = answer
        probability = float(
            torch.cat([torch.where(d > 0, c, 1 - c) for c, d in zip(chances, drawn, strict=True)]).prod()
        )
        samples = {
            len(c): FeatureSample(d.nonzero().squeeze(1), len(c), c[d > 0])
            for c, d in zip(chances, drawn, strict=True)
        }
        monkeypatch.setattr(FeatureSample, "draw", classmethod(lambda *a, s=samples: s[len(a[1])]))
        estimated, parts = loss_and_gradients(module, data, Economy(chances=chances), kind)
        losses.append(number(estimated.loss))
        loss += probability * losses[-1]
        sums = [total + probability * part for total, part in zip(sums, parts, strict=True)]
    assert np.std(losses) > 0.1
    assert loss == pytest.approx(number(terms.loss), rel=1e-5)
    for found, expected in zip(sums, gradients, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=2e-5)


def test_loss_and_gradient_are_unbiased_by_monte_carlo(monkeypatch: pytest.MonkeyPatch) -> None:
    fix_noise(monkeypatch)
    data = cells_with_peaks(n_peaks=40)
    module = module_for(data)
    terms, gradients = loss_and_gradients(module, data, EXACT, "within")
    chances = torch.tensor([0.4, 0.9, 1.0, 0.6, 0.5]), chances_by_size(torch.linspace(1.0, 4.0, 40), 10)
    drawn = []
    for seed in range(300):
        estimated, parts = loss_and_gradients(module, data, Economy(chances=chances), "within", seed)
        drawn.append(torch.cat([estimated.loss.detach().reshape(1), *(part.reshape(-1) for part in parts)]))
    draws = torch.stack(drawn).double()
    expected = torch.cat([terms.loss.detach().reshape(1), *(g.reshape(-1) for g in gradients)]).double()
    error = draws.std(0) / 300**0.5
    z = (draws.mean(0) - expected) / error.clamp(min=1e-5)
    assert float(z[0].abs()) < 4
    assert float(z.abs().max()) < 5
    assert float((error > 1e-5).double().mean()) > 0.3  # most parameters do feel the sampling


def test_joint_and_subsets_share_the_features_and_shares_are_among_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = cells_with_peaks()
    module = module_for(data)
    draw, drawn = FeatureSample.draw, []
    monkeypatch.setattr(FeatureSample, "draw", lambda *a: drawn.append(len(a[0])) or draw(*a))
    loss_and_gradients(module, data, Economy(chances=(torch.full((5,), 0.5), torch.ones(6))), "cross")
    assert drawn == [5, 6]
    loss_and_gradients(module, data, Economy(chances=(None, torch.ones(6))), "cross")
    assert drawn == [5, 6, 6]
    minibatch = make_minibatch(data, np.arange(4))
    genes, noise = minibatch.modalities[0], torch.Generator()
    chances = torch.tensor([1.0, 0.0, 0.5, 1.0, 0.0])
    part = module.draw_features(0, genes, minibatch.covariates, chances, noise)
    assert part is not None
    assert part.drawn is not None
    assert part.drawn.whole is not None
    assert len(part.drawn.whole.weight) == 5
    assert torch.equal(part.drawn.whole.count, genes.dense.sum(1))


def test_a_sample_of_none_estimates_nothing() -> None:
    data = cells_with_peaks()
    module = module_for(data)
    nothing = Economy(chances=(torch.zeros(5), torch.zeros(6)))
    terms, _ = loss_and_gradients(module, data, nothing, "within")
    values = {term.name: number(term.value) for term in terms.terms}
    assert values["log_likelihood"] == 0.0
    assert values["kl"] > 0.0


@pytest.mark.parametrize(("n", "drawn"), [(40, (True, True)), (90, (False, True)), (400, (False, False))])
def test_chances_from_the_data(n: int, drawn: tuple[bool, bool]) -> None:
    """More than half of the genes would save nothing, and more features than there are cannot be drawn."""
    rng = np.random.default_rng(0)
    rates = np.linspace(0.1, 4.0, 150)
    peaks = rng.random((30, 400)) < 0.3
    data = data_of(
        [table(rng.poisson(rates, (30, 150)), sparse=True), table(peaks, sparse=True)], ["nb", "bernoulli"]
    )
    found = feature_chances(module_for(data), data, np.arange(5, 25), n)
    assert tuple(each is not None for each in found) == drawn
    genes, peaks_chances = found
    for chances in found:
        assert chances is None or float(chances.sum()) == pytest.approx(n, rel=1e-4)
    if genes is not None:
        means = np.asarray(data.modalities[0].values[5:25].mean(0)).ravel()
        sizes = torch.from_numpy(np.sqrt(means) + 0.2 * np.sqrt(means).mean()).float()
        torch.testing.assert_close(genes, chances_by_size(sizes, n))
    if peaks_chances is not None:
        assert float(peaks_chances.min()) > 0.0


def test_draws_ahead_follow_from_the_cells_and_the_seed() -> None:
    data = cells_with_peaks(n_peaks=200)
    chances = None, torch.full((200,), 0.2)

    def features(seed: int, cells: list[int]) -> Tensor:
        minibatch = draws_ahead(chances, seed, (True, seed == 0))(make_minibatch(data, np.array(cells)))
        genes, peaks = minibatch.modalities
        assert genes.drawn is None
        assert peaks.drawn is not None
        assert peaks.drawn.chunked is not None
        expected = peaks.dense[:, peaks.drawn.sample.features]
        assert torch.equal(peaks.drawn.chunked.data.to_dense(), expected)
        if seed == 0:
            assert peaks.drawn.count is not None
            assert torch.equal(peaks.drawn.count, peaks.dense.sum(1))
        else:
            assert peaks.drawn.count is None
        return peaks.drawn.sample.features

    first = features(0, [1, 2, 6])
    assert torch.equal(first, features(0, [1, 2, 6]))
    for others in (features(1, [1, 2, 6]), features(0, [2, 1, 6]), features(0, [1, 2, 7])):
        assert not torch.equal(first, others)


def test_a_draw_that_comes_with_the_minibatch_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    data = cells_with_peaks(n_peaks=50)
    module = module_for(data)
    minibatch = draws_ahead((None, torch.full((50,), 0.3)), 5, (True, False))(
        make_minibatch(data, np.arange(6))
    )
    peaks = minibatch.modalities[1]
    assert peaks.drawn is not None
    monkeypatch.setattr(FeatureSample, "draw", None)  # no other may be drawn
    part = module.draw_features(1, peaks, minibatch.covariates, torch.ones(50), torch.Generator())
    assert part is not None
    assert part.sample is peaks.drawn.sample
    assert part.chunked is peaks.drawn.chunked


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
