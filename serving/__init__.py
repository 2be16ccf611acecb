"""What runs beside TensorFlow Serving, and in its place on a laptop; see README.md."""
