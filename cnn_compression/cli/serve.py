"""`cnn-compression serve`: TensorFlow Serving's interfaces over an exported model, on a laptop."""

import contextlib
import logging
import signal
import threading

from absl import flags

from cnn_compression.cli import common
from cnn_compression.codec.model_files import find_model

HELP = """
usage: cnn-compression serve [flags]

Serves exported models over REST and gRPC as TensorFlow Serving does, with a page to look at on the
REST port, until it is interrupted. Needs the extra `serving`. It is for development, tests and
laptops: production is tensorflow_model_server, which takes the first four of these flags too.
"""


def add_flags(values: flags.FlagValues) -> None:
    def integer(name, default, help_text, low=0):
        flags.DEFINE_integer(name, default, help_text, low, flag_values=values)

    integer("port", 8500, "of gRPC; 0 takes one that is free")
    integer("rest_api_port", 8501, "of REST and the page; 0 takes one that is free")
    help_text = "what clients call the model; of those that come with the package one or several"
    flags.DEFINE_list("model_name", "default", help_text, flag_values=values)
    help_text = "folder of its versions; without it the models of these names are looked for"
    flags.DEFINE(common.PATH, "model_base_path", None, help_text, flag_values=values)
    help_text = "IP address to listen at; 0.0.0.0 is all of this machine's"
    flags.DEFINE_string("address", "127.0.0.1", help_text, flag_values=values)
    integer("concurrency", 2, "requests computed at once; eight times as many may wait", 1)
    integer("timeout_seconds", 30, "that a request may wait and be computed", 1)
    help_text = f"of a request, and of a gRPC answer; {common.SIZES}"
    flags.DEFINE(common.BYTES, "max_message_bytes", "256MiB", help_text, flag_values=values)
    help_text = "let pages of other sites call"
    flags.DEFINE_boolean("rest_api_enable_cors_support", False, help_text, flag_values=values)


def run(values: flags.FlagValues, arguments: list[str]) -> int:
    if arguments:
        raise common.UsageError(f"expected flags only; see --help. Received: {' '.join(arguments)}")
    common.start_tensorflow()
    try:
        from cnn_compression.serving.local_server import LocalServer, Settings
    except ModuleNotFoundError as error:
        raise ValueError(
            f"serve needs the extra `serving`, pip install 'cnn-compression[serving]': {error}"
        ) from error

    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("cnn_compression.serving").setLevel(logging.INFO)
    settings = Settings(
        models=_folders(values.model_name, values.model_base_path),
        address=values.address,
        port=values.port,
        rest_api_port=values.rest_api_port,
        concurrency=values.concurrency,
        timeout=values.timeout_seconds,
        max_message_bytes=values.max_message_bytes,
        cors=values.rest_api_enable_cors_support,
    )
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    with LocalServer(settings) as server, contextlib.suppress(KeyboardInterrupt):
        place = f"[{values.address}]" if ":" in values.address else values.address
        print(f"REST and page: http://{place}:{server.rest_api_port}/", flush=True)
        print(f"gRPC: {place}:{server.port}", flush=True)
        ended.wait()
    return 0


def _folders(names: list[str], base_path: str | None) -> dict[str, str]:
    """Of each model's name the folder of its versions."""
    if not base_path:
        return {name: _folder(name) for name in names}
    if len(names) != 1:
        raise common.UsageError(
            f"expected one --model_name with --model_base_path. Received: {', '.join(names)}"
        )
    return {names[0]: base_path}


def _folder(name: str) -> str:
    """Of an installed model's name the folder of its versions."""
    # <base path>/<version>/assets.extra/model.json
    file = find_model(name)
    if file.suffix != ".json" or file.parents[2].name != name:
        raise common.UsageError(
            "expected names of installed models in --model_name, or --model_base_path with the "
            f"folder of an exported model's versions. Received: {name}"
        )
    return str(file.parents[2])
