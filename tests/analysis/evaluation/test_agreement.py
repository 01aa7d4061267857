"""FOSCTTM by brute force, Procrustes against scipy, and both where embeddings say nothing."""

from __future__ import annotations

import numpy as np
import pytest
from known_models import known
from scipy.spatial import procrustes
from scipy.stats import ortho_group

from multiomics_vae.analysis.evaluation import agreement
from multiomics_vae.analysis.evaluation.agreement import agreement_table, foscttm, procrustes_disparity


def clouds(n: int = 30, noise: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 3))
    return x, x + noise * rng.normal(size=(n, 3))


def test_foscttm_by_brute_force(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = clouds()
    n = len(x)
    shares = []
    for first, second in ((x, y), (y, x)):
        for i in range(n):
            distance = [np.linalg.norm(first[i] - second[j]) for j in range(n)]
            shares.append(sum(distance[j] < distance[i] for j in range(n)) / (n - 1))
    assert foscttm(x, y) == pytest.approx(np.mean(shares))
    monkeypatch.setattr(agreement, "ROWS_AT_ONCE", 7)
    assert foscttm(x, y) == pytest.approx(np.mean(shares))


def test_foscttm_of_perfect_unrelated_and_collapsed_embeddings() -> None:
    x, _ = clouds(200)
    assert foscttm(x, x) == 0.0
    assert foscttm(x, x[np.random.default_rng(1).permutation(200)]) == pytest.approx(0.5, abs=0.05)
    assert foscttm(np.zeros((9, 2)), np.ones((9, 2))) == 0.5
    assert np.isnan(foscttm(x[:1], x[:1]))


def test_procrustes_is_that_of_scipy() -> None:
    for noise in (0.01, 0.5, 5.0):
        x, y = clouds(noise=noise)
        assert procrustes_disparity(x, y) == pytest.approx(procrustes(x, y)[2])


def test_procrustes_sees_through_rotation_scale_and_shift() -> None:
    x, y = clouds()
    turned = 7.0 * y @ ortho_group.rvs(3, random_state=0) - 4.0
    assert procrustes_disparity(x, turned) == pytest.approx(procrustes_disparity(x, y))
    assert procrustes_disparity(x, np.zeros_like(x)) == 1.0
    assert np.isnan(procrustes_disparity(x[:1], y[:1]))


def test_table_of_a_known_model() -> None:
    model = known(80)
    means = [model.posterior((m,))[0][:, None] for m in (0, 1)]
    row = agreement_table(model.question).iloc[0]
    assert (row["first"], row["second"], row["n_cells"]) == ("m0", "m1", 80)
    assert row["foscttm"] == pytest.approx(foscttm(*means), abs=1e-3)
    assert row["procrustes"] == pytest.approx(1.0 - np.corrcoef(means[0].T, means[1].T)[0, 1] ** 2, abs=1e-4)


def test_only_cells_that_have_both_count() -> None:
    present = np.ones((80, 2), dtype=bool)
    present[:30, 0], present[30:50, 1] = False, False
    assert agreement_table(known(80, present=present).question)["n_cells"].tolist() == [30]
    present[:40, 0], present[40:, 1] = False, False
    present[40:, 0] = present[:40, 1] = True
    assert agreement_table(known(80, present=present).question).empty
