"""Variants are compared on the same folds of the same patients."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import outcomes_tcga as tcga
from multiomics_vae.analysis.outcomes.out_of_fold import pooled
from multiomics_vae.cross_validation.donors import Donors

DATA = Path(__file__).parents[2] / "data"


@pytest.fixture(scope="module")
def everyone() -> Donors:
    return tcga.patients(DATA, tcga.VARIANTS["five modalities"])


def test_the_patient_of_day_0_has_no_label_and_the_others_have(everyone: Donors) -> None:
    assert len(everyone.names) == 92
    assert everyone.known.sum() == 91
    assert everyone.truth[everyone.known, 1].sum() == 33
    assert everyone.truth[everyone.known, 0].min() > 0


def test_a_patient_is_in_the_same_fold_whatever_is_read(everyone: Donors) -> None:
    some = tcga.patients(DATA, tcga.VARIANTS["prot alone"])
    assert len(some.names) == 46
    whole, cut = tcga.folds_of(everyone, everyone, 0), tcga.folds_of(everyone, some, 0)
    for first, second in zip(whole, cut, strict=True):
        assert set(some.names[second.held_out]) <= set(everyone.names[first.held_out])
        assert set(some.names[second.training]) <= set(everyone.names[first.training])
    held_out = [name for fold in cut[:5] for name in some.names[fold.held_out]]
    assert sorted(held_out) == sorted(some.names[some.known])


def test_only_whole_repeats_are_scored(everyone: Donors) -> None:
    folds = tcga.folds_of(everyone, everyone, 0)[:8]
    risk = pd.concat(
        pd.DataFrame(
            {
                "patient": everyone.names[f.held_out],
                "risk": -everyone.truth[f.held_out, 0],
                "repeat": f.repeat,
                "fold": f.number,
            }
        )
        for f in folds
    )
    found = tcga.out_of_fold(everyone, risk)
    assert found is not None
    assert found.predicted.shape == (1, 91, 1)
    assert pooled(tcga.C_INDEX, found) == 1.0
    assert tcga.out_of_fold(everyone, risk[risk["repeat"] == 1]) is None
    np.testing.assert_array_equal(found.truth, everyone.truth[everyone.known])
