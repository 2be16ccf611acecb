"""JPEG <-> packed: the same JPEG, a payload or any other, in fewer bytes; and `symbols`, any
integers by fixed tables."""
