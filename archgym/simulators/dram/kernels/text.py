"""Kernels that cut the text of a trace file into tokens and read numbers and words from them."""

# mypy: allow-untyped-defs

from __future__ import annotations

import numpy as np

from archgym.compiling import kernel

NEWLINE = 10


@kernel
def tokenize(text, separates, stop, field, most, skip):
    """Tokens of the lines that hold any.

    Args:
        text: uint8 ``(n,)``.
        separates: bool ``(256,)``, characters between tokens.
        stop: character from which on a line is ignored.
        field: character that ends a field, which may be empty; a newline where tokens are not fields.
        most: tokens kept of a line; further ones are counted up to ``most``.
        skip: first lines with tokens to leave out.

    Returns:
        Line numbers from 1, token counts, begins and ends of the tokens (``(lines, most)``); a missing token is empty.
    """
    n = len(text)
    lines = 1
    for i in range(n):
        lines += text[i] == NEWLINE
    number, count = np.empty(lines, np.int64), np.empty(lines, np.int64)
    begin, end = np.zeros((lines, most), np.int64), np.zeros((lines, most), np.int64)
    kept, line, i, left = 0, 0, 0, skip
    while i < n:
        line += 1
        tokens = 0
        if field != NEWLINE:
            start = i
            while i < n and text[i] != NEWLINE:
                i += 1
            stop_at, blank = i, True
            for k in range(start, i):
                if text[k] == stop:
                    stop_at = k
                    break
            for k in range(start, stop_at):
                blank &= separates[text[k]]
            k = start
            while k <= stop_at and not blank:
                if k == stop_at or text[k] == field:
                    last = k
                    while start < last and separates[text[start]]:
                        start += 1
                    while last > start and separates[text[last - 1]]:
                        last -= 1
                    if tokens < most:
                        begin[kept, tokens], end[kept, tokens] = start, last
                        tokens += 1
                    start = k + 1
                k += 1
        while i < n and text[i] != NEWLINE:
            c = text[i]
            if c == stop:
                while i < n and text[i] != NEWLINE:
                    i += 1
                break
            if separates[c]:
                i += 1
                continue
            start = i
            while i < n and text[i] != NEWLINE and text[i] != stop and not separates[text[i]]:
                i += 1
            if tokens < most:
                begin[kept, tokens], end[kept, tokens] = start, i
                tokens += 1
        i += 1
        if tokens:
            if left:
                left -= 1
                begin[kept], end[kept] = 0, 0
            else:
                number[kept], count[kept] = line, tokens
                kept += 1
    return number[:kept].copy(), count[:kept].copy(), begin[:kept].copy(), end[:kept].copy()


@kernel
def numbers(text, begin, end, hexadecimal):
    """Numbers of tokens, decimal or with 0x (``hexadecimal``: base 16 with or without it).

    Returns:
        Values int64; the index of the first token that is none, -1 where all are; its fault: 0 not a number, 1
        negative, 2 not below 2**63.
    """
    top = np.uint64(2**63 - 1)
    values = np.zeros(len(begin), np.int64)
    for k in range(len(begin)):
        i, stop = begin[k], end[k]
        negative = i < stop and text[i] == ord("-")
        if negative:
            i += 1
        base = np.uint64(16 if hexadecimal else 10)
        if i + 1 < stop and text[i] == ord("0") and (text[i + 1] == ord("x") or text[i + 1] == ord("X")):
            base = np.uint64(16)
            i += 2
        if i >= stop:
            return values, k, 0
        value = np.uint64(0)
        too_large = False
        while i < stop:
            c = text[i]
            digit = np.uint64(99)
            if ord("0") <= c <= ord("9"):
                digit = np.uint64(c - ord("0"))
            elif ord("a") <= c <= ord("f"):
                digit = np.uint64(c - ord("a") + 10)
            elif ord("A") <= c <= ord("F"):
                digit = np.uint64(c - ord("A") + 10)
            if digit >= base:
                return values, k, 0
            if value > (top - digit) // base:
                too_large = True
            value = value * base + digit
            i += 1
        if negative and value > np.uint64(0):
            return values, k, 1
        if too_large:
            return values, k, 2
        values[k] = np.int64(value)
    return values, -1, 0


@kernel
def not_hexadecimal(text, begin, end, by):
    """The index of the first token that is neither empty nor hexadecimal digits, a multiple of ``by`` of them, with or
    without 0x; -1 where there is none."""
    for k in range(len(begin)):
        i, stop = begin[k], end[k]
        if i >= stop:
            continue
        if i + 1 < stop and text[i] == ord("0") and (text[i + 1] == ord("x") or text[i + 1] == ord("X")):
            i += 2
        if i >= stop or (stop - i) % by:
            return k
        while i < stop:
            c = text[i]
            if not (ord("0") <= c <= ord("9") or ord("a") <= c <= ord("f") or ord("A") <= c <= ord("F")):
                return k
            i += 1
    return -1


@kernel
def lookup(text, begin, end, table, ends, values):
    """``values[w]`` of the word w that each token is, -1 where none; ``table`` holds the words, ``ends`` their ends."""
    found = np.full(len(begin), -1, np.int64)
    for k in range(len(begin)):
        size = end[k] - begin[k]
        start = 0
        for w in range(len(ends)):
            if ends[w] - start == size:
                same = True
                for j in range(size):
                    if text[begin[k] + j] != table[start + j]:
                        same = False
                        break
                if same:
                    found[k] = values[w]
                    break
            start = ends[w]
    return found
