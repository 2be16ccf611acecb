"""A payload's header: `layout`, byte by byte in plain Python, and `layout_ops`, in TensorFlow."""
