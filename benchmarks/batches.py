"""Batch correction beside the peers: biology kept and batches mixed, by scib-metrics.

Latents are kept in ``--out``, one file a data set, method and seed, and scored from there; what is there is
not run again without ``--redo``. ``--table`` only scores what lacks scores and writes the tables.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

import batches_peers as peers
from batches_ours import WAYS, multivae
from batches_scores import BATCH, BIO
from batches_tasks import BATCHED, FEW_CELLS, UNHARMED, BatchTask, read_task
from markers import command_line, write_between_markers
from records import Stopwatch
from scores import embedding_scores

HERE = Path(__file__).resolve().parent
OURS = tuple(f"multivae_{way}" for way in WAYS)
NAMES = {
    "svd": "SVD beside LSI, uncorrected",
    "harmony": "Harmony on it",
    "scvi_rna": "scVI, RNA alone",
    "multivi": "MULTIVI",
    "totalvi": "totalVI",
    "multivae_none": "MultiVAE, not told of batches",
    "multivae_conditional": "MultiVAE, conditional (default)",
    "multivae_adversarial": "MultiVAE, adversarial",
    "multivae_adversarial_projected": "MultiVAE, adversarial, projections=50",
    "multivae_hsic": "MultiVAE, HSIC",
    "multivae_mmd": "MultiVAE, MMD",
}
Method = Callable[[BatchTask], tuple[NDArray[np.floating], str]]


def methods_of(data: str, cap_seconds: float) -> dict[str, Method]:
    """Which methods fit a data set."""
    found: dict[str, Method] = {"svd": peers.svd, "harmony": peers.harmony}
    found["scvi_rna"] = partial(peers.scvi_rna, cap_seconds=cap_seconds)
    if "cite" in data:
        found["totalvi"] = partial(peers.totalvi, cap_seconds=cap_seconds)
    else:
        found["multivi"] = partial(peers.multivi, cap_seconds=cap_seconds)
    ours = {name: partial(multivae, way=way) for name, way in zip(OURS, WAYS, strict=True)}
    if data not in FEW_CELLS:
        del ours["multivae_adversarial_projected"]
    return dict(ours) if data == UNHARMED else found | ours


def scores_of(task: BatchTask, paths: list[Path], python: Path) -> dict[Path, dict[str, float]]:
    """Score kept embeddings of a data set, each once."""
    kept = {path: path.with_suffix(".json") for path in paths}
    lacking = [p for p, at in kept.items() if not at.exists() or at.stat().st_mtime < p.stat().st_mtime]
    if task.name == UNHARMED:
        for path in lacking:
            found = asdict(embedding_scores(np.load(path)["Z"], task.labels))
            scores = {name: float(value) for name, value in found.items() if value is not None}
            kept[path].write_text(json.dumps(scores, indent=1) + "\n")
    elif lacking:
        score_in_process(task, {path: kept[path] for path in lacking}, python)
    return {path: json.loads(at.read_text()) for path, at in kept.items()}


def score_in_process(task: BatchTask, lacking: dict[Path, Path], python: Path) -> None:
    """Let an interpreter that has scib-metrics score embeddings, and keep what it says of each at once."""
    with tempfile.TemporaryDirectory() as folder:
        given = [Path(folder) / f"{i}.npz" for i in range(len(lacking))]
        for path, arrays in zip(lacking, given, strict=True):
            Z = np.load(path)["Z"]
            np.savez(arrays, Z=Z, labels=task.labels, batch=task.batch, labelled=task.labelled)
        command = [str(each) for each in (python, HERE / "batches_scores.py", *given)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line, at in zip(process.stdout, lacking.values(), strict=True):
                at.write_text(json.dumps(json.loads(line), indent=1) + "\n")
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command)


def table(folder: Path, out: Path, python: Path) -> str:
    """Mean over seeds, the worst in brackets where there are several."""
    lines: list[str] = []
    for data in (*BATCHED, UNHARMED):
        paths = sorted(out.glob(f"{data}.*.npz"))
        if not paths:
            continue
        task = read_task(folder, data, 0)
        scored = scores_of(task, paths, python)
        columns = ["total", "bio", "batch", *BIO, *BATCH]
        if data == UNHARMED:
            columns = ["knn_accuracy", "knn_balanced", "nmi"]
        lines += ["", f"**{data}**", "", "| method | seeds | " + " | ".join(columns) + " | CPU s | ended |"]
        lines.append("|---" * (len(columns) + 4) + "|")
        for method, name in NAMES.items():
            own = [path for path in paths if path.name.split(".")[1] == method]
            if not own:
                continue
            scores = [scored[path] for path in own]
            cells = []
            for column in columns:
                each = [s[column] for s in scores if column in s]
                worst = f" ({min(each):.3f})" if len(each) > 1 else ""
                cells.append(f"{np.mean(each):.3f}{worst}" if each else "")
            clocked = [float(np.load(path)["cpu_seconds"]) for path in own]
            seconds = f"{np.mean(clocked):.0f}" if np.isfinite(clocked).all() else ""
            ended = str(np.load(own[0])["what"])
            lines.append(f"| {name} | {len(own)} | {' | '.join(cells)} | {seconds} | {ended} |")
    return "\n".join(lines).strip()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    every = (*BATCHED, UNHARMED)
    parser.add_argument("--data-sets", nargs="+", choices=every, default=list(every))
    parser.add_argument("--methods", nargs="+", choices=list(NAMES), default=list(NAMES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--cap-seconds", type=float, default=600.0, help="CPU seconds of a peer's training")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared" / "data")
    parser.add_argument("--out", type=Path, default=HERE / "results_batches", help="folder of latents")
    parser.add_argument(
        "--scib-python", type=Path, default=Path(sys.executable), help="interpreter that has scib-metrics"
    )
    parser.add_argument("--redo", action="store_true", help="run again what is there already")
    parser.add_argument("--table", action="store_true", help="train nothing")
    parser.add_argument("--only-train", action="store_true", help="leave scores and table to another call")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for seed in [] if arguments.table else arguments.seeds:
        for data in arguments.data_sets:
            for name, method in methods_of(data, arguments.cap_seconds).items():
                path = arguments.out / f"{data}.{name}.{seed}.npz"
                if name not in arguments.methods or (path.exists() and not arguments.redo):
                    continue
                task, clock = read_task(arguments.data, data, seed), Stopwatch()
                with threadpool_limits(limits=arguments.threads):
                    Z, what = method(task)
                np.savez(path, Z=Z, what=what, cpu_seconds=clock.cpu_seconds)
                print(f"{data} {name} seed {seed}: {what}, {clock.cpu_seconds:.0f} CPU s", flush=True)
    if arguments.only_train:
        return
    text = f"```bash\n{command_line()}\n```\n\n" + table(arguments.data, arguments.out, arguments.scib_python)
    write_between_markers("batches", text)


if __name__ == "__main__":
    main()
