"""A distant server: a proxy, a process of its own, that delays and limits what passes, and counts it."""

import asyncio
import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, cast

import click

from forecaster.postgres.dsn import Dsn

_CHUNK = 65_536  # bytes read at once
_UNDERWAY = 10_000  # chunks per connection and direction that have left and not arrived


@dataclass
class Traffic:
    """What passed. A turn begins when the client speaks first, or after the server has spoken."""

    connections: int = 0
    turns: int = 0
    bytes_in: int = 0
    """From the client to the server."""
    bytes_out: int = 0
    """From the server to the client."""


@dataclass(frozen=True)
class Distant:
    """The same server behind the proxy."""

    dsn: Dsn
    commands: IO[str]
    answers: IO[str]

    def counted(self) -> Traffic:
        """Wait until all connections are closed; return what passed since the last call."""
        self.commands.write("count\n")
        self.commands.flush()
        return Traffic(**json.loads(self.answers.readline()))


@contextmanager
def distant(dsn: Dsn, *, milliseconds: float = 0.0, megabits: float | None = None) -> Iterator[Distant]:
    """Put a server at a distance: round-trip time, and megabits per second in each direction."""
    given = json.dumps([dsn.host, dsn.port, milliseconds / 1e3, megabits and megabits * 1e6 / 8])
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.distance", given],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    with process:  # closes its input, at whose end it ends, and waits for it
        commands, answers = cast("IO[str]", process.stdin), cast("IO[str]", process.stdout)
        port = int(answers.readline())
        yield Distant(replace(dsn, host="127.0.0.1", port=port), commands, answers)


class Link:
    """One direction. All connections share its bandwidth: what is sent waits for what was sent before."""

    def __init__(self, delay: float, bytes_per_second: float | None = None) -> None:
        self.delay = delay
        self.seconds_per_byte = 1 / bytes_per_second if bytes_per_second else 0.0
        self.free = 0.0

    def send(self, size: int, now: float) -> tuple[float, float]:
        """Send bytes; return when the last one has left, and when it arrives."""
        self.free = max(self.free, now) + size * self.seconds_per_byte
        return self.free, self.free + self.delay


class _Proxy:
    def __init__(self, host: str, port: int, round_trip: float, bytes_per_second: float | None) -> None:
        self.host, self.port, self.round_trip = host, port, round_trip
        self.there = Link(round_trip / 2, bytes_per_second)
        self.back = Link(round_trip / 2, bytes_per_second)
        self.traffic = Traffic()
        self.connected = 0
        self.changed = asyncio.Condition()

    async def serve(self) -> None:
        server = await asyncio.start_server(self.connect, "127.0.0.1", 0)
        click.echo(server.sockets[0].getsockname()[1])
        commands = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(commands), sys.stdin
        )
        while await commands.readline():
            async with self.changed:
                await self.changed.wait_for(lambda: self.connected == 0)
            click.echo(json.dumps(asdict(self.traffic)))
            self.traffic = Traffic()

    async def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.traffic.connections += 1
        self.connected += 1
        try:
            await asyncio.sleep(self.round_trip)  # the handshake of TCP
            await self.converse(reader, writer)
        finally:
            writer.close()
            async with self.changed:
                self.connected -= 1
                self.changed.notify_all()

    async def converse(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        if self.host.startswith("/"):
            path = f"{self.host}/.s.PGSQL.{self.port}"
            server, to_server = await asyncio.open_unix_connection(path)
        else:
            server, to_server = await asyncio.open_connection(self.host, self.port)
        was_client = False

        def asked(size: int) -> None:
            nonlocal was_client
            self.traffic.turns += not was_client
            self.traffic.bytes_in += size
            was_client = True

        def answered(size: int) -> None:
            nonlocal was_client
            self.traffic.bytes_out += size
            was_client = False

        await asyncio.gather(
            _pass_on(client, to_server, self.there, asked), _pass_on(server, to_client, self.back, answered)
        )


async def _pass_on(
    source: asyncio.StreamReader, target: asyncio.StreamWriter, link: Link, count: Callable[[int], None]
) -> None:
    underway: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_UNDERWAY)
    delivery = asyncio.create_task(_deliver(underway, target))
    with suppress(ConnectionError):
        while data := await source.read(_CHUNK):
            count(len(data))
            left, arrives = link.send(len(data), time.monotonic())
            await underway.put((arrives, data))
            await _until(left)
    await underway.put((time.monotonic() + link.delay, b""))
    await delivery


async def _deliver(underway: "asyncio.Queue[tuple[float, bytes]]", target: asyncio.StreamWriter) -> None:
    is_open = True
    while is_open:
        arrives, data = await underway.get()
        await _until(arrives)
        if not data:
            break
        target.write(data)
        try:
            await target.drain()
        except ConnectionError:
            is_open = False
    target.close()
    while not is_open and (await underway.get())[1]:
        pass  # nobody hears the rest


async def _until(moment: float) -> None:
    if (wait := moment - time.monotonic()) > 0:
        await asyncio.sleep(wait)


def _main() -> None:
    with suppress(OSError):  # needs a right; without it, a busy machine makes the way longer
        os.nice(-20)
    # select() waits for fractions of a millisecond. Other selectors wait up to a whole one longer.
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
        runner.run(_Proxy(*json.loads(sys.argv[1])).serve())


if __name__ == "__main__":
    _main()
