"""The one door for files of people and other machines: what it reads, and what it refuses in one sentence."""

import gzip
import json
import pickle
import struct
import time
import tracemalloc
import zipfile
from io import BytesIO

import msgspec
import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from archgym import reading
from archgym.errors import ArchGymError, UnknownNameError
from archgym.reading import checked
from archgym.writing import BARE_EXPONENT, yaml_text

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 63) - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    # PyYAML writes NEL (\x85) and the line separators in ways that its own reader folds, and leaves texts bare that are
    # numbers to YAML 1.2 and here (0E0).
    | st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zl", "Zp"])).filter(
        lambda text: not BARE_EXPONENT.match(text)
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abcdef", min_size=1), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(plain)
def test_what_libraries_write_is_read_back(value):
    assert reading.parse_json(json.dumps(value)) == value
    assert reading.parse_yaml(yaml.safe_dump(value, allow_unicode=True)) == value


@pytest.mark.parametrize("text", ["1e3", "0E0", "-2.5e-3", ".5E1"])
def test_texts_that_look_like_numbers_are_written_as_texts(text):
    assert reading.parse_yaml(yaml_text({"name": text})) == yaml.safe_load(yaml_text({"name": text})) == {"name": text}
    assert reading.parse_yaml(f"name: {text}") == {"name": float(text)}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: 1\nb: 2\na: 3", "holds the key 'a' twice at line 3"),
        ("{a: {b: 1, b: 2}}", "holds the key 'b' twice"),
        ("a: &x [*x]", "alias '*x'"),
        ("a: *b", "alias '*b'"),
        ("a: 99999999999999999999", "beyond 64 bits"),
        ("a: 0x" + "f" * 4000, "beyond 64 bits"),
        ("a: .nan", "not finite"),
        ("a: -.inf", "not finite"),
        ("a: 1e999", "not finite"),
        ("? [1]\n: 2", "as a key at line 1"),
        ("{{include_text('base.yaml')}}\na: 1", "template"),
        ("a: !!python/object/apply:os.system [x]", "tag"),
        ("a: !!binary aGVsbG8=", "tag"),
        ("[" * 100_000, "nested deeper"),
        ("a: [1, 2", "is not YAML at line"),
        ("a: \x00", "is not YAML"),
        ("--- 1\n--- 2\n", "2 documents"),
        ("a: 010", "'010', octal to some readers of YAML"),
        ("a: -0_17", "octal"),
    ],
)
def test_yaml_refusals(text, told):
    with pytest.raises(ArchGymError, match="the study") as error:
        reading.parse_yaml(text, "the study")
    assert told in str(error.value) and len(str(error.value)) <= 300


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"a": 1, "a": 2}', "holds the key 'a' twice"),
        ("[NaN]", "NaN"),
        ("[1e999]", "not finite"),
        ("[-9223372036854775809]", "beyond 64 bits"),
        ("[" * 100_000, "nested deeper"),
        ("[" * 65 + "]" * 65, "nested deeper"),
        ('{"a": "\\ud800"}', "character"),
        ('{"a\\u0000": 1}', "character"),
        ("[1,", "is not JSON"),
        (b"\xff", "is not UTF-8"),
    ],
)
def test_json_refusals(text, told):
    with pytest.raises(ArchGymError) as error:
        reading.parse_json(text, "the file")
    assert told in str(error.value) and len(str(error.value)) <= 300


def test_yaml_keeps_what_people_write():
    text = (
        "rate: 1e-3\nday: 2020-01-01\nclock: [1:30, 1:30.5, 0, 0x10, 0b11, '010']\n"
        "on: yes\nbase: &b {x: 1, y: 2}\nown: {<<: *b, y: 3}\nword: !!str 5\nquoted: '5'\n"
    )
    read = reading.parse_yaml(text)
    assert read["clock"] == ["1:30", "1:30.5", 0, 16, 3, "010"]
    assert read["rate"] == 1e-3 and read["day"] == "2020-01-01" and read[True] is True
    assert read["own"] == {"x": 1, "y": 3} and read["word"] == "5" == read["quoted"]
    assert reading.parse_yaml("") is None and reading.parse_yaml_all("a: 1\n---\nb: 2") == [{"a": 1}, {"b": 2}]
    assert reading.parse_yaml("\ufeffa: 1") == {"a": 1}


def test_aliases_that_multiply_are_refused_at_once():
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    for i in range(1, 15):
        bomb += f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n"
    start = time.process_time()
    with pytest.raises(ArchGymError, match="aliases counted"):
        reading.parse_yaml(bomb)
    assert time.process_time() - start < 1


def test_files_are_bounded_and_named(tmp_path):
    path = tmp_path / "large.yaml"
    path.write_text("a: 1\n" * 10)
    with pytest.raises(ArchGymError, match="larger than"):
        reading.read_text(path, "study", limit=10)
    with pytest.raises(ArchGymError, match="there is no study"):
        reading.read_yaml(tmp_path / "none.yaml", "study")
    with pytest.raises(ArchGymError, match="cannot read the study"):
        reading.read_yaml(tmp_path, "study")
    with pytest.raises(ArchGymError):
        reading.read_yaml("a\0b", "study")


