"""CPython's own tests of executors, with VirtualThreadPoolExecutor.

The classes below take the tests from test.test_concurrent_futures and override those
that look at the workers of a pool, which this executor does not have.
"""

import os
import unittest
from concurrent import futures
from test import support
from test.test_concurrent_futures import (executor, test_as_completed, test_init,
                                          test_shutdown, test_thread_pool, test_wait)
from test.test_concurrent_futures.util import (BaseTestCase, ThreadPoolMixin,
                                               setup_module)


class VirtualMixin(ThreadPoolMixin):
    executor_type = futures.VirtualThreadPoolExecutor


class ExecutorTest(VirtualMixin, test_thread_pool.ThreadPoolExecutorTest):

    def test_default_workers(self):
        executor = self.executor_type()
        self.assertIsNone(executor._max_workers)

    @unittest.skip("threads are not reused")
    def test_idle_thread_reuse(self):
        pass


class UnboundedExecutorTest(VirtualMixin, executor.ExecutorTest, BaseTestCase):

    def setUp(self):
        super().setUp()
        self.executor.shutdown()
        self.executor = self.executor_type()


class ShutdownTest(VirtualMixin, test_shutdown.ExecutorShutdownTest, BaseTestCase):

    # From ThreadPoolShutdownTest, whose other tests are about workers or name the
    # class ThreadPoolExecutor.

    def test_threads_terminate(self):
        test_shutdown.ThreadPoolShutdownTest.test_threads_terminate(self)

    def test_context_manager_shutdown(self):
        with self.executor_type(max_workers=5) as executor:
            self.assertEqual(list(executor.map(abs, range(-5, 5))),
                             [5, 4, 3, 2, 1, 0, 1, 2, 3, 4])
        self.assertEqual(executor._threads, set())

    def test_del_shutdown(self):
        executor = self.executor_type(max_workers=5)
        results = executor.map(abs, range(-5, 5))
        threads = executor._threads
        del executor
        for thread in threads:
            thread.join()
        self.assertEqual(list(results), [abs(n) for n in range(-5, 5)])

    def test_shutdown_no_wait(self):
        executor = self.executor_type(max_workers=5)
        results = executor.map(abs, range(-5, 5))
        executor.shutdown(wait=False)
        self.assertEqual(list(results), [abs(n) for n in range(-5, 5)])


class WaitTest(VirtualMixin, test_wait.ThreadPoolWaitTests):
    pass


class AsCompletedTest(VirtualMixin, test_as_completed.AsCompletedTests, BaseTestCase):
    pass


class InitializerTest(VirtualMixin, test_init.InitializerMixin, BaseTestCase):

    def setUp(self):
        test_init.INITIALIZER_STATUS = 'uninitialized'
        self.executor_kwargs = dict(initializer=test_init.init,
                                    initargs=('initialized',))
        VirtualMixin.setUp(self)


class FailingInitializerTest(VirtualMixin, test_init.FailingInitializerMixin,
                             BaseTestCase):

    def setUp(self):
        self.mp_context = None
        self.log_queue = None
        self.executor_kwargs = dict(initializer=test_init.init_fail)
        VirtualMixin.setUp(self)


def setUpModule():
    setup_module()


if __name__ == "__main__":
    unittest.main()
