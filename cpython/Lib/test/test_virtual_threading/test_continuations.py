"""Continuations that are resumed by virtual threads; the rest is in test.test_continuations."""

import gc
import io
import json
import queue
import socket
import sys
import threading
import time
import unittest

import virtual_threading
from continuations import Continuation, get_current_continuation, yield_
from test import support
from test.support import import_helper, requires_fork
from test.support.script_helper import assert_python_ok
from test.test_virtual_threading.util import TestCase
from virtual_threading import pin, spawn, stats, yield_now

# Continuations hold their carriers where they wait; there must be enough of these.
BLOCKED = 8


def numbers(n):
    return sum(map(yield_, range(n)))


class ResumeTests(TestCase):

    def test_in_virtual_thread(self):
        def run():
            c = Continuation(numbers)
            values = [c.start(3)]
            while not c.completed:
                values.append(c.send(1))
            return values
        self.assertEqual(self.call(run), [0, 1, 2, 3])

    def test_many_threads(self):
        def run():
            c = Continuation(numbers)
            value = c.start(20)
            while not c.completed:
                yield_now()             # on whatever carrier
                value = c.send(value)
            return value
        self.assertEqual(self.call_all([run] * 50), [190] * 50)

    def test_handed_around(self):
        # Each resume is by another thread, virtual or not.
        tasks = queue.SimpleQueue()
        done = queue.SimpleQueue()

        def work():
            while (item := tasks.get()) is not None:
                c, value = item
                value = c.send(value)
                if c.completed:
                    done.put(value)
                else:
                    tasks.put((c, value))

        threads = [spawn(work) for _ in range(6)]
        threads += [threading.Thread(target=work) for _ in range(2)]
        for thread in threads[6:]:
            thread.start()
        for _ in range(30):
            c = Continuation(numbers)
            tasks.put((c, c.start(20)))
        results = [done.get(timeout=support.LONG_TIMEOUT) for _ in range(30)]
        for _ in threads:
            tasks.put(None)
        self.join(threads)
        self.assertEqual(results, [190] * 30)

    def test_identity(self):
        local = threading.local()
        def func():
            while True:
                yield_((threading.current_thread(), threading.get_ident(),
                        getattr(local, 'x', None), virtual_threading.is_virtual()))

        def run(x):
            local.x = x
            me = (threading.current_thread(), threading.get_ident(), x, True)
            self.assertEqual(c.send(None), me)

        c = Continuation(func)
        self.assertEqual(c.start(), (threading.current_thread(), threading.get_ident(),
                                     None, False))
        for x in range(3):
            self.call(run, x)
        c.close()

    def test_rlock_is_the_threads(self):
        lock = threading.RLock()
        def func():
            with lock:
                yield_()
        def run():
            c = Continuation(func)
            c.start()
            self.assertTrue(lock._is_owned())
            with lock:
                pass
            c.send(None)
            self.assertFalse(lock._is_owned())
        self.call(run)

    def test_nested_and_symmetric(self):
        def run():
            def first():
                return [b.start(), b.send('x')]
            def second():
                return a.send('up')
            a, b = Continuation(first), Continuation(second)
            return a.start()
        self.assertEqual(self.call_all([run] * 20), [['up', 'x']] * 20)

    def test_dropped(self):
        log = []
        def func():
            try:
                yield_()
            finally:
                log.append(virtual_threading.is_virtual())
        def run():
            c = Continuation(func)
            c.start()
        self.call_all([run] * 20)
        support.gc_collect()
        self.assertEqual(len(log), 20)

    def test_outlives_its_thread(self):
        c = Continuation(numbers)
        self.assertEqual(self.call(c.start, 2), 0)
        self.assertEqual(self.call(c.send, 5), 1)
        self.assertEqual(c.send(6), 11)

    def test_exception(self):
        def func():
            yield_()
            raise KeyError('x')
        c = Continuation(func)
        c.start()
        with self.assertRaises(KeyError):
            self.call(c.send, None)

    def test_thread_is_started_inside(self):
        def func():
            results = []
            thread = spawn(lambda: results.append(get_current_continuation()))
            thread.join()
            yield_()
            return results
        def run():
            c = Continuation(func)
            c.start()
            return c.send(None)
        self.assertEqual(self.call(run), [None])

    def test_collections_beside(self):
        stop = self.make_event()
        def run():
            while not stop.is_set():
                c = Continuation(numbers)
                value = c.start(5)
                while not c.completed:
                    yield_now()
                    value = c.send(value)
        threads = [spawn(run) for _ in range(4)]
        with self.setting(stop):
            for _ in range(20):
                gc.collect()
                stats()
        self.join(threads)

    def test_settrace_all_threads(self):
        ready, go = self.make_event(), self.make_event()
        def tracer(frame, event, arg):
            return None

        def func():
            ready.set()
            go.wait()
            inside = sys.gettrace()
            return inside

        def run():
            inside = Continuation(func).start()
            after = sys.gettrace()
            sys.settrace(None)
            return inside, after

        old, old_of_threads = sys.gettrace(), threading.gettrace()
        results = []
        thread = spawn(lambda: results.append(run()))
        self.wait_for(ready)
        try:
            threading.settrace_all_threads(tracer)
            go.set()
            self.join([thread])
        finally:
            threading.settrace_all_threads(old)
            threading.settrace(old_of_threads)
        self.assertEqual(results, [(tracer, tracer)])


