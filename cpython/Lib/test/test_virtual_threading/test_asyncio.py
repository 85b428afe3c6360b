"""asyncio inside virtual threads, and virtual threads beside a loop."""

import asyncio
import socket
import time
import unittest
from concurrent.futures import VirtualThreadPoolExecutor

from test.test_virtual_threading.util import COUNT, TestCase
from virtual_threading import spawn


def tearDownModule():
    asyncio.set_event_loop_policy(None)


class LoopTests(TestCase):

    def test_run(self):
        async def main():
            await asyncio.sleep(0.01)
            return await asyncio.gather(*[asyncio.sleep(0.01, n) for n in range(10)])

        self.assertEqual(self.call(asyncio.run, main()), list(range(10)))

    def test_loops_in_many_threads(self):
        async def main(number):
            for _ in range(5):
                await asyncio.sleep(0.01)
            return number

        results = self.call_all([lambda n=n: asyncio.run(main(n))
                                 for n in range(COUNT)])
        self.assertEqual(results, list(range(COUNT)))

    def test_idle_loops_park(self):
        loops = []

        async def main():
            event = asyncio.Event()
            loops.append((asyncio.get_running_loop(), event))
            await event.wait()
            return 1

        def release():
            for loop, event in loops:
                loop.call_soon_threadsafe(event.set)

        self.assertEqual(self.check_parks(lambda: asyncio.run(main()), release),
                         [1] * COUNT)

    def test_streams(self):
        async def echo(reader, writer):
            while line := await reader.readline():
                writer.write(line)
                await writer.drain()
            writer.close()

        async def main():
            server = await asyncio.start_server(echo, "127.0.0.1", 0)
            address = server.sockets[0].getsockname()

            def talk(number):
                # Plain blocking code in virtual threads against the loop's server.
                with socket.create_connection(address) as sock, sock.makefile() as file:
                    sock.sendall(b"%d\n" % number)
                    return file.readline()

            loop = asyncio.get_running_loop()
            async with server:
                with VirtualThreadPoolExecutor() as executor:
                    return await asyncio.gather(
                        *[loop.run_in_executor(executor, talk, n) for n in range(50)])

        expected = [f"{n}\n" for n in range(50)]
        self.assertEqual(asyncio.run(main()), expected)
        self.assertEqual(self.call(asyncio.run, main()), expected)

    def test_streams_in_many_threads(self):
        # Both ends of a connection in one loop.
        async def main(number):
            left, right = socket.socketpair()
            with left, right:
                reader, writer = await asyncio.open_connection(sock=left)
                other_reader, other_writer = await asyncio.open_connection(sock=right)
                for turn in range(5):
                    line = f"{number} {turn}\n".encode()
                    other_writer.write(line)
                    await other_writer.drain()
                    await asyncio.sleep(0.001)
                    self.assertEqual(await reader.readline(), line)
                for each in (writer, other_writer):
                    each.close()
                    await each.wait_closed()
            return number

        results = self.call_all([lambda n=n: asyncio.run(main(n)) for n in range(20)])
        self.assertEqual(results, list(range(20)))

    def test_to_thread(self):
        async def main():
            return await asyncio.gather(
                asyncio.to_thread(pow, 2, 5),
                *(asyncio.to_thread(time.sleep, 0.001) for _ in range(20)))

        self.assertEqual(self.call(asyncio.run, main()), [32] + [None] * 20)

    def test_subprocess(self):
        async def main():
            process = await asyncio.create_subprocess_exec(
                "/bin/cat", stdin=-1, stdout=-1)
            return (await process.communicate(b"abc"))[0]

        self.assertEqual(self.call(asyncio.run, main()), b"abc")

    def test_run_coroutine_threadsafe(self):
        async def value():
            await asyncio.sleep(0.01)
            return 5

        async def main(ready, stop):
            ready(asyncio.get_running_loop())
            await asyncio.to_thread(stop.wait)

        loops = []
        ready, stop = self.make_event(), self.make_event()
        thread = spawn(asyncio.run,
                       main(lambda loop: (loops.append(loop), ready.set()), stop))
        self.wait_for(ready)
        with self.setting(stop):
            results = self.call_all(
                [lambda: asyncio.run_coroutine_threadsafe(value(), loops[0]).result()]
                * COUNT)
        self.join([thread])
        self.assertEqual(results, [5] * COUNT)

    def test_running_loop_belongs_to_the_virtual_thread(self):
        async def main():
            self.assertRaises(RuntimeError, self.call, asyncio.get_running_loop)
            return asyncio.get_running_loop()

        loops = self.call_all([lambda: asyncio.run(main())] * 10)
        self.assertEqual(len(set(loops)), 10)


if __name__ == "__main__":
    unittest.main()
