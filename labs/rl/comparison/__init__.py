"""Our agents beside RLlib's: settings, runs, figures and sentences."""
