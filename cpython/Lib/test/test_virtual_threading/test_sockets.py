"""Sockets of every kind park, with and without timeouts."""

import contextlib
import errno
import http.client
import http.server
import os
import socket
import socketserver
import threading
import unittest
from test.support import os_helper, socket_helper

import virtual_threading
from test.test_virtual_threading.util import COUNT, TIMEOUT, TestCase
from virtual_threading import spawn


class SocketTestCase(TestCase):

    def pairs(self, count=COUNT, *args):
        found = []
        for _ in range(count):
            pair = socket.socketpair(*args)
            for sock in pair:
                self.addCleanup(sock.close)
            found.append(pair)
        return found

    def listen(self, family=socket.AF_INET, address=("127.0.0.1", 0), backlog=200):
        server = socket.create_server(address, family=family, backlog=backlog)
        self.addCleanup(server.close)
        return server

    def each(self, items, func):
        """A function without arguments that takes another item at each call."""
        iterator = iter(items)
        lock = threading.Lock()

        def call():
            with lock:
                item = next(iterator)
            return func(item)

        return call


class WaitingTests(SocketTestCase):
    """The thread waits; a byte comes, or there is room, or a connection."""

    def check_receive(self, receive, expected=b"x", timeout=None, args=()):
        pairs = self.pairs(COUNT, *args)
        for pair in pairs:
            pair[0].settimeout(timeout)

        def release():
            for pair in pairs:
                pair[1].send(b"x")

        block = self.each([pair[0] for pair in pairs], receive)
        results = self.check_parks(block, release)
        self.assertEqual(results, [expected] * COUNT)

    def test_recv(self):
        self.check_receive(lambda sock: sock.recv(10))

    def test_recv_timeout(self):
        self.check_receive(lambda sock: sock.recv(10), timeout=TIMEOUT)

    def test_recv_into(self):
        def receive(sock):
            buffer = bytearray(10)
            return buffer[:sock.recv_into(buffer)]

        self.check_receive(receive)

    def test_recvfrom(self):
        self.check_receive(lambda sock: sock.recvfrom(10)[0],
                           args=(socket.AF_UNIX, socket.SOCK_DGRAM))

    def test_recvmsg(self):
        self.check_receive(lambda sock: sock.recvmsg(10, 100)[0])

    def test_recvmsg_into(self):
        def receive(sock):
            buffer = bytearray(10)
            return buffer[:sock.recvmsg_into([buffer])[0]]

        self.check_receive(receive)

    def test_recv_waitall(self):
        pairs = self.pairs(10)

        def release():
            for _ in range(3):
                for pair in pairs:
                    pair[1].send(b"x")

        # Without blocking, the kernel would not wait for all: a hand-off.
        block = self.each([pair[0] for pair in pairs],
                          lambda sock: sock.recv(3, socket.MSG_WAITALL))
        results = self.check_parks(block, release, count=10, states=('running',))
        self.assertEqual(set(results), {b"xxx"})

    def test_makefile(self):
        pairs = self.pairs()

        def read(sock):
            with sock.makefile("rb") as file:
                return file.readline()

        def release():
            for pair in pairs:
                pair[1].sendall(b"first line\nmore")

        block = self.each([pair[0] for pair in pairs], read)
        self.assertEqual(set(self.check_parks(block, release)), {b"first line\n"})

    def check_send(self, send, timeout=None, states=('parked',)):
        # More than the buffers hold.
        payload = b"x" * (4 << 20)
        pairs = self.pairs(10)
        for pair in pairs:
            pair[0].settimeout(timeout)
        received = []

        def drain(sock):
            size = 0
            while chunk := sock.recv(1 << 16):
                size += len(chunk)
            received.append(size)

        def send_all(sock):
            send(sock, payload)
            sock.shutdown(socket.SHUT_WR)

        drains = []

        def release():
            drains.extend(spawn(drain, pair[1]) for pair in pairs)

        self.check_parks(self.each([pair[0] for pair in pairs], send_all), release,
                         count=10, states=states)
        self.join(drains)
        self.assertEqual(received, [len(payload)] * 10)

    def test_sendall(self):
        self.check_send(lambda sock, data: sock.sendall(data))

    def test_sendall_timeout(self):
        self.check_send(lambda sock, data: sock.sendall(data), timeout=TIMEOUT)

    def test_send(self):
        def send(sock, data):
            view = memoryview(data)
            while view:
                view = view[sock.send(view):]

        self.check_send(send)

    def test_sendmsg(self):
        def send(sock, data):
            view = memoryview(data)
            while view:
                view = view[sock.sendmsg([view]):]

        self.check_send(send)

    def test_sendfile(self):
        def send(sock, data):
            with open(os_helper.TESTFN, "rb") as file:
                sock.sendfile(file)

        self.addCleanup(os_helper.unlink, os_helper.TESTFN)
        with open(os_helper.TESTFN, "wb") as file:
            file.write(b"x" * (4 << 20))
        # os.sendfile() also reads the file, which may block: a hand-off.
        self.check_send(send, states=('parked', 'running'))

    def check_accept(self, timeout):
        server = self.listen()
        server.settimeout(timeout)
        clients = []

        def accept():
            connection, _ = server.accept()
            with connection:
                return connection.gettimeout()

        def release():
            for _ in range(COUNT):
                clients.append(socket.create_connection(server.getsockname()))

        self.assertEqual(set(self.check_parks(accept, release)), {None})
        for client in clients:
            client.close()

    def test_accept(self):
        self.check_accept(None)

    def test_accept_timeout(self):
        self.check_accept(TIMEOUT)

    def check_connect(self, family, address, **kwargs):
        # The backlog is full: those who connect wait until the server accepts.
        server = self.listen(family, address, backlog=0)
        address = server.getsockname()
        first = socket.socket(family)
        self.addCleanup(first.close)
        first.connect(address)

        def connect():
            with socket.socket(family) as sock:
                sock.connect(address)
                return sock.getpeername()

        accepting = []

        def accept():
            for _ in range(kwargs['count'] + 1):
                server.accept()[0].close()

        results = self.check_parks(connect, lambda: accepting.append(spawn(accept)),
                                   **kwargs)
        self.join(accepting)
        self.assertEqual(set(results), {address})

    def test_connect(self):
        # Few, as the kernel tries again after 1, 3, 7, ... seconds.
        self.check_connect(socket.AF_INET, ("127.0.0.1", 0), count=2)

    def test_connect_unix(self):
        # The kernel has no way to wait for room without blocking: a hand-off.
        with os_helper.temp_dir() as directory:
            self.check_connect(socket.AF_UNIX, os.path.join(directory, "socket"),
                               count=10, states=('running',))

    def test_udp(self):
        for family, host in self.families():
            with self.subTest(host), contextlib.ExitStack() as stack:
                socks = []
                for _ in range(COUNT):
                    sock = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
                    sock.bind((host, 0))
                    socks.append(sock)

                def release():
                    with socket.socket(family, socket.SOCK_DGRAM) as sender:
                        for sock in socks:
                            sender.sendto(b"x", sock.getsockname())

                results = self.check_parks(
                    self.each(socks, lambda sock: sock.recvfrom(10)[0]), release)
                self.assertEqual(results, [b"x"] * COUNT)

    def families(self):
        yield socket.AF_INET, "127.0.0.1"
        if socket_helper.IPV6_ENABLED:
            yield socket.AF_INET6, "::1"

    def test_tcp(self):
        for family, host in self.families():
            with self.subTest(host):
                server = self.listen(family, (host, 0))

                def echo(connection):
                    with connection:
                        while data := connection.recv(100):
                            connection.sendall(data)

                def serve():
                    children = [spawn(echo, server.accept()[0]) for _ in range(COUNT)]
                    for child in children:
                        child.join()

                def talk():
                    with socket.create_connection(server.getsockname()[:2]) as sock:
                        for number in range(20):
                            message = b"%d\n" % number
                            sock.sendall(message)
                            self.assertEqual(sock.recv(100), message)

                self.call_all([serve] + [talk] * COUNT)