def test_json_lines(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n\n{"a": 2}\n{"a"')
    assert list(reading.read_json_lines(path, torn=True)) == [(1, {"a": 1}), (3, {"a": 2})]
    with pytest.raises(ArchGymError, match="line 4 of the store .*rows.jsonl is not JSON"):
        list(reading.read_json_lines(path, "store"))
    packed = tmp_path / "rows.jsonl.gz"
    packed.write_bytes(gzip.compress(b'{"a": 1}\n' * 1000)[:-12])
    with pytest.raises(ArchGymError, match="no gzip file or a truncated one"):
        list(reading.read_json_lines(packed))
    packed.write_bytes(gzip.compress(b"\n" * (reading.MAX_EMPTY + 2)))
    with pytest.raises(ArchGymError, match="nothing in them"):
        list(reading.read_json_lines(packed))


def _npy(header: str, data: bytes = b"") -> bytes:
    head = header.encode() + b" " * (63 - (10 + len(header)) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + data


def test_arrays_are_read_back(tmp_path):
    arrays = {
        "x": np.arange(12.0).reshape(3, 4),
        "f": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "t": np.array("a"),
    }
    np.savez_compressed(tmp_path / "a.npz", **arrays)
    read = reading.read_arrays(tmp_path / "a.npz")
    assert read.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name], array)
        assert read[name].dtype == array.dtype and read[name].flags.writeable


@pytest.mark.parametrize(
    "content",
    [
        _npy("{'descr': '<f8', 'fortran_order': False, 'shape': (2000000000000,), }"),
        _npy("{'descr': '<f8', 'fortran_order': False, 'shape': (-1,), }", b"\0" * 8),
        _npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", b"\0" * 8),
        _npy("{'descr': '<V0', 'fortran_order': False, 'shape': (0,), }"),
        _npy("__import__('os').system('true')"),
        _npy("(" * 5000),
        b"\x93NUMPY\x09\x00",
        b"",
    ],
)
def test_arrays_that_lie_are_refused(tmp_path, content):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", content)
    with pytest.raises(ArchGymError) as error:
        reading.read_arrays(path, "proxy")
    assert "the array 'x' of the proxy" in str(error.value) and len(str(error.value)) <= 300


def test_an_archive_that_inflates_is_bounded(tmp_path):
    path = tmp_path / "bomb.npz"
    buffer = BytesIO()
    np.save(buffer, np.zeros(8 << 20, np.uint8))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", buffer.getvalue())
    tracemalloc.start()
    with pytest.raises(ArchGymError, match="take more than"):
        reading.read_arrays(path, limit=1 << 20)
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ArchGymError, match="not a whole .npz"):
        reading.read_arrays(path)


class _Agent(msgspec.Struct, forbid_unknown_fields=True):
    agent: str
    budget: int = 1


def test_schemas_say_where_the_fault_is():
    assert reading.checked({"agent": "ga"}, _Agent, "the study") == _Agent("ga")
    for value, told in (
        (
            [{"agent": "ga"}, {"agent": "ga", "budget": True}],
            "[1].budget of the study is True; expected a whole number",
        ),
        ([{"agent": 3}], "[0].agent of the study is 3; expected a text"),
        ([{"agents": "x"}], "did you mean 'agent'"),
        ({}, "the study is {}; expected a list"),
    ):
        with pytest.raises(ArchGymError) as error:
            reading.checked(value, list[_Agent], "the study")
        assert told in str(error.value)


def test_messages_are_short_and_survive_pickling():
    error = UnknownNameError("agent", "x" * 10_000, ["ga", "aco"])
    assert len(str(error)) < 200
    assert len(str(ArchGymError("y " * 10_000))) <= 300
    assert len(str(ArchGymError(f"the value {'z' * 10_000!r} is not known; give a number"))) <= 300
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is UnknownNameError and str(again) == str(error) and again.kind == "agent"


class _Item(msgspec.Struct, forbid_unknown_fields=True):
    depth: int
    sizes: dict[str, list[int]] = {}


class _Whole(msgspec.Struct, forbid_unknown_fields=True):
    families: dict[str, _Item]
    numbers: dict[int, str] = {}


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ({"families": {"a": {"depth": 1}, "b": {"depth": "x"}}}, "families.b.depth of it is 'x'; expected a whole number"),
        ({"families": {"a.b": {"depth": 1, "sizes": {"p": [1], "q": [1, 2.5]}}}}, "families.a.b.sizes.q[1] of it is 2.5;"),
        ({"families": {"a": {"depth": 1}, "b": {}}}, "families.b of it lacks the key 'depth'"),
        ({"families": {"a": {"dept": 1, "depth": 1}}}, "unknown key of families.a of it 'dept'"),
        ({"families": {3: {"depth": 1}}}, "a key of families of it is 3; expected a text"),
        ({"families": {}, "numbers": {"u": "a"}}, "a key of numbers of it is 'u'; expected a whole number"),
        ({"families": {str(i): {"depth": i if i < 99_999 else None} for i in range(100_000)}}, "families.99999.depth of it is None"),
    ],
)  # fmt: skip
def test_a_fault_inside_a_mapping_is_named_with_its_keys(value, sentence):
    with pytest.raises(ArchGymError) as error:
        checked(value, _Whole, "it")
    assert str(error.value).startswith(sentence)
