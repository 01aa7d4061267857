"""Lightning's trainer, on one device or many."""

from __future__ import annotations

from collections.abc import Sequence

import lightning.pytorch as pl
from lightning.pytorch.strategies import DDPStrategy, Strategy

from multiomics_vae.errors import DeviceError
from multiomics_vae.training.config import TrainingConfig


def make_trainer(config: TrainingConfig, callbacks: Sequence[pl.Callback]) -> pl.Trainer:
    """Make the trainer that a configuration asks for.

    With several devices Lightning starts a process for each by running the script again, unless torchrun
    or a cluster's scheduler has started them already.

    Parameters
    ----------
    config
        Names accelerator, devices and machines. How many passes are made is left to the caller.
    callbacks
        All callbacks.

    Raises
    ------
    DeviceError
        If Lightning cannot use what was named.
    """
    try:
        trainer = _trainer(config, callbacks, "auto")
        if trainer.world_size == 1:
            return trainer
        return _trainer(config, callbacks, _several())
    except Exception as error:
        nodes = f", num_nodes={config.num_nodes}" if config.num_nodes > 1 else ""
        raise DeviceError(
            f"Lightning cannot use accelerator={config.accelerator!r}, devices={config.devices!r}{nodes}: "
            f"{str(error).rstrip('.! ')}. "
            "Train on what is there: model.train(accelerator='auto')"
        ) from error


def _several() -> Strategy:
    return DDPStrategy(
        # A process whose cells all lack a modality leaves that modality's weights without a gradient.
        find_unused_parameters=True,
        # Buffers are fixed from the start (projections among them, which are large).
        broadcast_buffers=False,
        gradient_as_bucket_view=True,
    )


def _trainer(
    config: TrainingConfig, callbacks: Sequence[pl.Callback], strategy: str | Strategy
) -> pl.Trainer:
    return pl.Trainer(
        max_epochs=-1,
        accelerator=config.accelerator,
        devices=config.devices,
        num_nodes=config.num_nodes,
        strategy=strategy,
        gradient_clip_val=config.gradient_clip or None,
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        # The first pass of a run that goes on in the middle of one is shorter than the others.
        reload_dataloaders_every_n_epochs=1,
    )
