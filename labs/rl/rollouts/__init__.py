"""Collecting experience in this process or in Ray actors."""
