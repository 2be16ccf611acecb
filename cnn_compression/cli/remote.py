"""What verbs share that can ask a server instead of a model here."""

import contextlib

from absl import flags

from cnn_compression.cli import common

REQUESTS_AT_ONCE = 4
# Here, one file's reading, JPEG and writing go on beside another's networks; a third would only
# take memory.
FILES_AT_ONCE = 2


def add_server_flags(values: flags.FlagValues) -> None:
    help_text = (
        "let a server do it, which calls the model by the name that --model says: host:port of its "
        "REST, or http://, https://, grpc:// or grpcs://host:port"
    )
    flags.DEFINE_string("server", None, help_text, flag_values=values)
    help_text = "seconds that the server may take for a file"
    flags.DEFINE_float("timeout", 60.0, help_text, 0.001, flag_values=values)
    help_text = "PEM file of the authority that signed the server's certificate"
    flags.DEFINE(common.PATH, "certificate", None, help_text, flag_values=values)
    help_text = (
        f"files in work at once: {FILES_AT_ONCE} if not given, {REQUESTS_AT_ONCE} with --server; "
        "1 takes the least memory, and shows how far a large image is"
    )
    flags.DEFINE_integer("jobs", None, help_text, 1, flag_values=values, short_name="j")


def refuse(values: flags.FlagValues, *names: str) -> None:
    """Raises `UsageError` where flags were given that a server knows nothing of."""
    given = [f"--{name}" for name in names if values[name].present]
    if given:
        raise common.UsageError(f"expected no {' or '.join(given)} with --server")


def refuse_latent(values: flags.FlagValues) -> None:
    """Raises `UsageError` where the model is a latent one here: servers have none."""
    with contextlib.suppress(ValueError):  # a server's models need not be installed
        if family := common.latent_family(values.model):
            raise common.UsageError(
                f"a model of the family {family} is not served: leave out --server"
            )


def jobs(values: flags.FlagValues) -> int:
    """How many files to have in work."""
    return values.jobs or (REQUESTS_AT_ONCE if values.server else FILES_AT_ONCE)


def open_client(values: flags.FlagValues):
    """A `Client` of what `--server` names; raises ValueError where that is no address."""
    from cnn_compression.serving.client import Client

    try:
        return Client(
            values.server, values.model, timeout=values.timeout, certificate=values.certificate
        )
    except ImportError as error:
        raise ValueError(str(error)) from error
