"""A script that Lightning runs once for each process: train together, and write down what each one saw.

Arguments: where to write, how many processes, how many cells each takes of a step, and what to do:
``whole`` trains from start to end, ``cut`` stops without warning, ``resume`` goes on after that.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer

from multiomics_vae import MultiVAE
from multiomics_vae.data import loader
from multiomics_vae.data.loader import make_minibatch
from multiomics_vae.data.share import Share
from small_models import make_cells, make_model, register


class PowerCut(Callback):
    """Ends every process without warning in the second pass."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: object) -> None:
        if pl_module.global_step == 8:
            os._exit(7)


def main() -> None:
    """Train on the cells of `small_models`, some of which lack a modality."""
    out, n_processes, batch_size, task = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    warnings.filterwarnings("ignore")
    seen: list[list[int]] = []

    def watched(data: object, cells: np.ndarray, part: Share | None = None) -> object:
        if part is not None and part.n_own:
            seen.append(cells.tolist())
        return make_minibatch(data, cells, part)  # type: ignore[arg-type]

    loader.make_minibatch = watched  # type: ignore[assignment]
    # Nearly all cells lack ATAC: many a step finds it in one process only. 51 cells leave one over.
    cells = register(make_cells(n_cells=57, n_features=6, lacking={"atac": range(40)}), batch_key="batch")
    state = out / f"state{n_processes}"
    if task == "resume":
        model = MultiVAE.resume(state, cells)
    else:
        model = make_model(cells, dropout=0.0, input_dropout=0.0)
        model.train(
            3,
            batch_size=batch_size,
            devices=n_processes,
            accelerator="cpu",
            validation_indices=[f"c{i}" for i in range(0, 57, 10)],
            learning_rate=1e-2,
            modality_dropout=0.3,
            progress=True,
            checkpoint_folder=state,
            callbacks=[PowerCut()] if task == "cut" else [],
        )
    document = {
        "history": model.history.to_json(),
        "cells": list(seen),
        "latent": model.get_latent_representation().tolist(),
    }
    (out / f"{task}{n_processes}-{model.process.rank}.json").write_text(json.dumps(document))
    model.save(out / f"model-{task}{n_processes}")


if __name__ == "__main__":
    main()
