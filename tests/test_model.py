"""The user's class: registering, learning, copying. Numbers of rows are those of the catalogue of faults."""

from __future__ import annotations

import copy
import random
from typing import Any

import mudata
import numpy as np
import pytest
import scvi
import torch

from multiomics_vae import MultiVAE
from multiomics_vae.errors import DeviceError, InputError
from small_models import SIZES, fingerprint, make_cells, make_model, register, train

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:mudata", "ignore::UserWarning:anndata")


def weights_of(model: MultiVAE) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.module.state_dict().items()}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


# Registering


def test_without_setup_the_inferred_table_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    MultiVAE(make_cells(), **SIZES)
    printed = capsys.readouterr().out
    assert "No setup_mudata was called" in printed
    assert [line.split()[:4] for line in printed.splitlines()[2:4]] == [
        ["rna", "40", "10", "nb"],
        ["atac", "40", "10", "bernoulli"],
    ]


def test_with_setup_nothing_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    model = make_model(register(make_cells(), batch_key="batch"))
    assert capsys.readouterr().out == ""
    assert model.schema.batch is not None


def test_a_copy_inherits_no_setup(capsys: pytest.CaptureFixture[str]) -> None:
    mdata = register(make_cells(), batch_key="batch")
    model = MultiVAE(mdata.copy(), **SIZES)
    assert "No setup_mudata was called" in capsys.readouterr().out
    assert model.schema.batch is None


def test_a_second_setup_replaces_the_first() -> None:
    mdata = register(make_cells(), batch_key="batch")
    register(mdata, {"rna": "poisson"}, modalities=["rna"])
    schema = make_model(mdata).schema
    assert (schema.batch, schema.modality_names, schema.modalities[0].likelihood) == (
        None,
        ("rna",),
        "poisson",
    )


def test_it_is_an_scvi_model() -> None:
    model = make_model()
    assert isinstance(model, scvi.model.base.BaseModelClass)
    assert not model.is_trained
    assert "not trained yet" in repr(model)
    assert "trained, 2 epochs" in repr(train(model))
    assert model.device == torch.device("cpu")


# Row 70: names that are not there


@pytest.mark.parametrize(
    ("choices", "match"),
    [
        ({"fusion": "prodct"}, "no fusion rule called 'prodct'. Did you mean 'product'"),
        ({"prior": "vmap"}, "no prior called 'vmap'. Did you mean 'vamp'"),
        ({"decoders": "liner"}, "no decoder called 'liner'. Did you mean 'linear'"),
        ({"decoders": {"rma": "linear"}}, "decoders names a modality 'rma'.*Did you mean 'rna'"),
        ({"transforms": {"rna": "lgo1p"}}, "no input transform called 'lgo1p'. Did you mean 'log1p'"),
        ({"dispersions": {"rna": "featur"}}, "no dispersion 'featur'. Did you mean 'feature'"),
        ({"projections": {"atak": 5}}, "projections names a modality 'atak'.*Did you mean 'atac'"),
        ({"projections": {"rna": 10}}, r"projections\['rna'\] is the number of directions, from 0 .* to 9"),
        ({"n_latent": 0}, r"n_latent must be a whole number of at least 1, not 0.*n_latent=20"),
        ({"dropout": 1.0}, r"dropout is a share from 0 to below 1, not 1\.0"),
    ],
)
def test_row_70_unknown_name_in_the_model(choices: dict[str, Any], match: str) -> None:
    with pytest.raises(InputError, match=match):
        make_model(**choices)


@pytest.mark.parametrize(
    ("choices", "match"),
    [
        ({"modality_weights": "balnced"}, "modality_weights='balnced'. Did you mean 'balanced'"),
        ({"modality_weights": {"rma": 1.0}}, "names a modality 'rma'. Did you mean 'rna'"),
        ({"modality_weights": {"rna": -1.0}}, r"modality_weights\['rna'\] must be a number of at least 0"),
        ({"modality_weights": {"rna": "2"}}, r"modality_weights\['rna'\] must be a number of at least 0"),
        ({"subset_objective": "witin"}, "subset_objective='witin'. Did you mean 'within'"),
    ],
)
def test_row_70_unknown_name_in_training(choices: dict[str, Any], match: str) -> None:
    model = make_model()
    before = weights_of(model)
    with pytest.raises(InputError, match=match):
        train(model, **choices)
    assert not model.is_trained
    assert same(before, weights_of(model))


