"""Bytes of an image file in TensorFlow ops: integers, places, the parts that headers have."""

import tensorflow as tf

ALL = 2**40  # as a length: up to the end
# A graph takes some ten microseconds to walk past a part of a file, and there could be any number.
_MOST_PARTS = 4096


def size_of(contents):
    """How many bytes there are; int64 scalar."""
    return tf.cast(tf.strings.length(contents), tf.int64)


def require(condition, reason, value):
    """`value`, which nothing gets hold of before `condition` was found true."""
    with tf.control_dependencies([tf.Assert(condition, [reason])]):
        return tf.identity(value)


def walk(more, step, state, most=_MOST_PARTS):
    """Goes on while there is more, which must end.

    Args:
        more: of the state's tensors to whether a step follows, bool scalar.
        step: of the state's tensors to the next ones, a tuple.
        state: tuple of tensors, whose shapes stay.
        most: int. If that many steps were not enough, the graph fails.

    Returns:
        list of tensors, the last state.
    """
    state = tf.while_loop(more, step, state, maximum_iterations=most)
    ended = ~more(*state)
    return [require(ended, f"more than {most} parts to walk through", value) for value in state]


def part(contents, at, size):
    """The `size` bytes at `at`, or those of them that there are; string scalar."""
    # TensorFlow's own error for a place outside cites the bytes, which Python then cannot decode.
    at = tf.clip_by_value(tf.convert_to_tensor(at, tf.int64), 0, size_of(contents))
    return tf.strings.substr(contents, at, tf.convert_to_tensor(size, tf.int64))


def bytes_at(contents, at, size):
    """Like `part`; uint8 [N], N up to `size`."""
    return tf.io.decode_raw(part(contents, at, size), tf.uint8)


def uint(contents, at, size=1, big=False):
    """The unsigned integer of `size` bytes at `at`, int64 scalar; outside the file, it fails."""
    return uints(tf.ensure_shape(bytes_at(contents, at, size), [size]), size, big)


def uints(raw, size, big):
    """uint8 [..., size] -> int64 [...]; the most significant byte comes first if `big`."""
    # Reversed in Python: where TensorFlow meets [::-1] of a vector, it optimises nothing more.
    weights = [256**i for i in range(size)]
    weights = tf.where(big, tf.constant(weights[::-1], tf.int64), tf.constant(weights, tf.int64))
    return tf.reduce_sum(tf.cast(raw, tf.int64) * weights, axis=-1)


def find(contents, pattern):
    """Where bytes `pattern` first stand in `contents`, int64 scalar; -1 if nowhere."""
    return tf.concat([find_all(contents, pattern), [-1]], axis=0)[0]


def find_all(contents, pattern):
    """Where bytes `pattern` stand in `contents`; int64 [N]."""
    raw = tf.io.decode_raw(tf.strings.join([contents, b"\0" * len(pattern)]), tf.uint8)
    size = tf.size(raw) - len(pattern)
    hits = tf.reduce_all([raw[i : i + size] == byte for i, byte in enumerate(pattern)], axis=0)
    return tf.where(hits)[:, 0]


def find_boxes(contents, start, end, kinds):
    """Boxes among those that follow each other (ISO/IEC 14496-12, 4.2).

    Args:
        contents: string scalar.
        start, end: int64 scalars, of the row of boxes. If it does not end there, the graph fails.
        kinds: list of K kinds, 4 bytes each.

    Returns:
        int64 [K] each: how many of the kind, and where the content of the first starts and ends.
    """
    padded = tf.strings.join([contents, b"\0" * 16])

    def step(at, count, first, last):
        short, long = uint(padded, at, 4, big=True), uint(padded, at + 8, 8, big=True)
        head = tf.where(short == 1, tf.constant(16, tf.int64), 8)
        size = tf.where(short == 1, long, tf.where(short == 0, end - at, short))
        size = require((head <= size) & (size <= end - at), "truncated or damaged boxes", size)
        found = part(contents, at + 4, 4) == tf.constant(kinds)
        new = found & (count == 0)
        first, last = tf.where(new, at + head, first), tf.where(new, at + size, last)
        return at + size, count + tf.cast(found, tf.int64), first, last

    none = tf.zeros([len(kinds)], tf.int64)
    return walk(lambda at, *_: at < end, step, (start, none, none, none))[1:]


