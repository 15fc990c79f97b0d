"""Analysis of results: tables over seeds, verdicts, figures, comparison and report. No Ray."""
