"""Known truth: the latent state of simulated cells is found again, and the batch is not in it.

Counts, 0/1 values and real values of one state of four dimensions; 30 % of the cells lack each
modality. A recovered state is one that a linear map of the posterior means gives back (R²).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import r2_score
from sklearn.model_selection import cross_val_predict, cross_val_score

from multiomics_vae import MultiVAE
from multiomics_vae.data.synthetic import SyntheticData, SyntheticModality, simulate

MODALITIES = (
    SyntheticModality("rna", 100, depth=1000.0),
    SyntheticModality("atac", 200, kind="binary", mean_open=0.2),
    SyntheticModality("protein", 20, kind="real"),
)
LIKELIHOODS = {"rna": "nb", "atac": "bernoulli", "protein": "gaussian"}


@dataclass(frozen=True)
class Recovered:
    """Cross-validated R² of the four dimensions, over all cells and over those that lack something."""

    r2: np.ndarray
    r2_incomplete: np.ndarray
    batch_auc: float


def recovered(
    fusion: str, seed: int, max_epochs: int, *, batch_effect: float = 0.0, batch_key: str | None = None
) -> Recovered:
    data = simulate(
        800, MODALITIES, n_latent=4, n_batches=2, batch_effect=batch_effect, missing=0.3, seed=seed
    )
    MultiVAE.setup_mudata(data.mdata, likelihoods=LIKELIHOODS, batch_key=batch_key)
    model = MultiVAE(data.mdata, n_latent=6, n_hidden=64, fusion=fusion, seed=seed)
    model.train(max_epochs=max_epochs, progress=False, accelerator="cpu")
    return judged(data, model.get_latent_representation())


def judged(data: SyntheticData, means: np.ndarray) -> Recovered:
    predicted = cross_val_predict(LinearRegression(), means, data.z, cv=5)
    incomplete = ~np.stack([truth.present for truth in data.modalities], axis=1).all(1)
    classifier = LogisticRegression(max_iter=500)
    return Recovered(
        r2_score(data.z, predicted, multioutput="raw_values"),
        r2_score(data.z[incomplete], predicted[incomplete], multioutput="raw_values"),
        cross_val_score(classifier, means, data.batch, cv=5, scoring="roc_auc").mean(),
    )


@pytest.mark.parametrize("fusion", ["product", "gated"])
def test_the_latent_state_is_recovered(fusion: str) -> None:
    found = recovered(fusion, seed=0, max_epochs=30)
    assert found.r2.mean() > 0.75
    assert found.r2_incomplete.mean() > 0.7
    assert abs(found.batch_auc - 0.5) < 0.1  # there is no batch effect to find


def test_a_batch_effect_is_removed_if_it_is_named() -> None:
    """The same data without the batch key show that the effect is there."""
    named = recovered("product", seed=0, max_epochs=30, batch_effect=0.6, batch_key="batch")
    unnamed = recovered("product", seed=0, max_epochs=30, batch_effect=0.6)
    assert unnamed.batch_auc > 0.95
    assert named.batch_auc < 0.75  # after so short a training; below .65 after a longer one, see there
    assert named.r2.mean() > 0.75


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("fusion", ["product", "gated"])
def test_longer_training_recovers_every_dimension_and_no_batch(fusion: str, seed: int) -> None:
    found = recovered(fusion, seed, max_epochs=100, batch_effect=0.6, batch_key="batch")
    assert found.r2.mean() > 0.85
    assert found.r2.min() > 0.7
    assert found.r2_incomplete.mean() > 0.8
    assert found.batch_auc < 0.65
