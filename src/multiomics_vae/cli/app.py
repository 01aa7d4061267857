"""The commands and their options."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from multiomics_vae.errors import MultiomicsError

app = typer.Typer(
    help="Variational autoencoders for single cells measured in several ways at once.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _pairs(entries: list[str], option: str) -> dict[str, str]:
    pairs = {}
    for entry in entries:
        name, equals, value = entry.partition("=")
        if not (name and equals and value):
            raise typer.BadParameter(f"{option} takes MODALITY=VALUE, for instance rna=nb, not {entry!r}")
        pairs[name] = value
    return pairs


@app.command()
def fit(
    cells: Annotated[Path, typer.Argument(help="An .h5mu file.", exists=True, dir_okay=False)],
    out: Annotated[Path, typer.Option(help="Folder for model, embedding and pictures.")],
    batch_key: Annotated[str | None, typer.Option(help="Column of obs with the batch.")] = None,
    likelihood: Annotated[list[str], typer.Option(help="MODALITY=NAME, repeatable: rna=nb.")] = [],  # noqa: B006
    layer: Annotated[list[str], typer.Option(help="MODALITY=LAYER, repeatable: rna=counts.")] = [],  # noqa: B006
    categorical_covariate: Annotated[list[str], typer.Option(help="Column of obs, repeatable.")] = [],  # noqa: B006
    continuous_covariate: Annotated[list[str], typer.Option(help="Column of obs, repeatable.")] = [],  # noqa: B006
    fusion: Annotated[str, typer.Option(help="product, gated, mixture, mixture_of_products, …")] = "product",
    prior: Annotated[
        str, typer.Option(help="standard_normal, gaussian_mixture or vamp.")
    ] = "standard_normal",
    n_latent: Annotated[int, typer.Option(help="Latent dimensions.")] = 20,
    max_epochs: Annotated[int | None, typer.Option(help="Passes over the cells at the most.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Cells in a minibatch.")] = None,
    accelerator: Annotated[
        str, typer.Option(help="auto, cpu, gpu, mps, … as Lightning knows them.")
    ] = "auto",
    devices: Annotated[int, typer.Option(help="How many of them on each machine.")] = 1,
    num_nodes: Annotated[int, typer.Option(help="Machines; docs/several_devices.md says how to start.")] = 1,
    checkpoint: Annotated[
        bool, typer.Option(help="Keep the state of the training in --out, for resume.")
    ] = False,
    checkpoint_every: Annotated[
        int | None, typer.Option(help="Steps after which it is kept also within a pass.")
    ] = None,
    color: Annotated[list[str], typer.Option(help="Column of obs to colour the UMAP by, repeatable.")] = [],  # noqa: B006
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    overwrite: Annotated[bool, typer.Option(help="Replace results that stand in --out.")] = False,
) -> None:
    """Train on a file; write the model, the file with the embedding, and pictures."""
    from multiomics_vae.cli.job import FitJob, run_job

    run_job(
        FitJob(
            cells=cells,
            out=out,
            batch_key=batch_key,
            likelihoods=_pairs(likelihood, "--likelihood"),
            layers=_pairs(layer, "--layer"),
            categorical_covariate_keys=tuple(categorical_covariate),
            continuous_covariate_keys=tuple(continuous_covariate),
            fusion=fusion,
            prior=prior,
            n_latent=n_latent,
            max_epochs=max_epochs,
            batch_size=batch_size,
            accelerator=accelerator,
            devices=devices,
            num_nodes=num_nodes,
            checkpoint=checkpoint or checkpoint_every is not None,
            checkpoint_every=checkpoint_every,
            colours=tuple(color),
            seed=seed,
            overwrite=overwrite,
        )
    )


@app.command()
def resume(
    cells: Annotated[Path, typer.Argument(help="The file that fit was given.", exists=True, dir_okay=False)],
    out: Annotated[Path, typer.Option(help="The folder that fit --checkpoint was given.")],
    color: Annotated[list[str], typer.Option(help="Column of obs to colour the UMAP by, repeatable.")] = [],  # noqa: B006
    overwrite: Annotated[bool, typer.Option(help="Replace results that stand in --out.")] = False,
) -> None:
    """Go on with a training that was stopped, as it was begun; then write what fit writes."""
    from multiomics_vae.cli.job import FitJob, resume_job

    resume_job(FitJob(cells=cells, out=out, colours=tuple(color), overwrite=overwrite))


@app.command()
def info(run: Annotated[Path, typer.Argument(help="Folder that fit, or model.save, wrote.")]) -> None:
    """Say what is in a saved model."""
    from multiomics_vae.cli.info import describe_run

    typer.echo(describe_run(run))


def main() -> None:
    """Run the command line; our own errors end it with one clear line."""
    # Pictures go into files: no window is wanted, and a server has no display.
    os.environ.setdefault("MPLBACKEND", "Agg")
    try:
        app()
    except MultiomicsError as error:
        typer.echo(f"{type(error).__name__}: {' '.join(str(error).split())}", err=True)
        sys.exit(1)
