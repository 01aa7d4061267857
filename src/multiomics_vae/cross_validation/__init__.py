"""Honest figures of how well an outcome is predicted: donors in folds, beside what a form would tell."""

from multiomics_vae.cross_validation.settings import ModelSettings, TrainingSettings
from multiomics_vae.cross_validation.validate import cross_validate

__all__ = ["ModelSettings", "TrainingSettings", "cross_validate"]
