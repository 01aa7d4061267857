"""The module encodes, fuses and decodes each cell on its own, and is rebuilt from its description."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from handmade_models import mixed_data, module_for
from multiomics_vae.architecture import ModalityConfig, ModelConfig, build_module
from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.data.loader import make_minibatch
from multiomics_vae.data.statistics import feature_statistics
from multiomics_vae.errors import InputError
from multiomics_vae.fusion import FUSION_RULES
from multiomics_vae.priors import PRIORS

CELLS = np.arange(20)


def test_features_land_on_the_cells_that_have_the_modality() -> None:
    data = mixed_data(20)
    module = module_for(data)
    evidence = module.encode(make_minibatch(data, CELLS))
    np.testing.assert_array_equal(evidence.available.numpy(), data.present)
    assert (evidence.features.abs().sum(-1).T.detach().numpy()[~data.present] == 0.0).all()
    for cell in range(20):
        alone = module.encode(make_minibatch(data, np.array([cell])))
        for m in np.flatnonzero(data.present[cell]):
            torch.testing.assert_close(evidence.features[m, cell], alone.features[m, 0], rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(
                evidence.experts.mean[m, cell], alone.experts.mean[m, 0], rtol=1e-4, atol=1e-5
            )


def test_an_absent_modality_gets_no_gradient() -> None:
    data = mixed_data(20)
    module = module_for(data)
    cells = np.flatnonzero(~data.present[:, 1])
    fused = module.fuse(module.encode(make_minibatch(data, cells)))
    fused.posterior.mean.square().sum().backward()
    own = [p.grad for name, p in module.named_parameters() if name.startswith("modalities.1.encoder")]
    assert own
    assert all(g is None or g.abs().max().item() == 0.0 for g in own)


def test_fuse_cannot_add_a_modality_that_a_cell_lacks() -> None:
    data = mixed_data(20)
    module = module_for(data)
    evidence = module.encode(make_minibatch(data, CELLS))
    everything = torch.ones_like(evidence.available)
    found, expected = module.fuse(evidence, everything), module.fuse(evidence)
    torch.testing.assert_close(found.posterior.mean, expected.posterior.mean, rtol=0.0, atol=0.0)


@pytest.mark.parametrize("decoder", ["linear", "mlp"])
@pytest.mark.parametrize("modality", [0, 1, 2])
def test_decoding_some_features_is_a_part_of_decoding_all(modality: int, decoder: str) -> None:
    data = mixed_data(20)
    module = module_for(data, decoder=decoder)
    covariates = make_minibatch(data, CELLS).covariates
    z = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    features = torch.tensor([4, 1])
    (everything,) = module.decode(modality, z, covariates)
    (part,) = module.decode(modality, z, covariates, features)
    torch.testing.assert_close(part, everything[:, features])


def test_weight_prior_adds_up_over_modalities() -> None:
    data = mixed_data(20)
    module = module_for(data, weight_precision=3.0)
    weights = torch.cat(
        [layer.weight.flatten() for part in module.parts for layer in part.decoder.last_layers]
    )
    others = [part.likelihood.log_prior() for part in module.parts]
    expected = -1.5 * weights.square().sum() + sum(prior for prior in others if prior is not None)
    torch.testing.assert_close(module.log_prior_of_weights(), expected)
    assert module_for(data).log_prior_of_weights().item() == pytest.approx(
        sum(prior.item() for prior in others if prior is not None)
    )


# --- building ----------------------------------------------------------------------------------------


def config_for(data: MultimodalData, seed: int = 0, **changes: object) -> ModelConfig:
    config = ModelConfig(
        n_latent=3,
        n_hidden=6,
        n_layers=1,
        dropout=0.0,
        input_dropout=0.0,
        fusion="product",
        prior="standard_normal",
        n_prior_components=2,
        encode_covariates=True,
        seed=seed,
        modalities=tuple(
            ModalityConfig(transform, 0, "mlp", 0.0, "feature", has_unobserved=transform == "standardise")
            for transform in ("log1p", "tfidf", "standardise")
        ),
    )
    return replace(config, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("prior", sorted(PRIORS))
@pytest.mark.parametrize("fusion", sorted(FUSION_RULES))
def test_a_module_is_rebuilt_from_its_description_and_weights(fusion: str, prior: str) -> None:
    """Without the statistics of the training cells, as after reading a checkpoint."""
    data = mixed_data(20)
    config = config_for(data, fusion=fusion, prior=prior)
    statistics = tuple(feature_statistics(data, m, CELLS) for m in range(3))
    module = build_module(config, data.schema, statistics).eval()
    again = build_module(config, data.schema).eval()
    again.load_state_dict(module.state_dict())
    minibatch = make_minibatch(data, CELLS)
    first, second = (m.fuse(m.encode(minibatch)).posterior for m in (module, again))
    torch.testing.assert_close(first.mean, second.mean, rtol=0.0, atol=0.0)
    torch.testing.assert_close(first.variance, second.variance, rtol=0.0, atol=0.0)
    z = torch.zeros(1, 3)
    torch.testing.assert_close(module.prior_mixture().log_prob(z), again.prior_mixture().log_prob(z))
    for m in range(3):
        outputs = (built.decode(m, first.mean, minibatch.covariates)[0] for built in (module, again))
        torch.testing.assert_close(*outputs, rtol=0.0, atol=0.0)


def test_the_seed_decides_the_start_and_the_global_state_does_not() -> None:
    data = mixed_data(20)
    before = torch.random.get_rng_state()
    states = []
    for seed, disturbance in ((0, 1), (0, 2), (1, 1)):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(disturbance)
            states.append(build_module(config_for(data, seed), data.schema).state_dict())
    build_module(config_for(data), data.schema)
    torch.testing.assert_close(torch.random.get_rng_state(), before)
    for name, value in states[0].items():
        torch.testing.assert_close(value, states[1][name], rtol=0.0, atol=0.0)
    assert any(not torch.equal(value, states[2][name]) for name, value in states[0].items())


@pytest.mark.parametrize(
    ("field", "value"),
    [("n_latent", 0), ("n_hidden", 2.5), ("n_layers", True), ("dropout", 1.0), ("input_dropout", -0.1)],
)
def test_impossible_sizes_are_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(InputError, match=field):
        config_for(mixed_data(6), **{field: value})
