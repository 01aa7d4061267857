"""What happens around the loss: how it is minimised, and how a trained model is kept on disk."""
