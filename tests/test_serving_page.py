"""The page in headless Chromium: a real drop, a real restore, the keyboard, a phone, bad files."""

import base64
import io
import re
import socket

import numpy as np
import pytest
from chromium import NEEDS_CHROMIUM, watched_page
from PIL import Image
from small_pairs import pair

from cnn_compression import load
from cnn_compression.export import export
from cnn_compression.payload import layout
from cnn_compression.serving.local_server import LocalServer, Settings
from cnn_compression.tensors import metrics

pytestmark = [
    pytest.mark.slow,
    NEEDS_CHROMIUM,
]

DROP = """
async ({name, type, base64}) => {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name, {type}));
  document.body.dispatchEvent(
    new DragEvent("drop", {dataTransfer: transfer, bubbles: true, cancelable: true}));
}
"""


@pytest.fixture
def address(default_server):
    return f"http://127.0.0.1:{default_server.rest_api_port}/"


@pytest.fixture
def page(browser, address):
    with watched_page(browser, address, address, (1100, 900), 120_000) as page:
        yield page


@pytest.fixture(scope="module")
def png(photos):
    file = io.BytesIO()
    Image.fromarray(photos["coffee"]).save(file, "png")
    return file.getvalue()


def drop(page, name, contents, kind="image/png"):
    page.evaluate(DROP, {"name": name, "type": kind, "base64": base64.b64encode(contents).decode()})


def restored(page):
    """Waits until the figures stand; rows of label, bytes, bpp, PSNR."""
    page.wait_for_function("!document.querySelector('#result').hidden")
    page.wait_for_function("document.querySelector('#stage').ariaBusy === 'false'")
    return [line.split("\t") for line in page.inner_text("#figures").splitlines()]


def download(page, text):
    with page.expect_download() as waiting:
        page.click(f"text={text}")
    return waiting.value.suggested_filename, waiting.value.path().read_bytes()


def test_a_dropped_picture_is_compressed_restored_and_compared(page, codec, photos, png, tmp_path):
    drop(page, "coffee.png", png)
    rows = restored(page)
    assert [label for label, *_ in rows][0].startswith("JPEG")
    assert rows[-1][0] == "Restored"
    name, payload = download(page, "Download the payload")
    assert name == "coffee.cnn.jpg"
    assert payload == codec.encode(photos["coffee"])  # at everybody's default quality
    name, file = download(page, "Download the restored PNG")
    image_hat = np.asarray(Image.open(io.BytesIO(file)))[..., :3]
    np.testing.assert_array_equal(image_hat, codec.decode(payload))
    quality = float(metrics.psnr(photos["coffee"], image_hat))
    assert rows[-1][3] == f"{quality:.2f} dB"
    sizes = {row[0]: int(re.sub(r"\D", "", row[1])) for row in rows}
    assert sizes["Restored"] == len(payload) and sizes["Original"] == len(png)
    assert sizes["JPEG of no more bytes"] <= len(payload) and not page.is_visible("#note")
    for side in ("left", "right"):
        assert page.get_attribute(f"#{side}", "role") == "img"
        assert page.get_attribute(f"#{side}", "aria-label").startswith(f"coffee.png, {side} of")
    assert float(rows[-1][2]) == pytest.approx(8 * len(payload) / image_hat[..., 0].size, abs=6e-4)
    shot = Image.open(io.BytesIO(page.screenshot(path=tmp_path / "page.png")))
    assert len(shot.convert("RGB").getcolors(10**6)) > 1000


def test_a_size_is_kept(page, png):
    page.fill("#size", "3")
    drop(page, "coffee.png", png)
    restored(page)
    _, payload = download(page, "Download the payload")
    assert 2000 < len(payload) <= 3000


def test_a_jpeg_that_cannot_get_as_small_is_called_so(page, codec, photos, png):
    page.fill("#quality", "1")
    drop(page, "coffee.png", png)
    (label, size, *_), *_ = restored(page)
    ratio = int(size.replace(",", "")) / len(codec.encode(photos["coffee"], 1))
    assert ratio > 1
    assert label == f"JPEG at its smallest, {ratio:.1f} times the bytes"
    assert "no JPEG of this picture as small" in page.inner_text("#note")


@pytest.mark.parametrize("shape", [(256, 64), (60, 250)])
def test_a_picture_of_any_shape_has_no_bars(page, shape):
    file = io.BytesIO()
    Image.fromarray(np.zeros(shape, np.uint8)).save(file, "png")
    drop(page, "grey.png", file.getvalue())
    restored(page)
    stage = page.locator("#stage").bounding_box()
    picture = page.locator("#right").bounding_box()
    assert stage["height"] > 100
    for side in ("width", "height"):
        assert picture[side] == pytest.approx(stage[side], rel=0.05)


def test_a_dropped_payload_is_restored(page, codec, photos):
    payload = codec.encode(photos["camera"], 60)
    drop(page, "camera.cnn.jpg", payload, "image/jpeg")
    rows = restored(page)
    assert [row[3] for row in rows] == ["–", "–"]
    _, file = download(page, "Download the restored PNG")
    pixels = np.asarray(Image.open(io.BytesIO(file)))
    np.testing.assert_array_equal(pixels, codec.decode(payload)[..., 0])
    assert page.is_disabled("#compress")


