"""What is imputed from what: data, cells held out, what a method may read, and how its values are scored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import mudata as md
import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from scores import ColumnScore, auroc_per_column, held_out_split, pearson_per_column, spearman_per_column

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class ImputationTask:
    """One direction of one data set.

    Parameters
    ----------
    name
        ``"peaks_from_rna"`` …
    given, target
        Names of the modality that may be read and of the one that is imputed.
    train
        Training cells; some may lack a modality.
    test
        Held-out cells, with the modality that may be read and nothing else.
    truth
        What was measured in the held-out cells, ``(n, F)``.
    kind
        Of the target: ``"binary"`` (scored as it is) or ``"counts"`` (imputed as log(1 + count)).
    score
        From truth and imputed values.
    score_name
        For the table.
    likelihoods, batch_key
        How the data are registered with MultiVAE.
    seed
        Of the method; the split is the same for every seed.
    """

    name: str
    data_set: str
    given: str
    target: str
    train: md.MuData
    test: md.MuData
    truth: sp.csr_matrix
    kind: str
    score: Callable[[sp.csr_matrix, Floats], ColumnScore]
    score_name: str
    seed: int
    likelihoods: Mapping[str, str] = field(default_factory=dict)
    batch_key: str | None = None


@dataclass(frozen=True)
class TaskRecipe:
    """How a task is made from a file; see `ImputationTask`."""

    name: str
    data_set: str
    given: str
    target: str
    kind: str
    score: Callable[[sp.csr_matrix, Floats], ColumnScore]
    score_name: str
    likelihoods: Mapping[str, str] = field(default_factory=dict)
    batch_key: str | None = None


def _log_pearson(truth: sp.csr_matrix, values: Floats) -> ColumnScore:
    return pearson_per_column(truth.log1p(), values)


SNARE: Mapping[str, str] = {"rna": "nb", "atac": "bernoulli"}
RECIPES = (
    TaskRecipe(
        "peaks_from_rna",
        "snareseq_mouse_cortex",
        "rna",
        "atac",
        "binary",
        auroc_per_column,
        "AUROC of a peak",
        SNARE,
    ),
    TaskRecipe(
        "genes_from_atac",
        "snareseq_mouse_cortex",
        "atac",
        "rna",
        "counts",
        spearman_per_column,
        "Spearman of a gene",
        SNARE,
    ),
    TaskRecipe(
        "protein_from_rna",
        "pbmc_cite_mosaic_10k_5k",
        "rna",
        "prot",
        "counts",
        _log_pearson,
        "Pearson of a protein, log scale",
        batch_key="batch",
    ),
    TaskRecipe(
        "rna_from_protein",
        "pbmc_teaseq_mosaic",
        "prot",
        "rna",
        "counts",
        spearman_per_column,
        "Spearman of a gene",
    ),
)


def make_task(recipe: TaskRecipe, folder: Path, seed: int) -> ImputationTask:
    """Hold out a fifth of the cells that have both modalities; every other cell may be trained on.

    Of the held-out cells a method gets the modality that may be read; the other is taken out before, so
    that no method can read it by mistake.
    """
    mdata = md.read_h5mu(folder / f"{recipe.data_set}.h5mu")
    having = [mdata.obs_names.isin(mdata[name].obs_names) for name in (recipe.given, recipe.target)]
    both = np.flatnonzero(having[0] & having[1])
    held_out = both[held_out_split(len(both), 0).test]
    train = mdata[np.setdiff1d(np.arange(mdata.n_obs), held_out)].copy()
    names = mdata.obs_names[held_out]
    test = md.MuData({recipe.given: mdata[recipe.given][names].copy()})
    if recipe.batch_key is not None:
        test.obs[recipe.batch_key] = mdata.obs.loc[names, recipe.batch_key].to_numpy()
    truth = sp.csr_matrix(mdata[recipe.target][names].X, dtype=np.float32)
    return ImputationTask(
        name=recipe.name,
        data_set=recipe.data_set,
        given=recipe.given,
        target=recipe.target,
        train=train,
        test=test,
        truth=truth,
        kind=recipe.kind,
        score=recipe.score,
        score_name=recipe.score_name,
        seed=seed,
        likelihoods=recipe.likelihoods,
        batch_key=recipe.batch_key,
    )
