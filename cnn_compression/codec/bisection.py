"""Bisection along the quality: the best payload that fits a size, the smallest that reaches a PSNR.

In stock TensorFlow ops, so that the same search runs eagerly, in `tf.data` and in what is exported.
Bytes and PSNR rise with quality, which is what bisection relies on; where a picture breaks that
rule, what is found still keeps the limit, but a higher quality may have kept it too.
"""

import tensorflow as tf

LOWEST, HIGHEST = 1, 100


def highest_that_fits(encode, fits, highest=HIGHEST):
    """The payload of the highest quality that fits.

    Args:
        encode: function of quality int32 scalar to payload string scalar.
        fits: function of payload to bool scalar, true up to some quality.
        highest: int, or int32 scalar: where the search ends.

    Returns:
        payload string scalar and quality int32 scalar; "" and 0 where not even the lowest fits.
    """
    return _bisect(encode, fits, highest, upwards=True)


def lowest_that_reaches(encode, reaches, highest=HIGHEST):
    """The payload of the lowest quality that reaches a goal.

    Args:
        encode: function of quality int32 scalar to payload string scalar.
        reaches: function of payload to bool scalar, true from some quality on.
        highest: int, or int32 scalar: where the search ends.

    Returns:
        payload string scalar and quality int32 scalar; "" and 0 where not even the highest does.
    """
    return _bisect(encode, reaches, highest, upwards=False)


def _bisect(encode, wanted, highest, upwards):
    """The last wanted payload on the way up or down, and its quality; "" and 0 where there is none.

    What is wanted lies at one end of the scale: the search goes `upwards` from it, or downwards.
    """

    def halve(low, high, best, found):
        middle = (low + high) // 2
        payload = encode(middle)
        hit = wanted(payload)
        up = tf.equal(hit, upwards)
        return (
            tf.where(up, middle + 1, low),
            tf.where(up, high, middle - 1),
            tf.where(hit, payload, best),
            tf.where(hit, middle, found),
        )

    _, _, best, found = tf.while_loop(
        lambda low, high, *_: low <= high,
        halve,
        (tf.constant(LOWEST), tf.convert_to_tensor(highest), tf.constant(""), tf.constant(0)),
    )
    return best, found
