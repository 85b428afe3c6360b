"""Resumes by several threads, signals, fork, interpreters."""

import collections
import gc
import sys
import threading
import unittest

from continuations import Continuation, yield_
from test import support
from test.support import threading_helper
from test.support.script_helper import assert_python_ok
from test.test_continuations.util import in_thread, yielding


@threading_helper.requires_working_threading()
class ThreadTests(unittest.TestCase):

    def test_resumed_by_others(self):
        def func():
            total = 0
            for i in range(20):
                total += sum(map(yield_, [i, i]))
            return total

        c = Continuation(func)
        value = c.start()
        while not c.completed:
            value = in_thread(c.send, value)
        self.assertEqual(value, sum(2 * i for i in range(20)))

    def test_started_by_another(self):
        c = Continuation(yielding)
        self.assertEqual(in_thread(c.start, 1), 1)
        self.assertEqual(c.send(None), 'end')

    def test_one_at_a_time(self):
        started, end = threading.Event(), threading.Event()
        def func():
            started.set()
            end.wait(support.LONG_TIMEOUT)
            return 'end'

        c = Continuation(func)
        results = []
        thread = threading.Thread(target=lambda: results.append(c.start()))
        with threading_helper.start_threads([thread], unlock=end.set):
            self.assertTrue(started.wait(support.LONG_TIMEOUT))
            self.assertTrue(c.executing)
            self.assertRaises(ValueError, c.send, None)
            self.assertRaises(ValueError, c.close)
            end.set()
        self.assertEqual(results, ['end'])

    def test_race(self):
        # Threads resume the same ones; each value arrives once.
        COUNT, ROUNDS, THREADS = 20, 50, 4
        def func():
            for i in range(ROUNDS):
                yield_(i)
            return None

        cs = [Continuation(func) for _ in range(COUNT)]
        for c in cs:
            c.start()
        got = [collections.Counter() for _ in range(THREADS)]
        barrier = threading.Barrier(THREADS)

        def run(counter):
            barrier.wait()
            while not all(c.completed for c in cs):
                for i, c in enumerate(cs):
                    try:
                        value = c.send(None)
                    except (ValueError, RuntimeError):
                        continue
                    if value is not None:
                        counter[i, value] += 1

        threads = [threading.Thread(target=run, args=(counter,)) for counter in got]
        with threading_helper.start_threads(threads):
            pass
        total = sum(got, collections.Counter())
        self.assertEqual(total, {(i, j): 1 for i in range(COUNT) for j in range(1, ROUNDS)})

    def test_waits(self):
        # A lock of a program, a queue and a sleep inside of a continuation.
        event = threading.Event()
        def func():
            yield_()
            event.wait(support.LONG_TIMEOUT)
            return 'end'

        c = Continuation(func)
        c.start()
        results = []
        thread = threading.Thread(target=lambda: results.append(c.send(None)))
        with threading_helper.start_threads([thread], unlock=event.set):
            event.set()
        self.assertEqual(results, ['end'])

    def test_collections_beside(self):
        # The world is stopped while others switch.
        stop = threading.Event()
        def switch():
            while not stop.is_set():
                c = Continuation(lambda: list(map(yield_, range(20))))
                c.start()
                while not c.completed:
                    c.send([[]])

        threads = [threading.Thread(target=switch) for _ in range(2)]
        with threading_helper.start_threads(threads, unlock=stop.set):
            for _ in range(20):
                gc.collect()
                sys._current_frames()
            stop.set()

    def test_thread_ends(self):
        # What has been started by a thread that is gone.
        def func():
            data = [object() for _ in range(100)]
            yield_()
            return len(data)

        cs = [Continuation(func) for _ in range(10)]
        for c in cs:
            in_thread(c.start)
        self.assertEqual([c.send(None) for c in cs], [100] * 10)

    def test_pending_signal(self):
        # A handler runs in the main thread, also while that is in a continuation.
        rc, out, err = assert_python_ok("-c", """if True:
            import os, signal
            from continuations import Continuation
            got = []
            signal.signal(signal.SIGUSR1, lambda *args: got.append(1))
            def func():
                os.kill(os.getpid(), signal.SIGUSR1)
                while not got:
                    pass
                return 'handled'
            print(Continuation(func).start())
            """)
        self.assertEqual(out.strip(), b'handled')

    def test_signal_of_another_thread(self):
        rc, out, err = assert_python_ok("-c", """if True:
            import signal, threading
            from continuations import Continuation
            entered = threading.Event()
            def func():
                entered.set()
                while True:
                    pass
            def interrupt():
                entered.wait()
                signal.raise_signal(signal.SIGINT)
            threading.Thread(target=interrupt).start()
            try:
                Continuation(func).start()
            except KeyboardInterrupt:
                print('interrupted')
            """)
        self.assertEqual(out.strip(), b'interrupted')


class ProcessTests(unittest.TestCase):

    @support.requires_fork()
    def test_fork(self):
        code = """if True:
            import os, threading
            from continuations import Continuation, yield_
            def func():
                data = list(map(yield_, [1, 2]))
                pid = os.fork()
                if pid == 0:
                    yield_('in the child')
                return pid
            def other():
                yield_('other')
                return 'other ends'
            c, o = Continuation(func), Continuation(other)
            o.start()
            thread = threading.Thread(target=c.start)
            thread.start()
            thread.join()
            c.send('a')
            res = c.send('b')
            if res == 'in the child':
                assert o.send(None) == 'other ends'
                assert c.send(None) == 0
                assert Continuation(lambda: yield_(5)).start() == 5
                os._exit(42)
            assert o.send(None) == 'other ends'
            print(os.waitstatus_to_exitcode(os.waitpid(res, 0)[1]))
            """
        rc, out, err = assert_python_ok("-W", "ignore", "-c", code)
        self.assertEqual(out.strip(), b'42')

    def test_subinterpreter(self):
        code = """if True:
            from test import support
            from continuations import Continuation, yield_
            text = '''if True:
                from continuations import Continuation, yield_
                for call in (Continuation(len).start, yield_):
                    try:
                        call()
                    except RuntimeError:
                        pass
                    else:
                        raise AssertionError
                '''
            def func():
                yield_(1)
                assert support.run_in_subinterp(text) == 0
                yield_(2)
            c = Continuation(func)
            print(c.start(), c.send(None), c.send(None))
            """
        rc, out, err = assert_python_ok("-c", code)
        self.assertEqual(out.strip(), b'1 2 None')

    def test_with_the_gil(self):
        code = """if True:
            import threading
            from continuations import Continuation, yield_
            def func():
                return sum(map(yield_, range(3)))
            cs = [Continuation(func) for _ in range(20)]
            def run():
                for c in cs:
                    try:
                        c.send(1 if c.started else None)
                    except (ValueError, RuntimeError):
                        pass
            while not all(c.completed for c in cs):
                threads = [threading.Thread(target=run) for _ in range(3)]
                for t in threads: t.start()
                for t in threads: t.join()
            print('end')
            """
        rc, out, err = assert_python_ok("-Xgil=1", "-c", code)
        self.assertEqual(out.strip(), b'end')

    def test_faulthandler(self):
        rc, out, err = assert_python_ok("-c", """if True:
            import faulthandler
            from continuations import Continuation
            def inner():
                faulthandler.dump_traceback()
                faulthandler.dump_traceback(all_threads=False)
            def func():
                inner()
            Continuation(func).start()
            """)
        self.assertEqual(err.count(b'in inner'), 2)
        self.assertEqual(err.count(b'in func'), 2)
        self.assertEqual(err.count(b'in <module>'), 2)


if __name__ == "__main__":
    unittest.main()
