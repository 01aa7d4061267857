"""Other cells beside those a model was trained on: how usual they are, and what they are called."""
