"""Blocks, encoder, decoder and covariates: rows on their own, starts at the marginal model, priors."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from handmade_models import data_of, mixed_data, module_for, table
from multiomics_vae.data.loader import make_minibatch
from multiomics_vae.data.minibatch import Covariates
from multiomics_vae.data.schema import CategoricalCovariate, ContinuousCovariate, Schema
from multiomics_vae.data.statistics import feature_statistics
from multiomics_vae.likelihoods import LIKELIHOODS, CellContext, FeatureStatistics
from multiomics_vae.networks.blocks import MLP
from multiomics_vae.networks.covariates import CovariateEncoding
from multiomics_vae.networks.decoder import Decoder
from multiomics_vae.networks.encoder import Encoder
from multiomics_vae.networks.projection import Projection
from multiomics_vae.networks.transforms import TRANSFORMS


@pytest.fixture(autouse=True)
def same_start_weights() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- blocks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_layers", [1, 3])
def test_mlp_works_row_by_row(n_layers: int) -> None:
    network = MLP(6, n_hidden=5, n_layers=n_layers, dropout=0.5).eval()
    x = noise(9, 6)
    together = network(x)
    torch.testing.assert_close(network(x[[4, 1]]), together[[4, 1]])
    torch.testing.assert_close(network(x[:1]), together[:1])
    assert together.std(0).max().item() > 0.1


def test_mlp_of_no_layers_is_the_identity() -> None:
    network = MLP(6, n_hidden=5, n_layers=0, dropout=0.5)
    assert network.n_outputs == 6
    torch.testing.assert_close(network(noise(3, 6)), noise(3, 6), rtol=0.0, atol=0.0)


def test_dropout_acts_in_training_only() -> None:
    network = MLP(6, n_hidden=50, n_layers=1, dropout=0.5)
    x = noise(4, 6)
    with torch.random.fork_rng(devices=[]):
        assert not torch.equal(network.train()(x), network(x))
    torch.testing.assert_close(network.eval()(x), network(x), rtol=0.0, atol=0.0)


# --- encoder -----------------------------------------------------------------------------------------


def encoder_of(
    n_covariates: int, projection: Projection | None = None, input_dropout: float = 0.0
) -> Encoder:
    transform = TRANSFORMS["standardise"](FeatureStatistics.empty(4, 1, None, False))
    return Encoder(transform, projection, n_covariates, 7, 1, 0.0, 3, input_dropout).eval()


def real_batch(n_cells: int = 8):  # type: ignore[no-untyped-def]
    data = data_of([table(noise(n_cells, 4).numpy())], ["gaussian"])
    return make_minibatch(data, np.arange(n_cells)).modalities[0]


def test_encoder_reads_covariates_only_if_told() -> None:
    batch, covariates = real_batch(), noise(8, 2, seed=1)
    without, with_them = encoder_of(0), encoder_of(2)
    torch.testing.assert_close(
        without(batch, covariates), without(batch, 0.0 * covariates), rtol=0.0, atol=0.0
    )
    assert not torch.allclose(with_them(batch, covariates), with_them(batch, 0.0 * covariates))


def test_encoder_reads_the_projection_of_the_transform() -> None:
    projection = Projection(noise(4, 2, seed=2), noise(2, seed=3))
    encoder = encoder_of(0, projection)
    batch = real_batch()
    expected = batch.dense @ projection.components - projection.centre
    torch.testing.assert_close(encoder.inputs(batch), expected)
    torch.testing.assert_close(encoder(batch, noise(8, 0)), encoder.hidden(expected))


def test_input_dropout_acts_in_training_only() -> None:
    encoder = encoder_of(0, input_dropout=0.5)
    batch, nothing = real_batch(), noise(8, 0)
    torch.testing.assert_close(encoder(batch, nothing), encoder(batch, nothing), rtol=0.0, atol=0.0)
    with torch.random.fork_rng(devices=[]):
        encoder.train()
        assert not torch.equal(encoder(batch, nothing), encoder(batch, nothing))


@pytest.mark.parametrize("size", [1e3, 1e30])
def test_expert_variances_stay_within_bounds(size: float) -> None:
    head = encoder_of(0).head
    found = head(size * noise(20, 7)).log_variance
    assert found.abs().max().item() <= 10.0
    assert bool(found.isfinite().all())


# --- decoder -----------------------------------------------------------------------------------------


def decoder_of(
    n_layers: int, n_covariates: int = 2, precision: float = 0.0, widths: tuple[int, ...] = (5, 4)
) -> Decoder:
    biases = tuple(noise(width, seed=i) for i, width in enumerate(widths))
    return Decoder(3, n_covariates, 6, n_layers, 0.0, precision, biases).eval()


@pytest.mark.parametrize("n_layers", [0, 1, 2])
@pytest.mark.parametrize("features", [[0], [3, 1], [2, 2, 0], []])
def test_some_features_are_a_part_of_all(n_layers: int, features: list[int]) -> None:
    decoder = decoder_of(n_layers)
    z, covariates = noise(6, 3), noise(6, 2, seed=9)
    everything = decoder(z, covariates)
    part = decoder(z, covariates, torch.tensor(features, dtype=torch.int64))
    assert len(part) == len(everything) == 2
    for some, full in zip(part, everything, strict=True):
        torch.testing.assert_close(some, full[:, features])


@pytest.mark.parametrize("n_layers", [0, 2])
def test_decoder_works_row_by_row(n_layers: int) -> None:
    decoder = decoder_of(n_layers)
    z, covariates = noise(6, 3), noise(6, 2, seed=9)
    alone = decoder(z[4:5], covariates[4:5])
    for one, full in zip(alone, decoder(z, covariates), strict=True):
        torch.testing.assert_close(one, full[4:5])


def test_decoder_of_no_layers_is_affine_in_z_and_covariates() -> None:
    decoder = decoder_of(0)
    z, w = noise(6, 3), noise(6, 2, seed=9)
    origin, along_z, along_w, both = (
        decoder(a * z, b * w)[0] for a, b in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (2.0, 3.0))
    )
    torch.testing.assert_close(both - origin, 2.0 * (along_z - origin) + 3.0 * (along_w - origin))
    torch.testing.assert_close(origin[0], noise(5, seed=0))  # the start bias


@pytest.mark.parametrize("n_layers", [0, 1])
def test_covariates_shift_outputs(n_layers: int) -> None:
    decoder = decoder_of(n_layers)
    z = noise(6, 3)
    moved = decoder(z, torch.ones(6, 2))[0] - decoder(z, torch.zeros(6, 2))[0]
    assert moved.abs().min().item() > 0.0


@pytest.mark.parametrize("n_layers", [0, 1])
def test_weight_prior_is_gaussian_on_the_last_weights(n_layers: int) -> None:
    decoder = decoder_of(n_layers, precision=2.5)
    density = torch.distributions.Normal(0.0, 2.5**-0.5)
    weights = torch.cat([layer.weight.flatten() for layer in decoder.last_layers])
    expected = density.log_prob(weights).sum() - density.log_prob(torch.zeros(len(weights))).sum()
    found = decoder.log_prior()
    assert found is not None
    torch.testing.assert_close(found, expected)
    gradients = torch.autograd.grad(found, list(decoder.parameters()), allow_unused=True)
    for (name, parameter), gradient in zip(decoder.named_parameters(), gradients, strict=True):
        if any(parameter is layer.weight for layer in decoder.last_layers):
            assert gradient is not None
            torch.testing.assert_close(gradient, -2.5 * parameter.detach())
        else:
            assert gradient is None, name


def test_flat_weight_prior_is_none() -> None:
    assert decoder_of(0, precision=0.0).log_prior() is None


@pytest.mark.parametrize(
    ("modality", "statistic"), [(0, "mean_frequency"), (1, "nonzero_fraction"), (2, "mean")]
)
def test_training_begins_at_the_marginal_model(modality: int, statistic: str) -> None:
    """At z = 0 the normalised mean of every feature is the data's, whatever the likelihood."""
    data = mixed_data(60, n_batches=1)
    summary = feature_statistics(data, modality, np.arange(60))
    likelihood = LIKELIHOODS[data.schema.modalities[modality].likelihood](summary)
    decoder = Decoder(3, 0, 8, 0, 0.0, 0.0, likelihood.start_biases(summary))
    outputs = decoder(torch.zeros(2, 3), torch.zeros(2, 0))
    found = likelihood.normalized(outputs, CellContext(torch.ones(2), torch.zeros(2, dtype=torch.int64)))
    expected = getattr(summary, statistic)
    torch.testing.assert_close(found[1], expected, rtol=2e-3, atol=2e-4)


