"""A way to a server, on loopback, that can be cut, or swallow all that is sent as a bad network does."""

import socket
import threading
from contextlib import suppress
from dataclasses import replace
from typing import Self

from forecaster.postgres.dsn import Dsn

GOOD_BYE = b"X\0\0\0\x04"


class Proxy:
    """Passes on what is said to a server and by it.

    Once clients have said all of `until`, one after the other, nothing comes back any more: on the last one's
    connection, or, if `everywhere`, on any of them, also those that are made later. They all stay open.
    """

    def __init__(self, server: Dsn, *until: bytes, everywhere: bool = False) -> None:
        self.server = server
        self.to_come = [*until]
        self.everywhere = everywhere
        self.pause = 0.0
        """Seconds before each piece of what the server says."""
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.dsn = replace(server, host="127.0.0.1", port=self.listener.getsockname()[1])
        self.here: list[socket.socket] = []
        self.there: list[socket.socket] = []
        self.stalled = threading.Event()
        """Whether that was said, or `stall` called."""
        self.turns: list[tuple[int, bytes]] = []
        """What clients began to say each time that it was their turn, and on which of their connections.

        Not the good-bye: nobody answers it, so it may come after all that is waited for.
        """
        self.received = 0
        """Bytes that the server has said."""
        self._over = threading.Event()

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for each in (self.listener, *self.here, *self.there):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def cut(self) -> None:
        """Cut all connections that there are, without the server's side noticing; new ones can be made."""
        for here in self.here:
            here.shutdown(socket.SHUT_RDWR)

    def stall(self) -> None:
        """Let nothing through any more."""
        self.everywhere = True
        self.stalled.set()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                here, _ = self.listener.accept()
                there = socket.socket(socket.AF_UNIX)
                there.connect(f"{self.server.host}/.s.PGSQL.{self.server.port}")
                self.here.append(here)
                self.there.append(there)
                stuck, at_turn = threading.Event(), threading.Event()
                at_turn.set()
                for way in ((here, there, stuck, at_turn), (there, here, stuck, at_turn)):
                    threading.Thread(target=self._pass_on, args=way, daemon=True).start()

    def _pass_on(
        self,
        source: socket.socket,
        target: socket.socket,
        stuck: threading.Event,
        at_turn: threading.Event,
    ) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if stuck.is_set() or (self.everywhere and self.stalled.is_set()):
                    self._over.wait()
                if source in self.here and self.to_come and self.to_come[0] in data:
                    del self.to_come[0]
                    if not self.to_come:
                        stuck.set()
                        self.stalled.set()
                elif source in self.there:
                    self._over.wait(self.pause)
                if source in self.there:
                    self.received += len(data)
                    at_turn.set()
                elif at_turn.is_set():
                    at_turn.clear()
                    if data != GOOD_BYE:
                        self.turns.append((self.here.index(source), data))
                target.sendall(data)
