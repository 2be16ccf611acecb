"""Rate-distortion curves as figures for people: SVG with its text as text, and PNG."""

import io
from dataclasses import dataclass

import numpy as np

from cnn_compression.benchmark.codecs import MissingLibraryError
from cnn_compression.benchmark.curves import points

# Okabe & Ito's palette, which colour-blind people can tell apart; vermilion is ours.
OURS = ("#D55E00", "#7A3300", "#F0A36B", "#B0005A", "#6B5BD2")
COLOURS = {
    "JPEG": "#555555",
    "WebP": "#0072B2",
    "JPEG 2000": "#56B4E9",
    "AVIF": "#009E73",
    "JPEG XL": "#CC79A7",
    "HEIC": "#E69F00",
}
OTHERS = ("#999999", "#B58B6A", "#8C8CC0")  # dashed
TICKS = (0.1, 0.25, 0.5, 1, 2, 4)
STYLE = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "svg.fonttype": "none",
    "svg.hashsalt": "cnn-compression",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "axes.axisbelow": True,
}


@dataclass(frozen=True)
class Axis:
    """How a measure is drawn: its label, its scale (forward, inverse) or None, and its ticks."""

    label: str
    scale: tuple | None = None
    ticks: tuple[float, ...] = ()


# Close to 1 is where the differences are: equal steps of this axis are equal ratios of the error.
AXES = {
    "psnr": Axis("PSNR, dB"),
    "ms_ssim": Axis(
        "MS-SSIM",
        (lambda x: -np.log10(1 - np.minimum(x, 1 - 1e-6)), lambda y: 1 - 10 ** -np.asarray(y)),
        (0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998),
    ),
    "ssimulacra2": Axis("SSIMULACRA2"),
}


def draw(curves, measure, title, ours=(), bpp_range=(0.06, 2.5)):
    """Draws the curves of a measure over bpp.

    Args:
        curves: see `cnn_compression.benchmark.curves.curves`.
        measure: of `AXES`.
        title: above the figure.
        ours: names of the curves that stand out.
        bpp_range: what is shown, at most.

    Returns:
        dict of "svg" and "png" to the file's bytes, the same for the same curves.

    Raises:
        ValueError: no curve has a value in the range.
        MissingLibraryError: without matplotlib.
    """
    shown = {name: _visible(*points(curve, measure), *bpp_range) for name, curve in curves.items()}
    shown = {name: curve for name, curve in shown.items() if curve[0].size}
    looks = _looks(shown, ours)
    if not shown:
        raise ValueError(f"expected a curve with {measure} in {bpp_range} bpp. Received: none")
    try:
        import matplotlib
    except ImportError as error:
        raise MissingLibraryError("a plot", "matplotlib") from error
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 4.8), layout="none")
        FigureCanvasAgg(figure)
        axes = figure.add_axes((0.085, 0.11, 0.66, 0.80))
        _set_axes(axes, AXES[measure], shown)
        for name, (rates, values) in shown.items():
            axes.plot(rates, values, label=name, clip_on=False, **looks[name])
        axes.set_title(title, loc="left", fontsize=10, pad=10)
        _label_ends(axes, shown, looks)
        return {kind: _file(figure, kind) for kind in ("svg", "png")}


def _visible(rates, values, low, high):
    """A curve's part between two rates, its ends interpolated in log bpp where it goes on."""
    finite = np.isfinite(values)
    rates, values = rates[finite], values[finite]
    ends = [rate for rate in (low, high) if rates.size and rates[0] < rate < rates[-1]]
    inside = (rates >= low) & (rates <= high)
    at_ends = np.interp(np.log(ends), np.log(rates), values) if ends else []
    rates, values = np.concatenate([rates[inside], ends]), np.concatenate([values[inside], at_ends])
    order = np.argsort(rates)
    return rates[order], values[order]


def _set_axes(axes, axis, shown):
    from matplotlib.ticker import MaxNLocator

    rates, values = (np.concatenate(parts) for parts in zip(*shown.values(), strict=True))
    low, high = rates.min() / 1.05, rates.max() * 1.05
    axes.set_xscale("log", base=2)
    ticks = [tick for tick in TICKS if low <= tick <= high]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set_xlim(low, high)
    if axis.scale:
        axes.set_yscale("function", functions=axis.scale)
        ticks = [tick for tick in axis.ticks if values.min() <= tick <= values.max()]
        axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.set_yticks([], minor=True)
    else:
        axes.yaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    span = axes.transScale.transform([(1, values.min()), (1, values.max())])[:, 1]
    margin = 0.02 * (span[1] - span[0])
    edges = axes.transScale.inverted().transform([(0, span[0] - margin), (0, span[1] + margin)])
    axes.set_ylim(*edges[:, 1])
    axes.set_xlabel("bits per pixel")
    axes.set_ylabel(axis.label)
    axes.grid(color="#E4E4E4", linewidth=0.6)
    axes.tick_params(length=0)


def _looks(names, ours):
    """How each curve is drawn: ours bold, codecs thin, and what is neither thin and dashed."""
    known = [name for name in names if name in ours or name in COLOURS]
    others = [name for name in names if name not in known]
    looks = {}
    for name in names:
        look = {"linewidth": 1.3, "marker": "o", "markersize": 2.5}
        if name in ours:
            number = list(ours).index(name)
            look |= {"color": OURS[number % len(OURS)], "linewidth": 2.6, "markersize": 4.5}
            look["zorder"] = 5
        elif name in known:
            look["color"] = COLOURS[name]
        else:
            look |= {"color": OTHERS[others.index(name) % len(OTHERS)], "linestyle": (0, (4, 2))}
        looks[name] = look
    return looks


def _label_ends(axes, shown, looks, gap=0.052):
    """Names at the right, in the order of the curves' ends, with a hair line to each end."""
    to_axes = axes.transData + axes.transAxes.inverted()
    ends = {name: (rates[-1], values[-1]) for name, (rates, values) in shown.items()}
    heights = {name: to_axes.transform(end)[1] for name, end in ends.items()}
    for name, height in _spread(heights, gap).items():
        colour = looks[name]["color"]
        axes.annotate(
            name,
            xy=ends[name],
            xytext=(1.05, height),
            textcoords="axes fraction",
            va="center",
            color=colour,
            fontweight="bold" if "zorder" in looks[name] else "normal",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.5, "alpha": 0.7,
                        "relpos": (0, 0.5), "shrinkA": 1, "shrinkB": 3},
        )  # fmt: skip


def _spread(heights, gap):
    """Moves labels apart to `gap` at least, keeping their order and their middle if they can."""
    names = sorted(heights, key=heights.get)
    placed = np.array([heights[name] for name in names])
    for _ in range(200):
        overlaps = np.maximum(gap - np.diff(placed), 0)
        if not overlaps.max(initial=0) > 1e-6:
            break
        placed[:-1] -= overlaps / 2
        placed[1:] += overlaps / 2
    placed = np.minimum(placed, 1 - gap * np.arange(len(placed))[::-1])  # none above the figure
    return dict(zip(names, placed, strict=True))


def _file(figure, kind):
    file = io.BytesIO()
    # Without what differs from run to run: the date, and the version of what wrote it.
    metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
    figure.savefig(
        file, format=kind, dpi=200, metadata=metadata, facecolor="white",
        bbox_inches="tight", pad_inches=0.1,
    )  # fmt: skip
    return file.getvalue()
