"""From measured figures to the costs of the simulation, and from these to what many live runs need."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

from bench.scaling.measured import Sample
from bench.scaling.simulation import Costs, Plan, Seen, simulate

SHARE: Final = 0.6
"""Of a core that a thread is given: the rest is for bursts, and for what is not in the simulation."""
LASTS: Final = 30.0
"""Seconds that a run lives, on average."""
FAR: Final = 0.1
"""Of the viewers that watch from another process than that of their run: they have come back."""
CELL: Final = 4
"""Processes that are simulated of many."""
TRIES: Final = 8
GATHERS: Final = tuple(step / 4000 for step in range(21))
"""Seconds for which a loop may gather: the one that explains best how many pieces it sends."""
CONNECTIONS: Final = 4
"""Of a process to each shard, as a rule: one that stores, one that hears, and two that read."""


@dataclass(frozen=True)
class Figures:
    """What was measured beside the costs of an event, each for one run, viewer or event."""

    start_process: float  # seconds of CPU, start and end together
    start_redis: float
    far_process: float  # seconds of CPU for an event that reaches a viewer in another process
    far_redis: float
    run_bytes: float  # of memory, in its process, with its viewer
    stored_bytes: float  # of memory, in Redis
    event_bytes_in: float  # to Redis
    event_bytes_out: float
    viewer_bytes: float
    operations: float  # commands for an event, those of scripts too
    start_operations: float


@dataclass(frozen=True)
class Needs:
    """What so many live runs need."""

    runs: int
    rate: float
    processes: int
    shards: int
    seen: Seen
    connections_a_shard: int


def fitted(samples: list[Sample], base: Sample) -> Costs:
    """The costs that explain these samples best; `base` is what runs cost that say nothing."""
    process = _two([(one.events, one.reads - base.reads, one.process_share - base.process_share) for one in samples])
    redis = _two([(one.events, one.reads - base.reads, one.redis_share - base.redis_share) for one in samples])
    costs = Costs(event=process[0], piece=process[1], record=redis[0], batch=redis[1])
    return min((replace(costs, gather=gather) for gather in GATHERS), key=lambda one: _off(one, samples, base))


def _off(costs: Costs, samples: list[Sample], base: Sample) -> float:
    """How far the simulation is from the pieces that were sent."""
    found = 0.0
    for one in samples:
        plan = Plan(1, one.runs, one.events / one.runs, cores=2, seconds=2.0, waits=one.waits)
        found += math.log(simulate(plan, costs).pieces / max(1.0, one.reads - base.reads)) ** 2
    return found


def _two(rows: list[tuple[float, float, float]]) -> tuple[float, float]:
    """Least squares for `a` x + `b` y = z, each row weighed by its z; neither is below nothing."""
    rows = [(x / z, y / z, 1.0) for x, y, z in rows if z > 0]
    xx, xy, yy = sum(x * x for x, _, _ in rows), sum(x * y for x, y, _ in rows), sum(y * y for _, y, _ in rows)
    xz, yz = sum(x for x, _, _ in rows), sum(y for _, y, _ in rows)
    determinant = xx * yy - xy * xy
    a, b = (xz * yy - yz * xy) / determinant, (xx * yz - xy * xz) / determinant
    if a < 0:
        return 0.0, yz / yy
    if b < 0:
        return xz / xx, 0.0
    return a, b


def needs(runs: int, rate: float, costs: Costs, figures: Figures) -> Needs:
    """The fewest processes and shards that stay below `SHARE`: as if nothing shared a piece, then fewer and fewer."""
    events, begun, far = runs * rate, runs / LASTS, runs * rate * FAR
    beside = (
        begun * figures.start_process + far * figures.far_process,
        begun * figures.start_redis + far * figures.far_redis,
    )
    processes = math.ceil((events * (costs.event + costs.piece) + beside[0]) / SHARE)
    shards = math.ceil((events * (costs.record + costs.batch) + beside[1]) / SHARE)
    found = None
    for _ in range(TRIES):
        try:
            seen = _slice(runs, rate, processes, shards, costs)
        except ValueError:
            break
        process, shard = seen.process_share + beside[0] / processes, seen.shard_share + beside[1] / shards
        if found is not None and (process > SHARE * 1.02 or shard > SHARE * 1.02):
            break
        seen = Seen(process, shard, seen.pieces, seen.events, seen.p50, seen.p99)
        found = Needs(runs, rate, processes, shards, seen, connections_a_shard=processes * CONNECTIONS)
        fewer = math.ceil(processes * process / SHARE), math.ceil(shards * shard / SHARE)
        if fewer == (processes, shards):
            break
        processes, shards = min(processes, fewer[0]), min(shards, fewer[1])
    assert found is not None, "it was enough for no sharing at all"
    return found


def cell(rate: float, costs: Costs, figures: Figures, *, most: int = 12) -> Needs:
    """The most live runs that one Redis carries with processes of its own, which share it with nobody."""
    found = None
    for processes in range(1, most + 1):
        low, high = 0, 200_000
        while high - low > max(20, low // 50):
            runs = (low + high) // 2
            seen = _loaded(runs, rate, processes, costs, figures)
            low, high = (runs, high) if seen is not None else (low, runs)
        seen = _loaded(low, rate, processes, costs, figures) if low else None
        if seen is not None and (found is None or low > found.runs * 1.02):
            found = Needs(low, rate, processes, 1, seen, connections_a_shard=processes * CONNECTIONS)
    assert found is not None
    return found


def _loaded(runs: int, rate: float, processes: int, costs: Costs, figures: Figures) -> Seen | None:
    """One Redis and these processes under so many runs; None where something is over its share."""
    events, begun = runs * rate, runs / LASTS
    process = (begun * figures.start_process + events * FAR * figures.far_process) / processes
    shard = begun * figures.start_redis + events * FAR * figures.far_redis
    if process + events * costs.event / processes > SHARE or shard + events * costs.record > SHARE:
        return None
    try:
        seen = simulate(Plan(processes, runs, rate, seconds=max(0.4, min(2.0, 20_000 / events))), costs)
    except ValueError:
        return None
    seen = Seen(process + seen.process_share, shard + seen.shard_share, seen.pieces, seen.events, seen.p50, seen.p99)
    return seen if seen.process_share <= SHARE and seen.shard_share <= SHARE else None


def _slice(runs: int, rate: float, processes: int, shards: int, costs: Costs) -> Seen:
    """A few of the processes and their part of the shards, under their part of the runs."""
    simulated = min(CELL, processes)
    part = max(1, round(shards * simulated / processes))
    mine = runs * simulated // processes
    weight = part / (shards * simulated / processes)  # what is simulated of the shards is a whole number
    window = min(4.0, max(0.5, 60_000 / (mine * rate)))
    seen = simulate(Plan(simulated, mine, rate, part, shards, seconds=window), costs)
    return Seen(seen.process_share, seen.shard_share * weight, seen.pieces, seen.events, seen.p50, seen.p99)
