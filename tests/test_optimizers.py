"""Muon on convolutions: orthogonal updates, Adam where there is none, exact resumption."""

import keras
import numpy as np
import tensorflow as tf

from cnn_compression.training.optimizers import ConvMuon

RNG = np.random.default_rng(0)


def variable(*shape, name="kernel"):
    return keras.Variable(RNG.normal(size=shape).astype(np.float32), name=name)


def test_a_kernel_moves_by_an_orthogonal_matrix():
    kernel = variable(3, 3, 4, 8)
    optimizer = ConvMuon(0.01)
    optimizer.build([kernel])
    before = kernel.numpy().reshape(36, 8)
    gradient = tf.constant(RNG.normal(size=(3, 3, 4, 8)).astype(np.float32))
    optimizer.apply_gradients([(gradient, kernel)])
    moved = (before - kernel.numpy().reshape(36, 8)) / 0.01
    # Scaled to the size of Adam's steps (2502.16982): 0.2 times the root of the longer side.
    singular = np.linalg.svd(moved / (0.2 * np.sqrt(36)))[1]
    assert (singular > 0.6).all() and (singular < 1.3).all()
    # Of a first step, Nesterov's momentum is the gradient itself: its own singular vectors.
    left, _, right = np.linalg.svd(gradient.numpy().reshape(36, 8), full_matrices=False)
    alignment = np.diag(left.T @ moved @ right.T) / (0.2 * np.sqrt(36))
    np.testing.assert_allclose(alignment, singular.mean(), atol=0.35)


def test_biases_dense_kernels_and_tails_get_adam():
    variables = [variable(5), variable(4, 6), variable(3, 3, 2, 4, name="tail_kernel")]
    copies = [keras.Variable(v.numpy()) for v in variables]
    gradients = [tf.constant(RNG.normal(size=v.shape).astype(np.float32)) for v in variables]
    muon, adam = ConvMuon(0.01), keras.optimizers.Adam(0.01)
    for optimizer, own in ((muon, variables), (adam, copies)):
        optimizer.build(own)
        for _ in range(3):
            optimizer.apply_gradients(list(zip(gradients, own, strict=True)))
    for one, other in zip(variables, copies, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-5, atol=1e-6)


def test_configuration_round_trip():
    optimizer = ConvMuon(0.003, momentum=0.9)
    other = ConvMuon.from_config(optimizer.get_config())
    assert other.get_config() == optimizer.get_config()
    assert (float(other.learning_rate), other.momentum) == (np.float32(0.003), 0.9)
