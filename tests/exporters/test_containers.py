"""What we write for Compose and Kubernetes has the shape that they take, and means what the worker had under Holdfast.

Structural: their JSON Schemas are too large to depend on (22 MB for Kubernetes). With HOLDFAST_COMPOSE_SCHEMA naming a compose-spec.json, that is asked, too.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from exporters.conftest import Exporting
from exporters.shop import SHOP

yaml = pytest.importorskip("yaml")

SCHEMA = os.environ.get("HOLDFAST_COMPOSE_SCHEMA", "")

#: Keys of a Compose service that we write, all of them of the specification.
SERVICE_KEYS = {
    "build", "image", "init", "command", "working_dir", "restart", "stop_signal", "stop_grace_period", "environment", "user",
    "group_add", "mem_limit", "cpus", "pids_limit", "ulimits", "profiles", "healthcheck", "depends_on", "ports", "volumes", "shm_size",
}  # fmt: skip
CONTAINER_KEYS = {
    "name", "image", "command", "workingDir", "env", "resources", "securityContext", "ports", "startupProbe", "readinessProbe",
    "livenessProbe", "volumeMounts",
}  # fmt: skip


def compose(exporting: Exporting, text: str = SHOP, **options: Any) -> dict[str, Any]:
    files, _ = exporting(text, "compose", **options)
    found: dict[str, Any] = yaml.safe_load(files["compose.yaml"])
    return found


def manifests(exporting: Exporting, text: str = SHOP, **options: Any) -> dict[tuple[str, str], Any]:
    files, _ = exporting(text, "kubernetes", **options)
    return {
        (document["kind"], document["metadata"]["name"]): document
        for name, text_of in files.items()
        if name.endswith(".yaml")
        for document in yaml.safe_load_all(text_of)
    }


@pytest.mark.parametrize("each", [True, False])
def test_compose_gets_keys_that_it_knows(exporting: Exporting, each: bool) -> None:
    found = compose(exporting, each=each)

    assert set(found) <= {"name", "services", "volumes"}
    for service in found["services"].values():
        assert set(service) <= SERVICE_KEYS
        for word in service.get("command", []):
            assert isinstance(word, str)


@pytest.mark.skipif(not SCHEMA, reason="HOLDFAST_COMPOSE_SCHEMA names no compose-spec.json")
@pytest.mark.parametrize("each", [True, False])
def test_the_schema_of_compose_finds_nothing_wrong(exporting: Exporting, each: bool) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(Path(SCHEMA).read_text())

    jsonschema.Draft7Validator(schema).validate(compose(exporting, each=each))


def test_a_service_of_compose_has_what_the_worker_had(exporting: Exporting) -> None:
    services = compose(exporting, each=True)["services"]
    cache, web, report = services["cache"], services["web"], services["report"]

    assert (cache["mem_limit"], cache["cpus"], cache["pids_limit"]) == (512 << 20, 1.5, 64)
    assert cache["ulimits"] == {"nofile": 4096, "core": 0}
    assert (web["restart"], cache["restart"], report["restart"]) == ("on-failure:3", "always", "no")
    assert web["depends_on"] == {"cache": {"condition": "service_healthy"}}
    assert (web["stop_signal"], web["stop_grace_period"]) == ("SIGINT", "3s")
    assert web["healthcheck"]["interval"] == "2s"
    assert web["healthcheck"]["retries"] == 5  # ten seconds of silence, asked every two
    assert report["profiles"] == ["manual"]
    assert services["notifier"]["stop_signal"] == "SIGKILL"


def test_compose_fills_in_secrets_and_nothing_else(exporting: Exporting) -> None:
    """A single dollar would be the beginning of a variable of Compose."""
    cache = compose(exporting, each=True)["services"]["cache"]

    assert cache["command"][:3] == ["sleep", "600", "100% of $$HOME"]
    assert cache["environment"]["RATE"] == "5% $$5"
    assert cache["environment"]["API_TOKEN"].startswith("${API_TOKEN:?")


def test_paths_of_the_node_move_into_the_image(exporting: Exporting, tmp_path: Path) -> None:
    """The recipe copies the directory of the configuration; a path elsewhere is noted."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "serve").write_text("#!/bin/sh\n")
    (tmp_path / "bin" / "serve").chmod(0o755)
    text = '[node]\nname = "n"\n[worker.a]\ncommand = "./bin/serve --fast"\n[worker.b]\ncommand = "sleep 1"\ndirectory = "/"\n'
    services = compose(exporting, text, each=True)["services"]
    _, notes = exporting(text, "compose", each=True)

    assert services["a"]["command"] == ["/srv/n/bin/serve", "--fast"]
    assert services["a"]["working_dir"] == "/srv/n"
    assert services["b"]["command"] == ["sleep", "1"]
    assert [note for note in notes if note.startswith("worker.b.directory: / is a path of this")]


