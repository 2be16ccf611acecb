"""JPEGs by Pillow, and what is asked of all of them."""

import io

from PIL import Image

from cnn_compression.jpeg import coefficients


def picture(photos, name="coffee", height=83, width=101, mode="RGB"):
    image = photos[name][:height, :width]
    return Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).convert(mode)


def by_pillow(image, **settings):
    file = io.BytesIO()
    image.save(file, "JPEG", **({"quality": 75} | settings))
    return file.getvalue()


def comes_back(jpeg):
    assert coefficients.write(coefficients.parse(jpeg)) == jpeg
    return True


def edited(jpeg, *edits):
    """Each (old, new) replaced where it stands first; it must stand there."""
    for old, new in edits:
        assert old in jpeg
        jpeg = jpeg.replace(old, new, 1)
    return jpeg
