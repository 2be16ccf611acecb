"""Weights for the `paper` networks as MatConvNet lays them, which the paper's authors worked with.

A network is the `layers` of MatConvNet's `vl_simplenn`: dicts, in the order in which they are run.

    type   weights
    conv   filters [h, w, in, out], biases [out]
    bnorm  multipliers [C], biases [C], moments [C, 2]: mean, and sigma = sqrt(variance + epsilon)

Other types (`relu`, `loss`) have no weights and are passed over. Vectors may be rows or columns,
and dimensions of 1 may be missing, as MATLAB leaves them out. Both convolve without turning the
kernel, and their pixels are in [0, 1] as ours. What differs:

- their RecCNN gives what is to be taken away from the picture, ours what is added: so conv20 is
  negated;
- Keras adds its epsilon to the variance: so that is sigma**2 less epsilon;
- conv2..conv19 have no biases here: normalisation takes a bias away from the mean.

`benchmarks/paper.py` reads such layers from MATLAB's files, and measures what they give.
"""

import numpy as np


def set_com_weights(network, layers):
    """Gives a `PaperComCNN` the weights of layers as above: 3 convolutions.

    Raises:
        ValueError: where there are other layers, or weights of other shapes.
    """
    convolutions = [network.conv1, network.conv2, network.conv3]
    for layer, weights in zip(convolutions, _weights(layers, ["conv"] * 3), strict=True):
        layer.set_weights(_like(layer, weights))


def set_rec_weights(network, layers):
    """Gives a `PaperRecCNN` the weights of layers as above: 20 convolutions, 18 normalisations.

    Raises:
        ValueError: where there are other layers, or weights of other shapes.
    """
    first, *inner, last = _weights(layers, ["conv", *["conv", "bnorm"] * 18, "conv"])
    network.conv1.set_weights(_like(network.conv1, first))
    for number, (conv, norm) in enumerate(zip(network.convs, network.norms, strict=True)):
        (kernel, bias), (gamma, beta, moments) = inner[2 * number : 2 * number + 2]
        conv.set_weights(_like(conv, [kernel]))
        mean, sigma = np.reshape(moments, (-1, 2)).T
        variance = np.square(sigma, dtype=np.float64) - norm.epsilon
        norm.set_weights(_like(norm, [gamma, beta, mean - np.ravel(bias), variance]))
    network.conv20.set_weights([-value for value in _like(network.conv20, last)])


def _weights(layers, types):
    """The weights of the layers that have any, which must be of these types."""
    layers = [layer for layer in layers if layer["type"] in ("conv", "bnorm")]
    found = [layer["type"] for layer in layers]
    if found != types:
        raise ValueError(f"expected layers {', '.join(types)}. Received: {', '.join(found)}")
    return [layer["weights"] for layer in layers]


def _like(layer, weights):
    """Arrays in the shapes of a Keras layer's, which they have but for dimensions of 1."""
    shapes = [tuple(variable.shape) for variable in layer.weights]
    received = [np.shape(values) for values in weights]
    if [_wide(shape) for shape in received] != [_wide(shape) for shape in shapes]:
        raise ValueError(f"{layer.name}: expected weights of shapes {shapes}. Received: {received}")
    return [np.reshape(values, shape) for values, shape in zip(weights, shapes, strict=True)]


def _wide(shape):
    return [side for side in shape if side != 1]
