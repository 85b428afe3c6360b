"""Socket calls park, and mean what they mean on a platform thread."""

import contextlib
import errno
import fcntl
import os
import socket
import struct
import threading
import time
import unittest
from test.support import os_helper, socket_helper

from test.test_virtual_threading.io_util import Hands
from test.test_virtual_threading.util import COUNT, TestCase
from virtual_threading import spawn, yield_now

BIG = 4 << 20           # more than any socket buffer holds


class SocketTestCase(TestCase):

    def open(self, *args):
        sock = socket.socket(*args)
        self.addCleanup(sock.close)
        return sock

    def pair(self):
        left, right = socket.socketpair()
        self.addCleanup(left.close)
        self.addCleanup(right.close)
        return left, right

    def pairs(self, count=COUNT):
        return [self.pair() for _ in range(count)]

    def listener(self, family=socket.AF_INET, backlog=128):
        sock = self.open(family, socket.SOCK_STREAM)
        sock.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
        sock.listen(backlog)
        return sock

    def connected(self):
        server = self.listener()
        client = self.open()
        client.connect(server.getsockname())
        other, _ = server.accept()
        self.addCleanup(other.close)
        return client, other

    def is_nonblocking(self, sock):
        return bool(fcntl.fcntl(sock, fcntl.F_GETFL) & os.O_NONBLOCK)


class ReceiveTests(SocketTestCase):

    def check_receive(self, receive):
        pairs = self.pairs()
        left = Hands(pair[0] for pair in pairs)

        def release():
            # What others see of the descriptors does not change meanwhile.
            self.assertFalse(any(self.is_nonblocking(pair[0]) for pair in pairs))
            for _, right in pairs:
                right.sendall(b"hello")

        results = self.check_parks(lambda: receive(left()), release)
        self.assertEqual(results, [b"hello"] * COUNT)

    def test_recv(self):
        self.check_receive(lambda sock: sock.recv(100))

    def test_recv_exact(self):
        self.check_receive(lambda sock: sock.recv(5))

    def test_recv_into(self):
        def receive(sock):
            buffer = bytearray(100)
            return bytes(buffer[:sock.recv_into(buffer)])
        self.check_receive(receive)

    def test_recvfrom(self):
        self.check_receive(lambda sock: sock.recvfrom(100)[0])

    def test_recvfrom_into(self):
        def receive(sock):
            buffer = bytearray(100)
            return bytes(buffer[:sock.recvfrom_into(buffer)[0]])
        self.check_receive(receive)

    def test_recvmsg(self):
        self.check_receive(lambda sock: sock.recvmsg(100)[0])

    def test_recvmsg_into(self):
        def receive(sock):
            buffer = bytearray(100)
            return bytes(buffer[:sock.recvmsg_into([buffer])[0]])
        self.check_receive(receive)

    def test_makefile(self):
        def receive(sock):
            with sock.makefile("rb") as file:
                return file.read(5)
        self.check_receive(receive)

    def test_with_timeout(self):
        def receive(sock):
            sock.settimeout(3600)
            data = sock.recv(100)
            sock.settimeout(None)
            return data
        pairs = self.pairs()
        left = Hands(pair[0] for pair in pairs)
        results = self.check_parks(
            lambda: receive(left()),
            lambda: [right.sendall(b"hello") for _, right in pairs])
        self.assertEqual(results, [b"hello"] * COUNT)

    def test_udp(self):
        socks = []
        for _ in range(COUNT):
            sock = self.open(socket.AF_INET, socket.SOCK_DGRAM)
            sock.bind(("127.0.0.1", 0))
            socks.append(sock)
        hands = Hands(socks)
        sender = self.open(socket.AF_INET, socket.SOCK_DGRAM)
        results = self.check_parks(
            lambda: hands().recvfrom(100),
            lambda: [sender.sendto(b"hi", sock.getsockname()) for sock in socks])
        self.assertEqual({data for data, _ in results}, {b"hi"})
        self.assertEqual({addr[1] for _, addr in results}, {sender.getsockname()[1]})

    def test_many_on_one_socket(self):
        # Each byte wakes all that wait; only one gets it, and none blocks its carrier.
        left, right = self.pair()

        def release():
            for _ in range(COUNT):
                right.sendall(b"x")

        self.assertEqual(self.check_parks(lambda: left.recv(1), release), [b"x"] * COUNT)

    def test_short_then_more(self):
        # A short recv makes the next one wait first; what has come by then is not missed.
        left, right = self.connected()

        def receive():
            got = []
            for _ in range(50):
                right.sendall(b"abc")
                got.append(left.recv(100))
            right.close()
            got.append(left.recv(100))
            got.append(left.recv(100))
            return got

        self.assertEqual(self.call(receive), [b"abc"] * 50 + [b"", b""])

    def test_end_of_stream_and_shutdown(self):
        pairs = self.pairs()
        left = Hands(pair[0] for pair in pairs)

        def release():
            for number, (left, right) in enumerate(pairs):
                if number % 3 == 0:
                    right.close()
                elif number % 3 == 1:
                    right.shutdown(socket.SHUT_WR)
                else:
                    left.shutdown(socket.SHUT_RD)

        self.assertEqual(self.check_parks(lambda: left().recv(10), release),
                         [b""] * COUNT)

    def test_flags(self):
        left, right = self.pair()

        def receive():
            with self.assertRaises(BlockingIOError):
                left.recv(10, socket.MSG_DONTWAIT)
            threading.Timer(0.01, right.sendall, [b"abc"]).start()
            got = [left.recv(10, socket.MSG_PEEK), left.recv(10, socket.MSG_PEEK),
                   left.recv(1)]
            threading.Timer(0.01, right.sendall, [b"def"]).start()
            got.append(left.recv(5, socket.MSG_WAITALL))
            return got

        self.assertEqual(self.call(receive), [b"abc", b"abc", b"a", b"bcdef"])

    def test_nothing_asked(self):
        left, _ = self.pair()
        self.assertEqual(self.call(left.recv, 0), b"")

    def test_bad_arguments(self):
        left, _ = self.pair()
        self.assertRaises(ValueError, self.call, left.recv, -1)
        self.assertRaises(TypeError, self.call, left.recv, None)
        unconnected = self.open()
        with self.assertRaises(OSError) as caught:
            self.call(unconnected.recv, 1)
        self.assertEqual(caught.exception.errno, errno.ENOTCONN)


