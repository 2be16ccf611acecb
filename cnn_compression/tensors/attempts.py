"""Failures as values, in graphs of stock TensorFlow ops: one bad item need not fail its batch."""

import tensorflow as tf


def attempt(function, argument, otherwise):
    """What a function gives, or something else where an op in it fails.

    TensorFlow has no op that catches errors. But a `tf.data` pipeline can drop elements whose map
    fails, and its kernels are part of every TensorFlow and of TensorFlow Serving.

    Args:
        function: of a tensor to a tensor.
        argument: tensor.
        otherwise: tensor of the result's dtype and rank.

    Returns:
        The tensor, and bool scalar: whether the function came to its end.
    """
    result = tf.data.Dataset.from_tensors(argument).map(lambda x: (function(x), True))
    failure = tf.data.Dataset.from_tensors((otherwise, False))
    both = result.ignore_errors().concatenate(failure)
    return both.take(1).get_single_element()


def otherwise_said(condition, *parts):
    """ "" where a condition holds, else the joined `parts`: strings, and integer scalars."""
    texts = [part if isinstance(part, str) else tf.strings.as_string(part) for part in parts]
    return tf.where(condition, "", tf.strings.join(texts))


def unless_wrong(status, function, *nothing):
    """Goes on where nothing is wrong so far.

    Args:
        status: string scalar, empty where nothing is wrong.
        function: of no argument to tensors like `nothing` and a status.
        nothing: what the tensors are where something is wrong.

    Returns:
        The tensors and the status: those of `function`, or `nothing` and `status` as given.
    """
    return tf.cond(tf.equal(status, ""), function, lambda: (*nothing, status))
