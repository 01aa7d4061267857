"""Answers that a fitted model gives: latent space, bounds, normalised values, written results."""