class TimeoutTests(SocketTestCase):

    def test_expired(self):
        server = self.listen()
        server.settimeout(0.01)
        self.call_all([lambda: self.assertRaises(TimeoutError, server.accept)] * COUNT)

        def receive(pair):
            pair[0].settimeout(0.01)
            for _ in range(3):
                self.assertRaises(TimeoutError, pair[0].recv, 10)
            pair[1].send(b"x")
            return pair[0].recv(10)

        pairs = self.pairs()
        results = self.call_all([lambda p=p: receive(p) for p in pairs])
        self.assertEqual(results, [b"x"] * COUNT)

    def test_send_expired(self):
        def send(pair):
            pair[0].settimeout(0.01)
            with self.assertRaises(TimeoutError):
                pair[0].sendall(b"x" * (16 << 20))

        self.call_all([lambda p=p: send(p) for p in self.pairs(10)])

    def test_non_blocking(self):
        def receive(pair):
            pair[0].setblocking(False)
            self.assertRaises(BlockingIOError, pair[0].recv, 10)
            pair[0].setblocking(True)

        self.call_all([lambda p=p: receive(p) for p in self.pairs()])

    def test_mode_of_the_descriptor_is_kept(self):
        # Others may share the open file: a blocking socket stays blocking.
        first, second = self.pairs(1)[0]
        thread = spawn(first.recv, 10)
        self.wait_until(lambda: thread.state == "parked", "parked")
        self.assertTrue(os.get_blocking(first.fileno()))
        second.send(b"x")
        self.join([thread])
        self.assertTrue(os.get_blocking(first.fileno()))


