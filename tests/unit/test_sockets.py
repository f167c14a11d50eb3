"""The system asks after clients that have gone silent."""

from __future__ import annotations

import socket

import pytest

from service.api.sockets import IDLE_S, notice_the_gone


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux' options")
def test_every_connection_that_is_accepted_is_asked_after() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        notice_the_gone(listening, unread_s=150)
        with socket.create_connection(listening.getsockname()):
            accepted, _ = listening.accept()
            with accepted:
                assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == IDLE_S
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 150_000
