"""Read what people and other machines give: text, YAML, JSON, lines of JSON and arrays, checked before they are used.

Every reader of the package goes through this module, so that each file meets the same rules:

- a file is read up to a stated size, and nothing is allocated because a file merely claims a size;
- text is UTF-8; repeated keys, numbers that are not finite, whole numbers beyond 64 bits, nesting deeper than
  :data:`MAX_DEPTH`, and aliases that multiply the content are refused;
- nothing in a file is ever run: no pickled objects, no YAML tags beyond those of plain data;
- what was read meets a declared type (:func:`checked`) before anything is computed from it;
- every refusal is one sentence that names the file and the place.
"""

from __future__ import annotations

import csv
import gzip
import json
import math
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, get_args, get_type_hints

from archgym.errors import ArchGymError, UnknownNameError, quote
from archgym.locating import located
from archgym.writing import BARE_EXPONENT

if TYPE_CHECKING:
    import numpy as np

MAX_TEXT = 16 << 20
"""Bytes of a text file that is read whole."""
MAX_LINE = 8 << 20
"""Bytes of one line of JSON."""
MAX_EMPTY = 100_000
"""Lines of a file of JSON lines that hold nothing, or are torn: a small compressed file may hold any number."""
MAX_NODES = 1_000_000
"""Values in one document, every use of an alias counted."""
MAX_DEPTH = 64
"""Levels of nesting in one document."""
MAX_ARRAYS = 1 << 30
"""Bytes that the arrays of one file may take."""

INT_MIN, INT_MAX = -(1 << 63), (1 << 63) - 1


# --- text ------------------------------------------------------------------------------------------------------------


