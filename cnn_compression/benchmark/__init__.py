"""codecs x images x sizes x qualities -> rows -> tables, plots, crops.

`registry` makes the codecs (`codecs`, and `ours` for models and ablations), `run.collect` takes
images through them (`rows.measure`) and keeps what they give in a `store.Store`; `report`, `plots`
and `crops` show it, by way of `curves` and `bd`. `measure` is also for a single image.
"""

from cnn_compression.benchmark.codecs import Jpeg
from cnn_compression.benchmark.ours import Latent, Model, Packed
from cnn_compression.benchmark.rows import MEASURES, Coded, Row, cells, measure

__all__ = ["MEASURES", "Coded", "Jpeg", "Latent", "Model", "Packed", "Row", "cells", "measure"]
