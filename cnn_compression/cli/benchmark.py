"""`cnn-compression benchmark`: models beside the codecs that people would pick instead."""

import contextlib
import time
from pathlib import Path

from absl import flags

from cnn_compression import files
from cnn_compression.cli import common, file_loop, places, streams, words
from cnn_compression.cli.progress import BAR
from cnn_compression.cli.tally import Result, Tally

CODECS = {
    "jpeg": "libjpeg-turbo, optimised, baseline or progressive by size, 4:2:0",
    "webp": "WebP, method 6",
    "jp2": "JPEG 2000, irreversible",
    "avif": "AVIF, speed 6",
    "jxl": "JPEG XL, effort 7",
    "heic": "HEIC: HEVC intra by x265",
    "bicubic": "downscale by 2, JPEG, bicubic: no network",
    "packed": "a model's payloads, packed",
    "lepton": "a model's payloads, coded anew by Lepton",
    "jxl_jpeg": "a model's payloads, coded anew by JPEG XL, without loss",
    "rec": "RecCNN alone: a model with a plain mean in ComCNN's place",
}

HELP = f"""
usage: cnn-compression benchmark [flags] FILES...

Takes images through models and other codecs at many qualities and prints Markdown tables: all of
them, or with --output the one that sums up. Every byte of the files counts, distortion is measured
on what is decoded. What is transparent becomes white. jxl, heic, lepton and jxl_jpeg, plots and
BD-rates need the extra `bench`:

{common.table(CODECS.items())}

With --output, that folder gets

  rows.jsonl                 a line for each file as it is measured; a stopped run goes on from it
  rows.csv                   the same for spreadsheets
  report.md                  the tables
  psnr.*, ms_ssim.*,
  ssimulacra2.*              rate-distortion curves, SVG and PNG; psnr-2.* at half size
  crops.png                  the square where codecs differ most, at equal bytes

where the last four are replaced.
"""

QUALITIES = "5,10,15,20,30,40,50,60,70,80,90,95"
RATES = "0.1,0.15,0.2,0.25,0.3,0.4,0.5,0.75,1"
WHITE = (255, 255, 255)
CROPPED = 3
ROWS = "rows.jsonl"
OUTPUTS = (ROWS, "rows.csv", "report.md", "crops.png")
OUTPUTS += ("psnr.png", "ms_ssim.png", "ssimulacra2.png")


def _names(text):
    return [item.strip() for item in text.split(",") if item.strip()]


def _list(convert):
    """Each value once, and at least one."""

    def parse(text):
        values = list(dict.fromkeys(convert(item) for item in _names(text)))
        if not values:
            raise ValueError("expected at least one")
        return values

    return parse


def _size(text):
    if not (text.isascii() and text.isdecimal() and int(text) >= 1):
        raise ValueError("expected integers from 1")
    return int(text)


def _effort(text):
    if text not in ("0", "1", "2"):
        raise ValueError("expected integers in 0..2")
    return int(text)


def _rate(text):
    if not 0 < float(text) < float("inf"):
        raise ValueError("expected numbers above 0")
    return float(text)


def _range(text):
    rates = _list(_rate)(text)
    if len(rates) != 2 or rates != sorted(rates):
        raise ValueError("expected two rates, the lower one first")
    return tuple(rates)


