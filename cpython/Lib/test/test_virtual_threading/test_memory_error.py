"""MemoryError in many threads at once: each has one of its own, and nothing is kept."""

import sys
import threading
import unittest
import weakref

from test.support import gc_collect, import_helper, script_helper
from test.test_virtual_threading.util import TestCase
from virtual_threading import spawn

# More than CPython keeps exceptions for.
COUNT = 40

# All those are in use, there is no memory for another one, and there is again when the exception
# gets its traceback.
NO_MEMORY = """if 1:
    import _testcapi, gc, weakref

    class Local:
        pass

    held, refs = [], []

    def fail():
        _testcapi.set_nomemory(0)
        try:
            bytearray(1000)
        finally:
            _testcapi.remove_mem_hooks()

    def call():
        local = Local()
        refs.append(weakref.ref(local))
        fail()

    for _ in range(40):
        try:
            call()
        except MemoryError as exc:
            held.append(exc)
    assert len(set(map(id, held))) < 40, "there was memory"
    last = held[-1]
    try:
        raise last from ValueError()
    except MemoryError:
        pass
    print(last.__traceback__, last.__context__, last.__cause__)
    held.clear()
    gc.collect()
    print(sum(ref() is not None for ref in refs))
"""


class MemoryErrorTests(TestCase):

    def check_many(self, start):
        class Local:
            pass

        refs, errors = [], []
        all_have_one = threading.Barrier(COUNT)

        def fail():
            local = Local()
            refs.append(weakref.ref(local))
            try:
                bytearray(sys.maxsize // 2)
            except MemoryError as exc:
                errors.append(exc)
                all_have_one.wait()
                names = []
                tb = exc.__traceback__
                while tb is not None:
                    names.append(tb.tb_frame.f_code.co_name)
                    tb = tb.tb_next
                self.assertEqual(names, ['fail'])

        self.join([start(fail) for _ in range(COUNT)])
        self.assertEqual(len(set(map(id, errors))), COUNT)
        errors.clear()
        gc_collect()
        self.assertEqual([ref() for ref in refs], [None] * COUNT)

    def test_virtual(self):
        self.check_many(spawn)

    def test_threading(self):
        def start(func):
            thread = threading.Thread(target=func)
            thread.start()
            return thread
        self.check_many(start)

    def test_last_resort(self):
        import_helper.import_module('_testcapi')
        _, out, _ = script_helper.assert_python_ok('-c', NO_MEMORY)
        self.assertEqual(out.split(), [b'None', b'None', b'None', b'0'])


if __name__ == '__main__':
    unittest.main()
