"""Bisection along the quality: the best payload that fits a size, the smallest that reaches a PSNR.

In stock TensorFlow ops, so that the same search runs eagerly, in `tf.data` and in what is exported.
Bytes and PSNR rise with quality, which is what bisection relies on; where a picture breaks that
rule, what is found still keeps the limit, but a higher quality may have kept it too.
"""

import tensorflow as tf

LOWEST, HIGHEST = 1, 100


def highest_that_fits(encode, fits):
    """The payload of the highest quality that fits.

    Args:
        encode: function of quality int32 scalar to payload string scalar.
        fits: function of payload to bool scalar, true up to some quality.

    Returns:
        payload string scalar and quality int32 scalar; "" and 0 where not even the lowest fits.
    """

    def halve(low, high, best):
        middle = (low + high + 1) // 2
        payload = encode(middle)
        fitting = fits(payload)
        return (
            tf.where(fitting, middle, low),
            tf.where(fitting, high, middle - 1),
            tf.where(fitting, payload, best),
        )

    low, _, best = tf.while_loop(
        lambda low, high, best: low < high,
        halve,
        (tf.constant(LOWEST - 1), tf.constant(HIGHEST), tf.constant("")),
    )
    return best, low


def lowest_that_reaches(encode, reaches):
    """The payload of the lowest quality that reaches a goal.

    Args:
        encode: function of quality int32 scalar to payload string scalar.
        reaches: function of payload to bool scalar, true from some quality on.

    Returns:
        payload string scalar and quality int32 scalar; "" and 0 where not even the highest does.
    """

    def halve(low, high, best):
        middle = (low + high) // 2
        payload = encode(middle)
        reaching = reaches(payload)
        return (
            tf.where(reaching, low, middle + 1),
            tf.where(reaching, middle, high),
            tf.where(reaching, payload, best),
        )

    low, _, best = tf.while_loop(
        lambda low, high, best: low < high,
        halve,
        (tf.constant(LOWEST), tf.constant(HIGHEST + 1), tf.constant("")),
    )
    return best, tf.where(low > HIGHEST, 0, low)
