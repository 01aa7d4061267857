"""Coverage where the truth is known: exact models cover as they say, sharpened ones too little."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from known_models import known
from scipy.stats import kstest

from handmade_models import mixed_data, module_for
from multiomics_vae.analysis.evaluation import coverage
from multiomics_vae.analysis.evaluation.coverage import (
    interval_coverage,
    often_seen,
    predictive_levels,
    randomised_levels,
)
from multiomics_vae.analysis.evaluation.question import Question


@pytest.mark.parametrize("mean", [0.05, 0.8, 30.0])
def test_levels_of_one_more_draw_are_uniform(mean: float) -> None:
    rng = np.random.default_rng(0)
    x, draws = rng.poisson(mean, 4000), rng.poisson(mean, (50, 4000))
    levels = randomised_levels(x, draws, rng.random(4000))
    assert kstest(levels, "uniform").pvalue > 0.01
    assert kstest(randomised_levels(x + 1, draws, rng.random(4000)), "uniform").pvalue < 1e-4


def test_levels_by_hand() -> None:
    draws = np.array([[0.0], [1.0], [1.0], [4.0]])
    assert randomised_levels(np.array([1.0]), draws, np.array([0.5])) == pytest.approx([(1 + 1.5) / 5])
    assert randomised_levels(np.array([-1.0]), draws, np.array([0.5])) == pytest.approx([0.1])
    assert randomised_levels(np.array([5.0]), draws, np.array([0.5])) == pytest.approx([0.9])


def test_an_exact_model_covers_as_it_says() -> None:
    question = known(400, seed=2).question
    found = interval_coverage(question, question)
    assert list(zip(found["modality"], found["given"], strict=True))[::4] == [("m0", "m1"), ("m1", "m0")]
    assert found["level"].tolist() == [0.5, 0.8, 0.9, 0.95] * 2
    assert (np.abs(found["coverage"] - found["level"]) < 3.5 * found["standard_error"] + 0.005).all()


def test_a_posterior_that_is_too_sure_covers_too_little() -> None:
    model = known(300, seed=2, strength=4.0)
    with torch.no_grad():
        for part in model.question.module.parts:
            part.encoder.head.log_variance.bias -= 4.0
            part.likelihood.learned.table.fill_(-3.0)
    found = interval_coverage(model.question, model.question).set_index("level")["coverage"]
    assert (found[0.9] < 0.6).all()


def test_unmeasured_values_have_no_level() -> None:
    data = mixed_data(80)
    question = Question(module_for(data), data, np.arange(80), 16, 5, 0).having(0, 2)
    blocks = list(predictive_levels(question, question, 2, 0, np.arange(5)))
    levels = np.concatenate(blocks)
    observed = data.modalities[2].loaded(question.cells).observed
    np.testing.assert_array_equal(np.isfinite(levels), observed)
    whole = replace(question, batch_size=100)
    np.testing.assert_allclose(
        np.concatenate(list(predictive_levels(whole, question, 2, 0, np.arange(5)))), levels, atol=1e-6
    )
    found = interval_coverage(question, question)
    assert set(zip(found["modality"], found["given"], strict=True)) >= {("m0", "m1"), ("m1", "m2")}
    assert found["coverage"].between(0.0, 1.0).all()


def test_features_that_are_seen_most(monkeypatch: pytest.MonkeyPatch) -> None:
    data = mixed_data(120)
    question = Question(module_for(data), data, np.arange(120), 16, 5, 0).having(1)
    monkeypatch.setattr(coverage, "MOST_FEATURES", 3)
    chosen = often_seen(question, 1)
    seen = data.modalities[1].loaded(question.cells).values.toarray().sum(0)
    assert len(chosen) == 3
    assert seen[chosen].min() >= np.sort(seen)[-3]
