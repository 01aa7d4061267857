"""Concordance against all pairs by hand; Kaplan-Meier and Cox against statsmodels and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from statsmodels.duration.hazard_regression import PHReg
from statsmodels.duration.survfunc import SurvfuncRight, survdiff

from multiomics_vae.analysis.outcomes.concordance import concordance_index
from multiomics_vae.analysis.outcomes.cox import fit_cox, partial_likelihood
from multiomics_vae.analysis.outcomes.kaplan_meier import kaplan_meier, log_rank
from multiomics_vae.analysis.outcomes.survival_brier import integrated_brier, survival_brier
from multiomics_vae.errors import InputError


def _patients(seed: int, n: int = 60, digits: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2))
    death = rng.exponential(np.exp(-x @ [1.0, -0.5]))
    censoring = rng.exponential(1.5, size=n)
    time = np.maximum(np.round(np.minimum(death, censoring), digits), 0.1)
    return time, death <= censoring, x


def _concordance_by_hand(time: np.ndarray, event: np.ndarray, risk: np.ndarray) -> float:
    agree = pairs = 0.0
    for i in range(len(time)):
        for j in range(len(time)):
            if event[i] and (time[i] < time[j] or (time[i] == time[j] and not event[j])):
                pairs += 1
                agree += 1.0 if risk[i] > risk[j] else 0.5 if risk[i] == risk[j] else 0.0
    return agree / pairs


@pytest.mark.parametrize("seed", range(5))
def test_concordance_is_that_of_all_pairs_with_ties_in_time_and_risk(seed: int) -> None:
    time, event, x = _patients(seed)
    risk = np.round(x[:, 0], 1)
    assert concordance_index(time, event, risk) == pytest.approx(_concordance_by_hand(time, event, risk))


def test_concordance_of_perfect_reversed_and_constant_risks() -> None:
    time, event = np.random.default_rng(0).exponential(size=30), np.arange(30) % 3 > 0
    assert concordance_index(time, event, -time) == 1.0
    assert concordance_index(time, event, time) == 0.0
    assert concordance_index(time, event, np.zeros(len(time))) == 0.5
    assert np.isnan(concordance_index(time, np.zeros(len(time)), -time))


def test_concordance_in_parts_is_that_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    time, event, x = _patients(3)
    whole = concordance_index(time, event, x[:, 0])
    monkeypatch.setattr("multiomics_vae.analysis.outcomes.concordance.PAIRS_AT_ONCE", 100)
    assert concordance_index(time, event, x[:, 0]) == pytest.approx(whole)


def test_kaplan_meier_is_statsmodels() -> None:
    time, event, _ = _patients(1)
    ours, theirs = kaplan_meier(time, event), SurvfuncRight(time, event.astype(int))
    np.testing.assert_allclose(ours.at(theirs.surv_times), theirs.surv_prob)
    assert ours.at(np.array([0.0]))[0] == 1.0
    inner = (ours.survival > 0) & (ours.survival < 1)
    assert ((ours.low <= ours.survival) & (ours.survival <= ours.high)).all()
    assert (ours.low[inner] < ours.high[inner]).all()


def test_log_rank_is_statsmodels() -> None:
    time, event, x = _patients(2)
    group = np.digitize(x[:, 0], [-0.5, 0.5])
    _, p = survdiff(time, event.astype(int), group)
    assert log_rank(time, event, group) == pytest.approx(p, rel=1e-8)
    assert np.isnan(log_rank(time, event, np.zeros(len(time))))


@pytest.mark.parametrize("seed", range(3))
def test_cox_is_statsmodels_with_efrons_ties(seed: int) -> None:
    time, event, x = _patients(seed)
    theirs = PHReg(time, x, status=event.astype(int), ties="efron").fit()
    ours = fit_cox(time, event, x)
    np.testing.assert_allclose(ours.coefficients, theirs.params, atol=1e-5)
    assert ours.log_likelihood == pytest.approx(theirs.llf, abs=1e-6)


def test_cox_gradient_and_information_are_those_of_finite_differences() -> None:
    time, event, x = _patients(4)
    beta, step = np.array([0.3, -0.2]), 1e-5
    _, gradient, information = partial_likelihood(time, event, x, beta)
    for k, unit in enumerate(np.eye(2)):
        up, down = (partial_likelihood(time, event, x, beta + sign * step * unit) for sign in (1, -1))
        assert gradient[k] == pytest.approx((up[0] - down[0]) / (2 * step), rel=1e-5)
        np.testing.assert_allclose(information[k], -(up[1] - down[1]) / (2 * step), rtol=1e-4)


def test_a_ridge_holds_a_separating_covariate_and_shrinks() -> None:
    time, event = np.arange(1.0, 9.0), np.ones(8)
    x = -time[:, None]
    strong, weak = (fit_cox(time, event, x, ridge=r).coefficients[0] for r in (10.0, 0.1))
    assert 0 < strong < weak < np.inf


def test_survival_without_covariates_is_breslows() -> None:
    time, event, _ = _patients(5)
    fit = fit_cox(time, event, np.empty((len(time), 0)))
    hazard = -np.log(fit.survival(np.empty((1, 0)), np.array([time.max()])))[0, 0]
    curve = kaplan_meier(time, event)
    steps = 1.0 - curve.survival / np.append(1.0, curve.survival[:-1])
    assert hazard == pytest.approx(steps.sum())


def test_no_events_is_an_error_that_says_so() -> None:
    with pytest.raises(InputError, match="None of the 3 patients of this fit has an event"):
        fit_cox(np.arange(1.0, 4.0), np.zeros(3), np.zeros((3, 1)))


def test_brier_of_survival_without_censoring_is_the_plain_one() -> None:
    time = np.array([1.0, 2.0, 3.0, 4.0])
    grid = np.array([1.5, 2.5])
    survival = np.array([[0.1, 0.1], [0.9, 0.2], [0.8, 0.7], [0.6, 0.5]])
    alive = time[:, None] > grid
    expected = ((alive - survival) ** 2).mean(0)
    np.testing.assert_allclose(survival_brier(time, np.ones(4), survival, grid), expected)
    assert integrated_brier(time, np.ones(4), survival, grid) == pytest.approx(expected.mean())


def test_weights_remove_censoring_from_the_brier_score() -> None:
    rng = np.random.default_rng(0)
    death, censoring = rng.exponential(1.0, 40_000), rng.exponential(1.5, 40_000)
    grid = np.array([0.5, 1.0])
    survival = np.tile(np.exp(-grid), (len(death), 1))
    full = survival_brier(death, np.ones(len(death)), survival, grid)
    partly = survival_brier(np.minimum(death, censoring), death <= censoring, survival, grid)
    np.testing.assert_allclose(partly, full, atol=0.01)
    assert np.isnan(integrated_brier(death, np.ones(len(death)), survival[:, :1], grid[:1]))
