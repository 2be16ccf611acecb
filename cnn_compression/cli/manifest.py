"""The manifest of a verb over files: a row for each, as CSV or JSON lines.

Names of no encoding keep their bytes.
"""

import csv
import io
import json
from collections.abc import Iterable
from pathlib import Path

from cnn_compression.cli import streams
from cnn_compression.cli.common import shown

FIELDS = ("input", "output", "bytes", "bpp", "status")
DONE, SKIPPED = "done", "skipped"  # of `status`; anything else is the reason of a failure


def write(path: Path, rows: Iterable[tuple], overwrite: bool) -> None:
    """Writes rows of `FIELDS`; the name's ending, `.csv` or `.jsonl`, says how."""
    text = io.StringIO(newline="")
    if path.suffix.lower() == ".csv":
        csv.writer(text).writerows([FIELDS, *rows])
    else:
        for row in rows:
            line = json.dumps(dict(zip(FIELDS, row, strict=True)), ensure_ascii=False)
            text.write(line + "\n")
    streams.write(path, text.getvalue().encode("utf-8", "surrogateescape"), overwrite)


def read(path: Path) -> list[tuple]:
    """The rows that `write` wrote; raises ValueError where the file is something else."""
    try:
        text = path.read_bytes().decode("utf-8", "surrogateescape")
        if path.suffix.lower() == ".csv":
            head, *rows = csv.reader(io.StringIO(text, newline=""))
            rows = [dict(zip(head, row, strict=True)) for row in rows]
        else:
            rows = [json.loads(line) for line in text.split("\n") if line]
        return [tuple(row[name] for name in FIELDS) for row in rows]
    except (ValueError, KeyError, TypeError, csv.Error):
        raise ValueError(f"expected a manifest to go on with. Received: {shown(path)}") from None


def joined(old: Iterable[tuple], new: Iterable[tuple]) -> list[tuple]:
    """Old rows and the new ones that replace them: what was skipped stays as it was done."""
    rows = {row[0]: row for row in old}
    for row in new:
        known = rows.get(row[0])
        if not (row[-1] == SKIPPED and known and known[-1] == DONE):
            rows[row[0]] = row
    return list(rows.values())
