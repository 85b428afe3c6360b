"""Sockets that connect and accept, and servers made of them."""

import errno
import http.client
import http.server
import os
import socket
import socketserver
import struct
import unittest
from test.support import os_helper, socket_helper

from test.test_virtual_threading.io_util import Hands
from test.test_virtual_threading.socket_util import FAMILIES, SocketTestCase
from test.test_virtual_threading.util import COUNT, TIMEOUT
from virtual_threading import spawn


class ConnectTests(SocketTestCase):

    def accept_and_connect(self, listener, family=socket.AF_INET):
        address = listener.getsockname()
        clients = []

        def release():
            for _ in range(COUNT):
                client = self.open(family, socket.SOCK_STREAM)
                client.connect(address)
                clients.append(client)

        def accept():
            connection, peer = listener.accept()
            with connection:
                self.assertFalse(self.is_nonblocking(connection))
                self.assertIsNone(connection.gettimeout())
                return peer

        nonblocking = self.is_nonblocking(listener)
        peers = self.check_parks(accept, release)
        self.assertEqual(self.is_nonblocking(listener), nonblocking)
        self.assertEqual(len(peers), COUNT)
        if family != socket.AF_UNIX:
            self.assertEqual(set(peers), {client.getsockname() for client in clients})

    def test_accept(self):
        listener = self.listener()
        self.assertFalse(self.is_nonblocking(listener))
        self.accept_and_connect(listener)

    def test_accept_with_timeout(self):
        listener = self.listener()
        listener.settimeout(TIMEOUT)
        self.accept_and_connect(listener)

    @unittest.skipUnless(socket_helper.IPV6_ENABLED, "needs IPv6")
    def test_accept_ipv6(self):
        self.accept_and_connect(self.listener(socket.AF_INET6), socket.AF_INET6)

    def test_accept_unix(self):
        with os_helper.temp_dir() as directory:
            listener = self.open(socket.AF_UNIX, socket.SOCK_STREAM)
            listener.bind(os.path.join(directory, "socket"))
            listener.listen(COUNT)
            self.accept_and_connect(listener, socket.AF_UNIX)

    def test_connect(self):
        listener = self.listener()
        address = listener.getsockname()

        def connect():
            with socket.socket() as sock:
                sock.connect(address)
                self.assertFalse(self.is_nonblocking(sock))
                return sock.getpeername()

        def accept():
            listener.accept()[0].close()

        results = self.call_all([connect, accept] * COUNT)
        self.assertEqual(results[::2], [address] * COUNT)

    def test_connect_parks(self):
        listener = self.full_listener()
        address = listener.getsockname()

        def connect():
            with socket.socket() as sock:
                with self.assertRaises(ConnectionRefusedError):
                    sock.connect(address)
                self.assertFalse(self.is_nonblocking(sock))
                return sock.gettimeout()

        results = self.check_parks(connect, listener.close, count=10)
        self.assertEqual(results, [None] * 10)

    def check_waits(self, listener, address, count, **kwargs):
        """What connects waits for an accept(), as the queue has room for one."""
        listener.bind(address)
        listener.listen(0)
        address = listener.getsockname()
        self.open(listener.family).connect(address)

        def connect():
            with socket.socket(listener.family) as sock:
                sock.connect(address)
                return sock.getpeername()

        def accept():
            for _ in range(count + 1):
                listener.accept()[0].close()

        results = self.check_parks(connect, lambda: self.call(accept), count=count,
                                   **kwargs)
        self.assertEqual(results, [address] * count)

    def test_connect_waits(self):
        # Few, as the kernel tries again after 1, 3, 7, ... seconds.
        self.check_waits(self.open(), ("127.0.0.1", 0), count=2)

    def test_connect_waits_unix(self):
        # The kernel has no way to wait for room without blocking: a hand-off.
        with os_helper.temp_dir() as directory:
            self.check_waits(self.open(socket.AF_UNIX), os.path.join(directory, "socket"),
                             count=10, states=('running',))

    def test_connect_timeout(self):
        address = self.full_listener().getsockname()

        def connect():
            with socket.socket() as sock:
                sock.settimeout(0.05)
                with self.assertRaisesRegex(TimeoutError, "^timed out$"):
                    sock.connect(address)
            with socket.socket() as sock:
                sock.settimeout(0.05)
                return sock.connect_ex(address)

        self.assertEqual(self.call(connect), errno.EAGAIN)

    def test_connect_nonblocking(self):
        address = self.full_listener().getsockname()
        sock = self.open()
        sock.setblocking(False)
        self.assertRaises(BlockingIOError, self.call, sock.connect, address)

    def test_connect_refused(self):
        port = socket_helper.find_unused_port()

        def connect():
            with self.open() as sock:
                with self.assertRaises(ConnectionRefusedError):
                    sock.connect(("127.0.0.1", port))
            with self.open() as sock:
                return sock.connect_ex(("127.0.0.1", port))

        self.assertEqual(self.call_all([connect] * COUNT), [errno.ECONNREFUSED] * COUNT)

    def test_connect_twice(self):
        # With a timeout, connect(2) itself does not know that the first one has ended.
        listener, other = self.listener(), self.listener()

        def connect(timeout):
            with self.open() as sock:
                sock.settimeout(timeout)
                sock.connect(listener.getsockname())
                try:
                    sock.connect(other.getsockname())
                except OSError as exc:
                    first = exc.errno
                else:
                    first = 0
                return (first, sock.connect_ex(other.getsockname()),
                        sock.getpeername() == listener.getsockname())

        for timeout in None, TIMEOUT:
            with self.subTest(timeout=timeout):
                expected = connect(timeout)
                self.assertEqual(self.call_all([lambda: connect(timeout)] * COUNT),
                                 [expected] * COUNT)

    def test_connect_after_refusal(self):
        server = self.open()
        server.bind(("127.0.0.1", 0))
        address = server.getsockname()

        def refused(connect):
            sock = self.open()
            for _ in range(3):
                with self.assertRaises(ConnectionRefusedError):
                    connect(sock)
            return sock

        def connect_ex(sock):
            err = sock.connect_ex(address)
            if err:
                raise OSError(err, "connect_ex")

        for connect in (lambda sock: sock.connect(address)), connect_ex:
            socks = self.call_all([lambda: refused(connect)] * COUNT)
            server.listen(COUNT)
            hands = Hands(socks)
            self.call_all([lambda: connect(hands())] * COUNT)
            server.close()
            server = self.open()
            server.bind(("127.0.0.1", 0))
            address = server.getsockname()

    def test_reset_while_connecting(self):
        # As from a platform thread, connect() may or may not see it; then recv() does.
        listener = self.listener()
        address = listener.getsockname()

        def accept():
            for _ in range(COUNT):
                connection, _ = listener.accept()
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.close()

        def connect():
            with socket.socket() as sock, self.assertRaises(ConnectionResetError):
                sock.connect(address)
                sock.recv(1)

        self.call_all([accept] + [connect] * COUNT)

    def test_accept_without_listen(self):
        def make():
            yield self.open()
            yield from self.connected()
            yield self.pair()[0]
            yield self.open(socket.AF_INET, socket.SOCK_DGRAM)
            for args in (), (socket.AF_UNIX,):
                sock = self.open(*args)
                sock.bind(("127.0.0.1", 0) if not args else "")
                yield sock

        def accept(sock):
            with self.assertRaises(OSError) as caught:
                sock.accept()
            return caught.exception.errno

        socks = list(make())
        expected = [accept(sock) for sock in socks]
        self.assertEqual(expected, [errno.EINVAL] * 4 + [errno.EOPNOTSUPP] + [errno.EINVAL] * 2)
        self.assertEqual(self.call_all([lambda sock=sock: accept(sock) for sock in socks]),
                         expected)


