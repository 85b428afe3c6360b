"""An echo server; prints its port, serves until its stdin is closed.

N, the number of connections, is echo_load's.  The measuring is done by echo_load.c.  Peers here: virtual,
threads; asyncio (streams, what a program would be written with) and
asyncio-protocol (callbacks, the fastest that asyncio has).
"""

import asyncio
import os
import socket
import sys
import threading

from common import arguments, result, thread_class

BACKLOG = 1024
SIZE = 4096


def with_threads(cls):
    def serve(connection):
        with connection:
            try:
                while data := connection.recv(SIZE):
                    connection.sendall(data)
            except ConnectionResetError:
                pass

    def accept():
        while True:
            connection, _ = listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            cls(target=serve, args=(connection,), daemon=True).start()

    listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
    cls(target=accept, daemon=True).start()
    result(port=listener.getsockname()[1])
    sys.stdin.read()


async def with_streams():
    async def serve(reader, writer):
        try:
            while data := await reader.read(SIZE):
                writer.write(data)
                await writer.drain()
        except ConnectionResetError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=BACKLOG)
    result(port=server.sockets[0].getsockname()[1])
    await asyncio.to_thread(sys.stdin.read)


class Protocol(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


async def with_protocol():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Protocol, "127.0.0.1", 0, backlog=BACKLOG)
    result(port=server.sockets[0].getsockname()[1])
    await asyncio.to_thread(sys.stdin.read)


def main():
    peer, _ = arguments()
    threading.stack_size(256 * 1024)
    if peer == "asyncio":
        asyncio.run(with_streams())
    elif peer == "asyncio-protocol":
        asyncio.run(with_protocol())
    else:
        with_threads(thread_class(peer))
    os._exit(0)                         # connections may still be open


main()
