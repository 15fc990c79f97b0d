"""What a text is about: labelled texts, classifiers on features, evaluation."""
