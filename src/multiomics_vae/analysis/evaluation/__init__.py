"""How good a fitted model is on cells it has not seen, one measure a file."""
