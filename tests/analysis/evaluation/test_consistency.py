"""Known truth: matched cells get uniform p-values, cells whose modalities were swapped get small ones."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from known_models import cells_of, known
from scipy.stats import kstest

from handmade_models import mixed_data, module_for
from multiomics_vae.analysis.evaluation import consistency
from multiomics_vae.analysis.evaluation.consistency import consistency_table
from multiomics_vae.analysis.evaluation.question import Question
from multiomics_vae.errors import InputError


def test_distance_is_the_formula() -> None:
    model = known(60)
    found = consistency_table(model.question, model.question)
    (mean_a, variance_a), (mean_b, variance_b) = (model.posterior((m,)) for m in (0, 1))
    expected = (mean_a - mean_b) ** 2 / (variance_a + variance_b)
    np.testing.assert_allclose(found["d2_m0_m1"], expected, rtol=1e-3, atol=1e-5)
    for same in ("distance", "largest_distance"):
        np.testing.assert_array_equal(found[same], found["d2_m0_m1"])


def test_matched_cells_are_uniform_and_swapped_ones_stand_out() -> None:
    """Some swapped cells have the same z by chance, and nothing can tell them."""
    model = known(1500, seed=1, swapped=100, strength=16.0)
    asked, reference = (cells_of(model.question, cells) for cells in (np.arange(800), np.arange(800, 1500)))
    found = consistency_table(asked, reference)
    matched, swapped = found.iloc[100:], found.iloc[:100]
    assert kstest(matched["p_value"], "uniform").pvalue > 0.01
    assert (swapped["p_value"] < 0.01).mean() > 0.85
    assert np.median(swapped["p_value"]) < 0.002
    assert kstest(swapped["p_swapped"], "uniform").pvalue > 0.01
    assert np.median(matched["p_swapped"]) < 0.2


def test_a_cell_of_the_reference_is_compared_with_the_others() -> None:
    model = known(60)
    found = consistency_table(model.question, model.question)
    np.testing.assert_allclose(np.sort(found["p_value"]), np.arange(1, 61) / 60)
    asked, rest = (cells_of(model.question, cells) for cells in (np.arange(1), np.arange(1, 60)))
    assert consistency_table(asked, rest)["p_value"].iloc[0] == pytest.approx(found["p_value"].iloc[0])


def test_a_row_does_not_depend_on_the_others() -> None:
    model = known(90)
    reference = cells_of(model.question, np.arange(40, 90))
    whole = consistency_table(model.question, reference)
    order = np.array([77, 3, 41, 20])
    part = consistency_table(cells_of(model.question, order), reference)
    pd.testing.assert_frame_equal(part, whole.iloc[order], rtol=1e-4)


def test_three_modalities_some_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consistency, "FEWEST_REFERENCE", 5)
    data = mixed_data(60)
    question = Question(module_for(data), data, np.arange(60), 16, 1, 0)
    found = consistency_table(question, question)
    pairs = {"d2_m0_m1": [0, 1], "d2_m0_m2": [0, 2], "d2_m1_m2": [1, 2]}
    for column, pair in pairs.items():
        np.testing.assert_array_equal(found[column].notna(), data.present[:, pair].all(1))
    several = data.present.sum(1) > 1
    for column in ("distance", "largest_distance", "p_value", "p_swapped"):
        np.testing.assert_array_equal(found[column].notna(), several)
    np.testing.assert_allclose(found["distance"], found[list(pairs)].mean(axis=1), equal_nan=True)
    np.testing.assert_allclose(found["largest_distance"], found[list(pairs)].max(axis=1), equal_nan=True)
    assert found.loc[several, ["p_value", "p_swapped"]].stack().between(0.0, 1.0).all()


def test_swaps_take_every_modality_from_another_cell() -> None:
    for swap in consistency._swaps(np.arange(20, 41), np.array([0, 2, 3]), seed=0):
        rows = np.stack(list(swap.values()))
        assert all(len(set(row)) == 3 for row in rows.T)
        for row in rows:
            np.testing.assert_array_equal(np.sort(row), np.arange(20, 41))


def test_too_few_reference_cells() -> None:
    model = known(60)
    with pytest.raises(InputError, match=r"Only 7 reference cells.*model\.consistency\(reference="):
        consistency_table(model.question, cells_of(model.question, np.arange(7)))
