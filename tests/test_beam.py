"""The Beam transforms on this machine, where several workers share the files."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from cli_calls import tree
from PIL import Image

from cnn_compression import files, images
from cnn_compression.codec import model_files
from cnn_compression.packing import predictors

apache_beam = pytest.importorskip("apache_beam")
from apache_beam.io.filesystems import FileSystems  # noqa: E402
from apache_beam.metrics.execution import MetricKey, MetricResult  # noqa: E402
from apache_beam.metrics.metricbase import MetricName  # noqa: E402
from apache_beam.testing import test_pipeline  # noqa: E402
from apache_beam.testing.util import assert_that, equal_to  # noqa: E402

from cnn_compression import beam, cli  # noqa: E402
from cnn_compression.beam import counts, folders, pipeline  # noqa: E402

GOLDEN = Path(__file__).parent / "golden"
NAMES = ("default/scale4", "default/scale2")
WORKERS = ["--direct_num_workers=2", "--direct_running_mode=multi_threading"]
PROCESSES = ["--direct_num_workers=2", "--direct_running_mode=multi_processing"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory, photos):
    """Photographs in folders, and a file that is none."""
    folder = tmp_path_factory.mktemp("in")
    (folder / "below").mkdir()
    for name, place in (("coffee", "a.png"), ("camera", "below/b.png"), ("rocket", "below/c.jpg")):
        Image.fromarray(np.squeeze(photos[name])).save(folder / place)
    (folder / "below" / "bad.png").write_bytes(b"text")
    return folder


def run(*words):
    return cli.main(["batch", *map(str, words)])


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], WORKERS], ids=["one", "two"])
def test_transforms_give_what_the_codec_gives(pictures, codec, options):
    named = [(path.name, path.read_bytes()) for path in sorted(pictures.rglob("*.*"))]
    expected = {
        name: codec.encode(images.read_contents(data)[0], 40)
        for name, data in named
        if name != "bad.png"
    }
    with test_pipeline.TestPipeline(argv=options) as running:
        coded = running | apache_beam.Create(named) | beam.EncodeImages(quality=40, batch_size=2)
        assert_that(coded.done, equal_to(list(expected.items())), label="payloads")
        failed = coded.failed | apache_beam.MapTuple(lambda name, why: (name, why.split(":")[0]))
        assert_that(failed, equal_to([("bad.png", "not an image of a known format")]))


def test_files_there_and_back(pictures, tmp_path, codec, capfd, caplog):
    small, back = tmp_path / "small", tmp_path / "back"
    assert run(f"--input={pictures}/**", f"--output={small}", "-q30", *WORKERS) == 1
    out, err = capfd.readouterr()
    assert out.startswith("3 files done, 1 failed, ") and out.count("\n") == 1
    assert (err, caplog.records) == ("", [])  # Beam has a lot to say, and is not asked
    assert tree(small)[:3] == ["a.cnn.jpg", "below/b.cnn.jpg", "below/c.cnn.jpg"]
    [failures] = small.glob("failed-*.jsonl")
    assert json.loads(failures.read_text())["input"] == "below/bad.png"
    packed = codec.pack((small / "a.cnn.jpg").read_bytes())
    (small / "packed.cnnp").write_bytes(packed)
    (small / "bad.cnnp").write_bytes(packed[:-1])
    assert run(f"--input={small}/**.cnn*", f"--output={back}", "--decode", "--verbose") == 1
    assert caplog.records
    [failures] = back.glob("failed-*.jsonl")
    failure = json.loads(failures.read_text())
    assert failure["input"] == "bad.cnnp" and failure["why"].startswith("damaged: ")
    assert tree(back)[:3] == ["a.png", "below/b.png", "below/c.png"]
    assert (back / "packed.png").read_bytes() == (back / "a.png").read_bytes()
    restored = np.asarray(Image.open(back / "a.png"))
    expected = codec.decode((small / "a.cnn.jpg").read_bytes())
    np.testing.assert_allclose(restored.astype(int), expected, atol=1)


@pytest.fixture(scope="module")
def payloads():
    """Two, and what they were packed into."""
    made = [(GOLDEN / f"{name}.cnn.jpg", GOLDEN / "packed" / f"{name}.cnnp") for name in NAMES]
    return [tuple(file.read_bytes() for file in pair) for pair in made]


def test_payloads_are_packed_and_come_back(payloads, tmp_path, capsys):
    given, small, back = tmp_path / "in", tmp_path / "small", tmp_path / "back"
    (given / "below").mkdir(parents=True)
    for (payload, _), name in zip(payloads, ("a.cnn.jpg", "below/b.jpg"), strict=True):
        (given / name).write_bytes(payload)
    (given / "bad.cnn.jpg").write_bytes(b"text")
    (given / "c.cnnp").write_bytes(payloads[0][1])
    assert run(f"--input={given}/**", f"--output={small}", "--pack") == 1
    assert capsys.readouterr().out.startswith("2 files done, 1 failed, ")
    assert (small / "a.cnnp").read_bytes() == payloads[0][1]
    [failures] = small.glob("failed-*.jsonl")
    failure = json.loads(failures.read_text())
    assert failure["input"] == "bad.cnn.jpg" and failure["why"].startswith("not a payload")
    call = f"--input={small}/**.cnnp", f"--output={back}", "--unpack"
    assert run(*call) == 0
    assert tree(back) == ["a.cnn.jpg", "below/b.cnn.jpg"]
    assert (back / "below/b.cnn.jpg").read_bytes() == payloads[1][0]
    assert run(*call) == 1 and "outputs that exist: 2" in capsys.readouterr().err
    assert run(*call, "--skip_existing") == 0
    assert capsys.readouterr().out.startswith("0 files done, 0 failed")


def test_of_a_payload_and_its_packing_the_payload_is_enough(tmp_path):
    fill(tmp_path, dict.fromkeys(("a.cnn.jpg", "a.cnnp", "below/a.cnnp", "b.cnnp"), "text"))
    outputs, clashes, spare = pipeline._outputs(f"{tmp_path}/**", "out", beam.DecodeImages)
    assert sorted(outputs.values()) == ["a.cnn.jpg", "b.cnnp", "below/a.cnnp"]
    assert (clashes, spare) == ({}, {"a.cnnp"})


def test_networks_that_are_not_there_are_said_at_once(monkeypatch, tmp_path):
    monkeypatch.setattr(predictors, "folders", lambda: [])
    with pytest.raises(ValueError, match="expected the predicting networks"):
        beam.PackPayloads()


class Shout(apache_beam.PTransform):
    """Quick: its model is upper case, and empty files fail."""

    rename = staticmethod(files.payload_name)
    keep = staticmethod(lambda name: not files.is_payload_name(name))
    verb = "shout"

    def expand(self, read):
        made = read | apache_beam.MapTuple(
            lambda name, data: (name, (data.upper(), b"" if data else b"nothing in it"))
        )
        return made | counts.split("shout")


class ShoutAll(Shout):
    """Of payloads too."""

    keep = staticmethod(folders.any_name)


def fill(folder, contents):
    for name, text in contents.items():
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def texts(folder):
    return {name: Path(folder, name).read_text() for name in tree(folder)}


@pytest.mark.parametrize("pattern", ["**", "**.png", "in*/**.png", "in/**", "./in/**.png"])
def test_patterns_start_here_and_leave_out_what_is_hidden(tmp_path, monkeypatch, pattern):
    monkeypatch.chdir(tmp_path)
    fill("in", {"a.png": "a", "below/b.png": "b"})
    fill("in", {".0123456789abcdef.tmp": "half", "below/._b.png": "left by a system"})
    fill("in", {".trash/c.png": "c", "d.cnn.jpg": "a payload already"})
    counts = beam.convert_files(pattern, "out", Shout())
    assert counts == {"done": 2, "failed": 0, "bytes_out": 2}
    assert sorted(texts("out").values()) == ["A", "B"]


@pytest.mark.parametrize("pattern", ["*.png", "a.png"])
def test_patterns_without_a_folder(tmp_path, monkeypatch, pattern):
    monkeypatch.chdir(tmp_path)
    fill(".", {"a.png": "a", "below/b.png": "b"})
    beam.convert_files(pattern, "out", Shout())
    assert texts("out") == {"a.cnn.jpg": "A"}


def test_a_run_goes_on_where_its_outputs_are_among_its_inputs(tmp_path):
    fill(tmp_path, {"a.jpg": "a", "b.jpg": "b", "small/a.cnn.jpg": "kept"})
    call = (f"{tmp_path}/**.jpg", f"{tmp_path}/small", Shout())
    assert beam.convert_files(*call, skip_existing=True)["done"] == 1
    assert texts(tmp_path / "small") == {"a.cnn.jpg": "kept", "b.cnn.jpg": "B"}


def test_what_is_there_is_refused_or_left_or_replaced(tmp_path):
    out = tmp_path / "out"
    call = (f"{tmp_path}/in/**", f"{out}//", Shout())
    before = {"below/b.cnn.jpg": "kept", "c.cnn.jpg": "kept"}
    fill(tmp_path / "in", {"a.png": "a", "below/b.png": "b", "c.png": "c"})
    fill(out, before)
    with pytest.raises(ValueError, match=f"exist: 2, first {out}/below/b.cnn.jpg; pass"):
        beam.convert_files(*call)
    assert texts(out) == before
    assert beam.convert_files(*call, skip_existing=True)["done"] == 1
    assert texts(out) == before | {"a.cnn.jpg": "A"}
    assert beam.convert_files(*call, overwrite=True)["done"] == 3
    assert texts(out) == {"a.cnn.jpg": "A", "below/b.cnn.jpg": "B", "c.cnn.jpg": "C"}


def test_what_comes_meanwhile_is_not_replaced(tmp_path, monkeypatch):
    """Another command writes one of the outputs after this one has looked what is there."""
    out = tmp_path / "out"
    fill(tmp_path / "in", {"a.png": "a", "b.png": "b", "c.png": "c"})
    run = pipeline._pipeline

    def later(options):
        fill(out, {"b.cnn.jpg": "theirs", "c.cnn.jpg": "C"})
        return run(options)

    monkeypatch.setattr(pipeline, "_pipeline", later)
    counts = beam.convert_files(f"{tmp_path}/in/*", str(out), Shout())
    # What has the same bytes may be our own, of an earlier try.
    assert counts == {"done": 2, "failed": 1, "bytes_out": 2}
    failure = json.loads((out / "failed-00000-of-00001.jsonl").read_text())
    assert failure["input"] == "b.png"
    assert failure["why"] == f"{out}/b.cnn.jpg: the output exists: pass --overwrite to replace it"
    (out / "failed-00000-of-00001.jsonl").unlink()
    assert texts(out) == {"a.cnn.jpg": "A", "b.cnn.jpg": "theirs", "c.cnn.jpg": "C"}


def test_what_is_there_is_listed_once(tmp_path, monkeypatch):
    fill(tmp_path / "in", dict.fromkeys("abcdefgh", "text"))
    listed = []
    match = FileSystems.match
    monkeypatch.setattr(FileSystems, "match", lambda x: listed.append(x) or match(x))
    monkeypatch.setattr(FileSystems, "exists", lambda path: pytest.fail(f"looked for {path}"))
    monkeypatch.setattr(pipeline, "_pipeline", lambda options: sys.exit("launched"))
    with pytest.raises(SystemExit, match="launched"):
        beam.convert_files(f"{tmp_path}/in/*", f"{tmp_path}/out", Shout())
    assert listed == [[f"{tmp_path}/in/*"], [f"{tmp_path}/out/**"]]


def test_failures_are_those_of_the_last_run(tmp_path):
    out = tmp_path / "out"
    call = (f"{tmp_path}/in/*", str(out), Shout())
    before = {
        "a.cnn.jpg": "kept",
        "failed-00001-of-00002.jsonl": "{}",
        "failed-notes.jsonl": "mine",
    }
    fill(tmp_path / "in", {"a.png": "a", "bad.png": ""})
    fill(out, before)
    with pytest.raises(ValueError, match="outputs that exist: 1"):
        beam.convert_files(*call)
    assert texts(out) == before
    counts = beam.convert_files(*call, skip_existing=True)
    assert counts == {"done": 0, "failed": 1, "bytes_out": 0}
    assert tree(out) == ["a.cnn.jpg", "failed-00000-of-00001.jsonl", "failed-notes.jsonl"]
    failure = json.loads((out / "failed-00000-of-00001.jsonl").read_text())
    assert failure == {"input": "bad.png", "why": "nothing in it"}


@pytest.mark.parametrize("words", [{}, {"overwrite": True}, {"skip_existing": True}])
@pytest.mark.parametrize("folder", ["in", "link", "in/../link"])
def test_an_output_that_is_an_input_is_refused(tmp_path, monkeypatch, folder, words):
    monkeypatch.chdir(tmp_path)
    before = {"a.png": "a", "a.cnn.jpg": "an input too"}
    fill("in", before)
    Path("link").symlink_to("in")
    with pytest.raises(ValueError, match=f"would be an input: {folder}/a.cnn.jpg"):
        beam.convert_files("in/*", folder, ShoutAll(), **words)
    assert texts("in") == before


def test_a_folder_that_cannot_be_listed_is_an_error_if_it_is_there(tmp_path, monkeypatch):
    def refuse(patterns):
        raise folders.BeamIOError("List operation failed")

    monkeypatch.setattr(FileSystems, "match", refuse)
    assert folders.names_in(str(tmp_path / "missing")) == set()
    with pytest.raises(OSError, match="List operation failed"):
        folders.names_in(str(tmp_path))


@pytest.mark.parametrize("step", ["create", "rename"])
def test_a_write_that_fails_leaves_nothing_behind(tmp_path, monkeypatch, step):
    def fail(source, target=None):
        if step == "create":
            Path(source).write_bytes(b"half")
        raise folders.BeamIOError("no space")

    monkeypatch.setattr(FileSystems, step, fail)
    with pytest.raises(OSError, match="no space"):
        list(folders.Write(str(tmp_path)).process(("below/a", b"data")))
    assert tree(tmp_path) == []


def test_counts_are_ours_and_of_any_runner():
    def result(namespace, name, committed, attempted):
        return MetricResult(MetricKey("step", MetricName(namespace, name)), committed, attempted)

    counters = [
        result("ours", "done", 3, 4),
        result("ours", "failed", None, 2),
        result("ours", "num_inferences", 7, 7),
        result("other", "done", 9, 9),
    ]
    metrics = SimpleNamespace(query=lambda: {"counters": counters})
    assert counts.counts(metrics, "ours") == {"done": 3, "failed": 2, "bytes_out": 0}


@pytest.mark.parametrize("transform", [beam.EncodeImages, beam.DecodeImages])
def test_a_model_must_be_exported(tmp_path, transform):
    (tmp_path / model_files.RUN_FILE).write_bytes(b"of a training run")
    with pytest.raises(ValueError, match="expected an exported model.*model.keras"):
        transform(model=tmp_path)
    with pytest.raises(ValueError, match="expected a model.*nothing"):
        transform(model="nothing")
    transform(model="gs://models/default/4")  # the workers will see


@pytest.mark.slow
def test_a_killed_run_loses_and_doubles_nothing(tmp_path, photos):
    """Two worker processes, one of which is killed; the same command then finishes the work."""
    source, output = tmp_path / "in", tmp_path / "small"
    source.mkdir()
    for number in range(40):
        Image.fromarray(np.roll(photos["coffee"], number, axis=1)).save(source / f"{number}.png")
    command = [sys.executable, "-m", "cnn_compression", "batch", f"--input={source}/*"]
    command += [f"--output={output}", "--skip_existing", "--batch_size=1", *PROCESSES]
    with subprocess.Popen(command, start_new_session=True) as process:
        deadline = time.monotonic() + 120
        while not list(output.glob("*.cnn.jpg")) and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(sorted(children(process.pid))[-1], signal.SIGKILL)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:  # the runner does not always notice
            os.killpg(process.pid, signal.SIGKILL)
    whole = list(output.glob("*.cnn.jpg"))
    assert whole and all(path.read_bytes().endswith(b"\xff\xd9") for path in whole)
    subprocess.run(command, check=True, timeout=300)
    names = [name for name in tree(output) if not name.startswith(".")]  # a killed worker's
    assert sorted(names) == sorted(f"{number}.cnn.jpg" for number in range(40))
    assert len({path.read_bytes() for path in output.glob("*.cnn.jpg")}) == 40


def children(pid):
    """The processes that a process has started, and those that they have."""
    found = set()
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, path.read_text().split()):
            found |= {child, *children(child)}
    return found


@pytest.mark.parametrize(
    "words, reason",
    [
        ([], "expected --input and --output"),
        (["--input=x/*"], "expected --output"),
        (["--input=x/*", "--output=y"], "no file matches x/*"),
        (["a.png", "--input=x/*", "--output=y"], "Received: a.png"),
        (["--input=x/*", "--output=y", "--quality=0"], "integer from 1 to 100"),
        (["--input=.", "--output=y"], "expected a pattern of files"),
        (["--input=x/*", "--output=y[1]"], "expected a folder without any of *?[{. Received: y[1]"),
        (["--input=x/*", "--output=y", "--overwrite", "--skip_existing"], "Received: both"),
        (["--input=x/*", "--output=y", "--model=x"], "expected a model"),
        (["--input=x/*", "--output=y", "--pack", "--decode"], "Received: --decode and --pack"),
        (["--input=x/*", "--output=y", "--skip_exsting"], "Received: --skip_exsting"),
        (["--input=x/*", "--output=y", "--flink_mater=host:8081"], "Received: --flink_mater=host"),
        (["--input=x/*", "--output=y", "--direct_num_workers=two"], "invalid int value: 'two'"),
        (["--input=x/*", "--output=y", "--runner=Sparks"], "Unexpected pipeline runner: Sparks"),
        (["--input=x/*", "--output=y", "--runner=missing.Runner"], "No module named 'missing'"),
    ],
)
def test_what_cannot_be_is_said_before_any_work(tmp_path, monkeypatch, capsys, words, reason):
    monkeypatch.chdir(tmp_path)
    misused = not words or words[0] == "a.png" or "--output" not in str(words) or "=0" in words[-1]
    misused = misused or "--pack" in words
    assert run(*words) == (2 if misused else 1)
    assert reason in capsys.readouterr().err
    assert tree() == []


@pytest.mark.parametrize(
    "words",
    [
        "--direct_num_workers=2 --direct_running_mode=multi_processing",
        "--runner=FlinkRunner --flink_master=host:8081 --environment_type=LOOPBACK --parallelism=4",
        "--runner=SparkRunner --spark_master_url=spark://host:7077 --environment_type=DOCKER "
        "--environment_config=image",
        "--runner=PortableRunner --job_endpoint=host:8099 --sdk_worker_parallelism=2",
        "--project=mine --region=europe-west1 --temp_location=gs://mine/x --staging_location=gs://y"
        " --sdk_container_image=image --extra_package=x.whl --requirements_file=x.txt",
    ],
)
def test_options_of_runners_are_known(tmp_path, monkeypatch, capsys, words):
    monkeypatch.chdir(tmp_path)
    assert run("--input=x/*", "--output=y", *words.split()) == 1
    assert "no file matches x/*" in capsys.readouterr().err


def test_options_that_a_runner_misses_are_said_in_one_line(tmp_path, capsys):
    fill(tmp_path, {"a.png": "a"})
    words = ["--runner=PortableRunner", "--environment_type=PROCESS"]
    assert run(f"--input={tmp_path}/*", f"--output={tmp_path}/out", *words) == 1
    assert "Option process_command is required" in capsys.readouterr().err


def test_two_files_of_one_output_fail_and_the_others_are_done(tmp_path):
    out = tmp_path / "out"
    fill(tmp_path / "in", {"a.png": "a", "a.jpg": "b", "b.png": "c", "below/a.png": "d"})
    counts = beam.convert_files(f"{tmp_path}/in/**", str(out), Shout())
    assert counts == {"done": 2, "failed": 2, "bytes_out": 2}
    [failures] = out.glob("failed-*.jsonl")
    why = dict(json.loads(line).values() for line in failures.read_text().splitlines())
    assert why == {
        "a.png": "a.jpg would write a.cnn.jpg too: rename one",
        "a.jpg": "a.png would write a.cnn.jpg too: rename one",
    }
    failures.unlink()
    assert texts(out) == {"b.cnn.jpg": "C", "below/a.cnn.jpg": "D"}


def test_fixed_folders():
    assert folders.folder_of("gs://b/x/**.jpg") == "gs://b/x/"
    assert folders.folder_of("photos/a[0-9]/*.png") == "photos/"
    assert folders.folder_of("*.png") == ""
    assert folders.folder_of("in/one.png") == "in/"
