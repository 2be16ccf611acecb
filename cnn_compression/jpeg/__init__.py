"""JPEG: `coding`, by TensorFlow's own ops, and `twin`, its differentiable likeness."""
