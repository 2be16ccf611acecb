"""Rows -> Markdown tables."""

import math
from dataclasses import dataclass

from cnn_compression.benchmark import bd
from cnn_compression.benchmark.curves import (
    at_bpp,
    auc,
    curves,
    image_curves,
    mean_of_images,
    megapixels_per_second,
    points,
)
from cnn_compression.benchmark.rows import MEASURES, cell, cells

NAMES = {
    "psnr": "PSNR, dB",
    "psnr_y": "Luma PSNR, dB",
    "ms_ssim": "MS-SSIM",
    "ssimulacra2": "SSIMULACRA2",
}
# What is summed up, and compared by Bjontegaard deltas: by squared error, and by people's eyes.
COMPARED = ("psnr", "ssimulacra2")
AUC_RANGE = (0.125, 2.0)
# Over bpp itself: what a codec of 1/8 to 16/8 bits has in both directions when headers are counted.
LINEAR_AUC_RANGE = (0.13, 1.95)
NONE = "–"


@dataclass(frozen=True)
class Options:
    """What a report is made with.

    Attributes:
        title: of the set of images; see `title`.
        rates: bpp to interpolate at.
        anchor: name in the rows of the codec that the others are compared with, or None.
        bd_range: (low, high) bpp between which they are compared.
    """

    title: str
    rates: tuple[float, ...] = (0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0)
    anchor: str | None = None
    bd_range: tuple[float, float] = (0.1, 1.0)


def title(name, rows):
    """The set's name and how many images it has, "kodak, 24 images"."""
    count = len({(row.image, row.pixels) for row in rows if row.factor == rows[0].factor})
    images = f"{count} image{'s'[: count != 1]}"
    return f"{name}, {images}" if name else images


def markdown(rows, options):
    """The whole report.

    Args:
        rows: list of `Row`, not empty, of the same images for all codecs.
        options: `Options`.

    Returns:
        Markdown text.
    """
    factors = sorted({row.factor for row in rows})
    lines = [f"# {options.title}", "", *_codecs(rows)]
    if len(factors) > 1 and options.anchor:
        lines += _over_sizes(rows, factors, options)
    for factor in factors:
        lines += _one_size([row for row in rows if row.factor == factor], options)
    return "\n".join(lines)


def summary(rows, options):
    """The report in two tables a size: PSNR and SSIMULACRA2 at the rates, and that in bytes.

    Args, returns: as of `markdown`.
    """
    lines = []
    for factor in sorted({row.factor for row in rows}):
        of_size = [row for row in rows if row.factor == factor]
        means = curves(of_size)
        lines += [f"# {_heading(of_size, options)}", ""]
        for measure in COMPARED:
            lines += _sum(means, measure, options)
    return "\n".join(lines)


def _sum(means, measure, options):
    """A measure on the averaged curves, and the rate at equal values against the anchor's."""
    low, high = options.bd_range
    compared = options.anchor and bd.is_installed()
    head = [f"{NAMES[measure]}, at bpp", *(f"{rate:g}" for rate in options.rates)]
    head += [f"BD-rate against {options.anchor}, {low:g}..{high:g} bpp, %"] if compared else []
    body = []
    for codec, curve in means.items():
        values = [cell(at_bpp(curve, rate, measure), MEASURES[measure]) for rate in options.rates]
        if compared:
            rate = _between(bd.bd_rate, means[options.anchor], curve, measure, options)
            values.append("" if codec == options.anchor else _delta(rate, "+.1f"))
        body.append([codec, *values])
    return table(head, body)


def _between(delta, anchor, curve, measure, options):
    """A Bjontegaard delta of two curves."""
    return delta(points(anchor, measure), points(curve, measure), options.bd_range)


def table(head, body):
    """Lines of a Markdown table, and an empty one."""
    return [_line(head), "|---" * len(head) + "|", *map(_line, body), ""]


def _line(values):
    return f"| {' | '.join(map(str, values))} |"


def _codecs(rows):
    seen = dict.fromkeys((row.codec, row.library, row.settings) for row in rows)
    return table(["codec", "library", "settings"], seen)


def sizes(rows):
    """The sizes of the images: "768x512", or "768x512 to 1024x768" by their pixels."""
    found = sorted({(row.height * row.width, f"{row.width}x{row.height}") for row in rows})
    ends = dict.fromkeys([found[0][1], found[-1][1]])
    return " to ".join(ends)


def _heading(rows, options):
    factor = rows[0].factor
    scale = "" if factor == 1 else f", scaled down by {factor}"
    return f"{options.title}{scale}: {sizes(rows)}"


def _one_size(rows, options):
    means, images = curves(rows), image_curves(rows)
    lines = [f"## {_heading(rows, options)}", ""]
    for measure in NAMES:
        lines += _at_rates(means, images, measure, options.rates)
    if options.anchor:
        lines += _deltas(means, images, options)
    lines += _summary(rows, means, images)
    return lines + _qualities(means)