class WaitTests(TestCase):
    """A wait in a continuation holds the OS thread, and nobody else."""

    def check_holds(self, block, release):
        def run():
            def func():
                yield_('before')
                res = block()
                return res
            c = Continuation(func)
            self.assertEqual(c.start(), 'before')
            return c.send(None)

        def pins():
            return stats()['pins']['in a continuation']

        def release_all():
            try:
                self.wait_until(lambda: pins() >= before + BLOCKED, "all hold their OS threads")
            finally:
                release()

        before = pins()
        return self.check_parks(run, release_all, count=BLOCKED, states=('pinned', 'running'))

    def test_event(self):
        event = self.make_event()
        self.assertEqual(self.check_holds(event.wait, event.set), [True] * BLOCKED)

    def test_queue(self):
        q = queue.SimpleQueue()
        def release():
            for i in range(BLOCKED):
                q.put(i)
        self.assertEqual(sorted(self.check_holds(q.get, release)), list(range(BLOCKED)))

    def test_socket(self):
        pairs = [socket.socketpair() for _ in range(BLOCKED)]
        for pair in pairs:
            for sock in pair:
                self.addCleanup(sock.close)
        receivers = iter([a for a, _ in pairs])
        lock = threading.Lock()
        def block():
            with lock:
                sock = next(receivers)
            return sock.recv(10)
        def release():
            for _, b in pairs:
                b.send(b'x')
        self.assertEqual(self.check_holds(block, release), [b'x'] * BLOCKED)

    def test_sleep(self):
        def func():
            yield_()
            time.sleep(0.001)
            yield_now()
            return 'end'
        def run():
            c = Continuation(func)
            c.start()
            return c.send(None)
        self.assertEqual(self.call_all([run] * 10), ['end'] * 10)

    def test_lock_that_is_contended(self):
        lock = threading.Lock()
        counter = [0]
        def func():
            for _ in range(20):
                with lock:
                    counter[0] += 1
                yield_()
        def run():
            c = Continuation(func)
            c.start()
            while not c.completed:
                c.send(None)
        self.call_all([run] * 20)
        self.assertEqual(counter, [400])

    def test_critical_sections(self):
        # A list that is sorted in a continuation, and looked at by others.
        shared = list(range(50))
        def func():
            for _ in range(5):
                sorted(shared, key=yield_)
                shared.append(shared.pop())
        def run():
            c = Continuation(func)
            c.start()
            while not c.completed:
                c.send(0)
        self.call_all([run] * 10)
        self.assertEqual(sorted(shared), list(range(50)))

    def test_parks_after(self):
        # Between its resumes the thread parks as any other does.
        event = self.make_event()
        def run():
            c = Continuation(numbers)
            c.start(2)
            event.wait()
            c.send(1)
            return c.send(1)
        self.assertEqual(self.check_parks(run, event.set), [2] * 40)

    def test_computes(self):
        # It isn't preempted, but the thread is when it is back.
        def func():
            deadline = time.monotonic() + 0.05
            while time.monotonic() < deadline:
                pass
            yield_()
        def run():
            c = Continuation(func)
            c.start()
            c.send(None)
        self.call_all([run] * 4)

    def test_dump(self):
        event = self.make_event()
        def in_the_continuation():
            event.wait()
        def in_the_thread():
            Continuation(in_the_continuation).start()

        def names_of(thread):
            file = io.StringIO()
            virtual_threading.dump(file, format='json')
            for t in json.loads(file.getvalue())['threads']:
                if t['name'] == thread.name:
                    return [f['function'].rpartition('.')[2] for f in t['stack']]
            return []

        thread = spawn(in_the_thread)
        with self.setting(event):
            self.wait_until(lambda: 'in_the_continuation' in names_of(thread),
                            "the continuation in the dump")
            names = names_of(thread)
            self.assertLess(names.index('in_the_thread'),
                            names.index('in_the_continuation'))
        self.join([thread])

    def test_stats(self):
        # A suspended continuation is no thread.
        c = Continuation(numbers)
        c.start(1)
        # Threads of other tests, and the runtime's own, come to their end.
        self.wait_until(lambda: sum(stats()['threads'].values()) == 0, "no thread counted")
        c.close()


