# mypy: ignore-errors
"""The last-level cache of :mod:`archgym.simulators.dram.traces.cache`, access by access."""

from __future__ import annotations

import numpy as np

from archgym.compiling import inner, kernel

LINE_BITS = 6
INSTRUCTION, STORE, MODIFY = ord("I"), ord("S"), ord("M")
#: Positions in the state vector.
CLOCK, INSTRUCTIONS, REQUESTS, RECORDING = range(4)


@kernel
def feed(text, sets, tag, used, dirty, state, start, time, line, is_write):
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


@inner
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


@inner
def _request(number, write, state, time, line, is_write):
    n = state[REQUESTS]
    if state[RECORDING] and n < len(time):
        time[n], line[n], is_write[n] = state[INSTRUCTIONS], number, write
        state[REQUESTS] = n + 1


@kernel
def run(instruction, address, size, write, sets, tag, used, dirty, state, time, line, is_write):
    """Accesses at the given counts of instructions, until the records are full."""
    state[RECORDING] = 1
    for k in range(len(address)):
        if state[REQUESTS] == len(time):
            return
        state[INSTRUCTIONS] = instruction[k]
        for number in range(address[k] >> LINE_BITS, (address[k] + max(size[k], 1) - 1 >> LINE_BITS) + 1):
            _access(number, write[k], sets, tag, used, dirty, state, time, line, is_write)
