"""The bundled data reads back as raw counts with labels, and damage is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from mudata import MuData

from multiomics_vae import datasets
from multiomics_vae.errors import InputError

DATA = Path(__file__).parents[1] / "data"
PBMC_FILE = "pbmc_mosaic_midas.h5mu"
MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def snareseq() -> MuData:
    return datasets.snareseq_mouse_cortex()


@pytest.fixture(scope="module")
def pbmc() -> MuData:
    return datasets.pbmc_mosaic()


def assert_raw_counts(mdata: MuData) -> None:
    for modality in mdata.mod.values():
        assert isinstance(modality.X, sp.csr_matrix)
        assert modality.X.dtype == np.float32
        assert modality.X.has_canonical_format
        assert (modality.X.data > 0).all()
        np.testing.assert_array_equal(modality.X.data, np.round(modality.X.data))
        assert modality.obs_names.is_unique
        assert modality.var["feature_name"].notna().all()


def test_snareseq_is_what_its_page_says(snareseq: MuData) -> None:
    assert_raw_counts(snareseq)
    assert snareseq["rna"].shape == (4000, 1677)
    assert snareseq["atac"].shape == (4000, 10141)
    np.testing.assert_array_equal(snareseq["rna"].obs_names, snareseq["atac"].obs_names)
    assert list(snareseq.obs.columns) == ["cell_type", "cell_type_coarse", "ident", "batch"]
    labels = snareseq.obs["cell_type"]
    assert labels.nunique() == 23
    assert labels.value_counts().min() >= 19
    assert snareseq.obs["batch"].nunique() == 12
    assert ((snareseq["atac"].X > 0).sum(0) >= 10).all()


def test_pbmc_is_a_mosaic(pbmc: MuData) -> None:
    assert_raw_counts(pbmc)
    assert pbmc.shape == (1600, 724)
    has = {name: set(pbmc.obs.loc[pbmc[name].obs_names, "batch"]) for name in ("rna", "prot")}
    assert has == {"rna": {"p1_0", "p3_0", "p4_0"}, "prot": {"p2_0", "p3_0", "p4_0"}}
    assert pbmc.obs["cell_type"].nunique() == 8


def test_provenance_is_plain_text(snareseq: MuData, pbmc: MuData) -> None:
    for mdata in (snareseq, pbmc):
        assert {"assay", "paper", "path", "repo"} <= set(mdata.uns["source"])
        assert all(isinstance(value, str) for value in mdata.uns["source"].values())
    assert "at least 20 of each label" in snareseq.uns["source"]["cut"]


def test_each_call_gives_a_fresh_object(pbmc: MuData) -> None:
    datasets.pbmc_mosaic()["rna"].X.data[:] = -1.0
    assert (datasets.pbmc_mosaic()["rna"].X.data > 0).all()


def test_bundled_files_are_small() -> None:
    assert sum(path.stat().st_size for path in DATA.iterdir() if path.is_file()) < 6 * MEGABYTE


def test_available_names_are_functions() -> None:
    assert datasets.available() == ("pbmc_mosaic", "snareseq_mouse_cortex", "tcga_acc_mini")
    assert all(callable(getattr(datasets, name)) for name in datasets.available())


def test_path_is_the_file_of_a_name() -> None:
    assert datasets.path("pbmc_mosaic") == DATA / PBMC_FILE
    with pytest.raises(InputError, match="Did you mean 'pbmc_mosaic'"):
        datasets.path("pbmc_mosaics")


def test_a_folder_named_in_the_environment_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(DATA / PBMC_FILE, tmp_path)
    monkeypatch.setenv("MULTIOMICS_VAE_DATA", str(tmp_path))
    assert datasets.available() == ("pbmc_mosaic",)
    assert datasets.pbmc_mosaic().n_obs == 1600
    with pytest.raises(InputError, match="export MULTIOMICS_VAE_DATA="):
        datasets.snareseq_mouse_cortex()


def test_a_wrong_folder_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MULTIOMICS_VAE_DATA", str(tmp_path / "nowhere"))
    for ask in (datasets.available, datasets.pbmc_mosaic):
        with pytest.raises(InputError, match="unset MULTIOMICS_VAE_DATA"):
            ask()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:51\nsize 874120\n", "git lfs pull"),
        ((DATA / PBMC_FILE).read_bytes()[:-1], "git checkout -- data/pbmc_mosaic_midas.h5mu"),
        (b"", "damaged or was changed"),
    ],
    ids=["lfs-pointer", "truncated", "empty"],
)
def test_damage_is_an_error(
    content: bytes, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / PBMC_FILE).write_bytes(content)
    monkeypatch.setenv("MULTIOMICS_VAE_DATA", str(tmp_path))
    with pytest.raises(InputError, match=message):
        datasets.pbmc_mosaic()


def test_tcga_is_what_its_page_says() -> None:
    mdata = datasets.tcga_acc_mini()
    shapes = {name: part.shape for name, part in mdata.mod.items()}
    assert shapes == {
        "rna": (79, 198), "cnv": (90, 198), "prot": (46, 33), "mut": (90, 97), "mirna": (80, 471),
    }  # fmt: skip
    assert mdata.n_obs == 92
    assert mdata.obs["event"].sum() == 34
    assert (mdata.obs["time_days"] == 0).sum() == 1
    assert (mdata.obs["stage"].astype(str) == "nan").sum() == 2
    assert set(np.unique(mdata["mut"].X)) == {0.0, 1.0}
    assert set(np.unique(mdata["cnv"].X)) <= {-2.0, -1.0, 0.0, 1.0, 2.0}
    np.testing.assert_array_equal(mdata["mirna"].X, np.round(mdata["mirna"].X))
