"""Language models: corpora, character GPT, generation, embeddings, classification."""
