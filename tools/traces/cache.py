"""A last-level cache that turns the accesses of a program, as valgrind's lackey prints them, into requests to memory.

The model: one level, unified, ``sets`` x ``ways`` lines of 64 bytes, least recently used, write-back, write-allocate. A
miss reads its line from memory; a dirty line that has to go is written. An access across the end of a line is two.
"""

from __future__ import annotations

import numpy as np
from numba import njit

LINE_BITS = 6
INSTRUCTION, LOAD, STORE, MODIFY = ord("I"), ord("L"), ord("S"), ord("M")
#: Positions in the state vector.
CLOCK, INSTRUCTIONS, REQUESTS, RECORDING = range(4)


class LastLevelCache:
    """The cache and the requests that it made.

    Args:
        kib, ways: capacity and associativity.
        requests: how many to record; later ones are dropped.
        start_address: recording starts when this instruction is executed; None: with the first instruction.
        start_instructions: recording starts no earlier than at this instruction. The cache runs from the beginning.
    """

    def __init__(
        self, kib: int, ways: int, requests: int, start_address: int | None = None, start_instructions: int = 0
    ) -> None:
        lines = kib * 1024 >> LINE_BITS
        self.sets = lines // ways
        if self.sets * ways != lines or self.sets & (self.sets - 1):
            raise ValueError(f"{kib} KiB in {ways} ways are not a power of two of sets")
        self.tag = np.full((self.sets, ways), -1, np.int64)
        self.used = np.zeros((self.sets, ways), np.int64)
        self.dirty = np.zeros((self.sets, ways), np.bool_)
        self.state = np.zeros(4, np.int64)
        self.start = np.array([-1 if start_address is None else start_address, start_instructions], np.int64)
        self.time = np.empty(requests, np.int64)
        self.line = np.empty(requests, np.int64)
        self.is_write = np.empty(requests, np.bool_)

    @property
    def full(self) -> bool:
        """True when all requests that were asked for are recorded."""
        return int(self.state[REQUESTS]) >= len(self.time)

    @property
    def recorded(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Times in instructions since the start of the recording, line numbers, directions."""
        n = int(self.state[REQUESTS])
        return self.time[:n], self.line[:n], self.is_write[:n]

    def feed(self, text: np.ndarray) -> int:
        """Run the whole lines in ``text`` (uint8); returns how many bytes they are, the rest belongs to the next call."""
        return int(
            _feed(
                text,
                self.sets,
                self.tag,
                self.used,
                self.dirty,
                self.state,
                self.start,
                self.time,
                self.line,
                self.is_write,
            )  # fmt: skip
        )


@njit(cache=True)
def _feed(text, sets, tag, used, dirty, state, start, time, line, is_write):
    position, done = 0, 0
    n = len(text)
    while position < n:
        begin = position
        while position < n and text[position] != 10:
            position += 1
        if position == n:
            break
        position += 1
        done = position
        if text[begin] == 61 or position - begin < 6:  # valgrind's own lines start with ==
            continue
        if text[begin] == INSTRUCTION:
            kind = INSTRUCTION
        elif text[begin] == 32:
            kind = np.int64(text[begin + 1])
        else:
            continue
        i = begin + 3
        address = np.int64(0)
        while text[i] != 44:
            digit = np.int64(text[i])
            address = address << 4 | (digit - 48 if digit < 58 else digit - 87)
            i += 1
        size, i = np.int64(0), i + 1
        while text[i] != 10:
            size, i = size * 10 + np.int64(text[i]) - 48, i + 1
        if kind == INSTRUCTION:
            if not state[RECORDING] and (start[0] < 0 or address == start[0]) and state[INSTRUCTIONS] >= start[1]:
                state[RECORDING], state[INSTRUCTIONS] = 1, 0
            state[INSTRUCTIONS] += 1
        for number in range(address >> LINE_BITS, (address + max(size, 1) - 1 >> LINE_BITS) + 1):
            _access(number, kind == STORE or kind == MODIFY, sets, tag, used, dirty, state, time, line, is_write)
    return done


@njit(cache=True)
def _access(number, write, sets, tag, used, dirty, state, time, line, is_write):
    s = number & (sets - 1)
    state[CLOCK] += 1
    oldest = 0
    for way in range(tag.shape[1]):
        if tag[s, way] == number:
            used[s, way] = state[CLOCK]
            dirty[s, way] |= write
            return
        if used[s, way] < used[s, oldest]:
            oldest = way
    _request(number, False, state, time, line, is_write)
    if dirty[s, oldest]:
        _request(tag[s, oldest], True, state, time, line, is_write)
    tag[s, oldest], used[s, oldest], dirty[s, oldest] = number, state[CLOCK], write


@njit(cache=True)
def _request(number, write, state, time, line, is_write):
    n = state[REQUESTS]
    if state[RECORDING] and n < len(time):
        time[n], line[n], is_write[n] = state[INSTRUCTIONS], number, write
        state[REQUESTS] = n + 1
