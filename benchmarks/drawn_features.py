"""What steps on drawn features cost in quality: held-out ELBO of the bundled SNARE-seq cells.

    python benchmarks/drawn_features.py --seeds 0 1 2 --passes 10 30

Every row is trained on the same cells with the same seeds; held-out cells are scored on all features.
Features are drawn by size, as `train(n_features_per_step=...)` does, and for comparison all with the same
chance.
"""

from __future__ import annotations

import argparse
import logging
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from time import process_time
from unittest.mock import patch

import numpy as np
import torch

from markers import write_between_markers
from multiomics_vae import MultiVAE, datasets
from multiomics_vae.kernels import chances_by_size
from multiomics_vae.training import fit as fit_module

RESULTS = Path(__file__).resolve().parent / "RESULTS.md"
COLUMNS = ("elbo_validation", "rna_log_likelihood_validation", "atac_log_likelihood_validation")


def alike(module: object, data: object, cells: object, n_features: int) -> tuple[torch.Tensor, ...]:
    """The same chance for every feature of a modality."""
    return tuple(
        chances_by_size(torch.ones(part.likelihood.n_features), n_features)
        for part in module.parts  # type: ignore[attr-defined]
    )


def drawn_alike() -> AbstractContextManager[object]:
    """Within it, training draws features without regard to their size."""
    return patch.object(fit_module, "feature_chances", alike)


ROWS: tuple[tuple[str, int | None, Callable[[], AbstractContextManager[object]]], ...] = (
    ("all features", None, nullcontext),
    ("a quarter of the genes, as many peaks", 4, nullcontext),
    ("an eighth of the genes, as many peaks", 8, nullcontext),
    ("an eighth, all with the same chance", 8, drawn_alike),
)


def run(divisor: int | None, seed: int, n_passes: int) -> tuple[float, ...]:
    """Scores of `COLUMNS`, and CPU seconds of the training."""
    mdata = datasets.snareseq_mouse_cortex()
    MultiVAE.setup_mudata(mdata, likelihoods={"rna": "nb", "atac": "bernoulli"})
    model = MultiVAE(mdata, seed=seed)
    n_drawn = None if divisor is None else mdata["rna"].n_vars // divisor
    start = process_time()
    model.train(n_passes, n_features_per_step=n_drawn, early_stopping=False, progress=False)
    seconds = process_time() - start
    return (*(float(model.history[name].iloc[-1]) for name in COLUMNS), seconds)


def main() -> None:
    """Run, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--passes", type=int, nargs="+", default=[10, 30])
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    lines = [
        f"`python benchmarks/drawn_features.py --seeds {' '.join(map(str, arguments.seeds))} "
        f"--passes {' '.join(map(str, arguments.passes))}`",
        "",
        "Held-out ELBO and log likelihoods in nats a cell, mean over the seeds, the worst seed in brackets.",
        "",
        "| passes | a step looks at | ELBO | RNA | ATAC | CPU s |",
        "|---|---|---|---|---|---|",
    ]
    for n_passes in arguments.passes:
        for label, divisor, context in ROWS:
            with context():
                runs = np.array([run(divisor, seed, n_passes) for seed in arguments.seeds])
            each = zip(runs.mean(0), runs.min(0), strict=True)
            scores = [f"{mean:.1f} ({worst:.1f})" for mean, worst in each]
            lines.append(f"| {n_passes} | {label} | {' | '.join(scores[:3])} | {runs[:, 3].mean():.0f} |")
            print(lines[-1], flush=True)
    write_between_markers("drawn_features", "\n".join(lines) + "\n", RESULTS)


if __name__ == "__main__":
    main()
