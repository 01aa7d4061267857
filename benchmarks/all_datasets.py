"""Train on every real data set with one line each, and write down what came of it.

    python benchmarks/all_datasets.py [--only NAME ...] [--threads 2]

Every data set leaves its row in benchmarks/results_all_datasets/, so that --only renews some; the table
of all rows goes between its markers in benchmarks/RESULTS.md: cells, modalities, the likelihoods that
were inferred, seconds, epochs, the held-out log likelihood a cell at the marginal model's start (epoch
1 is close to it) and at the end, and the 15-NN accuracy of the labels where there are any.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import resource
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import mudata
import numpy as np
import torch

from markers import write_between_markers
from multiomics_vae import MultiVAE
from scores import embedding_scores

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
ROWS = Path(__file__).resolve().parent / "results_all_datasets"
LABELS = ("cell_type", "treatment", "family", "severity")


@dataclass(frozen=True)
class Outcome:
    """What came of one data set."""

    name: str
    cells: int
    modalities: str
    seconds: float
    epochs: int
    elbo: str
    accuracy: str
    memory_gb: float

    def row(self) -> str:
        """A line of the markdown table."""
        return (
            f"| {self.name} | {self.cells} | {self.modalities} | {self.seconds:.0f} | {self.epochs} | "
            f"{self.elbo} | {self.accuracy} | {self.memory_gb:.1f} |"
        )


def run(path: Path) -> Outcome:
    """Read, train, score."""
    mdata = mudata.read_h5mu(path)
    started = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        model = MultiVAE(mdata)
    model.train(progress=False)
    seconds = time.process_time() - started
    z = model.get_latent_representation()
    if not np.isfinite(z).all():
        raise RuntimeError(f"{path.name}: the latent representation is not finite")
    elbo = model.history["elbo_validation"]
    label = next((name for name in LABELS if name in mdata.obs and mdata.obs[name].nunique() > 1), None)
    accuracy = ""
    if label is not None:
        scored = embedding_scores(z, mdata.obs[label].to_numpy())
        accuracy = f"{scored.knn_accuracy:.3f} ({label})"
    return Outcome(
        name=path.stem,
        cells=mdata.n_obs,
        modalities=", ".join(
            f"{m.name} {mdata[m.name].n_obs}×{m.n_features} {m.likelihood}" for m in model.schema.modalities
        ),
        seconds=seconds,
        epochs=model.history.n_epochs,
        elbo=f"{elbo.iloc[0]:.1f} → {elbo.max():.1f}",
        accuracy=accuracy,
        memory_gb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=None)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    warnings.filterwarnings("ignore", category=FutureWarning)
    paths = [p for p in sorted(DATA.glob("*.h5mu")) if arguments.only is None or p.stem in arguments.only]
    ROWS.mkdir(exist_ok=True)
    for path in paths:
        row = run(path).row()
        (ROWS / f"{path.stem}.md").write_text(row + "\n")
        print(row, flush=True)
    rows = [found.read_text().rstrip() for found in sorted(ROWS.glob("*.md"))]
    head = "| data set | cells | modalities | CPU s | epochs | held-out ELBO, first → best | 15-NN | GB |"
    command = f"`python benchmarks/all_datasets.py --threads {arguments.threads}`"
    write_between_markers(
        "all_datasets", "\n".join([command, "", head, "|---|---|---|---|---|---|---|---|", *rows])
    )


if __name__ == "__main__":
    main()
