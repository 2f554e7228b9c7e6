"""How much memory a built orchestrator holds, by looking at every object it leads to."""

import gc
import logging
import sys
from collections.abc import Iterable
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType

_EVERYBODYS = (type, ModuleType, CodeType, BuiltinFunctionType, logging.Logger)
"""What such an object leads to belongs to the process, whoever refers to it."""


def footprint_bytes(*roots: object, shared: Iterable[object] = ()) -> int:
    """The size of all objects that the roots lead to, each counted once and those of `shared` not at all.

    An upper bound: what an engine itself shares between instances, such as a compiled graph, counts for each. Takes
    about a millisecond for an orchestrator, on the thread that asks.
    """
    seen = {id(item) for item in shared}
    todo = list(roots)
    total = 0
    while todo:
        item = todo.pop()
        if id(item) in seen or isinstance(item, _EVERYBODYS):
            continue
        seen.add(id(item))
        total += sys.getsizeof(item)
        if isinstance(item, FunctionType):
            # Not its globals, which are its whole module.
            todo += (item.__closure__, item.__defaults__, item.__kwdefaults__, item.__dict__)
        else:
            todo += gc.get_referents(item)
    return total