class ModeTests(SocketTestCase):

    def test_nonblocking(self):
        left, _ = self.pair()
        left.setblocking(False)
        self.assertRaises(BlockingIOError, self.call, left.recv, 1)
        self.assertRaises(BlockingIOError, self.call, left.recv_into, bytearray(1))
        self.assertRaises(BlockingIOError, self.call, left.recvfrom, 1)

        def fill():
            while True:
                left.send(b"x" * 65536)
        self.assertRaises(BlockingIOError, self.call, fill)

        listener = self.listener()
        listener.setblocking(False)
        self.assertRaises(BlockingIOError, self.call, listener.accept)

    def test_nonblocking_behind_its_back(self):
        left, _ = self.pair()
        os.set_blocking(left.fileno(), False)
        self.assertRaises(BlockingIOError, self.call, left.recv, 1)
        self.assertRaises(BlockingIOError, self.call, left.recvfrom, 1)
        listener = self.listener()
        os.set_blocking(listener.fileno(), False)
        self.assertRaises(BlockingIOError, self.call, listener.accept)

    def test_kernel_timeout(self):
        left, _ = self.pair()
        left.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 20_000))
        self.assertRaises(BlockingIOError, self.call, left.recv, 1)

    def test_timeouts(self):
        left, _ = self.pair()
        listener = self.listener()
        seconds = 0.05
        left.settimeout(seconds)
        listener.settimeout(seconds)
        calls = {
            "recv": lambda: left.recv(1),
            "recv_into": lambda: left.recv_into(bytearray(1)),
            "recvfrom": lambda: left.recvfrom(1),
            "recvmsg": lambda: left.recvmsg(1),
            "accept": listener.accept,
            "sendall": lambda: left.sendall(b"x" * BIG),
        }

        def measure(function):
            start = time.monotonic()
            with self.assertRaisesRegex(TimeoutError, "^timed out$"):
                function()
            return time.monotonic() - start

        for name, function in calls.items():
            with self.subTest(name):
                self.assertGreaterEqual(self.call(measure, function), seconds)

    def test_many_timeouts(self):
        socks = [pair[0] for pair in self.pairs()]
        for sock in socks:
            sock.settimeout(0.01)

        def receive(sock):
            with self.assertRaises(TimeoutError):
                sock.recv(1)
            return True

        for _ in range(5):
            self.assertEqual(self.call_all([lambda s=s: receive(s) for s in socks]),
                             [True] * COUNT)


