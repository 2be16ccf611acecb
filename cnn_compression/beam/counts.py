"""What was done and what failed, and how many of each; of any runner."""

import apache_beam as beam
from apache_beam.metrics import Metrics

_NAMES = ("done", "failed", "bytes_out")


def namespace_of(verb):
    """Of a verb's counters."""
    return f"cnn_compression.{verb}"


def counters(namespace):
    """Of elements done, of those that failed, and of the bytes of what was made."""
    return [Metrics.counter(namespace, name) for name in _NAMES]


def counts(metrics, namespace):
    """A pipeline's, dict of `done`, `failed` and `bytes_out` to int, from its result's metrics."""
    found = dict.fromkeys(_NAMES, 0)
    for counter in metrics.query()["counters"]:
        metric = counter.key.metric
        if metric.namespace == namespace and metric.name in found:
            found[metric.name] += counter.result
    return found


def split(verb):
    """(name, (bytes, status)) to `done`, (name, bytes), and `failed`, (name, why)."""
    return beam.ParDo(_Split(namespace_of(verb))).with_outputs("failed", main="done")


class _Split(beam.DoFn):
    def __init__(self, namespace):
        self._counters = counters(namespace)

    def process(self, element):
        done, failed, bytes_out = self._counters
        name, (made, status) = element
        if status:
            failed.inc()
            yield beam.pvalue.TaggedOutput("failed", (name, status.decode()))
            return
        done.inc()
        bytes_out.inc(len(made))
        yield name, made
