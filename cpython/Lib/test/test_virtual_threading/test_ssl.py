"""TLS connections park, with OpenSSL's frames left behind."""

import contextlib
import gc
import os
import socket
import threading
import time
import unittest
from test.support import import_helper

from test.test_virtual_threading.io_util import Hands
from test.test_virtual_threading.util import TestCase
from virtual_threading import spawn, stats

ssl = import_helper.import_module("ssl")
test_ssl = import_helper.import_module("test.test_ssl")

COUNT = 20
BIG = 2 << 20


class TLSTestCase(TestCase):

    @classmethod
    def setUpClass(cls):
        cls.client_context, cls.server_context, cls.hostname = test_ssl.testing_context()

    def raw_pair(self):
        left, right = socket.socketpair()
        self.addCleanup(left.close)
        self.addCleanup(right.close)
        return left, right

    def wrap_client(self, sock, **kwargs):
        return self.client_context.wrap_socket(sock, server_hostname=self.hostname, **kwargs)

    def wrap_server(self, sock, **kwargs):
        return self.server_context.wrap_socket(sock, server_side=True, **kwargs)

    def pair(self):
        """A connected pair; the handshake runs in two virtual threads."""
        left, right = self.raw_pair()
        client, server = self.call_all([lambda: self.wrap_client(left),
                                        lambda: self.wrap_server(right)])
        self.addCleanup(client.close)
        self.addCleanup(server.close)
        return client, server

    def pairs(self, count=COUNT):
        return [self.pair() for _ in range(count)]

    def memory_connection(self):
        """The client of a connection in memory, and what it reads from."""
        to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = self.client_context.wrap_bio(to_client, to_server,
                                              server_hostname=self.hostname)
        server = self.server_context.wrap_bio(to_server, to_client, server_side=True)
        waiting = [client, server]
        while waiting:
            side = waiting.pop(0)
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                waiting.append(side)
        with self.assertRaises(ssl.SSLWantReadError):
            client.read(1)              # past the session tickets
        return client, to_client

    def parks_again(self, send, data):
        """Sends what is not all that a parked thread waits for."""
        parks = stats()["parks"]
        send(data)
        self.wait_until(lambda: stats()["parks"] > parks, "another park")