def test_row_70_unknown_likelihood_and_modality_in_setup() -> None:
    with pytest.raises(InputError, match=r"no likelihood called 'nbb'\. Did you mean 'nb'"):
        MultiVAE.setup_mudata(make_cells(), likelihoods={"rna": "nbb"})
    with pytest.raises(InputError, match=r"no likelihood called 'NB'\. Did you mean 'nb'"):
        MultiVAE.setup_mudata(make_cells(), likelihoods={"rna": "NB"})
    with pytest.raises(InputError, match=r"a modality 'RNA'\. Did you mean 'rna'"):
        MultiVAE.setup_mudata(make_cells(), likelihoods={"RNA": "nb"})
    with pytest.raises(InputError, match=r"'rma'.*Did you mean 'rna'"):
        MultiVAE.setup_mudata(make_cells(), likelihoods={"rma": "nb"})


def test_row_70_unknown_keyword_is_named() -> None:
    with pytest.raises(TypeError, match="n_latnet"):
        make_model(n_latnet=5)
    with pytest.raises(TypeError, match="max_epoch"):
        train(make_model(), max_epoch=5)


# Rows 49, 51 and 67: repeatable, and nothing of the user's is touched


def test_row_49_same_seed_gives_the_same_bits() -> None:
    first, second = (train(make_model(seed=3), 3) for _ in range(2))
    assert same(weights_of(first), weights_of(second))
    np.testing.assert_array_equal(first.get_latent_representation(), second.get_latent_representation())
    assert first.history.to_json() == second.history.to_json()


def test_row_49_same_seed_does_not_depend_on_the_global_state() -> None:
    first = weights_of(train(make_model()))
    torch.manual_seed(12345)
    np.random.seed(12345)  # noqa: NPY002
    random.seed(12345)
    assert same(first, weights_of(train(make_model())))


def test_row_49_another_seed_gives_other_weights() -> None:
    assert not same(weights_of(make_model(seed=0)), weights_of(make_model(seed=1)))
    start, one, other = make_model(), train(make_model(), seed=1), train(make_model(), seed=2)
    assert same(weights_of(start), weights_of(make_model()))
    assert not same(weights_of(one), weights_of(other))
    assert not np.array_equal(one.validation_indices, other.validation_indices)


def test_row_51_global_random_state_is_unchanged() -> None:
    mdata = make_cells()
    before = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    model = train(make_model(register(mdata), fusion="gated", prior="vamp"))
    model.get_latent_samples(n_samples=3)
    model.get_elbo()
    model.get_normalized("rna", n_samples=2)
    assert random.getstate() == before[0]
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[2])


def test_row_67_the_users_object_is_unchanged() -> None:
    mdata = make_cells({"rna": "nb", "atac": "bernoulli", "ephys": "gaussian"}, missing_entries=True)
    mdata.uns["mine"] = {"a": 1}
    mdata.obsm["X_mine"] = np.ones((40, 2))
    before = fingerprint(mdata)
    assert "mdata[ephys].X" in before
    register(mdata, batch_key="batch", continuous_covariate_keys=["age"], size_factor_key="factor")
    model = train(make_model(mdata))
    model.get_latent_representation(mdata)
    model.get_elbo(mdata)
    model.get_normalized("rna", mdata, transform_batch="b1")
    model.get_expert_weights()
    assert fingerprint(mdata) == before