# --- covariates --------------------------------------------------------------------------------------


def covariates_of(
    batch: list[int], categorical: list[list[int]], continuous: list[list[float]]
) -> Covariates:
    n = len(batch)
    return Covariates(
        torch.tensor(batch),
        torch.tensor(categorical, dtype=torch.int64).reshape(n, -1),
        torch.tensor(continuous, dtype=torch.float32).reshape(n, -1),
    )


def test_covariates_are_numbers_and_one_hot_categories() -> None:
    schema = Schema(
        (),
        batch=CategoricalCovariate("batch", ("a", "b")),
        categorical=(
            CategoricalCovariate("sex", ("f", "m")),
            CategoricalCovariate("site", ("only",)),
            CategoricalCovariate("tissue", ("x", "y", "z")),
        ),
        continuous=(ContinuousCovariate("age", 50.0, 10.0),),
    )
    encoding = CovariateEncoding(schema)
    found = encoding(covariates_of([1, 0], [[0, 0, 2], [1, 0, 1]], [[0.5], [-1.0]]))
    expected = [[0.5, 0, 1, 1, 0, 0, 0, 1], [-1.0, 1, 0, 0, 1, 0, 1, 0]]
    assert encoding.n_outputs == 8
    torch.testing.assert_close(found, torch.tensor(expected))


