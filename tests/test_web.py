"""Payloads restored by a page in headless Chromium: the pictures that Python makes of them."""

import base64
import importlib.util
import io
import shutil
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest
from chromium import NEEDS_CHROMIUM, watched_page
from payload_files import joined, parts_of, sealed, with_missing_tables
from PIL import Image
from small_pairs import pair

from cnn_compression.codec import Codec
from cnn_compression.export.onnx_models import export_onnx
from cnn_compression.payload import layout

WEB = Path(__file__).parents[1] / "web"
pytestmark = [
    pytest.mark.slow,
    NEEDS_CHROMIUM,
    pytest.mark.skipif(shutil.which("npm") is None, reason="no npm on this machine"),
]

# A page of the site without pictures of its own.
EMPTY = '<!doctype html><meta charset="utf-8"><title>empty</title><link rel="icon" href="data:,">'
RESTORE = """
async ({payload, options}) => {
  const bytes = Uint8Array.from(atob(payload), (letter) => letter.charCodeAt(0));
  const { restore } = await import("/cnn-compression.js");
  const progress = [];
  const onProgress = (done, total) => progress.push([done, total]);
  try {
    const bitmap = await restore(new Blob([bytes]), {...options, onProgress});
    const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
    canvas.getContext("2d").drawImage(bitmap, 0, 0);
    const blob = await canvas.convertToBlob();
    const url = await new Promise((resolve) => {
      const reader = new FileReader();
      reader.onload = () => resolve(reader.result);
      reader.readAsDataURL(blob);
    });
    return {png: url.split(",")[1], progress};
  } catch (error) {
    return {name: error.name, reason: error.reason, message: error.message, progress};
  }
}
"""
# The size of a restored picture, how many tiles it took, and cuts of 64 x 64 pixels.
CUTS = """
async ({address, places}) => {
  const { restore } = await import("/cnn-compression.js");
  const blob = await (await fetch(address)).blob();
  let tiles = 0;
  const bitmap = await restore(blob, {onProgress: () => tiles++});
  const cut = ([x, y]) => {
    const context = new OffscreenCanvas(64, 64).getContext("2d");
    context.drawImage(bitmap, -x, -y);
    return Array.from(context.getImageData(0, 0, 64, 64).data);
  };
  return {size: [bitmap.height, bitmap.width], tiles, cuts: places.map(cut)};
}
"""
# A page's <img>s, and what it hears of them, in order.
SHOW = """
async (files) => {
  window.heard = [];
  for (const kind of ["progress", "done", "error"])
    addEventListener(`restore${kind}`, ({target, detail}) =>
      heard.push([target.id, kind, detail.error?.reason ?? detail]));
  for (const [id, payload] of Object.entries(files)) {
    const img = document.createElement("img");
    Object.assign(img, {id, alt: `picture ${id}`});
    img.dataset.restore = "";
    img.src = payload;
    document.body.append(img);
  }
  await Promise.allSettled([...document.images].map((img) => img.decode()));
}
"""
RESTORE_ALL = """
async () => {
  const { restoreAll } = await import("/cnn-compression.js");
  return (await restoreAll()).map(({status, reason}) => reason?.message ?? status);
}
"""
BOXES = """
() => [...document.images].map((img) => {
  const {x, y, width, height} = img.getBoundingClientRect();
  return {id: img.id, alt: img.alt, state: img.dataset.restore, box: [x, y, width, height],
          natural: [img.naturalWidth, img.naturalHeight]};
})
"""


