"""How keys are named. Those of a run have one hash tag, so a cluster keeps them in one slot; so have those of a process. Pure."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, Final, NamedTuple


class LogKeys(NamedTuple):
    """The keys of one log. `channel` is where its changes are told, `fence` where its owner is told what others did to it."""

    meta: str
    stream: str
    tomb: str
    channel: str
    fence: str


class Keys:
    """The keys of one store, all of which begin with `prefix`.

    `sharded`: changes are told and heard at the node of the log alone. Else every node of a cluster would tell all others.
    """

    def __init__(self, prefix: str, *, sharded: bool = False) -> None:
        self._prefix = prefix
        self._end = ":shard" if sharded else ""
        self.owners: Final = f"{prefix}:owners"
        """A set: every process that holds logs, or has left some behind."""
        self.all: Final = f"{prefix}:all"
        """A sorted set: the names of all logs that were opened, by the time."""
        self.ended: Final = f"{prefix}:ended"
        """A sorted set: the names of ended logs, by the time of the end."""
        self.parked: Final = f"{prefix}:parked"
        """A sorted set: the names of parked logs by the time when they are due, and of some that were parked and live."""

    def of(self, log: str) -> LogKeys:
        """Of the log of this name, such as `run/<id>`."""
        kind, _, rest = log.partition("/")
        root = f"{self._prefix}:{{{rest.replace('}', ')') or '-'}}}:{kind}:{rest}"
        bell, fence = f"{root}:bell{self._end}", f"{root}:fence{self._end}"
        return LogKeys(f"{root}:meta", f"{root}:log", f"{root}:gone", bell, fence)

    def beat(self, owner: str) -> str:
        """How often a process has beaten, or `dead`."""
        return f"{self._prefix}:beat:{{{owner}}}"

    def held(self, owner: str) -> str:
        """A set: the names of the logs that a process holds, and perhaps of some that it does not."""
        return f"{self._prefix}:held:{{{owner}}}"

    def mine(self, principal: str) -> str:
        """As `all`, for one principal."""
        return f"{self._prefix}:mine:{_digest(principal)}"

    def claim(self, key: str) -> str:
        """Of an idempotency key: the name of the log that has it, and the fingerprint."""
        return f"{self._prefix}:key:{_digest(key)}"


def of_command(command: tuple[Any, ...] | bytes) -> str:
    """The key by which a cluster knows who answers; what is packed runs a script."""
    if isinstance(command, bytes):
        return command.split(b"\r\n", 9)[8].decode()
    return str(command[3] if command[0] == "EVALSHA" else command[1])


def _digest(text: str) -> str:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
