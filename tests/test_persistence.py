"""A model written to disk and read again. Numbers of rows are those of the catalogue of faults."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from multiomics_vae import MultiVAE
from multiomics_vae.errors import CheckpointError, InputError, NotFittedError
from multiomics_vae.fusion import FUSION_RULES
from multiomics_vae.likelihoods import LIKELIHOODS
from multiomics_vae.priors import PRIORS
from multiomics_vae.training import manifest
from multiomics_vae.training.checkpoint import load_checkpoint, read_manifest, save_checkpoint
from small_models import fingerprint, make_cells, make_model, permuted, register, train

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:mudata", "ignore::UserWarning:anndata")


@pytest.fixture(autouse=True)
def quick_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(scope="module")
def trained() -> MultiVAE:
    return train(make_model(register(make_cells(), batch_key="batch")))


@pytest.fixture
def saved(trained: MultiVAE, tmp_path: Path) -> Path:
    trained.save(tmp_path / "model")
    return tmp_path / "model"


def rewrite(folder: Path, name: str, change: Callable[[Any], object]) -> None:
    """Change a file of a saved model and make its checksums right again."""
    from training.saved_models import reseal  # type: ignore[import-not-found]

    document = json.loads((folder / name).read_bytes())
    change(document)
    (folder / name).write_text(json.dumps(document))
    reseal(folder)


# Row 50: the same answers after it


@pytest.mark.parametrize(
    ("fusion", "prior"),
    [*((fusion, "gaussian_mixture") for fusion in FUSION_RULES), *(("product", prior) for prior in PRIORS)],
)
def test_row_50_answers_are_the_same_bits(fusion: str, prior: str, tmp_path: Path) -> None:
    kinds = {"rna": "nb", "atac": "bernoulli"}
    mdata = register(make_cells(kinds, lacking={"atac": range(5)}), kinds, batch_key="batch")
    model = train(make_model(mdata, fusion=fusion, prior=prior, n_prior_components=4), 1)
    model.save(tmp_path / "model")
    loaded = MultiVAE.load(tmp_path / "model", mdata)
    assert loaded.config == model.config
    assert loaded.schema == model.schema
    np.testing.assert_array_equal(
        loaded.get_latent_representation(return_dist=True), model.get_latent_representation(return_dist=True)
    )
    np.testing.assert_array_equal(loaded.get_elbo(), model.get_elbo())


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_row_50_every_likelihood_is_restored(likelihood: str, tmp_path: Path) -> None:
    kinds = {"only": likelihood}
    mdata = register(make_cells(kinds), kinds, batch_key="batch", continuous_covariate_keys=["age"])
    dispersion = LIKELIHOODS[likelihood].dispersions[-1]
    model = train(make_model(mdata, dispersions=dispersion), 1)
    model.save(tmp_path / "model")
    loaded = MultiVAE.load(tmp_path / "model", mdata)
    np.testing.assert_array_equal(loaded.get_elbo(), model.get_elbo())
    np.testing.assert_array_equal(loaded.get_normalized("only"), model.get_normalized("only"))


def test_row_50_in_a_fresh_process(trained: MultiVAE, saved: Path, tmp_path: Path) -> None:
    make_cells().write_h5mu(tmp_path / "cells.h5mu")
    code = (
        "import sys, mudata, numpy; from multiomics_vae import MultiVAE; "
        "model = MultiVAE.load(sys.argv[1], mudata.read_h5mu(sys.argv[2])); "
        "numpy.save(sys.argv[3], model.get_latent_representation())"
    )
    places = [str(saved), str(tmp_path / "cells.h5mu"), str(tmp_path / "latent.npy")]
    subprocess.run([sys.executable, "-c", code, *places], check=True, capture_output=True)
    np.testing.assert_array_equal(np.load(tmp_path / "latent.npy"), trained.get_latent_representation())


def test_row_56_a_product_of_the_first_format_is_read_with_powers_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mdata = register(make_cells())
    model = train(make_model(mdata, fusion="product"), 1)
    powers = model.module.fusion.log_powers
    assert bool((powers != 0).any())  # learned
    powers.data.zero_()
    model.save(tmp_path / "new")
    new = load_checkpoint(tmp_path / "new")
    tensors = {name: tensor for name, tensor in new.tensors.items() if name != "fusion.log_powers"}
    with monkeypatch.context() as patch:
        patch.setattr(manifest, "FORMAT_VERSION", 1)
        save_checkpoint(tmp_path / "old", replace(new, tensors=tensors))
    assert read_manifest(tmp_path / "old").format_version == 1
    loaded = MultiVAE.load(tmp_path / "old", mdata)
    np.testing.assert_array_equal(
        loaded.get_latent_representation(return_dist=True), model.get_latent_representation(return_dist=True)
    )
    train(loaded, 1)
    assert bool((loaded.module.fusion.log_powers != 0).any())  # and they learn


def test_row_56_a_model_of_the_second_format_learns_its_depth_when_it_is_asked(
    trained: MultiVAE, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = load_checkpoint(saved)
    tensors = {name: tensor for name, tensor in new.tensors.items() if not name.startswith("aids/")}
    beside = {name for name in set(new.tensors) - set(tensors) if not name.startswith("aids/reference/")}
    assert beside == {"aids/depth/0/1", "aids/depth/1/0"}
    with monkeypatch.context() as patch:
        patch.setattr(manifest, "FORMAT_VERSION", 2)
        save_checkpoint(tmp_path / "old", replace(new, tensors=tensors))
    loaded = MultiVAE.load(tmp_path / "old", make_cells())
    np.testing.assert_allclose(
        loaded.impute("rna", n_samples=10).X, trained.impute("rna", n_samples=10).X, rtol=0.2
    )


def test_row_55_aids_that_do_not_fit(saved: Path, tmp_path: Path) -> None:
    new = load_checkpoint(saved)
    wrong = replace(new, tensors={**new.tensors, "aids/depth/0/1": torch.zeros(99)})
    save_checkpoint(tmp_path / "wrong", wrong)
    with pytest.raises(CheckpointError, match="'depth/0/1' has shape"):
        MultiVAE.load(tmp_path / "wrong", make_cells())


def test_history_comes_back(trained: MultiVAE, saved: Path) -> None:
    loaded = MultiVAE.load(saved, make_cells())
    assert loaded.history.to_json() == trained.history.to_json()
    assert loaded.is_trained
    assert "trained, 2 epochs" in repr(loaded)


def test_a_loaded_model_goes_on_learning(saved: Path) -> None:
    loaded = MultiVAE.load(saved, make_cells())
    before = loaded.get_latent_representation()
    train(loaded)
    assert not np.array_equal(before, loaded.get_latent_representation())


def test_loading_prints_nothing_and_leaves_the_cells_alone(
    saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mdata = make_cells()
    before = fingerprint(mdata)
    MultiVAE.load(saved, mdata)
    assert capsys.readouterr().out == ""
    assert fingerprint(mdata) == before


def test_row_37_other_order_of_features_and_cells_at_loading(trained: MultiVAE, saved: Path) -> None:
    shuffled = permuted(make_cells())
    loaded = MultiVAE.load(saved, shuffled)
    rows = make_cells().obs_names.get_indexer(shuffled.obs_names)
    np.testing.assert_allclose(
        loaded.get_latent_representation(), trained.get_latent_representation()[rows], atol=1e-5
    )


# Rows 47, 54, 55, 56, 58, 60 and 66: what is refused


def test_row_66_untrained_model_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(NotFittedError, match=r"model\.train\(\)"):
        make_model().save(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_row_54_save_over_existing(trained: MultiVAE, saved: Path) -> None:
    with pytest.raises(CheckpointError, match="overwrite=True"):
        trained.save(saved)
    trained.save(saved, overwrite=True)
    assert MultiVAE.load(saved, make_cells()).is_trained


def test_row_55_wrong_class(saved: Path) -> None:
    class OtherVAE(MultiVAE):
        """Another model."""

    with pytest.raises(CheckpointError, match=r"holds a MultiVAE, not a OtherVAE.*MultiVAE\.load\("):
        OtherVAE.load(saved, make_cells())


@pytest.mark.parametrize("change", ["missing", "extra", "shape", "dtype"])
def test_row_55_tensors_that_do_not_fit(saved: Path, change: str) -> None:
    from training.saved_models import reseal

    path = saved / "weights.safetensors"
    tensors = safetensors.torch.load_file(path)
    weights = {key: tensor for key, tensor in tensors.items() if not key.startswith("aids/")}
    name = next(key for key, tensor in weights.items() if tensor.ndim == 2 and tensor.is_floating_point())
    if change == "missing":
        del tensors[name]
    elif change == "extra":
        name = "extra"
        tensors[name] = torch.zeros(2)
    elif change == "shape":
        tensors[name] = tensors[name][:-1].contiguous()
    else:
        tensors[name] = tensors[name].half()
    safetensors.torch.save_file(tensors, path)

    def describe(manifest: dict[str, Any]) -> None:
        dtypes = {torch.float16: "F16", torch.float32: "F32", torch.int64: "I64", torch.bool: "BOOL"}
        example = next(iter(manifest["tensors"].values()))
        manifest["tensors"] = {
            key: {**example, "dtype": dtypes[each.dtype], "shape": list(each.shape)}
            | ({"bytes": each.nbytes} if "bytes" in example else {})
            for key, each in tensors.items()
        }

    reseal(saved, describe)
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        MultiVAE.load(saved, make_cells())


def test_row_58_pickle_payload_is_not_executed(saved: Path) -> None:
    from training.saved_models import reseal

    canary = saved.parent / "canary"

    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return (open, (str(canary), "w"))

    payload = pickle.dumps(Payload())
    pickle.loads(payload).close()
    assert canary.exists(), "the payload must work, or this test proves nothing"
    canary.unlink()
    for name in ("weights.safetensors", "config.json", "schema.json", "history.json", "manifest.json"):
        kept = (saved / name).read_bytes(), (saved / "manifest.json").read_bytes()
        (saved / name).write_bytes(payload)
        if name != "manifest.json":
            reseal(saved)
        with pytest.raises(CheckpointError):
            MultiVAE.load(saved, make_cells())
        (saved / "manifest.json").write_bytes(kept[1])
        (saved / name).write_bytes(kept[0])
    assert not canary.exists()
    MultiVAE.load(saved, make_cells())


@pytest.mark.parametrize(("entry", "value"), [("n_hidden", 10**9), ("n_latent", 10**10), ("n_layers", 200)])
def test_row_60_huge_sizes_are_refused_before_memory_is_asked_for(
    saved: Path, entry: str, value: int
) -> None:
    rewrite(saved, "config.json", lambda config: config.update({entry: value}))
    with pytest.raises(CheckpointError, match="places"):
        MultiVAE.load(saved, make_cells())


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda c: c.pop("fusion"), "lacks the entry 'fusion'"),
        (lambda c: c.update(fusoin="product"), "unknown entry 'fusoin'. Did you mean 'fusion'"),
        (lambda c: c.update(fusion="prodct"), "cannot be built.*'prodct'. Did you mean 'product'"),
        (lambda c: c.update(n_latent="3"), "config.n_latent is '3'"),
        (lambda c: c.update(n_latent=True), "config.n_latent is True"),
        (lambda c: c.update(n_latent=0), "cannot be built.*n_latent"),
        (lambda c: c.update(modalities={}), "'modalities' must be a list"),
        (lambda c: c.update(modalities=[3, 4]), r"modalities\[0\] must be an object, not int"),
        (lambda c: c["modalities"].pop(), "describes 1 modalities, schema.json 2"),
        (lambda c: c["modalities"][0].update(transform="log2p"), "'log2p'. Did you mean 'log1p'"),
        (lambda c: c["modalities"][0].update(n_projection=10**9), "places|cannot be built"),
    ],
)
def test_row_55_config_that_does_not_fit(saved: Path, change: Callable[[Any], object], match: str) -> None:
    rewrite(saved, "config.json", change)
    with pytest.raises(CheckpointError, match=match):
        MultiVAE.load(saved, make_cells())


@pytest.mark.parametrize(
    ("epochs", "match"),
    [
        (3, "'epochs' must be a list, not int"),
        ([3], "epoch 1 must be an object, not int"),
        ([{"elbo_train": "x"}], "'elbo_train' of epoch 1 is 'x'"),
    ],
)
def test_row_55_history_that_is_none(saved: Path, epochs: object, match: str) -> None:
    rewrite(saved, "history.json", lambda history: history.update(epochs=epochs))
    with pytest.raises(CheckpointError, match=match):
        MultiVAE.load(saved, make_cells())


def test_row_36_unseen_batch_at_loading(saved: Path) -> None:
    mdata = make_cells()
    mdata.obs["batch"] = "b7"
    with pytest.raises(InputError, match=r"'b7'.*'b0', 'b1'"):
        MultiVAE.load(saved, mdata)


def test_no_model_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no saved model"):
        MultiVAE.load(tmp_path / "nowhere", make_cells())
