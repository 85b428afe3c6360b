import unittest

unittest.main('test.test_virtual_threading')
