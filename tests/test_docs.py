"""The pages tell the truth: what they show is a file that runs here, what they list is what the code has.

`python -m tests.test_docs` writes the files' text into the pages.
"""

from __future__ import annotations

import importlib
import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import pytest
import typer.main
import uvicorn
from tests.test_cli import PATIENCE, Server, serving, until

import tidelog
from tidelog import cli
from tidelog.errors import RETRYABLE
from tidelog.limits import Limits
from tidelog.server.app import Tidelog
from tidelog.server.options import Options
from tidelog.server.settings import PREFIX, Settings
from tidelog.server.status import STATUS

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
PAGES = [ROOT / "README.md", ROOT / "README.zh-CN.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"(?:<!-- (?P<name>\S+) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)```", re.DOTALL)
LANGUAGES = {".py": "python", ".sh": "sh", ".conf": "nginx", ".html": "html"}
MARK = "<!-- {} -->\n"


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def filled(text: str) -> str:
    """The page with each marked block as its file is."""

    def one(match: re.Match[str]) -> str:
        name = match["name"]
        if name is None:
            return match[0]
        return f"{MARK.format(name)}```{match['language']}\n{(ROOT / name).read_text(encoding='utf-8')}```"

    return BLOCK.sub(one, text)


class TestPages:
    @pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
    def test_every_block_is_a_file(self, path: Path) -> None:
        for match in BLOCK.finditer(path.read_text(encoding="utf-8")):
            assert match["name"], f"a block without its file: {match['text'][:60]!r}"
            assert match["text"] == (ROOT / match["name"]).read_text(encoding="utf-8"), match["name"]
            assert match["language"] == LANGUAGES[Path(match["name"]).suffix]

    def test_every_example_is_shown_or_run(self) -> None:
        shown = "".join(each.read_text(encoding="utf-8") for each in PAGES)
        ran = {f"{case.module}.py" for case in CASES}
        tested = "".join(each.read_text(encoding="utf-8") for each in (ROOT / "tests" / "examples").glob("test_*.py"))
        ran |= {path.name for path in EXAMPLES.glob("*.py") if re.search(rf"\b{path.stem}\b", tested)}
        for path in EXAMPLES.iterdir():
            if path.is_file():
                assert MARK.format(f"examples/{path.name}") in shown or path.name in ran, path.name

    @pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
    def test_links_lead_somewhere(self, path: Path) -> None:
        text = BLOCK.sub("", path.read_text(encoding="utf-8"))
        for target in re.findall(r"\]\(([^)#\s]+)", text):
            if "://" not in target:
                assert (path.parent / target).exists(), target

    def test_named_tests_exist(self) -> None:
        """By the names that pytest takes. To let it collect them takes as long as a hundred tests."""
        named = {name for each in PAGES for name in re.findall(r"`(tests/[\w/.:]+)`", each.read_text(encoding="utf-8"))}
        assert len(named) > 10
        for name in named:
            file, *inner = name.split("::")
            assert (ROOT / file).exists(), name
            found: Any = importlib.import_module(file.removesuffix(".py").replace("/", ".")) if inner else None
            for part in inner:
                found = getattr(found, part)

    def test_both_readmes_have_the_same_parts(self) -> None:
        english, chinese = page("README.md"), page("README.zh-CN.md")
        for pattern in (r"^#+ ", r"^\|", r"^- ", r"`tests/[^`]+`", r"`TIDELOG_\w+`", r"^```\w+"):
            counts = [len(re.findall(pattern, text, re.MULTILINE)) for text in (english, chinese)]
            assert counts[0] == counts[1], pattern
        names = [
            [name.replace(".zh.", ".") for name in re.findall(r"<!-- (\S+) -->", text)] for text in (english, chinese)
        ]
        assert names[0] == names[1]

    def test_the_quick_start_has_under_20_lines(self) -> None:
        lines = (EXAMPLES / "quickstart.py").read_text(encoding="utf-8").splitlines()
        assert len([line for line in lines if line.strip()]) < 20


class TestLists:
    def test_every_public_name(self) -> None:
        text = page("docs/api.md")
        assert not [name for name in tidelog.__all__ if not re.search(rf"\b{name}\b", text)]

    @pytest.mark.parametrize("kind", [Options, Limits])
    def test_every_option_with_its_default(self, kind: Any) -> None:
        defaults = {name: value for name, value in kind._field_defaults.items() if name != "limits"}
        found = _rows(page("docs/api.md"))
        for name, value in defaults.items():
            assert found[name][0] == f"`{json.dumps(value) if isinstance(value, str) else value}`", name

    def test_every_argument_of_tidelog_with_its_default(self) -> None:
        found = _rows(page("docs/api.md").partition("### tide.stream")[0])
        given = {**(Tidelog.__init__.__kwdefaults__ or {}), "store": None}
        shown = {name: found[name][0] for name in given}
        assert shown == {name: f"`{'Limits()' if value == Limits() else value}`" for name, value in given.items()}

    def test_every_code_with_its_status(self) -> None:
        found = _rows(page("docs/api.md"))
        for code, status in STATUS.items():
            assert found[code] == [str(status), "yes" if code in RETRYABLE else "no"], code

    @pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md"])
    def test_every_setting_with_its_default(self, name: str) -> None:
        found = {key: row for key, row in _rows(page(name)).items() if key.startswith(PREFIX)}
        fields = Settings.model_fields
        assert set(found) == {PREFIX + field.upper() for field in fields}
        for field, info in fields.items():
            assert found[PREFIX + field.upper()][0] == ("" if info.default is None else f"`{info.default}`"), field

    def test_every_command(self) -> None:
        commands = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
        text = (EXAMPLES / "terminal.sh").read_text(encoding="utf-8") + page("README.md")
        assert set(commands) == {"serve", "tail", "stop", "pause", "resume", "answer", "runs", "publish", "key"}
        assert not [name for name in commands if f"tidelog {name}" not in text]

    def test_the_changelog_names_the_version(self) -> None:
        project = tomllib.loads(page("pyproject.toml"))["project"]
        assert project["version"] == tidelog.__version__
        assert f"## [{tidelog.__version__}]" in page("CHANGELOG.md")


def _rows(text: str) -> dict[str, list[str]]:
    """First cell, without its quotes, to the other cells."""
    rows = (
        re.split(r"\s*\|\s*", line.strip().strip("|").strip()) for line in text.splitlines() if line.startswith("|")
    )
    return {row[0].strip("`"): row[1:] for row in rows if row}


class Case(NamedTuple):
    """A program of `examples/`, a request, and what the whole body or the whole text must be."""

    module: str
    path: str
    body: str


CASES = (
    Case("streaming_response_before", "/chat?question=why", 'data: {"text": "why "}\n\ndata: [DONE]'),
    Case("streaming_response_after", "/chat?question=why", 'why "}'),
    Case("sse_starlette_before", "/chat?question=why", "event: retrieval_done\r\ndata: {"),
    Case("sse_starlette_before", "/chat?question=why", "data: why \r\n\r\nevent: done"),
    Case("sse_starlette_after", "/chat?question=why", "event: retrieval_done\n"),
    Case("sse_starlette_after", "/chat?question=why", "why \n"),
    Case("page", "/", "new EventSource("),
)


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    """The examples in a folder of their own: they keep their database in the working directory."""
    return Path(shutil.copytree(EXAMPLES, tmp_path / "examples"))


def run_script(name: str, server: Server, folder: Path | None = None) -> str:
    """A shell example against a real server; what it prints. `sh -e` takes the place of a reader's eye."""
    script = (EXAMPLES / name).read_text(encoding="utf-8").replace("127.0.0.1:8000", f"127.0.0.1:{server.port}")
    done = subprocess.run(
        ["sh", "-eu", "-c", f"curl() {{ command curl -sS --fail-with-body \"$@\"; echo; }}\n{script}"],
        capture_output=True, timeout=3 * PATIENCE, check=False, cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode() + done.stdout.decode()
    return done.stdout.decode()


class TestExamples:
    @pytest.mark.parametrize("module", sorted({case.module for case in CASES}))
    def test_runs(self, examples: Path, module: str) -> None:
        with serving(examples, f"{module}:app") as server:
            for case in CASES:
                if case.module == module:
                    assert case.body in httpx2.get(server.url + case.path, timeout=PATIENCE).text

    def test_before_the_answer_is_lost_and_after_it_is_there(self, examples: Path) -> None:
        """The client leaves after the first bytes."""
        with serving(examples, "streaming_response_after:app") as server:
            with httpx2.stream("GET", f"{server.url}/chat?question=why+not", timeout=PATIENCE) as answer:
                run = answer.headers["run-id"]
                next(answer.iter_bytes())
            until(lambda: server.state(run)["outcome"] == "completed")
            found = httpx2.get(f"{server.url}/runs/{run}/transcript", timeout=PATIENCE).json()
            assert found["text"] == "You asked: why not "
        with serving(examples, "streaming_response_before:app") as server:
            answer = httpx2.get(f"{server.url}/chat?question=why", timeout=PATIENCE)
            assert "run-id" not in answer.headers

    def test_quick_start_and_its_curl(self, examples: Path) -> None:
        with serving(examples, "quickstart:app") as server:
            streamed, _, document = run_script("chat.sh", server).strip().rpartition("\n")
            assert '"type":"sources"' in streamed
            assert '"type":"run.ended","outcome":"completed"' in streamed
            assert json.loads(document)["text"] == "You asked: Why? This is the answer. "

    def test_verbs(self, examples: Path) -> None:
        with serving(examples, "quickstart:app") as server:
            printed = run_script("verbs.sh", server)
            assert '{"result":"stopped"}' in printed
            assert re.findall(r'"mode":"(\w+)"(?=,"events"|})', printed) == ["continue", "retry"]
            assert '"outcome":"stopped"' in printed

    def test_pausing(self, examples: Path) -> None:
        with serving(examples, "quickstart:app") as server:
            printed = run_script("pause.sh", server)
            assert '{"result":"paused"}' in printed
            assert '"state":"paused","position":null' in printed
            assert '{"result":"resumed"}' in printed
            assert re.findall(r'"type":"run.state","state":"(\w+)"', printed) == ["paused", "running"]
            assert '"type":"run.ended","outcome":"completed"' in printed

    def test_tasks(self, examples: Path) -> None:
        """The lines of all long-polls, and nothing twice."""
        with serving(examples, "quickstart:app") as server:
            *_, last, result = run_script("tasks.sh", server, examples).splitlines()
            assert '"type":"run.ended","outcome":"completed"' in last
            assert json.loads(result)["text"] == "You asked: Why? This is the answer. "

    @pytest.mark.parametrize("name", ["rag.sh", "rag.zh.sh"])
    def test_built_in_answers(self, examples: Path, name: str) -> None:
        with serving(examples) as server:
            document, _, streamed = run_script(name, server).partition("\n")
            assert json.loads(document)["sources"]
            assert '"type":"run.ended","outcome":"completed"' in streamed

    def test_the_other_built_in_applications(self, examples: Path) -> None:
        with serving(examples) as server:
            said = run_script("apps.sh", server).replace("}{", "}\n{").splitlines()
        chat, agent = map(json.loads, said)
        assert chat["sources"] and chat["text"]
        assert [part["output"] for part in agent["message"]["parts"] if part["type"] == "tool"] == [
            {"expression": "12 * 7", "value": "84"}
        ]

    def test_uploads(self, examples: Path) -> None:
        (examples / "notes.md").write_text("# Notes\n\nThe gate opens at nine.\n")
        with serving(examples) as server:
            printed = run_script("documents.sh", server, examples)
            assert '"read":[{"name":"notes.md"' in printed
            assert '"documents":[{"name":"notes.md"' in printed
            assert httpx2.get(f"{server.url}/documents", timeout=PATIENCE).json()["documents"] == []

    def test_the_terminal(self, examples: Path) -> None:
        """Every command there is one of ours, with arguments that it takes."""
        group = typer.main.get_command(cli.app)
        for line in (EXAMPLES / "terminal.sh").read_text(encoding="utf-8").splitlines():
            name, *arguments = line.partition("#")[0].split()[1:]
            group.commands[name].make_context(name, arguments)  # type: ignore[attr-defined]

    def test_the_commands_of_several_processes(self) -> None:
        ours = typer.main.get_command(cli.app).commands["serve"]  # type: ignore[attr-defined]
        for line in (EXAMPLES / "workers.sh").read_text(encoding="utf-8").splitlines():
            command = line.partition("#")[0].removeprefix("tidelog serve ")
            asked = uvicorn.main if command.startswith("uvicorn ") else ours
            context = asked.make_context("", command.removeprefix("uvicorn ").split())
            assert context.params["workers"] == 4

    def test_make_has_the_targets(self) -> None:
        makefile = page("Makefile")
        for line in (EXAMPLES / "start.sh").read_text(encoding="utf-8").splitlines():
            assert re.search(rf"^{line.split()[1]}:", makefile, re.MULTILINE)

    def test_request_work(self, examples: Path) -> None:
        with serving(examples, "request_work:app") as server, httpx2.Client(base_url=server.url) as client:
            files = {"file": ("a.txt", b"First. Second.\nThird.")}
            assert client.post("/summary", files=files).status_code == 401
            answer = client.post("/summary", files=files, headers={"X-User": "ann"})
            assert answer.json()["text"] == "First. Third. "
            assert client.get(answer.headers["location"]).status_code == 401
            assert client.get(answer.headers["location"], headers={"X-User": "bob"}).status_code == 404
            assert client.get(answer.headers["location"], headers={"X-User": "ann"}).status_code == 200
            empty = client.post("/summary", files={"file": ("a.txt", b"")}, headers={"X-User": "ann"})
            assert (empty.status_code, empty.json()["detail"]) == (400, "The file is empty.")

    @pytest.mark.parametrize(
        ("name", "around"),
        [("nginx.conf", "server {{ listen 127.0.0.1:1; {} }}"), ("nginx_rolling.conf", "{}")],
        ids=["nginx", "rolling"],
    )
    def test_nginx_takes_the_snippet(self, tmp_path: Path, name: str, around: str) -> None:
        snippet = (EXAMPLES / name).read_text(encoding="utf-8")
        assert snippet.count("{") == snippet.count("}")
        if nginx := shutil.which("nginx"):
            config = tmp_path / "nginx.conf"
            config.write_text(f"pid {tmp_path}/pid; events {{}} http {{ {around.format(snippet)} }}")
            done = subprocess.run([nginx, "-t", "-c", str(config)], capture_output=True, timeout=PATIENCE, check=False)
            assert done.returncode == 0, done.stderr.decode()

    def test_the_testing_kit(self, examples: Path) -> None:
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_answer.py"]
        done = subprocess.run(command, cwd=examples, capture_output=True, text=True, timeout=3 * PATIENCE, check=False)
        assert done.returncode == 0, done.stdout
        assert "1 passed" in done.stdout

    def test_a_string_that_looks_like_a_frame_is_warned_of(self, examples: Path) -> None:
        """The generator of before in the endpoint of after."""
        after = (EXAMPLES / "streaming_response_after.py").read_text(encoding="utf-8")
        body = "from streaming_response_before import answer\n\n\n@app.get"
        (examples / "mixed.py").write_text(re.sub(r"async def answer.*@app.get", body, after, flags=re.DOTALL))
        with serving(examples, "mixed:app") as server:
            assert httpx2.get(f"{server.url}/chat?question=why", timeout=PATIENCE).status_code == 200
            server.process.terminate()
            printed = server.end()
        warning = re.search(r"WARNING (a run yields) 'data: .*(tidelog writes the SSE frames itself)", printed)
        assert warning
        assert f"{warning[1]} 'data: …': {warning[2]}" in page("docs/coming-from.md")

    def test_every_program_imports(self, examples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(examples)
        monkeypatch.syspath_prepend(str(examples))
        for path in sorted(set(examples.glob("*.py")) - set(examples.glob("test_*.py"))):
            module = importlib.import_module(path.stem)
            del sys.modules[path.stem]
            assert path.stem in ("tools", "follow", "mirror") or callable(module.app)


class TestPromises:
    """Lines of the README's tables that no other test shows as a whole."""

    def test_leaving_stops_nothing(self, tmp_path: Path) -> None:
        with serving(tmp_path, "app:app") as server:
            with httpx2.stream("GET", f"{server.url}/gated", timeout=PATIENCE) as answer:
                run = answer.headers["run-id"]
            assert server.state(run)["state"] == "running"
            (tmp_path / "gate").touch()
            until(lambda: server.state(run)["outcome"] == "completed")

    def test_what_a_viewer_saw_is_there_after_a_kill(self, tmp_path: Path) -> None:
        """`kill -9` in the middle of a fast stream: every whole frame that arrived is in the next process's log."""
        with serving(tmp_path, "app:app") as server:
            frames = list(_until_killed(server))
            server.end()
            server.start()
            log = [json.loads(line) for line in _log(server, frames[0]["run"])]
            stored = "".join(event["text"] for event in log if event["type"] == "text.delta")
            seen = "".join(event["text"] for event in frames if event["type"] == "text.delta")
            assert seen
            assert stored.startswith(seen)

    def test_two_starts_without_a_key_are_two_runs(self, tmp_path: Path) -> None:
        with serving(tmp_path, "app:app") as server:
            keyed = {server.launch("/rich?key=k") for _ in range(2)}
            assert len(keyed) == 1
            assert server.launch("/rich") != server.launch("/rich")

    def test_a_blocking_call_cannot_be_interrupted(self, tmp_path: Path) -> None:
        """The run ends when it is told to; the call goes on behind it until the gate opens."""
        with serving(tmp_path, "app:app") as server:
            run = server.launch("/blocking")
            until((tmp_path / "began").exists)
            answer = httpx2.post(f"{server.url}/runs/{run}/stop", timeout=PATIENCE)
            assert answer.json() == {"result": "stopped"}
            assert not (tmp_path / "finally").exists()
            (tmp_path / "gate").touch()
            until((tmp_path / "finally").exists)


def _until_killed(server: Server) -> Iterator[dict[str, Any]]:
    headers = {"Accept": "application/x-ndjson"}
    rest = b""
    try:
        with httpx2.stream("GET", f"{server.url}/fast", headers=headers, timeout=PATIENCE) as answer:
            for chunk in answer.iter_bytes():
                *lines, rest = (rest + chunk).split(b"\n")
                yield from (json.loads(line) for line in lines if line)
                if b"word 200 " in chunk:
                    server.process.kill()
    except httpx2.TransportError:
        pass


def _log(server: Server, run: str) -> list[str]:
    url, headers = f"{server.url}/runs/{run}/events", {"Accept": "application/x-ndjson"}
    return [line for line in httpx2.get(url, headers=headers, timeout=PATIENCE).text.split("\n") if line]


if __name__ == "__main__":
    for each in PAGES:
        each.write_text(filled(each.read_text(encoding="utf-8")), encoding="utf-8")