def script(name):
    spec = importlib.util.spec_from_file_location(f"web_{name}", WEB / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The page's folder, as `make web` builds it."""
    build = script("build")
    if not build.RUNTIME.is_dir():
        run = subprocess.run(["npm", "ci"], cwd=WEB, capture_output=True, text=True)
        if run.returncode:
            pytest.skip(f"npm cannot install ONNX Runtime: {run.stderr.splitlines()[-1:]}")
    folder = tmp_path_factory.mktemp("web") / "built"
    build.build(folder, ["default"])
    (folder / "empty.html").write_text(EMPTY)
    return folder


def served(folder, isolated):
    server = script("serve").make_server(folder, isolated=isolated)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@pytest.fixture(scope="module")
def address(built):
    server = served(built, isolated=True)
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.fixture
def page(browser, address):
    """An empty page of the site."""
    with watched_page(browser, address, f"{address}empty.html", (1000, 800), 300_000) as page:
        yield page


def restore(page, payload, **options):
    payload = base64.b64encode(payload).decode()
    return page.evaluate(RESTORE, {"payload": payload, "options": options})


def pixels(png, channels):
    image = Image.open(io.BytesIO(base64.b64decode(png)))
    image = np.asarray(image.convert("RGB"))
    if channels == 1:
        assert (image == image[:, :, :1]).all()
    return image[:, :, :channels]


def assert_equal_pictures(one, other):
    """At most a level off at 99.9 % of the samples, and half a level on average."""
    assert one.shape == other.shape
    apart = np.abs(one.astype(int) - other)
    assert (apart > 1).mean() <= 1e-3 and apart.mean() <= 0.5


def write(folder, name, payload):
    (folder / name).write_bytes(payload)
    return f"/{name}"


@pytest.mark.parametrize("quality", [5, 35, 50, 95])
@pytest.mark.parametrize(
    "name, size", [("coffee", (192, 256)), ("rocket", (141, 203)), ("camera", (77, 150))]
)
def test_a_restored_picture_is_python_s(page, codec, photos, name, size, quality):
    image = photos[name][: size[0], : size[1]]
    payload = codec.encode(image, quality)
    answer = restore(page, payload)
    assert answer["progress"] == [[1, 1]]
    assert_equal_pictures(pixels(answer["png"], image.shape[-1]), codec.decode(payload))


@pytest.mark.parametrize(
    "quality, height, width, tiles", [(5, 800, 780, 4), (50, 70, 1600, 3), (95, 1600, 70, 3)]
)
def test_tiles_leave_no_seams(page, codec, photos, quality, height, width, tiles):
    image = np.tile(photos["coffee"], (9, 7, 1))[:height, :width]
    payload = codec.encode(image, quality)
    answer = restore(page, payload)
    assert answer["progress"] == [[done + 1, tiles] for done in range(tiles)]
    assert_equal_pictures(pixels(answer["png"], 3), codec.decode(payload))


def test_24_megapixels_take_many_tiles_and_no_more_memory_than_there_is(
    page, built, photos, tmp_path
):
    """By small networks, which take seconds for them; all else is as large as ever."""
    model = pair(2)
    model.save(tmp_path / "small.keras")
    export_onnx(tmp_path / "small.keras", output=built / "models")
    codec = Codec(model)
    image = np.tile(photos["coffee"], (21, 24, 1))[:4000, :6000]
    payload = codec.encode(image, 50)
    places = [(0, 0), (5936, 3936), (2976, 1568), (1500, 750)]
    answer = page.evaluate(CUTS, {"address": write(built, "large.jpg", payload), "places": places})
    assert answer["size"] == [4000, 6000] and answer["tiles"] == 6 * 8
    image_hat = codec.decode(payload)
    for (x, y), cut in zip(places, answer["cuts"], strict=True):
        cut = np.uint8(cut).reshape(64, 64, 4)[:, :, :3]
        assert_equal_pictures(cut, image_hat[y : y + 64, x : x + 64])


def test_without_threads_it_is_only_slower(browser, built, codec, photos):
    payload = codec.encode(photos["coffee"], 50)
    server = served(built, isolated=False)
    page = browser.new_page()
    page.goto(f"http://127.0.0.1:{server.server_port}/empty.html")
    assert not page.evaluate("crossOriginIsolated")
    assert_equal_pictures(pixels(restore(page, payload)["png"], 3), codec.decode(payload))
    page.close()
    server.shutdown()
    server.server_close()


def test_what_other_programs_tell_of_a_picture_does_not_turn_it(page, codec, photos):
    """Ours behind an Exif that says the picture lies on its side; a trailer behind its end."""
    payload = codec.encode(photos["coffee"], 35)
    jfif, *others = parts_of(payload)
    body = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    exif = b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body
    edited = joined([exif, jfif, *others]) + b"a trailer"
    assert Image.open(io.BytesIO(edited)).getexif()[0x0112] == 6
    assert_equal_pictures(pixels(restore(page, edited)["png"], 3), codec.decode(payload))


def with_header(payload, at, value):
    """A payload that says otherwise, its checksum made to fit."""
    at += layout.own_segments(payload)[0].start
    return sealed(payload[:at] + value + payload[at + len(value) :])


def spoiled(payload):
    """Files that are not restored: name -> contents, reason, and what is said."""
    number = layout.NUMBERS_START
    damaged = bytearray(payload)
    damaged[-40] ^= 0xFF
    plain = joined(part for part in parts_of(payload) if part[1] != 0xE9)
    of_other = with_header(payload, layout.FINGERPRINT_START, b"\1" * 8)
    return {
        "damaged": (bytes(damaged), "damaged", "checksum"),
        "cut": (payload[: len(payload) // 2], "damaged", "cut short"),
        "plain": (plain, "foreign", "not a payload"),
        "text": (b"no picture", "foreign", "not a payload"),
        "other": (of_other, "model", "made by model 0101010101010101, which this page"),
        "scale": (with_header(payload, number + 9, b"\3"), "model", "no scale 3"),
        "size": (with_header(payload, number, b"\0\0\0\x09"), "damaged", "another size"),
        "large": (with_header(payload, number, b"\xff" * 8), "size", "at most 64000000"),
        "tables": (sealed(with_missing_tables(payload)), "damaged", "cannot be decoded"),
    }


def test_what_is_no_payload_of_ours_is_refused_with_the_reason(page, codec, photos):
    for name, (contents, reason, words) in spoiled(codec.encode(photos["coffee"], 50)).items():
        answer = restore(page, contents)
        assert (answer["name"], answer["reason"]) == ("RestoreError", reason), name
        assert words in answer["message"] and answer["progress"] == [], name


def test_two_pictures_are_restored_in_place_and_others_stay_their_preview(
    page, built, codec, photos
):
    payloads = {
        "odd": codec.encode(photos["rocket"][:141, :203], 50),
        "small": codec.encode(photos["camera"], 10),
    }
    bad = spoiled(payloads["odd"])
    files = payloads | {name: bad[name][0] for name in ("damaged", "plain", "other")}
    addresses = {name: write(built, f"{name}.jpg", data) for name, data in files.items()}
    page.evaluate(SHOW, addresses | {"missing": "/nosuch.jpg"})
    before = {one["id"]: one for one in page.evaluate(BOXES)}
    outcomes = page.evaluate(RESTORE_ALL)
    assert outcomes[:2] == ["fulfilled"] * 2 and "checksum" in outcomes[2]
    assert "not a payload" in outcomes[3] and "made by model" in outcomes[4]
    after = {one["id"]: one for one in page.evaluate(BOXES)}
    heard = page.evaluate("heard")
    for name in files:
        one, other = before[name], after[name]
        assert (one["alt"], one["box"]) == (other["alt"], other["box"]) and one["alt"]
    for name, payload in payloads.items():
        image_hat = codec.decode(payload)
        assert after[name]["natural"] == [image_hat.shape[1], image_hat.shape[0]]
        assert after[name]["state"] == "done"
        progress, done = (detail for target, kind, detail in heard if target == name)
        assert progress == {"done": 1, "total": 1}
        assert (done["width"], done["height"]) == (image_hat.shape[1], image_hat.shape[0])
        assert done["bytes"] == len(payload) and done["seconds"] > 0
    for name, reason in {"damaged": "damaged", "plain": "foreign", "other": "model"}.items():
        assert after[name]["natural"] == before[name]["natural"]
        assert after[name]["state"] == "failed"
        assert [event[1:] for event in heard if event[0] == name] == [["error", reason]]
    assert ["missing", "error", "failed"] in heard
    assert page.evaluate(RESTORE_ALL) == []  # each is begun once


def test_what_is_shown_is_what_was_restored(page, built, codec, photos):
    payload = codec.encode(photos["coffee"], 50)
    page.evaluate(SHOW, {"shown": write(built, "shown.jpg", payload)})
    page.evaluate("document.images[0].width = 256")
    assert page.evaluate(RESTORE_ALL) == ["fulfilled"]
    shot = Image.open(io.BytesIO(page.locator("img").screenshot())).convert("RGB")
    assert_equal_pictures(np.asarray(shot), codec.decode(payload))


def test_the_gallery_restores_six_photographs(page, address):
    page.goto(address)
    views = page.locator("img[data-restore]")
    assert views.count() == 6
    boxes = [view.bounding_box() for view in views.all()]
    page.get_by_text("6 of 6 restored.").wait_for()
    assert [view.bounding_box() for view in views.all()] == boxes
    assert {view.get_attribute("data-restore") for view in views.all()} == {"done"}
    assert all(text.startswith("Restored in") for text in page.locator(".state").all_inner_texts())
    assert all(page.locator(".views img").evaluate_all("all => all.map((img) => img.alt)"))


def test_the_gallery_obeys_the_keyboard(page, address):
    page.goto(address)
    page.get_by_text("6 of 6 restored.").wait_for()
    figure = page.locator("figure").first
    shots = {"restored": figure.locator(".views").screenshot()}
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.value") == "restored"
    for view in ("preview", "jpeg"):
        page.keyboard.press("ArrowLeft")
        assert page.evaluate("document.activeElement.value") == view
        shots[view] = figure.locator(".views").screenshot()
    assert len(set(shots.values())) == 3


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_gallery_fits_a_phone_by_day_and_by_night(browser, address, scheme):
    page = browser.new_page(
        viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True, color_scheme=scheme
    )
    page.goto(address)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    shot = Image.open(io.BytesIO(page.screenshot())).convert("L")
    corner = shot.getpixel((2, 2))
    assert corner > 240 if scheme == "light" else corner < 50
    page.close()
