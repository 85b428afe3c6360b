"""What the servers of ci/soak reply: clients know it, too."""

LARGEST = 20_000            # bytes of a body


def body(n):
    """The reply to GET /square/n: different for each n, and of a size that depends on it."""
    text = b"%d " % (n * n)
    size = n * 7919 % LARGEST + 1
    return (text * (size // len(text) + 1))[:size]
