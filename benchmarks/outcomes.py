"""Outcomes of patients and cells, on donors and cells that nothing was fitted on.

    python benchmarks/outcomes.py tcga --data FOLDER
    python benchmarks/outcomes.py covid --data FOLDER --seeds 3
    python benchmarks/outcomes.py scicar --data FOLDER --seeds 3

Each run of a model is kept in ``results/outcomes`` as soon as it is done, and is not made again; ``--write``
puts the tables of all that is there into RESULTS.md.
"""

from __future__ import annotations

import argparse
import logging
import time
import warnings
from pathlib import Path

import mudata
import torch

import outcomes_covid
import outcomes_scicar
import outcomes_tcga
from markers import write_between_markers

HERE = Path(__file__).resolve().parent
PARTS = {"tcga": outcomes_tcga, "covid": outcomes_covid, "scicar": outcomes_scicar}

mudata.set_options(pull_on_update=False)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--data", type=Path, default=HERE.parent / "data")
    parser.add_argument("--results", type=Path, default=HERE / "results" / "outcomes")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--variants", nargs="*", help="only these; all by default")
    parser.add_argument("--most-seconds", type=float, default=float("inf"), help="then go on another time")
    parser.add_argument("--write", action="store_true", help="write the table of what is there, run nothing")
    asked = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    part = PARTS[asked.part]
    folder = asked.results / asked.part
    folder.mkdir(parents=True, exist_ok=True)
    if not asked.write:
        part.run(asked.data, folder, asked.seeds, asked.variants, time.monotonic() + asked.most_seconds)
    text = part.table(asked.data, folder)
    print(text)
    if asked.write:
        write_between_markers(f"outcomes_{asked.part}", text)


if __name__ == "__main__":
    main()
