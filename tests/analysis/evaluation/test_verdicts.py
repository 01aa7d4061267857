"""Verdicts: what makes them flip, and that their advice can be followed."""

from __future__ import annotations

import inspect
import re

import pandas as pd
import pytest

from multiomics_vae import MultiVAE
from multiomics_vae.analysis.evaluation.entropy import Overconfidence
from multiomics_vae.analysis.evaluation.verdicts import (
    Verdict,
    collapse_verdicts,
    coverage_verdicts,
    entropy_verdict,
    joint_collapse,
    modality_collapse,
)


@pytest.mark.parametrize(
    ("n_active", "kl", "is_well", "word"),
    [(12, 9.0, True, "12 of 20"), (0, 9.0, False, "collapsed onto"), (12, 0.05, False, "collapsed onto")],
)
def test_joint(n_active: int, kl: float, is_well: bool, word: str) -> None:
    found = joint_collapse(n_active, 20, kl)
    assert found.is_well is is_well
    assert word in found.sentence


def test_a_posterior_of_one_dimension_among_twenty_is_mostly_collapsed() -> None:
    assert joint_collapse(1, 20, 3.0).sentence.startswith("mostly collapsed: 1 of 20")
    assert joint_collapse(2, 20, 3.0).is_well
    assert joint_collapse(1, 3, 3.0).is_well


@pytest.mark.parametrize(
    ("n_active", "kl", "gain", "words"),
    [
        (5, 4.0, (10.0, 1.0), ()),
        (0, 4.0, (10.0, 1.0), ("encoder has collapsed",)),
        (5, 0.01, (10.0, 1.0), ("encoder has collapsed",)),
        (5, 4.0, (1.0, 0.9), ("decoder ignores z",)),
        (5, 4.0, (0.05, 0.001), ("decoder ignores z",)),
        (0, 0.0, (-3.0, 1.0), ("encoder has collapsed", "decoder ignores z")),
        (None, None, (10.0, 1.0), ()),
        (0, float("nan"), (float("nan"), float("nan")), ()),
    ],
)
def test_modality(
    n_active: int | None, kl: float | None, gain: tuple[float, float], words: tuple[str, ...]
) -> None:
    found = modality_collapse("rna", n_active, kl, gain)
    assert found.is_well is not words
    assert found.is_well == (words == ())
    assert all(word in found.sentence for word in words)


def test_entropy() -> None:
    assert entropy_verdict(()).is_well
    found = entropy_verdict((Overconfidence("rna", "rna+atac", 2.0), Overconfidence("atac", "rna", 1.0)))
    assert not found.is_well
    assert "q(z | rna) is 2.00 nats below that of q(z | rna+atac)" in found.sentence


def coverage_of(share: float, calibrated: float, error: float = 0.01) -> pd.DataFrame:
    columns = ["modality", "given", "level", "coverage", "standard_error", "calibrated"]
    rows = [("rna", "atac", 0.5, 0.1, error, calibrated), ("rna", "atac", 0.9, share, error, calibrated)]
    return pd.DataFrame(rows, columns=columns)


@pytest.mark.parametrize(
    ("share", "calibrated", "is_well", "words"),
    [
        (0.91, float("nan"), True, "90 % intervals hold 91.0%"),
        (0.85, float("nan"), False, "too narrow"),
        (0.95, float("nan"), False, "too wide"),
        (0.80, 0.905, True, "recalibrated 90 % intervals hold 90.5%"),
        (0.90, 0.80, False, "recalibrated 90 % intervals hold 80.0%"),
    ],
)
def test_intervals(share: float, calibrated: float, is_well: bool, words: str) -> None:
    (found,) = coverage_verdicts(coverage_of(share, calibrated))
    assert found.subject == "intervals of rna from atac"
    assert found.is_well is is_well
    assert words in found.sentence
    (of_few_cells,) = coverage_verdicts(coverage_of(share, calibrated, error=0.1))
    assert of_few_cells.is_well


def test_advice_names_arguments_that_there_are() -> None:
    advice = [
        *collapse_verdicts({"all": 0, "rna": 0}, 20, {"all": 0.0, "rna": 0.0}, {"rna": (0.0, 0.0)}),
        joint_collapse(1, 20, 3.0),
        entropy_verdict((Overconfidence("rna", "rna+atac", 2.0),)),
    ]
    assert not any(verdict.is_well for verdict in advice)
    named = set(re.findall(r"(\w+)=", " ".join(verdict.sentence for verdict in advice)))
    known = (
        inspect.signature(MultiVAE.train).parameters.keys() | inspect.signature(MultiVAE).parameters.keys()
    )
    assert "kl_weight" in named
    assert named <= known


def test_as_text() -> None:
    assert str(Verdict("rna", True, "fine")) == "[ok] rna: fine"
    assert str(Verdict("rna", False, "not fine")).startswith("[!!] rna")
