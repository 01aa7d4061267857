"""Correlations of many features at once against scipy's, one by one."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from multiomics_vae.analysis.evaluation.correlation import pearson, spearman


def features(n_features: int = 12, n_cells: int = 50) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    score = rng.gamma(2.0, size=(n_features, n_cells)).astype(np.float32)
    return rng.poisson(score).astype(np.float32), score


def test_correlations_are_those_of_scipy() -> None:
    truth, score = features()
    everyone = [np.arange(50)]
    for g in range(12):
        assert pearson(truth, score, everyone)[g] == pytest.approx(stats.pearsonr(truth[g], score[g])[0])
        assert spearman(truth, score, everyone)[g] == pytest.approx(stats.spearmanr(truth[g], score[g])[0])


def test_within_groups_is_what_is_left_without_their_means() -> None:
    truth, score = features()
    groups = [np.arange(0, 20), np.arange(20, 50)]
    design = np.zeros((50, 2))
    design[:20, 0] = design[20:, 1] = 1.0
    left = np.eye(50) - design @ np.linalg.pinv(design)
    for g in range(12):
        expected = np.corrcoef(left @ truth[g], left @ score[g])[0, 1]
        assert pearson(truth, score, groups)[g] == pytest.approx(expected)


def test_knowing_the_type_alone_says_nothing_within_types() -> None:
    truth, _ = features()
    types = np.arange(50) % 3
    score = np.array([0.1, 0.7, 0.3], dtype=np.float32)[types] * np.ones((12, 1), dtype=np.float32)
    groups = [np.flatnonzero(types == t) for t in range(3)]
    np.testing.assert_array_equal(pearson(truth, score, groups), 0.0)
    np.testing.assert_array_equal(spearman(truth, score, groups), 0.0)


def test_a_shift_of_a_group_changes_nothing_within_groups() -> None:
    truth, score = features()
    groups = [np.arange(0, 20), np.arange(20, 50)]
    shifted = score + np.where(np.arange(50) < 20, 5.0, 0.0)
    np.testing.assert_allclose(pearson(truth, shifted, groups), pearson(truth, score, groups), atol=1e-6)
    np.testing.assert_allclose(spearman(truth, shifted, groups), spearman(truth, score, groups), atol=1e-6)


def test_values_that_do_not_vary_have_no_correlation() -> None:
    truth, score = np.ones((1, 5)), np.arange(5.0)[None]
    assert np.isnan(pearson(truth, score, [np.arange(5)])).all()
    assert pearson(score, truth, [np.arange(5)]) == [0.0]
    assert np.isnan(spearman(truth, score, [np.arange(0)])).all()
