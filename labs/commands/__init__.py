"""The ``labs`` command: list, show, compare and repeat runs, and submit jobs to a cluster."""
