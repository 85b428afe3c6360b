"""Random programs, as trees: what the fuzzer makes, runs, shrinks and keeps.

A node is [operation, number, children].  An operation gets the number as its parameter
and calls its children, in turn, from wherever it calls back into Python: see ops.
Trees, not seeds, are what the corpus keeps, since a new operation changes what a seed
stands for.
"""

import random

import ops

DEPTH = 6
BRANCHES = 2
NUMBERS = range(1, 4)
LEAF = 0.2                      # the chance that a branch ends early
COPIES = (2, 5, 9)              # how many threads run a program at once


def generate(seed):
    """The test of a seed, as a dict that JSON can hold."""
    rng = random.Random(seed)
    # A finalizer that runs in whatever thread drops the last reference must not meet a
    # RecursionError that is not its own.
    root = _node(rng, DEPTH, frozenset({rng.choice(["finalizer", "overflow", "overflow"])}))
    return {"seed": seed, "copies": rng.choice(COPIES), "program": root}


def _node(rng, depth, forbidden):
    leaf = depth == 0 or depth < DEPTH and rng.random() < LEAF
    name = rng.choice([op.name for op in ops.OPS.values()
                       if op.leaf == leaf and not op.tags & forbidden])
    forbidden |= ops.OPS[name].forbids
    branches = 0 if leaf else rng.randint(1, BRANCHES)
    return [name, rng.choice(NUMBERS),
            [_node(rng, depth - 1, forbidden) for _ in range(branches)]]


def smaller(node):
    """Trees that are one step smaller: a child in its parent's place, or a leaf."""
    name, number, children = node
    yield from children
    if len(children) > 1:
        for child in children:
            yield [name, number, [child]]
    if number > 1:
        yield [name, 1, children]
    if children and name != "call":
        yield ["call", 1, children]
    for index, child in enumerate(children):
        for less in smaller(child):
            yield [name, number, children[:index] + [less] + children[index + 1:]]


def size(node):
    return 1 + sum(map(size, node[2]))
