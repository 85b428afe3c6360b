"""Waits without a native stack.

Each case runs twice, with soft parks and without, and must do the same: results,
tracebacks, events, references.  A case says whether its waits are soft ones.
"""

import _vthread
import concurrent.futures
import contextlib
import contextvars
import ctypes
import functools
import gc
import io
import json
import queue
import sys
import threading
import time
import traceback
import unittest
import weakref

import virtual_threading
from test.test_virtual_threading.util import COUNT, TIMEOUT, TestCase
from virtual_threading import spawn


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

    def both_ways(self, func, soft=True, least=1):
        """Calls func() with soft parks, `least` at least, and without.

        Both must return the same, which this returns.  With soft=False no park is a
        soft one in either case.
        """
        with self.enabled(False):
            before = soft_parks()
            expected = func()
            self.assertEqual(soft_parks() - before, 0)
        with self.enabled(True):
            before = soft_parks()
            found = func()
            parks = soft_parks() - before
        self.assertEqual(found, expected)
        if soft:
            self.assertGreaterEqual(parks, least)
        else:
            self.assertEqual(parks, 0)
        return found

    def check(self, make, soft=True):
        """make() returns (block, release); threads that are in block() park."""
        def run():
            block, release = make()
            return self.check_parks(block, release)
        return self.both_ways(run, soft, least=COUNT)


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


class OtherWaitsTests(SoftTestCase):

    def test_sleep(self):
        sleep = time.sleep
        def wait():
            return (time.sleep(0.001), sleep(0.001), sleep(*(0.001,)), sleep(0),
                    time.monotonic())
        def run():
            before = time.monotonic()
            result = self.call(wait)
            self.assertGreaterEqual(result[-1] - before, 0.003)
            return result[:-1]
        self.assertEqual(self.both_ways(run), (None,) * 4)

    def test_sleep_errors(self):
        def wait(value):
            try:
                time.sleep(value)
            except (ValueError, TypeError, OverflowError) as exc:
                return repr(exc)
        for value in (-1, "a", None, float("nan"), 1e100):
            self.assertTrue(self.both_ways(lambda: self.call(wait, value), soft=False))

    def test_many_sleeps(self):
        # Nothing adds up: depth of recursion, data stack, entry frames.
        def depth(n=0):
            try:
                return depth(n + 1)
            except RecursionError:
                return n
        def wait():
            before = depth()
            for _ in range(4000):
                time.sleep(1e-7)
            return depth() - before
        self.assertEqual(self.both_ways(lambda: self.call(wait)), 0)

    def test_join(self):
        def make():
            event = threading.Event()
            thread = spawn(event.wait)
            def block():
                return thread.join(), thread.is_alive()
            return block, event.set
        self.assertEqual(set(self.check(make)), {(None, False)})

    def test_join_of_platform_thread(self):
        def make():
            event = threading.Event()
            thread = threading.Thread(target=event.wait)
            thread.start()
            return (lambda: (thread.join(), thread.is_alive())), event.set
        self.check(make)

    def test_join_timeout_and_errors(self):
        event = self.make_event()
        thread = spawn(event.wait)
        def wait():
            log = [thread.join(0.001), thread.is_alive(), thread.join(0)]
            for handle in (threading.current_thread()._handle,
                           threading._ThreadHandle()):
                try:
                    handle.join()
                except RuntimeError as exc:
                    log.append(repr(exc))
            return log
        self.both_ways(lambda: self.call(wait))
        event.set()
        self.join([thread])

    def test_made_of_locks(self):
        def event():
            event = threading.Event()
            return (lambda: event.wait()), event.set
        def event_timeout():
            event = threading.Event()
            return (lambda: event.wait(TIMEOUT)), event.set
        def semaphore():
            semaphore = threading.Semaphore(0)
            return (lambda: semaphore.acquire()), lambda: semaphore.release(COUNT)
        def condition():
            condition = threading.Condition()
            done = False
            def block():
                with condition:
                    return condition.wait_for(lambda: done)
            def release():
                nonlocal done
                with condition:
                    done = True
                    condition.notify_all()
            return block, release
        def fifo():
            fifo = queue.Queue()
            return (lambda: fifo.get()), lambda: [fifo.put(1) for _ in range(COUNT)]
        def future():
            future = concurrent.futures.Future()
            return (lambda: future.result()), lambda: future.set_result(7)
        for make in (event, event_timeout, semaphore, condition, fifo, future):
            with self.subTest(make.__name__):
                self.assertEqual(len(set(self.check(make))), 1)

    def test_pin(self):
        def wait():
            with virtual_threading.pin():
                ident = threading.get_native_id()
                time.sleep(0.001)
                return ident == threading.get_native_id()
        self.assertTrue(self.both_ways(lambda: self.call(wait), soft=False))

    def test_threads_of_other_kinds(self):
        # The outermost call is no Python function: the ordinary park.
        var = contextvars.ContextVar("var", default=0)
        def wait(log):
            time.sleep(0.001)
            log.append(var.get())
        def run():
            log = []
            context = contextvars.copy_context()
            context.run(var.set, 5)
            threads = [virtual_threading.Thread(target=wait, args=(log,), context=context)]
            for thread in threads:
                thread.start()
            self.join(threads)
            return log
        self.assertEqual(self.both_ways(run, soft=False), [5])

    def test_subclass(self):
        class Sleeper(virtual_threading.Thread):
            def run(self):
                time.sleep(0.001)
                self.done = True
        def run():
            thread = Sleeper()
            thread.start()
            self.join([thread])
            return thread.done
        self.assertTrue(self.both_ways(run))

    def test_uncaught_exception(self):
        def fail():
            time.sleep(0.001)
            1 / 0
        def run():
            found = []
            hook, threading.excepthook = threading.excepthook, found.append
            try:
                self.join([spawn(fail)])
            finally:
                threading.excepthook = hook
            return [''.join(traceback.format_exception(args.exc_value))
                    for args in found]
        text, = self.both_ways(run)
        self.assertIn("1 / 0", text)


