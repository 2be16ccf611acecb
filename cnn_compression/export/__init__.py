"""codec -> SavedModel: its `signatures`, its `warmup` requests, and a `graph` quick to start.

Of a latent model there are `latent_signatures` alone.

codec -> ONNX: `onnx_models`, its RecCNNs alone.
"""

from cnn_compression.export.saved_model import export

__all__ = ["export"]
