"""Temperature finds a known one, sets keep their promise, reliability and scores are the textbook's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn.metrics import brier_score_loss
from sklearn.metrics import log_loss as sklearn_log_loss
from statsmodels.stats.proportion import proportion_confint

from multiomics_vae.analysis.outcomes import probability_scores as scores
from multiomics_vae.analysis.outcomes.conformal import (
    abstains,
    conformal_classes,
    conformal_interval,
    conformal_quantile,
    fewest_rows,
)
from multiomics_vae.analysis.outcomes.reliability import (
    reliability,
    top_label_reliability,
    wilson_interval,
)
from multiomics_vae.analysis.outcomes.temperature import Temperature, fit_temperature


def _draw(rng: np.random.Generator, p: np.ndarray) -> np.ndarray:
    return (rng.random(len(p))[:, None] > np.cumsum(p, axis=1)).sum(1).clip(0, p.shape[1] - 1)


def _ordinal(score: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    cumulative = expit(thresholds - score[:, None])
    return np.diff(np.pad(cumulative, ((0, 0), (1, 1)), constant_values=((0, 0), (0.0, 1.0))), axis=1)


@pytest.mark.parametrize("true", [0.4, 1.0, 3.0])
@pytest.mark.parametrize("n_classes", [2, 4])
def test_temperature_recovers_a_known_one(true: float, n_classes: int) -> None:
    rng = np.random.default_rng(0)
    logits = 2.0 * rng.normal(size=(20_000, n_classes))
    codes = _draw(rng, softmax(logits / true, axis=1))
    found = fit_temperature(codes, softmax(logits, axis=1))
    assert found.value == pytest.approx(true, rel=0.05)
    np.testing.assert_allclose(
        found.apply(softmax(logits, axis=1)), softmax(logits / found.value, axis=1), atol=1e-9
    )


@pytest.mark.parametrize("true", [0.5, 2.5])
def test_temperature_of_an_ordinal_head_divides_its_cumulative_logits(true: float) -> None:
    rng = np.random.default_rng(1)
    score, thresholds = 3.0 * rng.normal(size=20_000), np.array([-2.0, 0.5, 1.5])
    codes = _draw(rng, _ordinal(score / true, thresholds / true))
    found = fit_temperature(codes, _ordinal(score, thresholds), ordinal=True)
    assert found.value == pytest.approx(true, rel=0.05)
    expected = _ordinal(score / found.value, thresholds / found.value)
    np.testing.assert_allclose(found.apply(_ordinal(score, thresholds)), expected, atol=1e-9)


def test_temperature_changes_no_answer_and_one_changes_nothing() -> None:
    p = np.random.default_rng(2).dirichlet(np.ones(3), size=50)
    np.testing.assert_allclose(Temperature(1.0).apply(p), p)
    np.testing.assert_array_equal(Temperature(5.0).apply(p).argmax(1), p.argmax(1))
    np.testing.assert_allclose(Temperature(0.2, ordinal=True).apply(p).sum(1), 1.0)


def test_a_few_donors_that_come_right_do_not_make_a_model_certain() -> None:
    p = np.tile([[0.8, 0.2]], (4, 1))
    found = fit_temperature(np.zeros(4, dtype=int), p)
    assert 0.2 < found.value < 1.0
    assert found.apply(p).max() < 0.999
    assert fit_temperature(np.empty(0, dtype=int), np.empty((0, 2))).value == 1.0


@pytest.mark.parametrize("level", [0.8, 0.9])
@pytest.mark.parametrize("ordinal", [False, True])
def test_conformal_sets_hold_the_truth_as_promised_whatever_the_model(level: float, ordinal: bool) -> None:
    """On average over calibration sets; probabilities are those of a model that is far too sure."""
    rng = np.random.default_rng(3)
    covered = []
    for _ in range(400):
        logits = rng.normal(size=(120, 4))
        codes = _draw(rng, softmax(logits, axis=1))
        p = softmax(3.0 * logits, axis=1)
        found = conformal_classes(codes[:60], p[:60], level=level, ordinal=ordinal)
        sets = found.sets(p[60:])
        covered.append(sets[np.arange(60), codes[60:]].mean())
    mean, error = np.mean(covered), np.std(covered) / 20.0
    assert mean > level - 3 * error
    if not ordinal:  # 1/(n + 1) above the level at the most; gaps that are filled add to it
        assert mean < level + 1 / 61 + 3 * error


def test_conformal_intervals_hold_the_truth_as_promised() -> None:
    rng = np.random.default_rng(4)
    covered = []
    for _ in range(400):
        sd = np.exp(rng.normal(size=80))
        truth = sd * rng.standard_t(3, size=80)
        found = conformal_interval(truth[:40], np.zeros(40), sd[:40], level=0.9)
        low, high = found.ends(np.zeros(40), sd[40:])
        covered.append(((low <= truth[40:]) & (truth[40:] <= high)).mean())
    assert 0.9 - 0.012 < np.mean(covered) < 0.9 + 1 / 41 + 0.012


def test_scores_of_donors_promise_for_new_donors() -> None:
    """Donors of very unequal size, whose cells share most of their error: cells alone promise too much."""
    rng = np.random.default_rng(8)
    of_donors, of_cells = [], []
    for _ in range(600):
        sizes = rng.choice([2, 60], size=21)
        donor = np.repeat(np.arange(21), sizes)
        scale = np.where(sizes == 2, 3.0, 1.0)
        score = np.abs((scale * rng.normal(size=21))[donor] + 0.1 * rng.normal(size=len(donor)))
        known, new = donor < 20, donor == 20
        of_donors.append((score[new] <= conformal_quantile(score[known], 0.8, donor[known])).mean())
        of_cells.append((score[new] <= conformal_quantile(score[known], 0.8)).mean())
    assert np.mean(of_donors) > 0.8 - 0.04
    assert np.mean(of_cells) < 0.72
    assert np.isinf(conformal_quantile(np.arange(100.0), 0.9, np.arange(100) % 8))


def test_draws_of_z_are_scaled_before_they_are_averaged() -> None:
    rng = np.random.default_rng(9)
    p = rng.dirichlet(np.ones(3), size=(4, 200))
    codes = _draw(rng, Temperature(2.0).apply(p).mean(0))
    found = fit_temperature(codes, p)
    losses = {t: scores.log_loss(codes, Temperature(t).apply(p).mean(0)) for t in np.geomspace(0.3, 6, 60)}
    assert found.value == pytest.approx(min(losses, key=losses.__getitem__), rel=0.08)
    np.testing.assert_allclose(fit_temperature(codes, p[:1]).value, fit_temperature(codes, p[0]).value)


def test_too_few_held_out_rows_promise_by_leaving_nothing_out() -> None:
    assert fewest_rows(0.9) == 9
    assert fewest_rows(0.8) == 4
    for level in (0.8, 0.9, 0.95):
        n = fewest_rows(level)
        assert np.isfinite(conformal_quantile(np.arange(float(n)), level))
        assert np.isinf(conformal_quantile(np.arange(float(n - 1)), level))
    p = np.tile([[0.9, 0.1]], (8, 1))
    found = conformal_classes(np.zeros(8), p, level=0.9)
    assert found.sets(p).all()
    assert abstains(found.sets(p)).all()
    low, high = conformal_interval(np.zeros(3), np.zeros(3), np.ones(3)).ends(np.zeros(1), np.ones(1))
    assert np.isinf([low[0], high[0]]).all()


def test_ordinal_sets_have_no_gaps() -> None:
    p = np.array([[0.4, 0.2, 0.4], [0.1, 0.2, 0.7]])
    plain = conformal_classes(np.zeros(9), np.tile([[0.4, 0.3, 0.3]], (9, 1)), level=0.9)
    filled = conformal_classes(np.zeros(9), np.tile([[0.4, 0.3, 0.3]], (9, 1)), level=0.9, ordinal=True)
    assert plain.sets(p).tolist() == [[True, False, True], [False, False, True]]
    assert filled.sets(p).tolist() == [[True, True, True], [False, False, True]]


def test_reliability_of_true_probabilities_lies_inside_its_intervals() -> None:
    rng = np.random.default_rng(5)
    p = rng.random(5000)
    found = reliability(rng.random(5000) < p, p)
    table = found.table
    assert table["n"].sum() == 5000
    assert len(table) == 10
    inside = (table["lower"] <= table["predicted"]) & (table["predicted"] <= table["upper"])
    assert inside.mean() >= 0.8
    assert found.expected_calibration_error < 0.03
    assert reliability(rng.random(5000) < p**3, p).expected_calibration_error > 0.15


def test_reliability_of_equal_widths_ties_and_two_rows() -> None:
    found = reliability(np.array([0, 1, 1]), np.array([0.05, 0.95, 0.95]), equal="width")
    assert found.table["n"].tolist() == [1, 2]
    tied = reliability(np.array([0, 1, 1, 0]), np.full(4, 0.5))
    assert tied.table["n"].tolist() == [4]
    assert tied.expected_calibration_error == 0.0
    sure = top_label_reliability(np.array([0, 0]), np.array([[0.7, 0.3], [0.3, 0.7]]))
    assert sure.expected_calibration_error == pytest.approx(0.2)


@pytest.mark.parametrize(("hits", "n"), [(0, 5), (5, 5), (3, 11)])
def test_wilson_is_statsmodels(hits: int, n: int) -> None:
    assert wilson_interval(hits, n) == pytest.approx(proportion_confint(hits, n, method="wilson"), abs=1e-12)
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_scores_of_probabilities_are_the_textbooks() -> None:
    rng = np.random.default_rng(6)
    p, codes = rng.dirichlet(np.ones(3), size=40), rng.integers(3, size=40)
    two = p[:, :2] / p[:, :2].sum(1, keepdims=True)
    own = codes % 2
    assert scores.brier(own, two) == pytest.approx(brier_score_loss(own, two[:, 1]))
    assert scores.log_loss(codes, p) == pytest.approx(sklearn_log_loss(codes, p))
    by_hand = np.mean([sum((p[i, k] - (codes[i] == k)) ** 2 for k in range(3)) for i in range(40)])
    assert scores.brier(codes, p) == pytest.approx(by_hand)
    assert scores.ranked_probability_score(np.array([2]), np.array([[1.0, 0.0, 0.0]])) == 2.0
    assert scores.median_class(np.array([[0.5, 0.0, 0.5], [0.4, 0.2, 0.4]])).tolist() == [0, 1]
    assert scores.balanced_accuracy(np.array([0, 0, 0, 1]), np.tile([[0.9, 0.1]], (4, 1))) == 0.5