def read_bytes(path: str | Path, what: str = "file", limit: int = MAX_TEXT) -> bytes:
    """The bytes of a file of at most ``limit`` bytes; ``what`` names its kind in errors.

    Raises:
        ArchGymError: the file is missing, cannot be read, or is larger.
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read(limit + 1)
    except FileNotFoundError:
        raise ArchGymError(f"there is no {what} {quote_path(path)}; give the path of a file that exists") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or "not a path"
        raise ArchGymError(f"cannot read the {what} {quote_path(path)}: {reason}") from None
    if len(content) > limit:
        raise ArchGymError(f"the {what} {quote_path(path)} is larger than {limit >> 20} MiB, the most that is read")
    return content


def read_text(path: str | Path, what: str = "file", limit: int = MAX_TEXT) -> str:
    """The UTF-8 text of a file; errors as :func:`read_bytes`."""
    return decode(read_bytes(path, what, limit), f"the {what} {quote_path(path)}")


def decode(content: bytes, where: str) -> str:
    """UTF-8 bytes as text, a leading byte-order mark left out; ``where`` names them in errors."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ArchGymError(f"{where} is not UTF-8 text (byte {error.start} is {content[error.start]:#04x})") from None


def own_file(name: str) -> Path | None:
    """The path in ``file:PATH``, by which people name a file of their own where a name is expected; None for a name."""
    return located(name.removeprefix("file:")) if name.startswith("file:") else None


def name_of(value: Any, where: str) -> str:
    """A name from a file: a text, or a number as text; empty where there is none."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, str | int | float)):
        raise ArchGymError(
            f"the name in {where} is {quote(value, 60)}; expected a text (in quotation marks where it is a word of YAML)"
        )
    return "" if value is None else str(value)


def quote_path(path: object) -> str:
    """A path for a sentence: its end where it is long."""
    text = str(path).replace("\n", " ").replace("\0", " ")
    return text if len(text) <= 120 else "..." + text[-117:]


@contextmanager
def taking_apart(path: object, what: str) -> Iterator[None]:
    """For tables whose fields are checked by being used: what goes wrong with one names the file in one sentence."""
    try:
        yield
    except ArchGymError:
        raise
    except (LookupError, TypeError, ValueError, ArithmeticError, EOFError, zlib.error, csv.Error) as error:
        raise ArchGymError(
            f"the {what} {quote_path(path)} cannot be used: {type(error).__name__} {quote(error, 60)}"
        ) from None


# --- JSON ------------------------------------------------------------------------------------------------------------


class NotJsonError(ArchGymError):
    """The text is no JSON at all, as a line that was cut by a kill is none."""


class _Refused(Exception):
    """What a document may not hold; the message completes a sentence that begins with the document's name."""


def parse_json(text: str | bytes, where: str = "the text") -> Any:
    """The value of a JSON text, under the rules of this module; ``where`` names the text in errors."""
    if isinstance(text, bytes):
        text = decode(text, where)
    try:
        value = _decoder().decode(text)
    except _Refused as error:
        raise ArchGymError(f"{where} {error}") from None
    except RecursionError:
        raise ArchGymError(f"{where} is nested deeper than {MAX_DEPTH} levels") from None
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}" if error.lineno > 1 else f"column {error.colno}"
        raise NotJsonError(f"{where} is not JSON: {error.msg} at {place}") from None
    _walk(value, where, check_text="\\" in text)
    return value


def read_json(path: str | Path, what: str = "JSON file", limit: int = MAX_TEXT) -> Any:
    """The value in a JSON file."""
    return parse_json(read_text(path, what, limit), f"the {what} {quote_path(path)}")


def _decoder() -> json.JSONDecoder:
    return json.JSONDecoder(
        object_pairs_hook=_pairs, parse_int=_whole, parse_float=_finite, parse_constant=_constant, strict=True
    )


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _Refused(f"holds the key {quote(key)} twice in one mapping; keep one of them")
            seen.add(key)
    return made


def _whole(text: str) -> int:
    value = int(text) if len(text) < 22 else INT_MAX + 1
    if not INT_MIN <= value <= INT_MAX:
        raise _Refused(f"holds the whole number {quote(text, 40)}, beyond 64 bits")
    return value


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _Refused(f"holds the number {quote(text, 40)}, which is not finite")
    return value


def _constant(text: str) -> Any:
    raise _Refused(f"holds {text}, which is not a finite number")


def _walk(value: Any, where: str, check_text: bool) -> None:
    """Refuse nesting deeper than allowed, too many values, and texts that no file or terminal can hold."""
    level: list[Any] = [value]
    count = 0
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                if check_text:
                    below.extend(item)
                below.extend(item.values())
            elif isinstance(item, list):
                below.extend(item)
            elif check_text and isinstance(item, str):
                _check_text(item, where)
        if not below:
            return
        level = below
        count += len(level)
        if count > MAX_NODES:
            raise ArchGymError(f"{where} holds more than {MAX_NODES:,} values")
    raise ArchGymError(f"{where} is nested deeper than {MAX_DEPTH} levels")


def _check_text(text: str, where: str) -> None:
    if "\0" in text or (not text.isascii() and re.search("[\ud800-\udfff]", text)):
        raise ArchGymError(f"{where} holds the text {ascii(text)[:80]} with a character that no file can hold")


# --- lines of JSON ---------------------------------------------------------------------------------------------------


def read_json_lines(path: str | Path, what: str = "file", *, torn: bool = False) -> Iterator[tuple[int, Any]]:
    """``(number, value)`` for every line of a file of JSON lines, compressed where its name ends in ``.gz``.

    Args:
        torn: leave out lines that are no JSON: what a writer that was killed leaves behind.

    Raises:
        ArchGymError: at the first line that is not JSON, or longer than :data:`MAX_LINE`; where more than
            :data:`MAX_EMPTY` lines hold nothing.
    """
    path = Path(path)
    name = f"the {what} {quote_path(path)}"
    with path.open("rb") as plain:
        source: BinaryIO | gzip.GzipFile = gzip.GzipFile(fileobj=plain) if path.suffix == ".gz" else plain
        number = empty = 0
        while True:
            if empty > MAX_EMPTY:
                raise ArchGymError(f"{name} holds more than {MAX_EMPTY:,} lines with nothing in them")
            try:
                line = source.readline(MAX_LINE + 1)
            except (EOFError, zlib.error, gzip.BadGzipFile):
                raise ArchGymError(f"{name} is no gzip file or a truncated one; get it again") from None
            if not line:
                return
            number += 1
            if len(line) > MAX_LINE:
                raise ArchGymError(f"line {number} of {name} is longer than {MAX_LINE >> 20} MiB")
            try:
                value = parse_json(line, f"line {number} of {name}") if line.strip() else None
            except NotJsonError:
                if not torn:
                    raise
                value = None
            if value is not None:
                yield number, value
            else:
                empty += 1


# --- YAML ------------------------------------------------------------------------------------------------------------

_TAG = "tag:yaml.org,2002:"


def parse_yaml_all(text: str, where: str = "the text") -> list[Any]:
    """The documents of a YAML text, under the rules of this module; dates stay text, and ``1e-3`` is a number.

    Raises:
        ArchGymError: one sentence that names the line.
    """
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
    try:
        return _YamlReader(loader).documents()
    except _Refused as error:
        raise ArchGymError(f"{where} {error}{_template_hint(text)}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" at line {mark.line + 1}" if mark is not None else ""
        reason = getattr(error, "problem", None) or getattr(error, "reason", None) or "cannot be read"
        hint = _template_hint(text)
        raise ArchGymError(f"{where} is not YAML{place}: {quote(str(reason), 80, marks=False)}{hint}") from None
    finally:
        loader.dispose()


def parse_yaml(text: str, where: str = "the text") -> Any:
    """The one document of a YAML text; None where it is empty."""
    documents = parse_yaml_all(text, where)
    if len(documents) > 1:
        raise ArchGymError(f"{where} holds {len(documents)} documents (lines of '---'); expected one")
    return documents[0] if documents else None


def read_yaml(path: str | Path, what: str = "YAML file", limit: int = MAX_TEXT) -> Any:
    """The one document of a YAML file."""
    return parse_yaml(read_text(path, what, limit), f"the {what} {quote_path(path)}")


def _template_hint(text: str) -> str:
    if "{{" in text or "{%" in text:
        return "; it seems to be a template ({{...}}): run the front end that fills it in first"
    return ""


class _YamlReader:
    """Builds plain data from YAML events, without recursion; PyYAML parses the text and resolves plain scalars."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader
        self.anchors: dict[str, tuple[Any, int, int]] = {}  # value, nodes and depth below it
        self.nodes = 0

    def documents(self) -> list[Any]:
        import yaml

        made: list[Any] = []
        # One entry a mapping or sequence that is open: (container, anchor, nodes before it, pending key, merges, depth).
        stack: list[_Open] = []
        while self.loader.check_event():
            event = self.loader.get_event()
            if isinstance(event, yaml.DocumentStartEvent):
                self.anchors.clear()
                continue
            if isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
                mapping = isinstance(event, yaml.MappingStartEvent)
                if event.tag not in (None, "!", _TAG + ("map" if mapping else "seq")):
                    raise _Refused(f"has the tag {quote(event.tag)}{_line(event)}; expected plain data")
                if len(stack) >= MAX_DEPTH:
                    raise _Refused(f"is nested deeper than {MAX_DEPTH} levels{_line(event)}")
                stack.append(_Open({} if mapping else [], event, self.nodes))
                self._count(1)
                continue
            if isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
                closed = stack.pop()
                value, depth = closed.finish(), closed.depth
                if closed.event.anchor:
                    self.anchors[closed.event.anchor] = (value, self.nodes - closed.before, depth)
                event = closed.event
            elif isinstance(event, yaml.AliasEvent):
                value, depth = self._alias(event)
                if len(stack) + depth > MAX_DEPTH:
                    raise _Refused(f"is nested deeper than {MAX_DEPTH} levels{_line(event)}")
            elif isinstance(event, yaml.ScalarEvent):
                self._count(1)
                value, depth = self._scalar(event), 0
                if event.anchor:
                    self.anchors[event.anchor] = (value, 1, 0)
            else:
                continue
            if stack:
                stack[-1].add(value, depth, event)
            else:
                made.append(value)
        return made

    def _count(self, nodes: int) -> None:
        self.nodes += nodes
        if self.nodes > MAX_NODES:
            raise _Refused(f"holds more than {MAX_NODES:,} values, aliases counted")

    def _alias(self, event: Any) -> tuple[Any, int]:
        if event.anchor not in self.anchors:
            raise _Refused(f"has the alias {quote('*' + event.anchor)}{_line(event)} of an anchor not closed before it")
        value, nodes, depth = self.anchors[event.anchor]
        self._count(nodes)
        return value, depth

    def _scalar(self, event: Any) -> Any:
        import yaml

        text, tag = event.value, event.tag
        if tag is None or tag == "!":
            if tag == "!" or not event.implicit[0]:
                return text
            if BARE_EXPONENT.match(text):
                tag = _TAG + "float"
            else:
                tag = self.loader.resolve(yaml.ScalarNode, text, event.implicit)
        kind = tag.removeprefix(_TAG)
        if kind in ("str", "timestamp", "merge", "value"):
            return _MERGE if kind == "merge" else text
        try:
            return _plain(kind, text, self.loader)
        except (ValueError, OverflowError, KeyError, IndexError):
            raise _Refused(f"holds {quote(text, 40)}{_line(event)}, which is no {kind}") from None
        except _Refused as error:
            raise _Refused(f"{error}{_line(event)}") from None


def _plain(kind: str, text: str, loader: Any) -> Any:
    import yaml

    if kind == "null":
        return None
    if kind == "int":
        if len(text) > 80:
            raise _Refused(f"holds the whole number {quote(text, 40)}, beyond 64 bits")
        if ":" in text:  # minutes and seconds to YAML 1.1, a text to everybody
            return text
        if re.match(r"[-+]?0[0-9_]+\Z", text):
            raise _Refused(
                f"holds {quote(text, 40)}, octal to some readers of YAML and decimal to others; write it without the 0"
            )
        value = loader.construct_yaml_int(yaml.ScalarNode(_TAG + kind, text))
        if not INT_MIN <= value <= INT_MAX:
            raise _Refused(f"holds the whole number {quote(text, 40)}, beyond 64 bits")
        return value
    if kind == "float":
        if ":" in text:
            return text
        number = loader.construct_yaml_float(yaml.ScalarNode(_TAG + kind, text))
        if not math.isfinite(number):
            raise _Refused(f"holds the number {quote(text, 40)}, which is not finite")
        return number
    if kind == "bool":
        return loader.bool_values[text.lower()]
    raise _Refused(f"has the tag {quote(kind)}; expected plain data")


_MERGE = object()  # the key <<


class _Open:
    """A mapping or sequence whose end has not come yet."""

    def __init__(self, made: Any, event: Any, before: int) -> None:
        self.made, self.event, self.before = made, event, before
        self.depth = 1
        self.key: Any = None
        self.wants_key = True
        self.merged: list[Mapping[Any, Any]] = []

    def add(self, value: Any, depth: int, event: Any) -> None:
        self.depth = max(self.depth, depth + 1)
        if isinstance(self.made, list):
            if value is _MERGE:
                value = "<<"
            self.made.append(value)
        elif self.wants_key:
            if isinstance(value, dict | list):
                raise _Refused(f"has a mapping or a list as a key{_line(event)}; expected a name")
            if value is not _MERGE and value in self.made:
                raise _Refused(f"holds the key {quote(value)} twice{_line(event)}; keep one of them")
            self.key, self.wants_key = value, False
        else:
            if self.key is _MERGE:
                parts = value if isinstance(value, list) else [value]
                if not all(isinstance(part, dict) for part in parts):
                    raise _Refused(f"merges (<<) what is no mapping{_line(event)}")
                self.merged += parts
            else:
                self.made[self.key] = "<<" if value is _MERGE else value
            self.wants_key = True

    def finish(self) -> Any:
        """The content; of merged mappings (``<<``) the first wins, and what stands here wins over all of them."""
        for part in self.merged:
            for key, value in part.items():
                self.made.setdefault(key, value)
        return self.made


def _line(event: Any) -> str:
    mark = event.start_mark
    return f" at line {mark.line + 1}" if mark is not None else ""


# --- arrays ----------------------------------------------------------------------------------------------------------


def read_arrays(path: str | Path, what: str = "file", limit: int = MAX_ARRAYS) -> dict[str, np.ndarray]:
    """The arrays of an ``.npz`` file by name, without objects; not more memory is taken than the file's content fills.

    Raises:
        ArchGymError: the file is no such archive, is damaged, holds objects, or its arrays take more than ``limit``.
    """
    name = f"the {what} {quote_path(path)}"
    content = read_bytes(path, what, limit)
    arrays: dict[str, np.ndarray] = {}
    left = limit
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            for entry in archive.infolist():
                key = entry.filename.removesuffix(".npy")
                if key in arrays:
                    raise ArchGymError(f"{name} holds the array {quote(key)} twice")
                with archive.open(entry) as source:
                    raw = source.read(left + 1)
                if len(raw) > left:
                    raise ArchGymError(f"the arrays of {name} take more than {limit >> 20} MiB, the most that is read")
                left -= len(raw)
                arrays[key] = parse_array(raw, f"the array {quote(key)} of {name}")
    except ArchGymError:
        raise
    except Exception as error:  # zipfile, zlib, lzma and struct all raise their own for damage
        raise ArchGymError(f"{name} is not a whole .npz archive ({type(error).__name__})") from None
    return arrays


def parse_array(content: bytes, where: str = "the array") -> np.ndarray:
    """The array in the bytes of an ``.npy`` file; shapes that the content does not fill are refused."""
    import numpy as np
    from numpy.lib import format as npy

    source = BytesIO(content)
    try:
        version = npy.read_magic(source)
        read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
        shape, fortran, dtype = read(source)
    except Exception as error:  # NumPy evaluates the header as a literal: ValueError, SyntaxError, TypeError, ...
        raise ArchGymError(f"{where} has no header of an .npy file ({type(error).__name__})") from None
    if dtype.kind not in "biufSU" or dtype.hasobject or dtype.itemsize == 0:
        raise ArchGymError(f"{where} has the type {quote(str(dtype), 40)}; expected plain numbers or text")
    data = memoryview(content)[source.tell() :]
    if any(size < 0 for size in shape) or math.prod(shape) * dtype.itemsize != len(data):
        raise ArchGymError(
            f"{where} claims the shape {quote(str(shape), 40, marks=False)}, but holds {len(data)} bytes"
        )
    array = np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
    return array.copy()


# --- schemas ---------------------------------------------------------------------------------------------------------


def checked(value: Any, kind: Any, where: str) -> Any:
    """``value``, read from a file, as the type ``kind`` (a ``msgspec.Struct``, a dataclass, or any annotation).

    Types are not coerced: a text is no number, and a truth value is no whole number. Unknown fields are refused where
    the ``Struct`` says ``forbid_unknown_fields=True``. ``where`` names the value in errors.

    Raises:
        ArchGymError: one sentence with the place of the first fault, such as ``agents[2].budget``.
    """
    import msgspec

    try:
        return msgspec.convert(value, kind, strict=True)
    except msgspec.ValidationError as error:
        raise _refusal(str(error), value, kind, where) from None
    except RecursionError:
        raise ArchGymError(f"{where} is nested too deeply") from None


_KINDS = {"int": "a whole number", "float": "a number", "str": "a text", "bool": "true or false", "null": "nothing"}
_KINDS |= {"array": "a list", "object": "a mapping"}


def _refusal(text: str, value: Any, kind: Any, where: str) -> ArchGymError:
    """msgspec's ``Expected `int`, got `str` - at `$.agents[2].budget` `` as one of our sentences, with what was given."""
    reason, _, place = text.partition(" - at ")
    of_key = place.startswith("`key` in ")
    place, given, found = _at(value, kind, text, place.removeprefix("`key` in ").strip("`").removeprefix("$"), of_key)
    about = f"{quote(place, 80, marks=False)} of {where}" if place else where
    unknown = re.match(r"Object contains unknown field `(.*)`", reason, re.DOTALL)
    if unknown:
        return UnknownNameError(f"key of {about}", unknown[1], [name for name in _fields(kind) if name != unknown[1]])
    missing = re.match(r"Object missing required field `(.*)`", reason)
    if missing:
        return ArchGymError(f"{about} lacks the key {missing[1]!r}")
    wanted = re.match(r"Expected (.*?)(?:, got `.*`)?$", reason, re.DOTALL)
    if wanted:
        expected = re.sub(r"`([a-z |]+)`", _plain_kinds, wanted[1].replace("length", "a length"))
        about = f"a key of {about}" if of_key else about
        got = f"{about} is {quote(given, 60)}" if found else f"{about} is something else"
        return ArchGymError(f"{got}; expected {quote(expected, 120, marks=False)}")
    return ArchGymError(f"{about}: {quote(reason.replace('`', ''), 160, marks=False)}")


def _plain_kinds(found: re.Match[str]) -> str:
    return " or ".join(_KINDS.get(name.strip(), name.strip()) for name in found[1].split("|"))


def _fields(kind: Any) -> list[str]:
    """Names of the fields of every ``Struct`` in an annotation."""
    found: list[str] = []
    todo, seen = [kind], set()
    while todo:
        item = todo.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        todo += get_args(item)
        if hasattr(item, "__struct_fields__"):
            found += item.__struct_encode_fields__
            todo += get_type_hints(item, include_extras=True).values()
    return found


def _at(value: Any, kind: Any, text: str, place: str, of_key: bool) -> tuple[str, Any, bool]:
    """The place of a fault with the keys that msgspec leaves out of it (``families[...].depth``), and what is there, or which
    key of what is there is at fault; False where that is not found."""
    path: list[Any] = []
    item, said = value, ""
    try:
        for step in re.finditer(r"\[(\.\.\.)\]|\[(\d+)\]|([^.\[\]]+)", place):
            key = _key(value, path, item, kind, text) if step[1] else step[3] or int(step[2])
            item = item[key]
            path.append(key)
            said += f"[{key}]" if isinstance(key, int) else f".{key}"
        return said.lstrip("."), _key(value, path, item, kind, text) if of_key else item, True
    except (LookupError, TypeError):
        return place.lstrip("."), None, False


def _key(value: Any, path: list[Any], mapping: Any, kind: Any, text: str) -> Any:
    """The key of the ``mapping`` at a path of ``value`` whose value alone is refused by the same words as the whole.

    Raises:
        LookupError: there is none.
    """
    import msgspec

    def refused(keys: list[Any]) -> bool:
        try:
            msgspec.convert(_with(value, path, {key: mapping[key] for key in keys}), kind, strict=True)
        except msgspec.ValidationError as error:
            return str(error) == text
        return False

    keys = list(mapping)
    while len(keys) > 1:  # by halves: files may hold very many
        first = keys[: len(keys) // 2]
        keys = first if refused(first) else keys[len(first) :]
    if not keys or not refused(keys):
        raise LookupError(text)
    return keys[0]


def _with(value: Any, path: list[Any], part: Any) -> Any:
    """A copy of ``value`` with another part at a path."""
    if not path:
        return part
    copy = dict(value) if isinstance(value, Mapping) else list(value)
    copy[path[0]] = _with(value[path[0]], path[1:], part)
    return copy
