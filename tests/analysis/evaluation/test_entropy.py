"""Entropies in closed form and by integration, and the alarm when little evidence makes a model sure."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from known_models import known

from multiomics_vae.analysis.evaluation.entropy import entropies, entropy_of_subset, subsets_of
from multiomics_vae.analysis.inference import infer


def gaussian_entropy(variance: float) -> float:
    return 0.5 * float(np.log(2.0 * np.pi * np.e * variance))


def test_entropies_of_exact_posteriors() -> None:
    model = known()
    found = entropies(model.question)
    expected = [gaussian_entropy(model.posterior(subset)[1]) for subset in ((), (0,), (1,), (0, 1))]
    assert found.table["given"].tolist() == ["nothing", "m0", "m1", "m0+m1"]
    np.testing.assert_allclose(found.table["entropy"], expected, atol=1e-4)
    assert found.overconfident == ()


def test_a_mixture_is_integrated() -> None:
    model = known(6, fusion="mixture")
    found = entropy_of_subset(model.question, (0, 1))
    many = entropy_of_subset(
        type(model.question)(model.question.module, model.question.data, np.arange(6), 6, 20_000, 0), (0, 1)
    )
    (inferred,) = infer(model.question.module, model.question.data, np.arange(6), 6)
    grid = torch.linspace(-12.0, 12.0, 20_001)
    log_density = inferred.fused.posterior.log_prob(grid[:, None, None].expand(-1, 6, 1)).double()  # (n, 6)
    exact = -torch.trapezoid(log_density.exp() * log_density, grid.double(), dim=0)
    np.testing.assert_allclose(many, exact, atol=0.03)
    assert found.shape == (6,)
    bound = inferred.fused.posterior.entropy_bound().numpy()
    assert (bound >= exact.numpy() - 1e-3).all()


def test_certainty_that_comes_from_less_evidence_is_found() -> None:
    """A mixture of a sharp and a wide expert is less sure than the sharp one alone."""
    model = known(40, fusion="mixture")
    with torch.no_grad():
        model.question.module.parts[0].encoder.head.log_variance.bias.fill_(float(np.log(0.01)))
    found = entropies(model.question).overconfident
    assert (found[0].less, found[0].more) == ("m0", "m0+m1")
    assert found[0].excess > 0.5


def test_cells_that_lack_a_modality_do_not_count() -> None:
    present = np.ones((60, 2), dtype=bool)
    present[:10, 0], present[10:15, 1] = False, False
    found = entropies(known(60, present=present).question).table.set_index("given")
    assert found["n_cells"].to_dict() == {"nothing": 60, "m0": 50, "m1": 55, "m0+m1": 45}


@pytest.mark.parametrize(("n", "expected"), [(1, 2), (3, 8), (6, 64), (7, 16), (10, 22)])
def test_number_of_subsets(n: int, expected: int) -> None:
    subsets = subsets_of(n)
    assert len(subsets) == len(set(subsets)) == expected
    assert subsets[0] == ()
    assert subsets[-1] == tuple(range(n))
