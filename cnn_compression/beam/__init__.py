"""Many files on many machines: encoding and decoding as transforms of Apache Beam (extra `beam`).

    with beam.Pipeline(options=options) as pipeline:
        coded = pipeline | ReadFiles("gs://photos/**.jpg") | EncodeImages(quality=40)
        coded.done | WriteFiles("gs://payloads")         # (name, payload)
        coded.failed | beam.Map(print)                   # (name, why)

    packed = coded.done | PackPayloads()                 # (name, packed payload), and so on

A worker loads the exported model once and codes the files of a bundle in batches, through Beam's
own `RunInference`, whose metrics (`num_inferences`, `inference_batch_latency_micro_secs`)
show where time goes. Packing needs neither model nor batches. A bad file goes to `failed` with its
reason; the others are not held up.

Runners may run an element twice. What is written is a function of the input's name and bytes, and
is renamed to its name when it is whole, so that this neither loses nor doubles anything. For the
same reason what is there already is found at launch, not by the workers, who would find their own.

Workers on other machines need this package, and files where all of them reach them;
docs/many_machines.md has the commands for Flink, Spark and Dataflow.
"""

from cnn_compression.beam.folders import ReadFiles, WriteFiles
from cnn_compression.beam.pipeline import convert_files
from cnn_compression.beam.transforms import (
    DecodeImages,
    EncodeImages,
    PackPayloads,
    UnpackPayloads,
)

__all__ = [
    "DecodeImages",
    "EncodeImages",
    "PackPayloads",
    "ReadFiles",
    "UnpackPayloads",
    "WriteFiles",
    "convert_files",
]
