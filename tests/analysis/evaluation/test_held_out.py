"""Held-out log likelihoods: the numbers of the bounds, and what z is worth in closed form."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from known_models import LOADINGS, known

from multiomics_vae.analysis.bounds import evidence_bounds
from multiomics_vae.analysis.evaluation.held_out import held_out


def test_means_are_those_of_the_bounds_over_cells_that_count() -> None:
    present = np.ones((60, 2), dtype=bool)
    present[:10, 0], present[10:15, 1] = False, False
    question = known(60, present=present).question
    found = held_out(question)
    table = found.table.set_index(["modality", "given"])
    assert list(found.table["given"].unique()) == ["all", "m0", "m1", "nothing"]
    across = evidence_bounds(question.module, question.data, question.cells, 25, 5, (0,), 0)
    both = present.all(1)
    row = table.loc[("m1", "m0")]
    assert row["n_cells"] == 45
    assert row["mean"] == pytest.approx(across.log_likelihood[both, 1].mean())
    assert row["standard_error"] == pytest.approx(across.log_likelihood[both, 1].std(ddof=1) / np.sqrt(45))
    whole = evidence_bounds(question.module, question.data, question.cells, 25, 5, None, 0)
    assert found.elbo[0] == pytest.approx(whole.elbo.mean())
    assert found.kl["all"] == pytest.approx(whole.kl.mean())
    assert table.loc[("m0", "all"), "n_cells"] == 50


def test_gain_of_z_in_closed_form() -> None:
    """E_q log p(x | z) = c + b μ + a (μ² + σ²); from N(0, 1) it is c + a."""
    model = known(80)
    found = held_out(replace(model.question, n_samples=400))
    for m, name in enumerate(("m0", "m1")):
        a = -0.5 * float((LOADINGS[m] ** 2).sum())
        b = (model.values[m] @ LOADINGS[m]).ravel()
        mean, variance = model.posterior((0, 1))
        expected = (b * mean + a * (mean**2 + variance) - a).mean()
        assert found.gain[name][0] == pytest.approx(expected, abs=0.08)


def test_a_decoder_that_ignores_z_gains_nothing() -> None:
    model = known(80)
    with torch.no_grad():
        model.question.module.parts[1].decoder.last_layers[0].weight.zero_()
    gain = held_out(model.question).gain
    assert gain["m1"] == (pytest.approx(0.0, abs=1e-5), pytest.approx(0.0, abs=1e-5))
    assert gain["m0"][0] > 0.3
