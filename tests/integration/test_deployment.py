"""deploy/: what can be said of it without a container engine and without a cluster, as far as their own tools go."""

from __future__ import annotations

import re
import shutil
import subprocess
import warnings
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx2
import kubernetes_validate
import pytest
import yaml
from tests.integration.crowd import launch, state, until

from tidelog.server.app import DRAIN_TIMEOUT
from tidelog.server.workers import GRACE
from tidelog.testing import Process, rebuild, serve_process, watch

DEPLOY = Path(__file__).parents[2] / "deploy"
CLUSTER = DEPLOY / "kubernetes"
PATIENCE = 60.0
GOES = DRAIN_TIMEOUT + GRACE
"""Seconds that a process needs at most to go."""


@pytest.fixture(scope="module")
def example() -> Iterator[Process]:
    with serve_process("app:app", cwd=DEPLOY, env={"TIDELOG_STORE": "memory:"}) as found:
        yield found


def seconds(text: str) -> float:
    return float(re.fullmatch(r"(\d+)s", text)[1])  # type: ignore[index]


class TestCompose:
    @pytest.fixture
    def services(self) -> dict[str, Any]:
        found: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yml").read_text(encoding="utf-8"))
        assert {name.partition(":")[0] for one in found["services"].values() for name in one["volumes"]} >= set(
            found["volumes"]
        )
        services: dict[str, Any] = found["services"]
        return services

    def test_its_own_tool_takes_it(self) -> None:
        for command in (["docker", "compose"], ["docker-compose"]):
            if shutil.which(command[0]) and run(*command, "version").returncode == 0:
                done = run(*command, "-f", str(DEPLOY / "compose.yml"), "config")
                assert done.returncode == 0, done.stderr
                return
        pytest.skip("no docker compose: compose.yml was read, and not judged by its own tool")

    def test_everything_that_is_mounted_is_there(self, services: dict[str, Any]) -> None:
        mounted = [volume.split(":")[0] for one in services.values() for volume in one["volumes"]]
        assert all((DEPLOY / name).is_file() for name in mounted if name.startswith("."))

    def test_who_goes_has_the_time_for_it(self, services: dict[str, Any]) -> None:
        assert seconds(services["web"]["stop_grace_period"]) > GOES

    def test_only_this_machine_reaches_it(self, services: dict[str, Any]) -> None:
        published = [port for one in services.values() for port in one.get("ports", ())]
        assert published
        assert all(port.startswith("127.0.0.1:") for port in published)

    def test_nginx_asks_the_service_by_its_name(self, services: dict[str, Any]) -> None:
        assert "set $tidelog web:8000;" in (DEPLOY / "nginx.conf").read_text(encoding="utf-8")
        assert services["web"]["deploy"]["replicas"] == 2

    def test_redis_forgets_nothing_by_itself(self, services: dict[str, Any]) -> None:
        assert_keeps(services["redis"]["command"])


class TestKubernetes:
    """Judged by the schemas of Kubernetes' own, which `kubernetes-validate` brings: names and types of all fields."""

    @pytest.mark.parametrize(
        "document",
        [each for each in sorted(CLUSTER.glob("*.yaml")) if each.stem != "kustomization"],
        ids=lambda p: p.stem,
    )
    def test_the_schemas_take_it(self, document: Path) -> None:
        for each in documents(document):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the package about itself
                kubernetes_validate.validate(each, kubernetes_validate.latest_version(), strict=True)

    def test_its_own_tool_builds_it(self) -> None:
        if shutil.which("kubectl") is None:
            pytest.skip("no kubectl: kustomization.yaml was not built")
        done = run("kubectl", "kustomize", str(CLUSTER))
        assert done.returncode == 0, done.stderr
        assert {each["metadata"].get("namespace") for each in yaml.safe_load_all(done.stdout)} == {"tidelog", None}

    def test_all_files_are_named(self) -> None:
        [kustomization] = documents(CLUSTER / "kustomization.yaml")
        assert {*kustomization["resources"], "kustomization.yaml"} == {each.name for each in CLUSTER.glob("*.yaml")}

    def test_selectors_find_what_they_are_for(self) -> None:
        pods = [
            each["spec"]["template"]["metadata"]["labels"].items() for each in everything("Deployment", "StatefulSet")
        ]
        selectors = [
            each["spec"]["selector"]
            for each in everything("Service", "PodDisruptionBudget", "Deployment", "StatefulSet")
        ]
        assert len(selectors) > len(pods)
        for selector in selectors:
            assert sum(selector.get("matchLabels", selector).items() <= labels for labels in pods) == 1

    def test_who_goes_has_the_time_for_it(self) -> None:
        """Until it is no endpoint any more, then to drain."""
        for each in ours():
            pod = each["spec"]["template"]["spec"]
            [container] = pod["containers"]
            [sleep, before] = container["lifecycle"]["preStop"]["exec"]["command"]
            assert sleep == "sleep"
            assert pod["terminationGracePeriodSeconds"] > float(before) + GOES

    def test_probes_ask_for_what_there_is(self, example: Process) -> None:
        asked = [
            (name, one[name]["httpGet"]["path"])
            for each in ours() for one in each["spec"]["template"]["spec"]["containers"]
            for name in ("startupProbe", "readinessProbe", "livenessProbe") if name in one
        ]  # fmt: skip
        assert {("readinessProbe", "/readyz"), ("livenessProbe", "/healthz")} < set(asked)
        assert {httpx2.get(example.url + path).status_code for _, path in asked} == {200}

    def test_nothing_is_sticky(self) -> None:
        assert {each["spec"].get("sessionAffinity", "None") for each in everything("Service")} == {"None"}
        assert not any("annotations" in each["metadata"] for each in everything("Ingress", "Service"))

    def test_secrets_are_names(self) -> None:
        assert everything("Secret") == []
        for each in ours():
            for container in each["spec"]["template"]["spec"]["containers"]:
                [store] = [one for one in container["env"] if one["name"] == "TIDELOG_STORE"]
                assert store["valueFrom"]["secretKeyRef"] == {"name": "tidelog", "key": "store"}

    def test_nothing_runs_as_root_or_without_bounds(self) -> None:
        for each in everything("Deployment", "StatefulSet"):
            pod = each["spec"]["template"]["spec"]
            assert pod["securityContext"]["runAsNonRoot"]
            for container in pod["containers"]:
                assert container["resources"]["limits"]["memory"]
                assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}

    def test_redis_forgets_nothing_by_itself(self) -> None:
        [redis] = everything("StatefulSet")
        assert_keeps(redis["spec"]["template"]["spec"]["containers"][0]["args"])


def test_the_example_is_served(example: Process) -> None:
    run = launch(example.url, "/report", chapters=1)
    until(lambda: state(example.url, run)["state"] == "ended")
    assert rebuild(watch(f"{example.url}/runs/{run}/events").rest()) == "Chapter 1 is written. "


def assert_keeps(command: list[str]) -> None:
    """It writes a file, and evicts nothing."""
    given = dict(pairwise(command))
    assert (given["--appendonly"], given["--maxmemory-policy"]) == ("yes", "noeviction")
    assert given["--maxmemory"]


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def everything(*kinds: str) -> list[dict[str, Any]]:
    return [each for path in sorted(CLUSTER.glob("*.yaml")) for each in documents(path) if each["kind"] in kinds]


def ours() -> list[dict[str, Any]]:
    """The processes of tidelog's."""
    found = everything("Deployment")
    assert found
    return found


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
