"""sock_close: a socket is closed while another thread waits to receive from it."""

import socket
import threading


def receive(sock):
    try:
        sock.recv(1)
    except OSError:
        pass


for _ in range(20):
    left, right = socket.socketpair()
    left.settimeout(5)
    thread = threading.Thread(target=receive, args=(left,))
    thread.start()
    right.send(b"x")
    left.close()
    right.close()
    thread.join()
