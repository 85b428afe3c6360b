"""ssl on top of sockets: handshakes and reads park."""

import os
import socket
import unittest
from test.support import import_helper

from test.test_virtual_threading.util import COUNT, TestCase
from virtual_threading import spawn

ssl = import_helper.import_module('ssl')

CERTIFICATE = os.path.join(os.path.dirname(os.path.dirname(__file__)), "certdata",
                           "keycert.pem")


class SSLTests(TestCase):

    def setUp(self):
        super().setUp()
        self.server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.server_context.load_cert_chain(CERTIFICATE)
        self.client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.client_context.check_hostname = False
        self.client_context.verify_mode = ssl.CERT_NONE

    def wrap(self, sock, server):
        if server:
            return self.server_context.wrap_socket(sock, server_side=True)
        return self.client_context.wrap_socket(sock)

    def pair(self):
        """A pair of connected TLS sockets; the handshake needs both sides at once."""
        left, right = socket.socketpair()
        return self.call_all([lambda: self.wrap(left, True),
                              lambda: self.wrap(right, False)])

    def test_handshake_parks(self):
        pairs = [socket.socketpair() for _ in range(COUNT)]
        waiting = [pair[0] for pair in pairs]
        clients = []

        def shake():
            with self.wrap(waiting.pop(), True) as sock:
                return sock.recv(100)

        def client(sock):
            with self.wrap(sock, False) as wrapped:
                wrapped.sendall(b"hello")

        def release():
            clients.extend(spawn(client, pair[1]) for pair in pairs)

        self.assertEqual(set(self.check_parks(shake, release)), {b"hello"})
        self.join(clients)

    def test_read_parks(self):
        pairs = [self.pair() for _ in range(10)]
        waiting = [pair[0] for pair in pairs]

        def release():
            for pair in pairs:
                pair[1].sendall(b"x")

        results = self.check_parks(lambda: waiting.pop().recv(10), release, count=10)
        self.assertEqual(results, [b"x"] * 10)
        for pair in pairs:
            for sock in pair:
                sock.close()

    def test_timeout(self):
        def run():
            left, right = self.pair()
            with left, right:
                left.settimeout(0.05)
                self.assertRaises(TimeoutError, left.recv, 10)
                right.sendall(b"x")
                return left.recv(10)

        self.assertEqual(self.call_all([run] * 5), [b"x"] * 5)

    def test_much_data_both_ways(self):
        payload = os.urandom(1 << 20)

        def run():
            left, right = self.pair()
            with left, right:
                # Reading and writing one TLS socket at once is not for two threads:
                # one direction after the other.
                def send(sock):
                    sock.sendall(payload)
                    return True

                def receive(sock):
                    found = bytearray()
                    while len(found) < len(payload):
                        found += sock.recv(1 << 16)
                    return bytes(found) == payload

                first = self.call_all([lambda: send(left), lambda: receive(right)])
                second = self.call_all([lambda: send(right), lambda: receive(left)])
            return first + second

        for found in self.call_all([run] * 5):
            self.assertEqual(found, [True] * 4)


if __name__ == "__main__":
    unittest.main()