class SimpleQueueTests(SoftTestCase):

    def test_get(self):
        for block in (
            lambda fifo: fifo.get(),
            lambda fifo: fifo.get(True),
            lambda fifo: fifo.get(timeout=TIMEOUT),
            lambda fifo: fifo.get(*(True,), **{'timeout': TIMEOUT}),
            lambda fifo: [1, fifo.get(block=True, timeout=None)][1],
        ):
            def make():
                fifo = queue.SimpleQueue()
                def release():
                    for i in range(COUNT):
                        fifo.put(i)
                return (lambda: block(fifo)), release
            def ordered():
                return sorted(self.check_parks(*make()))
            self.assertEqual(self.both_ways(ordered, least=COUNT), list(range(COUNT)))

    def test_empty(self):
        fifo = queue.SimpleQueue()
        def wait():
            log = []
            for arguments in ((False,), (True, 0), (True, 0.001), (True, -1)):
                try:
                    fifo.get(*arguments)
                except (queue.Empty, ValueError) as exc:
                    log.append((repr(exc), [f.lineno for f in
                                            traceback.extract_tb(exc.__traceback__)]))
            return log
        self.assertEqual(len(self.both_ways(lambda: self.call(wait))), 4)

    def test_subclass(self):
        class Fifo(queue.SimpleQueue):
            pass
        def run():
            fifo = Fifo()
            def wait():
                try:
                    fifo.get(timeout=0.001)
                except queue.Empty as exc:
                    return repr(exc)
            return self.call(wait)
        self.assertEqual(self.both_ways(run), "Empty()")

    def test_traffic(self):
        # Each item arrives once, and with one producer in order; timeouts race with it.
        def run():
            fifo, back = queue.SimpleQueue(), queue.SimpleQueue()
            def consume(timeout):
                while True:
                    try:
                        item = fifo.get(True, timeout)
                    except queue.Empty:
                        continue
                    if item is None:
                        return
                    back.put(item)
            threads = [spawn(consume, (None, 0.0003)[i % 2]) for i in range(10)]
            for i in range(600):
                fifo.put(i)
                if i % 50 == 0:
                    time.sleep(0.002)
            for _ in threads:
                fifo.put(None)
            self.join(threads)
            return sorted(back.get_nowait() for _ in range(back.qsize()))
        self.assertEqual(self.both_ways(run), list(range(600)))


