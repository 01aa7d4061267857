"""The subset objective that follows from how much of the data is missing."""

from __future__ import annotations

import numpy as np
import pytest

from multiomics_vae.objective import objective_for
from small_models import make_cells, make_model, train


def present_of(absent: float, n_cells: int = 1_000) -> np.ndarray:
    """Two modalities; a share ``absent`` of all pairs is missing from the second."""
    present = np.ones((n_cells, 2), dtype=bool)
    present[: round(2 * absent * n_cells), 1] = False
    return present


@pytest.mark.parametrize(
    ("absent", "kind", "weight"),
    [(0.0, "within", 0.3), (0.04, "within", 0.412), (0.1, "both", 0.58), (0.25, "both", 1), (0.4, "both", 1)],
)
def test_more_is_missing_more_it_counts(absent: float, kind: str, weight: float) -> None:
    found = objective_for(present_of(absent))
    assert found[0] == kind
    assert found[1] == pytest.approx(weight)


def test_what_was_said_stands() -> None:
    assert objective_for(present_of(0.4), "within", 0.2) == ("within", 0.2)
    assert objective_for(present_of(0.0), "none") == ("none", pytest.approx(0.3))
    assert objective_for(present_of(0.4), weight=0.0) == ("both", 0.0)


@pytest.mark.parametrize(
    ("lacking", "said"),
    [(None, ("within", 0.3)), ({"atac": range(20)}, ("both", 1.0))],
)
def test_training_takes_what_follows(lacking: dict[str, range] | None, said: tuple[str, float]) -> None:
    cells = make_cells(lacking=lacking)
    still = {"validation_size": 0.0, "early_stopping": False}
    follows = train(make_model(cells), **still).get_latent_representation()
    asked = train(make_model(cells), subset_objective=said[0], subset_weight=said[1], **still)
    np.testing.assert_array_equal(follows, asked.get_latent_representation())
    other = train(make_model(cells), subset_objective=said[0], subset_weight=0.6, **still)
    assert not np.array_equal(follows, other.get_latent_representation())
