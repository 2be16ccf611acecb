"""JPEG <-> packed: the same JPEG, a payload or any other, in fewer bytes."""