class ServerTests(SocketTestCase):

    def test_echo(self):
        def serve(listener):
            connection, _ = listener.accept()
            with connection:
                while data := connection.recv(1024):
                    connection.sendall(data)

        def ask(address, number):
            with socket.create_connection(address) as sock:
                for turn in range(20):
                    message = f"{number} {turn}".encode() * 50
                    sock.sendall(message)
                    got = b""
                    while len(got) < len(message):
                        got += sock.recv(4096)
                    self.assertEqual(got, message)
            return number

        for family in FAMILIES:
            with self.subTest(family=family):
                listener = self.listener(family)
                address = listener.getsockname()[:2]
                results = self.call_all([lambda: serve(listener)] * COUNT
                                        + [lambda n=n: ask(address, n) for n in range(COUNT)])
                self.assertEqual(results[COUNT:], list(range(COUNT)))

    def test_thread_for_each_connection(self):
        def echo(connection):
            with connection:
                while data := connection.recv(100):
                    connection.sendall(data)

        def serve(listener):
            children = [spawn(echo, listener.accept()[0]) for _ in range(COUNT)]
            for child in children:
                child.join()

        def talk(address):
            with socket.create_connection(address) as sock:
                for number in range(20):
                    message = b"%d\n" % number
                    sock.sendall(message)
                    self.assertEqual(sock.recv(100), message)

        for family in FAMILIES:
            with self.subTest(family=family):
                listener = self.listener(family)
                address = listener.getsockname()[:2]
                self.call_all([lambda: serve(listener)] + [lambda: talk(address)] * COUNT)

    def test_http(self):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                body = self.path.encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args):
                pass

        class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
            request_queue_size = 200

            def process_request(self, request, client_address):
                children.append(
                    spawn(self.process_request_thread, request, client_address))

        def get(number):
            connection = http.client.HTTPConnection(*server.server_address)
            connection.request("GET", f"/{number}")
            with connection.getresponse() as response:
                body = response.read()
            connection.close()
            return body

        children = []
        server = Server(("127.0.0.1", 0), Handler)
        serving = spawn(server.serve_forever)
        try:
            results = self.call_all([lambda n=n: get(n) for n in range(100)])
        finally:
            server.shutdown()
            self.join([serving, *children])
            server.server_close()
        self.assertEqual(results, [b"/%d" % n for n in range(100)])


if __name__ == "__main__":
    unittest.main()
