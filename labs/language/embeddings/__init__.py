"""Texts as vectors from a frozen encoder, and their cache."""
