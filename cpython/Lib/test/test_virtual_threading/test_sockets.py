"""Socket calls park, and mean what they mean on a platform thread."""

import errno
import os
import socket
import threading
import unittest
from test.support import os_helper

from test.test_virtual_threading.io_util import Hands
from test.test_virtual_threading.socket_util import BIG, FAMILIES, HOSTS, SocketTestCase
from test.test_virtual_threading.util import COUNT, TIMEOUT
from virtual_threading import spawn


class ReceiveTests(SocketTestCase):

    def check_receive(self, receive, *args):
        """receive(sock) parks; args are those of the sockets."""
        pairs = self.pairs(COUNT, *args)
        left = Hands(pair[0] for pair in pairs)

        def release():
            # What others see of the descriptors does not change meanwhile.
            self.assertFalse(any(self.is_nonblocking(pair[0]) for pair in pairs))
            for _, right in pairs:
                right.sendall(b"hello")

        results = self.check_parks(lambda: receive(left()), release)
        self.assertEqual(results, [b"hello"] * COUNT)
        self.assertFalse(any(self.is_nonblocking(pair[0]) for pair in pairs))

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

    def test_recvfrom_datagrams(self):
        self.check_receive(lambda sock: sock.recvfrom(100)[0],
                           socket.AF_UNIX, socket.SOCK_DGRAM)

    def test_recvfrom_into(self):
        def receive(sock):
            buffer = bytearray(100)
            return bytes(buffer[:sock.recvfrom_into(buffer)[0]])
        self.check_receive(receive)

    def test_recvmsg(self):
        for space in 0, 100:
            with self.subTest(space=space):
                self.check_receive(lambda sock: sock.recvmsg(100, space)[0])

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

    def test_readline(self):
        # What comes behind the line is not waited for.
        pairs = self.pairs()
        left = Hands(pair[0] for pair in pairs)

        def receive():
            with left().makefile("rb") as file:
                return file.readline()

        results = self.check_parks(
            receive, lambda: [right.sendall(b"first line\nmore") for _, right in pairs])
        self.assertEqual(results, [b"first line\n"] * COUNT)

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
        for family in FAMILIES:
            with self.subTest(family=family):
                socks = []
                for _ in range(COUNT):
                    sock = self.open(family, socket.SOCK_DGRAM)
                    sock.bind((HOSTS[family], 0))
                    socks.append(sock)
                hands = Hands(socks)
                sender = self.open(family, socket.SOCK_DGRAM)
                results = self.check_parks(
                    lambda: hands().recvfrom(100),
                    lambda: [sender.sendto(b"hi", sock.getsockname()) for sock in socks])
                self.assertEqual({data for data, _ in results}, {b"hi"})
                self.assertEqual({addr[1] for _, addr in results}, {sender.getsockname()[1]})

    def test_many_on_one_socket(self):
        left, right = self.pair()

        def release():
            for data in pieces:
                right.sendall(data)

        # What is sent wakes all that wait; who gets nothing does not block its carrier.
        for pieces in [b"x"] * COUNT, [b"x" * COUNT]:
            self.assertEqual(self.check_parks(lambda: left.recv(1), release),
                             [b"x"] * COUNT)

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

    def test_peek(self):
        left, right = self.pair()
        with self.assertRaises(BlockingIOError):
            self.call(left.recv, 10, socket.MSG_DONTWAIT)

        def peek():
            return left.recv(10, socket.MSG_PEEK), left.recv(10, socket.MSG_PEEK)

        seen = self.check_parks(peek, lambda: right.sendall(b"abc"))
        self.assertEqual(seen, [(b"abc", b"abc")] * COUNT)
        got = self.call(lambda: (*peek(), left.recv(1), left.recv(10)))
        self.assertEqual(got, (b"abc", b"abc", b"a", b"bc"))

    def test_waitall(self):
        pairs = self.pairs(10)
        left = Hands(pair[0] for pair in pairs)

        def receive():
            sock = left()
            return sock.recv(1), sock.recv(5, socket.MSG_WAITALL)

        for _, right in pairs:
            right.sendall(b"abc")
        # Without blocking, the kernel would not wait for all: a hand-off.
        with self.blocked(receive, count=len(pairs), states=('running',)) as results:
            for data in b"d", b"e", b"f":
                self.wait_until(lambda: not any(self.unread(pair[0]) for pair in pairs),
                                "nothing unread")
                for _, right in pairs:
                    right.sendall(data)
        self.assertEqual(results, [(b"a", b"bcdef")] * len(pairs))

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


class SendTests(SocketTestCase):

    def check_send(self, send, timeout=None, **kwargs):
        """send(sock) of BIG bytes parks, and says that all have gone."""
        pairs = self.pairs(10)
        left = Hands(pair[0] for pair in pairs)
        received = []

        def send_all():
            sock = left()
            sock.settimeout(timeout)
            result = send(sock)
            sock.shutdown(socket.SHUT_WR)
            return result

        def drain(sock):
            total = 0
            while data := sock.recv(1 << 16):
                total += len(data)
            received.append(total)

        def release():
            # Threads of both kinds receive.
            threads = [threading.Thread(target=drain, args=[right])
                       for _, right in pairs[::2]]
            for thread in threads:
                thread.start()
            threads += [spawn(drain, right) for _, right in pairs[1::2]]
            self.join(threads)

        results = self.check_parks(send_all, release, count=len(pairs), **kwargs)
        self.assertEqual(received, [BIG] * len(pairs))
        return results

    def test_sendall(self):
        data = b"x" * BIG
        self.assertEqual(self.check_send(lambda sock: sock.sendall(data)), [None] * 10)

    def test_sendall_with_timeout(self):
        data = b"x" * BIG
        self.assertEqual(self.check_send(lambda sock: sock.sendall(data), timeout=TIMEOUT),
                         [None] * 10)

    def test_send(self):
        # As in the kernel: a blocking stream socket sends all.
        data = b"x" * BIG
        self.assertEqual(self.check_send(lambda sock: sock.send(data)), [BIG] * 10)

    def test_sendmsg(self):
        parts = [b"x", b"x" * (BIG // 2), b"", b"x" * (BIG // 2 - 1)]
        self.assertEqual(self.check_send(lambda sock: sock.sendmsg(parts)), [BIG] * 10)

    def test_sendfile(self):
        def send(sock):
            with open(path, "rb") as file:
                return sock.sendfile(file)

        with os_helper.temp_dir() as directory:
            path = os.path.join(directory, "file")
            with open(path, "wb") as file:
                file.write(b"x" * BIG)
            # os.sendfile() also reads the file, which may block: a hand-off.
            self.assertEqual(self.check_send(send, states=('parked', 'running')),
                             [BIG] * 10)

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

    def test_both_ways_at_once(self):
        left, right = self.pair()

        def receive(sock):
            total = 0
            while total < BIG:
                total += len(sock.recv(1 << 16))
            return total

        data = b"x" * BIG
        results = self.call_all([lambda: left.sendall(data), lambda: receive(left),
                                 lambda: right.sendall(data), lambda: receive(right)])
        self.assertEqual(results, [None, BIG] * 2)

    def test_unix_datagrams(self):
        # The receiver's queue is short; what waits for it blocks its OS thread.
        left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        with left, right:
            results = self.call_all([
                lambda: sum(left.send(b"x" * 100) for _ in range(1000)),
                lambda: sum(len(right.recv(200)) for _ in range(1000))])
        self.assertEqual(results, [100_000] * 2)


if __name__ == "__main__":
    unittest.main()
