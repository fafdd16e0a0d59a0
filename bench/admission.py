"""``python -m bench.admission``: a full server under 1, 2 and 10 times the load that it admits.

At 1 × runs come as fast as slots become free: so many slots, divided by how long a run takes. What must hold: the first
byte of a body (its run and its place in the queue) within 500 ms for 99 in 100 at twice the load, and the gap between
tokens of admitted runs at ten times the load within 20 % of what it is at once.
"""

from __future__ import annotations

import argparse
import dataclasses

from bench import build, machine
from bench.launch import running
from bench.load import Load, Report, put
from bench.roster import Server

TIMES = (1, 2, 10)
FIRST_BYTE_LIMIT, GAP_LIMIT = 500.0, 1.2  # ms; ratio
RUN_SECONDS = 10.0
RAMP, WINDOW = 15.0, 3.0

CROWDED = Server(
    "crowded",
    "tidelog, full",
    ("{python}", "-m", "tidelog", "serve", "bench.servers.crowded:app", "--host", "127.0.0.1", "--port", "{port}"),
    peer=False,
)


def main() -> None:
    """Each load against a fresh process."""
    options = _options()
    machine.allow_many_sockets()
    build.binary("client")
    store = {"memory": "memory:", "sqlite": "sqlite:///{scratch}/bench.db"}[options.store]
    env = (("BENCH_STORE", store), ("BENCH_RUNS", str(options.runs)))
    server = dataclasses.replace(CROWDED, env=env)
    print("load   viewers  first byte p99 ms  gap p50 ms  gap p99 ms  server %  others %  unanswered")
    reports = {times: _measure(server, options.runs, times, rate=options.rate) for times in TIMES}
    for times, report in reports.items():
        print(
            f"{times:3} ×  {report.streams:8} {report.byte_p99:18.1f} {report.gap_p50:11.1f} {report.gap_p99:11.1f}"
            f" {report.server_cpu:9.0%} {report.foreign_cpu:9.0%} {report.streams - report.bytes_seen:11}"
        )
    print(_verdict(reports))


def _measure(server: Server, runs: int, times: int, *, rate: float) -> Report:
    load = Load(round(times * runs / RUN_SECONDS * RAMP), rate, ramp=RAMP, window=WINDOW)
    with running(server, machine.cores()) as on:
        return put(on, load, request=server.stream.format(seconds=RUN_SECONDS, rate=rate))


def _verdict(reports: dict[int, Report]) -> str:
    first = reports[2].byte_p99
    gaps = [getattr(reports[10], name) / getattr(reports[1], name) for name in ("gap_p50", "gap_p99")]
    held = first < FIRST_BYTE_LIMIT and gaps[0] < GAP_LIMIT
    return (
        f"{'Held' if held else 'NOT held'}: first byte p99 at 2 × is {first:.0f} ms (limit {FIRST_BYTE_LIMIT:.0f});"
        f" gap at 10 × is {gaps[0]:.2f} × that at 1 × at the median (limit {GAP_LIMIT}), {gaps[1]:.2f} × at p99."
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.admission", description=__doc__)
    parser.add_argument("--runs", type=int, default=200, help="slots of the server (default 200)")
    parser.add_argument("--rate", type=float, default=20.0, help="tokens a second and run (default 20)")
    parser.add_argument("--store", choices=("memory", "sqlite"), default="sqlite")
    return parser.parse_args()


if __name__ == "__main__":
    main()
