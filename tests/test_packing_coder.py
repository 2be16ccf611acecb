"""The integers of packing: the range coder, the exact tables, the predicting network."""

import ast
import inspect
import os
import subprocess
import sys
import zlib

import keras
import numba
import numpy as np
import pytest

from cnn_compression.packing import exact, kernels, predictor, range_coder
from cnn_compression.packing.network import PredictorNetwork

LOG1P_CRC, PROBABILITIES_CRC = 169912854, 4105982096
SMALL = {"trunk1": 16, "trunk2": 16, "last": 16, "features": 16, "hidden": 16}


def _code(ones, bits=None, data=None):
    """Bits -> bytes, or the other way round."""
    coder = range_coder.reader(data) if bits is None else range_coder.writer(4 * len(ones) + 8)
    given = [0] * len(ones) if bits is None else bits
    coded = [kernels.code(*coder, one, bit) for one, bit in zip(ones, given, strict=True)]
    if bits is None:
        return coded, range_coder.is_finished(*coder)
    return range_coder.finish(*coder)


@pytest.mark.parametrize("least", [1, 128, 30000])
@pytest.mark.parametrize("count", [0, 1, 2, 7, 5000])
def test_bits_come_back_and_take_what_they_tell(least, count):
    random = np.random.default_rng(count)
    ones = random.integers(least, 65536 - least, count).tolist()
    bits = (random.integers(0, 65536, count) < ones).astype(int).tolist()
    data = _code(ones, bits)
    assert _code(ones, data=data) == (bits, True)
    chances = [one if bit else 65536 - one for one, bit in zip(ones, bits, strict=True)]
    told = -np.log2(np.array(chances) / 65536).sum() / 8
    assert told - 1 <= len(data) <= 1.001 * told + 2


@pytest.mark.parametrize("bit", [0, 1])
def test_what_was_certain_takes_next_to_nothing(bit):
    ones = [65535 if bit else 1] * 100_000
    data = _code(ones, [bit] * len(ones))
    assert len(data) <= 2 and _code(ones, data=data) == ([bit] * len(ones), True)


