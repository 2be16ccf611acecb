"""The rows of all runs into one folder: written as they come, so that a stopped run goes on."""

from pathlib import Path

from cnn_compression.benchmark.rows import from_json, json_line


class Store:
    """Rows by their `Row.key`, in the order in which they came.

    Args:
        path: a file of JSON lines to go on with, or to begin; None keeps the rows in memory only.
            A last line without its end is what a stopped run left of a row: it is dropped. Rows
            of before SSIMULACRA2 was measured stay in the file and count as missing, so that the
            codec, which alone has the picture, measures them anew.

    Attributes:
        rows: dict of key to `Row`.

    Raises:
        ValueError: the file has a line that is no row; names it.
        OSError: the file cannot be read or written.
    """

    def __init__(self, path=None):
        self.rows, self._file = {}, None
        if path is None:
            return
        path = Path(path)
        whole = self._read(path) if path.exists() else 0
        # Append mode, so that a second run into the same file would not write over our rows.
        self._file = open(path, "ab")
        self._file.truncate(whole)

    def _read(self, path):
        """Takes the file's rows; returns the bytes of its whole lines."""
        data = path.read_bytes()
        whole = data.rfind(b"\n") + 1
        for number, line in enumerate(data[:whole].splitlines(), 1):
            try:
                row = from_json(line.decode())
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: {error}") from error
            if row is not None:
                self.rows.setdefault(row.key, row)
        return whole

    def add(self, row):
        """Keeps a row and has it on disk before anything else is measured."""
        self.rows[row.key] = row
        if self._file:
            self._file.write(json_line(row).encode())
            self._file.flush()

    def close(self):
        if self._file:
            self._file.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