@pytest.fixture(scope="module")
def two_models(tmp_path_factory):
    """A server of two small models, and their codecs; random weights make them two."""
    folder = tmp_path_factory.mktemp("models")
    for name in ("default", "eyes"):
        pair(2).save(folder / f"{name}.keras")
        export(folder / f"{name}.keras", name, folder)
    models = {name: str(folder / name) for name in ("default", "eyes")}
    with LocalServer(Settings(models, port=0, rest_api_port=0)) as server:
        yield server, {name: load(folder) for name, folder in models.items()}


def test_models_can_be_chosen_and_each_payload_finds_its_own(browser, two_models, photos, png):
    server, codecs = two_models
    address = f"http://127.0.0.1:{server.rest_api_port}/"
    with watched_page(browser, address, address, (1100, 900), 120_000) as page:
        page.wait_for_selector("#models", state="visible")
        for name in ("default", "eyes"):
            page.check(f"input[name=model][value={name}]")
            drop(page, "coffee.png", png)
            restored(page)
            payload = download(page, "Download the payload")[1]
            assert layout.read_header(payload).fingerprint == codecs[name].fingerprint
        payload = codecs["default"].encode(photos["camera"], 60)
        drop(page, "camera.cnn.jpg", payload, "image/jpeg")  # while the other one is chosen
        restored(page)
        file = download(page, "Download the restored PNG")[1]
        pixels = np.asarray(Image.open(io.BytesIO(file)))
        np.testing.assert_array_equal(pixels, codecs["default"].decode(payload)[..., 0])


def test_there_is_no_choice_where_there_is_one_model(page):
    page.wait_for_function("document.querySelector('[name=model][value=eyes]').disabled")
    assert not page.is_visible("#models")


def test_a_payload_is_known_wherever_its_segment_stands(page, codec, photos):
    payload = codec.encode(photos["camera"], 60)
    exif = b"\xff\xe1\x00\x0aExif\0\0MM"
    known = """async (base64) => (await import("./pictures.js")).isPayload(
        new Blob([Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0))]))"""

    def is_payload(data):
        return page.evaluate(known, base64.b64encode(data).decode())

    end = layout.own_segments(payload)[0].end
    assert is_payload(payload)
    assert is_payload(payload[:2] + exif + b"\xff" + payload[2:])  # a fill byte too
    assert not is_payload(payload[: layout.SEGMENT_START] + payload[end:])
    assert not any(is_payload(data) for data in (b"", b"\xff\xd8", b"CNNC", payload[:24]))


def test_divider_and_zoom_obey_the_keyboard(page, png):
    drop(page, "coffee.png", png)
    restored(page)
    page.focus("#divider")
    page.keyboard.press("Home")
    assert page.get_attribute("#divider", "aria-valuenow") == "0"
    page.keyboard.press("PageUp")
    assert page.get_attribute("#divider", "aria-valuenow") == "10"
    assert page.get_attribute("#divider", "aria-valuetext") == "10 % of the width"
    page.focus("#stage")
    before = page.inner_text("#zoom-shown")
    page.keyboard.press("+")
    assert page.inner_text("#zoom-shown") != before
    transforms = page.eval_on_selector_all(
        "#layers canvas", "all => all.map(c => c.style.transform)"
    )
    assert transforms[0] == transforms[1]
    page.keyboard.press("0")
    assert page.inner_text("#zoom-shown") == before


def test_the_divider_is_dragged(page, png):
    drop(page, "coffee.png", png)
    restored(page)
    box = page.locator("#stage").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + 50, steps=4)
    page.mouse.up()
    assert abs(int(page.get_attribute("#divider", "aria-valuenow")) - 25) <= 1


def test_what_is_wrong_is_said(page, codec, photos, png):
    drop(page, "coffee.png", png)
    restored(page)
    drop(page, "text.png", b"no picture")
    page.wait_for_function("document.querySelector('#message').className === 'error'")
    assert "text.png: This file is no picture that" in page.inner_text("#message")
    assert page.is_hidden("#result") and page.is_disabled("#compress")  # nothing of the last one
    payload = bytearray(codec.encode(photos["camera"], 60))
    payload[-20] ^= 0xFF
    drop(page, "camera.cnn.jpg", bytes(payload))
    page.wait_for_function("document.querySelector('#message').innerText.includes('checksum')")
    assert page.inner_text("#message").startswith("camera.cnn.jpg: ") and page.is_hidden("#result")
    assert layout.is_payload(payload)


def test_a_server_that_is_away_is_said(browser, address, png):
    page = browser.new_page()
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        away = f"http://127.0.0.1:{place.getsockname()[1]}"
    page.goto(f"{address}?server={away}")
    assert away in page.inner_text("header")
    drop(page, "coffee.png", png)
    page.wait_for_function("document.querySelector('#message').className === 'error'")
    assert f"{away} cannot be reached" in page.inner_text("#message")
    assert page.is_hidden("#result") and page.is_enabled("#compress")  # to try once more
    page.close()


def test_a_phone_needs_no_scrolling_sideways(browser, address, png):
    page = browser.new_page(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    page.goto(address)
    drop(page, "coffee.png", png)
    restored(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.close()
