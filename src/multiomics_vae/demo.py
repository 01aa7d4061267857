"""``make demo``: the main job on the bundled SNARE-seq cells, with a word on how good the result is."""

from __future__ import annotations

from pathlib import Path

from multiomics_vae import datasets
from multiomics_vae.cli.job import FitJob, run_job


def main(out: Path = Path("demo")) -> None:
    """Train on the bundled cells and write ``demo/``."""
    cells = datasets.path("snareseq_mouse_cortex")
    run_job(FitJob(cells=cells, out=out, colours=("cell_type",), overwrite=(out / "model").exists()))


if __name__ == "__main__":
    main()
