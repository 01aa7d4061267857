"""Linear models of clinical covariates, and the table they read."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from statsmodels.miscmodels.ordinal_model import OrderedModel

from multiomics_vae.analysis.outcomes.baselines import linear_predictions
from multiomics_vae.analysis.outcomes.clinical import ClinicalDesign
from multiomics_vae.analysis.outcomes.ordinal_regression import fit_ordinal


def test_a_design_learns_from_training_donors_only() -> None:
    training = pd.DataFrame({"age": [20.0, 40.0, 60.0], "stage": ["i", "i", "ii"], "fixed": [1, 1, 1]})
    design = ClinicalDesign.fit(pd.concat([training, training]))
    held_out = pd.DataFrame({"age": [40.0, np.nan], "stage": ["ii", "iv"], "fixed": [1, 2]})
    np.testing.assert_allclose(design.encode(held_out), [[0.0, 1.0], [0.0, 0.0]])
    assert [column.name for column in design.columns] == ["age", "stage"]


def test_the_words_of_clinics_for_unknown_are_no_level() -> None:
    table = pd.DataFrame(
        {
            "stage": pd.Categorical(["i", "ii", "ii", "i", "i", "nan", "nan", "nan", "nan"]),
            "age": [1.0] * 8 + [np.nan],
        }
    )
    design = ClinicalDesign.fit(table)
    assert design.encode(table)[:, 0].tolist() == [0, 1, 1, 0, 0, 0, 0, 0, 0]
    assert design.encode(table).shape == (9, 1)


def test_unknown_numbers_are_marked() -> None:
    design = ClinicalDesign.fit(pd.DataFrame({"age": [1.0, 3.0, np.nan]}))
    np.testing.assert_allclose(design.encode(pd.DataFrame({"age": [np.nan, 3.0]})), [[0, 1], [1, 0]])


def test_ordinal_regression_is_statsmodels_where_data_outweighs_the_prior() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3000, 2))
    codes = np.digitize(x @ [1.0, -2.0] + rng.logistic(size=3000), [-1.0, 1.0])
    theirs = OrderedModel(codes, x, distr="logit").fit(method="bfgs", disp=False)
    ours = fit_ordinal(codes, x, 3, ridge=1e-6)
    np.testing.assert_allclose(ours.coefficients, theirs.params[:2], atol=5e-3)
    np.testing.assert_allclose(ours.probabilities(x[:5]), theirs.predict(x[:5]), atol=5e-3)


@pytest.mark.parametrize("kind", ["binary", "categorical", "ordinal", "continuous", "survival"])
def test_every_kind_is_predicted_better_with_covariates_than_without(kind: str) -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(400, 1))
    noisy = x[:, 0] + 0.3 * rng.normal(size=400)
    truth = {
        "binary": noisy > 0,
        "categorical": np.digitize(noisy, [-0.5, 0.5]),
        "ordinal": np.digitize(noisy, [-0.5, 0.5]),
        "continuous": noisy,
        "survival": np.stack([np.exp(-noisy), np.ones(400)], axis=1),
    }[kind]
    truth = truth.astype(np.float64)
    n_classes = {"binary": 2, "categorical": 3, "ordinal": 3}.get(kind, 0)
    from multiomics_vae.analysis.outcomes.measures import measures_of

    measure = measures_of(kind)[0]
    scores = []
    for width in (1, 0):
        predicted = linear_predictions(kind, truth[:200], x[:200, :width], x[200:, :width], n_classes)
        assert predicted.shape == (200, n_classes or (2 if kind == "continuous" else 1))
        scores.append(measure.of(truth[200:], predicted))
    better = scores[0] - scores[1] if measure.higher_is_better else scores[1] - scores[0]
    assert better > 0.2


def test_a_class_that_training_lacks_gets_no_probability() -> None:
    predicted = linear_predictions(
        "categorical", np.array([0, 2, 0, 2]), np.eye(4)[:, :1], np.zeros((1, 1)), 3
    )
    assert predicted[0, 1] == 0.0
    assert predicted.sum() == pytest.approx(1.0)


def test_the_spread_of_a_ridge_is_that_of_the_noise() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(500, 3))
    truth = x.sum(1) + 2.0 * rng.normal(size=500)
    assert linear_predictions("continuous", truth, x, x[:1], 0)[0, 1] == pytest.approx(2.0, rel=0.1)
