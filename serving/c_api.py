"""A SavedModel by way of TensorFlow's C API, without TensorFlow's Python: as a server loads it.

    python -I c_api.py < request.json

The request holds the path of the C `library`, that of the SavedModel `model`, and `requests`: each
the `inputs` of a signature, name of a tensor in the graph to list, where bytes are
{"b64": ...}, and its `outputs`, names of tensors. All run one after the other in one session. An
input {"shape": [...]} is strings of a shape that has none.

Prints, as JSON, what loading took and what each request did, in CPU seconds of the process and by
the clock, the outputs of each, name of the tensor to list, or its error, and the modules that were
imported.
"""

import base64
import contextlib
import ctypes
import itertools
import json
import math
import sys
import time
from ctypes import POINTER, c_char_p, c_int, c_int64, c_size_t, c_void_p

# From tensorflow/c/tf_datatype.h, and sizeof(TF_TString) in ctstring_internal.h.
TF_INT32, TF_STRING = 3, 7
SIZES = {TF_INT32: 4, TF_STRING: 24}


class Output(ctypes.Structure):
    """`TF_Output`."""

    _fields_ = [("operation", c_void_p), ("index", c_int)]


# Result and arguments of each function, as the headers in tensorflow/c declare them.
FUNCTIONS = {
    "TF_NewStatus": (c_void_p, []),
    "TF_DeleteStatus": (None, [c_void_p]),
    "TF_GetCode": (c_int, [c_void_p]),
    "TF_Message": (c_char_p, [c_void_p]),
    "TF_NewGraph": (c_void_p, []),
    "TF_DeleteGraph": (None, [c_void_p]),
    "TF_GraphOperationByName": (c_void_p, [c_void_p, c_char_p]),
    "TF_NewSessionOptions": (c_void_p, []),
    "TF_DeleteSessionOptions": (None, [c_void_p]),
    "TF_LoadSessionFromSavedModel": (
        c_void_p,
        [c_void_p, c_void_p, c_char_p, POINTER(c_char_p), c_int, c_void_p, c_void_p, c_void_p],
    ),
    "TF_SessionRun": (
        None,
        [c_void_p, c_void_p]
        + [POINTER(Output), POINTER(c_void_p), c_int] * 2
        + [c_void_p, c_int, c_void_p, c_void_p],
    ),
    "TF_CloseSession": (None, [c_void_p, c_void_p]),
    "TF_DeleteSession": (None, [c_void_p, c_void_p]),
    "TF_AllocateTensor": (c_void_p, [c_int, POINTER(c_int64), c_int, c_size_t]),
    "TF_DeleteTensor": (None, [c_void_p]),
    "TF_TensorType": (c_int, [c_void_p]),
    "TF_NumDims": (c_int, [c_void_p]),
    "TF_Dim": (c_int64, [c_void_p, c_int]),
    "TF_TensorData": (c_void_p, [c_void_p]),
    "TF_StringInit": (None, [c_void_p]),
    "TF_StringCopy": (None, [c_void_p, c_char_p, c_size_t]),
    "TF_StringGetDataPointer": (c_void_p, [c_void_p]),
    "TF_StringGetSize": (c_size_t, [c_void_p]),
    "TF_StringDealloc": (None, [c_void_p]),
}


def load_library(path):
    """The C library, its functions declared; it finds libtensorflow_framework beside itself."""
    library = ctypes.CDLL(path)
    for name, (result, arguments) in FUNCTIONS.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


