"""Damaged files by the hundred thousand: nothing crashes, hangs, or takes more memory than allowed.

    python tests/fuzz.py [--count=100000] [--seed=1] [--first=0] [--only=payload,png]

A number and the seed make an input: a good file with bytes changed, cut, doubled, moved or joined
with another's. Inputs go through a process of their own with a limit of memory; the one it dies or
hangs on counts as wrong too. What is wrong is printed with the command that gives it again; numbers
mean the same inputs everywhere.

Payloads must be refused unless what their checksum covers is as it was; those that are given a true
checksum again must be refused, or their JPEG be of the size that the header says. Of image files,
an error must be the reader's own, in a graph one of a wrong argument, but not that memory ran out,
and an image no larger than allowed. Packed files must be refused unless nothing was changed;
JPEGs to pack are, so that they come back, or are refused. Payloads of a latent codec must be
refused unless nothing was changed; with true checksums, be refused or be restored to the size that
the header says.
"""

import contextlib
import io
import json
import os
import resource
import select
import shlex
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
from absl import app, flags
from PIL import Image

from cnn_compression.payload import latent_layout

FLAGS = flags.FLAGS
flags.DEFINE_integer("count", 100_000, "inputs")
flags.DEFINE_integer("seed", 1, "of all that is drawn")
flags.DEFINE_integer("first", 0, "number of the first input")
flags.DEFINE_list("only", [], "kinds of files; all by default")
flags.DEFINE_integer("megabytes", 6000, "of address space that may be added to an idle process")
flags.DEFINE_integer("seconds", 20, "for one input")
flags.DEFINE_boolean("worker", False, "is the process that reads; the other one watches")

MAX_PIXELS = 10**6
GOLDEN = Path(__file__).parent / "golden"


