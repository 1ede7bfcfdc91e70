"""The lines of a trace file, cut into tokens, with a sentence for the first that is not understood."""

from __future__ import annotations

__all__ = ()

import gzip
import lzma
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from archgym.errors import ArchGymError, quote


def check_clock(value: object, what: str) -> float:
    """A clock in MHz, from a comment or an option; ``what`` names it in the sentence about one that is none."""
    try:
        clock = float(value) if not isinstance(value, bool) else 0.0  # type: ignore[arg-type]
    except (TypeError, ValueError):
        clock = 0.0
    if not 1e-3 <= clock <= 1e6:
        raise ArchGymError(f"{what} is {quote(value)}; expected 0.001 to 1,000,000 MHz")
    return clock


class Lines:
    """The lines of a text file that hold something, cut into tokens on demand."""

    def __init__(self, path: Path, text: bytes, hold: bool = False) -> None:
        self.path, self.hold = path, hold
        if text.startswith(b"\xef\xbb\xbf"):
            text = text[3:]
        if not text.strip():
            raise ArchGymError(f"{path} is empty; expected a memory trace")
        self.text = np.frombuffer(text, dtype=np.uint8)
        self.number = np.zeros(0, np.int64)  # of each line that holds something, from 1
        self.count = np.zeros(0, np.int64)  # tokens of each
        self.begin = np.zeros((0, 0), np.int64)
        self.end = self.begin
        self.rows = np.arange(0)  # the lines that are looked at
        self._later: tuple[int, str] | None = None

    def cut(self, separators: str, tokens: int, comment: str = "", field: str = "", skip: int = 0) -> None:
        """Tokens of every line, of each at most ``tokens`` + 1 (so that one too many is seen).

        Args:
            separators: characters between tokens. comment: one from which on a line is ignored. field: one that ends
                a field, which may be empty; separators around fields are dropped. skip: first lines to leave out.
        """
        from archgym.simulators.dram.kernels import text as _text

        separates = np.zeros(256, dtype=np.bool_)
        separates[list(separators.encode() + b"\r")] = True
        stop, end = ord(comment) if comment else 10, ord(field) if field else 10
        self.number, self.count, self.begin, self.end = _text.tokenize(
            self.text, separates, stop, end, tokens + 1, skip
        )
        self.rows = np.arange(len(self.number))
        if not len(self.number):
            raise ArchGymError(f"{self.path} holds no request; expected a memory trace")

    def first(self) -> str:
        """The first line that is neither empty nor a comment."""
        text, begin = bytes(self.text), 0
        while begin < len(text):
            end = text.find(b"\n", begin)
            end = len(text) if end < 0 else end
            line = text[begin : min(end, begin + 400)].strip()
            if line and not line.startswith((b"#", b"==")):
                return line.decode("latin-1")
            begin = end + 1
        return ""

    def stated_clock(self) -> float | None:
        """The clock that a comment before the first request states: ``# clock_mhz=3200``."""
        if self.text[0] != ord("#"):
            return None
        text, begin = bytes(self.text), 0
        while text[begin : begin + 1] == b"#":
            end = text.find(b"\n", begin)
            end = len(text) if end < 0 else end
            match = re.fullmatch(
                r"#\s*clock_mhz\s*[=:](.*)", text[begin : min(end, begin + 400)].decode("latin-1").strip()
            )
            if match:
                return check_clock(match[1].strip(), f"{self.path}: the comment's clock_mhz")
            begin = end + 1
        return None

    def fault(self, index: int, expected: str, found: str | None = None) -> NoReturn:
        """Raise the sentence about line ``index`` (of those that hold something)."""
        number = int(self.number[index])
        if found is None:
            found = self.line(index)
        raise ArchGymError(f"{self.path}, line {number}: found {found!r}, expected {expected}")

    def line(self, index: int) -> str:
        """The text of a line, shortened."""
        begin = int(self.begin[index, 0])
        rest = bytes(self.text[begin : begin + 200]).split(b"\n", 1)[0].decode("utf-8", "replace").strip()
        return rest if len(rest) <= 60 else rest[:57] + "..."

    def token(self, index: int, column: int) -> str:
        """A token's text, shortened."""
        text = bytes(self.text[self.begin[index, column] : self.end[index, column]]).decode("utf-8", "replace")
        return text if len(text) <= 40 else text[:37] + "..."

    def numbers(
        self, column: int | NDArray[np.int64], what: str, hexadecimal: bool = False
    ) -> tuple[NDArray[np.int64], tuple[int, str] | None]:
        """The numbers in a column (one for all lines, or one a line), decimal or 0x (``hexadecimal``: with or without
        0x), and the first fault (line index, expected)."""
        from archgym.simulators.dram.kernels import text as _text

        begin, end = self.begin[self.rows, column], self.end[self.rows, column]
        values, fault, kind = _text.numbers(self.text, begin, end, hexadecimal)
        if fault < 0:
            return values, None
        kinds = ("a number", "a number >= 0", "a number below 2**63")
        return values, (int(fault), f"{kinds[kind]} as {what}{' (hexadecimal)' if hexadecimal else ''}")

    def hexadecimal(self, column: int | NDArray[np.int64], expected: str, by: int = 1) -> tuple[int, str] | None:
        """The first line whose token in a column is there and is no hexadecimal number of any length, as a fault.

        Args:
            by: what the count of digits must be a multiple of.
        """
        from archgym.simulators.dram.kernels import text as _text

        column = np.minimum(column, self.begin.shape[1] - 1)
        begin, end = self.begin[self.rows, column], self.end[self.rows, column]
        fault = int(_text.not_hexadecimal(self.text, begin, end, by))
        return None if fault < 0 else (fault, expected)

    def words(self, column: int | NDArray[np.int64], words: Mapping[str, int]) -> NDArray[np.int64]:
        """The value in ``words`` of the tokens of a column (one for all lines, or one a line), -1 where unknown."""
        from archgym.simulators.dram.kernels import text as _text

        table = np.frombuffer("".join(words).encode(), dtype=np.uint8)
        ends = np.cumsum([len(word) for word in words])
        values = np.array(list(words.values()), np.int64)
        begin, end = self.begin[self.rows, column], self.end[self.rows, column]
        return _text.lookup(self.text, begin, end, table, ends, values)

    def first_fault(self, *faults: tuple[int, str] | None) -> None:
        """Raise the sentence about the first line of ``faults`` (line index, expected)."""
        found = [fault for fault in (*faults, self._later) if fault is not None]
        if found:
            self.fault(*min(found, key=lambda fault: fault[0]))

    def stop_at(self, fault: tuple[int, str] | None) -> None:
        """Look only at the lines before that of ``fault``, which is raised later if none of those has one."""
        if fault is not None:
            self._later, self.rows = fault, np.arange(fault[0])

    def fault_where(self, bad: NDArray[np.bool_], expected: str) -> tuple[int, str] | None:
        """The first line of ``bad`` as a fault."""
        return (int(np.argmax(bad)), expected) if bad.any() else None

    def backwards(self, time: NDArray[np.int64]) -> tuple[int, str] | None:
        """The first line whose time is before that of the line before, as a fault."""
        bad = time[1:] < time[:-1]
        if self.hold or not bad.any():
            return None
        index = int(np.argmax(bad)) + 1
        return index, (
            f"a time of at least {time[index - 1]}, that of the request before; times must not decrease "
            "(backwards='hold' raises them to that)"
        )

    def tokens(self, least: int, most: int, expected: str) -> tuple[int, str] | None:
        """The first line with fewer or more tokens, as a fault; its missing tokens must not be looked at."""
        return self.fault_where((self.count < least) | (self.count > most), expected)


