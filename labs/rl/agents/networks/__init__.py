"""Networks whose parameters and gradients are flat arrays."""
