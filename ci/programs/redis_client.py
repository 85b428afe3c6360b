"""redis-py and Debian's Redis: commands, pipelines, blocking pops, locks and publish/subscribe."""

import pathlib
import shutil
import subprocess
import tempfile
import threading

import redis

from threads import run_all

# Debian's redis-tools has the server, too: the program goes by the name that it is called by.
# The package redis-server would start one on the machine.
SERVER = shutil.which("redis-check-rdb")
THREADS = 500


def connect(path):
    # Without redis-py's limits of some seconds: all threads have to wait in the server at once.
    pool = redis.BlockingConnectionPool(
        max_connections=THREADS, timeout=None, path=path, socket_timeout=None,
        connection_class=redis.UnixDomainSocketConnection)
    return redis.Redis(connection_pool=pool)


def commands(client):
    def count(number):
        for _ in range(10):
            client.incr("counter")
        with client.pipeline() as pipe:
            pipe.set(f"key {number}", number).get(f"key {number}")
            assert pipe.execute() == [True, str(number).encode()], number

    run_all(count, THREADS)
    assert int(client.get("counter")) == 10 * THREADS


def blocking_pops(client, other):
    """Each thread waits in the server for a list of its own; then all are filled."""
    def pop(number):
        assert client.blpop(f"list {number}") == (f"list {number}".encode(), b"item"), number

    def push():
        while other.info("clients")["blocked_clients"] < THREADS:
            pass
        for number in range(THREADS):
            other.rpush(f"list {number}", "item")

    pusher = threading.Thread(target=push)
    pusher.start()
    run_all(pop, THREADS)
    pusher.join()
    assert client.blpop("nothing", timeout=0.01) is None


def locks(client):
    inside = []

    def enter(number):
        with client.lock("lock", sleep=0.001):
            inside.append(number)
            assert inside == [number]
            inside.remove(number)

    run_all(enter, 50)


def subscribe(client):
    """A hundred subscribers, each of which gets every message, in order."""
    def listen(number):
        with client.pubsub(ignore_subscribe_messages=True) as channel:
            channel.subscribe("news")
            ready.wait()
            messages = channel.listen()
            assert [next(messages)["data"] for _ in range(100)] == expected, number

    def publish():
        ready.wait()
        while client.pubsub_numsub("news") != [(b"news", 100)]:
            pass
        for message in expected:
            client.publish("news", message)

    ready = threading.Barrier(101)
    expected = [str(n).encode() for n in range(100)]
    publisher = threading.Thread(target=publish)
    publisher.start()
    run_all(listen, 100)
    publisher.join()


def main(directory):
    path = str(pathlib.Path(directory) / "redis.sock")
    server = subprocess.Popen(
        ["redis-server", "--port", "0", "--unixsocket", path, "--save", "", "--dir", directory],
        executable=SERVER, stdout=subprocess.PIPE, text=True)
    try:
        if not any("accept connections" in line for line in server.stdout):
            raise SystemExit("redis-server has not started")
        client, other = connect(path), connect(path)
        commands(client)
        blocking_pops(client, other)
        locks(client)
        subscribe(client)
        client.close()
        other.close()
    finally:
        server.terminate()
        server.wait()
        server.stdout.close()
    print(f"{THREADS} clients of Redis")


if SERVER is None:
    raise SystemExit("no Redis, which is in Debian's redis-tools")
with tempfile.TemporaryDirectory() as directory:
    main(directory)
