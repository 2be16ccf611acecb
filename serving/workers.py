"""Threads that run requests: so many at once, so many waiting, each for so long."""

import threading
from concurrent.futures import ThreadPoolExecutor, wait


class BusyError(RuntimeError):
    """More requests than may wait."""


class DeadlineError(RuntimeError):
    """A request took longer than it may."""


class Workers:
    """Runs functions in threads.

    Args:
        concurrency: int: how many run at once.
        waiting: int: how many more may wait for their turn.
        timeout: float, seconds that a request may wait and run.
    """

    def __init__(self, concurrency, waiting, timeout):
        self.timeout = timeout
        self._places = threading.BoundedSemaphore(concurrency + waiting)
        self._threads = ThreadPoolExecutor(concurrency, thread_name_prefix="request")

    def run(self, function, *arguments, timeout=None):
        """`function(*arguments)`; a shorter `timeout` than that of all may be given.

        Raises:
            BusyError: at once, where too many wait already, or none are taken any more.
            DeadlineError: what has begun goes on to its end, and keeps its thread until then.
        """
        if not self._places.acquire(blocking=False):
            raise BusyError("too many requests at once: try again later")
        try:
            future = self._threads.submit(function, *arguments)
        except RuntimeError as error:
            self._places.release()
            raise BusyError("the server ends") from error
        future.add_done_callback(lambda _: self._places.release())
        limit = self.timeout if timeout is None else min(timeout, self.timeout)
        wait([future], limit)
        if future.done():
            return future.result()
        future.cancel()
        raise DeadlineError(f"took longer than {limit:g} seconds")

    def close(self):
        """Ends what waits, and waits for what runs."""
        self._threads.shutdown(cancel_futures=True)
