"""The command line: `serve`, `tail`, `stop`, `pause`, `resume`, `answer`, `runs`, `publish`, `key`. Imports stand inside.

Exit codes: 0 all is well, 1 it cannot be done (the sentence says why), 2 the command makes no sense; `tail` and `publish` tell by
3 to 6 how a run ended, and 130 is Ctrl-C.
"""

from __future__ import annotations

from typing import Annotated, Literal

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

RunArgument = Annotated[str, typer.Argument(metavar="RUN|URL", help="A run's id or its URL.")]
UrlOption = Annotated[str, typer.Option(help="Where tidelog answers; a router's prefix belongs to it.")]
HeaderOption = Annotated[
    list[str] | None, typer.Option("--header", "-H", help="'Name: value' for each request. May stand more than once.")
]
DEFAULT_URL = "http://127.0.0.1:8000"


@app.callback()
def root() -> None:
    """Durable, resumable streams for Python AI back ends."""


@app.command()
def serve(
    target: Annotated[
        str | None, typer.Argument(metavar="[MODULE:APP]", help="Your application; without it, the built-in ones.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on. [127.0.0.1]", show_default=False)] = None,
    port: Annotated[
        int | None, typer.Option(help="Port to listen on. [8000]", min=1, max=65535, show_default=False)
    ] = None,
    store: Annotated[
        str | None, typer.Option(help="memory: or sqlite:///file.db [sqlite:///tidelog.db]", show_default=False)
    ] = None,
    docs: Annotated[str | None, typer.Option(help="Folder or file of documents for /rag.", show_default=False)] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Language model of the built-in applications.", show_default=False),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes that serve, on one file. [1]", min=1, show_default=False)
    ] = None,
    log_format: Annotated[Literal["text", "json"], typer.Option(help="How the log is written to stderr.")] = "text",
) -> None:
    """Serve your application, or the built-in ones. The first Ctrl-C lets live runs finish, the second does not."""
    from tidelog.server import collector

    collector.starting()  # before all that is imported now
    from tidelog.cli import serving
    from tidelog.cli.trouble import told

    with told():
        given = {"host": host, "port": port, "store": store, "docs": docs, "model": model, "workers": workers}
        given = {name: value for name, value in given.items() if value is not None}
        serving.serve(target, given, log_format=log_format)


@app.command()
def tail(
    run: RunArgument,
    url: UrlOption = DEFAULT_URL,
    header: HeaderOption = None,
    json: Annotated[bool, typer.Option("--json", help="Every event as a line of JSON.")] = False,
    patience: Annotated[float, typer.Option(help="Seconds to go on trying when the server is away.", min=0)] = 300.0,
) -> None:
    """Follow a run to its end, through lost connections and restarts of the server.

    The answer's text goes to stdout, all else to stderr. Ctrl-C leaves and does not stop the run.

    The exit code tells how the run ended: 0 completed, 3 failed, 4 stopped, 5 timed_out, 6 interrupted.
    """
    from tidelog.cli import follow, remote, show
    from tidelog.cli.trouble import told

    with told(), remote.connect(header or ()) as client:
        address = remote.run_address(run, url)
        screen = show.Lines() if json else show.Terminal()
        try:
            for frame in follow.frames(client, address, patience=patience, say=show.note):
                screen.show(frame)
        except KeyboardInterrupt:
            show.note(f"Left. The run goes on: tidelog tail {address}")
            raise typer.Exit(130) from None
        raise typer.Exit(screen.finish())


@app.command()
def stop(run: RunArgument, url: UrlOption = DEFAULT_URL, header: HeaderOption = None) -> None:
    """Stop a run and tell what came of it: `stopped`, `already_ended` or `stopping`. The last one exits with 1."""
    _ask("stop", run, url, header)


@app.command()
def pause(run: RunArgument, url: UrlOption = DEFAULT_URL, header: HeaderOption = None) -> None:
    """Pause a run: its source is not asked for more, whoever watches.

    Tells what came of it: `paused`, `already_paused`, `already_ended` or `pausing`. The last one exits with 1.
    """
    _ask("pause", run, url, header)


