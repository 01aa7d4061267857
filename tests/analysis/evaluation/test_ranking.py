"""AUROC and AUPRC of many features at once against scikit-learn's, one by one."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from multiomics_vae.analysis.evaluation.ranking import rank_scores


@pytest.mark.parametrize("levels", [3, 10, None])
def test_scores_are_those_of_scikit_learn(levels: int | None) -> None:
    rng = np.random.default_rng(0)
    score = rng.normal(size=(20, 60))
    truth = rng.random((20, 60)) < 1.0 / (1.0 + np.exp(-score))
    if levels is not None:
        score = np.round(score * levels / 3)
        assert len(np.unique(score[0])) < 25  # ties
    found = rank_scores(truth, score.astype(np.float32), [np.arange(60)])
    for g in range(20):
        assert found.auroc[g] == pytest.approx(roc_auc_score(truth[g], score[g]))
        assert found.auprc[g] == pytest.approx(average_precision_score(truth[g], score[g]))


def test_within_groups_only_cells_of_a_group_are_compared() -> None:
    rng = np.random.default_rng(1)
    groups = [np.arange(0, 25), np.arange(25, 60)]
    score = np.round(rng.normal(size=(5, 60)), 1)
    truth = rng.random((5, 60)) < 0.4
    found = rank_scores(truth, score, groups)
    for g in range(5):
        wins = pairs = 0.0
        for cells in groups:
            above, below = score[g, cells][truth[g, cells]], score[g, cells][~truth[g, cells]]
            wins += (above[:, None] > below).sum() + 0.5 * (above[:, None] == below).sum()
            pairs += len(above) * len(below)
        assert found.auroc[g] == pytest.approx(wins / pairs)
        weights = [truth[g, cells].sum() for cells in groups]
        each = [average_precision_score(truth[g, cells], score[g, cells]) for cells in groups]
        assert found.auprc[g] == pytest.approx(np.average(each, weights=weights))


def test_knowing_the_type_alone_is_chance_within_types() -> None:
    rng = np.random.default_rng(2)
    types = rng.integers(0, 4, 400)
    level = 0.05 + 0.85 * rng.random((30, 4))
    truth = rng.random((30, 400)) < level[:, types]
    groups = [np.flatnonzero(types == t) for t in range(4)]
    overall = rank_scores(truth, level[:, types], [np.arange(400)])
    within = rank_scores(truth, level[:, types], groups)
    assert np.nanmean(overall.auroc) > 0.65
    np.testing.assert_allclose(within.auroc, 0.5)
    share = sum(truth[:, cells].sum(1) ** 2 / len(cells) for cells in groups) / truth.sum(1)
    np.testing.assert_allclose(within.auprc, share)
    assert (within.chance > share).all()


def test_features_without_two_kinds_of_cells_have_no_score() -> None:
    truth = np.array([[True, True, True], [False, False, False], [True, False, True]])
    found = rank_scores(truth, np.ones((3, 3)), [np.arange(3)])
    assert np.isnan(found.auroc[:2]).all()
    assert np.isnan(found.auprc[:2]).all()
    assert found.auroc[2] == 0.5
    assert np.isnan(rank_scores(truth, np.ones((3, 3)), [np.arange(0)]).auroc).all()


def test_best_and_worst() -> None:
    truth = np.array([[False, True, False, True]])
    score = truth.astype(float)
    assert rank_scores(truth, score, [np.arange(4)]).auroc == [1.0]
    assert rank_scores(truth, score, [np.arange(4)]).auprc == [1.0]
    assert rank_scores(truth, -score, [np.arange(4)]).auroc == [0.0]


@pytest.mark.parametrize(("n", "n_positive"), [(6, 1), (6, 4), (30, 3), (1, 1)])
def test_chance_is_the_mean_over_random_orders(n: int, n_positive: int) -> None:
    rng = np.random.default_rng(0)
    truth = np.tile(np.arange(n) < n_positive, (20_000, 1))
    found = rank_scores(truth, rng.random(truth.shape), [np.arange(n)])
    if n == n_positive:
        assert np.isnan(found.auprc).all()
        return
    assert found.auprc.mean() == pytest.approx(found.chance[0], rel=0.02)
    assert (found.chance > n_positive / n).all()
