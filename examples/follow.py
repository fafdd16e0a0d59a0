"""Follow a run over a WebSocket, and stop it: `python follow.py http://127.0.0.1:8000/runs/RUN`. Needs `websockets`."""

import json
import sys
import time
from collections.abc import Iterator
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect


def follow(run: str, stop_after: int | None = None) -> Iterator[dict[str, Any]]:
    """Its events, each once, whatever happens to the connection. It is stopped behind so many."""
    address, seen = run.replace("http", "ws", 1) + "/ws", 0
    while True:
        try:
            with connect(f"{address}?after={seen}", compression=None) as socket:
                for message in socket:
                    event = json.loads(message)
                    if event.get("from", event.get("seq")) != seen + 1:
                        continue  # heartbeats and answers are no records; a record that is known changes nothing
                    seen = event["seq"]
                    yield event
                    if event["type"] == "run.ended":
                        return
                    if stop_after is not None and seen >= stop_after:
                        stop_after = None
                        socket.send(json.dumps({"type": "stop"}))
        except (ConnectionClosed, OSError):
            pass
        time.sleep(1)


if __name__ == "__main__":
    for event in follow(sys.argv[1]):
        print(event.get("text", ""), end="", flush=True)
