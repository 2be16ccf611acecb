"""Whether payloads come back from their coefficients byte for byte, and how fast.

    python benchmarks/coefficients.py [--model=default] [--qualities=5,10,...,100] FOLDER ...

Each image is encoded at each quality. The payload's JPEG is parsed and written, and composed from
its coefficients, those of blocks that have pixels, and the numbers that a payload's reader knows:
the size of the JPEG, its channels, quality, chroma and whether it is progressive. Times are of one
core, without the first payload, on which the loops are compiled.
"""

import sys
import time

from absl import app, flags

from cnn_compression import images, load
from cnn_compression.jpeg import coefficients
from cnn_compression.payload import layout
from cnn_compression.training.data import list_images

FLAGS = flags.FLAGS
flags.DEFINE_string("model", "default", "a name in saved_models, or a folder")
flags.DEFINE_list("qualities", [str(quality) for quality in range(5, 101, 5)], "to encode at")


def composed(payload, parsed):
    """The payload from its blocks that have pixels, its segment and a few numbers."""
    [own] = layout.own_segments(payload)
    height, width = layout.preview_size(payload)
    channels = len(parsed.frame.components)
    progressive = parsed.frame.marker == coefficients.PROGRESSIVE
    frame = coefficients.foreseen_frame(height, width, channels, "4:2:0", progressive)
    quality = layout.read_header(payload).quality
    return coefficients.compose(
        frame,
        coefficients.quantisation_tables(quality, channels),
        coefficients.padded(frame, coefficients.cropped(parsed.frame, parsed.coefficients)),
        payload[own.start : own.end],
    )


def timed(seconds, name, function, *arguments):
    """Calls a function; `seconds` gets the processor time that it took."""
    start = time.process_time()
    result = function(*arguments)
    seconds[name] = seconds.get(name, 0.0) + time.process_time() - start
    return result


def main(arguments):
    codec = load(FLAGS.model)
    payloads, written, same, pixels, seconds = 0, 0, 0, 0, None
    for file in list_images(arguments[1:]):
        image = images.read(file)[0]
        for quality in map(int, FLAGS.qualities):
            payload = codec.encode(image, quality)
            if seconds is None:
                composed(payload, coefficients.parse(payload))
                seconds = {}
            parsed = timed(seconds, "parse", coefficients.parse, payload)
            file_again = timed(seconds, "write", coefficients.write, parsed)
            file_composed = timed(seconds, "compose", composed, payload, parsed)
            payloads += 1
            written += file_again == payload
            same += file_composed == payload
            pixels += parsed.frame.height * parsed.frame.width
    print(f"{written} of {payloads} payloads written, {same} composed with the same bytes")
    for name, taken in seconds.items():
        print(f"{name}: {pixels / taken / 1e6:.1f} Mpx/s of compact pixels")
    return 0 if written == same == payloads else 1


if __name__ == "__main__":
    app.run(lambda arguments: sys.exit(main(arguments)))