def test_the_node_in_a_container_has_a_volume_and_time_to_stop(exporting: Exporting) -> None:
    """Incidents are what is wanted when the container is gone."""
    files, notes = exporting(SHOP, "compose")
    service = yaml.safe_load(files["compose.yaml"])["services"]["shop"]

    assert service["volumes"] == ["state:/srv/shop/.holdfast"]
    assert service["stop_grace_period"] == "23s"
    assert service["ports"] == ["8000:8000"]
    assert any(
        "127.0.0.1:8080 can be reached inside of the container only" in note for note in notes
    )
    assert 'CMD ["holdfast", "--config", "holdfast.toml", "up", "--quiet"]' in files["Dockerfile"]
    assert ".holdfast" in files[".dockerignore"].splitlines()


@pytest.mark.parametrize("each", [True, False])
def test_kubernetes_gets_selectors_that_match_and_keys_that_it_knows(
    exporting: Exporting, each: bool
) -> None:
    for (kind, name), document in manifests(exporting, each=each).items():
        assert len(name) <= 63
        if kind not in ("Deployment", "Job"):
            continue
        template = document["spec"]["template"]
        if kind == "Deployment":
            assert document["spec"]["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()  # fmt: skip
        for container in template["spec"]["containers"]:
            assert set(container) <= CONTAINER_KEYS
            for variable in container.get("env", []):
                assert isinstance(variable.get("value", ""), str)


@pytest.mark.parametrize("each", [True, False])
def test_no_container_may_become_more_than_it_is(exporting: Exporting, each: bool) -> None:
    """What every checker of manifests asks first, and every restricted cluster demands."""
    for (kind, _), document in manifests(exporting, each=each).items():
        if kind not in ("Deployment", "Job"):
            continue
        for container in document["spec"]["template"]["spec"]["containers"]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert context["seccompProfile"] == {"type": "RuntimeDefault"}
            if not each:
                assert set(container["resources"]["requests"]) == {"memory", "cpu"}
                assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container)


def test_a_worker_that_may_end_is_a_job(exporting: Exporting) -> None:
    """The pods of a Deployment are started again whatever their status was."""
    found = manifests(exporting, each=True)
    web = found["Job", "shop-web"]["spec"]
    report = found["Job", "shop-report"]["spec"]

    assert (web["backoffLimit"], web["template"]["spec"]["restartPolicy"]) == (3, "OnFailure")
    assert (report["suspend"], report["template"]["spec"]["restartPolicy"]) == (True, "Never")
    assert ("Deployment", "shop-cache") in found


def test_probes_of_kubernetes_wait_as_long_as_the_watchdog_would(exporting: Exporting) -> None:
    found = manifests(exporting, each=True)
    (container,) = found["Job", "shop-web"]["spec"]["template"]["spec"]["containers"]

    assert container["livenessProbe"] == {
        "httpGet": {"path": "/live?x=1", "port": 8000, "scheme": "HTTP"},
        "periodSeconds": 2, "timeoutSeconds": 5, "failureThreshold": 5,
    }  # fmt: skip
    # A bare port is one of the loopback, which the kubelet cannot reach: a command in the container can.
    assert container["startupProbe"]["exec"]["command"][-2:] == ["127.0.0.1", "8000"]
    assert container["startupProbe"]["failureThreshold"] == 60


PLAIN = """# a remark stays
include = ["conf.d/more.toml"]
[node]
name = "shop"

[worker.web]
command = ["sleep", "600", "--token=${TOKEN:-}"]
env = { API_TOKEN = "${TOKEN:-}", WHERE = "redis://shop@cache" }
"""
MORE = '[worker.more]\ncommand = "sleep 1"\n'


