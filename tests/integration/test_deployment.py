"""deploy/: what can be said of it without a container engine and without a cluster, as far as their own tools go."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
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
from tests.integration.workers import listens, worker_process
from tests.redis_server import RedisServer, redis_server

from tidelog.server.app import DRAIN_TIMEOUT
from tidelog.server.workers import GRACE
from tidelog.testing import Process, rebuild, serve_process, watch

DEPLOY = Path(__file__).parents[2] / "deploy"
CLUSTER = DEPLOY / "kubernetes"
PATIENCE = 60.0
GOES = DRAIN_TIMEOUT + GRACE
"""Seconds that a web process needs at most to go."""
LOOKS = 1.0
"""Seconds that taskiq needs at most to hear of a signal."""


class Example:
    """deploy/app.py in a web process, on a Redis, and as many workers as a test starts."""

    def __init__(self, folder: Path, redis: RedisServer) -> None:
        self.alive = folder / "alive"
        self._env = {"TIDELOG_STORE": redis.url, "TMPDIR": str(folder)}
        self.web = self.serve()

    def serve(self) -> Process:
        return serve_process("app:app", cwd=DEPLOY, env=self._env)

    def worker(self) -> Process:
        """By the very command of compose and Kubernetes."""
        return worker_process(worker_command()[1:], cwd=DEPLOY, env=self._env)

    def probe(self, command: list[str]) -> bool:
        """What a probe says, which is run as it stands but for the folder of the file."""
        moved = [part.replace("find /tmp ", f"find {self.alive.parent} ") for part in command]
        assert moved != command
        return run(*moved).returncode == 0


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Example]:
    with redis_server() as redis:
        found = Example(tmp_path_factory.mktemp("example"), redis)
        with found.web:
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
        assert seconds(services["worker"]["stop_grace_period"]) > goes(worker_command())

    def test_workers_are_as_the_web_processes(self, services: dict[str, Any]) -> None:
        """But for their command, how they are asked whether they live, and how long they may take to go."""
        web, worker = services["web"], services["worker"]
        assert {name for name in web.keys() | worker.keys() if web.get(name) != worker.get(name)} == {
            "command", "entrypoint", "healthcheck", "stop_grace_period",
        }  # fmt: skip
        assert worker["deploy"]["replicas"] == 2

    def test_a_worker_is_asked_what_it_can_answer(self, services: dict[str, Any]) -> None:
        """Not for the HTTP that the image's own check asks for, but as Kubernetes asks it."""
        said, *command = services["worker"]["healthcheck"]["test"]
        assert said == "CMD"
        assert [part.replace("$$", "$") for part in command] == probes("worker")["livenessProbe"]["exec"]["command"]

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
        """Until it is no endpoint any more, then to drain; a worker is none."""
        [sleep, before] = container("web")["lifecycle"]["preStop"]["exec"]["command"]
        assert sleep == "sleep"
        assert pod("web")["terminationGracePeriodSeconds"] > float(before) + GOES
        assert "lifecycle" not in container("worker")
        assert pod("worker")["terminationGracePeriodSeconds"] > goes(worker_command())

    def test_web_and_workers_are_all(self) -> None:
        assert {each["metadata"]["name"] for each in ours()} == {"web", "worker"}
        assert container("web")["image"] == container("worker")["image"]
        assert {each["metadata"]["name"] for each in everything("PodDisruptionBudget")} == {"web", "worker"}

    def test_workers_have_the_command_of_compose(self) -> None:
        assert [*container("worker")["command"], *container("worker")["args"]] == worker_command()

    def test_probes_ask_for_what_there_is(self, example: Example) -> None:
        asked = {name: probe["httpGet"]["path"] for name, probe in probes("web").items()}
        assert asked == {"startupProbe": "/healthz", "readinessProbe": "/readyz", "livenessProbe": "/healthz"}
        assert {httpx2.get(example.web.url + path).status_code for path in asked.values()} == {200}

    def test_probes_of_a_worker_ask_whether_its_loop_turns(self, example: Example) -> None:
        """Without HTTP: by a file that it touches; one that is too old, or not there yet, is no life."""
        asked = probes("worker")
        assert set(asked) == {"startupProbe", "livenessProbe"}, "it is no endpoint that could be ready"
        commands = [probe["exec"]["command"] for probe in asked.values()]
        assert not any(map(example.probe, commands))
        with example.worker():
            until(lambda: all(map(example.probe, commands)), PATIENCE)
        old = time.time() - 120
        os.utime(example.alive, (old, old))
        assert not any(map(example.probe, commands))
        example.alive.unlink()

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


def test_the_example_is_served(example: Example) -> None:
    url = example.web.url
    run = launch(url, "/report", chapters=1)
    until(lambda: state(url, run)["state"] == "ended")
    assert rebuild(watch(f"{url}/runs/{run}/events").rest()) == "Chapter 1 is written. "


def test_two_workers_do_the_work_and_any_web_process_tells_of_it(example: Example) -> None:
    """Queued without them; then through to the end, while one worker drains, and though the process is gone that was asked."""
    with example.serve() as asked:
        runs = [launch(asked.url, "/survey", places=3) for _ in range(2)]
        assert {state(example.web.url, run)["state"] for run in runs} == {"queued"}
        asked.kill()
    with example.worker() as one, example.worker() as other:
        until(lambda: listens(one) and listens(other), PATIENCE)
        until(lambda: "queued" not in {state(example.web.url, run)["state"] for run in runs}, PATIENCE)
        one.terminate()
        for run in runs:
            frames = watch(f"{example.web.url}/runs/{run}/events", timeout=PATIENCE).rest()
            assert (rebuild(frames), frames[-1].json["outcome"]) == ("3 places are measured.", "completed")
            states = [frame.json["state"] for frame in frames if frame.json["type"] == "run.state"]
            assert states == ["queued", "running"], "a worker has taken it, and no other one after that"
        assert one.wait(goes(worker_command())) == 0
        other.terminate()
        assert other.wait(goes(worker_command())) == 0


def worker_command() -> list[str]:
    """That of compose."""
    worker = yaml.safe_load((DEPLOY / "compose.yml").read_text(encoding="utf-8"))["services"]["worker"]
    return [*worker["entrypoint"], *worker["command"]]


def goes(command: list[str]) -> float:
    """Seconds that a worker with this command needs at most to go."""
    given = dict(pairwise(command))
    return LOOKS + float(given["--wait-tasks-timeout"]) + float(given["--shutdown-timeout"]) + GRACE


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


def pod(name: str) -> dict[str, Any]:
    [found] = [each["spec"]["template"]["spec"] for each in ours() if each["metadata"]["name"] == name]
    return dict(found)


def container(name: str) -> dict[str, Any]:
    """The only one of its pods."""
    [found] = pod(name)["containers"]
    return dict(found)


def probes(name: str) -> dict[str, Any]:
    return {key: each for key, each in container(name).items() if key.endswith("Probe")}


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
