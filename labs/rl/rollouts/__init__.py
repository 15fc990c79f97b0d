"""Collecting experience in this process or by Ray actors."""