def _at_rates(means, images, measure, rates):
    """Both ways to a mean: of the images' values, and on the curve of means at each quality."""
    digits = MEASURES[measure]
    head = [f"{NAMES[measure]}, at bpp", *(f"{rate:g}" for rate in rates)]
    per_image = [
        [
            codec,
            *(
                cell(mean_of_images(own, lambda c, r=rate: at_bpp(c, r, measure)), digits)
                for rate in rates
            ),
        ]
        for codec, own in images.items()
    ]
    averaged = [
        [codec, *(cell(at_bpp(curve, rate, measure), digits) for rate in rates)]
        for codec, curve in means.items()
    ]
    return [
        f"{NAMES[measure]}: mean of each image's own curve at the rate, linear in log bpp "
        f"({NONE} where any image's curve does not reach it).",
        "",
        *table(head, per_image),
        f"{NAMES[measure]}: on the averaged curve, mean bpp and mean value at each quality.",
        "",
        *table(head, averaged),
    ]


def _deltas(means, images, options):
    low, high = options.bd_range
    heading = f"Bjontegaard deltas against {options.anchor}, {low:g} to {high:g} bpp"
    if not bd.is_installed():
        return [f"{heading}: need the extra `bench`.", ""]
    lines = [
        f"{heading}: on the averaged curves, with the interval that both span, and the mean of the "
        "images' own (of how many, where some do not overlap). Piecewise cubic; nothing is "
        "extrapolated.",
        "",
    ]
    for measure in COMPARED:
        lines += _deltas_of(measure, means, images, options)
    return lines


def _deltas_of(measure, means, images, options):
    name, _, unit = NAMES[measure].partition(", ")
    body = []
    for codec in means:
        if codec == options.anchor:
            continue
        rate, gain = (
            _between(delta, means[options.anchor], means[codec], measure, options)
            for delta in (bd.bd_rate, bd.bd_value)
        )
        rates, gains = (
            [
                _between(delta, anchor, own, measure, options).value
                for anchor, own in zip(images[options.anchor], images[codec], strict=True)
            ]
            for delta in (bd.bd_rate, bd.bd_value)
        )
        body.append(
            [codec, _delta(rate, "+.1f"), _interval(rate, ".1f"), _counted(rates, "+.1f"),
             _delta(gain, "+.2f"), _interval(gain, ".2g"), _counted(gains, "+.2f")]
        )  # fmt: skip
    head = ["", "BD-rate, %", f"over {unit or name}", "images' mean", f"BD-{NAMES[measure]}",
            "over bpp", "images' mean"]  # fmt: skip
    folds = [
        f"{codec} {dropped}"
        for codec, curve in means.items()
        if (dropped := _folds(curve, measure))
    ]
    left_out = f"Qualities that cost more and give less {name}: {', '.join(folds)}, left out here."
    return [*([left_out, ""] if folds else []), *table(head, body)]


def _folds(curve, measure):
    rates, values = points(curve, measure)
    return len(rates) - bd.efficient(rates, values).shape[1]


def _counted(values, form):
    """The mean of those that are there, and of how many."""
    there = [value for value in values if not math.isnan(value)]
    if not there:
        return "no overlap"
    of = "" if len(there) == len(values) else f" ({len(there)} of {len(values)})"
    return f"{sum(there) / len(there):{form}}{of}"


def _delta(delta, form):
    return "no overlap" if math.isnan(delta.value) else f"{delta.value:{form}}"


def _interval(delta, form):
    return NONE if math.isnan(delta.value) else f"{delta.low:{form}} to {delta.high:{form}}"


def _summary(rows, means, images):
    low, high = AUC_RANGE
    body = []
    for codec, curve in means.items():
        speed = megapixels_per_second([row for row in rows if row.codec == codec])
        body.append(
            [codec, cell(mean_of_images(images[codec], auc), 4), cell(auc(curve), 4)]
            + [cell(auc(curve, *LINEAR_AUC_RANGE, octaves=False), 4)]
            + [f"{value:.2f}" for value in speed]
        )
    head = ["", "AUC, mean of images", "AUC, averaged curve", "the same over bpp"]
    return [
        f"AUC of MS-SSIM: its mean over log2 bpp from {low:g} to {high:g}, or over bpp from "
        f"{LINEAR_AUC_RANGE[0]:g} to {LINEAR_AUC_RANGE[1]:g} ({NONE} where a curve does not span "
        "that). Speed: all pixels over all seconds, in one process.",
        "",
        *table([*head, "encode, Mpx/s", "decode, Mpx/s"], body),
    ]


def _qualities(means):
    head = ["codec", "quality", "bpp", "PSNR", "luma PSNR", "SSIM", "MS-SSIM", "SSIMULACRA2",
            "encode s", "decode s"]  # fmt: skip
    body = [
        [codec, f"{quality:g}", *cells(point)]
        for codec, curve in means.items()
        for quality, point in curve.items()
    ]
    return ["Means over the images at each quality.", "", *table(head, body)]


def _over_sizes(rows, factors, options):
    """Whether a ranking at one size holds at others."""
    if not bd.is_installed():
        return []
    by_factor = {f: curves([row for row in rows if row.factor == f]) for f in factors}
    codecs = [codec for codec in by_factor[factors[0]] if codec != options.anchor]
    low, high = options.bd_range
    lines = []
    for measure in COMPARED:
        body = [
            [
                codec,
                *(
                    _delta(
                        _between(bd.bd_rate, m[options.anchor], m[codec], measure, options), "+.1f"
                    )
                    for m in by_factor.values()
                ),
            ]
            for codec in codecs
        ]
        name = NAMES[measure].partition(",")[0]
        heading = (
            f"BD-rate in {name}, %, against {options.anchor}, {low:g} to {high:g} bpp, by size"
        )
        lines += [f"{heading}.", "", *table(["", *(f"1/{factor}" for factor in factors)], body)]
    return lines
