"""What every experiment does with its results; knows no Ray."""
