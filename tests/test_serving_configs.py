"""What lies in serving/ is read by what it is written for, and speaks of files that are there."""

import shutil
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from google.protobuf import text_format
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from serving_calls import free_port
from serving_files import SERVING, image_command
from tensorflow_serving.config import model_server_config_pb2

from cnn_compression.codec.model_files import find_model
from cnn_compression.export.signatures import MAX_PIXELS

KUBERNETES = "1.30"


def message(name, **fields):
    """A message's class from its fields' names and types: tensorflow-serving-api lacks these."""
    file = FileDescriptorProto(name=f"{name}.proto", package="ours", syntax="proto3")
    types = {"bool": 8, "string": 9}
    parts = [file.message_type.add(name=name)]
    for number, (field, kind) in enumerate(fields.items(), 1):
        if isinstance(kind, dict):
            inner = file.message_type.add(name=f"{name}{number}")
            for at, (inside, plain) in enumerate(kind.items(), 1):
                inner.field.add(name=inside, number=at, label=1, type=types[plain])
            parts[0].field.add(
                name=field, number=number, label=1, type=11, type_name=f".ours.{inner.name}"
            )
        else:
            parts[0].field.add(name=field, number=number, label=1, type=types[kind])
    pool = DescriptorPool()
    pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName(f"ours.{name}"))


# As in monitoring_config.proto and ssl_config.proto of TensorFlow Serving 2.16; the numbers of
# fields do not count in text.
MONITORING = {"prometheus_config": {"enable": "bool", "path": "string"}}
SSL = {"server_key": "string", "server_cert": "string", "custom_ca": "string"}
SSL["client_verify"] = "bool"


def parsed(file, kind):
    return text_format.Parse((SERVING / file).read_text(), kind)


def test_the_models_are_those_that_are_there():
    config = parsed("models.config", model_server_config_pb2.ModelServerConfig())
    models = {model.name: model for model in config.model_config_list.config}
    assert set(models) == {"default", "eyes"}
    for name, model in models.items():
        versions = set(model.model_version_policy.specific.versions)
        assert int(find_model(name).parents[1].name) in versions
        assert set(model.version_labels.values()) <= versions
        assert model.base_path == f"/models/{name}"
        assert f"COPY saved_models/{name} /models/{name}" in (SERVING / "Dockerfile").read_text()


def test_monitoring_and_tls_are_read():
    monitoring = parsed("monitoring.config", message("MonitoringConfig", **MONITORING)())
    assert monitoring.prometheus_config.path == "/monitoring/prometheus/metrics"
    tls = parsed("ssl.config.example", message("SSLConfig", **SSL)())
    assert "PRIVATE KEY" in tls.server_key and not tls.client_verify
    with pytest.raises(text_format.ParseError):
        text_format.Parse("server_kay: ''", message("Wrong", **SSL)())


def test_requests_are_not_merged_and_load_is_bounded():
    """Where a server joins strangers' requests, one of a wrong rank or type fails all of them."""
    words = image_command()
    assert not any("batching" in word for word in words)
    flags = dict(word.removeprefix("--").split("=") for word in words if "=" in word)
    assert int(flags["rest_api_timeout_in_ms"]) > 0
    threads = int(flags["rest_api_num_threads"]) + int(flags["grpc_max_threads"])
    # Gigabytes, as deployment.yaml counts them.
    needed = 0.9 + threads * 0.03 * MAX_PIXELS / 1e6
    [deployment] = [thing for thing in kubernetes_objects() if thing["kind"] == "Deployment"]
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    limit = container["resources"]["limits"]["memory"]
    assert needed * 1e9 < int(limit.removesuffix("Gi")) * 2**30
    compose = yaml.safe_load((SERVING / "docker-compose.yaml").read_text())
    assert compose["services"]["model"]["deploy"]["resources"]["limits"]["memory"] == "16g"


def test_the_image_has_what_its_command_names():
    words, text = image_command(), (SERVING / "Dockerfile").read_text()
    assert "COPY serving/*.config serving/probe.sh /config/" in text
    named = [word.partition("=")[2] for word in words if "=/config/" in word]
    assert len(named) == 2
    assert "tensorflow_model_server" in text and 'ENTRYPOINT ["tini"' in text
    for file in [*named, "/config/probe.sh"]:
        assert (SERVING / Path(file).name).is_file()


def test_compose_mounts_what_is_there_and_probes_with_a_request():
    compose = yaml.safe_load((SERVING / "docker-compose.yaml").read_text())
    services = compose["services"]
    assert set(services) == {"model", "page"}
    build = services["model"]["build"]
    assert (SERVING / build["context"] / build["dockerfile"]).is_file()
    for mount in services["page"]["volumes"]:
        source = mount.partition(":")[0]
        assert source in compose["volumes"] or (SERVING / source).exists()
    assert services["model"]["healthcheck"]["test"][-1] == "/config/probe.sh"
    assert services["page"]["depends_on"]["model"]["condition"] == "service_healthy"
    caddy = (SERVING / "Caddyfile").read_text()
    assert "reverse_proxy model:8501" in caddy


def kubernetes_objects():
    for file in sorted((SERVING / "kubernetes").glob("*.yaml")):
        yield from yaml.safe_load_all(file.read_text())


def test_every_kubernetes_file_is_in_the_kustomization():
    listed = yaml.safe_load((SERVING / "kustomization.yaml").read_text())["resources"]
    there = [f"kubernetes/{path.name}" for path in (SERVING / "kubernetes").glob("*.yaml")]
    assert sorted(listed) == sorted(there)
    kinds = sorted(thing["kind"] for thing in kubernetes_objects())
    assert kinds == [
        "Deployment", "HorizontalPodAutoscaler", "PodDisruptionBudget", "Service", "Service",
    ]  # fmt: skip


@pytest.mark.parametrize("thing", list(kubernetes_objects()), ids=lambda thing: thing["kind"])
def test_kubernetes_knows_every_field(thing):
    # What the kustomization adds: labels, and the selectors that need them.
    labels = {"app.kubernetes.io/name": "cnn-compression"}
    if thing["kind"] == "Deployment":
        thing["spec"]["selector"] = {"matchLabels": labels}
        thing["spec"]["template"]["metadata"] = {"labels": labels}
    kubernetes_validate.validate(thing, KUBERNETES, strict=True)
    thing["spec"]["nothing"] = 1
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(thing, KUBERNETES, strict=True)


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl on this machine")
def test_the_kustomization_gives_selectors_to_all():
    run = subprocess.run(
        ["kubectl", "kustomize", SERVING], capture_output=True, text=True, check=True
    )
    things = {
        (thing["kind"], thing["metadata"]["name"]): thing
        for thing in yaml.safe_load_all(run.stdout)
    }
    deployment = things["Deployment", "cnn-compression"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels
    assert things["Service", "cnn-compression"]["spec"]["selector"] == labels
    budget = things["PodDisruptionBudget", "cnn-compression"]["spec"]
    assert budget["selector"]["matchLabels"] == labels
    for thing in things.values():
        kubernetes_validate.validate(thing, KUBERNETES, strict=True)


def test_the_probe_makes_a_real_request(default_server):
    def probe(port, *model):
        command = ["bash", SERVING / "probe.sh", "127.0.0.1", str(port), *model]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    port = default_server.rest_api_port
    assert (probe(port).returncode, probe(port).stderr) == (0, "")
    other = probe(port, "other")
    assert other.returncode == 1 and "not encoded" in other.stderr
    assert probe(free_port()).returncode != 0
