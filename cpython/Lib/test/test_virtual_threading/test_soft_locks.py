"""Waits for locks without a native stack, in each way to call."""

import contextlib
import functools
import sys
import threading
import time
import traceback
import types
import unittest
import weakref

import virtual_threading
from test.test_virtual_threading.soft_util import SoftTestCase
from test.test_virtual_threading.util import COUNT, TIMEOUT
from virtual_threading import spawn


class LockTests(SoftTestCase):

    locks = (threading.Lock, threading.RLock)

    def check_lock(self, block, expected=True, soft=True):
        for make_lock in self.locks:
            with self.subTest(make_lock):
                def from_python():
                    lock = make_lock()
                    lock.acquire()
                    return lambda: block(lock), lock.release
                def from_c():
                    lock = make_lock()
                    lock.acquire()
                    return functools.partial(block, lock), lock.release
                self.assertEqual(set(self.check(from_python, soft)), {expected})
                self.assertEqual(set(self.check(from_c, False)), {expected})

    def test_call(self):
        def block(lock):
            result = lock.acquire()
            lock.release()
            return result
        self.check_lock(block)

    def test_bound_method(self):
        def block(lock):
            acquire = lock.acquire
            result = acquire()
            lock.release()
            return result
        self.check_lock(block)

    def test_positional(self):
        def block(lock):
            result = lock.acquire(True, TIMEOUT)
            lock.release()
            return result
        self.check_lock(block)

    def test_keywords(self):
        def block(lock):
            result = lock.acquire(timeout=TIMEOUT)
            lock.release()
            return result
        self.check_lock(block)

    def test_unpacked(self):
        def block(lock):
            arguments, keywords = (True,), {'timeout': TIMEOUT}
            result = lock.acquire(*arguments, **keywords)
            lock.release()
            return result
        self.check_lock(block)

    def test_in_unpacked_method(self):
        # Which is what a thread's target mostly is, and what an executor calls.
        class Waiter:
            def __init__(self, lock):
                self.lock = lock
            def plain(self, *args, **keywords):
                with self.lock as result:
                    return result, args, keywords
            @classmethod
            def of_class(cls, lock, /, *args, **keywords):
                return cls(lock).plain(*args, **keywords)
            def __call__(self):
                return self.plain(*(1,), **{'a': 2})
        expected = True, (1,), {'a': 2}
        for block in (
            lambda lock: repr(Waiter(lock).plain(*(1,), a=2)),
            lambda lock: repr(Waiter(lock).plain(*[1], **{'a': 2})),
            lambda lock: repr(Waiter.of_class(*(lock, 1), **{'a': 2})),
            lambda lock: repr(types.MethodType(Waiter.plain, Waiter(lock))(*(1,), a=2)),
        ):
            self.check_lock(block, repr(expected))
        def block(lock):
            method = types.MethodType(Waiter(lock).plain, 1)        # not of a function
            return repr(method(*(), a=2))
        self.check_lock(block, repr(expected), soft=False)

    def test_unpacked_method_of_target(self):
        class Waiter:
            def wait(self, lock, *, log):
                with lock:
                    log.append(self is waiter)
        waiter, lock = Waiter(), threading.Lock()
        def run():
            log = []
            with lock:
                threads = [virtual_threading.Thread(target=waiter.wait, args=(lock,),
                                                    kwargs={'log': log})
                           for _ in range(COUNT)]
                for thread in threads:
                    thread.start()
                self.wait_until(lambda: {t.state for t in threads} == {'parked'},
                                "all parked")
            self.join(threads)
            return log
        self.assertEqual(self.both_ways(run, least=COUNT), [True] * COUNT)

    def test_unpacked_method_errors(self):
        class Callee:
            def method(self, a, *, b):
                time.sleep(0.001)
                raise KeyError(a, b)
        method = Callee().method
        def wait():
            log = []
            for args, keywords in (((), {}), ((1, 2), {'b': 3}), ((1,), {'b': 2}),
                                   ((1,), {'c': 2}), (3, {}), ((1,), {3: 2})):
                try:
                    method(*args, **keywords)
                except (TypeError, KeyError) as exc:
                    log.append((repr(exc), [f.name for f in
                                            traceback.extract_tb(exc.__traceback__)]))
            return log, sys.getrefcount(method)
        log, _ = self.both_ways(lambda: self.call(wait))
        self.assertEqual(log[2], ("KeyError(1, 2)", ['wait', 'method']))
        self.assertEqual([text.split('(')[0] for text, _ in log],
                         ['TypeError', 'TypeError', 'KeyError'] + ['TypeError'] * 3)

    def test_enter(self):
        def block(lock):
            result = lock.__enter__()
            lock.release()
            return result
        self.check_lock(block)

    def test_with(self):
        def block(lock):
            with lock as result:
                pass
            return result
        self.check_lock(block)

    def test_with_in_with_and_try(self):
        def block(lock):
            log = []
            try:
                with contextlib.nullcontext(1) as first, lock as second:
                    log.append((first, second))
                    raise KeyError
            except KeyError:
                log.append('except')
            finally:
                log.append('finally')
            return tuple(log)
        self.check_lock(block, ((1, True), 'except', 'finally'))

    def test_with_condition(self):
        # Its __enter__ is a method in Python.
        def block(lock):
            with threading.Condition(lock) as result:
                return result
        self.check_lock(block)

    def test_with_in_python(self):
        class Enter:
            def __init__(self, lock):
                self.lock = lock
            def __enter__(self):
                with self.lock:
                    return [1]
            def __exit__(self, *args):
                self.exit = args
                return True
        def block(lock):
            manager = Enter(lock)
            with contextlib.nullcontext(0) as a, manager as [b]:
                1 / 0
            return a, b, manager.exit[0]
        self.check_lock(block, (0, 1, ZeroDivisionError))

    def test_with_in_python_raises(self):
        class Enter:
            def __enter__(self):
                time.sleep(0.001)
                raise KeyError
            def __exit__(self, *args):
                raise AssertionError
        class Takes(Enter):
            def __enter__(self, more):
                raise AssertionError
        class Generator(Enter):
            def __enter__(self):
                yield time.sleep(0.001)
            def __exit__(self, *args):
                return None
        def wait():
            log = []
            for manager in Enter(), Takes(), Enter():
                try:
                    with manager:
                        raise AssertionError
                except (KeyError, TypeError) as exc:
                    log.append((type(exc), [(f.name, f.lineno) for f in
                                            traceback.extract_tb(exc.__traceback__)]))
                managers.append(weakref.ref(manager))
            with Generator() as generator:
                log += generator
            return log
        managers = []
        log = self.both_ways(lambda: self.call(wait), least=2)
        self.assertEqual([entry and entry[0] for entry in log],
                         [KeyError, TypeError, KeyError, None])
        # Those that were dropped on another carrier go when theirs comes to it.
        self.wait_until(lambda: not any(ref() for ref in managers), "all managers gone")

    def test_nested_calls(self):
        def inner(lock, depth):
            if depth:
                return inner(lock, depth - 1) + 1
            with lock:
                return 0
        self.check_lock(lambda lock: inner(lock, 20), 20)

    def test_in_expression(self):
        # What stands on the value stack of the frame is there afterwards.
        def block(lock):
            result = [1, *"ab", (2, lock.acquire(), {3: lock.release()})]
            return repr(result)
        self.check_lock(block, "[1, 'a', 'b', (2, True, {3: None})]")

    def test_in_handler(self):
        def block(lock):
            try:
                1 / 0
            except ZeroDivisionError:
                with lock:
                    return repr(sys.exception())
        self.check_lock(block, "ZeroDivisionError('division by zero')")

    def test_below_c(self):
        def wait(lock):
            with lock:
                return 1
        for block in (
            lambda lock: sum(map(wait, [lock] * 2)) == 2,
            lambda lock: sorted([2, 1], key=lambda x: wait(lock) * x) == [1, 2],
            lambda lock: next(wait(lock) for _ in "a") == 1,
            lambda lock: list(wait(lock) for _ in "ab") == [1, 1],
            lambda lock: type("C", (), {"__init__": lambda self: self.__dict__.update(
                                            a=wait(lock))})().a == 1,
        ):
            self.check_lock(block, soft=False)

    def test_coroutine(self):
        async def wait(lock):
            with lock:
                return 1
        async def outer(lock):
            return await wait(lock) + await wait(lock)
        def block(lock):
            try:
                outer(lock).send(None)
            except StopIteration as exc:
                return exc.value
        self.check_lock(block, 2, soft=False)

    def test_timeout(self):
        for make_lock in self.locks:
            lock = make_lock()
            def wait():
                return (lock.acquire(timeout=0.001), lock.acquire(False),
                        lock.acquire(True, 0), lock.acquire(timeout=0.002))
            with lock:
                self.assertEqual(self.both_ways(lambda: self.call(wait)),
                                 (False,) * 4)

    def test_errors(self):
        lock = threading.Lock()
        def wait(*args):
            try:
                lock.acquire(*args)
            except (ValueError, TypeError, OverflowError) as exc:
                return repr(exc)
        with lock:
            for args in ((True, -2), ("a", "b"), (False, 1), (True, 1e100), (1, 2, 3)):
                self.assertTrue(self.both_ways(lambda: self.call(wait, *args),
                                               soft=False))

    def test_recursion_of_rlock(self):
        def make():
            lock = threading.RLock()
            lock.acquire()
            def block():
                with lock:
                    with lock:
                        return lock.acquire(), lock.release(), lock._is_owned()
            return block, lock.release
        self.assertEqual(set(self.check(make)), {(True, None, True)})

    def test_contention(self):
        # Timeouts and hand-overs race; nobody is lost, and the lock excludes.
        def run():
            lock = threading.Lock()
            inside, total = 0, 0
            def work(number):
                nonlocal inside, total
                for i in range(60):
                    timeout = (-1, 0.0002, 0.001, 0.005)[(number + i) % 4]
                    if lock.acquire(timeout=timeout):
                        inside += 1
                        self.assertEqual(inside, 1)
                        if i % 8 == 0:
                            time.sleep(0.0003)
                        total += 1
                        inside -= 1
                        lock.release()
            self.join([spawn(work, n) for n in range(COUNT)])
            self.assertFalse(lock.locked())
            self.assertGreaterEqual(total, COUNT * 60 // 4)
        self.both_ways(run)


if __name__ == "__main__":
    unittest.main()
