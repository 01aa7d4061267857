"""Likelihoods p(x | z), one a file. A new one is a new file with one subclass of `Likelihood`."""

from multiomics_vae.likelihoods.base import CellContext, FeatureStatistics, FusedTerms, Likelihood, Support
from multiomics_vae.likelihoods.feature_part import FeaturePart
from multiomics_vae.registry import Registry

LIKELIHOODS: Registry[Likelihood] = Registry("likelihood", Likelihood, __name__, __path__)

__all__ = [
    "LIKELIHOODS",
    "CellContext",
    "FeaturePart",
    "FeatureStatistics",
    "FusedTerms",
    "Likelihood",
    "Support",
]
