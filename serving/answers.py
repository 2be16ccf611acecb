"""How errors are answered: TensorFlow's names of codes, and HTTP's numbers for them."""

import logging

from cnn_compression.serving.servables import NotFoundError
from cnn_compression.serving.workers import BusyError, DeadlineError

OK, UNKNOWN = "OK", "UNKNOWN"
# As tensorflow_model_server translates them.
HTTP = {
    OK: 200,
    "INVALID_ARGUMENT": 400,
    "NOT_FOUND": 404,
    UNKNOWN: 500,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
CODES = {
    NotFoundError: "NOT_FOUND",
    ValueError: "INVALID_ARGUMENT",
    RecursionError: "INVALID_ARGUMENT",  # JSON that is nested without end
    BusyError: "UNAVAILABLE",
    DeadlineError: "DEADLINE_EXCEEDED",
}
log = logging.getLogger(__name__)


def code_of(error):
    """The code of an exception."""
    return next((code for kind, code in CODES.items() if isinstance(error, kind)), UNKNOWN)


def answer_to(error):
    """The code of an exception and what a client is told; what nobody foresaw is logged."""
    code = code_of(error)
    if code == UNKNOWN:
        log.error("a request failed", exc_info=error)
    return code, str(error) or type(error).__name__