def add_flags(values: flags.FlagValues) -> None:
    def define(name, kind, convert, default, help_text, **more):
        parser = common.Parser(kind, convert)
        flags.DEFINE(parser, name, default, help_text, flag_values=values, **more)

    define("models", "NAMES", _names, "default", "names in saved_models, or folders")
    qualities = _list(common.parse_quality)
    define(
        "qualities", "1..100,...", qualities, QUALITIES, "of the models and of what is made of them"
    )
    define("efforts", "0..2,...", _list(_effort), "0", "of the models' encoders")
    define("codecs", "NAMES", _names, None, "of those above; all that are installed by default")
    help_text = "how many times smaller each image is measured; 1,2,4 for a ladder of three"
    define("sizes", "N,...", _list(_size), "1", help_text)
    define("rates", "BPP,...", _list(_rate), RATES, "to interpolate at")
    help_text = "codec or model that the others are compared with (default: jpeg)"
    define("anchor", "NAME", str, None, help_text)
    define("bd_range", "BPP,BPP", _range, "0.1,1", "between which they are compared")
    define("crop_bpp", "BPP", _rate, "0.25", "of the crops, at most")
    help_text = f"whose crops to show, by their files' names; {CROPPED} of all by default"
    define("crop_images", "NAMES", _names, None, help_text)
    common.add_colour_flag(values)
    define("output", "FOLDER", common.PATH.convert, None, "to write and to go on with",
           short_name="o")  # fmt: skip


def run(values: flags.FlagValues, arguments: list[str]) -> int:
    tally, arguments = Tally(), words.expanded(arguments)
    sources = list(places.gather(arguments, files.is_image_name, "images", tally))
    output = Path(values.output) if values.output else None
    if not sources:
        return tally.status
    if output:
        _check(output, sources)
    cropped = _chosen(values.crop_images, sources)
    codecs = _open_codecs(values)
    anchor = _anchor(values.anchor, codecs)
    from cnn_compression.benchmark import rows, store

    if output:
        places.make_folders([output / ROWS])
    with files.locked(output) if output else contextlib.nullcontext():
        with store.Store(output / ROWS if output else None) as kept:
            measured = _measure(sources, codecs, values, kept, tally)
        if measured:
            report, options = _report(values, arguments, anchor, measured)
            text, title = report.markdown(_all(measured), options), options.title
            print(report.summary(_all(measured), options) if output else text, end="")
            if output:
                table = rows.csv_text(kept.rows.values())
                written = {"rows.csv": table.encode(), "report.md": text.encode()}
                written |= _plots(measured, title, codecs)
                cropped = [source for source in cropped if source in measured]
                written |= _crops(values, codecs, cropped, measured)
                _write(output, written)
    return tally.status


def _measure(sources, codecs, values, store, tally) -> dict[Path, list]:
    """The rows of each image, without images of which any failed."""
    from cnn_compression import images
    from cnn_compression.benchmark.run import collect

    factors = values.sizes
    progress, rows = Progress(len(sources) * len(factors), codecs), {}

    def measure(source: Path) -> Result:
        image, notes = images.read(source, WHITE, colour=values.colour)
        step = progress.of(source)
        # All of an image or nothing: means at each quality are over the same images.
        rows[source] = collect(codecs, source.name, image, factors, store, step)
        return Result(notes=tuple(notes))

    file_loop.each(sources, measure, tally, progress.start)
    return rows


def _check(output: Path, sources: list[Path]) -> None:
    """Raises where the folder cannot be, or what is written there would replace an input."""
    if output.exists() and not output.is_dir():
        raise ValueError(f"expected --output to be a folder. Received: {common.shown(output)}")
    if output.exists():
        places.check_folder(output)
    inputs = places.identities(sources)
    for name in OUTPUTS:
        places.check_file(output / name, inputs, overwrite=True)


def _open_codecs(values):
    models = [common.load_codec(name) for name in values.models]
    common.start_tensorflow()
    from cnn_compression.benchmark import registry

    codecs, notes = registry.open_codecs(values.codecs, models, values.qualities, values.efforts)
    for note in notes:
        common.complain(f"note: {note}")
    return codecs


def _anchor(name: str | None, codecs) -> str | None:
    """What the rows call it; JPEG if it is measured."""
    from cnn_compression.benchmark import registry

    if name is None and registry.Jpeg.name not in [codec.name for codec in codecs]:
        return None
    return registry.find(name or "jpeg", codecs)


