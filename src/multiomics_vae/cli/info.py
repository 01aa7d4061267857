"""What is in a saved model, read from its files alone: no cells, no scvi-tools."""

from __future__ import annotations

from pathlib import Path

from multiomics_vae.data import schema_json
from multiomics_vae.data.describe import describe
from multiomics_vae.training.checkpoint import TRAINING, load_checkpoint, read_manifest


def describe_run(run: Path) -> str:
    """Text about a model in ``run``, in ``run/model``, or under way in ``run/training``.

    Raises
    ------
    CheckpointError
        If there is no model, or it is damaged.
    """
    inside = (run / name for name in ("model", "training") if (run / name).is_dir())
    folder = next(inside, run)
    manifest = read_manifest(folder)
    checkpoint = load_checkpoint(folder)
    epochs = checkpoint.history.get("epochs", [])
    unfinished = manifest.class_name.endswith(TRAINING)
    config = checkpoint.config["model"] if unfinished else checkpoint.config
    n_parameters = sum(tensor.numel() for tensor in checkpoint.tensors.values())
    lines = [
        f"{folder}: {manifest.class_name}, format {manifest.format_version}, "
        f"written by multiomics_vae {manifest.package_version}",
        describe(schema_json.from_json(checkpoint.schema)),
        f"latent dimensions: {config['n_latent']}, fusion: {config['fusion']}, prior: {config['prior']}",
        f"numbers stored: {n_parameters:,}",
        f"epochs trained: {len(epochs)}",
    ]
    held_out = [epoch["elbo_validation"] for epoch in epochs if epoch.get("elbo_validation") is not None]
    if held_out:
        lines.append(f"best held-out ELBO: {max(held_out):.2f} nats a cell")
    if unfinished:
        n_steps = checkpoint.config["progress"]["n_steps"]
        lines.append(f"a training under way, after step {n_steps:,}; to go on: multiomics-vae resume")
    return "\n".join(lines)
