"""JPEG: `coding`, by TensorFlow's own ops; `twin`, its differentiable likeness; `coefficients`."""
