"""codec -> SavedModel: its `signatures`, its `warmup` requests, and a `graph` quick to start."""

from cnn_compression.export.saved_model import export

__all__ = ["export"]
