"""Class activation maps: which parts of an image a prediction comes from."""
