"""How much memory a built orchestrator holds, by looking at every object it leads to."""

import gc
import logging
import math
import sys
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType

STEPS_PER_DOUBLING = 4
"""What is built of configurations whose lengths differ by less than a fifth is taken to be of one size."""
MAX_KINDS = 1024

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


class Footprints:
    """The sizes of builds, each kind measured once: looking at all objects of a build takes as long as building it, and
    live streams wait meanwhile."""

    def __init__(self) -> None:
        self._known: OrderedDict[Hashable, int] = OrderedDict()

    def of(self, kind: Hashable, config_bytes: int, measure: Callable[[], int]) -> int:
        """The size of a build of this kind, whose configuration is so long. `measure` is called if none like it was."""
        key = kind, math.floor(math.log2(max(config_bytes, 1)) * STEPS_PER_DOUBLING)
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= MAX_KINDS:
                self._known.popitem(last=False)
            known = self._known[key] = measure()
        else:
            self._known.move_to_end(key)
        return known
