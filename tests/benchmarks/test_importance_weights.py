"""Variances of log importance weights in the linear-Gaussian model, where they are known."""

from __future__ import annotations

import numpy as np
import pytest

from handmade_models import (
    data_of,
    linear_module,
    mixed_data,
    module_for,
    set_linear_expert,
    set_linear_gaussian,
    table,
)
from importance_weights import variances_of
from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.module import MultimodalModule


def exact_pair(n_cells: int = 60) -> tuple[MultimodalModule, MultimodalData, np.ndarray]:
    """Two modalities of one latent dimension whose experts are their exact likelihoods; and x_2."""
    rng = np.random.default_rng(0)
    loadings = [np.full((4, 1), 0.5), np.full((4, 1), -0.4)]
    z = rng.normal(size=(n_cells, 1))
    parts = [z @ w.T + rng.normal(size=(n_cells, 4)) for w in loadings]
    data = data_of([table(part) for part in parts], ["gaussian", "gaussian"])
    module = linear_module(data, n_latent=1)
    for m, w in enumerate(loadings):
        set_linear_gaussian(module, m, w, np.zeros(4), 1.0)
        set_linear_expert(module, m, w.T / (w**2).sum(), np.zeros(1), (w**2).sum(keepdims=True)[0])
    return module, data, np.stack(parts)


def test_exact_posteriors_have_no_variance_and_the_rest_is_in_closed_form() -> None:
    module, data, (first, second) = exact_pair()
    found = variances_of(module, data, 4_000)
    assert found.marginal < 1e-6
    assert found.joint is not None
    assert found.joint < 1e-6
    # z | x_1 ~ N(m, v) and log p(x_2 | z) = a z − b z² / 2 + const, whose variance is
    # (a − b m)² v + b² v² / 2.
    v = 1.0 / (1.0 + 4 * 0.5**2)
    m = v * 0.5 * first.sum(axis=1)
    a, b = -0.4 * second.sum(axis=1), 4 * 0.4**2
    expected = ((a - b * m) ** 2 * v + b**2 * v**2 / 2).mean()
    assert found.joint_from_first == pytest.approx(expected, rel=0.05)
    # q(z | x_2) is exact here, so that replacing p(z | x_2) by it changes nothing.
    assert found.conditional == pytest.approx(found.joint_from_first, rel=1e-4)


def test_one_modality_has_a_marginal_only_and_missing_cells_are_refused() -> None:
    first = exact_pair()[2][0]
    alone = data_of([table(first)], ["gaussian"])
    found = variances_of(linear_module(alone, 1), alone, 50)
    assert found.marginal > 0
    assert (found.joint, found.joint_from_first, found.conditional) == (None, None, None)
    missing = mixed_data()
    with pytest.raises(ValueError, match="all of them measured"):
        variances_of(module_for(missing), missing, 10)
