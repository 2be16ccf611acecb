"""A payload's header: `layout`, byte by byte in plain Python; `layout_ops`, in TensorFlow ops, on
`walk_ops`, which finds a JPEG's segments; `latent_layout`, of payloads that are no JPEGs."""
