"""The workloads, in the order in which they run and print."""

from __future__ import annotations

from bench.workload import Workload
from bench.workloads import capacity, cost, fanout, idle

WORKLOADS: tuple[Workload, ...] = (
    cost.WORKLOAD,
    capacity.WORKLOAD,
    fanout.FANOUT,
    fanout.MANY_VIEWERS,
    fanout.MOST_VIEWERS,
    fanout.BURSTS_OF,
    idle.WORKLOAD,
)