class Session(contextlib.ExitStack):
    """A SavedModel's graph of the tag `serve`; closing it frees all that was made."""

    def __init__(self, library, folder):
        super().__init__()
        self.library = library
        self.graph = self._owned(library.TF_NewGraph(), library.TF_DeleteGraph)
        options = self._owned(library.TF_NewSessionOptions(), library.TF_DeleteSessionOptions)
        tags = (c_char_p * 1)(b"serve")
        self.session = self._checked(
            "TF_LoadSessionFromSavedModel",
            *(options, None, str(folder).encode(), tags, len(tags), self.graph, None),
        )
        self.callback(self._checked, "TF_DeleteSession", self.session)
        self.callback(self._checked, "TF_CloseSession", self.session)

    def run(self, inputs, outputs):
        """Runs a part of the graph.

        Args:
          inputs: dict of tensor's name to list of `bytes`, or of int (int32).
          outputs: list of tensors' names, of strings or of int32.

        Returns:
          dict of tensor's name to list of `bytes` or of int.
        """
        feeds = (Output * len(inputs))(*map(self._tensor_named, inputs))
        fetches = (Output * len(outputs))(*map(self._tensor_named, outputs))
        with contextlib.ExitStack() as stack:
            tensors = [self._to_tensor(values, stack) for values in inputs.values()]
            results = (c_void_p * len(outputs))()
            self._checked(
                "TF_SessionRun",
                *(self.session, None, feeds, (c_void_p * len(inputs))(*tensors), len(inputs)),
                *(fetches, results, len(outputs), None, 0, None),
            )
            for result in results:
                stack.callback(self.library.TF_DeleteTensor, result)
            return dict(zip(outputs, map(self._to_list, results), strict=True))

    def _owned(self, pointer, delete):
        self.callback(delete, pointer)
        return pointer

    def _checked(self, name, *arguments):
        """Calls a function whose last argument is a `TF_Status`; raises what that says."""
        status = self.library.TF_NewStatus()
        try:
            result = getattr(self.library, name)(*arguments, status)
            code = self.library.TF_GetCode(status)
            if code:
                message = self.library.TF_Message(status).decode(errors="replace")
                raise RuntimeError(f"{name}: status {code}: {message}")
            return result
        finally:
            self.library.TF_DeleteStatus(status)

    def _tensor_named(self, name):
        """`operation:index` to the fields of its `TF_Output`."""
        operation, _, index = name.partition(":")
        pointer = self.library.TF_GraphOperationByName(self.graph, operation.encode())
        if not pointer:
            raise RuntimeError(f"expected an operation of the graph. Received: {operation!r}")
        return Output(pointer, int(index))

    def _to_tensor(self, values, stack):
        """A list of `bytes` or of int, or lists of them, to a tensor, which the stack deletes."""
        library, shape = self.library, []
        if isinstance(values, dict):
            shape, values = values["shape"], ()
        inside = values
        while isinstance(inside, list):
            shape.append(len(inside))
            inside = inside[0] if inside else None
        for _ in shape[1:]:
            values = [*itertools.chain(*values)]
        count = len(values)
        if count and count != math.prod(shape):
            raise RuntimeError(f"expected lists of one length. Received: {count} for {shape}")
        kind = TF_INT32 if values and isinstance(values[0], int) else TF_STRING
        dims = (c_int64 * len(shape))(*shape)
        tensor = library.TF_AllocateTensor(kind, dims, len(shape), count * SIZES[kind])
        stack.callback(library.TF_DeleteTensor, tensor)
        data = library.TF_TensorData(tensor)
        if kind == TF_INT32:
            (ctypes.c_int32 * count).from_address(data)[:] = values
            return tensor
        for number, value in enumerate(values):
            string = data + number * SIZES[TF_STRING]
            library.TF_StringInit(string)
            # Deleting a tensor that a caller filled frees its array, not what the strings hold.
            stack.callback(library.TF_StringDealloc, string)
            library.TF_StringCopy(string, value, len(value))
        return tensor

    def _to_list(self, tensor):
        """A tensor of one dimension to a list of `bytes` or of int."""
        library = self.library
        kind, rank = library.TF_TensorType(tensor), library.TF_NumDims(tensor)
        if kind not in SIZES or rank != 1:
            raise RuntimeError(f"expected rank 1 of {sorted(SIZES)}. Received: {kind}, rank {rank}")
        data, count = library.TF_TensorData(tensor), library.TF_Dim(tensor, 0)
        if kind == TF_INT32:
            return list((ctypes.c_int32 * count).from_address(data)) if count else []
        strings = [data + number * SIZES[TF_STRING] for number in range(count)]
        return [
            ctypes.string_at(library.TF_StringGetDataPointer(s), library.TF_StringGetSize(s))
            for s in strings
        ]


class Clock:
    """CPU seconds of the process and seconds, since it was last asked."""

    def __init__(self):
        self._last = time.process_time(), time.perf_counter()

    def lap(self):
        now = time.process_time(), time.perf_counter()
        cpu, seconds = (b - a for a, b in zip(self._last, now, strict=True))
        self._last = now
        return {"cpu": cpu, "seconds": seconds}


def from_json(value):
    if isinstance(value, list):
        return [from_json(item) for item in value]
    return base64.b64decode(value["b64"]) if isinstance(value, dict) and "b64" in value else value


def to_json(value):
    return {"b64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


def main():
    task = json.load(sys.stdin)
    library, clock, answers = load_library(task["library"]), Clock(), []
    with Session(library, task["model"]) as session:
        loading = clock.lap()
        for request in task["requests"]:
            inputs = {name: from_json(values) for name, values in request["inputs"].items()}
            clock.lap()
            try:
                outputs = session.run(inputs, request["outputs"])
            except RuntimeError as error:
                answers.append(clock.lap() | {"error": str(error)})
                continue
            took = clock.lap()
            lists = {name: [*map(to_json, values)] for name, values in outputs.items()}
            answers.append(took | {"outputs": lists})
    print(json.dumps({"loading": loading, "answers": answers, "modules": sorted(sys.modules)}))


if __name__ == "__main__":
    main()