def codestream(contents):
    """Where the codestream of a JP2 file starts, int64 scalar (ISO/IEC 15444-1, I.5.4, A.5.1)."""
    zero = tf.constant(0, tf.int64)
    (count,), (start,), _ = map(
        tf.unstack, find_boxes(contents, zero, size_of(contents), [b"jp2c"])
    )
    sound = (count > 0) & (part(contents, start, 4) == b"\xff\x4f\xff\x51")
    return require(sound, "truncated or damaged JPEG 2000", start)


def ifd(contents):
    """First directory of a TIFF structure, as much of it as there is.

    Returns:
        (bool, is the most significant byte first; uint8 [N, 12], the entries).
    """
    size = size_of(contents)
    contents = tf.strings.join([contents, b"\0" * 8])
    big = part(contents, 0, 2) == b"MM"
    start = tf.minimum(uint(contents, 4, 4, big), size)
    count = uint(contents, start, 2, big)
    raw = bytes_at(contents, start + 2, 12 * count)
    return big, tf.reshape(raw[: tf.size(raw) // 12 * 12], [-1, 12])


def tiff_values(contents, big, entries, tags):
    """What the first entry with one of `tags` holds. Other than SHORT or LONG, the graph fails.

    Args:
        contents: string scalar, a TIFF structure.
        big, entries: of `ifd`.
        tags: list of ints.

    Returns:
        int64 [N]; N is 0 if there is no such entry.
    """
    matches = tf.reduce_any(
        uints(entries[:, :2], 2, big)[:, None] == tf.constant(tags, tf.int64), axis=1
    )
    found = entries[matches][:1]
    kind = uints(found[:, 2:4], 2, big)
    readable = tf.reduce_all((kind == 3) | (kind == 4))
    found = require(readable, "truncated or damaged TIFF", found)
    entry = tf.concat([found, tf.zeros([1, 12], tf.uint8)], axis=0)[0]
    long = uints(entry[2:4], 2, big) == 4
    size = tf.where(long, tf.constant(4, tf.int64), 2) * uints(entry[4:8], 4, big)
    near = tf.where(size <= 4, size, 0)  # small values stand in the entry itself
    at = tf.where(near < size, uints(entry[8:], 4, big), 0)
    raw = tf.concat([entry[8 : 8 + near], bytes_at(contents, at, size - near)], axis=0)
    return tf.cond(
        long,
        lambda: uints(tf.reshape(raw, [-1, 4]), 4, big),
        lambda: uints(tf.reshape(raw, [-1, 2]), 2, big),
    )


def text_of(raw):
    """uint8 [N] -> string scalar."""
    return tf.strings.reduce_join(
        tf.gather([bytes([i]) for i in range(256)], tf.cast(raw, tf.int32))
    )


def with_png_header(contents):
    """`contents`, whose header comes first, as it must: else what stands there is believed."""
    return require(part(contents, 12, 4) == b"IHDR", "truncated or damaged PNG", contents)


def pnm_header(contents):
    """The header's fields as strings [3] of bitmaps, else [4]; and what follows the header."""
    gap = r"(?:\s|#\C*?\n)+"
    start = rf"^P[2-6]{gap}\d{{1,6}}{gap}\d{{1,6}}"
    bitmap = part(contents, 0, 2) == b"P4"
    pattern = tf.where(bitmap, rf"{start}\s", rf"{start}{gap}\d{{1,5}}\s")
    rest = tf.strings.regex_replace(contents, pattern, "", replace_global=False)
    header = part(contents, 0, size_of(contents) - size_of(rest))
    return tf.strings.split(tf.strings.regex_replace(header, gap, " ")), rest
