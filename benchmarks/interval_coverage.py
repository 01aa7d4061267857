"""How often held-out values lie in the intervals that a model states, as it is and calibrated.

    python benchmarks/interval_coverage.py [--only snare cite] [--cells 4000] [--seed 0] [--threads 1]

Trains on 80 % of some cells (a tenth of them held out, on which the intervals are calibrated) and looks at
the other 20 %: for every modality, given everything at the observed depth (`denoise`) and given another
modality alone (`impute`). Levels of counts are randomised within their steps. Prints the table, and writes it
between its markers in benchmarks/RESULTS.md with --write.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import mudata
import numpy as np
import pandas as pd
import torch

from markers import command_line, write_between_markers
from multiomics_vae import MultiVAE

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
LEVELS = (0.5, 0.8, 0.9, 0.95)
MOST_FEATURES = 400
HEAD = "| data, seed | target | given | stated | as the model has it | calibrated | seconds |"


@dataclass(frozen=True)
class Case:
    """A data set and how it is read."""

    file: str
    likelihoods: dict[str, str]
    batch_key: str | None = None
    most_features: int | None = None


CASES = {
    "snare": Case("snareseq_mouse_cortex", {"rna": "nb", "atac": "bernoulli"}),
    "cite": Case("pbmc_cite_mosaic_10k_5k", {"rna": "nb", "prot": "protein_mixture"}, "batch", 1_000),
    "tea": Case("pbmc_teaseq_mosaic", {"rna": "nb", "prot": "protein_mixture"}, None, 1_000),
    "midas": Case("pbmc_mosaic_midas", {"rna": "nb", "prot": "protein_mixture"}, "batch"),
}


def read(case: Case, n_cells: int, seed: int) -> tuple[mudata.MuData, mudata.MuData]:
    """Training and test cells, split at random."""
    mdata = mudata.read_h5mu(DATA / f"{case.file}.h5mu")
    if case.most_features is not None:
        # The highest counts of the first modality.
        first = next(iter(case.likelihoods))
        total = np.asarray(mdata[first].X.sum(0)).ravel()
        kept = np.sort(np.argsort(-total)[: case.most_features])
        mdata.mod[first] = mdata[first][:, kept].copy()
        mdata.update()
    order = np.random.default_rng(seed).permutation(mdata.n_obs)[:n_cells]
    n_test = len(order) // 5
    return mdata[np.sort(order[n_test:])].copy(), mdata[np.sort(order[:n_test])].copy()


def rows(name: str, case: Case, n_cells: int, seed: int) -> list[str]:
    """Lines of the table for one data set."""
    train, test = read(case, n_cells, seed)
    MultiVAE.setup_mudata(train, likelihoods=case.likelihoods, batch_key=case.batch_key)
    model = MultiVAE(train, seed=seed)
    model.train(progress=False)
    model.calibrate()
    found = []
    for target in case.likelihoods:
        features = list(test[target].var_names)
        chosen = np.random.default_rng(seed).permutation(len(features))[:MOST_FEATURES]
        others = [other for other in case.likelihoods if other != target]
        for given in ("all, observed depth", others[0]):
            started = time.process_time()
            table = model.interval_coverage(
                target,
                test,
                denoising=given not in others,
                given=None if given not in others else [given],
                features=[features[i] for i in np.sort(chosen)],
                levels=LEVELS,
                seed=seed,
            )
            found.append(line(name, seed, target, given, table, time.process_time() - started))
            print(found[-1], flush=True)
    return found


def line(name: str, seed: int, target: str, given: str, table: pd.DataFrame, seconds: float) -> str:
    def shares(column: str) -> str:
        return " / ".join(f"{share:.3f}".lstrip("0") for share in table[column])

    stated = " / ".join(f"{level:g}".lstrip("0") for level in table.index)
    return (
        f"| {name}, {seed} | {target} | {given} | {stated} | {shares('model')} | {shares('calibrated')} | "
        f"{seconds:.1f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--cells", type=int, default=4_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--write", action="store_true", help="put the table into benchmarks/RESULTS.md")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    warnings.filterwarnings("ignore", category=FutureWarning)
    print(HEAD, flush=True)
    found: list[str] = []
    for name in arguments.only:
        with contextlib.redirect_stderr(io.StringIO()):
            found += rows(name, CASES[name], arguments.cells, arguments.seed)
    if arguments.write:
        text = "\n".join([f"`{command_line()}`", "", HEAD, "|---|---|---|---|---|---|---|", *found])
        write_between_markers("coverage", text)


if __name__ == "__main__":
    main()