def good_files():
    """Kind -> file of those that are asked for: each format as Pillow writes it, and payloads."""
    random = np.random.default_rng(7)
    ramp = np.add.outer(np.arange(24), 3 * np.arange(37))[..., None] + np.array([0, 60, 120])
    pixels = ((ramp + random.integers(0, 40, ramp.shape)) % 256).astype(np.uint8)
    colour = Image.fromarray(pixels)
    modes = {
        "png": ("PNG", "RGB", {}),
        "png-alpha": ("PNG", "RGBA", {}),
        "png-palette": ("PNG", "P", {"transparency": 3}),
        "png-grey-16": ("PNG", "I;16", {}),
        "jpeg": ("JPEG", "RGB", {"exif": _orientation(6)}),
        "jpeg-progressive": ("JPEG", "RGB", {"progressive": True}),
        "jpeg-grey": ("JPEG", "L", {}),
        "gif": ("GIF", "P", {}),
        "bmp": ("BMP", "RGB", {}),
        "bmp-palette": ("BMP", "P", {}),
        "bmp-bits": ("BMP", "1", {}),
        "webp": ("WEBP", "RGB", {}),
        "webp-lossless": ("WEBP", "RGBA", {"lossless": True}),
        "avif": ("AVIF", "RGB", {}),
        "tiff": ("TIFF", "RGB", {}),
        "tiff-lzw": ("TIFF", "L", {"compression": "tiff_lzw"}),
        "tiff-bits": ("TIFF", "1", {"compression": "tiff_lzw"}),
        "tiff-jpeg": ("TIFF", "RGB", {"compression": "jpeg"}),
        "tiff-alpha": ("TIFF", "LA", {"compression": "tiff_deflate"}),
        "jp2": ("JPEG2000", "RGB", {}),
        "ppm": ("PPM", "RGB", {}),
        "pgm": ("PPM", "L", {}),
    }
    files = {}
    for kind, (form, mode, settings) in modes.items():
        buffer = io.BytesIO()
        converted = colour.convert("L").convert("I;16") if mode == "I;16" else colour.convert(mode)
        converted.save(buffer, form, **settings)
        files[kind] = buffer.getvalue()
    frames = [colour.convert("P").rotate(90 * turn) for turn in range(3)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    files["gif-frames"] = buffer.getvalue()
    for path in sorted([*GOLDEN.glob("*.cnn.jpg"), *GOLDEN.glob("version2/*.cnn.jpg")]):
        name = path.name.split(".")[0] + path.parent.name.removeprefix(GOLDEN.name)
        files[f"payload-{name}"] = files[f"resealed-{name}"] = path.read_bytes()
    for path in sorted(GOLDEN.glob("packed/version2/*.cnnp")):
        files[f"packed-{path.name.split('.')[0]}"] = path.read_bytes()
    for path in sorted(GOLDEN.glob("packed/jpegs/*.cnnp")):
        files[f"packed-{path.stem}"] = path.read_bytes()
        files[f"topack-{path.stem}"] = path.with_suffix(".jpg").read_bytes()
    files["latent"] = files["latent-resealed"] = (GOLDEN / "latent/photo.cnnl").read_bytes()
    files["png-resealed"] = files["png"]
    return {
        kind: file
        for kind, file in sorted(files.items())
        if not FLAGS.only or kind.split("-")[0] in FLAGS.only
    }


def with_true_checks(data):
    """A PNG whose chunks have the checksums of what is in them, as far as there are chunks."""
    at = 8
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        data[end : end + 4] = zlib.crc32(data[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return data


def with_true_latent_checks(data):
    """A latent codec's payload whose header and passes have the checksums of what is in them."""
    at = latent_layout.HEADER_SIZE
    if len(data) >= at:
        data[at - 4 : at] = zlib.crc32(data[: at - 4]).to_bytes(4, "big")
    while at + 8 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        checksum = zlib.crc32(data[at : at + 4] + data[at + 8 : end])
        data[at + 4 : at + 8] = checksum.to_bytes(4, "big")
        at = end
    return data


def _orientation(value):
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


def mutated(number, seed, files):
    """Kind and bytes of an input."""
    random = np.random.default_rng([seed, number])
    kinds = list(files)
    kind = kinds[number % len(kinds)]
    data = bytearray(files[kind])
    for _ in range(int(random.choice([1, 1, 1, 2, 4, 16]))):
        at = int(random.integers(len(data) or 1))
        size = int(min(random.geometric(0.1), 64))
        # Headers are short and matter most.
        at = int(random.integers(min(len(data), 64) or 1)) if random.random() < 0.5 else at
        match int(random.integers(8)):
            case 0:
                data[at : at + 1] = bytes([data[at] ^ 1 << int(random.integers(8))] if data else [])
            case 1:
                data[at : at + size] = random.bytes(size)
            case 2:
                extreme = [b"\0", b"\xff", b"\x7f", b"\x80"][int(random.integers(4))]
                data[at : at + size] = extreme * size
            case 3:
                del data[at:]
            case 4:
                del data[at : at + size]
            case 5:
                data[at:at] = data[at : at + size] * int(random.integers(1, 20))
            case 6:
                other = files[kinds[int(random.integers(len(kinds)))]]
                start = int(random.integers(len(other)))
                data[at:at] = other[start : start + size]
            case 7:
                value = int(random.choice([0, 1, 255, 256, 65535, 65536, 2**31 - 1, 2**32 - 1]))
                order = "big" if random.random() < 0.5 else "little"
                width = 4 if value > 65535 or random.random() < 0.5 else 2
                data[at : at + width] = value.to_bytes(width, order)
    resealed = {"png-resealed": with_true_checks, "latent-resealed": with_true_latent_checks}
    return kind, bytes(resealed.get(kind, bytes)(data))


def work(files):
    """Reads all inputs; says before each on stdout which one it is, and what came of the last."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import tensorflow as tf

    import cnn_compression
    from cnn_compression import images
    from cnn_compression.jpeg import coding
    from cnn_compression.packing import jpegs
    from cnn_compression.payload import layout, layout_ops
    from cnn_compression.tensors.attempts import attempt

    fingerprint, scales = "0123456789abcdef", [2]  # of the golden payloads
    verify = tf.function(
        lambda payload: layout_ops.verify(payload, fingerprint, scales),
        [tf.TensorSpec((), tf.string)],
    )
    decode = tf.function(
        lambda payload: attempt(coding.decode, payload, tf.zeros([0, 0, 0], tf.uint8)),
        [tf.TensorSpec((), tf.string)],
    )
    errors = tf.errors.InvalidArgumentError
    latent = cnn_compression.load(GOLDEN / "latent/model.keras")

    def unchanged(data, file):
        try:
            return layout.covered(data) == layout.covered(file)
        except layout.PayloadError:
            return False

    for kind, data in list(files.items()):  # all graphs are built before memory is limited
        if kind.startswith(("payload", "resealed")):
            assert not verify(data).numpy() and decode(data)[1]
            continue
        if kind.startswith("packed"):
            jpegs.unpack(data)
            continue
        if kind.startswith("topack"):
            jpegs.pack(data)
            continue
        if kind.startswith("latent"):
            latent.decode(data)
            continue
        images.read_contents(data, (255, 255, 255), MAX_PIXELS)
        in_graph(data, errors)
    own = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = own + FLAGS.megabytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for number in range(FLAGS.first, FLAGS.first + FLAGS.count):
        kind, data = mutated(number, FLAGS.seed, files)
        print(json.dumps([number, kind]), flush=True)
        outcome = "refused"
        if kind.startswith("payload"):
            if not verify(data).numpy():
                outcome = "same" if unchanged(data, files[kind]) else "WRONG: accepted"
        elif kind.startswith("resealed"):
            with contextlib.suppress(layout.PayloadError):
                covered = np.frombuffer(layout.covered(data), np.uint8)
                at = layout.own_segments(data)[0].start + layout.CHECKSUM_START
                digest = tf.fingerprint(covered[None]).numpy().tobytes()
                data = data[:at] + digest + data[at + len(digest) :]
            if not verify(data).numpy():
                image, complete = decode(layout.picture(data))
                header = layout.read_header(data)
                sides = [-(-side // header.scale) for side in (header.height, header.width)]
                if complete:
                    fine = image.shape.as_list() == [*sides, header.channels]
                    outcome = "read" if fine else f"WRONG: {image.shape} {header}"
        elif kind.startswith("packed"):
            try:
                jpegs.unpack(data, MAX_PIXELS)
                outcome = "same" if data == files[kind] else "WRONG: accepted"
            except layout.PayloadError:
                outcome = "refused"
            except Exception as error:
                outcome = f"WRONG: {type(error).__name__}: {error}"[:300]
        elif kind.startswith("latent"):
            try:
                image = latent.decode(data, MAX_PIXELS, partial=bool(number % 2))
                header = latent_layout.read_header(data)
                fine = image.shape == (header.height, header.width, header.channels)
                fine = fine and (kind == "latent-resealed" or data == files[kind])
                outcome = "read" if fine else f"WRONG: {image.shape} {header}"
            except layout.PayloadError:
                outcome = "refused"
            except Exception as error:
                outcome = f"WRONG: {type(error).__name__}: {error}"[:300]
        elif kind.startswith("topack"):
            try:
                jpegs.pack(data, MAX_PIXELS)
                outcome = "read"  # and compared
            except layout.PayloadError:
                outcome = "refused"
            except Exception as error:
                outcome = f"WRONG: {type(error).__name__}: {error}"[:300]
        else:
            in_graph(data, errors)
            try:
                image, _ = images.read_contents(data, (255, 255, 255), MAX_PIXELS)
                fine = image.dtype == np.uint8 and image.ndim == 3 and image.shape[-1] in (1, 3)
                fine = fine and 0 < image.shape[0] * image.shape[1] <= MAX_PIXELS
                outcome = "read" if fine else f"WRONG: {image.dtype} {image.shape}"
            except images.ImageError as error:  # a limit should have come before memory did
                outcome = f"WRONG: {error}" if "memory" in str(error) else "refused"
            except Exception as error:
                outcome = f"WRONG: {type(error).__name__}: {error}"[:300]
        print(json.dumps(outcome), flush=True)


def in_graph(data, errors):
    """The same file through the reader of graphs, which takes it or fails as graphs do."""
    from cnn_compression import images

    with contextlib.suppress(errors):
        images.decode(data, MAX_PIXELS)


def watch():
    """Starts workers, each after the input that its forerunner did not survive; gives the tally."""
    tally, wrong, first = {}, [], FLAGS.first
    end = FLAGS.first + FLAGS.count
    while first < end:
        command = [sys.executable, __file__, "--worker", *_flags(first, end - first)]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
        ) as process:
            last, problem = None, "ended"
            # The first line comes when the graphs are built.
            while line := _line(process, FLAGS.seconds if last else 300):
                if line == "late":
                    problem = f"took more than {FLAGS.seconds} s"
                    process.kill()
                    break
                said = json.loads(line)
                if isinstance(said, list):
                    last = said
                    continue
                first = last[0] + 1
                key = last[1], said.split(":")[0]
                tally[key] = tally.get(key, 0) + 1
                if said.startswith("WRONG"):
                    wrong.append((*last, said))
                if first % 1000 == 0:
                    print(f"{first - FLAGS.first} of {FLAGS.count}", end="\r", file=sys.stderr)
            status = process.wait()
        if first < end:
            if last is None:
                raise RuntimeError(f"the reading process ended with {status} before any input")
            wrong.append((*last, f"{problem}, status {status}"))
            first = last[0] + 1
    return tally, wrong


def _flags(first, count):
    """Words of a command line: the flags as they are, but for which inputs."""
    same = [FLAGS[name].serialize() for name in ("seed", "only", "megabytes", "seconds")]
    return [*same, f"--first={first}", f"--count={count}"]


_pending = bytearray()


def _line(process, seconds):
    """The next line of the process, "" at its end, "late" where none comes."""
    while b"\n" not in _pending:
        if not select.select([process.stdout], [], [], seconds)[0]:
            _pending.clear()
            return "late"
        data = os.read(process.stdout.fileno(), 65536)
        if not data:
            _pending.clear()
            return ""
        _pending.extend(data)
    line, _, rest = bytes(_pending).partition(b"\n")
    _pending[:] = rest
    return line.decode()


def main(_):
    if FLAGS.worker:
        work(good_files())
        return
    tally, wrong = watch()
    for kind in sorted({kind for kind, _ in tally}):
        outcomes = {outcome: n for (of, outcome), n in sorted(tally.items()) if of == kind}
        print(f"{kind:18}", ", ".join(f"{n} {outcome}" for outcome, n in outcomes.items()))
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024  # of all processes
    print(f"{peak} MiB of memory at most")
    print(f"{FLAGS.count} inputs, {len(wrong)} wrong")
    for number, kind, problem in wrong:
        print(kind, problem, "  " + shlex.join(["python", __file__, *_flags(number, 1)]), sep="\n")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    app.run(main)
