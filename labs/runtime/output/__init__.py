"""Output of a run besides its numbers: a log of each trial in ``logs/<trial>.txt``, and figures as files."""