class BlockingTests(TLSTestCase):

    def test_handshake(self):
        raw = [self.raw_pair() for _ in range(COUNT)]
        hands = Hands(raw)

        def handshake():
            with self.wrap_client(hands()[0]) as client:
                return client.version()

        def serve(sock):
            with self.wrap_server(sock) as server:
                with contextlib.suppress(OSError):
                    server.recv(1)

        def release():
            threads = [threading.Thread(target=serve, args=[right]) for _, right in raw]
            for thread in threads:
                thread.start()
            self.addCleanup(self.join, threads)

        versions = self.check_parks(handshake, release, count=COUNT)
        self.assertEqual(set(versions), {versions[0]})
        self.assertIn("TLS", versions[0])

    def test_server_handshake(self):
        raw = [self.raw_pair() for _ in range(COUNT)]
        hands = Hands(raw)

        def handshake():
            with self.wrap_server(hands()[1]) as server:
                return server.recv(100)

        def connect(sock):
            with self.wrap_client(sock) as client:
                client.sendall(b"hello")
                with contextlib.suppress(OSError):
                    client.recv(1)

        def release():
            threads = [spawn(connect, left) for left, _ in raw]
            self.addCleanup(self.join, threads)

        self.assertEqual(self.check_parks(handshake, release, count=COUNT),
                         [b"hello"] * COUNT)

    def test_recv(self):
        pairs = self.pairs()
        hands = Hands(pairs)

        def release():
            for client, server in pairs:
                self.assertTrue(os.get_blocking(client.fileno()))
                server.sendall(b"hello")

        self.assertEqual(self.check_parks(lambda: hands()[0].recv(100), release,
                                          count=COUNT), [b"hello"] * COUNT)

    def test_recv_into_and_makefile(self):
        client, server = self.pair()

        def read():
            buffer = bytearray(10)
            size = client.recv_into(buffer)
            with client.makefile("rb") as file:
                return bytes(buffer[:size]), file.readline()

        def release():
            self.parks_again(server.sendall, b"one")
            server.sendall(b"two\n")

        [(first, second)] = self.check_parks(read, release, count=1)
        self.assertEqual(first + second, b"onetwo\n")

    def test_record_in_pieces(self):
        # A record that comes in two parts; the reader parks in the middle of it.
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        left, right = self.raw_pair()
        peer = self.server_context.wrap_bio(incoming, outgoing, server_side=True)

        def serve():
            while True:
                try:
                    peer.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    right.sendall(outgoing.read())
                    incoming.write(right.recv(65536))
            right.sendall(outgoing.read())

        client, _ = self.call_all([lambda: self.wrap_client(left), serve])
        self.addCleanup(client.close)
        peer.write(b"x" * 10_000)
        record = outgoing.read()

        def release():
            self.parks_again(right.sendall, record[:5000])
            right.sendall(record[5000:])

        self.assertEqual(self.check_parks(lambda: client.recv(20_000), release, count=1),
                         [b"x" * 10_000])

    def test_send(self):
        pairs = self.pairs(5)
        hands = Hands(pairs)
        received = []

        def send():
            client = hands()[0]
            client.sendall(b"x" * BIG)
            return client.send(b"end")

        def drain(server):
            total = 0
            while total < BIG + 3:
                total += len(server.recv(1 << 16))
            received.append(total)

        def release():
            threads = [threading.Thread(target=drain, args=[pair[1]]) for pair in pairs]
            for thread in threads:
                thread.start()
            self.join(threads)

        self.assertEqual(self.check_parks(send, release, count=5), [3] * 5)
        self.assertEqual(received, [BIG + 3] * 5)

    def test_content(self):
        # One direction after the other.
        data = os.urandom(BIG)

        def receive(sock):
            got = bytearray()
            while len(got) < BIG:
                got += sock.recv(1 << 16)
            return got

        def exchange(client, server):
            sent = self.call_all([lambda: client.sendall(data), lambda: receive(server)])
            return sent + self.call_all([lambda: server.sendall(data),
                                         lambda: receive(client)])

        for found in self.call_all([lambda p=pair: exchange(*p) for pair in self.pairs(5)]):
            self.assertEqual(found, [None, data] * 2)

    def test_echo(self):
        pairs = self.pairs()

        def serve(server):
            while data := server.recv(1024):
                server.sendall(data)

        def ask(client, number):
            for turn in range(10):
                message = f"{number} {turn} ".encode() * 300
                client.sendall(message)
                got = b""
                while len(got) < len(message):
                    got += client.recv(4096)
                self.assertEqual(got, message)
            client.shutdown(socket.SHUT_WR)
            return number

        results = self.call_all(
            [lambda s=server: serve(s) for _, server in pairs]
            + [lambda c=client, n=n: ask(c, n) for n, (client, _) in enumerate(pairs)])
        self.assertEqual(results[COUNT:], list(range(COUNT)))

    def test_unwrap(self):
        client, server = self.pair()
        with contextlib.suppress(OSError):
            sockets = self.call_all([client.unwrap, server.unwrap])
            for sock in sockets:
                self.addCleanup(sock.close)
            sockets[0].sendall(b"plain")
            self.assertEqual(sockets[1].recv(10), b"plain")

    def test_end_of_stream(self):
        client, server = self.pair()
        self.assertEqual(self.check_parks(lambda: client.recv(1), server.close, count=1),
                         [b""])

    def test_read_and_write_at_once(self):
        client, server = self.pair()

        def release():
            self.call(client.sendall, b"ping")
            self.assertEqual(server.recv(10), b"ping")
            server.sendall(b"pong")

        self.assertEqual(self.check_parks(lambda: client.recv(10), release, count=1),
                         [b"pong"])


