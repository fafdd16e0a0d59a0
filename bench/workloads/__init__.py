"""The workloads, in the order in which they run and print."""

from __future__ import annotations

from bench.workload import Workload
from bench.workloads import capacity, cost, fanout, first, idle, processes, replay, stalled, startup

WORKLOADS: tuple[Workload, ...] = (
    cost.WORKLOAD,
    capacity.WORKLOAD,
    fanout.FANOUT,
    fanout.MANY_VIEWERS,
    fanout.MOST_VIEWERS,
    fanout.BURSTS_OF,
    replay.WORKLOAD,
    idle.WORKLOAD,
    stalled.WORKLOAD,
    first.WORKLOAD,
    processes.WORKLOAD,
    startup.START,
    startup.IMPORT,
)
