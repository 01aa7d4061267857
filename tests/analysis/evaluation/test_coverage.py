"""Coverage where the truth is known: exact models cover as they say, sharpened ones too little."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import torch
from known_models import known
from scipy.special import ndtri

from handmade_models import mixed_data, module_for
from multiomics_vae.analysis.calibration import Calibration, LevelMap
from multiomics_vae.analysis.depth import DepthModel, fit_depth
from multiomics_vae.analysis.direction import Direction
from multiomics_vae.analysis.evaluation import coverage
from multiomics_vae.analysis.evaluation.coverage import (
    Imputer,
    covered,
    imputation_coverage,
    imputation_scores,
    often_seen,
)
from multiomics_vae.analysis.evaluation.question import Question

NO_MAPS = Calibration()


def imputer_of(question: Question) -> Imputer:
    pairs = permutations(range(question.module.n_modalities), 2)
    asked = [Direction(target, (given,)) for target, given in pairs]
    return Imputer({direction: depth_of(question, direction) for direction in asked}, NO_MAPS)


def depth_of(question: Question, direction: Direction) -> DepthModel:
    if not question.module.likelihoods[direction.modality].reads_depth:
        return DepthModel.none(question.module)
    return fit_depth(question.module, question.data, question.cells, 32, direction)


def test_an_exact_model_covers_as_it_says() -> None:
    question = known(400, seed=2).question
    found = imputation_coverage(question, imputer_of(question))
    assert list(zip(found["modality"], found["given"], strict=True))[::4] == [("m0", "m1"), ("m1", "m0")]
    assert found["level"].tolist() == [0.5, 0.8, 0.9, 0.95] * 2
    assert (np.abs(found["coverage"] - found["level"]) < 3.5 * found["standard_error"] + 0.005).all()


def test_a_posterior_that_is_too_sure_covers_too_little() -> None:
    model = known(300, seed=2, strength=4.0)
    with torch.no_grad():
        for part in model.question.module.parts:
            part.encoder.head.log_variance.bias -= 4.0
            part.likelihood.learned.table.fill_(-3.0)
    found = imputation_coverage(model.question, imputer_of(model.question)).set_index("level")["coverage"]
    assert (found[0.9] < 0.6).all()


def test_unmeasured_values_have_no_level() -> None:
    data = mixed_data(80)
    question = Question(module_for(data), data, np.arange(80), 16, 5, 0).having(0, 2)
    direction, features = Direction(2, (0,)), np.arange(5)
    levels = imputation_scores(question, direction, features, depth_of(question, direction))
    observed = data.modalities[2].loaded(question.cells).observed
    np.testing.assert_array_equal(np.isfinite(levels), observed)
    whole = replace(question, batch_size=100)
    again = imputation_scores(whole, direction, features, depth_of(question, direction))
    np.testing.assert_allclose(again, levels, atol=1e-4)
    found = imputation_coverage(question, imputer_of(question))
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


def test_a_cell_counts_once_and_unmeasured_values_do_not() -> None:
    levels = np.array([[0.5, 0.9, np.nan, np.nan], [0.02, 0.3, 0.6, 0.99], [np.nan] * 4])
    np.testing.assert_allclose(covered(ndtri(levels), 0.5), [0.5, 0.5])
    np.testing.assert_allclose(covered(ndtri(levels), 0.9), [1.0, 0.5])


def test_recalibrated_intervals_are_measured_beside_the_model_s() -> None:
    model = known(600, seed=2, strength=2.0)
    with torch.no_grad():
        for part in model.question.module.parts:
            part.likelihood.learned.table.fill_(-2.0)
    learned, asked = (replace(model.question, cells=cells) for cells in np.split(np.arange(600), 2))
    plain = imputer_of(model.question)
    features = np.arange(4)
    maps = {
        direction: LevelMap.from_held_out(
            imputation_scores(learned, direction, features, plain.depths[direction]).ravel()
        )
        for direction in (Direction(0, (1,)), Direction(1, (0,)))
    }
    found = imputation_coverage(asked, replace(plain, calibration=Calibration(maps))).set_index("level")
    assert (found.loc[0.9, "coverage"] < 0.75).all()
    np.testing.assert_allclose(found.loc[0.9, "calibrated"], 0.9, atol=0.04)
    assert imputation_coverage(asked, plain)["calibrated"].isna().all()
