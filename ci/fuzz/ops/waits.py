"""Ways to wait."""

import concurrent.futures
import os
import queue
import select
import socket
import threading
import time

from ops.registry import PATIENCE_S, wait


@wait()
def yield_now(run, call, n):
    for _ in range(n):
        run.threads.yield_now()


@wait()
def sleep(run, call, n):
    time.sleep([0, 0.0001, 0.002][n - 1])


@wait()
def compute(run, call, n):
    return sum(i * i for i in range(300 * 10 ** (n - 1)))


@wait()
def lock(run, call, n):
    """A lock that a helper holds, or one that this thread does."""
    mine = threading.Lock()
    mine.acquire()
    if n == 1:
        return mine.acquire(timeout=0.001)
    helper = run.spawn(lambda: (run.threads.yield_now(), mine.release()))
    got = mine.acquire()
    helper.join()
    return got


@wait()
def event(run, call, n):
    event = threading.Event()
    helper = run.spawn(event.set)
    got = event.wait()
    helper.join()
    return [got, threading.Event().wait(0.0002 * n)]


@wait()
def condition(run, call, n):
    condition = threading.Condition()
    ready = []

    def notify():
        with condition:
            ready.append(n)
            condition.notify_all()

    with condition:
        helper = run.spawn(notify)
        condition.wait_for(lambda: ready)
    helper.join()
    return ready


@wait()
def queues(run, call, n):
    messages = [queue.SimpleQueue, queue.Queue, queue.PriorityQueue][n - 1]()
    helper = run.spawn(lambda: [messages.put(i) for i in range(n)])
    got = [messages.get() for _ in range(n)]
    helper.join()
    return got


@wait()
def future(run, call, n):
    future = concurrent.futures.Future()
    helper = run.spawn(lambda: future.set_result(n))
    got = future.result()
    helper.join()
    return got


@wait()
def pipe(run, call, n):
    reader, writer = os.pipe()
    with open(reader, "rb", buffering=0) as reader, open(writer, "wb", buffering=0) as writer:
        helper = run.spawn(lambda: (run.threads.yield_now(), writer.write(b"x" * n)))
        if n == 3:
            select.select([reader], [], [])
        got = reader.read(n)
        helper.join()
    return got


@wait()
def sockets(run, call, n):
    one, other = socket.socketpair()
    with one, other:
        if n == 3:
            other.settimeout(PATIENCE_S)
        helper = run.spawn(lambda: (run.threads.yield_now(), one.sendall(b"x" * n)))
        got = other.recv(n)
        helper.join()
    return got


@wait()
def file(run, call, n):
    with open(os.devnull, "w+") as file:
        file.write("x" * n)
        return file.read()
