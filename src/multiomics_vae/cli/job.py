"""The main job, from a file to a trained model, an embedding and pictures."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from multiomics_vae.errors import InputError, did_you_mean
from multiomics_vae.training.checkpoint import read_manifest
from multiomics_vae.training.config import TrainingConfig

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from mudata import MuData

    from multiomics_vae.model import MultiVAE


@dataclass(frozen=True)
class FitJob:
    """What ``multiomics-vae fit`` was asked for; see its ``--help``."""

    cells: Path
    out: Path
    batch_key: str | None = None
    likelihoods: Mapping[str, str] = field(default_factory=dict)
    layers: Mapping[str, str] = field(default_factory=dict)
    categorical_covariate_keys: tuple[str, ...] = ()
    continuous_covariate_keys: tuple[str, ...] = ()
    fusion: str = "product"
    prior: str = "standard_normal"
    n_latent: int = 20
    max_epochs: int | None = None
    batch_size: int | None = None
    accelerator: str = "auto"
    devices: int = 1
    num_nodes: int = 1
    checkpoint: bool = False
    checkpoint_every: int | None = None
    colours: tuple[str, ...] = ()
    seed: int = 0
    overwrite: bool = False

    @property
    def written(self) -> Path:
        """The file with the embedding."""
        return self.out / self.cells.name

    @property
    def state(self) -> Path:
        """The state of the training, while it is under way."""
        return self.out / "training"


def run_job(job: FitJob) -> MultiVAE:
    """Read, train, write ``model/``, ``<name>.h5mu``, ``umap.png`` and ``training.png``; print a table."""
    from multiomics_vae.model import MultiVAE
    from multiomics_vae.training.processes import say

    _check_places(job)
    mdata = _read(job)
    MultiVAE.setup_mudata(
        mdata,
        likelihoods=job.likelihoods,
        layers=job.layers,
        batch_key=job.batch_key,
        categorical_covariate_keys=job.categorical_covariate_keys,
        continuous_covariate_keys=job.continuous_covariate_keys,
    )
    model = MultiVAE(mdata, fusion=job.fusion, prior=job.prior, n_latent=job.n_latent, seed=job.seed)
    say(model.summary())
    _make_folder(job.out)
    started = time.monotonic()
    model.train(
        job.max_epochs,
        batch_size=TrainingConfig.batch_size if job.batch_size is None else job.batch_size,
        accelerator=job.accelerator,
        devices=job.devices,
        num_nodes=job.num_nodes,
        checkpoint_folder=job.state if job.checkpoint else None,
        checkpoint_every=job.checkpoint_every,
    )
    return _finish(model, mdata, job, time.monotonic() - started)


def resume_job(job: FitJob) -> MultiVAE:
    """Go on with what ``fit --checkpoint`` began, and end as it would have.

    Parameters
    ----------
    job
        Of its choices only file, folder, colours and ``overwrite`` are read; the rest was kept.
    """
    from multiomics_vae.model import MultiVAE

    if not job.state.is_dir():
        raise InputError(f"{job.out} holds no training to go on with. Begin one: --checkpoint with fit")
    _check_places(job)
    mdata = _read(job)
    started = time.monotonic()
    model = MultiVAE.resume(job.state, mdata)
    return _finish(model, mdata, job, time.monotonic() - started)


def _finish(model: MultiVAE, mdata: MuData, job: FitJob, seconds: float) -> MultiVAE:
    """Write and print the results, in the first of several processes; the kept state has served."""
    if not model.process.is_first:
        return model
    model.save(job.out / "model", overwrite=job.overwrite)
    model.write_results(mdata)
    draw(model, mdata, job)
    _write(mdata, job.written)
    print(results_table(model, seconds))
    print(f"Written to {job.out}: model/, {job.written.name}, umap.png, training.png, experts.png")
    if job.state.is_dir():
        shutil.rmtree(job.state)
    return model


def _check_places(job: FitJob) -> None:
    """Refuse before the work begins what could not be written, or should not be replaced, after it."""
    written = job.written
    if written.resolve() == job.cells.resolve():
        raise InputError(
            f"--out {job.out} would overwrite the input {job.cells}. Name another folder: --out run/"
        )
    model = job.out / "model"
    if job.overwrite and model.exists():
        read_manifest(model)  # raises if this is not ours to replace
    elif model.exists() or written.exists():
        raise InputError(f"{job.out} holds results already. To replace them: --overwrite")


def _read(job: FitJob) -> MuData:
    mdata = _read_file(job.cells)
    for column in job.colours:
        if column not in mdata.obs:
            raise InputError(
                f"--color {column}: no such column of obs. {did_you_mean(column, mdata.obs.columns)}"
            )
    return mdata


def _read_file(cells: Path) -> MuData:
    import mudata

    try:
        with mudata.set_options(pull_on_update=False):
            return mudata.read_h5mu(cells)
    except Exception as error:
        raise InputError(
            f"{cells} cannot be read as .h5mu: {type(error).__name__}: {error}. Write it with MuData: "
            f"mdata.write_h5mu({str(cells)!r})"
        ) from error


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(
            f"Nothing can be written into {folder}: {error}. Name another: --out run/"
        ) from error


def _write(mdata: MuData, path: Path) -> None:
    """Write under another name and rename, so that a file of this name is always whole."""
    import mudata

    unfinished = path.with_name(f".unfinished-{path.name}")
    try:
        with mudata.set_options(pull_on_update=False):
            mdata.write_h5mu(unfinished)
        unfinished.replace(path)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error}. Name another folder: --out run/") from error
    finally:
        unfinished.unlink(missing_ok=True)


def draw(model: MultiVAE, mdata: MuData, job: FitJob) -> None:
    """UMAP, training curves and expert weights, as PNG."""
    import matplotlib.pyplot as plt
    import scanpy as sc

    from multiomics_vae import plotting

    n_neighbors = min(15, mdata.n_obs - 1)
    sc.pp.neighbors(mdata, use_rep="X_multivae", n_neighbors=n_neighbors, random_state=job.seed)
    sc.tl.umap(mdata, random_state=job.seed)
    columns = job.colours or (job.batch_key if job.batch_key in mdata.obs else "multivae_sd",)
    figure = plt.figure(figsize=(7.5 * len(columns), 5.2), layout="constrained")
    axes = figure.subplots(1, len(columns), squeeze=False)[0]
    for ax, column in zip(axes, columns, strict=True):
        plotting.umap(mdata, color=column, ax=ax)
    _save(axes[0], job.out / "umap.png")
    if model.history.n_epochs:
        _save(plotting.training_curves(model.history)[0], job.out / "training.png")
    groups = mdata.obs[job.colours[0]] if job.colours else np.full(mdata.n_obs, "all cells")
    _save(plotting.expert_weights(model.get_expert_weights(), groups), job.out / "experts.png")


def _save(ax: Axes, path: Path) -> None:
    """Write the figure that holds some axes, and close it."""
    import matplotlib.pyplot as plt

    figure = ax.get_figure(root=True)
    if figure is not None:
        figure.savefig(path, dpi=150)
        plt.close(figure)


def results_table(model: MultiVAE, seconds: float) -> str:
    """Held-out log likelihood at the first and at the best epoch, and what training cost."""
    frame = model.history.to_frame()
    if frame.empty:
        return f"training was stopped in its first pass, after {seconds:.0f} s"
    best = int(frame["elbo_validation"].argmax()) if "elbo_validation" in frame else len(frame) - 1
    lines = [f"{'held out, nats a cell':<28}{'epoch 1':>12}{f'epoch {best + 1}':>12}"]
    for name in frame.columns:
        shown = name.endswith("_validation") and ("log_likelihood" in name or name[:4] in ("elbo", "kl_v"))
        if shown and "subset" not in name:
            label = name.removesuffix("_validation").replace("_", " ")
            lines.append(f"{label:<28}{frame[name].iloc[0]:>12.2f}{frame[name].iloc[best]:>12.2f}")
    lines.append(f"{'training':<28}{seconds:>10.0f} s{len(frame):>5} epochs")
    return "\n".join(lines)