def test_nothing_registered_takes_no_column() -> None:
    encoding = CovariateEncoding(Schema(()))
    found = encoding(covariates_of([0, 0, 0], [[], [], []], [[], [], []]))
    assert encoding.n_outputs == 0
    assert found.shape == (3, 0)


def test_an_unknown_batch_code_is_refused() -> None:
    encoding = CovariateEncoding(Schema((), batch=CategoricalCovariate("batch", ("a", "b"))))
    with pytest.raises(RuntimeError, match="smaller than num_classes"):
        encoding(covariates_of([2], [[]], [[]]))


def test_batches_without_training_cells_read_as_the_average_of_those_with() -> None:
    encoding = CovariateEncoding(Schema((), batch=CategoricalCovariate("batch", ("a", "b", "c", "d"))))
    encoding.learn_from(torch.tensor([3, 1, 3]))
    found = encoding(covariates_of([0, 1, 2, 3, -1], [[]] * 5, [[]] * 5))
    average = [0.0, 0.5, 0.0, 0.5]
    expected = [average, [0.0, 1.0, 0.0, 0.0], average, [0.0, 0.0, 0.0, 1.0], average]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_a_single_batch_leaves_decoding_alone() -> None:
    data = mixed_data(10, n_batches=1)
    module = module_for(data)
    assert module.covariates.n_outputs == 0
    minibatch = make_minibatch(data, np.arange(10))
    outputs = module.decode(0, torch.zeros(10, 3), minibatch.covariates)[0]
    torch.testing.assert_close(outputs[0], outputs[7])