class Progress:
    """The bar on the terminal counts rows, and says how long the rest takes at this pace."""

    def __init__(self, pictures: int, codecs):
        self.total = pictures * sum(len(codec.qualities) for codec in codecs)
        self.rows, self.done, self.measured, self.began = self.total // pictures, 0, 0, None

    def start(self, index: int = 0, count: int = 0, source: Path | None = None) -> None:
        """As `BAR.files`, which it stands in for, of the images."""
        self.began = self.began or time.monotonic()
        if source is None:
            BAR.files()
            return
        self.done = self.total * index // count  # an image that failed has left rows out
        BAR.files(self.done, self.total, source)

    def of(self, source: Path):
        """A function for `collect` to call at each row."""

        def step(codec: str, measured: bool) -> None:
            self.done += 1
            self.measured += measured
            text = f"{source.name} {codec}"
            if self.measured:
                pace = (time.monotonic() - self.began) / self.measured
                text += f", {pace * (self.total - self.done) / 60:.0f} min left"
            BAR.files(self.done, self.total, text)

        return step


def _report(values, arguments, anchor, rows):
    """The module that makes tables, and what it makes them with."""
    from cnn_compression.benchmark import report

    folders = [Path(name).resolve().name for name in arguments if Path(name).is_dir()]
    title = report.title(", ".join(folders), _all(rows))
    return report, report.Options(title, tuple(values.rates), anchor, values.bd_range)


def _all(rows):
    return [row for rows_of_image in rows.values() for row in rows_of_image]


def _write(output: Path, written: dict[str, bytes]) -> None:
    for name, data in written.items():
        streams.write(output / name, data, overwrite=True)
    print(f"written to {common.shown(output)}: {', '.join([ROWS, *written])}")


def _plots(rows, title, codecs) -> dict[str, bytes]:
    """Names of files to their bytes."""
    from cnn_compression.benchmark import Latent, Model, Packed, plots
    from cnn_compression.benchmark.curves import curves

    ours = [codec.name for codec in codecs if type(codec) in (Latent, Model, Packed)]
    drawn = {}
    for factor in sorted({row.factor for row in _all(rows)}):
        means = curves(row for row in _all(rows) if row.factor == factor)
        scale = "" if factor == 1 else f", scaled down by {factor}"
        for measure in plots.AXES:
            try:
                figures = plots.draw(means, measure, title + scale, ours)
            except ValueError as error:  # of pictures too small for MS-SSIM, say
                common.complain(f"note: no plot of {measure}: {error}")
                continue
            stem = measure if factor == 1 else f"{measure}-{factor}"
            drawn |= {f"{stem}.{kind}": data for kind, data in figures.items()}
    return drawn


def _crops(values, codecs, sources, rows) -> dict[str, bytes]:
    """The contact sheet of some of the images, at their first size."""
    from cnn_compression import images
    from cnn_compression.benchmark import crops
    from cnn_compression.benchmark.run import downscale

    factor = values.sizes[0]
    scenes = []
    for source in sources:
        image = downscale(images.read(source, WHITE, colour=values.colour)[0], factor)
        codeds = {
            codec.name: crops.within(
                codec,
                [row for row in rows[source] if (row.codec, row.factor) == (codec.name, factor)],
                source.name,
                image,
                values.crop_bpp,
            )
            for codec in codecs
        }
        scenes.append((source.name, image, codeds))
    return {"crops.png": crops.sheet(scenes, values.crop_bpp)} if scenes else {}


def _chosen(names: list[str] | None, sources: list[Path]) -> list[Path]:
    """Those of these names, or a few spread over all."""
    if names is None:
        count = min(CROPPED, len(sources))
        return [sources[index * len(sources) // count] for index in range(count)]
    if unknown := set(names) - {source.name for source in sources}:
        raise ValueError(f"expected --crop_images among the images. Received: {sorted(unknown)[0]}")
    return [source for source in sources if source.name in names]