class PinTests(TestCase):

    def test_yield_in_pin(self):
        def func():
            with pin():
                with self.assertRaisesRegex(RuntimeError, "pin()"):
                    yield_()
            yield_('out')
        def run():
            return Continuation(func).start()
        self.assertEqual(self.call(run), 'out')

    def test_resumed_in_pin(self):
        def run():
            c = Continuation(numbers)
            c.start(2)
            with pin():
                c.send(1)
            return c.send(2)
        self.assertEqual(self.call(run), 3)

    def test_foreign(self):
        ctypes = import_helper.import_module('ctypes')
        def func():
            return ctypes.CFUNCTYPE(ctypes.c_int)(lambda: yield_(1))()
        def run():
            with pin():                 # or it may have moved
                c = Continuation(func)
                c.start()
                return c.send(7)
        self.assertEqual(self.call_all([run] * 10), [7] * 10)

        c = Continuation(func)
        c.start()
        with self.assertRaisesRegex(RuntimeError, "OS thread"):
            self.call(c.send, 1)
        self.assertEqual(c.send(5), 5)


class ProcessTests(unittest.TestCase):

    @requires_fork()
    def test_fork(self):
        rc, out, err = assert_python_ok("-W", "ignore", "-c", """if True:
            import os
            from continuations import Continuation, yield_
            from virtual_threading import spawn
            def func():
                pid = os.fork()
                yield_()
                return pid
            def run():
                c, other = Continuation(func), Continuation(lambda: yield_(1) or 'other')
                other.start()
                c.start()
                pid = c.send(None)
                assert other.send(None) == 'other'
                if pid == 0:
                    os._exit(42)
                print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            spawn(run).join()
            """)
        self.assertEqual(out.strip(), b'42')

    @requires_fork()
    def test_fork_child_ends(self):
        # A suspended continuation does not keep it.
        rc, out, err = assert_python_ok("-W", "ignore", "-c", """if True:
            import os
            from continuations import Continuation, yield_
            from virtual_threading import spawn
            c = Continuation(lambda: yield_(1))
            c.start()
            def run():
                pid = os.fork()
                if pid:
                    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            spawn(run).join()
            c.close()
            """)
        self.assertEqual(out.strip(), b'0')

    def test_exit(self):
        rc, out, err = assert_python_ok("-c", """if True:
            import threading
            from continuations import Continuation, yield_
            from virtual_threading import Thread
            entered, never = threading.Event(), threading.Event()
            def func():
                yield_()
                entered.set()
                never.wait()
            def run():
                c = Continuation(func)
                c.start()
                c.send(None)
            Thread(target=run, daemon=True).start()
            entered.wait()
            print('end')
            """)
        self.assertEqual(out.strip(), b'end')
        self.assertEqual(err, b'')


if __name__ == "__main__":
    unittest.main()
