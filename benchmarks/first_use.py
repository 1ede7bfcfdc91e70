"""What compiling costs at first use: ``python benchmarks/first_use.py dram/gzip ranks=2``.

Prints the processor seconds of making the problem and evaluating two designs with an empty cache, and of which functions'
compiling they are; a function with several versions is compiled for several kinds of arguments.
"""

import os
import sys
import tempfile
import time
from collections import Counter

cache = tempfile.TemporaryDirectory()
os.environ["NUMBA_CACHE_DIR"] = cache.name

from numba.core import event  # noqa: E402

from archgym.problem import make_problem  # noqa: E402


class Clock(event.Listener):
    """Processor seconds of compiling each function, without those that it calls, and how often."""

    def __init__(self) -> None:
        self.spent: Counter[str] = Counter()
        self.versions: Counter[str] = Counter()
        self.open: list[list[float]] = []

    def on_start(self, about: event.Event) -> None:
        self.open.append([time.process_time(), 0.0])

    def on_end(self, about: event.Event) -> None:
        start, inside = self.open.pop()
        whole = time.process_time() - start
        if self.open:
            self.open[-1][1] += whole
        function = about.data["dispatcher"].py_func
        name = f"{function.__module__}.{function.__qualname__}"
        self.spent[name] += whole - inside
        self.versions[name] += 1


def main(name: str, *options: str) -> None:
    clock = Clock()
    event.register("numba:compile", clock)
    start = time.process_time()
    problem = make_problem(
        name, **{key: int(value) if value.isdigit() else value for key, _, value in (o.partition("=") for o in options)}
    )
    problem.evaluate(problem.space.sample(2, 0))
    print(f"{time.process_time() - start:.1f} s, of which compiling {sum(clock.spent.values()):.1f} s")
    for function, seconds in clock.spent.most_common(20):
        print(f"{seconds:6.2f} s  {clock.versions[function]} x {function}")


if __name__ == "__main__":
    main(*sys.argv[1:])
