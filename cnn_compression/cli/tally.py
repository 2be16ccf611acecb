"""What was done with the files of one call: the summary, the exit status, the manifest's rows."""

import os
import time
from dataclasses import dataclass, field
from pathlib import Path

from cnn_compression.cli import manifest
from cnn_compression.cli.common import complain, reason


@dataclass(frozen=True)
class Result:
    """What was done with one file; `payload_bytes` over `pixels` of the original is the rate."""

    bytes_in: int = 0
    bytes_out: int = 0
    payload_bytes: int = 0
    pixels: int = 0
    output: Path | None = None
    notes: tuple[str, ...] = ()
    line: str = ""  # for stdout


@dataclass
class Tally:
    """What was done with all files of one call."""

    results: list[Result] = field(default_factory=list)
    failed: int = 0
    skipped: int = 0
    rows: list[tuple] = field(default_factory=list)  # of the manifest
    start: float = field(default_factory=time.monotonic)

    def add(self, path: Path, result: Result) -> None:
        self.results.append(result)
        bpp = 8 * result.payload_bytes / result.pixels if result.pixels else None
        self._row(path, result.output, result.bytes_out, bpp, manifest.DONE)

    def skip(self, path: Path, output: Path) -> None:
        self.skipped += 1
        self._row(path, output, output.stat().st_size, None, manifest.SKIPPED)

    def fail(self, path: str | os.PathLike, error: Exception) -> None:
        self.failed += 1
        complain(reason(error, path), path)
        self._row(path, None, None, None, reason(error, path))

    def _row(self, path, output, size, bpp, status):
        names = (None if name is None else os.fspath(name) for name in (path, output))
        self.rows.append((*names, size, bpp and round(bpp, 4), status))

    @property
    def status(self) -> int:
        return 1 if self.failed else 0

    @property
    def summary(self) -> str:
        def total(name):
            return sum(getattr(result, name) for result in self.results)

        count = len(self.results) + self.failed + self.skipped
        written = f" -> {total('bytes_out')}" if total("bytes_out") else ""
        pixels = total("pixels")
        rate = f"{8 * total('payload_bytes') / pixels:.3f} bpp, " if pixels else ""
        return (
            f"{count} file{'s'[: count != 1]}, {self.failed} failed, "
            f"{f'{self.skipped} skipped, ' if self.skipped else ''}"
            f"{total('bytes_in')}{written} bytes, {rate}"
            f"{time.monotonic() - self.start:.1f} s"
        )
