"""A character GPT: its data, model, training and text."""
