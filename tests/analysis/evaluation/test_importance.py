"""Importance weights where everything is known: exact posteriors, wrong ones, and the memory they take."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from known_models import LOADINGS, Known, cells_of, known

from handmade_models import mixed_data, module_for
from multiomics_vae.analysis.bounds import evidence_bounds
from multiomics_vae.analysis.evaluation import importance
from multiomics_vae.analysis.evaluation.importance import (
    drawn_densities,
    importance_cells,
    importance_tables,
    importance_weighted_bound,
)
from multiomics_vae.analysis.evaluation.question import Question


def made_wrong(model: Known, shift: float = 0.3, widening: float = 2.0) -> Known:
    with torch.no_grad():
        for part in model.question.module.parts:
            part.encoder.head.mean.bias += shift
            part.encoder.head.log_variance.bias += float(np.log(widening))
    return model


def test_exact_posteriors_have_equal_weights() -> None:
    model = known()
    for given in (None, (0,), (1,)):
        of = (0, 1) if given is None else given
        weights = drawn_densities(model.question, given, 50).log_weights(of)
        np.testing.assert_allclose(weights, np.tile(model.log_likelihood(of), (50, 1)), atol=5e-4)
    variances = importance_tables(model.question, 50).variances.set_index(["kind", "of"])["variance"]
    assert (variances[["joint", "marginal"]] < 1e-6).all()


def test_conditional_weights_have_the_variance_of_the_closed_form() -> None:
    """With exact posteriors p(x_0 | z) q(z | x_1) / q(z | x_0) is p(x_1 | z) up to a constant.

    log p(x_1 | z) = a z² + b z + c under q(z | x_0) = N(μ, σ²) has the variance 2 a² σ⁴ + (2 a μ + b)² σ².
    """
    model = known(40)
    mean, variance = model.posterior((0,))
    a = -0.5 * float((LOADINGS[1] ** 2).sum())
    b = (model.values[1] @ LOADINGS[1]).ravel()
    expected = 2.0 * a**2 * variance**2 + (2.0 * a * mean + b) ** 2 * variance
    found = importance_tables(model.question, 1500).variances.set_index(["kind", "of", "given"])
    assert found.loc[("conditional", "m0", "m1"), "variance"] == pytest.approx(expected.mean(), rel=0.08)


def test_bounds_of_a_wrong_encoder_rise_to_the_likelihood() -> None:
    model = made_wrong(known())
    tables = importance_tables(model.question, 1000)
    assert (tables.variances["variance"] > 0.05).all()
    for of, given, exact in (
        ("all", "all", model.log_likelihood()),
        ("all", "m0", model.log_likelihood()),
        ("m0", "m0", model.log_likelihood((0,))),
        ("m1", "m1", model.log_likelihood((1,))),
    ):
        rows = tables.bounds.set_index(["of", "given", "n_draws"])["mean"].sort_index().loc[of, given]
        assert list(rows.index) == [1, 10, 100, 1000]
        assert rows.is_monotonic_increasing
        assert rows[1] < exact.mean() - 0.05
        assert rows[1000] == pytest.approx(exact.mean(), abs=0.01)


def test_bound_never_falls_with_more_of_the_same_draws() -> None:
    weights = np.random.default_rng(0).normal(scale=3.0, size=(1000, 40))
    bounds = [importance_weighted_bound(weights, size) for size in (1, 10, 100, 1000)]
    for fewer, more in pairwise(bounds):
        assert (more >= fewer).all()
    np.testing.assert_allclose(bounds[0], weights.mean(0))
    np.testing.assert_allclose(bounds[-1], np.log(np.exp(weights).mean(0)))


@pytest.mark.parametrize("fusion", ["product", "mixture_of_products"])
def test_weights_are_those_of_the_evidence_bounds(fusion: str) -> None:
    data = mixed_data(30)
    question = Question(module_for(data, fusion=fusion), data, np.arange(30), 30, 5, 3)
    for given in (None, (1,)):
        weights = drawn_densities(question, given, 6).log_weights((0, 1, 2))
        expected = evidence_bounds(question.module, data, question.cells, 30, 6, given, 3)
        np.testing.assert_allclose(
            importance_weighted_bound(weights, 6), expected.importance_weighted, rtol=1e-4, atol=1e-4
        )


def test_draws_are_taken_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    data = mixed_data(30)
    question = Question(module_for(data), data, np.arange(30), 8, 5, 0)
    whole = drawn_densities(question, None, 40)
    rows: list[int] = []
    plain = type(question.module).log_likelihood

    def counted(self: Any, modality: int, batch: Any, z: torch.Tensor, *rest: Any) -> Any:
        rows.append(z.shape[0] * z.shape[1])
        return plain(self, modality, batch, z, *rest)

    monkeypatch.setattr(type(question.module), "log_likelihood", counted)
    monkeypatch.setattr(importance, "MOST_ROWS", 24)
    parts = drawn_densities(question, None, 40)
    assert max(rows) <= 24
    np.testing.assert_allclose(parts.log_likelihood, whole.log_likelihood, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(parts.log_ratio, whole.log_ratio, rtol=1e-5, atol=1e-4)


def test_only_cells_with_the_evidence_count() -> None:
    present = np.ones((60, 2), dtype=bool)
    present[:10, 0], present[10:15, 1] = False, False
    tables = importance_tables(known(60, present=present).question, 10)
    counts = tables.variances.set_index(["kind", "of", "given"])["n_cells"]
    assert counts["joint", "all", "all"] == 60
    assert counts["marginal", "m0", "m0"] == 50
    assert counts["marginal", "m1", "m1"] == 55
    assert counts["conditional", "m0", "m1"] == counts["conditional", "m1", "m0"] == 45


def test_cells_for_many_draws_have_several_modalities_where_some_do() -> None:
    present = np.ones((60, 2), dtype=bool)
    present[:20, 0] = False
    question = known(60, present=present).question
    chosen = importance_cells(question, 15)
    assert len(chosen.cells) == 15
    assert chosen.cells.min() >= 20
    np.testing.assert_array_equal(chosen.cells, importance_cells(question, 15).cells)
    assert len(importance_cells(cells_of(question, np.arange(20)), 15).cells) == 15
