"""Encoders and decoders: from observations to experts, and from z to a likelihood's outputs."""
