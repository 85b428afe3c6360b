"""What the tests of waits without a native stack share.

Each case runs twice, with soft parks and without, and must do the same: results,
tracebacks, events, references.  A case says whether its waits are soft ones.
"""

import _vthread
import contextlib
import os
import queue
import socket
import threading
import time

import virtual_threading
from test.test_virtual_threading.socket_util import SocketTestCase
from test.test_virtual_threading.util import COUNT, LONG, SHORT, TestCase
from virtual_threading import spawn, stats, yield_now


def soft_parks():
    return virtual_threading.stats()['soft_parks']


class SoftTestCase(TestCase):

    @contextlib.contextmanager
    def enabled(self, enable):
        before = _vthread.enable_soft_park(enable)
        try:
            yield
        finally:
            _vthread.enable_soft_park(before)

    parks_before = None         # in the half of both_ways() with soft parks

    def both_ways(self, func, soft=True, least=1):
        """Calls func() with soft parks, `least` at least, and without.

        Both must return the same, which this returns.  With soft=False no park is a
        soft one in either case.
        """
        self.parks_before = None
        with self.enabled(False):
            before = soft_parks()
            expected = func()
            self.assertEqual(soft_parks() - before, 0)
        with self.enabled(True):
            before = self.parks_before = soft_parks()
            found = func()
            parks = soft_parks() - before
        self.assertEqual(found, expected)
        if soft:
            self.assertGreaterEqual(parks, least)
        else:
            self.assertEqual(parks, 0)
        return found

    def check(self, make, soft=True):
        """make() returns (block, release); threads that are in block() park.

        Who of them gets what, and ends first, is chance: the results are sorted.
        """
        def run():
            block, release = make()
            return sorted(self.check_parks(block, release), key=repr)
        return self.both_ways(run, soft, least=COUNT)


class SoftSocketTestCase(SocketTestCase, SoftTestCase):

    def interrupted(self, block):
        """What block() does that raises ValueError() while it waits: its result."""
        results = []
        thread = virtual_threading.spawn(lambda: results.append(block()))
        self.wait_until(lambda: thread.state == 'parked', "the thread parked")
        thread.interrupt(ValueError(1))
        self.join([thread])
        return results[0]


class Wait:
    """A builtin that threads wait in, and the ways to call it.

    make(test, seconds) is a context manager for a wait that takes so long: (what is waited
    for, an argument that nobody else has, a function that ends the wait).  Each of `calls`,
    by name, waits when it is called with the first two; with in_python, by way of a function
    in Python.  `ends` says how a wait may end: 'released', 'timed out', 'interrupted',
    'closed'.  `name` is what profilers see, or None.
    """

    def __init__(self, name, make, ends, in_python=False, **calls):
        self.name, self.make, self.ends, self.calls = name, make, ends, calls
        self.in_python = in_python

    def is_soft(self, call, kind):
        # As on stock, an instrumented call with unpacked arguments does not inline what it calls.
        return not (self.in_python and call == 'unpacked' and kind in ('setprofile', 'monitoring'))

    def is_waiting(self, test, thread, arg):
        if self.name != 'yield_now':
            return thread.state == 'parked'
        # It parks when the other one is there.
        return len(arg) > 0 and (test.parks_before is None or soft_parks() > test.parks_before)


def held(make_lock):
    @contextlib.contextmanager
    def make(test, seconds):
        lock = make_lock()
        lock.acquire()
        yield lock, seconds * 1.0, lock.release
    return make


@contextlib.contextmanager
def empty_queue(test, seconds):
    fifo = queue.SimpleQueue()
    yield fifo, seconds * 1.0, lambda: fifo.put(1)


@contextlib.contextmanager
def running_thread(test, seconds):
    event = test.make_event()
    thread = spawn(lambda: list(map(event.wait, [None])))       # this wait is no soft one
    with test.setting(event):
        test.wait_until(lambda: thread.state == 'parked', "the thread parked", delay=0.0005)
        yield thread, seconds * 1.0, event.set
    test.join([thread])


@contextlib.contextmanager
def sleeping(test, seconds):
    yield time.sleep, seconds * 1.0, None


@contextlib.contextmanager
def two_on_one_carrier(test, seconds):
    """The other one is always there to give way to.  The argument is a list of turns."""
    over = test.make_event()
    def give_way():
        while not over.is_set():
            os.sched_yield()
    parallelism = stats()['parallelism']
    virtual_threading.configure(parallelism=1)
    try:
        thread = spawn(give_way)
        with test.setting(over):
            yield yield_now, [], None
        test.join([thread])
    finally:
        virtual_threading.configure(parallelism=parallelism)


def yield_for_ever(yield_now, turns):
    while True:
        yield_now()
        turns.append(1)


def socket_of(make_sockets, make_argument, release):
    """release(sock, other) ends the wait; make_sockets(test) makes the two."""
    @contextlib.contextmanager
    def make(test, seconds):
        sock, other = make_sockets(test)
        with sock, other:
            sock.settimeout(seconds if seconds < LONG else None)
            yield sock, make_argument(other), lambda: release(sock, other)
    return make


