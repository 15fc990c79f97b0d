"""The gradient of every layer, in plain and in residual networks."""