class SeeingTests(SoftTestCase):

    def waiting(self, func):
        """func(thread) while a thread waits two functions deep."""
        lock = threading.Lock()
        frames = []
        def inner():
            frames.append(sys._getframe())
            lock.acquire()
            lock.release()
        def outer():
            inner()
        lock.acquire()
        thread = spawn(outer)
        self.wait_until(lambda: thread.state == 'parked', "the thread parked")
        try:
            return func(thread, frames[0])
        finally:
            lock.release()
            self.join([thread])

    def test_frames(self):
        def look(thread, frame):
            found = []
            while frame is not None:
                found.append((frame.f_code.co_qualname, frame.f_lineno,
                              sorted(frame.f_locals)))
                frame = frame.f_back
            return found
        found = self.both_ways(lambda: self.waiting(look))
        self.assertIn('inner', found[0][0])
        self.assertIn('outer', found[1][0])

    def test_frame_objects_while_it_ends(self):
        def run():
            kept = []
            self.waiting(lambda thread, frame: kept.append(frame))
            gc.collect()
            frame, found = kept[0], []
            while frame is not None:
                found.append(frame.f_code.co_name)
                frame = frame.f_back
            return found
        self.assertEqual(self.both_ways(run)[0], 'inner')

    def test_dump(self):
        def look(thread, frame):
            file = io.StringIO()
            virtual_threading.dump(file, format="json")
            found = [t for t in json.loads(file.getvalue())['threads']
                     if t['id'] == thread.ident]
            entry, = found
            return [entry['state'], entry['waiting']['for'],
                    [(f['function'], f['line']) for f in entry['stack']]]
        self.both_ways(lambda: self.waiting(look))

    def events(self, start, stop):
        """The events that start(record) has recorded of a thread that waits."""
        def run():
            lock = threading.Lock()
            found = []
            def wait():
                with lock:
                    pass
                lock.acquire(timeout=0.001)
                lock.acquire(True, 0.001)
                time.sleep(*(0.001,))
                lock.release()
            def body():
                start(found)
                wait()
                stop()
            lock.acquire()
            thread = spawn(body)
            self.wait_until(lambda: thread.state == 'parked', "the thread parked")
            lock.release()
            self.join([thread])
            return found
        return run

    def test_settrace(self):
        def start(found):
            def trace(frame, event, arg):
                found.append((frame.f_code.co_name, event, frame.f_lineno))
                return trace
            sys.settrace(trace)
        found = self.both_ways(self.events(start, lambda: sys.settrace(None)))
        self.assertIn('line', {event for _, event, _ in found})

    def test_setprofile(self):
        def start(found):
            def profile(frame, event, arg):
                found.append((frame.f_code.co_name, event,
                              getattr(arg, '__name__', None)))
            sys.setprofile(profile)
        # Instrumented calls wait in the ordinary way; `with` has no events.
        found = self.both_ways(self.events(start, lambda: sys.setprofile(None)))
        for name in ('acquire', 'sleep'):
            self.assertIn(('wait', 'c_call', name), found)
            self.assertIn(('wait', 'c_return', name), found)

    def test_monitoring(self):
        tool, events = 4, sys.monitoring.events
        def start(found):
            sys.monitoring.use_tool_id(tool, "soft")
            for event in (events.CALL, events.C_RETURN, events.C_RAISE):
                def record(code, offset, callable, arg0, event=event):
                    if code.co_filename == __file__ and code.co_name == 'wait':
                        found.append((event, callable.__name__))
                sys.monitoring.register_callback(tool, event, record)
            sys.monitoring.set_events(tool, events.CALL)
        def stop():
            sys.monitoring.set_events(tool, 0)
            sys.monitoring.free_tool_id(tool)
        found = self.both_ways(self.events(start, stop))
        self.assertIn((events.C_RETURN, 'sleep'), found)

    def test_trace_while_parked(self):
        def run():
            lock = threading.Lock()
            found = []
            def wait():
                lock.acquire()
                lock.release()
                return 1
            def trace(frame, event, arg):
                if frame.f_code is wait.__code__:
                    found.append((event, frame.f_lineno))
                return trace
            def body():
                wait()
            lock.acquire()
            thread = spawn(body)
            self.wait_until(lambda: thread.state == 'parked', "the thread parked")
            threading.settrace_all_threads(trace)
            try:
                lock.release()
                self.join([thread])
            finally:
                threading.settrace_all_threads(None)
            return found
        self.both_ways(run)

    @unittest.skipUnless(hasattr(ctypes, 'pythonapi'), "needs ctypes.pythonapi")
    def test_asynchronous_exception(self):
        class Stop(Exception):
            pass
        def interrupt(block):
            lock = threading.Lock()
            found = []
            def wait():
                try:
                    block(lock)
                except Stop as exc:
                    found.append([(f.name, f.lineno) for f in
                                  traceback.extract_tb(exc.__traceback__)])
                found.append(lock.locked())
            lock.acquire()
            thread = spawn(wait)
            self.wait_until(lambda: thread.state == 'parked', "the thread parked")
            set_async_exc = ctypes.pythonapi.PyThreadState_SetAsyncExc
            self.assertEqual(set_async_exc(ctypes.c_ulong(thread.ident),
                                           ctypes.py_object(Stop)), 1)
            lock.release()
            self.join([thread])
            return found
        def call(lock):
            lock.acquire()
            self.fail("the exception comes right after the call")
        def with_(lock):
            with lock:
                for _ in range(1000):
                    str(_)
        self.assertEqual(self.both_ways(lambda: interrupt(call))[-1], True)
        self.assertEqual(self.both_ways(lambda: interrupt(with_))[-1], False)