class ErrorTests(SocketTestCase):

    def test_closed_by_another_thread(self):
        # Who waits is told.
        pairs = self.pairs(10)

        def receive(sock):
            try:
                sock.recv(10)
            except OSError as exc:
                return exc.errno

        def release():
            for pair in pairs:
                pair[0].close()

        results = self.check_parks(self.each([p[0] for p in pairs], receive), release,
                                   count=10)
        self.assertEqual(set(results), {errno.EBADF})

    def test_shut_down_by_another_thread(self):
        pairs = self.pairs(10)

        def release():
            for pair in pairs:
                pair[0].shutdown(socket.SHUT_RD)

        results = self.check_parks(
            self.each([p[0] for p in pairs], lambda sock: sock.recv(10)), release,
            count=10)
        self.assertEqual(set(results), {b""})

    def test_closed_by_the_peer(self):
        pairs = self.pairs()

        def release():
            for pair in pairs:
                pair[1].close()

        results = self.check_parks(
            self.each([p[0] for p in pairs], lambda sock: sock.recv(10)), release)
        self.assertEqual(set(results), {b""})

    def test_connection_refused(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            address = server.getsockname()

        def connect():
            with self.assertRaises(ConnectionRefusedError):
                socket.create_connection(address)

        self.call_all([connect] * COUNT)

    def test_descriptor_is_reused(self):
        # What was registered for a closed descriptor is not there for its successor.
        def run():
            for _ in range(20):
                first, second = socket.socketpair()
                with first, second:
                    thread = spawn(second.sendall, b"x")
                    self.assertEqual(first.recv(1), b"x")
                    thread.join()

        self.call_all([run] * 20)

    def test_many_waiters_on_one_socket(self):
        first, second = self.pairs(1)[0]
        results = self.check_parks(lambda: first.recv(1),
                                   lambda: second.sendall(b"x" * COUNT))
        self.assertEqual(results, [b"x"] * COUNT)

    def test_reader_and_writer_of_one_socket(self):
        first, second = self.pairs(1)[0]
        payload = b"x" * (4 << 20)

        def read(sock):
            size = 0
            while size < len(payload):
                size += len(sock.recv(1 << 16))
            return size

        results = self.call_all([lambda: first.sendall(payload), lambda: read(first),
                                 lambda: second.sendall(payload), lambda: read(second)])
        self.assertEqual(results[1::2], [len(payload)] * 2)


class ServerTests(SocketTestCase):

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
                virtual_threading.Thread(target=self.process_request_thread,
                                         args=(request, client_address)).start()

        server = Server(("127.0.0.1", 0), Handler)
        serving = spawn(server.serve_forever)

        def get(number):
            connection = http.client.HTTPConnection(*server.server_address)
            connection.request("GET", f"/{number}")
            with connection.getresponse() as response:
                body = response.read()
            connection.close()
            return body

        try:
            results = self.call_all([lambda n=n: get(n) for n in range(100)])
        finally:
            server.shutdown()
            self.join([serving])
            server.server_close()
        self.assertEqual(results, [b"/%d" % n for n in range(100)])


if __name__ == "__main__":
    unittest.main()