def test_bytes_that_were_cut_changed_or_added_do_not_end_where_they_should():
    ones = np.random.default_rng(0).integers(1, 65536, 300).tolist()
    bits = [one // 32768 for one in ones]
    data = _code(ones, bits)
    broken = [data[:end] for end in range(len(data))]
    broken += [data + bytes([more]) for more in (0, 1, 255)] + [data + bytes(5)]
    for other in broken:
        assert _code(ones, data=other) != (bits, True)


def test_more_than_there_is_room_for_is_an_error():
    state, data = range_coder.writer(3)
    for _ in range(64):
        kernels.code(state, data, 32768, 1)
    with pytest.raises(OverflowError, match="more than 3 bytes"):
        range_coder.finish(state, data)


def test_tables_are_what_they_say_and_the_same_everywhere():
    sizes = np.arange(exact.GREATEST + 1)
    np.testing.assert_array_equal(exact.log1p_table(), np.round(kernels.ONE * np.log2(1.0 + sizes)))
    logits = np.arange(-exact.LOGIT_LIMIT, exact.LOGIT_LIMIT + 1) / kernels.ONE
    probabilities = 65536 / (1 + np.exp(-logits))
    inside = np.clip(np.round(probabilities), 128, 65408)
    np.testing.assert_array_equal(exact.probability_table(), inside)
    steps = np.arange(1, 256)
    np.testing.assert_array_equal(exact.log2_steps(steps), np.round(128 * np.log2(steps)))
    tables = (exact.log1p_table().astype("<i2"), exact.probability_table().astype("<i4"))
    assert [zlib.crc32(table.tobytes()) for table in tables] == [LOG1P_CRC, PROBABILITIES_CRC]


def _network(contexts=6, predicting=4, seed=1):
    """With random weights, large enough for everything to count."""
    keras.utils.set_random_seed(seed)
    network = PredictorNetwork(contexts, predicting, **SMALL)
    random = np.random.default_rng(seed)
    for weight in network.weights:
        scale = {"around": 0.02, "itself": 0.02, "decisions": 0.1}.get(weight.name, 0.2)
        weight.assign(scale * random.standard_normal(weight.shape))
    return network


def _planes(random, rows, columns, chroma=False, large=False):
    """Luma, Cb and Cr of coefficients as JPEG has them: many zeros, small numbers."""

    def plane(rows, columns):
        spread = np.exp(-np.arange(64) / 8) * (40 if large else 6)
        levels = np.round(random.laplace(0, spread, (rows, columns, 64)))
        return np.pad(levels.astype(np.int16), ((2, 0), (2, 1), (0, 0)))

    return (plane(2 * rows, 2 * columns) if chroma else plane(rows, columns),) + tuple(
        plane(rows, columns) for _ in range(2)
    )


STEPS = np.arange(10, 74, dtype=np.int32)
TWO = np.array([2, 2], np.int32)


def code(net, planes, own, data=None, kinds=(4,)):
    """A plane's bytes, or from them the plane."""
    coder = range_coder.writer(1 << 18) if data is None else range_coder.reader(data)
    base = predictor.base(net, STEPS, kinds)
    room = predictor.working_room(net)
    kernels.code_plane(predictor.arranged(net), *coder, base, planes, own, STEPS, TWO, room)
    return range_coder.finish(*coder) if data is None else range_coder.is_finished(*coder)


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("own", [0, 1, 2])
def test_planes_come_back(own, large):
    net = _network(9 if own else 6, 5 if own else 4).integers()
    planes = _planes(np.random.default_rng(own), 3, 5, chroma=own > 0, large=large)
    data = code(net, planes, own)
    read = list(planes)
    read[own] = np.zeros_like(planes[own])
    assert code(net, tuple(read), own, data)
    np.testing.assert_array_equal(read[own], planes[own])


def _around(plane, row, column):
    offsets = ((0, -1), (-1, 0), (-1, -1), (-1, 1), (0, -2), (-2, 0))
    return np.stack([plane[row + 2 + down, column + 2 + right] for down, right in offsets])


@pytest.mark.parametrize("large", [False, True])
def test_the_integers_take_the_bits_that_the_floats_foresee(large):
    network, (rows, columns) = _network(), (6, 7)
    planes = _planes(np.random.default_rng(3), rows, columns, large=large)
    places = [(row, column) for row in range(rows) for column in range(columns)]
    around = np.stack([_around(planes[0], *place) for place in places])
    kinds = np.zeros((len(places), predictor.KINDS), np.float32)
    kinds[:, 4] = 1
    for number, (row, column) in enumerate(places):
        edges = (column == 0, row == 0, column == columns - 1, row == rows - 1)
        kinds[number, :4] = edges
    steps = np.tile(STEPS, (len(places), 1))
    bits = network(around, kinds, steps, planes[0][2:, 2:-1].reshape(-1, 64)).numpy().sum()
    assert 8 * len(code(network.integers(), planes, 0)) == pytest.approx(bits, rel=0.01, abs=16)


def test_sums_are_exact_in_any_order():
    """Units of hidden layers in another order: other orders of all sums, and the same bytes."""
    net, random = _network().integers(), np.random.default_rng(5)
    planes = _planes(random, 3, 4)
    first, second, third, own, hidden = (random.permutation(size) for size in (16,) * 5)
    permuted = net._replace(
        trunk1_positive=net.trunk1_positive[:, first],
        trunk1_negative=net.trunk1_negative[:, first],
        trunk1_bias=net.trunk1_bias[first],
        steps=net.steps[:, first],
        kinds=net.kinds[:, first],
        trunk2=net.trunk2[:, second][..., first],
        trunk2_bias=net.trunk2_bias[:, second],
        last1=net.last1[:, third][..., second],
        last1_bias=net.last1_bias[:, third],
        last2=net.last2[..., third],
        features=net.features[:, own][:, :, second],
        features_bias=net.features_bias[:, own],
        own_positive=net.own_positive.reshape(64, 64, 16)[..., own].reshape(64, -1),
        own_negative=net.own_negative.reshape(64, 64, 16)[..., own].reshape(64, -1),
        of_last=net.of_last.reshape(64, 64, 16)[..., own].reshape(64, -1),
        predicted=net.predicted[:, own],
        hidden=net.hidden[:, hidden][:, :, own],
        hidden_bias=net.hidden_bias[:, hidden],
        decisions=net.decisions[:, :, hidden],
    )
    permuted = predictor.Predictor(*(np.ascontiguousarray(part) for part in permuted))
    assert code(permuted, planes, 0) == code(net, planes, 0)


@pytest.mark.parametrize(
    "setting",
    [
        pytest.param("NUMBA_DISABLE_JIT=1", id="Python"),
        pytest.param("NUMBA_CPU_NAME=generic", id="loops", marks=pytest.mark.slow),
    ],
)
def test_the_same_bytes_from_another_compiler(setting, tmp_path):
    """From Python's own integers, or NumPy's; and without the processor's matrix instructions."""
    data = code(_network().integers(), _planes(np.random.default_rng(6), 2, 2), 0)
    script = (
        "import numpy as np, test_packing_coder as t\n"
        "planes = t._planes(np.random.default_rng(6), 2, 2)\n"
        "print(t.code(t._network().integers(), planes, 0).hex())"
    )
    settings = {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": os.path.dirname(__file__)}
    settings |= {"NUMBA_CACHE_DIR": str(tmp_path), **dict([setting.split("=")])}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | settings,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split()[-1] == data.hex()


@pytest.mark.parametrize("outputs", [8, 24, 32, 72])
def test_products_of_matrices(outputs):
    """Of one index of several, for every way to share outputs among registers, against NumPy."""
    random = np.random.default_rng(outputs)
    x = random.integers(-32768, 32768, 10).astype(np.int16)
    weights = random.integers(-3000, 3000, (3, 5, outputs, 2)).astype(np.int16)
    total = random.integers(-99, 99, outputs + 1).astype(np.int32)
    expected = total.copy()
    expected[:-1] += np.einsum("pni,pi->n", weights[1].astype(np.int32), x.reshape(5, 2))
    numba.njit(lambda *values: kernels._add_products(*values))(total, x, weights, 1)
    np.testing.assert_array_equal(total, expected)


@pytest.mark.parametrize("count", [0, 1, 6, 9])
@pytest.mark.parametrize("width", [16, 64, 96])
def test_sums_of_rows(width, count):
    random = np.random.default_rng(width + count)
    rows = random.integers(0, 7, count + 1).astype(np.int32)
    factors = random.integers(-32768, 32768, count + 1).astype(np.int16)
    weights = random.integers(-3000, 3000, (7, width)).astype(np.int16)
    total = random.integers(-99, 99, width).astype(np.int32)
    expected = total + factors[:count].astype(np.int32) @ weights[rows[:count]].astype(np.int32)
    numba.njit(lambda *values: kernels._add_rows(*values))(total, weights, rows, factors, count)
    np.testing.assert_array_equal(total, expected)


def test_compiled_code_takes_no_code_and_no_tables_from_other_files():
    """numba keeps compiled code by the file it is from, and misses that another has changed."""
    from cnn_compression.jpeg import scan_decoding, scan_encoding
    from cnn_compression.packing import symbols

    for module, least in {kernels: 6, scan_decoding: 6, scan_encoding: 6, symbols: 2}.items():
        own = [f for f in vars(module).values() if hasattr(f, "py_func")]
        assert len(own) >= least
        for function in own:
            assert function.py_func.__module__ == module.__name__
        tree = ast.parse(inspect.getsource(module))
        imported = {
            alias.asname or alias.name
            for node in tree.body
            if isinstance(node, ast.ImportFrom) and node.module.startswith("cnn_compression")
            for alias in node.names
        }
        taken = {
            node.id
            for function in tree.body
            if isinstance(function, ast.FunctionDef) and function.decorator_list
            for part in function.body
            for node in ast.walk(part)
            if isinstance(node, ast.Name)
        }
        # Numbers that tell kinds apart are no tables.
        others = {n for n in taken & imported if not isinstance(getattr(module, n), int)}
        assert not others


@pytest.mark.parametrize("own", [0, 1])
def test_what_is_read_of_garbage_stays_inside(monkeypatch, own):
    """Without a compiler, where an index beyond an array's end is an error."""
    for name, function in vars(kernels).items():
        if hasattr(function, "py_func"):
            monkeypatch.setattr(kernels, name, function.py_func)
    random = np.random.default_rng(own)
    net = _network(9 if own else 6, 5 if own else 4).integers()
    for ratio in (TWO, np.ones(2, np.int32)):
        planes = tuple(np.zeros((4, 5, 64), np.int16) for _ in range(3))
        # After ones alone, which say large levels, what random bytes say.
        state, data = range_coder.reader(bytes(100) + random.bytes(300))
        base, room = predictor.base(net, STEPS, (4,)), predictor.working_room(net)
        kernels.code_plane(
            predictor.arranged(net), state, data, base, planes, own, STEPS, ratio, room
        )
        assert np.abs(planes[own]).max() > 1000


def test_weights_that_could_leave_their_integers_are_refused():
    network = _network()
    network.trunk2.assign(17 * np.ones(network.trunk2.shape))
    with pytest.raises(ValueError, match="trunk2 has weights up to 17: too large"):
        network.integers()
    network.trunk2.assign(15 * np.ones(network.trunk2.shape))
    with pytest.raises(ValueError, match="trunk2: sums up to .* leave 32 bits"):
        network.integers()
    with pytest.raises(ValueError, match=r"hidden: widths must divide by 16. Received: 8, 16"):
        PredictorNetwork(**SMALL | {"hidden": 8}).integers()
    net = _network().integers()
    least = np.full_like(net.trunk1_negative, -32768)
    least[:, 1:] = 0
    with pytest.raises(ValueError, match="trunk1: sums up to"):
        many = [np.tile(part, (100, 1)) for part in (net.trunk1_positive, least)]
        predictor.checked(net._replace(trunk1_positive=many[0], trunk1_negative=many[1]))


def test_training_makes_the_bits_fewer_and_its_gradients_are_finite():
    import tensorflow as tf

    network = PredictorNetwork(**SMALL)
    planes = _planes(np.random.default_rng(7), 8, 8)
    around = np.stack([_around(planes[0], *divmod(n, 8)) for n in range(64)])
    block = planes[0][2:, 2:-1].reshape(-1, 64)
    steps = np.tile(STEPS, (64, 1))
    network.start_predictions(around, steps, block)
    kinds = np.zeros((64, predictor.KINDS), np.float32)
    optimizer = keras.optimizers.Adam(0.01)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            bits = tf.reduce_mean(tf.reduce_sum(network(around, kinds, steps, block), -1))
        gradients = tape.gradient(bits, network.trainable_variables)
        optimizer.apply_gradients(zip(gradients, network.trainable_variables, strict=True))
        return bits, [tf.reduce_all(tf.math.is_finite(gradient)) for gradient in gradients]

    first, finite = step()
    assert all(finite)
    for _ in range(20):
        last, _ = step()
    assert last < 0.8 * first


def test_a_network_knows_its_settings():
    network = PredictorNetwork(**SMALL)
    again = PredictorNetwork.from_config(network.get_config())
    assert again.settings == network.settings
    assert {w.name: w.shape for w in again.weights} == {w.name: w.shape for w in network.weights}
