"""A SavedModel made quick to start: a server optimises what is run, not all that might be.

As TensorFlow saves it, each branch and loop is unfolded into the graph around it, for each of the
signatures, whose networks' weights go through a switch at each branch on their way. Here branches
outside of networks stay functions that are looked at when they are first taken: with networks that
stand once (`functions`), loading and first calls take less than half of the CPU time.
"""

from tensorflow.core.protobuf import saved_model_pb2

from cnn_compression.tensors.functions import UNTOUCHED

_BRANCHES = {"If", "StatelessIf", "Case", "StatelessCase", "While", "StatelessWhile"}
_UNFOLDED = "_lower_using_switch_merge"


def make_light(folder):
    """Changes `saved_model.pb` in place; what its signatures give is the same.

    Args:
        folder: `Path` of a SavedModel of `signatures.signatures`.
    """
    file = folder / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    for meta in saved.meta_graphs:
        library = {each.signature.name: each for each in meta.graph_def.library.function}
        unfolded = _inside(library, _whole(library.values()))
        for name, function in library.items():
            function.attr[UNTOUCHED].b = True
            for node in function.node_def if name not in unfolded else ():
                if node.op in _BRANCHES:
                    node.attr.pop(_UNFOLDED, None)
                    # Strings are here only; networks inside find their devices themselves.
                    node.device = "/device:CPU:0"
        if "decode" in meta.signature_def:  # the same tensors, so that it starts once
            meta.signature_def["serving_default"].CopyFrom(meta.signature_def["decode"])
    file.write_bytes(saved.SerializeToString(deterministic=True))


def _whole(functions):
    """Names of functions that are run by themselves: networks, and those of tf.data."""
    for function in functions:
        if function.attr["_noinline"].b:
            yield function.signature.name
        for node in function.node_def:
            if "Dataset" in node.op:
                yield from _called(node)


def _inside(library, names):
    """These functions and all that they call, by name."""
    found, waiting = set(), list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += [called for node in library[name].node_def for called in _called(node)]
    return found


def _called(node):
    for value in node.attr.values():
        if value.HasField("func"):
            yield value.func.name
        yield from (function.name for function in value.list.func)
