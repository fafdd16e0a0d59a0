"""Kernel memory of TCP sockets, as the kernel tells it over netlink (sock_diag(7)); no tool is needed."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY = 4, 20
NLM_F_REQUEST, NLM_F_DUMP = 0x1, 0x300
NLMSG_ERROR, NLMSG_DONE = 2, 3
INET_DIAG_SKMEMINFO = 7
ESTABLISHED = 1 << 1
HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, process
REQUEST = struct.Struct("=BBBBI48x")  # family, protocol, extensions, padding, states; an empty socket id
SOCKET_SIZE = 72  # struct inet_diag_msg
ATTRIBUTE = struct.Struct("=HH")  # length, type
RECEIVED, FORWARD, QUEUED, BACKLOG = 0, 4, 5, 7  # indices into the answer: what is allocated, not what is allowed
BUFFER = 1 << 18


def kernel_bytes(port: int) -> int:
    """What the kernel holds for the established sockets whose own end is this local port: a server's, not its clients'."""
    return sum(memory for own, memory in _sockets() if own == port)


def _sockets() -> Iterator[tuple[int, int]]:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as netlink:
        netlink.bind((0, 0))
        body = REQUEST.pack(socket.AF_INET, socket.IPPROTO_TCP, 1 << (INET_DIAG_SKMEMINFO - 1), 0, ESTABLISHED)
        netlink.send(HEADER.pack(HEADER.size + len(body), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP, 1, 0) + body)
        while True:
            for kind, message in _messages(netlink.recv(BUFFER)):
                if kind == NLMSG_DONE:
                    return
                if kind == NLMSG_ERROR:
                    raise OSError(-struct.unpack_from("=i", message)[0], "the kernel tells nothing of its sockets")
                yield struct.unpack_from(">H", message, 4)[0], _memory(message)


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    while data:
        length, kind, *_ = HEADER.unpack_from(data)
        yield kind, data[HEADER.size : length]
        data = data[_aligned(length) :]


def _memory(message: bytes) -> int:
    rest = message[SOCKET_SIZE:]
    while len(rest) >= ATTRIBUTE.size:
        length, kind = ATTRIBUTE.unpack_from(rest)
        if kind == INET_DIAG_SKMEMINFO:
            values = struct.unpack_from(f"={(length - ATTRIBUTE.size) // 4}I", rest, ATTRIBUTE.size)
            return sum(values[at] for at in (RECEIVED, FORWARD, QUEUED, BACKLOG))
        rest = rest[_aligned(length) :]
    return 0


def _aligned(length: int) -> int:
    return (length + 3) & ~3