def test_the_configuration_is_a_config_map_over_the_one_of_the_image(
    exporting: Exporting, tmp_path: Path
) -> None:
    """A changed limit should need no new image; and the pod has to be another one, for a file mounted by itself never changes under it."""
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "more.toml").write_text(MORE)
    found = manifests(exporting, PLAIN)
    template = found["Deployment", "shop"]["spec"]["template"]
    (container,) = template["spec"]["containers"]
    data = found["ConfigMap", "shop-config"]["data"]
    volumes = {one["name"]: one for one in template["spec"]["volumes"]}
    mounts = [one for one in container["volumeMounts"] if one["name"] == "config"]

    assert data == {"holdfast.toml": PLAIN, "conf.d-more.toml": MORE}
    assert {one["subPath"]: one["mountPath"] for one in mounts} == {
        "holdfast.toml": "/srv/shop/holdfast.toml", "conf.d-more.toml": "/srv/shop/conf.d/more.toml",
    }  # fmt: skip
    assert all(one["readOnly"] for one in mounts)
    assert volumes["config"] == {"name": "config", "configMap": {"name": "shop-config"}}
    assert {one["name"] for one in container["volumeMounts"]} == set(volumes)
    before = template["metadata"]["annotations"]
    (tmp_path / "conf.d" / "more.toml").write_text(MORE.replace("1", "2"))
    again = manifests(exporting, PLAIN)["Deployment", "shop"]["spec"]["template"]
    assert again["metadata"]["annotations"].keys() == before.keys()
    assert again["metadata"]["annotations"] != before


@pytest.mark.parametrize(
    "line",
    [
        'env = { API_TOKEN = "hush-hush" }', 'env = { STORE = "redis://shop:hush-hush@cache" }', 'env = { X = "a hush-hush b" }',
        'args = ["--password", "hush-hush"]', 'args = ["--password=hush-hush"]',
    ],
)  # fmt: skip
def test_a_configuration_with_a_secret_in_it_is_in_no_config_map(
    exporting: Exporting, line: str
) -> None:
    """Whoever may read the manifests, and that is everybody who may read the repository, would read the secret."""
    text = f'[node]\nname = "shop"\n[worker.web]\ncommand = ["sleep", "600"]\n{line}\n'
    if line.startswith("args"):
        text = text.replace('"600"]', f'"600", {line[8:]}').replace(line, "")
    files, notes = exporting(text, "kubernetes", MY_SECRET="hush-hush")
    found = manifests(exporting, text, MY_SECRET="hush-hush")
    spec = found["Deployment", "shop"]["spec"]["template"]["spec"]

    assert not any("hush-hush" in text for text in files.values())
    assert ("ConfigMap", "shop-config") not in found
    assert {"name": "config", "secret": {"secretName": "shop-config"}} in spec["volumes"]
    (note,) = [one for one in notes if one.startswith("configuration: worker.web.")]
    assert "create secret generic shop-config --from-file=holdfast.toml=" in note
    assert "hush-hush" not in note


def test_a_secret_of_kubernetes_is_a_reference(exporting: Exporting) -> None:
    found = manifests(exporting, each=True)
    (container,) = found["Deployment", "shop-cache"]["spec"]["template"]["spec"]["containers"]
    env = {variable["name"]: variable for variable in container["env"]}

    assert env["API_TOKEN"]["valueFrom"]["secretKeyRef"] == {"name": "shop-secrets", "key": "API_TOKEN"}  # fmt: skip
    assert env["RATE"]["value"] == "5% $$5"  # which Kubernetes reads as one dollar


def test_two_names_that_are_one_for_kubernetes_stay_two(exporting: Exporting) -> None:
    text = '[node]\nname = "n"\n[worker.web_1]\ncommand = "sleep 1"\n[worker.web-1]\ncommand = "sleep 2"\n'

    assert set(manifests(exporting, text, each=True)) == {("Deployment", "n-web-1"), ("Deployment", "n-web-1-2")}  # fmt: skip


def test_the_playbook_of_ansible_puts_the_units_in_place(exporting: Exporting) -> None:
    """And a changed configuration is applied: only changed workers are touched."""
    files, _ = exporting(SHOP, "ansible")
    (play,) = yaml.safe_load(files["site.yaml"])
    modules = {key for task in [*play["tasks"], *play["handlers"]] for key in task if "." in key}

    assert modules <= {f"ansible.builtin.{name}" for name in ("file", "pip", "copy", "user", "systemd_service", "command")}  # fmt: skip
    assert play["handlers"][1]["ansible.builtin.command"]["argv"][-2:] == ["apply", "--yes"]
    sources = {task["ansible.builtin.copy"]["src"] for task in play["tasks"] if "ansible.builtin.copy" in task}  # fmt: skip
    assert {f"files/{name.removeprefix('files/')}" for name in files if name != "site.yaml"} <= sources  # fmt: skip


def test_secrets_of_ansible_come_from_its_vault(exporting: Exporting) -> None:
    files, _ = exporting(SHOP, "ansible", each=True)
    (play,) = yaml.safe_load(files["site.yaml"])
    (task,) = [task for task in play["tasks"] if task.get("no_log")]

    assert task["ansible.builtin.copy"]["content"] == "{{ holdfast_secrets['shop-cache.env'] }}"
    assert task["ansible.builtin.copy"]["mode"] == "0600"
