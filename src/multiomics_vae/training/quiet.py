"""Lightning's notices that tell a user nothing, kept out of the notebook; all others are let through."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

# Beginnings of messages, as regular expressions.
HARMLESS = (
    # Training without held-out cells was asked for.
    "You defined a `validation_step` but have no `val_dataloader`",
    # Lightning uses a name that PyTorch is about to drop.
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
    # accelerator="cpu" was asked for.
    r"\w+ available but not used",
)


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Keep back the messages of `HARMLESS`, and notices about devices and loaders that are no warnings.

    Examples
    --------
    >>> with quiet_lightning():
    ...     warnings.warn("GPU available but not used.", UserWarning)
    """
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for message in HARMLESS:
                warnings.filterwarnings("ignore", message)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
