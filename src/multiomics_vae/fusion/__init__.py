"""Fusion rules, one a file. A new one is a new file with one subclass of `FusionRule`."""

from multiomics_vae.fusion.base import Evidence, Fused, FusionRule, Subset
from multiomics_vae.registry import Registry

FUSION_RULES: Registry[FusionRule] = Registry("fusion rule", FusionRule, __name__, __path__)

__all__ = ["FUSION_RULES", "Evidence", "Fused", "FusionRule", "Subset"]
