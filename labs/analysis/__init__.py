"""What every experiment does with its results: tables over seeds, verdicts, curves. Knows no Ray."""
