"""A pooler on loopback that hands out its sessions on a server by transaction, as PgBouncer does."""

import socket
import struct
import threading
from contextlib import suppress
from dataclasses import replace
from select import select
from typing import Self

from forecaster.postgres.dsn import Dsn

_ASKS_FOR_TLS = 80_877_103
_STARTUP = 196_608


class Pooler:
    """Gives a client a session until its transaction ends: the one used last, or, `in_turn`, first."""

    def __init__(self, server: Dsn, *, in_turn: bool = False) -> None:
        self.server, self.in_turn = server, in_turn
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.dsn = replace(server, host="127.0.0.1", port=self.listener.getsockname()[1])
        self.greeting = b""
        """What the server says to a new client."""
        self.idle: list[socket.socket] = []
        self.all: list[socket.socket] = [self.listener]

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for one in self.all:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                self.all.append(client)
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError, EOFError, ValueError), client:  # closed by the test
            asked = _startup(client)
            if asked[4:8] == struct.pack("!i", _ASKS_FOR_TLS):
                client.sendall(b"N")
                asked = _startup(client)
            if asked[4:8] != struct.pack("!i", _STARTUP):
                return  # a request to cancel
            if not self.greeting:
                self.idle += [self._begin(asked) for _ in range(3 if self.in_turn else 1)]
            client.sendall(self.greeting)
            while True:
                message = _message(client)
                if message[:1] == b"X":
                    return
                session = self.idle.pop(0 if self.in_turn else -1) if self.idle else self._begin(asked)
                try:
                    self._until_it_ends(client, session, message)
                except EOFError:  # in the middle of a transaction
                    session.close()
                    raise
                self.idle.append(session)

    def _begin(self, asked: bytes) -> socket.socket:
        """A new session, opened as the client asks for it."""
        session = socket.socket(socket.AF_UNIX)
        session.connect(f"{self.server.host}/.s.PGSQL.{self.server.port}")
        self.all.append(session)
        session.sendall(asked)
        said = b""
        while not said.endswith(b"Z\0\0\0\5I"):
            said += _message(session)
        self.greeting = said
        return session

    @staticmethod
    def _until_it_ends(client: socket.socket, session: socket.socket, message: bytes) -> None:
        """Pass on what both say until the server waits for the next transaction."""
        asked = 0
        while True:
            asked += message[:1] in (b"Q", b"S")
            session.sendall(message)
            while session in (ready := select([client, session], [], [])[0]):
                said = _message(session)
                client.sendall(said)
                asked -= said[:1] == b"Z"
                if not asked and said[:1] == b"Z" and said[5:6] == b"I":
                    return
                if client in ready:
                    break
            message = _message(client)


def _startup(client: socket.socket) -> bytes:
    size = _exactly(client, 4)
    return size + _exactly(client, struct.unpack("!i", size)[0] - 4)


def _message(side: socket.socket) -> bytes:
    head = _exactly(side, 5)
    return head + _exactly(side, struct.unpack("!i", head[1:])[0] - 4)


def _exactly(side: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = side.recv(size - len(data))
        if not more:
            raise EOFError
        data += more
    return data
