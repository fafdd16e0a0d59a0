"""Writes a few logs as fast as it can and says what is stored, until somebody kills it. Arguments: the store's URL."""

from __future__ import annotations

import asyncio
import os
import sys

from tidelog.log import Lease, Record
from tidelog.stores.sqlite import SqliteStore

LOGS = 4


async def write(store: SqliteStore, log: str) -> None:
    lease, last = Lease("scribe"), 0
    await store.open(log, b"")
    while True:
        batch = [Record(n, 1.0, b"%d" % n * (n % 300)) for n in range(last + 1, last + 2 + last % 5)]
        await store.append(log, last, batch, lease=lease)
        last = batch[-1].seq
        os.write(1, f"{log} {last}\n".encode())


async def main(url: str) -> None:
    store = SqliteStore(url)
    await store.start("scribe")
    await asyncio.gather(*(write(store, f"run/{n}") for n in range(LOGS)))


asyncio.run(main(sys.argv[1]))
