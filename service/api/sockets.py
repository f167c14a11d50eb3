"""Connections of clients that have gone without a word are closed by the system: it asks whether they are still there."""

from __future__ import annotations

import socket

IDLE_S, INTERVAL_S, PROBES = 60, 15, 4  # a silent client is asked first after the one, then every other, so many times


def notice_the_gone(listening: socket.socket, unread_s: float) -> None:
    """For all connections that it accepts. What a client has not taken for unread_s ends its connection as well.

    Where the system has no such settings, its own intervals hold.
    """
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    values = {
        "TCP_KEEPIDLE": IDLE_S,
        "TCP_KEEPINTVL": INTERVAL_S,
        "TCP_KEEPCNT": PROBES,
        "TCP_USER_TIMEOUT": int(unread_s * 1000),
    }
    for name, value in values.items():
        option = getattr(socket, name, None)
        if option is not None:
            listening.setsockopt(socket.IPPROTO_TCP, option, value)