def test_training_leaves_nothing_in_the_folder(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    train(make_model())
    assert list(tmp_path.iterdir()) == []
    printed = capfd.readouterr()
    assert printed.out + printed.err == ""


# Row 68: again, twice, copied


def test_row_68_a_second_training_goes_on() -> None:
    model = train(make_model(), 6, learning_rate=1e-2)
    first = weights_of(model)
    elbo = float(model.get_elbo().mean())
    train(model, 6, learning_rate=1e-2, warmup_epochs=0)
    assert not same(first, weights_of(model))
    assert model.history.n_epochs == 6
    assert float(model.get_elbo().mean()) > elbo


def test_row_68_two_models_on_one_mudata_are_independent() -> None:
    mdata = register(make_cells(), batch_key="batch")
    alone = train(make_model(mdata)).get_latent_representation()
    first = make_model(mdata)
    second = make_model(register(mdata, size_factor_key="factor"), fusion="gated")
    train(first)
    train(second, 3)
    np.testing.assert_array_equal(first.get_latent_representation(), alone)
    assert first.schema.batch is not None
    assert second.schema.batch is None


def test_row_68_a_deep_copy_learns_on_its_own() -> None:
    model = train(make_model(register(make_cells(), batch_key="batch")))
    latent = model.get_latent_representation()
    twin = copy.deepcopy(model)
    np.testing.assert_array_equal(twin.get_latent_representation(), latent)
    assert twin.id != model.id
    assert twin.registry["setup_args"]["batch_key"] == "batch"
    assert twin.history.to_json() == model.history.to_json()
    train(twin, 3)
    assert not np.array_equal(twin.get_latent_representation(), latent)
    np.testing.assert_array_equal(model.get_latent_representation(), latent)
    assert (model.history.n_epochs, twin.history.n_epochs) == (2, 3)


# Row 52: a device that is not there


@pytest.mark.skipif(torch.cuda.is_available(), reason="has the device")
def test_row_52_absent_device() -> None:
    model = train(make_model())
    with pytest.raises(DeviceError, match=r"device 'cuda' cannot be used here.*to_device\('cpu'\)"):
        model.to_device("cuda")
    with pytest.raises(DeviceError, match="'qpu' cannot be used"):
        model.to_device("qpu")
    model.to_device("cpu")
    assert np.isfinite(model.get_latent_representation()).all()


# Readers of scvi-tools' files, which are pickles


@pytest.mark.parametrize("name", ["load_registry", "view_setup_args", "convert_legacy_save"])
def test_row_58_inherited_readers_of_pickles_are_closed(name: str, tmp_path: Any) -> None:
    canary = tmp_path / "canary"

    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return (open, (str(canary), "w"))

    (tmp_path / "model").mkdir()
    torch.save({"attr_dict": Payload()}, tmp_path / "model" / "model.pt")
    with pytest.raises(InputError, match=r"unpickle.*MultiVAE\.load\("):
        getattr(MultiVAE, name)(str(tmp_path / "model"), str(tmp_path / "out"))
    assert not canary.exists()


# Few cells


def test_three_cells_are_enough_to_train_on() -> None:
    model = train(make_model(register(make_cells(n_cells=3, n_features=4))))
    assert np.isfinite(model.get_latent_representation()).all()


def test_row_14_fewer_are_refused() -> None:
    with pytest.raises(InputError, match="has 2 cells; at least 3 are needed"):
        register(make_cells(n_cells=2, n_features=4))


def test_an_anndata_is_refused_with_the_line_that_wraps_it() -> None:
    with pytest.raises(InputError, match=r"mudata\.MuData\(\{"):
        MultiVAE(make_cells()["rna"], **SIZES)
    assert isinstance(make_cells(), mudata.MuData)


@pytest.mark.parametrize(
    ("argument", "value"), [("seed", -1), ("seed", 0.5), ("dropout", "x"), ("n_latent", 0)]
)
def test_a_nonsense_argument_is_named(argument: str, value: object) -> None:
    with pytest.raises(InputError, match=f"{argument}.*{value}"):
        MultiVAE(make_cells(), **{argument: value})  # type: ignore[arg-type]
