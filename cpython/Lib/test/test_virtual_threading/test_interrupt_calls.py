"""Thread.interrupt() in every blocking call; test_timeout has the same calls."""

import concurrent.futures
import importlib
import multiprocessing
import os
import pty
import queue
import select
import selectors
import socket
import ssl
import subprocess
import sys
import threading
import time
import unittest
import virtual_threading

from test import support
from test.support import import_helper, swap_attr
from test.test_virtual_threading.interrupt_util import InterruptCase, import_on, importing
from test.test_virtual_threading.socket_util import BIG, SocketTestCase
from test.test_virtual_threading.util import COUNT, LONG, TIMEOUT
from virtual_threading import Interrupted, Thread, pin, spawn


def forever(call):
    # What is done in part returns; the next call raises.
    while True:
        call()


class BlockingCalls:
    """Each kind of blocking call; check(block) is the test class's.

    What blocks in the kernel until a signal comes is in test_interrupt_kernel.
    """

    def test_sleep(self):
        self.check(lambda: time.sleep(LONG))

    def test_lock(self):
        for lock in threading.Lock(), threading.RLock():
            with self.subTest(lock=lock), lock:
                self.check(lock.acquire)
                self.check(lambda: lock.acquire(timeout=LONG))
            # What has been interrupted does not have it, and does not wait for it.
            self.assertTrue(lock.acquire(blocking=False))
            lock.release()

    def test_condition(self):
        for lock in threading.Lock(), threading.RLock():
            cond = threading.Condition(lock)

            def wait(timeout=None):
                with cond:
                    cond.wait(timeout)

            with self.subTest(lock=lock):
                self.check(wait)
                self.check(lambda: wait(LONG))
                self.assertFalse(cond._waiters)

    def test_event(self):
        self.check(threading.Event().wait)
        self.check(lambda: threading.Event().wait(LONG))

    def test_semaphore(self):
        self.check(threading.Semaphore(0).acquire)
        self.check(lambda: threading.BoundedSemaphore(0).acquire(timeout=LONG))

    def test_barrier(self):
        barrier = threading.Barrier(2)
        self.check(barrier.wait)
        self.assertEqual(barrier.n_waiting, 0)

    def test_queue(self):
        empty = queue.Queue()
        self.check(empty.get)
        self.check(lambda: empty.get(timeout=LONG))
        full = queue.Queue(1)
        full.put(1)
        self.check(lambda: full.put(2))
        self.check(full.join)

    def test_simple_queue(self):
        items = queue.SimpleQueue()
        self.check(items.get)
        self.check(lambda: items.get(timeout=LONG))
        items.put(1)
        self.assertEqual(items.get(timeout=TIMEOUT), 1)

    def test_join(self):
        event = self.make_event()
        for thread in spawn(event.wait), threading.Thread(target=event.wait):
            if not isinstance(thread, Thread):
                thread.start()
            with self.subTest(thread=thread):
                self.check(thread.join)
                self.check(lambda: thread.join(LONG))
            self.addCleanup(thread.join)
            self.addCleanup(event.set)

    def test_future(self):
        future = concurrent.futures.Future()
        self.check(future.result)
        self.check(lambda: future.exception(LONG))
        self.check(lambda: concurrent.futures.wait([future]))
        self.check(lambda: list(concurrent.futures.as_completed([future])))

    def test_executor_shutdown(self):
        event = self.make_event()
        executor = concurrent.futures.VirtualThreadPoolExecutor()
        executor.submit(event.wait)
        self.check(executor.shutdown)
        event.set()
        executor.shutdown()

    def test_socket_receive(self):
        for timeout in None, LONG:
            a, b = self.pair()
            a.settimeout(timeout)
            with self.subTest(timeout=timeout):
                self.check(lambda: a.recv(10))
                self.check(lambda: a.recv_into(bytearray(10)))
                self.check(lambda: a.recvfrom(10))
                self.check(lambda: a.recvfrom_into(bytearray(10)))
                self.check(lambda: a.recvmsg(10))
                self.check(lambda: a.recvmsg_into([bytearray(10)]))
                b.send(b"x")
                self.assertEqual(a.recv(10), b"x")

    def test_socket_datagram(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            self.check(lambda: sock.recvfrom(10))

    def test_socket_accept(self):
        for timeout in None, LONG:
            with socket.create_server(("127.0.0.1", 0)) as server:
                server.settimeout(timeout)
                with self.subTest(timeout=timeout):
                    self.check(server.accept)

    def test_socket_connect(self):
        address = self.full_listener().getsockname()
        for timeout in None, LONG:
            def connect():
                with socket.socket() as sock:
                    sock.settimeout(timeout)
                    sock.connect(address)

            with self.subTest(timeout=timeout):
                self.check(connect)

    def test_socket_send(self):
        data = bytes(BIG)
        for timeout in None, LONG:
            a, b = self.connected()
            a.settimeout(timeout)
            with self.subTest(timeout=timeout):
                self.check(lambda: a.sendall(data))
                self.check(lambda: forever(lambda: a.send(data)))
                self.check(lambda: forever(lambda: a.sendto(data, b.getsockname())))
                self.check(lambda: forever(lambda: a.sendmsg([data])))

    def test_makefile(self):
        a, b = self.pair()
        with a.makefile("rb") as file:
            self.check(file.readline)
            b.sendall(b"line\n")
            self.assertEqual(file.readline(), b"line\n")

    def test_tls_handshake(self):
        a, b = self.pair()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        for timeout in None, LONG:
            a.settimeout(timeout)
            with self.subTest(timeout=timeout):
                with context.wrap_socket(a, do_handshake_on_connect=False) as tls:
                    a = tls
                    self.check(tls.do_handshake)
                    a = socket.socket(fileno=tls.detach())
        a.close()

    def tls_pair(self, timeout):
        test_ssl = import_helper.import_module("test.test_ssl")
        client, server, hostname = test_ssl.testing_context()
        left, right = self.pair()
        pair = self.call_all([lambda: client.wrap_socket(left, server_hostname=hostname),
                              lambda: server.wrap_socket(right, server_side=True)])
        for sock in pair:
            self.addCleanup(sock.close)
            sock.settimeout(timeout)
        return pair

    def test_tls(self):
        for timeout in None, LONG:
            with self.subTest(timeout=timeout):
                left, right = self.tls_pair(timeout)
                self.check(lambda: left.recv(1))
                self.check(lambda: forever(lambda: left.send(bytes(1 << 16))))
                left, right = self.tls_pair(timeout)
                self.check(left.unwrap)

    def test_select(self):
        a, b = self.pair()
        self.check(lambda: select.select([a], [], []))
        self.check(lambda: select.select([a], [], [a], LONG))
        self.check(lambda: select.select([], [], [], LONG))

    def test_poll(self):
        a, b = self.pair()
        poll = select.poll()
        poll.register(a, select.POLLIN)

        def block():
            # One poll object is for one thread at a time.
            poll = select.poll()
            poll.register(a, select.POLLIN)
            return poll.poll()

        self.check(block)

    def test_epoll(self):
        a, b = self.pair()
        with select.epoll() as epoll:
            epoll.register(a, select.EPOLLIN)
            self.check(epoll.poll)
            self.check(lambda: epoll.poll(LONG))

    def test_selectors(self):
        a, b = self.pair()
        with selectors.DefaultSelector() as selector:
            selector.register(a, selectors.EVENT_READ)
            self.check(selector.select)

    def test_pipe(self):
        r, w = os.pipe()
        with open(r, "rb") as reader, open(w, "wb", buffering=0) as writer:
            self.check(lambda: os.read(r, 1))
            self.check(reader.read)
            self.check(lambda: os.write(w, bytes(1 << 20)) + os.write(w, bytes(1 << 20)))

    def test_vectors(self):
        r, w = os.pipe()
        with open(r, "rb"), open(w, "wb", buffering=0):
            self.check(lambda: os.readv(r, [bytearray(1)]))
            self.check(lambda: forever(lambda: os.writev(w, [bytes(BIG)])))

    def test_input(self):
        r, w = os.pipe()
        with open(r) as file, open(w, "w"), swap_attr(sys, "stdin", file):
            self.check(input)

    def test_terminal(self):
        master, slave = pty.openpty()
        self.addCleanup(os.close, master)
        self.addCleanup(os.close, slave)
        self.check(lambda: os.read(slave, 1))

    def test_eventfd(self):
        fd = os.eventfd(0)
        self.addCleanup(os.close, fd)
        self.check(lambda: os.eventfd_read(fd))

    @support.requires_subprocess()
    def test_subprocess(self):
        with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"],
                              stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE) as process:
            self.check(process.wait)
            self.check(lambda: os.waitid(os.P_PID, process.pid,
                                         os.WEXITED | os.WNOWAIT))
            self.check(process.stdout.read)
            process.stdin.close()
            process.wait()

    def test_multiprocessing(self):
        r, w = multiprocessing.Pipe(duplex=False)
        with r, w:
            self.check(r.recv)
            self.check(lambda: r.poll(None))
            self.check(lambda: multiprocessing.connection.wait([r]))

    def test_multiprocessing_queue(self):
        try:
            items = multiprocessing.get_context("fork").Queue()
        except (ImportError, OSError) as exc:
            self.skipTest(str(exc))
        self.check(items.get)
        self.check(lambda: items.get(timeout=LONG))
        items.close()

    def test_import(self):
        name = self.make_blocking_module()
        with self.setting(import_on):
            thread = spawn(importlib.import_module, name)
            self.wait_for(importing)
            self.check(lambda: importlib.import_module(name))
        self.join([thread])


