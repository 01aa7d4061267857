"""Weights of the modalities: given, balanced by the marginal model, adapted from gradients."""

from __future__ import annotations

import math

import mudata
import numpy as np
import pytest
import scipy.stats
import torch

from multiomics_vae import MultiVAE
from multiomics_vae.errors import InputError
from multiomics_vae.objective import Objective
from multiomics_vae.training.balance import GradientBalance, balanced_weights, starting_weights
from small_models import make_cells, make_model, register, train

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:mudata", "ignore::UserWarning:anndata")
KINDS = {"rna": "poisson", "ephys": "gaussian"}


@pytest.fixture(scope="module")
def cells() -> mudata.MuData:
    return register(make_cells(KINDS, n_cells=30, n_features=5), KINDS)


def start(model: MultiVAE, choice: object) -> tuple[float, ...]:
    return starting_weights(choice, model._data, np.arange(30), model.module)  # type: ignore[arg-type]


def test_equal_given_and_adaptive_start(cells: mudata.MuData) -> None:
    model = make_model(cells)
    assert start(model, "equal") == start(model, "adaptive") == (1.0, 1.0)
    assert start(model, {"ephys": 3}) == (1.0, 3.0)
    assert start(model, {}) == (1.0, 1.0)


def test_balanced_by_hand(cells: mudata.MuData) -> None:
    """λ_m = mean(H) / H_m: Poisson at each gene's share of the library, standardised values ½ log 2πe."""
    model = make_model(cells)
    x = cells["rna"].X.toarray().astype(float)
    depth = x.sum(axis=1, keepdims=True)
    share = x.sum(axis=0) / x.sum()
    height_rna = -scipy.stats.poisson.logpmf(x, depth * share).sum() / len(x)
    height_ephys = 5 * 0.5 * math.log(2 * math.pi * math.e)
    average = 0.5 * (height_rna + height_ephys)
    expected = (average / height_rna, average / height_ephys)
    assert start(model, "balanced") == pytest.approx(expected, rel=1e-4)
    assert height_rna * expected[0] == pytest.approx(height_ephys * expected[1])


def test_balanced_counts_observed_entries_and_cells_that_have_the_modality() -> None:
    kinds = {"rna": "poisson", "ephys": "gaussian", "more": "gaussian"}
    lacking = {"more": range(12)}
    mdata = make_cells(kinds, n_cells=30, n_features=5, lacking=lacking)
    mdata["ephys"].X[:, 0] = np.where(np.arange(30) < 15, np.nan, mdata["ephys"].X[:, 0])
    model = make_model(register(mdata, kinds))
    cells = np.arange(30)
    _, ephys, more = balanced_weights(model._data, cells, list(model.module.likelihoods))
    assert more / ephys == pytest.approx((4 * 30 + 15) / 30 / 5)


def test_a_modality_that_no_training_cell_has_gets_one() -> None:
    mdata = register(make_cells(n_cells=30, n_features=5, lacking={"atac": range(20)}))
    model = make_model(mdata)
    without = np.flatnonzero(~model._data.present[:, 1])
    assert starting_weights("balanced", model._data, without, model.module) == (1.0, 1.0)


@pytest.mark.parametrize("choice", ["balance", ["balanced"], 3, None])
def test_unknown_choice(cells: mudata.MuData, choice: object) -> None:
    with pytest.raises(InputError, match="There is no modality_weights="):
        start(make_model(cells), choice)


@pytest.mark.parametrize("weight", [-0.1, math.nan, math.inf, "1", None])
def test_weights_that_make_no_sense(cells: mudata.MuData, weight: object) -> None:
    with pytest.raises(
        InputError, match=r"modality_weights\['rna'\].*train\(modality_weights=\{'rna': 1\.0\}\)"
    ):
        start(make_model(cells), {"rna": weight})


def test_hook_sees_the_norms_without_the_weights() -> None:
    balance = GradientBalance(2, smoothing=0.0)
    z = torch.ones(1, 4, 3, requires_grad=True)
    slopes = (2.0, 10.0)
    for _ in range(2):
        weights = balance.weights()
        losses = [weights[m] * slope * balance.watch(z, m).sum() for m, slope in enumerate(slopes)]
        sum(losses).backward()
        assert balance.norms == pytest.approx([slope * math.sqrt(12) for slope in slopes])
    assert torch.isfinite(z.grad).all()


def test_weighted_norms_become_equal_and_weights_average_one() -> None:
    balance = GradientBalance(3, smoothing=0.5)
    slopes = (1.0, 4.0, 0.5)
    for _ in range(30):
        z = torch.randn(1, 4, 3, requires_grad=True)
        sum(
            w * s * balance.watch(z, m).sum()
            for m, (w, s) in enumerate(zip(balance.weights(), slopes, strict=True))
        ).backward()
    weights = balance.weights()
    assert np.mean(weights) == pytest.approx(1.0)
    pulls = [weight * slope for weight, slope in zip(weights, slopes, strict=True)]
    assert pulls == pytest.approx([pulls[0]] * 3)


def test_weights_wait_for_every_modality() -> None:
    balance = GradientBalance(2)
    z = torch.ones(1, 2, 2, requires_grad=True)
    balance.watch(z, 0).sum().backward()
    assert balance.weights() == (1.0, 1.0)


def test_nothing_is_watched_without_gradients() -> None:
    z = torch.ones(1, 2, 2)
    assert GradientBalance(1).watch(z, 0) is z


@pytest.mark.parametrize("fusion", ["product", "mixture"])
def test_adaptive_weights_in_training(
    fusion: str, cells: mudata.MuData, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[GradientBalance, tuple[float, ...]]] = []
    original = GradientBalance.weights

    def record(self: GradientBalance) -> tuple[float, ...]:
        weights = original(self)
        seen.append((self, weights))
        return weights

    used: list[tuple[float, ...]] = []
    called = Objective.__call__

    def watch_weights(self: Objective, *arguments: object) -> object:
        used.append(tuple(self.modality_weights))
        return called(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(GradientBalance, "weights", record)
    monkeypatch.setattr(Objective, "__call__", watch_weights)
    train(make_model(cells, fusion=fusion), 20, modality_weights="adaptive", validation_size=0)
    balance, weights = seen[-1]
    assert all(norm > 0 for norm in balance.norms)
    pulls = [weight * norm for weight, norm in zip(weights, balance.norms, strict=True)]
    assert pulls == pytest.approx([pulls[0]] * 2)
    assert abs(weights[0] - weights[1]) > 0.05
    assert used[0] == (1.0, 1.0)
    assert used[-1] == weights


def test_a_heavier_modality_is_learned_better(cells: mudata.MuData) -> None:
    def last(weights: dict[str, float]) -> float:
        model = train(
            make_model(cells), 25, learning_rate=1e-2, modality_weights=weights, early_stopping=False
        )
        return float(model.history["ephys_log_likelihood_train"].iloc[-1])

    assert last({"ephys": 10.0}) > last({"ephys": 0.0}) + 1.0
