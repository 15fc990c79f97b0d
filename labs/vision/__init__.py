"""Image classifiers: data sets, models, training, gradient flow, class activation maps."""