@app.command()
def resume(run: RunArgument, url: UrlOption = DEFAULT_URL, header: HeaderOption = None) -> None:
    """Let a paused run go on.

    Tells what came of it: `resumed`, `not_paused`, `already_ended` or `resuming`. The last one exits with 1.
    """
    _ask("resume", run, url, header)


@app.command()
def answer(
    run: RunArgument,
    question: Annotated[str, typer.Argument(help="The question's name, such as q1.")],
    value: Annotated[str, typer.Argument(help="The answer.")],
    url: UrlOption = DEFAULT_URL,
    header: HeaderOption = None,
    json: Annotated[bool, typer.Option("--json", help="VALUE is JSON, and not text.")] = False,
) -> None:
    """Answer a question of a run and tell what came of it: `answered` or `answering`. The first answer counts.

    If another one came first, that is said, and the exit code is 1.
    """
    from tidelog.cli import remote
    from tidelog.cli.trouble import told

    with told(), remote.connect(header or ()) as client:
        given = remote.parsed(value) if json else value
        typer.echo(remote.answer(client, remote.run_address(run, url), question, given)["result"])


@app.command()
def runs(
    url: UrlOption = DEFAULT_URL,
    header: HeaderOption = None,
    limit: Annotated[int, typer.Option(help="How many at most.", min=1, max=1000)] = 20,
) -> None:
    """List my runs, newest first."""
    from tidelog.cli import remote, show
    from tidelog.cli.trouble import told

    with told(), remote.connect(header or ()) as client:
        typer.echo(show.table(remote.runs(client, url, limit)))


@app.command()
def publish(
    run: Annotated[
        str | None, typer.Argument(metavar="[RUN|URL]", help="The id that the run is to have, or its URL.")
    ] = None,
    url: UrlOption = DEFAULT_URL,
    header: HeaderOption = None,
    ndjson: Annotated[bool, typer.Option("--ndjson", help="Read events as lines of JSON; else all is text.")] = False,
    patience: Annotated[float, typer.Option(help="Seconds to go on trying when the server is away.", min=0)] = 300.0,
) -> None:
    """Make a run of what a pipe says: make 2>&1 | tidelog publish

    Goes on through lost connections and restarts of the server. The end of the pipe completes the run, Ctrl-C stops it;
    where somebody else stops it, the pipe is closed.

    The exit code tells how the run ended: 0 completed, 3 failed, 4 stopped, 5 timed_out, 6 interrupted.
    """
    import sys

    from tidelog.cli import pipe as pipes
    from tidelog.cli import show
    from tidelog.cli.trouble import told

    with told():
        try:
            outcome = pipes.publish(run, url, header or (), lines=ndjson, pipe=sys.stdin.fileno(), patience=patience)
        except KeyboardInterrupt:
            show.note("stopped")
            raise typer.Exit(130) from None
        show.note(outcome)
        raise typer.Exit(show.EXIT_CODES.get(outcome, 1))


def _ask(verb: str, run: str, url: str, header: list[str] | None) -> None:
    """Ask this of a run, print the server's word on it, exit with 1 where its owner has not obeyed yet."""
    from tidelog.cli import remote
    from tidelog.cli.trouble import told

    with told(), remote.connect(header or ()) as client:
        result = remote.ask(client, remote.run_address(run, url), verb)
        typer.echo(result)
        raise typer.Exit(1 if result in ("stopping", "pausing", "resuming") else 0)


@app.command()
def key(name: Annotated[str, typer.Argument(help="Whose key it is: the name that their runs belong to.")]) -> None:
    """Make an API key: the key itself to stdout, and to stderr the line that `TIDELOG_API_KEYS` needs to know."""
    from tidelog.auth import hash_key, new_key
    from tidelog.cli.trouble import Trouble, told

    with told():
        if not name.strip() or any(mark in name for mark in ":,\n"):
            raise Trouble("A name has no colon, comma or line end.", 2)
        made = new_key()
        typer.echo(made)
        typer.echo(f"{name.strip()}:{hash_key(made)}", err=True)


def main() -> None:
    """The entry point."""
    app()
