"""A payload's header: `layout`, byte by byte in plain Python; `layout_ops`, in TensorFlow ops, on
`walk_ops`, which finds a JPEG's segments."""
