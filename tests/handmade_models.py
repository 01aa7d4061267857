"""Small data sets and modules made by hand, for tests that need no MuData and no training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp
import torch

from multiomics_vae.architecture import ModalityConfig, ModelConfig, build_module
from multiomics_vae.data.dataset import ModalityData, MultimodalData
from multiomics_vae.data.schema import CategoricalCovariate, ContinuousCovariate, ModalitySchema, Schema
from multiomics_vae.data.statistics import feature_statistics
from multiomics_vae.fusion import FUSION_RULES
from multiomics_vae.likelihoods import LIKELIHOODS, FeatureStatistics
from multiomics_vae.module import ModalityParts, MultimodalModule
from multiomics_vae.networks.covariates import CovariateEncoding
from multiomics_vae.networks.decoder import Decoder
from multiomics_vae.networks.encoder import Encoder
from multiomics_vae.networks.transforms import TRANSFORMS
from multiomics_vae.priors import PRIORS


def table(
    values: np.ndarray,
    present: np.ndarray | None = None,
    depth: np.ndarray | None = None,
    observed: np.ndarray | None = None,
    coverage: np.ndarray | None = None,
    sparse: bool = False,
) -> ModalityData:
    """One modality from values of all N cells; its rows are stored in reverse order of the cells."""
    n_cells = len(values)
    kept = np.flatnonzero(np.ones(n_cells, dtype=bool) if present is None else present)[::-1]
    row_of_cell = np.full(n_cells, -1, dtype=np.int64)
    row_of_cell[kept] = np.arange(len(kept))
    if depth is None:
        totals = values if coverage is None else coverage
        depth = np.maximum(totals.sum(1), 1.0) if sparse or coverage is not None else np.ones(n_cells)

    def form(array: np.ndarray) -> sp.csr_matrix | np.ndarray:
        dense = np.ascontiguousarray(array[kept], dtype=np.float32)
        return sp.csr_matrix(dense) if sparse else dense

    return ModalityData(
        form(values),
        row_of_cell,
        depth[kept].astype(np.float32),
        None if observed is None else observed[kept],
        None if coverage is None else form(coverage),
    )


def data_of(
    tables: Sequence[ModalityData],
    likelihoods: Sequence[str],
    batch: np.ndarray | None = None,
    categorical: np.ndarray | None = None,
    continuous: np.ndarray | None = None,
) -> MultimodalData:
    """Registered cells from tables; the categories of a covariate are as many as its codes."""
    n_cells = len(tables[0].row_of_cell)
    codes = np.zeros((n_cells, 0), dtype=np.int64) if categorical is None else categorical
    numbers = np.zeros((n_cells, 0), dtype=np.float32) if continuous is None else continuous
    schema = Schema(
        tuple(
            ModalitySchema(f"m{m}", name, None, None, _feature_names(m, part.values.shape[1]))
            for m, (part, name) in enumerate(zip(tables, likelihoods, strict=True))
        ),
        batch=None if batch is None else _categories("batch", batch),
        categorical=tuple(_categories(f"c{j}", column) for j, column in enumerate(codes.T)),
        continuous=tuple(ContinuousCovariate(f"x{j}", 0.0, 1.0) for j in range(numbers.shape[1])),
    )
    return MultimodalData(
        schema,
        np.array([f"cell{i}" for i in range(n_cells)], dtype=object),
        tuple(tables),
        np.zeros(n_cells, dtype=np.int64) if batch is None else batch.astype(np.int64),
        codes,
        numbers.astype(np.float32),
    )


def _feature_names(modality: int, n_features: int) -> tuple[str, ...]:
    return tuple(f"m{modality}:f{feature}" for feature in range(n_features))


def _categories(key: str, codes: np.ndarray) -> CategoricalCovariate:
    return CategoricalCovariate(key, tuple(f"{key}{code}" for code in range(int(codes.max()) + 1)))


def mixed_data(n_cells: int = 40, seed: int = 0, missing: float = 0.3, n_batches: int = 2) -> MultimodalData:
    """Counts, 0/1 values and real values with unmeasured entries; some cells lack a modality."""
    rng = np.random.default_rng(seed)
    present = rng.random((n_cells, 3)) >= missing
    present[~present.any(1), 0] = True
    present[:3] = True
    observed = rng.random((n_cells, 5)) < 0.8
    observed[0] = True
    real = rng.normal(2.0, 1.5, (n_cells, 5)) * observed
    return data_of(
        [
            table(rng.poisson(2.0, (n_cells, 12)), present[:, 0], sparse=True),
            table(rng.random((n_cells, 15)) < 0.3, present[:, 1], sparse=True),
            table(real, present[:, 2], observed=observed),
        ],
        ["nb", "bernoulli", "gaussian"],
        batch=np.arange(n_cells) % n_batches,
    )


def module_for(
    data: MultimodalData,
    *,
    fusion: str = "product",
    prior: str = "standard_normal",
    n_latent: int = 3,
    n_hidden: int = 8,
    decoder: str = "linear",
    weight_precision: float = 0.0,
    seed: int = 0,
) -> MultimodalModule:
    """An untrained module in evaluation mode, its decoder weights large enough that z matters."""
    everyone = np.arange(data.n_cells)
    statistics = tuple(feature_statistics(data, m, everyone) for m in range(len(data.modalities)))
    config = ModelConfig(
        n_latent=n_latent,
        n_hidden=n_hidden,
        n_layers=1,
        dropout=0.0,
        input_dropout=0.0,
        fusion=fusion,
        prior=prior,
        n_prior_components=3,
        encode_covariates=True,
        seed=seed,
        modalities=tuple(
            ModalityConfig(
                transform=LIKELIHOODS[modality.likelihood].default_transform,
                n_projection=0,
                decoder=decoder,
                weight_precision=weight_precision,
                dispersion="feature",
                has_unobserved=summary.has_unobserved,
            )
            for modality, summary in zip(data.schema.modalities, statistics, strict=True)
        ),
    )
    module = build_module(config, data.schema, statistics)
    with torch.no_grad():
        for part in module.parts:
            for layer in part.decoder.last_layers:
                layer.weight.mul_(5.0)
    return module.eval()


def linear_module(
    data: MultimodalData, n_latent: int, fusion: str = "product", seed: int = 0
) -> MultimodalModule:
    """Linear encoders and decoders, Gaussian values with one σ² a modality, neutral start statistics."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        parts = tuple(_linear_parts(part.values.shape[1], n_latent) for part in data.modalities)
        width = data.modalities[0].values.shape[1]
        rule = FUSION_RULES[fusion](len(parts), n_latent, width)
        prior = PRIORS["standard_normal"](n_latent, len(parts), width, 1)
    return MultimodalModule(parts, rule, prior, CovariateEncoding(data.schema))


