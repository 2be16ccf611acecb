"""How functions stand in graphs: whole, once, or as a part of what calls them."""

import numpy as np
import pytest
import tensorflow as tf

from cnn_compression.tensors.functions import one_of, shared, traced

INTEGER = tf.TensorSpec((), tf.int32)


def functions_in(concrete):
    return [function.signature.name for function in concrete.graph.as_graph_def().library.function]


def test_what_is_shared_stands_once():
    weight = tf.Variable(3)
    triple = shared(lambda x: x * weight, [INTEGER])
    whole = tf.function(lambda x: triple(triple(x)) + triple(x), [INTEGER])
    assert whole(tf.constant(2)) == 24 and triple(2) == 6
    weight.assign(5)
    assert whole(tf.constant(2)) == 60
    names = functions_in(whole.get_concrete_function())
    assert len(names) == 1
    [function] = whole.get_concrete_function().graph.as_graph_def().library.function
    assert function.attr["_noinline"].b


def test_what_is_traced_is_a_part_of_its_caller():
    add = traced(lambda x: x + 1, [INTEGER])
    assert isinstance(add(1), tf.Tensor) and add(1) == 2
    whole = tf.function(lambda x: add(add(x)), [INTEGER])
    assert whole(tf.constant(1)) == 3
    assert functions_in(whole.get_concrete_function()) == []


@pytest.mark.parametrize("number, expected", [(0, 0), (3, 30), (99, 990)])
def test_one_of_many_is_taken(number, expected):
    chosen = tf.function(
        lambda number, x: one_of(
            number, [lambda x, n=n: x * 10 * n for n in range(100)], x, tf.int32, []
        ),
        [INTEGER, INTEGER],
    )
    assert chosen(number, 1) == expected
    # Out of range is the last, as with tf.switch_case.
    assert chosen(-1, 1) == chosen(100, 1) == 990


def test_one_of_many_fails_as_its_function_does():
    def fail(x):
        with tf.control_dependencies([tf.debugging.assert_equal(x, 0, "not nothing")]):
            return tf.identity(x)

    chosen = tf.function(lambda x: one_of(0, [fail], x, tf.int32, []), [INTEGER])
    assert chosen(0) == 0
    with pytest.raises(tf.errors.InvalidArgumentError, match="not nothing"):
        chosen(1)


def test_the_result_has_the_shape_that_is_said():
    run = tf.function(
        lambda x: one_of(0, [lambda x: tf.stack([x, x])], x, tf.int32, [2]), [INTEGER]
    )
    concrete = run.get_concrete_function()
    assert concrete.structured_outputs.shape == (2,)
    np.testing.assert_array_equal(run(7), [7, 7])