def datagrams(test):
    sock, other = (test.open(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    sock.bind(("127.0.0.1", 0))
    return sock, other


def full_pair(test):
    sock, other = test.pair()
    test.fill(sock)
    return sock, other


def drain(sock, other):
    with contextlib.suppress(BlockingIOError):
        while True:
            other.recv(1 << 20, socket.MSG_DONTWAIT)


def accept_from(sock, listener):
    listener.settimeout(SHORT)
    while True:
        with contextlib.suppress(OSError):
            listener.accept()[0].close()
        with contextlib.suppress(OSError):
            sock.getpeername()
            return


def new_int(other):
    return COUNT * 1000


def received(make_argument):
    return socket_of(SocketTestCase.pair, make_argument,
                     lambda sock, other: other.send(b"answer"))


def received_datagram(make_argument):
    return socket_of(datagrams, make_argument,
                     lambda sock, other: other.sendto(b"answer", sock.getsockname()))


sent = socket_of(full_pair, lambda other: bytes(8), drain)
accepted = socket_of(lambda test: (test.listener(), test.open()), lambda other: None,
                     lambda sock, other: other.connect(sock.getsockname()))
connected = socket_of(lambda test: (test.open(), test.full_listener()),
                      socket.socket.getsockname, accept_from)


def with_lock(lock, seconds):
    with lock:
        return 1


ENDS = 'released', 'timed out', 'interrupted'
SOCKET_ENDS = *ENDS, 'closed'

WAITS = [
    *(Wait('acquire', held(make_lock), ENDS,
           plain=lambda lock, seconds: lock.acquire(True, seconds) and lock.release(),
           keyword=lambda lock, seconds: lock.acquire(timeout=seconds) and lock.release(),
           unpacked=lambda lock, seconds: lock.acquire(*(True, seconds)) and lock.release())
      for make_lock in (threading.Lock, threading.RLock)),
    *(Wait(None, held(make_lock), ('released', 'interrupted'), plain=with_lock)
      for make_lock in (threading.Lock, threading.RLock)),
    Wait('get', empty_queue, ENDS,
         plain=lambda fifo, seconds: fifo.get(True, seconds),
         keyword=lambda fifo, seconds: fifo.get(timeout=seconds),
         unpacked=lambda fifo, seconds: fifo.get(*(True, seconds))),
    Wait('join', running_thread, ENDS, in_python=True,
         plain=lambda thread, seconds: thread.join(seconds),
         keyword=lambda thread, seconds: thread.join(timeout=seconds),
         unpacked=lambda thread, seconds: thread.join(*(seconds,))),
    Wait('sleep', sleeping, ('interrupted', 'timed out'),
         plain=lambda sleep, seconds: sleep(seconds),
         unpacked=lambda sleep, seconds: sleep(*(seconds,))),
    Wait('recv', received(new_int), SOCKET_ENDS,
         plain=lambda sock, size: sock.recv(size),
         unpacked=lambda sock, size: sock.recv(*(size,))),
    Wait('recv_into', received(lambda other: bytearray(8)), SOCKET_ENDS,
         plain=lambda sock, buffer: sock.recv_into(buffer),
         keyword=lambda sock, buffer: sock.recv_into(buffer, nbytes=4),
         unpacked=lambda sock, buffer: sock.recv_into(*(buffer,))),
    Wait('recvfrom', received_datagram(new_int), SOCKET_ENDS,
         plain=lambda sock, size: sock.recvfrom(size),
         unpacked=lambda sock, size: sock.recvfrom(*(size,))),
    Wait('recvfrom_into', received_datagram(lambda other: bytearray(8)), SOCKET_ENDS,
         plain=lambda sock, buffer: sock.recvfrom_into(buffer),
         keyword=lambda sock, buffer: sock.recvfrom_into(buffer, nbytes=4),
         unpacked=lambda sock, buffer: sock.recvfrom_into(*(buffer,))),
    Wait('recvmsg', received_datagram(new_int), SOCKET_ENDS,
         plain=lambda sock, size: sock.recvmsg(size),
         unpacked=lambda sock, size: sock.recvmsg(*(size,))),
    Wait('_accept', accepted, SOCKET_ENDS, in_python=True,
         plain=lambda sock, _: sock.accept()[0].close(),
         unpacked=lambda sock, _: sock.accept(*())[0].close()),
    Wait('send', sent, SOCKET_ENDS,
         plain=lambda sock, data: sock.send(data),
         unpacked=lambda sock, data: sock.send(*(data,))),
    Wait('sendall', sent, SOCKET_ENDS,
         plain=lambda sock, data: sock.sendall(data),
         unpacked=lambda sock, data: sock.sendall(*(data,))),
    # How long until it is connected is up to the kernel: a second, mostly.
    Wait('connect', connected, ('timed out', 'interrupted', 'closed'),
         plain=lambda sock, address: sock.connect(address),
         unpacked=lambda sock, address: sock.connect(*(address,))),
    Wait('yield_now', two_on_one_carrier, ('timed out',), in_python=True,
         plain=lambda yield_now, _: yield_now(),
         unpacked=lambda yield_now, _: yield_now(*())),
    Wait('yield_now', two_on_one_carrier, ('interrupted',), plain=yield_for_ever),
]