def _linear_parts(n_features: int, n_latent: int) -> ModalityParts:
    statistics = FeatureStatistics.empty(n_features, 1, None, False)
    likelihood = LIKELIHOODS["gaussian"](statistics, "shared")
    encoder = Encoder(TRANSFORMS["standardise"](statistics), None, 0, n_features, 0, 0.0, n_latent, 0.0)
    decoder = Decoder(n_latent, 0, n_features, 0, 0.0, 0.0, likelihood.start_biases(statistics))
    with torch.no_grad():
        decoder.last_layers[0].weight.mul_(10.0)
    return ModalityParts(encoder, decoder, likelihood)


def linear_gaussian(module: MultimodalModule, modality: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Loadings ``(F, K)``, intercept ``(F,)`` and σ² of one modality of a `linear_module`, float64."""
    layer = module.parts[modality].decoder.last_layers[0]
    floor = 1e-4  # of the data's variance, which is 1 in the neutral statistics
    variance = float(module.parts[modality].likelihood.learned.table.detach().double().exp()) + floor
    return layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy(), variance


def set_linear_gaussian(
    module: MultimodalModule, modality: int, loadings: np.ndarray, intercept: np.ndarray, variance: float
) -> None:
    """Write the parameters that `linear_gaussian` reads."""
    layer = module.parts[modality].decoder.last_layers[0]
    with torch.no_grad():
        layer.weight.copy_(torch.as_tensor(loadings))
        layer.bias.copy_(torch.as_tensor(intercept))
        module.parts[modality].likelihood.learned.table.fill_(float(np.log(variance - 1e-4)))


def set_linear_expert(
    module: MultimodalModule, modality: int, weight: np.ndarray, bias: np.ndarray, precision: np.ndarray
) -> None:
    """Expert N(weight x + bias, 1/precision), the same variance for all cells."""
    head = module.parts[modality].encoder.head
    with torch.no_grad():
        head.mean.weight.copy_(torch.as_tensor(weight))
        head.mean.bias.copy_(torch.as_tensor(bias))
        head.log_variance.weight.zero_()
        head.log_variance.bias.copy_(torch.as_tensor(-np.log(precision)))
