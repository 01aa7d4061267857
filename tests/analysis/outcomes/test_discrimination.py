"""AUROC and average precision against scikit-learn; intervals hold the truth as often as they say."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from multiomics_vae.analysis.outcomes.bootstrap import bootstrap_interval
from multiomics_vae.analysis.outcomes.discrimination import (
    auroc,
    average_precision,
    macro_auroc,
    precision_recall,
    roc_curve,
)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("digits", [1, 8])
def test_auroc_and_average_precision_are_scikit_learns_also_with_ties(seed: int, digits: int) -> None:
    rng = np.random.default_rng(seed)
    has = rng.random(60) < 0.3
    score = np.round(rng.normal(size=60) + has, digits)
    assert auroc(has, score) == pytest.approx(roc_auc_score(has, score), abs=1e-12)
    assert average_precision(has, score) == pytest.approx(average_precision_score(has, score), abs=1e-12)


def test_one_class_has_no_rank_score() -> None:
    assert np.isnan(auroc(np.ones(4), np.arange(4.0)))
    assert np.isnan(auroc(np.zeros(4), np.arange(4.0)))
    assert np.isnan(average_precision(np.zeros(4), np.arange(4.0)))


def test_macro_auroc_is_the_mean_of_one_against_the_rest_and_passes_over_absent_classes() -> None:
    rng = np.random.default_rng(0)
    codes, p = rng.integers(3, size=80), rng.dirichlet(np.ones(4), size=80)
    expected = np.mean([roc_auc_score(codes == k, p[:, k]) for k in range(3)])
    assert macro_auroc(codes, p) == pytest.approx(expected)


def test_curves_enclose_the_area_that_is_scored() -> None:
    rng = np.random.default_rng(1)
    has = rng.random(200) < 0.4
    score = np.round(rng.normal(size=200) + has, 1)
    curve = roc_curve(has, score)
    area = np.sum(
        np.diff(curve.false_positive_rate)
        * (curve.true_positive_rate[1:] + curve.true_positive_rate[:-1])
        / 2
    )
    assert area == pytest.approx(auroc(has, score))
    assert curve.at(np.array([1.0]))[0] == 1.0
    precision = precision_recall(has, score)
    assert precision.recall[-1] == 1.0
    assert precision.precision[-1] == pytest.approx(has.mean())
    assert precision.at(np.array([1.0]))[0] == pytest.approx(
        precision.precision[np.argmax(precision.recall == 1)]
    )


def test_bootstrap_intervals_of_a_mean_cover_as_they_say() -> None:
    inside = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=40)
        found = bootstrap_interval(lambda i, x=x: float(x[i].mean()), 40, rng, level=0.9, n_draws=200)
        inside += found.low <= 0.0 <= found.high
    assert 0.82 <= inside / 200 <= 0.96


def test_an_interval_that_hardly_any_draw_defines_is_not_given() -> None:
    rng = np.random.default_rng(0)
    found = bootstrap_interval(lambda i: 1.0 if len(set(i)) == 3 else np.nan, 3, rng, n_draws=100)
    assert found.value == 1.0
    assert np.isnan(found.low)
    assert "no interval" in str(found)


def test_the_interval_follows_the_generator_and_leaves_the_global_state() -> None:
    x = np.random.default_rng(0).normal(size=20)
    np.random.seed(3)  # noqa: NPY002
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    one, two = (
        bootstrap_interval(lambda i: float(x[i].mean()), 20, np.random.default_rng(7), n_draws=50)
        for _ in "ab"
    )
    assert one == two
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002
