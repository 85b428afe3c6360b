"""The clients of ci/soak, by kind: each is a virtual thread that makes requests until it is
told to stop, and knows what has to come back.

    clients.py PORT TLS_PORT SECONDS CLIENTS

CLIENTS is JSON, a list of [how many, kind, argument ...].  Prints as JSON what they have seen.
"""

import collections
import http.client
import itertools
import json
import socket
import ssl
import struct
import sys
import threading
import time

import virtual_threading
from replies import body

TIMEOUT_S = 120             # without a reply: lost
KEPT_S = 0.5                # how long the crowd keeps its connections
RESET = struct.pack("ii", 1, 0)         # SO_LINGER: close() resets the connection


class Log:
    """What all clients of a round have seen; appended to by all."""

    def __init__(self, port, tls_port, may_refuse):
        self.port, self.tls_port = port, tls_port
        self.may_refuse = may_refuse    # memory is short
        self.stop = threading.Event()
        self.seconds = collections.defaultdict(list)    # by kind: of each reply
        self.failures = []
        self.refused = []               # for want of memory: 503, or closed without a reply
        self.numbers = itertools.count()
        self.context = ssl.create_default_context()
        self.context.check_hostname = False
        self.context.verify_mode = ssl.CERT_NONE

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), TIMEOUT_S)

    def timed(self, kind, started):
        self.seconds[kind].append(time.monotonic() - started)


def expect(reply, content):
    got = reply.read()
    if reply.status != 200 or got != content:
        raise AssertionError(f"status {reply.status}, {len(got)} bytes of {len(content)}:"
                             f" {got[:60]}")


def keep_alive(log, kind="keep alive", make=None):
    """Twenty requests on a connection, each with a pause before it."""
    make = make or (lambda: http.client.HTTPConnection("127.0.0.1", log.port,
                                                       timeout=TIMEOUT_S))
    connection = make()
    try:
        for _ in range(20):
            n = next(log.numbers)
            started = time.monotonic()
            connection.request("GET", f"/square/{n}")
            expect(connection.getresponse(), body(n))
            log.timed(kind, started)
            if log.stop.wait(n % 10 / 1000):
                break
    finally:
        connection.close()


def tls(log):
    keep_alive(log, "TLS", lambda: http.client.HTTPSConnection(
        "127.0.0.1", log.tls_port, timeout=TIMEOUT_S, context=log.context))


def slow(log):
    """Sends in small pieces, and reads so, with pauses."""
    content = body(next(log.numbers))
    head = b"POST /echo/0 HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(content)
    data = head + content
    piece = len(data) // 20 + 1
    with log.connect() as sock:
        for start in range(0, len(data), piece):
            sock.sendall(data[start:start + piece])
            log.stop.wait(0.01)
        started = time.monotonic()
        reply = http.client.HTTPResponse(sock, method="POST")
        reply.begin()
        log.timed("slow, to the head", started)
        got = b""
        while part := reply.read(piece):
            got += part
            log.stop.wait(0.01)
        if got != content:
            raise AssertionError(f"{len(got)} bytes of {len(content)}")


def reset(log):
    """Goes away in the middle of a request, or of a reply, by a reset."""
    for request in b"GET /squa", b"GET /square/1 HTTP/1.1\r\n\r\nGET /square/2 HTTP/1.1\r\n\r\n":
        with log.connect() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            sock.sendall(request)
            log.stop.wait(0.005)


def half_closed(log):
    """Sends no more, and reads the reply to the end of the stream."""
    n = next(log.numbers)
    with log.connect() as sock:
        started = time.monotonic()
        sock.sendall(b"GET /square/%d HTTP/1.1\r\nHost: x\r\n\r\n" % n)
        sock.shutdown(socket.SHUT_WR)
        reply = http.client.HTTPResponse(sock)
        reply.begin()
        expect(reply, body(n))
        log.timed("half closed", started)
        if sock.recv(1):
            raise AssertionError("more than a reply")


def crowd(log, size):
    """More connections at once than the servers may have descriptors."""
    started = time.monotonic()
    socks = []
    try:
        for n in range(size):
            sock = log.connect()
            socks.append(sock)
            sock.sendall(b"GET /square/%d HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % n)
        log.stop.wait(KEPT_S)
        for n, sock in enumerate(socks):
            reply = http.client.HTTPResponse(sock)
            reply.begin()
            expect(reply, body(n))
            sock.close()
            log.timed("crowd", started)
    finally:
        for sock in socks:
            sock.close()


def memory(log, size):
    """Asks for more memory than the servers have, with others."""
    connection = http.client.HTTPConnection("127.0.0.1", log.port, timeout=TIMEOUT_S)
    try:
        for _ in range(10):
            started = time.monotonic()
            connection.request("GET", f"/memory/{size}")
            reply = connection.getresponse()
            got = reply.read()
            if reply.status == 503:
                log.refused.append("503")
            elif (reply.status, got) != (200, b"%d" % size):
                raise AssertionError(f"status {reply.status}: {got[:60]}")
            log.timed("memory", started)
    finally:
        connection.close()


def repeat(log, client, *args):
    """Runs a client until the round is over; notes a failure, and goes on."""
    while not log.stop.is_set():
        try:
            client(log, *args)
        except Exception as exc:
            seen = f"{client.__name__}: {type(exc).__name__}: {exc}"
            if log.may_refuse and isinstance(exc, ConnectionError):
                log.refused.append(seen)    # there was no memory for a thread, or for a line
            else:
                log.failures.append(seen)


KINDS = {function.__name__: function
         for function in (keep_alive, tls, slow, reset, half_closed, crowd, memory)}


def main(port, tls_port, seconds, clients):
    clients = json.loads(clients)
    log = Log(int(port), int(tls_port), any(kind == "memory" for _, kind, *_ in clients))
    threads = [virtual_threading.spawn(repeat, log, KINDS[kind], *args)
               for count, kind, *args in clients for _ in range(count)]
    log.stop.wait(float(seconds))
    log.stop.set()
    for thread in threads:
        thread.join()
    print(json.dumps({"seconds": log.seconds, "failures": log.failures,
                      "refused": len(log.refused)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
