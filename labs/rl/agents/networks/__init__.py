"""Networks on one flat parameter array: what they compute, and their gradients."""
