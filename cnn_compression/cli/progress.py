"""The bar on a terminal's last line: the files of a verb, and how far the one in work is."""

import shutil
import sys
import time
from pathlib import Path

from cnn_compression.cli.common import shown


class ProgressBar:
    """Drawn on stderr where that is a terminal."""

    def __init__(self):
        self._text, self._since = "", 0.0

    def files(self, done: int = 0, count: int = 0, path: str | Path | None = None) -> None:
        """Draws how many files are done and which one is next; without arguments, wipes the bar."""
        self._text, self._since = "", time.monotonic()
        if path is not None:
            filled = 20 * done // count
            self._text = f"[{'#' * filled}{'.' * (20 - filled)}] {done}/{count} {shown(path)}"
        self._draw(self._text)

    def tiles(self, done: int, count: int) -> None:
        """Adds how far the image is, as `Codec.reporting` tells it; most have a single tile."""
        now = time.monotonic()
        seconds = (now - self._since) / done * (count - done)
        if count > 1:
            self._draw(f"{self._text}, tile {done} of {count}, {seconds:.0f} s left")
        if done == count:  # the next pass over the image
            self._since = now

    def bytes(self, doing: str, done: int, count: int) -> None:
        """Adds how far a file of any bytes is, as `any_bytes.pack` and `unpack` tell it."""
        now = time.monotonic()
        if not done:  # another pass begins
            self._since = now
        left = f", {(now - self._since) / done * (count - done):.0f} s left" if done else ""
        self._draw(f"{self._text}, {doing}, {100 * done // count} %{left}")

    def _draw(self, text: str) -> None:
        if sys.stderr.isatty():
            line = text[: shutil.get_terminal_size().columns - 1]
            print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)


BAR = ProgressBar()