class BlockingCallTests(BlockingCalls, InterruptCase, SocketTestCase):
    """Parked, and pinned to the OS thread."""

    def check(self, block):
        with self.subTest("parked"):
            self.check_interrupt(block)

        def pinned():
            with pin():
                return block()

        with self.subTest("pinned"):
            self.check_interrupt(pinned)

    def test_socket_send_in_part(self):
        # What went in counts, and the next blocking call raises.
        a, b = self.pair()
        sent = []

        def send():
            sent.append(a.send(bytes(1 << 22)))
            time.sleep(LONG)

        self.check_interrupt(send)
        self.assertGreater(sent[0], 0)
        self.assertLess(sent[0], 1 << 22)

    def test_write_in_part(self):
        r, w = os.pipe()
        with open(r, "rb"), open(w, "wb", buffering=0):
            written = []

            def write():
                written.append(os.write(w, bytes(1 << 20)))
                time.sleep(LONG)

            self.check_interrupt(write)
            self.assertGreater(written[0], 0)
            self.assertLess(written[0], 1 << 20)

    def test_yield(self):
        stop = threading.Event()
        for yield_now in virtual_threading.yield_now, lambda: time.sleep(0):
            started = threading.Event()
            outcome = []

            def run():
                started.set()
                try:
                    while not stop.is_set():
                        yield_now()
                except Interrupted:
                    outcome.append("interrupted")

            thread = spawn(run)
            self.wait_for(started)
            thread.interrupt()
            self.join([thread])
            self.assertEqual(outcome, ["interrupted"])

    def test_many(self):
        event = threading.Event()
        results = []

        def run():
            try:
                event.wait()
            except Interrupted:
                results.append(1)

        threads = [spawn(run) for _ in range(COUNT)]
        for thread in threads:
            thread.interrupt()
        self.join(threads)
        self.assertEqual(len(results), COUNT)
        self.assertFalse(event._cond._waiters)


if __name__ == "__main__":
    unittest.main()
