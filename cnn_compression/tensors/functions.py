"""How functions stand in a graph: once, however often they are called, or as a part of it.

TensorFlow copies what a graph calls into each place that calls it, and optimises every copy, for
each signature, before a served model answers for the first time. So what is heavy stays whole and
is looked at when it is first needed; `export.graph` does the same for branches.
"""

import functools

import tensorflow as tf

# Grappler leaves bodies of tf.data's functions alone until they are run: what we want of all.
UNTOUCHED = "_tf_data_function"
WHOLE = {"_noinline": True, UNTOUCHED: True}


def shared(function, signature):
    """A `tf.function` that is not copied into its callers, nor optimised with each of them.

    Args:
        function: of tensors to tensors, in stock ops; autograph is not run on it.
        signature: list of `tf.TensorSpec`.
    """
    return tf.function(function, signature, autograph=False, experimental_attributes=WHOLE)


def traced(function, signature):
    """`function` as a `tf.function` where it is called eagerly, and as it is inside of another.

    Graphs hold calls of functions only where these are `shared`.

    Args:
        function, signature: as of `shared`.
    """
    compiled = tf.function(function, signature, autograph=False)

    @functools.wraps(function)
    def call(*arguments):
        return (compiled if tf.executing_eagerly() else function)(*arguments)

    return call


def one_of(number, functions, argument, dtype, shape):
    """What one of many functions gives: the others cost their names.

    `tf.switch_case` has all of its branches copied, optimised and placed, whichever is taken.

    Args:
        number: int32 scalar, position in `functions`; the last one where it is none.
        functions: of the argument to a tensor, in stateless ops of the CPU, without variables.
        argument: tensor.
        dtype, shape: of the result, shape a list.

    Returns:
        The tensor.
    """
    spec = tf.TensorSpec.from_tensor(argument)
    branches = [shared(function, [spec]).get_concrete_function() for function in functions]
    with tf.device("CPU:0"):
        [result] = tf.raw_ops.StatelessCase(
            branch_index=number,
            input=[argument],
            Tout=[dtype],
            branches=branches,
            output_shapes=[shape],
        )
    return result
