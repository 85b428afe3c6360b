"""Whose code a C frame is: a build id says so, not a path or a name.

A copy of an extension module of this build, anywhere and under any name, is the interpreter's own
code, and a thread below it parks.  With another id, or none, it is foreign, and pins.
"""

import importlib.machinery
import importlib.util
import itertools
import os
import struct
import sys
import tempfile
import unittest

from test.test_virtual_threading.util import TestCase
from virtual_threading import stats

MODULE = '_bisect'              # bisect_left() calls its key
COUNT = 12
FOREIGN = 'foreign native frame'

PT_NOTE = 4
NT_GNU_BUILD_ID = 3

numbers = itertools.count()


def build_id_note(data):
    """(offset of the type, offset of the id) of the build id's note in an ELF file."""
    if data[:6] != b"\x7fELF\x02" + (b"\x01" if sys.byteorder == 'little' else b"\x02"):
        raise unittest.SkipTest("not a file of ELF64")
    table, = struct.unpack_from('=Q', data, 32)
    size, count = struct.unpack_from('=HH', data, 54)
    for header in range(table, table + size * count, size):
        kind, _, at, _, _, length, _, align = struct.unpack_from('=IIQQQQQQ', data, header)
        if kind != PT_NOTE:
            continue
        align, end = max(align, 4), at + length
        while at < end:
            name_size, id_size, kind = struct.unpack_from('=III', data, at)
            name = at + 12
            desc = name + -(-name_size // align) * align
            if kind == NT_GNU_BUILD_ID and data[name:name + name_size] == b"GNU\0":
                return at + 8, desc
            at = desc + -(-id_size // align) * align
    raise unittest.SkipTest("the modules of this build have no build id")


class CoreTextTests(TestCase):

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        spec = importlib.util.find_spec(MODULE)
        if not isinstance(spec.loader, importlib.machinery.ExtensionFileLoader):
            raise unittest.SkipTest(f"{MODULE} is no shared library")
        cls.name = os.path.basename(spec.origin)
        with open(spec.origin, 'rb') as file:
            cls.data = file.read()
        directory = tempfile.TemporaryDirectory()
        cls.addClassCleanup(directory.cleanup)
        cls.directory = directory.name

    def load(self, name, data):
        """The module that a file with these bytes makes."""
        path = os.path.join(tempfile.mkdtemp(dir=self.directory), name)
        with open(path, 'wb') as file:
            file.write(data)
        loader = importlib.machinery.ExtensionFileLoader(MODULE, path)
        spec = importlib.util.spec_from_file_location(MODULE, path, loader=loader)
        module = importlib.util.module_from_spec(spec)
        loader.exec_module(module)
        return module

    def pins(self, module):
        """What was counted of COUNT threads below the module: foreign frames, by which library."""
        event = self.make_event()

        def block():
            return module.bisect_left([1], 1, key=lambda value: event.wait() and value)

        before = stats()
        results = self.check_parks(block, event.set, count=COUNT, states=('parked', 'pinned'))
        self.assertEqual(results, [0] * COUNT)
        after = stats()
        return (after['pins'][FOREIGN] - before['pins'][FOREIGN],
                {name for name, pins in after['pinned_by'].items()
                 if pins > before['pinned_by'].get(name, 0)})

    def check_is_core(self, module):
        self.assertEqual(self.pins(module), (0, set()))

    def check_is_foreign(self, data):
        # A name that there was not before, and that of the module of this build.
        for name in f'vt_{next(numbers)}.so', self.name:
            pins, names = self.pins(self.load(name, data))
            self.assertGreaterEqual(pins, COUNT)
            self.assertLessEqual(names, {name})
            self.assertTrue(names or name == self.name)

    def test_where_it_is_installed(self):
        self.check_is_core(importlib.import_module(MODULE))

    def test_copy(self):
        self.check_is_core(self.load(self.name, self.data))

    def test_copy_under_another_name(self):
        self.check_is_core(self.load('vt_copy.so', self.data))

    def test_other_id(self):
        data = bytearray(self.data)
        data[build_id_note(data)[1]] ^= 1
        self.check_is_foreign(data)

    def test_no_id(self):
        data = bytearray(self.data)
        data[build_id_note(data)[0]] ^= 0x40        # a note of another type
        self.check_is_foreign(data)


if __name__ == "__main__":
    unittest.main()
