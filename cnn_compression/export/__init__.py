"""codec -> SavedModel: its `signatures`, its `warmup` requests, and a `graph` quick to start.

codec -> ONNX: `onnx_models`, its RecCNNs alone.
"""

from cnn_compression.export.saved_model import export

__all__ = ["export"]
