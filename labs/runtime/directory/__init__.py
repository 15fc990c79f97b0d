"""A run's directory: its files, its lease, its record of trials and its copy on shared storage."""
