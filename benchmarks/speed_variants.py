"""The ways in which each model is trained, as rows of the tables."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from speed_contenders import Training

EXACT = "float32"  # what `precision` is called where it is not "auto"; used only if "auto" is its default


@dataclass(frozen=True)
class Variant:
    """A choice of arguments of ``MultiVAE.train``; ``missing`` are those that this version does not have."""

    label: str
    options: tuple[tuple[str, object], ...]
    missing: tuple[str, ...] = ()

    def training(self, batch_size: int, n_epochs: int) -> Training:
        """A run with these choices."""
        from speed_contenders import Training

        return Training(batch_size, n_epochs, self.options)


MULTIVI_DEFAULTS = Variant("defaults", ())
ONE_ELBO = ("subset_objective", "none")


def multivae_variants(features_per_step: int) -> tuple[Variant, ...]:
    """Exact float32 first, then what trades exactness for speed; each as by default and with one ELBO.

    MULTIVI has one ELBO a step. MultiVAE by default adds one for every single modality; with
    ``subset_objective="none"`` it has one too.
    """
    from multiomics_vae import MultiVAE

    known = inspect.signature(MultiVAE.train).parameters
    exact: tuple[tuple[str, object], ...] = ()
    if "precision" in known and known["precision"].default == "auto":
        exact = (("precision", EXACT),)
    auto = ("precision", "auto")
    some = ("n_features_per_step", features_per_step)
    wanted = (
        ("exact float32", exact),
        ("exact float32, one ELBO", (*exact, ONE_ELBO)),
        ('precision="auto"', (auto,)),
        ('precision="auto", one ELBO', (auto, ONE_ELBO)),
        (f"exact float32, n_features_per_step={features_per_step}", (*exact, some)),
        (f"exact float32, n_features_per_step={features_per_step}, one ELBO", (*exact, some, ONE_ELBO)),
        (f'precision="auto", n_features_per_step={features_per_step}, one ELBO', (auto, some, ONE_ELBO)),
    )
    return tuple(
        Variant(label, options, tuple(name for name, _ in options if name not in known))
        for label, options in wanted
    )
