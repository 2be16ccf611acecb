"""Puts the page together in web/built: scripts, ONNX Runtime, models, and a gallery's pictures.

    python web/build.py && python web/serve.py

ONNX Runtime comes from web/node_modules, where `npm ci --prefix web` puts it. `make web` does all.
"""

import argparse
import functools
import html
import io
import json
import shutil
from pathlib import Path

HERE = Path(__file__).resolve().parent
SCRIPTS = ("cnn-compression.js", "worker.js", "payload.js", "farmhash.js", "tiles.js")
RUNTIME = HERE / "node_modules" / "onnxruntime-web" / "dist"
RUNTIME_FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
RUNTIME_FILES += ("ort.webgpu.min.mjs", "ort-wasm-simd-threaded.asyncify.mjs")
RUNTIME_FILES += ("ort-wasm-simd-threaded.asyncify.wasm",)

QUALITY = 50
PHOTOGRAPHS = {  # of scikit-image's: what each shows
    "coffee": "A cup of coffee on a wooden table",
    "chelsea": "A cat's face",
    "astronaut": "An astronaut in an orange suit",
    "rocket": "A rocket on its launch pad at dusk",
    "motorcycle": "A motorcycle in a workshop",
    "camera": "A cameraman on a lawn, in grey",
}
FIGURE = """
<figure>
  <div class="views">
    <img src="pictures/{name}.cnn.jpg" data-restore alt="{alt}" width="{width}" height="{height}">
    <img class="preview" src="pictures/{name}.cnn.jpg" alt="{alt}: the preview"
         width="{width}" height="{height}" loading="lazy">
    <img class="jpeg" src="pictures/{name}.jpg" alt="{alt}: as JPEG"
         width="{width}" height="{height}" loading="lazy">
  </div>
  <figcaption>
    <fieldset><legend>{alt}</legend>
      <label><input type="radio" name="{name}" value="jpeg"> JPEG</label>
      <label><input type="radio" name="{name}" value="preview"> Preview</label>
      <label><input type="radio" name="{name}" value="restored" checked> Restored</label>
    </fieldset>
    <p>{bytes:,} bytes, {psnr:.1f} dB; JPEG: {jpeg_bytes:,} bytes, {jpeg_psnr:.1f} dB</p>
    <p class="state" role="status">Preview</p>
  </figcaption>
</figure>
"""


def build(output, models=("default", "eyes"), gallery=True):
    """Makes the folder `output` anew: all of the models, and a gallery by the first."""
    from cnn_compression.export.onnx_models import export_onnx

    shutil.rmtree(output, ignore_errors=True)
    (output / "ort").mkdir(parents=True)
    for name in SCRIPTS:
        shutil.copy(HERE / name, output)
    for name in RUNTIME_FILES:
        shutil.copy(RUNTIME / name, output / "ort")
    for model in models:
        export_onnx(model, output=output / "models", weights="float16")
    if gallery:
        build_gallery(output, models[0])


def build_gallery(output, model):
    import cnn_compression

    codec = cnn_compression.load(model)
    (output / "pictures").mkdir()
    figures = [figure(codec, name, alt, output) for name, alt in PHOTOGRAPHS.items()]
    page = (HERE / "gallery" / "index.html").read_text(encoding="utf-8")
    page = page.replace("<!-- figures -->", "".join(figures))
    (output / "index.html").write_text(page, encoding="utf-8")
    for name in ("gallery.js", "gallery.css"):
        shutil.copy(HERE / "gallery" / name, output)


def figure(codec, name, alt, output):
    """Writes a photograph as a payload and as a JPEG; its part of the page."""
    from cnn_compression.tensors.metrics import psnr

    image = photograph(name)
    payload = codec.encode(image, QUALITY)
    jpeg, decoded = jpeg_of_size(image, len(payload))
    (output / "pictures" / f"{name}.cnn.jpg").write_bytes(payload)
    (output / "pictures" / f"{name}.jpg").write_bytes(jpeg)
    return FIGURE.format(
        name=name,
        alt=html.escape(alt),
        height=image.shape[0],
        width=image.shape[1],
        bytes=len(payload),
        psnr=float(psnr(image, codec.decode(payload))),
        jpeg_bytes=len(jpeg),
        jpeg_psnr=float(psnr(image, decoded)),
    )


def photograph(name):
    """uint8 `[H, W, C]`."""
    import skimage.data

    if name == "motorcycle":
        return skimage.data.stereo_motorcycle()[0]
    image = getattr(skimage.data, name)()
    return image if image.ndim == 3 else image[:, :, None]


def jpeg_of_size(image, num_bytes):
    """The best JPEG of no more bytes, or the smallest there is; and its pixels."""
    import numpy as np
    from PIL import Image

    @functools.cache
    def jpeg(quality):
        file = io.BytesIO()
        pixels = image[:, :, 0] if image.shape[2] == 1 else image
        Image.fromarray(pixels).save(
            file, "jpeg", quality=quality, optimize=True, progressive=True, subsampling="4:2:0"
        )
        return file.getvalue()

    best = max((q for q in range(1, 96) if len(jpeg(q)) <= num_bytes), default=1)
    pixels = np.asarray(Image.open(io.BytesIO(jpeg(best))))
    return jpeg(best), pixels.reshape(image.shape)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=HERE / "built")
    parser.add_argument("--models", default="default,eyes", help="the first is the gallery's")
    arguments = parser.parse_args()
    build(arguments.output, arguments.models.split(","))
    sizes = {
        part: sum(file.stat().st_size for file in (arguments.output / part).rglob("*.*"))
        for part in ("models", "ort", "pictures")
    }
    print(f"{arguments.output}: {json.dumps(sizes)} bytes")


if __name__ == "__main__":
    main()
