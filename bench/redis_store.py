"""The Redis store beside memory, raw ASGI that keeps nothing, and npm's ``resumable-stream`` on the same Redis.

``python -m bench.redis_store`` prints two tables: what an event of 300 runs with a viewer each costs the server and Redis, or a
cluster of it, and what one run costs Redis that is watched on three processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import median
from typing import NamedTuple

from redis import Redis

from bench import build, machine, roster
from bench.launch import DidNotStart, Running, running
from bench.load import Load, Report, Unmeasurable, put
from bench.machine import Cores
from bench.roster import Server

RATE = 50.0
FULL, QUICK = Load(300, RATE, ramp=2.0, window=10.0), Load(300, RATE, ramp=1.0, window=4.0)
ROUNDS = 3
PROCESSES, VIEWERS = 3, 10
FAN_SECONDS, QUICK_FAN_SECONDS = 10.0, 4.0
RESUMED = "GET /resumed?seconds={seconds}&rate={rate}"


class Cost(NamedTuple):
    """A round: µs of CPU for an event, ms, and events."""

    server: float
    redis: float
    p50: float
    p99: float
    lost: int
    foreign: float


class Fan(NamedTuple):
    """A run that is watched: its entries, and what Redis did and sent for it."""

    events: int
    delivered: int
    commands: float
    reads: float
    published: float
    bytes: float


def report(quick: bool) -> None:
    """Print both tables."""
    machine.allow_many_sockets()
    build.binary("client")
    raw, memory, ours, peer = map(roster.named, ("raw", "tidelog-memory", "tidelog-redis", "resumable-stream"))
    # Viewers watch what their own request makes, which Redis has no part in; these came back.
    resumed = replace(peer, name="resumed", title="the same, viewers that resumed", stream=RESUMED)
    rows = (raw, memory, ours, roster.REDIS_CLUSTER, peer, resumed)
    _print_costs(rows, QUICK if quick else FULL, rounds=1 if quick else ROUNDS)
    _print_fans((ours, replace(peer, viewers="GET /runs/{run}")), QUICK_FAN_SECONDS if quick else FAN_SECONDS)


# 300 runs


def _print_costs(rows: Sequence[Server], load: Load, *, rounds: int) -> None:
    print(f"  {load.streams} runs of {RATE:.0f} events/s, one viewer each; µs of CPU for an event, median of {rounds}")
    print(f"  {'':32}{'server':>8}{'× raw':>7}{'Redis':>8}{'p50 ms':>8}{'p99 ms':>8}{'lost':>6}{'foreign %':>11}")
    found: dict[str, Cost] = {}
    for row in rows:
        try:
            found[row.name] = cost = _middle([_cost(row, load) for _ in range(rounds)])
        except (DidNotStart, Unmeasurable) as error:
            print(f"  {row.title}: {error}")
            continue
        raw = found.get(roster.BASELINE)
        print(
            f"  {row.title:32}{cost.server:8.1f}{cost.server / raw.server if raw else 0:7.2f}{cost.redis:8.1f}"
            f"{cost.p50:8.1f}{cost.p99:8.1f}{cost.lost:6d}{cost.foreign:11.0f}",
            flush=True,
        )
    ours, memory = found.get("tidelog-redis"), found.get("tidelog-memory")
    if ours and memory:
        print(f"  Redis adds {ours.p50 - memory.p50:.1f} ms to the median latency (limit 10).")
    for name, said in (("resumable-stream", "resumable-stream"), ("resumed", "it to viewers that resumed")):
        peer = found.get(name)
        if ours and peer:
            ratio = peer.server / ours.server
            print(f"  In the same time of one core tidelog delivers {ratio:.2f} × the events of {said}.")


def _cost(server: Server, load: Load) -> Cost:
    with running(server, machine.cores()) as on:
        seen = put(on, load, request=server.stream.format(seconds=load.seconds, rate=RATE))
    if not seen.window_events:
        raise Unmeasurable("no event arrived")
    return Cost(_us(seen, seen.server_cpu, load), _us(seen, seen.beside_cpu, load), seen.p50, seen.p99, seen.lost,
                seen.foreign_cpu * 100)  # fmt: skip


def _us(seen: Report, share: float, load: Load) -> float:
    return share * load.window * 1e6 / seen.window_events


def _middle(rounds: Sequence[Cost]) -> Cost:
    return Cost(*(median(values) for values in zip(*rounds, strict=True)))


# One run on three processes


def _print_fans(rows: Sequence[Server], seconds: float) -> None:
    print(f"  One run of {RATE:.0f} events/s, {VIEWERS} viewers on each of {PROCESSES} processes; Redis, for an event")
    print(f"  {'':32}{'steps':>9}{'reads':>7}{'messages':>10}{'B sent':>8}{'delivered':>16}")
    for row in rows:
        try:
            fan = _fan(row, seconds)
        except (DidNotStart, Unmeasurable) as error:
            print(f"  {row.title}: {error}")
            continue
        delivered = f"{fan.delivered:,} of {fan.events * VIEWERS * PROCESSES:,}"
        print(
            f"  {row.title:32}{fan.commands:9.2f}{fan.reads:7.2f}{fan.published:10.2f}{fan.bytes:8.0f}{delivered:>16}",
            flush=True,
        )


def _fan(row: Server, seconds: float) -> Fan:
    with _on_one_redis(row) as (redis, processes):
        events = round(seconds * RATE)
        before = redis.info("all")
        starter, run = _start(processes[0], row.stream.format(seconds=seconds, rate=RATE))
        with contextlib.closing(starter):
            ports = [process.port for process in processes for _ in range(VIEWERS)]
            delivered = asyncio.run(_watch(ports, (row.viewers or "").format(run=run), events))
        after = redis.info("all")

    def spent(name: str, field: str | None = None) -> float:
        found = [float(one.get(name, {}).get(field, 0) if field else one.get(name, 0)) for one in (before, after)]
        return (found[1] - found[0]) / events

    return Fan(
        events=events,
        delivered=delivered,
        commands=spent("total_commands_processed"),
        reads=spent("cmdstat_xrange", "calls"),
        published=spent("cmdstat_publish", "calls"),
        bytes=spent("total_net_output_bytes"),
    )


@contextlib.contextmanager
def _on_one_redis(row: Server) -> Iterator[tuple[Redis, list[Running]]]:
    cores = machine.cores()
    beside = tuple(part.replace("{beside}", "{port}") for part in row.beside)
    with contextlib.ExitStack() as stack:
        on = stack.enter_context(running(Server("redis", "Redis", beside), Cores(cores.client, cores.client)))
        redis = stack.enter_context(Redis(port=on.port))
        name = str(on.port)
        command = tuple(part.replace("{beside}", name) for part in row.command)
        env = tuple((key, value.replace("{beside}", name)) for key, value in row.env)
        one = replace(row, command=command, env=env, beside=())
        yield redis, [stack.enter_context(running(one, cores)) for _ in range(PROCESSES)]


def _start(on: Running, request: str) -> tuple[http.client.HTTPConnection, str]:
    connection = http.client.HTTPConnection("127.0.0.1", on.port, timeout=10)
    method, target = request.split()
    connection.request(method, target, headers={"Accept": "text/event-stream"})
    run = connection.getresponse().getheader("Run-Id")
    if not run:
        connection.close()
        raise Unmeasurable("a start was not answered with a Run-Id")
    return connection, run


async def _watch(ports: Sequence[int], request: str, events: int) -> int:
    """How many texts came, in all."""
    found = await asyncio.gather(*(_viewer(port, request) for port in ports))
    return sum(found)


async def _viewer(port: int, request: str) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        f"{request} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\nConnection: close\r\n\r\n".encode()
    )
    await reader.readuntil(b"\r\n\r\n")
    text = await reader.read(-1)
    writer.close()
    return text.count(b";")


def main() -> None:
    """As a report of the bench."""
    report("--quick" in sys.argv)


if __name__ == "__main__":
    main()
