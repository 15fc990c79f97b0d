"""Running trials, with Ray Tune or in this process; the console, signals and early stopping."""
