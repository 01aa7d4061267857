"""New cells on a fitted model: what stays as it was, what is learned, and what is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata
import mudata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch

from multiomics_vae import MultiVAE
from multiomics_vae.analysis.mapping.memory import memory_from_tensors
from multiomics_vae.errors import CheckpointError, InputError, MultiomicsWarning, NotFittedError
from multiomics_vae.extension import extend_module, learned
from multiomics_vae.training.plan import TrainingPlan
from new_cells import new_cells, without
from small_models import fingerprint, make_cells, make_model, permuted, register, train

pytestmark = pytest.mark.filterwarnings(
    "ignore::UserWarning:mudata", "ignore::UserWarning:anndata", "ignore::FutureWarning"
)
QUICK: dict[str, Any] = {"max_epochs": 2, "progress": False}
COVARIATES: dict[str, Any] = {
    "batch_key": "batch",
    "categorical_covariate_keys": ["donor"],
    "continuous_covariate_keys": ["age"],
}


@pytest.fixture(scope="module")
def reference() -> MultiVAE:
    return train(make_model(register(make_cells(n_cells=80), **COVARIATES)), 3, validation_size=0.3)


@pytest.fixture(scope="module")
def query(reference: MultiVAE) -> MultiVAE:
    return MultiVAE.map_query(new_cells(), reference, **QUICK)


# What stays as it was


def test_the_tensors_of_the_reference_are_the_same_bits_after_training(reference: MultiVAE) -> None:
    before = {name: tensor.clone() for name, tensor in reference.module.state_dict().items()}
    query = MultiVAE.map_query(new_cells(), reference, max_epochs=5, progress=False)
    after = query.module.state_dict()
    moved = [name for name in after if name.endswith(".new")]
    assert moved
    assert all(after[name].abs().sum() > 0 for name in moved)
    for name, tensor in before.items():
        torch.testing.assert_close(reference.module.state_dict()[name], tensor, rtol=0, atol=0)
        frozen = name.removesuffix("weight") + "known", name.replace("covariates.", "covariates.known.")
        kept = next((after[each] for each in (name, *frozen) if each in after), None)
        assert kept is not None
        assert torch.equal(kept, tensor), name


def test_the_cells_of_the_reference_have_the_same_bits_in_the_query(
    reference: MultiVAE, query: MultiVAE
) -> None:
    own = make_cells(n_cells=80)
    for modalities in (None, ["rna"], ["atac"]):
        wanted = reference.get_latent_representation(own, modalities=modalities, return_dist=True)
        found = query.get_latent_representation(own, modalities=modalities, return_dist=True)
        np.testing.assert_array_equal(found, wanted)
    np.testing.assert_allclose(query.get_elbo(own), reference.get_elbo(own), rtol=1e-6)


def test_only_weights_of_new_categories_are_optimised(
    query: MultiVAE, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups = []
    configure = TrainingPlan.configure_optimizers

    def watch(plan: TrainingPlan) -> Any:
        made = configure(plan)
        groups.extend(made["optimizer"].param_groups)  # type: ignore[index]
        return made

    monkeypatch.setattr(TrainingPlan, "configure_optimizers", watch)
    train(query, 1)
    optimised = {id(parameter) for group in groups for parameter in group["params"]}
    assert optimised == {id(parameter) for parameter in learned(query.module).values()}
    assert all(name.endswith(".new") for name in learned(query.module))


def test_the_objects_of_the_user_are_not_changed(reference: MultiVAE) -> None:
    mdata = new_cells()
    before, weights = fingerprint(mdata), {n: t.clone() for n, t in reference.module.state_dict().items()}
    MultiVAE.map_query(mdata, reference, **QUICK).mapping_confidence()
    assert fingerprint(mdata) == before
    assert all(torch.equal(weights[n], t) for n, t in reference.module.state_dict().items())
    assert all(parameter.requires_grad for parameter in reference.module.parameters())


# New categories


def test_a_new_category_starts_at_the_average_of_the_known_ones(reference: MultiVAE) -> None:
    cells = new_cells()
    query = MultiVAE.map_query(cells, reference, train=False)
    as_known = {}
    for batch in ("b0", "b1"):
        known = cells.copy()
        known.obs["batch"], known.obs["donor"] = batch, "d1"
        as_known[batch] = _first_layer(reference, known)
    known = cells.copy()
    known.obs["batch"], known.obs["donor"] = "b7", "d1"
    np.testing.assert_allclose(
        _first_layer(query, known), (as_known["b0"] + as_known["b1"]) / 2, rtol=1e-4, atol=1e-5
    )


def _first_layer(model: MultiVAE, mdata: mudata.MuData) -> np.ndarray:
    """What the first linear layer of the RNA encoder makes of the cells; linear in the covariates."""
    from multiomics_vae.data.loader import make_minibatch
    from multiomics_vae.kernels import SparseRows

    data = model._read(mdata)
    minibatch = make_minibatch(data, np.arange(data.n_cells))
    encoder, batch = model.module.parts[0].encoder.eval(), minibatch.modalities[0]
    covariates = model.module.covariates(minibatch.covariates)[batch.rows]
    with torch.no_grad():
        inputs = encoder.inputs(batch)
        dense = inputs.to_dense() if isinstance(inputs, SparseRows) else inputs
        first = encoder.hidden.layers[0](torch.cat([dense, covariates], dim=-1))
    found: np.ndarray = first.numpy()
    return found


def test_training_raises_the_elbo_of_shifted_cells() -> None:
    mdata = make_cells(n_cells=120)
    reference = train(make_model(register(mdata, batch_key="batch")), 30)
    shifted = new_cells(n_cells=120)
    counts = shifted["rna"].X.toarray()
    counts[:, :3] *= 4  # a laboratory that sees three genes four times as well
    parts = {
        "rna": anndata.AnnData(sp.csr_matrix(counts), shifted["rna"].obs, shifted["rna"].var),
        "atac": shifted["atac"],
    }
    moved = mudata.MuData(parts)
    moved.obs["batch"] = "elsewhere"
    before = MultiVAE.map_query(moved, reference, train=False).get_elbo().mean()
    after = MultiVAE.map_query(moved, reference, max_epochs=40, progress=False).get_elbo().mean()
    assert after > before + 1.0


def test_a_reference_without_categories_teaches_nothing_new() -> None:
    reference = train(make_model(register(make_cells())))
    query = MultiVAE.map_query(new_cells(), reference, progress=False)
    assert not learned(query.module)
    with pytest.raises(InputError, match=r"nothing to learn.*query\.get_latent_representation"):
        query.train()


def test_a_reference_of_one_batch_takes_others() -> None:
    mdata = make_cells()
    mdata.obs["batch"] = "only"
    reference = train(make_model(register(mdata, batch_key="batch"), dispersions={"rna": "feature-batch"}))
    query = MultiVAE.map_query(new_cells(), reference, **QUICK)
    assert query.schema.n_batches == 4
    np.testing.assert_array_equal(
        query.get_latent_representation(mdata), reference.get_latent_representation(mdata)
    )


@pytest.mark.parametrize("likelihood", ["nb", "zinb", "protein_mixture", "gaussian", "beta_binomial"])
def test_parameters_a_batch_get_rows_for_new_ones(likelihood: str) -> None:
    kinds = {"x": likelihood}
    mdata = register(make_cells(kinds), kinds, batch_key="batch")
    reference = train(make_model(mdata, dispersions={"x": "feature-batch"}))
    query = MultiVAE.map_query(new_cells(likelihoods=kinds), reference, train=False)
    tables = {n: p for n, p in learned(query.module).items() if "likelihood" in n}
    assert tables
    for name, rows in tables.items():
        known = query.module.get_parameter(name.removesuffix("new") + "known")
        torch.testing.assert_close(rows, known.mean(0).expand(2, -1))
    assert np.isfinite(train(query, 2).get_elbo()).all()


def test_ordinary_answers_refuse_new_categories_and_name_the_way(reference: MultiVAE) -> None:
    with pytest.raises(
        InputError, match=r"not registered with: 'b[78]'.*MultiVAE\.map_query\(mdata, model\)"
    ):
        reference.get_latent_representation(new_cells())


# Features and modalities


def test_features_are_matched_by_name(reference: MultiVAE) -> None:
    cells = make_cells(n_cells=30, seed=9)
    extra = anndata.concat([cells["rna"], cells["atac"]], axis=1)
    extra.obs = cells["rna"].obs
    other = mudata.MuData({"atac": cells["atac"], "rna": extra, "prot": cells["rna"].copy()})
    other.obs = cells.obs
    shuffled = permuted(other)
    with pytest.warns(MultiomicsWarning, match=r"The reference has no \['prot'\]"):
        query = MultiVAE.map_query(shuffled, reference, progress=False)
    wanted = reference.get_latent_representation(cells, shuffled.obs_names)
    np.testing.assert_allclose(query.get_latent_representation(), wanted, rtol=1e-4, atol=1e-5)


def test_a_modality_may_be_missing(reference: MultiVAE) -> None:
    cells = new_cells()
    alone = mudata.MuData({"rna": cells["rna"]})
    alone.obs = cells.obs
    query = MultiVAE.map_query(alone, reference, train=False)
    np.testing.assert_allclose(
        query.get_latent_representation(),
        MultiVAE.map_query(cells, reference, train=False).get_latent_representation(modalities=["rna"]),
        rtol=1e-5,
        atol=1e-6,
    )
    assert query.impute("atac", n_samples=5)  # at a depth that the reference knows
    assert train(query, 1).get_log_likelihood()["atac"].isna().all()


def test_row_38_too_many_missing_features_are_refused_with_the_numbers(reference: MultiVAE) -> None:
    cells = without(new_cells(), "rna", [f"rna:f{j}" for j in range(3)])
    with pytest.raises(
        InputError, match=r"lacks 3 of the 10 features \(30 %\).*at most 20 %.*'rna:f0'.*max_missing=0\.3"
    ):
        MultiVAE.map_query(cells, reference)
    assert MultiVAE.map_query(cells, reference, max_missing=0.3, train=False).schema.modality_names
    with pytest.raises(InputError, match=r"max_missing is a share"):
        MultiVAE.map_query(cells, reference, max_missing=1.5)


def test_what_is_missing_has_no_likelihood_and_no_zero(reference: MultiVAE) -> None:
    """The answers do not depend on a feature that is not there, whatever it would have been."""
    cells, dropped = new_cells(), ["rna:f0", "atac:f3"]
    gone = without(without(cells, "rna", dropped), "atac", dropped)
    query = MultiVAE.map_query(gone, reference, **QUICK)
    shares = reference._own_memory().norms[0].share  # type: ignore[union-attr]
    depth = query._data.modalities[0].depth
    np.testing.assert_allclose(depth, gone["rna"].X.sum(1).A1 / float(shares[1:].sum()), rtol=1e-5)
    assert np.isfinite(query.get_log_likelihood()).all().all()
    normalized = query.get_normalized("rna", features=["rna:f0"])
    assert (normalized.to_numpy() > 0).all()  # what it would be, from the others
    assert query.denoise("rna", n_samples=3)


# On disk


def test_a_query_is_saved_and_loaded(reference: MultiVAE, tmp_path: Path) -> None:
    reference.save(tmp_path / "reference")
    cells = without(new_cells(), "rna", ["rna:f1"])
    query = MultiVAE.map_query(cells, tmp_path / "reference", **QUICK)
    query.save(tmp_path / "query")
    again = MultiVAE.load(tmp_path / "query", cells)
    assert again.schema == query.schema
    for name, tensor in query.module.state_dict().items():
        assert torch.equal(again.module.state_dict()[name], tensor), name
    np.testing.assert_array_equal(again.get_latent_representation(), query.get_latent_representation())
    pd.testing.assert_frame_equal(again.mapping_confidence(), query.mapping_confidence(), rtol=1e-4)
    assert set(learned(again.module)) == set(learned(query.module))
    train(again, 1)
    assert all(torch.equal(again.module.state_dict()[n], t) for n, t in _frozen(query).items())


def test_a_query_without_new_categories_is_a_query_when_it_is_loaded(tmp_path: Path) -> None:
    reference = train(make_model(register(make_cells(n_cells=80))), 2, validation_size=0.3)
    cells = without(new_cells(), "rna", ["rna:f1"])
    query = MultiVAE.map_query(cells, reference, **QUICK)
    query.save(tmp_path / "query")
    again = MultiVAE.load(tmp_path / "query", cells)
    np.testing.assert_array_equal(again.get_latent_representation(), query.get_latent_representation())
    with pytest.raises(InputError, match="nothing to learn"):
        again.train(1, progress=False)
    further = MultiVAE.map_query(cells, query, **QUICK)
    np.testing.assert_array_equal(further.get_latent_representation(), query.get_latent_representation())


EVERY_KIND = {
    "rna": "nb",
    "atac": "bernoulli",
    "prot": "protein_mixture",
    "shape": "gaussian",
    "meth": "beta_binomial",
    "code": "categorical",
}


@pytest.fixture(scope="module")
def every_kind() -> tuple[mudata.MuData, MultiVAE]:
    """Cells of which 40 lack a modality, all without a feature, and their model."""
    cells = make_cells(EVERY_KIND, n_cells=150, missing_entries=True)
    reference = train(make_model(register(cells, EVERY_KIND, batch_key="batch")), 2, validation_size=0.3)
    lacking = {"meth": range(40)}
    new = new_cells(120, likelihoods=EVERY_KIND, missing_entries=True, lacking=lacking)
    new = without(new, "rna", ["rna:f1"])
    return new, MultiVAE.map_query(new, reference, **QUICK)


def test_what_cells_share_is_read_from_every_kind_and_is_saved(
    every_kind: tuple[mudata.MuData, MultiVAE], tmp_path: Path
) -> None:
    new, query = every_kind
    table = query.mapping_confidence(shared=True)
    assert table["shared"].isna().sum() == 40  # too few to be a cohort of their own
    query.save(tmp_path / "query")
    again = MultiVAE.load(tmp_path / "query", new)
    pd.testing.assert_frame_equal(again.mapping_confidence(shared=True), table, rtol=1e-3, atol=1e-3)


def test_a_saved_query_whose_cohort_cannot_be_is_refused(
    every_kind: tuple[mudata.MuData, MultiVAE],
) -> None:
    query = every_kind[1]
    query.mapping_confidence(shared=True)
    memory = query._own_memory()
    assert memory is not None
    tensors = memory.to_tensors()
    again = memory_from_tensors(tensors, query.module)
    assert again is not None
    assert set(again.cohorts) == {((0, 1, 2, 3, 4, 5), m) for m in range(5)}  # not of codes
    place = "cohort/0+1+2+3+4+5/0/"
    name = place + "held_out"
    with pytest.raises(CheckpointError, match="does not fit its reference"):
        memory_from_tensors({**tensors, name: tensors[name][1:].clone()}, query.module)
    with pytest.raises(CheckpointError, match=r"MultiVAE\.map_query\(mdata, reference\)"):
        memory_from_tensors({**tensors, place + "directions": tensors[name]}, query.module)


def _frozen(model: MultiVAE) -> dict[str, torch.Tensor]:
    return {n: p.detach() for n, p in model.module.named_parameters() if not p.requires_grad}


def test_a_folder_and_its_model_map_the_same(reference: MultiVAE, tmp_path: Path) -> None:
    reference.save(tmp_path / "reference")
    there = MultiVAE.map_query(new_cells(), tmp_path / "reference", **QUICK)
    here = MultiVAE.map_query(new_cells(), reference, **QUICK)
    np.testing.assert_array_equal(there.get_latent_representation(), here.get_latent_representation())


def test_a_checkpoint_that_lies_about_its_categories_is_refused(query: MultiVAE, tmp_path: Path) -> None:
    from multiomics_vae.extension import N_NEW, n_new_of

    tensors = query.module.state_dict()
    assert n_new_of(tensors, query.schema) == (2, 1)
    for lie in (torch.tensor([9, 1]), torch.tensor([2]), torch.tensor([2.0, 1.0]), torch.tensor([-1, 0])):
        with pytest.raises(CheckpointError, match=N_NEW):
            n_new_of({**tensors, N_NEW: lie}, query.schema)


def test_a_training_of_a_query_is_gone_on_with(reference: MultiVAE, tmp_path: Path) -> None:
    cells = new_cells()
    query = MultiVAE.map_query(cells, reference, train=False)
    train(query, 2, checkpoint_folder=tmp_path / "run")
    again = MultiVAE.resume(tmp_path / "run", cells, progress=False)
    assert set(learned(again.module)) == set(learned(query.module))
    np.testing.assert_array_equal(again.get_latent_representation(), query.get_latent_representation())


# What cannot be mapped


def test_what_is_no_reference_is_refused(query: MultiVAE) -> None:
    with pytest.raises(NotFittedError, match=r"reference\.train\(\)"):
        MultiVAE.map_query(new_cells(), make_model())
    with pytest.raises(InputError, match="trained model or the folder"):
        MultiVAE.map_query(new_cells(), 3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="a query itself"):
        MultiVAE.map_query(new_cells(), query)
    with pytest.raises(CheckpointError, match="nowhere"):
        MultiVAE.map_query(new_cells(), "nowhere")
    with pytest.raises(InputError, match="Wrap it"):
        MultiVAE.map_query(new_cells()["rna"], make_model and train(make_model(), 1))


def test_extending_by_nothing_changes_nothing(reference: MultiVAE) -> None:
    same = extend_module(reference.module, (0, 0), encode_covariates=True)
    added = same.state_dict().keys() - reference.module.state_dict().keys()
    assert added == {"covariates.n_new"}  # by which a saved query is known
    assert not learned(same)
