"""payload <-> packed: the same JPEG in fewer bytes."""
