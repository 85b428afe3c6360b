"""socket_socketpair: the first two sockets of a process are made at once."""

import _socket
import threading

make = _socket.socketpair
ready, go = [], []


def work():
    ready.append(1)
    while not go:               # a lock would be an order that is not there
        pass
    make()


threads = [threading.Thread(target=work) for _ in range(2)]
for thread in threads:
    thread.start()
while len(ready) < len(threads):
    pass
go.append(1)
for thread in threads:
    thread.join()
