"""Normalised values are the likelihood's, at the posterior, for the batch and the features asked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from handmade_models import data_of, mixed_data, module_for, table
from multiomics_vae.analysis.latent import latent_samples, latent_table
from multiomics_vae.analysis.normalized import decoded_features, normalized_values
from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.data.loader import make_minibatch
from multiomics_vae.fusion import FUSION_RULES
from multiomics_vae.likelihoods import LIKELIHOODS, CellContext
from multiomics_vae.module import MultimodalModule

EVERYONE = np.arange(30)
WIDTHS = (12, 15, 5)
MODALITIES = pytest.mark.parametrize("modality", [0, 1, 2])


def values(
    module: MultimodalModule,
    data: MultimodalData,
    modality: int,
    *,
    cells: np.ndarray = EVERYONE,
    features: np.ndarray | None = None,
    batches: tuple[int, ...] | None = None,
    n_samples: int | None = None,
    library_size: float | None = None,
    batch_size: int = 30,
    given: tuple[int, ...] | None = None,
) -> np.ndarray:
    wanted = np.arange(WIDTHS[modality]) if features is None else features
    return normalized_values(
        module, data, cells, batch_size, modality, wanted, batches, n_samples, library_size, given
    )


def decoded(
    module: MultimodalModule, data: MultimodalData, modality: int, z: np.ndarray, batch: int | None = None
) -> np.ndarray:
    """Means from the last layer's own matrices: softmax, sigmoid, or standardised values put back."""
    covariates = make_minibatch(data, EVERYONE).covariates
    if batch is not None:
        covariates = covariates.with_batch(batch)
    encoded = np.eye(2)[covariates.batch.numpy()]
    layer = module.parts[modality].decoder.last_layers[0]
    weight, bias = layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy()
    outputs = np.concatenate([z, encoded], axis=1) @ weight.T + bias
    if modality == 0:
        shares = np.exp(outputs - outputs.max(1, keepdims=True))
        return shares / shares.sum(1, keepdims=True)
    if modality == 1:
        return 1.0 / (1.0 + np.exp(-outputs))
    likelihood = module.parts[2].likelihood
    return outputs * np.exp(0.5 * likelihood.log_data_variance.numpy()) + likelihood.location.numpy()


@MODALITIES
def test_values_are_decoded_from_the_posterior_mean(modality: int) -> None:
    data = mixed_data(30)
    module = module_for(data)
    z = latent_table(module, data, EVERYONE, 30).mean
    np.testing.assert_allclose(values(module, data, modality), decoded(module, data, modality, z), rtol=1e-4)


@MODALITIES
def test_values_are_averaged_over_the_draws_of_each_cell(modality: int) -> None:
    data = mixed_data(30)
    module = module_for(data)
    draws = latent_samples(module, data, EVERYONE, 30, n_samples=7)
    expected = np.mean([decoded(module, data, modality, z) for z in draws], axis=0)
    np.testing.assert_allclose(values(module, data, modality, n_samples=7), expected, rtol=1e-4)


@MODALITIES
def test_values_of_other_batches_are_averaged(modality: int) -> None:
    data = mixed_data(30)
    module = module_for(data)
    z = latent_table(module, data, EVERYONE, 30).mean
    first, second = (decoded(module, data, modality, z, batch) for batch in (0, 1))
    assert np.abs(first - second).max() > 1e-3
    np.testing.assert_allclose(values(module, data, modality, batches=(0,)), first, rtol=1e-4)
    found = values(module, data, modality, batches=(1, 0))
    np.testing.assert_allclose(found, (first + second) / 2, rtol=1e-4)


SEVERAL = {"batches": (1, 0), "n_samples": 3}


