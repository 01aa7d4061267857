"""Bounds cell by cell: the objective's own ELBO, the same for a cell in any company."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from handmade_models import mixed_data, module_for
from multiomics_vae.analysis.bounds import Bounds, evidence_bounds
from multiomics_vae.data.loader import make_minibatch
from multiomics_vae.fusion import FUSION_RULES
from multiomics_vae.objective import Objective, ObjectiveConfig

EVERYONE = np.arange(30)
FUSIONS = pytest.mark.parametrize("fusion", sorted(FUSION_RULES))


def close(found: Bounds, expected: Bounds, order: np.ndarray) -> None:
    for field in ("log_likelihood", "kl", "importance_weighted"):
        np.testing.assert_allclose(
            getattr(found, field), getattr(expected, field)[order], rtol=1e-4, atol=1e-4, err_msg=field
        )


@FUSIONS
@pytest.mark.parametrize("prior", ["standard_normal", "vamp"])
def test_a_cell_has_the_same_bounds_in_any_company(fusion: str, prior: str) -> None:
    data = mixed_data(30)
    module = module_for(data, fusion=fusion, prior=prior)
    expected = evidence_bounds(module, data, EVERYONE, 30, n_samples=4)
    order = np.random.default_rng(0).permutation(30)[:17]
    for batch_size in (1, 5, 64):
        close(evidence_bounds(module, data, order, batch_size, n_samples=4), expected, order)


def test_cells_in_another_order_in_the_data_have_the_same_bounds() -> None:
    data = mixed_data(30)
    module = module_for(data)
    order = np.random.default_rng(1).permutation(30)
    turned = replace(
        data,
        cell_names=data.cell_names[order],
        batch=data.batch[order],
        categorical=data.categorical[order],
        continuous=data.continuous[order],
        modalities=tuple(replace(m, row_of_cell=m.row_of_cell[order]) for m in data.modalities),
    )
    expected = evidence_bounds(module, data, EVERYONE, 8, n_samples=3)
    close(evidence_bounds(module, turned, EVERYONE, 8, n_samples=3), expected, order)


@FUSIONS
def test_elbo_is_that_of_the_objective(fusion: str) -> None:
    data = mixed_data(12)
    module = module_for(data, fusion=fusion)
    cells = np.arange(12)
    bounds = evidence_bounds(module, data, cells, 12, n_samples=1500)
    objective = Objective(ObjectiveConfig(subset_objective="none"), (1.0,) * 3, 12)
    with torch.no_grad():
        terms = objective(
            module, make_minibatch(data, np.tile(cells, 1000)), 1.0, torch.Generator().manual_seed(0)
        )
    assert bounds.elbo.mean() == pytest.approx(terms.elbo.item(), abs=0.08)


@FUSIONS
def test_importance_weighted_bound_lies_above_the_elbo(fusion: str) -> None:
    data = mixed_data(30)
    module = module_for(data, fusion=fusion)
    few, many = (evidence_bounds(module, data, EVERYONE, 30, n) for n in (20, 400))
    assert few.importance_weighted.mean() > few.elbo.mean() + 0.05
    assert many.importance_weighted.mean() > few.importance_weighted.mean() - 0.02


def test_a_modality_that_a_cell_lacks_is_nan_and_counts_nothing() -> None:
    data = mixed_data(30)
    bounds = evidence_bounds(module_for(data), data, EVERYONE, 7, n_samples=2)
    np.testing.assert_array_equal(np.isnan(bounds.log_likelihood), ~data.present)
    assert np.isfinite(bounds.elbo).all()
    assert np.isfinite(bounds.importance_weighted).all()
    expected = np.where(data.present, bounds.log_likelihood, 0.0).sum(1) - bounds.kl
    np.testing.assert_allclose(bounds.elbo, expected)


def test_a_cell_without_the_given_modality_is_judged_from_the_prior() -> None:
    data = mixed_data(30)
    bounds = evidence_bounds(module_for(data), data, EVERYONE, 30, n_samples=2, given=(1,))
    lacking = ~data.present[:, 1]
    np.testing.assert_allclose(bounds.kl[lacking], 0.0, atol=1e-6)
    assert (bounds.kl[~lacking] > 1e-3).all()


def test_the_seed_decides_and_the_global_state_does_not() -> None:
    data = mixed_data(10)
    module = module_for(data)
    cells = np.arange(10)
    before = torch.random.get_rng_state()
    first, again, other = (evidence_bounds(module, data, cells, 10, 3, seed=s).elbo for s in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    torch.testing.assert_close(torch.random.get_rng_state(), before)


def test_the_module_is_left_in_its_mode_and_without_gradients() -> None:
    data = mixed_data(10)
    module = module_for(data).train()
    evidence_bounds(module, data, np.arange(10), 4, n_samples=1)
    assert module.training
    assert all(p.grad is None for p in module.parameters())
    assert not torch.is_inference_mode_enabled()


def test_no_cells_have_no_bounds() -> None:
    data = mixed_data(10)
    bounds = evidence_bounds(module_for(data), data, np.empty(0, dtype=np.int64), 4, n_samples=2)
    assert bounds.elbo.shape == (0,)
    assert bounds.log_likelihood.shape == (0, 3)
