"""Functions of tensors that know nothing of pictures' files, payloads or models.

float32 and channels last unless a docstring says otherwise. `attempts`, `functions`, `metrics` and
`tiles` are TensorFlow's, `ssimulacra2` is NumPy's; the others are in `keras.ops`, for any backend.
"""
