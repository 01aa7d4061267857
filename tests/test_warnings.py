"""Nothing that this package calls warns a user of changes to come in other packages."""

from __future__ import annotations

import copy
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib.pyplot as plt
import mudata
import numpy as np
import pytest

import multiomics_vae
from multiomics_vae import MultiVAE, datasets, plotting
from multiomics_vae.cli import job
from multiomics_vae.data.synthetic import SyntheticModality, simulate
from multiomics_vae.errors import MultiomicsWarning
from small_models import make_cells, make_model, register, train

OURS = str(Path(multiomics_vae.__file__).parent)


@contextmanager
def warnings_of_ours() -> Iterator[list[tuple[type[Warning], str]]]:
    """Collect every warning that is issued beneath a line of the package, as a fresh interpreter would."""
    found: list[tuple[type[Warning], str]] = []

    def note(message: Warning | str, category: type[Warning], *_: object) -> None:
        if any(frame.filename.startswith(OURS) for frame in traceback.extract_stack()):
            found.append((category, str(message)))

    with mudata.set_options(pull_on_update=None), warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = note
        yield found


def with_shared_names() -> mudata.MuData:
    """Cells of which some lack a modality, whose modalities have features of the same names."""
    mdata = make_cells(lacking={"atac": range(6), "rna": range(6, 12)})
    mdata["atac"].var_names = mdata["rna"].var_names
    mdata.update()
    return mdata


def use_everything(mdata: mudata.MuData, folder: Path) -> None:
    """One call of whatever a user calls."""
    model = train(make_model(register(mdata, batch_key="batch"), prior="vamp", fusion="gated"), 1)
    model.train(1, batch_size=16, validation_size=0.0, modality_weights="adaptive", progress=True)
    model.get_latent_representation(mdata, indices=[3, 1])
    model.get_latent_samples()
    model.get_expert_weights()
    model.get_elbo()
    model.get_log_likelihood(modalities=["rna", "atac"])
    model.get_normalized("rna", mdata, given=["rna", "atac"], n_samples=2, transform_batch="b0")
    model.write_normalized(folder / "values.h5ad", "atac")
    model.save(folder / "model")
    copy.deepcopy(MultiVAE.load(folder / "model", mdata)).get_elbo()
    model.write_results(mdata)
    model.view_anndata_setup()
    plotting.training_curves(model.history)
    plotting.expert_weights(model.get_expert_weights(), groups=mdata.obs["donor"])
    plotting.umap(mdata, color="donor")


def use_files(folder: Path) -> None:
    read = datasets.read(folder / "cells.h5mu")
    MultiVAE(read, n_latent=3, n_hidden=16)
    on_disk = datasets.read(folder / "cells.h5mu", backed=True)
    train(MultiVAE(on_disk, n_latent=3, n_hidden=16), 1)


@pytest.mark.filterwarnings("ignore")
def test_a_user_sees_our_warnings_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Neighbours and UMAP take seconds to compile, and are scanpy's.
    monkeypatch.setattr(job, "draw", lambda model, mdata, job: None)
    mdata = with_shared_names()
    mdata.obsm["X_umap"] = np.zeros((40, 2))
    make_cells().write_h5mu(tmp_path / "cells.h5mu")
    with warnings_of_ours() as found:
        use_everything(mdata, tmp_path)
        use_files(tmp_path)
        kinds = (SyntheticModality("rna", 5), SyntheticModality("atac", 5, kind="binary"))
        job.run_job(job.FitJob(tmp_path / "cells.h5mu", tmp_path / "run", max_epochs=1, accelerator="cpu"))
        simulate(20, kinds, n_latent=2, missing=0.2)
        datasets.pbmc_mosaic()
    plt.close("all")
    assert [each for each in found if not issubclass(each[0], MultiomicsWarning)] == []


@pytest.mark.filterwarnings("ignore")
def test_what_is_collected_would_be_seen() -> None:
    """The same MuData calls, made without the option, warn."""
    parts = dict(make_cells().mod)
    with warnings_of_ours() as found:
        exec(compile("mudata.MuData(parts)", OURS + "/x.py", "exec"), {"mudata": mudata, "parts": parts})
    assert {category for category, _ in found} == {FutureWarning}
