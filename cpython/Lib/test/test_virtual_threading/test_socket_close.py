"""Who waits for a socket that is closed is told; who has its number next is not."""

import errno
import os
import socket
import struct
import time
import unittest

from test.test_virtual_threading.io_util import Hands
from test.test_virtual_threading.socket_util import SocketTestCase
from test.test_virtual_threading.util import COUNT
from virtual_threading import spawn, yield_now


class CloseTests(SocketTestCase):

    def test_close_recv(self):
        left, _ = self.pair()
        self.check_close(lambda: left.recv(1), left.close)

    def test_close_recv_into(self):
        left, _ = self.pair()
        self.check_close(lambda: left.recv_into(bytearray(1)), left.close)

    def test_close_recvfrom(self):
        left, _ = self.pair()
        self.check_close(lambda: left.recvfrom(1), left.close)

    def test_close_recvmsg(self):
        for receive in (lambda sock: sock.recvmsg(1),
                        lambda sock: sock.recvmsg_into([bytearray(1)])):
            left, _ = self.pair()
            self.check_close(lambda: receive(left), left.close)

    def test_close_recv_with_timeout(self):
        left, _ = self.pair()
        left.settimeout(3600)
        self.check_close(lambda: left.recv(1), left.close)

    def test_close_send(self):
        for send in (lambda sock: sock.send(b"x"), lambda sock: sock.sendall(b"x"),
                     lambda sock: sock.sendmsg([b"x"])):
            left, _ = self.pair()
            self.fill(left)
            self.check_close(lambda: send(left), left.close)

    def test_close_accept(self):
        listener = self.listener()
        self.check_close(listener.accept, listener.close)

    def test_close_accept_with_timeout(self):
        listener = self.listener()
        listener.settimeout(3600)
        self.check_close(listener.accept, listener.close)

    def test_close_connect(self):
        listener = self.full_listener()
        socks = [self.open() for _ in range(5)]
        hands = Hands(socks)
        self.check_close(lambda: hands().connect(listener.getsockname()),
                         lambda: [sock.close() for sock in socks], count=5)

    def test_close_each(self):
        socks = [left for left, _ in self.pairs()]
        hands = Hands(socks)
        self.check_close(lambda: hands().recv(10),
                         lambda: [sock.close() for sock in socks])

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

    def test_numbers_used_again_by_many(self):
        # The same, among threads that have each other's numbers next.
        def run():
            for _ in range(20):
                left, right = socket.socketpair()
                with left, right:
                    thread = spawn(right.sendall, b"x")
                    self.assertEqual(left.recv(1), b"x")
                    thread.join()

        self.call_all([run] * 20)

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
        self.fill(left)
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
        listener = self.full_listener()
        sock = self.open()
        number, closer = self.closing_slowly()
        os.dup2(sock.fileno(), number)
        with socket.socket(fileno=number) as again:
            def release():
                self.join([closer])
                time.sleep(0.1)     # for what must not happen
                again.close()

            self.check_close(lambda: again.connect(listener.getsockname()), release,
                             count=1)


if __name__ == "__main__":
    unittest.main()