MOST = 1 << 31
"""Bytes of text that are read of a trace, unpacked."""


def load(path: Path, amount: int | None = None) -> tuple[bytes, bool]:
    """The text of a trace file, plain, gzipped or packed by xz, and whether that is all of it.

    Args:
        amount: bytes of text that are enough; what is returned ends with a whole line. None: all.

    Raises:
        ArchGymError: one sentence, for a file that is missing, damaged, or holds more than ``MOST`` bytes.
    """
    limit = MOST if amount is None else min(amount, MOST)
    try:
        with path.open("rb") as file:
            magic = file.read(6)
            file.seek(0)
            if magic[:2] == b"\x1f\x8b":
                with gzip.open(file) as text:
                    content = text.read(limit + 1)
            elif magic == b"\xfd7zXZ\x00":
                with lzma.open(file) as text:
                    content = text.read(limit + 1)
            elif path.suffix in (".gz", ".xz") and magic:
                raise ArchGymError(f"{path} is named {path.suffix} but is not packed so; rename it or compress it")
            else:
                content = file.read(limit + 1)
    except FileNotFoundError:
        raise ArchGymError(f"there is no trace file {path}; give the path of an existing one") from None
    except EOFError:
        raise ArchGymError(f"{path} is a truncated compressed file; expected a complete one") from None
    except (gzip.BadGzipFile, zlib.error, lzma.LZMAError) as error:
        raise ArchGymError(f"{path} is a damaged compressed file ({error}); expected a sound one") from None
    except OSError as error:
        raise ArchGymError(f"cannot read the trace file {path}: {error.strerror or error}") from None
    if len(content) <= limit:
        return content, True
    if amount is None:
        raise ArchGymError(
            f"{path} holds more than {MOST >> 30} GiB of text; read the first N requests of it with requests=N"
        )
    return content[: content.rfind(b"\n", 0, limit) + 1], False
