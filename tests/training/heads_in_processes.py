"""A script that Lightning runs once for each process: train heads together and write what each predicts.

Arguments: where to write, how many processes, how many cells each takes of a step, level of the heads.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import numpy as np

from multiomics_vae import Head
from small_models import make_cells, make_model, register


def main() -> None:
    """Train on cells of six donors, most of which lack a label."""
    out, n_processes, batch_size, level = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    warnings.filterwarnings("ignore")
    cells = make_cells(n_cells=57, n_features=6)
    position = np.array([int(name[1:]) for name in cells.obs_names])
    cells.obs["donor"] = [f"p{i % 6}" for i in position]
    cells.obs["type"] = [["B", "T", None, None, None][i % 5] for i in position]
    cells.obs["response"] = [["no", "yes", None][i % 3] for i in position]
    if level == "cell":
        register(cells, outcomes={"type": "categorical", "response": "binary"})
        heads = {"type": Head(weight=3.0), "response": Head(n_hidden=5, dropout=0.0)}
    else:
        register(cells, donor_key="donor", outcomes={"type": "categorical", "response": "binary"})
        heads = {"type": Head(weight=3.0), "response": Head(level="donor", cells_per_donor=4)}
    model = make_model(cells, heads=heads, dropout=0.0, input_dropout=0.0)
    model.train(
        3,
        batch_size=batch_size,
        devices=n_processes,
        accelerator="cpu",
        validation_indices=(position % 6 == 5) if level == "donor" else np.arange(0, 57, 10),
        learning_rate=1e-2,
        progress=False,
    )
    document = {
        "history": model.history.to_json(),
        "predicted": {name: model.predict_scores(name, n_samples=0).at_mean.tolist() for name in heads},
    }
    (out / f"{level}{n_processes}-{model.process.rank}.json").write_text(json.dumps(document))


if __name__ == "__main__":
    main()
