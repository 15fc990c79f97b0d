"""What trials print, in a file per trial: ``logs/<trial>.txt`` in the run's directory."""