@pytest.mark.parametrize("decoder", ["linear", "mlp"])
@pytest.mark.parametrize("likelihood", sorted(LIKELIHOODS))
def test_some_features_are_the_columns_of_all(likelihood: str, decoder: str) -> None:
    data = one_modality(likelihood)
    module = module_for(data, decoder=decoder)
    for choices in ({}, SEVERAL):
        everything = values(module, data, 0, features=np.arange(9), **choices)
        assert np.ptp(everything, axis=0).max() > 1e-3
        for features in ([3, 0, 3], [8], list(range(8, -1, -1)), [2, 1] * 6, []):
            found = values(module, data, 0, features=np.array(features, dtype=np.int64), **choices)
            np.testing.assert_allclose(found, everything[:, features], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("likelihood", sorted(LIKELIHOODS))
def test_no_tensor_of_all_features_is_made_for_some(likelihood: str) -> None:
    """Neither by the last product, nor by a softmax, nor by parameters that are looked up cell by cell."""
    n_cells, n_features = 64, 40_000
    data = one_modality(likelihood, n_cells, n_features)
    module = module_for(data)
    chosen = np.array([5, 39_999, 7])
    everyone = np.arange(n_cells)
    z, covariates = torch.zeros(n_cells, 3), make_minibatch(data, everyone).covariates
    cells = CellContext(torch.ones(n_cells), covariates.batch)
    found = {}
    for name, features in {"all": None, "some": torch.from_numpy(chosen)}.items():
        with torch.inference_mode(), LargestTensor() as largest:
            answer = decoded_features(module, 0, z, covariates, cells, features)
        found[name] = answer.numpy(), largest.n_entries
    np.testing.assert_allclose(found["some"][0], found["all"][0][:, chosen], rtol=1e-6, atol=1e-6)
    assert found["all"][1] >= n_cells * n_features
    assert found["some"][1] <= n_cells * n_features // 4


def one_modality(likelihood: str, n_cells: int = 30, n_features: int = 9) -> MultimodalData:
    """Cells of two batches with one modality; simple values that its likelihood takes."""
    rng = np.random.default_rng(3)
    support = LIKELIHOODS[likelihood].support
    coverage = rng.poisson(6.0, (n_cells, n_features)) + 1 if support == "fractions" else None
    draws = {
        "counts": lambda: rng.poisson(3.0, (n_cells, n_features)),
        "binary": lambda: rng.random((n_cells, n_features)) < 0.3,
        "real": lambda: rng.normal(2.0, 1.5, (n_cells, n_features)),
        "codes": lambda: rng.integers(0, 3, (n_cells, n_features)),
        "fractions": lambda: rng.binomial(coverage, 0.4),
    }
    sparse = support in ("counts", "binary")
    part = table(draws[support](), coverage=coverage, sparse=sparse)
    return data_of([part], [likelihood], batch=np.arange(n_cells) % 2)


class LargestTensor(TorchDispatchMode):
    """Notes the size of the largest tensor that an operation returns."""

    n_entries = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor):
            self.n_entries = max(self.n_entries, made.numel())
        return made


def test_library_size_multiplies_shares_only() -> None:
    data = mixed_data(30)
    module = module_for(data)
    shares = values(module, data, 0, library_size=1.0)
    np.testing.assert_allclose(shares.sum(1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(values(module, data, 0, library_size=1e4), 1e4 * shares, rtol=1e-5)
    for modality in (1, 2):
        found = values(module, data, modality, library_size=1e4)
        np.testing.assert_array_equal(found, values(module, data, modality))


def test_the_cell_s_own_depth_is_taken_out() -> None:
    """Twice the depth in the target modality, nothing else changed, gives the same answer."""
    data = mixed_data(30)
    deeper = mixed_data(30)
    for m in (0, 1):
        deeper.modalities[m].depth[:] *= 2.0
    module = module_for(data)
    for modality in (0, 1):
        found = values(module, deeper, modality, given=(2,))
        np.testing.assert_array_equal(found, values(module, data, modality, given=(2,)))


@pytest.mark.parametrize("n_samples", [None, 3])
@pytest.mark.parametrize("fusion", sorted(FUSION_RULES))
def test_a_cell_has_the_same_values_in_any_company(fusion: str, n_samples: int | None) -> None:
    data = mixed_data(30)
    module = module_for(data, fusion=fusion)
    expected = values(module, data, 1, n_samples=n_samples)
    order = np.random.default_rng(0).permutation(30)[:17]
    for batch_size in (1, 4):
        found = values(module, data, 1, cells=order, batch_size=batch_size, n_samples=n_samples)
        np.testing.assert_allclose(found, expected[order], rtol=1e-4, atol=1e-6)


@MODALITIES
def test_a_cell_that_lacks_the_modality_is_decoded_from_its_others(modality: int) -> None:
    data = mixed_data(30)
    module = module_for(data)
    found = values(module, data, modality)
    lacking = ~data.present[:, modality]
    assert lacking.any()
    assert np.isfinite(found).all()
    assert np.ptp(found[lacking], axis=0).max() > 1e-3  # each from its own


def test_the_module_is_left_as_it_was() -> None:
    data = mixed_data(10)
    module = module_for(data).train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    values(module, data, 0, cells=np.arange(10), n_samples=2)
    assert module.training
    for name, value in module.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0.0, atol=0.0)
