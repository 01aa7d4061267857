"""Every likelihood with every fusion rule and prior learns, and every shape of data is taken."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from multiomics_vae import MultiVAE
from multiomics_vae.fusion import FUSION_RULES
from multiomics_vae.likelihoods import LIKELIHOODS
from multiomics_vae.networks.transforms import TRANSFORMS
from multiomics_vae.priors import PRIORS
from small_models import USUAL, make_cells, make_model, register, train

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:mudata", "ignore::UserWarning:anndata")


def check(model: MultiVAE) -> MultiVAE:
    """Train, and see that every answer is a number where there is one, and what it says it is."""
    train(model)
    names = model.schema.modality_names
    frame = model.history.to_frame()
    held_out = model._data.present[model.validation_indices].any(axis=0)
    for column in frame.columns[~frame.columns.str.contains("_subset_")]:
        modality = column.split("_log_likelihood")[0]
        seen = modality not in names or "train" in column or held_out[names.index(modality)]
        assert np.isfinite(frame[column]).all() == seen, column
    mean, variance = model.get_latent_representation(return_dist=True)
    assert np.isfinite(mean).all()
    assert (variance > 0).all()
    likelihood = model.get_log_likelihood(n_samples=2)
    np.testing.assert_array_equal(np.isfinite(likelihood.to_numpy()), model._data.present)
    assert np.isfinite(model.get_elbo(n_samples=2)).all()
    np.testing.assert_allclose(model.get_expert_weights().sum(axis=1), 1.0, atol=1e-5)
    for name in names:
        assert np.isfinite(model.get_normalized(name).to_numpy()).all()
    return model


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("decoder", ["linear", "mlp"])
def test_every_likelihood_and_decoder(likelihood: str, decoder: str) -> None:
    kinds = {"rna": "nb", "other": likelihood}
    check(make_model(register(make_cells(kinds), kinds, batch_key="batch"), decoders=decoder))


@pytest.mark.parametrize(
    ("likelihood", "dispersion"),
    [(name, each) for name in LIKELIHOODS for each in LIKELIHOODS[name].dispersions],
)
def test_every_dispersion(likelihood: str, dispersion: str) -> None:
    kinds = {"only": likelihood}
    mdata = register(make_cells(kinds), kinds, batch_key="batch")
    check(make_model(mdata, dispersions={"only": dispersion}))


@pytest.mark.parametrize("fusion", FUSION_RULES)
@pytest.mark.parametrize("prior", PRIORS)
def test_every_fusion_rule_and_prior(fusion: str, prior: str) -> None:
    kinds = {"rna": "nb", "atac": "bernoulli", "ephys": "gaussian"}
    lacking = {"atac": range(8), "ephys": range(6, 12)}
    mdata = register(make_cells(kinds, lacking=lacking, missing_entries=True), kinds)
    check(make_model(mdata, fusion=fusion, prior=prior, n_prior_components=5))


@pytest.mark.slow
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("fusion", FUSION_RULES)
@pytest.mark.parametrize("prior", PRIORS)
def test_every_combination(likelihood: str, fusion: str, prior: str) -> None:
    kinds = {"rna": "nb", "other": likelihood}
    mdata = register(make_cells(kinds, lacking={"rna": range(5)}), kinds, batch_key="batch")
    check(make_model(mdata, fusion=fusion, prior=prior, n_prior_components=4))


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_every_transform_of_what_suits_it(transform: str) -> None:
    suited = {"standardise": "gaussian", "one_hot": "categorical", "methylation_fraction": "beta_binomial"}
    kinds = {"only": suited.get(transform, "nb")}
    check(make_model(register(make_cells(kinds), kinds), transforms=transform))


@pytest.mark.parametrize("n_modalities", [1, 4])
@pytest.mark.parametrize("fusion", FUSION_RULES)
def test_any_number_of_modalities(n_modalities: int, fusion: str) -> None:
    every = {"rna": "nb", "atac": "bernoulli", "prot": "protein_mixture", "ephys": "gaussian"}
    kinds = dict(list(every.items())[:n_modalities])
    check(make_model(register(make_cells(kinds, n_cells=24), kinds), fusion=fusion))


@pytest.mark.parametrize("fusion", FUSION_RULES)
def test_row_02_mosaic_in_which_no_cell_has_everything(fusion: str) -> None:
    kinds = {"rna": "nb", "atac": "bernoulli", "prot": "poisson"}
    lacking = {"rna": range(14), "atac": range(14, 28), "prot": range(28, 40)}
    model = check(make_model(register(make_cells(kinds, lacking=lacking), kinds), fusion=fusion))
    assert not model._data.present.all(axis=1).any()


def test_row_04_no_shared_cells_still_trains() -> None:
    mdata = make_cells(lacking={"rna": range(20), "atac": range(20, 40)})
    with pytest.warns(UserWarning, match="no shared cells"):
        register(mdata)
    check(make_model(mdata))  # says nothing again


@pytest.mark.parametrize("encode_covariates", [True, False])
@pytest.mark.parametrize("decoder", ["linear", "mlp"])
def test_covariates_of_every_kind_and_size_factors(encode_covariates: bool, decoder: str) -> None:
    mdata = register(
        make_cells(),
        batch_key="batch",
        categorical_covariate_keys=["donor"],
        continuous_covariate_keys=["age"],
        size_factor_key="factor",
    )
    check(make_model(mdata, encode_covariates=encode_covariates, decoders=decoder))


def test_encoders_read_covariates_only_if_asked() -> None:
    def latents(encode: bool) -> tuple[np.ndarray, np.ndarray]:
        mdata = register(make_cells(), batch_key="batch")
        model = train(make_model(mdata, encode_covariates=encode))
        other = make_cells()
        other.obs["batch"] = np.where(other.obs["batch"] == "b0", "b1", "b0")
        return model.get_latent_representation(), model.get_latent_representation(other)

    np.testing.assert_array_equal(*latents(encode=False))
    assert np.abs(np.subtract(*latents(encode=True))).max() > 1e-3


def test_row_17_nan_in_real_values_is_not_read() -> None:
    """Whatever stands behind a masked entry changes nothing."""
    kinds = {"rna": "nb", "ephys": "gaussian"}
    mdata = make_cells(kinds, missing_entries=True)
    model = check(make_model(register(mdata, kinds)))
    table = model._data.modalities[1]
    before = model.get_latent_representation(), model.get_elbo()
    table.values[~table.observed] = 1e6
    np.testing.assert_array_equal(model.get_latent_representation(), before[0])
    np.testing.assert_array_equal(model.get_elbo(), before[1])


@pytest.mark.parametrize(
    "choices",
    [
        {"subset_objective": "cross"},
        {"subset_objective": "both"},
        {"subset_objective": "none"},
        {"n_subsets": 1},
        {"modality_dropout": 0.5},
        {"free_bits": 0.2},
        {"kl_weight": 0.0},
        {"weight_averaging": 0.0},
        {"weight_decay": 0.1, "gradient_clip": 1.0},
        {"modality_weights": "balanced"},
        {"modality_weights": "adaptive"},
        {"modality_weights": {"rna": 0.0}},
    ],
    ids=str,
)
@pytest.mark.parametrize("fusion", ["product", "mixture"])
def test_every_way_of_training(choices: dict[str, Any], fusion: str) -> None:
    model = train(make_model(fusion=fusion), **choices)
    frame = model.history.to_frame()
    assert np.isfinite(frame[frame.columns[~frame.columns.str.contains("_subset_")]].to_numpy()).all()


def test_learning_raises_the_held_out_elbo_on_structured_data() -> None:
    model = train(make_model(register(make_cells(n_cells=80), USUAL)), 30, learning_rate=1e-2)
    assert model.history["elbo_validation"].max() > model.history["elbo_validation"].iloc[0] + 1.0
