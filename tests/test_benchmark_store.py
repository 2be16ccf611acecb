"""A run that was stopped goes on: nothing is lost, nothing is measured twice."""

import json
import math

import numpy as np
import pytest
import tensorflow as tf
from rows_by_hand import row

from cnn_compression import benchmark
from cnn_compression.benchmark import rows
from cnn_compression.benchmark.run import collect, downscale
from cnn_compression.benchmark.store import Store


class Counting(benchmark.Jpeg):
    """JPEG that says what it was given, and is stopped at a call."""

    qualities = (10, 30, 50)

    def __init__(self, name="counting", stop_at=None):
        self.name, self.calls, self.stop_at = name, [], stop_at

    def encode(self, image, quality):
        if len(self.calls) == self.stop_at:
            raise KeyboardInterrupt
        self.calls.append((image.shape, quality))
        return super().encode(image, quality)


def without_seconds(path):
    seconds = {"encode_seconds", "decode_seconds"}
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [{name: line[name] for name in line if name not in seconds} for line in lines]


@pytest.fixture(scope="module")
def pictures(photos):
    return {"a.png": photos["coffee"][:64, :64], "b.png": photos["camera"][:64, :80]}


def run(path, pictures, codecs, factors=(1, 2)):
    with Store(path) as store:
        return [
            row
            for name, image in pictures.items()
            for row in collect(codecs, name, image, factors, store)
        ]


@pytest.mark.parametrize("stop_at", [0, 1, 2, 3, 6, 13])
def test_a_stopped_run_goes_on_where_it_was(tmp_path, pictures, stop_at):
    whole, stopped = tmp_path / "whole.jsonl", tmp_path / "stopped.jsonl"
    expected = run(whole, pictures, [Counting("one"), Counting("two")])
    with pytest.raises(KeyboardInterrupt):
        run(stopped, pictures, [Counting("one"), Counting("two", stop_at)])
    before = stopped.read_bytes()

    second = [Counting("one"), Counting("two")]
    again = run(stopped, pictures, second)
    assert stopped.read_bytes().startswith(before)
    assert without_seconds(stopped) == without_seconds(whole)
    assert [row.key for row in again] == [row.key for row in expected]
    # Each row is measured once; a codec that has anything to do for an image warms up before.
    new = len(stopped.read_text().splitlines()) - before.count(b"\n")
    warm_ups = sum(len(codec.calls) for codec in second) - new
    assert 1 <= warm_ups <= 8 - before.count(b"\n") // 3

    third = Counting("one")
    assert len(run(stopped, pictures, [third])) == 12 and third.calls == []


def test_rows_of_other_settings_are_not_taken(tmp_path, pictures):
    path = tmp_path / "rows.jsonl"
    run(path, pictures, [Counting()], [1])
    for change in ({"settings": "other"}, {"library": "other 2"}, {"name": "other"}):
        codec = Counting()
        for name, value in change.items():
            setattr(codec, name, value)
        assert len(run(path, pictures, [codec], [1])) == 6
        assert len(codec.calls) == 2 * (1 + 3)
    codec = Counting()
    codec.qualities = (30, 60)
    found = run(path, pictures, [codec], [1])
    assert [row.quality for row in found] == [30, 60] * 2
    assert [quality for _, quality in codec.calls] == [60, 60] * 2  # warm-up and measurement
    darker = {name: image // 2 for name, image in pictures.items()}
    codec = Counting()
    run(path, darker, [codec], [1])
    assert len(codec.calls) == 2 * (1 + 3)


def test_rows_without_a_score_are_measured_anew(tmp_path, pictures):
    path = tmp_path / "rows.jsonl"
    run(path, pictures, [Counting()], [1])
    whole = without_seconds(path)
    lines = path.read_text().splitlines()
    for number in (1, 4):  # as of before SSIMULACRA2 was measured
        values = json.loads(lines[number])
        del values["ssimulacra2"]
        lines[number] = json.dumps(values)
    before = "\n".join(lines) + "\n"
    path.write_text(before)
    codec = Counting()
    found = run(path, pictures, [codec], [1])
    assert [quality for _, quality in codec.calls] == [30, 30] * 2  # warm-up and measurement
    assert path.read_text().startswith(before)
    assert without_seconds(path)[6:] == [whole[1], whole[4]]
    assert not any(math.isnan(row.ssimulacra2) for row in found)
    third = Counting()
    assert repr(run(path, pictures, [third], [1])) == repr(found) and third.calls == []


@pytest.mark.parametrize("torn", [b'{"codec": "a', b"{}", b"\xff\xfe"])
def test_a_torn_last_line_is_dropped(tmp_path, torn):
    path = tmp_path / "rows.jsonl"
    kept, new = row("a", "x", 10, 0.2, 30), row("a", "x", 20, 0.4, 32)
    path.write_bytes(rows.json_line(kept).encode() + torn)
    with Store(path) as store:
        assert repr(list(store.rows.values())) == repr([kept])  # equal, NaN included
        store.add(new)
    assert path.read_text() == rows.json_line(kept) + rows.json_line(new)


def test_a_bad_line_is_named(tmp_path):
    path = tmp_path / "rows.jsonl"
    line = rows.json_line(row("a", "x", 10, 0.2, 30))
    text = line + '{"codec": "a"}\n' + line + "torn"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"rows\.jsonl, line 2: expected a row"):
        Store(path)
    assert path.read_text() == text


def test_each_row_is_on_disk_at_once(tmp_path):
    path = tmp_path / "rows.jsonl"
    with Store(path) as store:
        for quality in (10, 20):
            store.add(row("a", "x", quality, 0.2, 30))
            assert len(path.read_text().splitlines()) == quality // 10


def test_without_a_file_rows_stay_in_memory(pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert len(run(None, pictures, [Counting()], [1])) == 6
    assert list(tmp_path.iterdir()) == []


def test_progress_hears_of_every_row(pictures, tmp_path):
    path, heard = tmp_path / "rows.jsonl", []
    for qualities in ((10,), (10, 30)):
        codec = Counting()
        codec.qualities = qualities
        with Store(path) as store:
            collect([codec], "a", pictures["a.png"], [1], store, lambda *what: heard.append(what))
    assert heard == [("counting", True), ("counting", False), ("counting", True)]


def test_sizes_are_measured_apart(pictures):
    found = run(None, pictures, [Counting()], [1, 2, 4])
    sizes = {(row.image, row.factor): (row.height, row.width) for row in found}
    assert sizes == {
        ("a.png", 1): (64, 64), ("a.png", 2): (32, 32), ("a.png", 4): (16, 16),
        ("b.png", 1): (64, 80), ("b.png", 2): (32, 40), ("b.png", 4): (16, 20),
    }  # fmt: skip
    assert len({row.key for row in found}) == len(found) == 2 * 3 * 3
    assert any(math.isnan(row.ms_ssim) for row in found)


def test_downscaling_is_the_mean_over_areas(photos):
    image = photos["coffee"]
    assert downscale(image, 1) is image
    squares = image.reshape(48, 4, 64, 4, 3).astype(float).mean((1, 3))
    small = downscale(image, 4)
    assert small.dtype == np.uint8
    assert np.abs(small - squares).max() <= 0.5 + 1e-4
    assert downscale(image[:, :, :1], 3).shape == (64, 85, 1)
    assert downscale(image[:3, :2], 8).shape == (1, 1, 3)
    flat = tf.fill([7, 11, 3], tf.constant(77, tf.uint8)).numpy()
    np.testing.assert_array_equal(downscale(flat, 3), np.full((2, 4, 3), 77))