class ErrorTests(TLSTestCase):

    def test_timeouts(self):
        client, server = self.pair()
        seconds = 0.05
        client.settimeout(seconds)
        raw, _ = self.raw_pair()
        raw.settimeout(seconds)

        def measure(function):
            start = time.monotonic()
            with self.assertRaisesRegex(TimeoutError, "operation timed out"):
                function()
            return time.monotonic() - start

        for name, function in {
            "read": lambda: client.recv(1),
            "write": lambda: client.sendall(b"x" * BIG),
            "handshake": lambda: self.wrap_client(raw),
        }.items():
            with self.subTest(name):
                self.assertGreaterEqual(self.call(measure, function), seconds)

    def test_used_after_timeout(self):
        def receive(client, server):
            client.settimeout(0.05)
            self.assertRaises(TimeoutError, client.recv, 10)
            server.sendall(b"x")
            return client.recv(10)

        self.assertEqual(
            self.call_all([lambda p=pair: receive(*p) for pair in self.pairs(5)]),
            [b"x"] * 5)

    def test_nonblocking(self):
        client, server = self.pair()
        client.setblocking(False)
        self.assertRaises(ssl.SSLWantReadError, self.call, client.recv, 1)

        def fill():
            while True:
                client.send(b"x" * 65536)
        self.assertRaises(ssl.SSLWantWriteError, self.call, fill)

    def test_bad_peer(self):
        left, right = self.raw_pair()
        right.sendall(b"this is no TLS at all\n" * 10)
        with self.assertRaises(ssl.SSLError) as caught:
            self.call(self.wrap_client, left)
        self.assertEqual(caught.exception.reason, "WRONG_VERSION_NUMBER")

    def test_untrusted(self):
        left, right = self.raw_pair()
        context = ssl.create_default_context()

        def client():
            with self.assertRaises(ssl.SSLCertVerificationError):
                context.wrap_socket(left, server_hostname=self.hostname)
            left.close()

        def server():
            with self.assertRaises(OSError):
                with self.wrap_server(right) as sock:
                    sock.recv(1)

        self.call_all([client, server])

    def test_close_recv(self):
        client, _ = self.pair()
        self.check_close(lambda: client.recv(1), client.close, count=1)

    def test_close_send(self):
        client, _ = self.pair()

        def send():
            with self.assertRaises(OSError):    # SSLError, without a number
                client.sendall(b"x" * BIG)

        self.check_parks(send, client.close, count=1)

    def test_close_handshake(self):
        left, _ = self.raw_pair()
        client = self.wrap_client(left, do_handshake_on_connect=False)

        def handshake():
            with self.assertRaises(OSError):
                client.do_handshake()

        self.check_parks(handshake, client.close, count=1)


    def test_error_is_ones_own(self):
        # OpenSSL keeps errors in the OS thread, where other code can run before the exception
        # is made: a collection, or another virtual thread.
        ending, end = self.memory_connection()
        lasting, _ = self.memory_connection()
        found = []

        def look(phase, info):
            if phase == "start":
                try:
                    lasting.read(1)
                except ssl.SSLError as exc:
                    found.append(type(exc))

        # The allocations ask for a collection, for which the next call looks: in read().
        code = compile(f"kept = [{'[],' * 5000}]; read(1)", "<collects>", "exec")
        end.write_eof()
        self.addCleanup(gc.set_threshold, *gc.get_threshold())
        gc.collect()
        gc.callbacks.append(look)
        try:
            gc.set_threshold(1, 0)
            with self.assertRaises(ssl.SSLEOFError):
                exec(code, {"read": ending._sslobj.read})
        finally:
            gc.callbacks.remove(look)
        self.assertEqual(set(found), {ssl.SSLWantReadError})


class MixedTests(TLSTestCase):

    def test_platform_peer(self):
        # The same objects serve both kinds of thread.
        client, server = self.pair()
        self.assertEqual(client.send(b"a"), 1)
        self.assertEqual(self.call(server.recv, 1), b"a")
        self.call(server.sendall, b"b")
        self.assertEqual(client.recv(1), b"b")
        thread = threading.Thread(target=server.sendall, args=[b"c"])
        thread.start()
        self.assertEqual(self.call(client.recv, 1), b"c")
        self.join([thread])


if __name__ == "__main__":
    unittest.main()
