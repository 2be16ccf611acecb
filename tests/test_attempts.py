"""A failing op as a value: eagerly, in loops, with what the graph around it holds."""

import pytest
import tensorflow as tf

from cnn_compression.tensors.attempts import attempt, otherwise_said, unless_wrong


def number(text):
    return tf.strings.to_number(text, tf.int32)


@pytest.mark.parametrize("text, expected", [("12", (12, True)), ("twelve", (-1, False))])
def test_eagerly(text, expected):
    result, done = attempt(number, tf.constant(text), tf.constant(-1))
    assert (int(result), bool(done)) == expected


def test_each_item_of_a_loop_stands_alone_and_variables_are_seen():
    factor = tf.Variable(10)

    @tf.function
    def run(texts):
        return tf.map_fn(
            lambda text: attempt(lambda t: factor * number(t), text, tf.constant(-1)),
            texts,
            fn_output_signature=(tf.int32, tf.bool),
        )

    results, done = run(tf.constant(["1", "", "x", "4"]))
    assert results.numpy().tolist() == [10, -1, -1, 40]
    assert done.numpy().tolist() == [True, False, False, True]


def test_shapes_that_are_known_at_run_time_only():
    def decode(data):
        return attempt(tf.io.decode_png, data, tf.zeros([0, 0, 0], tf.uint8))

    image = tf.reshape(tf.range(60, dtype=tf.int32), [4, 5, 3])
    png = tf.io.encode_png(tf.cast(image, tf.uint8))
    run = tf.function(decode, input_signature=[tf.TensorSpec([], tf.string)])
    for data, shape in [(png, (4, 5, 3)), (tf.strings.substr(png, 0, 40), (0, 0, 0))]:
        assert run(data)[0].shape == shape


def test_words_are_joined_with_numbers():
    assert otherwise_said(tf.constant(True), "wrong") == b""
    assert (
        otherwise_said(tf.constant(False), "wrong: ", tf.constant(3), " of 4") == b"wrong: 3 of 4"
    )
    each = otherwise_said(tf.constant([True, False]), "wrong: ", tf.constant([1, 2]))
    assert each.numpy().tolist() == [b"", b"wrong: 2"]


def test_nothing_runs_after_something_went_wrong():
    @tf.function
    def run(status, text):
        return unless_wrong(status, lambda: (number(text), "seen"), 7)

    assert [item.numpy() for item in run("bad", "not a number")] == [7, b"bad"]
    assert [item.numpy() for item in run("", "3")] == [3, b"seen"]
