"""Cut the bundled data out of the full files.

    python data/make_bundled.py FOLDER

FOLDER holds ``snareseq_mouse_cortex.h5mu`` (all 10 309 cells), ``pbmc_mosaic_midas.h5mu`` and
``tcga_acc_mini.h5mu``. The bundled files are written next to this script, and their SHA-256 sums printed:
they belong in ``src/multiomics_vae/datasets.py``. The same input and library versions give the same bytes.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from pathlib import Path

import mudata
import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData

HERE = Path(__file__).parent
SNARE = "snareseq_mouse_cortex"
PBMC = "pbmc_mosaic_midas"
TCGA = "tcga_acc_mini"
N_CELLS = 4000
FEWEST_OF_A_LABEL = 20
FEWEST_CELLS_OF_A_PEAK = 10
SEED = 0
OBS_COLUMNS = ["cell_type", "cell_type_coarse", "ident", "batch"]
CUT = (
    f"{N_CELLS} of 10309 cells drawn without replacement (numpy default_rng({SEED})), in proportion to "
    f"cell_type but at least {FEWEST_OF_A_LABEL} of each label (all where there are fewer); all genes; "
    f"peaks open in at least {FEWEST_CELLS_OF_A_PEAK} of the kept cells; counts unchanged"
)


def label_quotas(sizes: pd.Series, n_cells: int, fewest: int) -> pd.Series:
    """Cells to keep of each label: proportional, at least ``fewest``, ``n_cells`` in all."""
    floor = np.minimum(sizes, fewest)
    spare = sizes - floor
    exact = floor + spare * (n_cells - floor.sum()) / spare.sum()
    quota = np.floor(exact).astype(int)
    largest_remainder = (exact - quota).sort_values(ascending=False, kind="stable").index
    quota[largest_remainder[: n_cells - quota.sum()]] += 1
    return quota


def stratified_cells(labels: pd.Series, n_cells: int, fewest: int, seed: int) -> np.ndarray:
    """Sorted positions of the kept cells."""
    generator = np.random.default_rng(seed)
    quotas = label_quotas(labels.value_counts().sort_index(), n_cells, fewest)
    kept = [
        generator.choice(np.flatnonzero(labels == label), size=quota, replace=False)
        for label, quota in quotas.items()
    ]
    return np.sort(np.concatenate(kept))


def cut_modality(modality: AnnData, cells: np.ndarray, fewest_cells: int) -> AnnData:
    """Keep the given cells, and the features seen in at least ``fewest_cells`` of them."""
    counts = modality.X[cells]
    seen = np.asarray((counts > 0).sum(0)).ravel() >= fewest_cells
    counts = counts[:, seen].tocsr()
    counts.sort_indices()
    return AnnData(
        counts.astype(np.float32),
        obs=pd.DataFrame(index=modality.obs_names[cells]),
        var=modality.var.loc[seen, ["feature_name"]],
    )


def cut_snareseq(full: MuData) -> MuData:
    """Make the small SNARE-seq data set."""
    cells = stratified_cells(full.obs["cell_type"], N_CELLS, FEWEST_OF_A_LABEL, SEED)
    names = full["rna"].obs_names
    if not (names.equals(full["atac"].obs_names) and names.equals(full.obs_names)):
        raise ValueError("the cells of the full file are not in one order: cut by name instead")
    small = MuData(
        {
            "rna": cut_modality(full["rna"], cells, fewest_cells=0),
            "atac": cut_modality(full["atac"], cells, FEWEST_CELLS_OF_A_PEAK),
        }
    )
    for column in OBS_COLUMNS:
        small.obs[column] = full.obs[column].iloc[cells].cat.remove_unused_categories()
    small.uns["source"] = dict(full.uns["source"]) | {"accession": "GSE126074", "licence": "MIT", "cut": CUT}
    return small


def main(folder: Path) -> None:
    """Write the bundled files and print their sums."""
    with mudata.set_options(pull_on_update=False):
        small = cut_snareseq(mudata.read_h5mu(folder / f"{SNARE}.h5mu"))
        target = HERE / f"{SNARE}_small.h5mu"
        small.write_h5mu(target, compression="gzip", compression_opts=9)
    whole = [HERE / f"{name}.h5mu" for name in (PBMC, TCGA)]
    for path in whole:
        shutil.copyfile(folder / path.name, path)
    for path in (target, *whole):
        print(path.name, path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
