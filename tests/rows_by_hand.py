"""Rows whose numbers a test can check on paper."""

import math

from cnn_compression.benchmark import Row


def row(codec, image, quality, bpp, psnr, ms_ssim=math.nan, seconds=(1.0, 2.0), factor=1, **more):
    values = {
        "library": "library 1.0",
        "settings": "none",
        "pixels": "0123abcd",
        "height": 100,
        "width": 200,
        "bytes": round(bpp * 2500),
        "psnr_y": psnr + 1,
        "ssim": 0.5,
        "ssimulacra2": 3 * psnr - 70,
    } | more
    encode_seconds, decode_seconds = seconds
    return Row(
        codec=codec, image=image, quality=quality, factor=factor, bpp=bpp, psnr=psnr,
        ms_ssim=ms_ssim, encode_seconds=encode_seconds, decode_seconds=decode_seconds, **values,
    )  # fmt: skip


def ladder(codec, image="a.png", start=20.0, gain=5.0, rates=(0.0625, 0.125, 0.25, 0.5, 1, 2, 4)):
    """A curve that is a straight line over log2 bpp: `start` dB at 1/16 bpp, `gain` an octave."""
    return [
        row(codec, image, number + 1, rate, start + gain * math.log2(rate * 16),
            1 - 0.02 * (6 - math.log2(rate * 16)))
        for number, rate in enumerate(rates)
    ]  # fmt: skip
