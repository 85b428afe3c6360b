"""Virtual threads in pure Python: a scheduler made of continuations.

One OS thread runs any number of tasks, each a call of an ordinary function, which may
sleep, wait for a file or for another task from wherever it is: in a sort key, say.
There is no async and no await.  An exception of a task ends run().
"""

import collections
import heapq
import itertools
import selectors
import socket
import time

from continuations import Continuation, yield_

ready = collections.deque()             # tasks that can run
sleeping = []                           # heap of (when, number, task)
selector = selectors.DefaultSelector()  # tasks that wait for a file
numbers = itertools.count()


class Task:
    def __init__(self, func, *args):
        self.continuation = Continuation(lambda: func(*args))
        self.waiters = []
        ready.append(self)

    def step(self):
        wait = self.continuation.send(None)
        if self.continuation.completed:
            self.result = wait
            ready.extend(self.waiters)
        else:
            wait(self)                  # puts it where it waits

    def join(self):
        if not self.continuation.completed:
            yield_(self.waiters.append)
        return self.result


def sleep(seconds):
    when = time.monotonic() + seconds
    yield_(lambda task: heapq.heappush(sleeping, (when, next(numbers), task)))


def wait(file, events):
    yield_(lambda task: selector.register(file, events, task))
    selector.unregister(file)


def run():
    while ready or sleeping or selector.get_map():
        timeout = 0 if ready else None
        if sleeping and not ready:
            timeout = max(0, sleeping[0][0] - time.monotonic())
        ready.extend(key.data for key, _ in selector.select(timeout))
        while sleeping and sleeping[0][0] <= time.monotonic():
            ready.append(heapq.heappop(sleeping)[2])
        for _ in range(len(ready)):
            ready.popleft().step()


def demo():
    def receive(sock):
        wait(sock, selectors.EVENT_READ)
        return sock.recv(100)

    def send(sock):
        # Waits in the middle of a sort; the other tasks run meanwhile.
        words = sorted(["there", "hello"], key=lambda word: sleep(0.01) or word)
        sock.send(" ".join(words).encode())

    def main():
        a, b = socket.socketpair()
        with a, b:
            tasks = [Task(receive, a), Task(send, b)]
            print(*[task.join() for task in tasks])

    Task(main)
    run()


if __name__ == "__main__":
    demo()
