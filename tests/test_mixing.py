"""The local inverse Simpson index against its definition and its limits."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import brentq

from multiomics_vae.errors import InputError
from multiomics_vae.mixing import ilisi, inverse_simpson


def draw(n=120, seed=0):
    generator = np.random.default_rng(seed)
    return generator.standard_normal((n, 4)), generator.integers(3, size=n)


def by_hand(Z, groups, i, n_neighbours):
    distances = np.linalg.norm(Z - Z[i], axis=1)
    nearest = np.argsort(distances)[1 : n_neighbours + 1]
    further = distances[nearest]

    def weights(beta):
        w = np.exp(-beta * (further - further[0]))
        return w / w.sum()

    def entropy(beta):
        w = weights(beta)
        return -(w * np.log(np.maximum(w, 1e-300))).sum()

    beta = brentq(lambda b: entropy(b) - np.log(n_neighbours / 3), 1e-6, 1e3)
    shares = [weights(beta)[groups[nearest] == g].sum() for g in np.unique(groups)]
    return 1 / np.square(shares).sum()


def test_it_is_the_definition_with_another_root_finder():
    Z, groups = draw()
    found = inverse_simpson(Z, groups, 30)
    for i in (0, 7, 50, 119):
        assert found[i] == pytest.approx(by_hand(Z, groups, i, 30), rel=1e-6)


def test_groups_apart_are_one_and_mixed_groups_are_all():
    Z, _ = draw(900)
    batch = np.arange(900) % 2
    assert ilisi(Z + 100 * batch[:, None], batch) == 0.0
    assert ilisi(Z, batch) > 0.9
    assert 0.2 < ilisi(Z + 1.5 * batch[:, None] / 2, batch) < 0.95
    assert np.isnan(ilisi(Z, np.zeros(900)))


def test_scales_and_duplicates_do_no_harm():
    Z, groups = draw()
    np.testing.assert_allclose(inverse_simpson(1e4 * Z, groups), inverse_simpson(Z, groups), rtol=1e-6)
    same = np.zeros((50, 2))
    assert np.isfinite(inverse_simpson(same, np.arange(50) % 2)).all()


def test_it_agrees_with_scib_metrics():
    scib = pytest.importorskip("scib_metrics")
    from scib_metrics.nearest_neighbors import NeighborsResults
    from sklearn.neighbors import NearestNeighbors

    Z, groups = draw(400)
    distances, indices = NearestNeighbors(n_neighbors=91).fit(Z).kneighbors(Z)  # theirs holds the cell itself
    theirs = scib.ilisi_knn(NeighborsResults(indices=indices, distances=distances), groups)
    assert ilisi(Z, groups) == pytest.approx(float(theirs), abs=0.01)


def test_bad_input_is_told():
    Z, groups = draw()
    with pytest.raises(InputError, match="120 cells and the groups 5"):
        inverse_simpson(Z, groups[:5])
    with pytest.raises(InputError, match="2 cells are too few"):
        inverse_simpson(Z[:2], groups[:2])