class SendTests(SocketTestCase):

    def check_send(self, send):
        """send(sock) of BIG bytes parks, and says that all have gone."""
        pairs = self.pairs(10)
        left = Hands(pair[0] for pair in pairs)
        received = []

        def drain(sock):
            total = 0
            while total < BIG:
                total += len(sock.recv(1 << 16))
            received.append(total)

        def release():
            threads = [threading.Thread(target=drain, args=[right]) for _, right in pairs]
            for thread in threads:
                thread.start()
            self.join(threads)

        results = self.check_parks(lambda: send(left()), release, count=len(pairs))
        self.assertEqual(received, [BIG] * len(pairs))
        return results

    def test_sendall(self):
        data = b"x" * BIG
        self.assertEqual(self.check_send(lambda sock: sock.sendall(data)), [None] * 10)

    def test_send(self):
        # As in the kernel: a blocking stream socket sends all.
        data = b"x" * BIG
        self.assertEqual(self.check_send(lambda sock: sock.send(data)), [BIG] * 10)

    def test_sendmsg(self):
        parts = [b"x", b"x" * (BIG // 2), b"", b"x" * (BIG // 2 - 1)]
        self.assertEqual(self.check_send(lambda sock: sock.sendmsg(parts)), [BIG] * 10)

    def test_content(self):
        data = os.urandom(BIG)
        left, right = self.pair()

        def receive():
            got = bytearray()
            while len(got) < BIG:
                got += right.recv(1 << 16)
            return got

        sent, got = self.call_all([
            lambda: left.sendmsg([data[:1000], data[1000:BIG // 3], data[BIG // 3:]]),
            receive])
        self.assertEqual(sent, BIG)
        self.assertEqual(got, data)

    def test_partly_then_closed(self):
        left, right = self.pair()

        def send():
            return left.send(b"x" * BIG)

        def drop():
            right.recv(1000)
            right.close()

        sent, _ = self.call_all([send, drop])
        self.assertGreater(sent, 0)
        self.assertLess(sent, BIG)
        self.assertRaises(OSError, self.call, left.send, b"x")

    def test_unix_datagrams(self):
        # The receiver's queue is short; what waits for it blocks its OS thread.
        left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        with left, right:
            results = self.call_all([
                lambda: sum(left.send(b"x" * 100) for _ in range(1000)),
                lambda: sum(len(right.recv(200)) for _ in range(1000))])
        self.assertEqual(results, [100_000] * 2)


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
                return peer

        peers = self.check_parks(accept, release)
        self.assertFalse(self.is_nonblocking(listener))
        self.assertEqual(len(peers), COUNT)
        if family != socket.AF_UNIX:
            self.assertEqual(set(peers), {client.getsockname() for client in clients})

    def test_accept(self):
        self.accept_and_connect(self.listener())

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

    def full_listener(self):
        """One whose queue is full: what connects to it waits."""
        listener = self.listener(backlog=0)
        for _ in range(10):
            filler = self.open()
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        return listener

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

        self.assertEqual(self.call_all([connect] * 10), [errno.ECONNREFUSED] * 10)

    def test_echo(self):
        listener = self.listener()

        def serve():
            connection, _ = listener.accept()
            with connection:
                while data := connection.recv(1024):
                    connection.sendall(data)

        def ask(number):
            with socket.create_connection(listener.getsockname()) as sock:
                for turn in range(20):
                    message = f"{number} {turn}".encode() * 50
                    sock.sendall(message)
                    got = b""
                    while len(got) < len(message):
                        got += sock.recv(4096)
                    self.assertEqual(got, message)
            return number

        results = self.call_all([serve] * COUNT
                                + [lambda n=n: ask(n) for n in range(COUNT)])
        self.assertEqual(results[COUNT:], list(range(COUNT)))


class CloseTests(SocketTestCase):

    def check_close(self, block, close, *, count=COUNT):
        def blocked():
            try:
                return block()
            except OSError as exc:
                return exc.errno
        self.assertEqual(self.check_parks(blocked, close, count=count),
                         [errno.EBADF] * count)

    def test_close_recv(self):
        left, _ = self.pair()
        self.check_close(lambda: left.recv(1), left.close)

    def test_close_recv_into(self):
        left, _ = self.pair()
        self.check_close(lambda: left.recv_into(bytearray(1)), left.close)

    def test_close_recvfrom(self):
        left, _ = self.pair()
        self.check_close(lambda: left.recvfrom(1), left.close)

    def test_close_recv_with_timeout(self):
        left, _ = self.pair()
        left.settimeout(3600)
        self.check_close(lambda: left.recv(1), left.close)

    def test_close_send(self):
        left, _ = self.pair()
        with contextlib.suppress(BlockingIOError):
            while True:
                left.send(b"x" * 65536, socket.MSG_DONTWAIT)
        self.check_close(lambda: left.send(b"x"), left.close)

    def test_close_accept(self):
        listener = self.listener()
        self.check_close(listener.accept, listener.close)

    def test_close_accept_with_timeout(self):
        listener = self.listener()
        listener.settimeout(3600)
        self.check_close(listener.accept, listener.close)

    def test_close_connect(self):
        listener = self.listener(backlog=0)
        for _ in range(10):
            filler = self.open()
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        socks = [self.open() for _ in range(5)]
        hands = Hands(socks)
        self.check_close(lambda: hands().connect(listener.getsockname()),
                         lambda: [sock.close() for sock in socks], count=5)

    def test_close_by_number(self):
        for close in (os.close, socket.close,
                      lambda fd: os.closerange(fd, fd + 1)):
            with self.subTest(close=close):
                left, _ = self.pair()
                self.check_close(lambda: left.recv(1), lambda: close(left.fileno()),
                                 count=5)
                left.detach()

    def test_close_by_dup2(self):
        left, _ = self.pair()
        other, _ = self.pair()
        self.check_close(lambda: left.recv(1),
                         lambda: os.dup2(other.fileno(), left.fileno()), count=5)

    def test_dup2_that_closes_nothing(self):
        left, right = self.pair()

        def release():
            os.dup2(left.fileno(), left.fileno())
            with self.assertRaises(OSError):
                os.dup2(1_000_000, left.fileno())
            right.sendall(b"x")

        self.assertEqual(self.check_parks(lambda: left.recv(1), release, count=1), [b"x"])

    def test_number_used_again(self):
        # A registration must not outlive its file.
        for _ in range(20):
            left, right = socket.socketpair()
            number = left.fileno()
            self.check_close(lambda: left.recv(1), left.close, count=3)
            right.close()
            again, other = socket.socketpair()
            with again, other:
                if again.fileno() != number:
                    again, other = other, again
                self.assertEqual(
                    self.check_parks(lambda: again.recv(1), lambda: other.sendall(b"y"),
                                     count=1), [b"y"])

    def test_close_at_any_time(self):
        # Nobody misses it who begins to wait in the very moment.
        for turn in range(100):
            left, right = socket.socketpair()
            with left, right, left.dup():
                def receive():
                    for _ in range(turn % 10):
                        yield_now()
                    with self.assertRaises(OSError) as caught:
                        left.recv(1)
                    return caught.exception.errno

                def close():
                    for _ in range(turn // 10):
                        yield_now()
                    left.close()

                errors = self.call_all([receive] * 3 + [close] + [receive] * 3)
                errors.remove(None)
                self.assertEqual(errors, [errno.EBADF] * 6)

    def closing_slowly(self):
        """A number that can be used again, and the thread whose close() still blocks."""
        left, _ = self.connected()
        left.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 2))
        with contextlib.suppress(BlockingIOError):
            while True:
                left.send(b"x" * 65536, socket.MSG_DONTWAIT)
        number = left.fileno()
        closer = spawn(left.close)

        def closed():
            try:
                os.fstat(number)
            except OSError:
                return True

        self.wait_until(closed, "a number that can be used again")
        return number, closer

    def test_number_used_again_during_close(self):
        left, right = self.pair()
        number, closer = self.closing_slowly()
        os.dup2(left.fileno(), number)
        with socket.socket(fileno=number) as again:
            self.assertEqual(
                self.check_parks(lambda: again.recv(1), lambda: right.sendall(b"y"),
                                 count=1), [b"y"])

            def release():
                self.join([closer])
                right.sendall(b"z" * COUNT)

            self.assertEqual(self.check_parks(lambda: again.recv(1), release),
                             [b"z"] * COUNT)

    def test_connect_during_close_of_number(self):
        # That the number was closed once must not pass for a connection.
        listener = self.listener(backlog=0)
        for _ in range(10):
            filler = self.open()
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        sock = self.open()
        number, closer = self.closing_slowly()
        os.dup2(sock.fileno(), number)
        with socket.socket(fileno=number) as again:
            def release():
                self.join([closer])
                time.sleep(0.1)
                again.close()

            self.check_close(lambda: again.connect(listener.getsockname()), release,
                             count=1)


if __name__ == "__main__":
    unittest.main()