class ReferenceTests(SoftTestCase):

    def test_references(self):
        def run():
            lock = threading.Lock()
            class Timeout(float):
                pass
            timeout = Timeout(TIMEOUT)
            ref = weakref.ref(timeout)
            before = sys.getrefcount(lock), sys.getrefcount(timeout)
            def wait():
                for _ in range(3):
                    lock.acquire(True, timeout)
                    lock.release()
                    with lock:
                        pass
            with lock:
                threads = [spawn(wait) for _ in range(COUNT)]
                self.wait_until(lambda: {t.state for t in threads} == {'parked'},
                                "all parked")
            self.join(threads)
            del threads, wait
            gc.collect()
            self.assertEqual((sys.getrefcount(lock), sys.getrefcount(timeout)), before)
            del timeout
            gc.collect()
            return ref() is None
        self.assertTrue(self.both_ways(run))

    def test_only_reference(self):
        # The call holds the last reference of the lock.
        def run():
            locks = [threading.Lock()]
            locks[0].acquire()
            ref = weakref.ref(locks[0])
            def wait():
                box.append(locks.pop().acquire())
            box = []
            thread = spawn(wait)
            self.wait_until(lambda: thread.state == 'parked', "the thread parked")
            ref().release()
            self.join([thread])
            gc.collect()
            return box, ref()
        self.assertEqual(self.both_ways(run), ([True], None))

    def test_argument_that_waits(self):
        # Arguments are dropped on the way out of the eval loop, and that runs Python.
        def run():
            log = []
            class Timeout(float):
                def __del__(self):
                    time.sleep(0.0001)
                    with lock:
                        log.append('del')
                    try:
                        1 / 0
                    except ZeroDivisionError:
                        pass
            lock = threading.Lock()
            blocked = threading.Lock()
            blocked.acquire()
            def wait():
                result = (time.sleep(Timeout(0.001)), blocked.acquire(True, Timeout(0.001)),
                          blocked.acquire(timeout=Timeout(0.001)))
                time.sleep(*(Timeout(0.001),))
                return result
            result = self.call(wait)
            # Where the thread has moved, the owner of the memory deletes them, some time, or
            # the collector.
            gc.collect()
            self.wait_until(lambda: len(log) == 4, "all arguments deleted")
            return result
        self.assertEqual(self.both_ways(run), (None, False, False))

    def test_argument_that_calls_the_same(self):
        # The offer is for the outer call; what its arguments run takes none.
        def run():
            log = []
            blocked = threading.Lock()
            blocked.acquire()
            class Yes:
                def __bool__(self):
                    log.append(functools.partial(blocked.acquire, True, 0.001)())
                    log.append(blocked.acquire(True, 0.001))
                    return True
            class Seconds:
                def __index__(self):
                    log.append(next(map(time.sleep, [0.001])))
                    return 0
            def wait():
                return blocked.acquire(Yes(), 0.001), time.sleep(Seconds())
            return self.call(wait), log
        self.assertEqual(self.both_ways(run),
                         ((False, None), [False, False, None]))


class SchemeTests(SoftTestCase):

    def test_no_stacks(self):
        # Those that wait have none: there are far fewer stacks than threads.
        lock = threading.Lock()
        def wait():
            with lock:
                pass
        with lock:
            before = soft_parks()
            threads = [spawn(wait) for _ in range(1000)]
            self.wait_until(lambda: {t.state for t in threads} == {'parked'},
                            "all parked")
            found = virtual_threading.stats()
        self.join(threads)
        self.assertGreaterEqual(found['soft_parks'] - before, 1000)
        self.assertLess(found['stacks_resident'] + found['stacks_frozen'], 600)

    def test_mixed(self):
        # Soft and ordinary parks in turn, with C frames in between.
        def run():
            lock = threading.Lock()
            def touch(i):
                with lock:
                    time.sleep(0.0001 * (i % 3))
                return i
            def work(number):
                total = 0
                for i in range(8):
                    total += touch(i)
                    total += sum(map(touch, range(3)))
                    total += max((touch(j) for j in range(2)))
                return total
            return self.call_all([functools.partial(work, n) for n in range(8)])
        self.both_ways(run, soft=False)
        def outermost():
            box = []
            def work():
                lock = threading.Lock()
                for i in range(20):
                    time.sleep(0.0001)
                    box.extend(map(lambda x: time.sleep(0.0001) or x, [i]))
            self.join([spawn(work) for _ in range(10)])
            return sorted(box)
        self.both_ways(outermost)


if __name__ == "__main__":
    unittest.main()
