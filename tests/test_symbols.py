"""Range coding of integers by fixed tables: exact, near the entropy, and safe with any bytes."""

import itertools

import numpy as np
import pytest

from cnn_compression.models import latent
from cnn_compression.models.latent import as_frequencies
from cnn_compression.packing import symbols
from cnn_compression.packing.symbols import SymbolsError, decode, encode


def drawn(count, shares, seed=0):
    """Symbols `[count, columns]`, each drawn as often as its column's shares say; the tables."""
    generator = np.random.default_rng(seed)
    columns = [generator.choice(len(row), count, p=row / np.sum(row)) for row in shares]
    return np.stack(columns, 1), as_frequencies(shares)


SHARES = np.array([[1, 0, 0, 0, 0], [1, 2, 4, 2, 1], [1e-4, 1, 1e-4, 0, 0], [1, 1, 1, 1, 1]])


def test_the_models_tables_are_those_of_the_coder():
    assert symbols.BITS == latent.FREQUENCY_BITS


@pytest.mark.parametrize("count", [0, 1, 2, 1000])
def test_what_was_coded_comes_back(count):
    drawn_symbols, frequencies = drawn(count, SHARES)
    coded = encode(drawn_symbols, frequencies)
    np.testing.assert_array_equal(decode(coded, count, frequencies), drawn_symbols)


def test_the_least_likely_symbols_come_back():
    frequencies = as_frequencies([[1] + 99 * [0]])
    rare = np.arange(100)[:, None] % 100
    coded = encode(rare, frequencies)
    assert len(coded) <= 2 * 100 + 5
    np.testing.assert_array_equal(decode(coded, 100, frequencies), rare)


def by_the_book(rows, frequencies):
    """What the module's text says, with Python's integers: for each symbol, from the last one."""
    number, out = 2**32, b""
    for row in rows[::-1]:
        for column in range(len(row) - 1, -1, -1):
            table = [int(frequency) for frequency in frequencies[column]]
            own, below = table[row[column]], sum(table[: row[column]])
            while number // own * 2**16 + number % own + below >= 2**40:
                number, out = number >> 8, bytes([number & 255]) + out
            number = number // own * 2**16 + number % own + below
    return number.to_bytes(5, "big") + out


def test_the_bytes_are_those_of_the_text():
    drawn_symbols, frequencies = drawn(300, SHARES)
    assert encode(drawn_symbols, frequencies) == by_the_book(drawn_symbols, frequencies)


def test_all_short_messages_come_back_and_no_two_are_the_same():
    frequencies = as_frequencies([[1, 0, 9], [5, 5, 1]])
    seen = set()
    for message in itertools.product(range(3), repeat=6):
        rows = np.reshape(message, (3, 2))
        coded = encode(rows, frequencies)
        np.testing.assert_array_equal(decode(coded, 3, frequencies), rows)
        seen.add(coded)
    assert len(seen) == 3**6


def test_bytes_are_near_the_entropy():
    drawn_symbols, frequencies = drawn(50_000, SHARES)
    taken = np.take_along_axis(frequencies.T, drawn_symbols, 0) / 2**symbols.BITS
    ideal = -np.log2(taken).sum() / 8
    assert ideal - 1 < len(encode(drawn_symbols, frequencies)) < 1.001 * ideal + 5


def test_any_other_bytes_are_refused_or_other_symbols():
    drawn_symbols, frequencies = drawn(200, SHARES)
    coded = encode(drawn_symbols, frequencies)
    for size in range(len(coded)):
        with pytest.raises(SymbolsError, match="damaged"):
            decode(coded[:size], 200, frequencies)
    with pytest.raises(SymbolsError, match="do not end where they should"):
        decode(coded + b"\0", 200, frequencies)
    generator = np.random.default_rng(1)
    refused = 0
    for _ in range(300):
        noise = generator.bytes(generator.integers(len(coded) + 5))
        try:
            found = decode(noise, 200, frequencies)
            assert 0 <= found.min() <= found.max() < 5
        except SymbolsError:
            refused += 1
    assert refused > 290


def test_what_is_read_of_garbage_stays_inside(monkeypatch):
    """Without a compiler, where an index beyond an array's end is an error."""
    for name in ("_read", "_write"):
        monkeypatch.setattr(symbols, name, getattr(symbols, name).py_func)
    drawn_symbols, frequencies = drawn(60, SHARES)
    assert (decode(encode(drawn_symbols, frequencies), 60, frequencies) == drawn_symbols).all()
    generator = np.random.default_rng(2)
    for size in (5, 6, 20, 400):
        for noise in (b"\xff" * size, generator.bytes(size)):
            with pytest.raises(SymbolsError):
                decode(noise, 60, frequencies)


def test_few_bytes_cannot_promise_many_symbols():
    with pytest.raises(SymbolsError, match="20 bytes cannot hold 1000000000000 x 4 symbols"):
        decode(bytes(20), 10**12, as_frequencies(SHARES))


def test_what_has_no_frequency_is_refused():
    frequencies = as_frequencies(SHARES)
    with pytest.raises(ValueError, match=r"expected symbols of 0..4. Received: 0..5"):
        encode(np.array([[0, 1, 2, 5]]), frequencies)
    with pytest.raises(ValueError, match="expected 3 rows of frequencies"):
        encode(np.zeros((1, 3), int), frequencies)
    with pytest.raises(ValueError, match="that sum to 65536"):
        encode(np.zeros((1, 4), int), frequencies // 2 + 1)
