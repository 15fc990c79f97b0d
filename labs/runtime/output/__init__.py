"""What a run puts out beside its numbers: a log of each trial in ``logs/<trial>.txt``, and figures as files."""
