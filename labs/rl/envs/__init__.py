"""Gymnasium environments in the form that agents learn from."""
