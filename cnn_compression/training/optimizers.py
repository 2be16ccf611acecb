"""Optimisers for convolutional networks."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="cnn_compression")
class ConvMuon(keras.optimizers.Muon):
    """Muon (Jordan et al. 2024; scaled as in 2502.16982) for convolution kernels, Adam for others.

    A kernel `[height, width, in, out]` is orthogonalised as a matrix of `height x width x in` rows.
    Biases, dense kernels and convolutions that start from zero (names that end in `tail`) get Adam.
    """

    def __init__(self, learning_rate=1e-3, **kwargs):
        kwargs = {"weight_decay": None, "adam_weight_decay": None} | kwargs
        super().__init__(learning_rate, **kwargs)

    def _should_use_adamw(self, variable):
        return len(variable.shape) != 4 or "tail" in variable.path

    def _muon_update_step(self, gradient, variable, lr, m):
        self.assign(m, self.momentum * m + gradient)
        update = gradient + self.momentum * m if self.nesterov else m
        matrix = ops.reshape(update, (-1, variable.shape[-1]))
        matrix = self.lr_adjust(self.zeropower_via_newtonschulz5(matrix, self.ns_steps))
        self.assign_sub(
            variable, ops.cast(lr, variable.dtype) * ops.reshape(matrix, variable.shape)
        )
