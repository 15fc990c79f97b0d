"""The gradient of every layer, plain beside residual."""
