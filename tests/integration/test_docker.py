"""The image and the compose file: built and run where a container engine answers, else read as far as that goes."""

from __future__ import annotations

import contextlib
import fnmatch
import json
import re
import shlex
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import typer.main
import yaml
from fastapi import FastAPI

from tidelog import Tidelog, cli
from tidelog.testing import serve
from tidelog.testing.process import _free_port

ROOT = Path(__file__).parent.parent.parent
PATIENCE = 60.0
BUILD_PATIENCE = 900.0


def engine() -> str | None:
    """A container engine that answers, not only its client."""
    for name in ("docker", "podman"):
        if shutil.which(name) is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                if subprocess.run([name, "info"], capture_output=True, timeout=20, check=False).returncode == 0:
                    return name
    return None


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile as instruction and arguments."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(line.split()[0], line.partition(" ")[2].strip()) for line in joined.splitlines() if line.strip()]


def of(name: str) -> list[str]:
    return [arguments for instruction, arguments in instructions() if instruction == name]


def in_context(path: str) -> bool:
    """Whether `.dockerignore` lets it through: the last pattern that fits decides."""
    kept = True
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        pattern = line.lstrip("!").removeprefix("**/")
        parts = path.split("/")
        heads = {"/".join(parts[: n + 1]) for n in range(len(parts))} | (set(parts) if "**/" in line else set())
        if line and not line.startswith("#") and any(fnmatch.fnmatchcase(head, pattern) for head in heads):
            kept = line.startswith("!")
    return kept


class TestFiles:
    """What can be said without an engine."""

    def test_what_is_copied_is_there_and_not_ignored(self) -> None:
        sources = [name for line in of("COPY") if "--from" not in line for name in line.split()[:-1]]
        assert {"pyproject.toml", "constraints.txt", "src"} <= set(sources)
        for source in sources:
            assert (ROOT / source).exists(), source
            assert in_context(source), source

    def test_what_the_wheel_holds_is_copied(self) -> None:
        build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]
        copied = {name for line in of("COPY") for name in line.split()[:-1]}
        for path in build["targets"]["wheel"]["force-include"]:
            assert copied & {path, path.partition("/")[0]}, path

    @pytest.mark.parametrize("path", [".env", "tidelog.db", "src/.env", "src/tidelog.db-wal", ".git", ".venv", "tests"])
    def test_what_must_not_be_in_an_image_is_ignored(self, path: str) -> None:
        assert not in_context(path)

    def test_the_needs_are_those_of_the_project(self) -> None:
        """The line that reads them, run as it stands."""
        [command] = [line for line in of("RUN") if "tomllib" in line]
        script = shlex.split(command.partition(" > needs.txt")[0])
        done = subprocess.run([sys.executable, *script[1:]], cwd=ROOT, capture_output=True, text=True, check=True)
        assert "fastapi>=" in done.stdout
        assert "prometheus-client>=" in done.stdout

    def test_it_does_not_run_as_root(self) -> None:
        last = max(place for place, (name, _) in enumerate(instructions()) if name == "FROM")
        users = [arguments for name, arguments in instructions()[last:] if name == "USER"]
        assert users
        assert users[-1] not in ("root", "0")

    def test_it_starts_a_command_that_exists(self) -> None:
        assert json.loads(of("ENTRYPOINT")[-1]) == ["tidelog"]
        name, *arguments = json.loads(of("CMD")[-1])
        typer.main.get_command(cli.app).commands[name].make_context(name, arguments)  # type: ignore[attr-defined]

    def test_the_health_check_tells_life_from_death(self) -> None:
        command = json.loads(of("HEALTHCHECK")[-1].partition("CMD ")[2])
        app = FastAPI()
        app.include_router(Tidelog("memory:").router)
        with serve(app) as server:
            address = server.url.partition("//")[2]
            check = [sys.executable, *(part.replace("127.0.0.1:8000", address) for part in command[1:])]
            assert subprocess.run(check, capture_output=True, timeout=PATIENCE, check=False).returncode == 0
        assert subprocess.run(check, capture_output=True, timeout=PATIENCE, check=False).returncode != 0

    def test_compose_knows_its_parts(self) -> None:
        compose = composed()
        services, proxy = compose["services"], compose["services"]["proxy"]
        assert {name.partition(":")[0] for name in services["tidelog"]["volumes"]} == set(compose["volumes"])
        assert set(proxy["depends_on"]) < set(services)
        assert all((ROOT / volume.partition(":")[0]).exists() for volume in proxy["volumes"])
        published = [port for service in services.values() for port in service.get("ports", ())]
        assert all(port.startswith("127.0.0.1:") for port in published)

    def test_nginx_gets_the_snippet_with_the_name_of_the_service(self, tmp_path: Path) -> None:
        """The proxy's own command, with its folders moved and without its last step."""
        *shell, script = composed()["services"]["proxy"]["command"]
        moved = script.replace("/etc/tidelog", str(ROOT / "examples")).replace("/etc/nginx/conf.d", str(tmp_path))
        assert "exec nginx" in moved
        subprocess.run([*shell, moved.partition("exec nginx")[0]], check=True, timeout=PATIENCE)
        text = (tmp_path / "default.conf").read_text(encoding="utf-8")
        assert "proxy_pass http://tidelog:8000;" in text
        assert text.startswith("server {")
        assert text.count("{") == text.count("}") == 2
        assert "X-Forwarded-For $remote_addr;" in text


@pytest.fixture(scope="module")
def container() -> Iterator[tuple[str, str, str]]:
    """Engine, container and URL of a fresh image."""
    name = engine()
    if name is None:
        pytest.skip("no container engine answers (docker, podman): the image was not built, nor run, nor stopped")
    port, image = _free_port(), "tidelog-test"
    built = run(name, "build", "--tag", image, str(ROOT), timeout=BUILD_PATIENCE)
    assert built.returncode == 0, built.stderr[-4000:]
    started = run(name, "run", "--detach", "--publish", f"127.0.0.1:{port}:8000", image)
    assert started.returncode == 0, started.stderr
    found = started.stdout.strip()
    try:
        yield name, found, f"http://127.0.0.1:{port}"
    finally:
        run(name, "rm", "--force", "--volumes", found)
        run(name, "rmi", image)


class TestImage:
    @pytest.mark.timeout(BUILD_PATIENCE + 4 * PATIENCE)
    def test_it_answers_keeps_and_goes(self, container: tuple[str, str, str]) -> None:
        name, found, url = container
        wait_for(f"{url}/readyz")
        answer = httpx2.get(
            f"{url}/rag?question=What+is+a+cursor", headers={"Accept": "application/json"}, timeout=PATIENCE
        )
        assert answer.json()["sources"]
        assert run(name, "exec", found, "id", "-u").stdout.strip() == "10001"
        assert run(name, "restart", "--time", "15", found).returncode == 0
        wait_for(f"{url}/readyz")
        assert httpx2.get(url + answer.headers["location"], timeout=PATIENCE).json()["outcome"] == "completed"
        assert run(name, "stop", "--time", "15", found).returncode == 0
        assert run(name, "inspect", "--format", "{{.State.ExitCode}}", found).stdout.strip() == "0"
        lines = run(name, "logs", found).stderr.splitlines()
        assert not [line for line in lines if json.loads(line)["level"] in ("error", "critical")]


def composed() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
    return found


def run(*command: str, timeout: float = PATIENCE) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)


def wait_for(url: str) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        with contextlib.suppress(httpx2.HTTPError):
            if httpx2.get(url, timeout=5.0).status_code == 200:
                return
        time.sleep(0.2)
    raise TimeoutError(f"{url} does not answer")
