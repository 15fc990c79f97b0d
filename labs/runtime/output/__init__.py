"""Logs: the output of each trial in a file ``logs/<trial>.txt`` of the run's directory."""
