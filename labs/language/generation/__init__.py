"""Text from pre-trained language models, and their tokens."""
