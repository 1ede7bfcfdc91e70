"""Files from anywhere: truncated, foreign, of another version, or made to harm."""

import json
import pickle
import struct
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archgym.datasets.dataset import Dataset
from archgym.datasets.merge import merge
from archgym.datasets.verify import info, verify
from archgym.errors import ArchGymError


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("something in the file was executed",))


@pytest.fixture(scope="session")
def merged(trials, tmp_path_factory):
    out = tmp_path_factory.mktemp("merged") / "m"
    merge([trials], out)
    return out / "trials-00000.parquet"


def refuse(path, words=""):
    with pytest.raises(ArchGymError) as caught:
        dataset = Dataset(path)
        for _ in dataset.batches():
            pass
    message = str(caught.value)
    assert str(path) in message and words in message and "\n" not in message
    return message


@pytest.mark.parametrize("suffix", [".arrows", ".parquet"])
@pytest.mark.parametrize(
    "content",
    [b"", b"PAR1", b"PK\x03\x04" + b"\0" * 40, b"a,b\n1,2\n", pickle.dumps(Bomb()), b"\xff" * 4096, bytes(5000)],
)
def test_foreign_bytes_are_refused(tmp_path, suffix, content):
    path = tmp_path / f"x{suffix}"
    path.write_bytes(content)
    refuse(path)


def test_foreign_tables_are_refused(tmp_path):
    table = pa.table({"a": [1, 2]})
    pq.write_table(table, tmp_path / "x.parquet")
    refuse(tmp_path / "x.parquet", "no archgym trials")
    with pa.ipc.new_stream(str(tmp_path / "x.arrows"), table.schema) as writer:
        writer.write_table(table)
    refuse(tmp_path / "x.arrows", "no archgym trials")


def with_metadata(source, target, edit):
    table = pq.read_table(source)
    about = json.loads(table.schema.metadata[b"archgym"])
    edit(about)
    pq.write_table(table.replace_schema_metadata({"archgym": json.dumps(about)}), target)
    return target


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda a: a.update(format=99), "format 99"),
        (lambda a: a.update(format="1"), "format 1"),
        (lambda a: a.pop("problems"), "lacks the key 'problems'"),
        (lambda a: a.update(problems=[]), "is []; expected a list of a length >= 1"),
        (lambda a: a.update(problems=[1]), "is 1; expected a mapping"),
        (lambda a: a["problems"][0].pop("metrics"), "lacks the key 'metrics'"),
        (lambda a: a["problems"][0].update(metrics=[["time_ns"]]), "problems[0].metrics[0] of the metadata"),
        (lambda a: a["problems"][0].update(metrics=["nothing"]), "lacks the column 'nothing'"),
        (lambda a: a["problems"][0].update(options="not json"), "the options in the metadata"),
        (lambda a: a["problems"][0].update(options="[1]"), "is [1]; expected a mapping"),
    ],
)
def test_bad_metadata_is_refused(merged, tmp_path, edit, words):
    path = with_metadata(merged, tmp_path / "x.parquet", edit)
    with pytest.raises(ArchGymError) as caught:
        Dataset(path)
    assert words in str(caught.value) and "x.parquet" in str(caught.value) and "\n" not in str(caught.value)


def test_rows_of_an_undeclared_problem_are_refused(merged, tmp_path):
    path = with_metadata(merged, tmp_path / "x.parquet", lambda a: a["problems"].pop())
    with pytest.raises(ArchGymError, match="does not declare"):
        info(path)


def test_nested_and_extension_columns_are_refused(merged, tmp_path):
    table = pq.read_table(merged)
    for name, column in (
        ("list", pa.array([[1]] * len(table))),
        ("uuid", pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"0" * 16] * len(table), pa.binary(16)))),
    ):
        path = tmp_path / f"{name}.parquet"
        pq.write_table(table.append_column(name, column), path)
        refuse(path)


def test_a_truncated_parquet_file_is_refused(merged, tmp_path):
    content = merged.read_bytes()
    for keep in (4, 100, len(content) // 2, len(content) - 1):
        path = tmp_path / f"{keep}.parquet"
        path.write_bytes(content[:keep])
        refuse(path)


def test_a_torn_shard_is_read_to_its_last_whole_batch(trials, tmp_path):
    source = next(iter(sorted(trials.glob("*ga*.arrows"))))
    content = source.read_bytes()
    whole = Dataset(source).rows
    path = tmp_path / "torn.arrows"
    path.write_bytes(content[: len(content) - 200])
    dataset = Dataset(path)
    assert 0 < dataset.rows < whole and dataset.files[0].note
    found = verify(path, sample=20)
    assert "file end" in [check["name"] for check in found["checks"] if not check["holds"]]
    assert merge([path], tmp_path / "m")["torn_files"]


def test_an_open_run_is_noted(trials, tmp_path):
    content = next(iter(sorted(trials.glob("*ga*.arrows")))).read_bytes()
    path = tmp_path / "open.arrows"
    path.write_bytes(content[:-8])
    dataset = Dataset(path)
    assert dataset.rows == Dataset(trials).files[0].rows or dataset.rows > 0
    assert "not closed" in dataset.files[0].note


def test_a_shard_that_claims_a_huge_message_costs_no_memory(trials, tmp_path):
    content = bytearray(next(iter(sorted(trials.glob("*.arrows")))).read_bytes())
    path = tmp_path / "huge.arrows"
    path.write_bytes(bytes(content[:-8]) + struct.pack("<iI", -1, 0x7FFFFFF0))
    dataset = Dataset(path)
    assert dataset.rows > 0 and dataset.files[0].note


def check_flipped(data, source: Path, path: Path) -> None:
    """A copy with a few bytes changed at random ends in rows or in one sentence."""
    content = bytearray(source.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content))
    try:
        info(path)
        verify(path, sample=4)
    except ArchGymError as error:
        sentence = str(error)
    else:
        sentence = ""
    assert "\n" not in sentence


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_flipped_bytes_never_crash(trials, tmp_path_factory, data):
    """Whatever a byte becomes, reading ends in rows or in one sentence."""
    check_flipped(data, sorted(trials.glob("*ga*.arrows"))[0], tmp_path_factory.mktemp("flip") / "x.arrows")


@pytest.mark.parametrize("change", ["name", "role"])
def test_a_metric_under_another_name_or_role_is_reported(trials, tmp_path, change):
    """The file itself says which columns are metrics; the installed simulator may know others."""
    source = sorted(trials.glob("*ga*.arrows"))[0]
    with pa.ipc.open_stream(source) as reader:
        table = reader.read_all()
    position = table.schema.get_field_index("time_ns")
    field = table.schema.field(position)
    field = (
        field.with_name("rime_ns") if change == "name" else field.with_metadata({**field.metadata, b"role": b"note"})
    )
    schema = table.schema.set(position, field)
    path = tmp_path / "x.arrows"
    with pa.ipc.new_stream(str(path), schema) as writer:
        writer.write_table(pa.Table.from_arrays(table.columns, schema=schema))
    failed = {check["name"]: check["detail"] for check in verify(path, sample=4)["checks"] if not check["holds"]}
    assert "'time_ns'" in failed["simulate again"] and "time_ns" in failed["units"]


def test_data_does_not_choose_what_is_run(merged, tmp_path):
    """A dataset may name stand-ins, files or external programs: none is touched without --trust."""
    for about, words in (
        ({"problem": "toy/file:/etc/passwd"}, "--trust"),
        ({"problem": "toy/torch:model.py:net"}, "--trust"),
        ({"options": json.dumps({"simulator": "proxy:/tmp/x"})}, "--trust"),
        ({"options": json.dumps({"binary": "file:/bin/sh"})}, "--trust"),
    ):
        table = pq.read_table(merged)
        meta = json.loads(table.schema.metadata[b"archgym"])
        for row in meta["problems"]:
            row.update(about)
        for name, value in about.items():
            column = pa.array([value] * len(table)).dictionary_encode()
            table = table.set_column(table.column_names.index(name), table.schema.field(name), column)
        if "problem" in about:
            meta["problems"] = meta["problems"][:1]
            objective = pa.array([meta["problems"][0]["objective"]] * len(table)).dictionary_encode()
            table = table.set_column(table.column_names.index("objective"), table.schema.field("objective"), objective)
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.parquet"
        pq.write_table(table.replace_schema_metadata({"archgym": json.dumps(meta)}), path)
        found = verify(path, sample=4)
        assert all(words in p["note"] and p["simulated"] == 0 for p in found["problems"])


def test_a_row_group_that_claims_too_much_is_refused(merged, monkeypatch):
    import archgym.datasets.files as module

    monkeypatch.setattr(module, "_LIMIT_ROW_GROUP", 10)
    refuse(merged, "claims")


def test_empty_folders_say_so(tmp_path):
    with pytest.raises(ArchGymError, match="holds no trials"):
        Dataset(tmp_path)
    with pytest.raises(ArchGymError, match="does not exist"):
        Dataset(tmp_path / "nothing")


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_flipped_bytes_of_parquet_never_crash(merged, tmp_path_factory, data):
    """Our own files carry checksums; those of other writers may carry none."""
    source = merged
    if data.draw(st.booleans()):
        source = tmp_path_factory.mktemp("flip") / "plain.parquet"
        pq.write_table(pq.read_table(merged), source)
    check_flipped(data, source, tmp_path_factory.mktemp("flip") / "x.parquet")


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("seed", ["zero"]),
        ("reward", ["much"]),
        ("feasible", [1]),
        ("violation", [0]),
        ("time_ns", [True]),
        ("run", [7]),
    ],
)
def test_columns_of_another_type_are_refused(merged, tmp_path, name, column):
    table = pq.read_table(merged)
    position = table.schema.get_field_index(name)
    table = table.set_column(
        position, table.schema.field(position).with_type(pa.array(column).type), pa.array(column * len(table))
    )
    pq.write_table(table, tmp_path / "x.parquet")
    assert f"column {name!r} has the type" in refuse(tmp_path / "x.parquet")


def test_a_damaged_value_is_found_by_its_checksum(merged, tmp_path):
    """A value of which one bit has changed is still a number."""
    source = pq.ParquetFile(merged).metadata.row_group(0)
    column = next(source.column(i) for i in range(source.num_columns) if source.column(i).path_in_schema == "reward")
    content = bytearray(merged.read_bytes())
    # The last byte of a column is one of its last page's values; one further on could be a page's header.
    first = column.dictionary_page_offset if column.has_dictionary_page else column.data_page_offset
    content[first + column.total_compressed_size - 1] ^= 1
    path = tmp_path / "x.parquet"
    path.write_bytes(bytes(content))
    assert "damaged" in refuse(path)


def test_rows_that_name_no_problem_are_refused(merged, tmp_path):
    table = pq.read_table(merged)
    position = table.schema.get_field_index("problem")
    words = [None, *table.column("problem").to_pylist()[1:]]
    pq.write_table(table.set_column(position, "problem", pa.array(words)), tmp_path / "x.parquet")
    for use in (info, verify, lambda path: merge([path], tmp_path / "m")):
        with pytest.raises(ArchGymError, match="without a value in 'problem'"):
            use(tmp_path / "x.parquet")


def test_small_dictionaries_of_other_writers_are_read(merged, tmp_path):
    """Indices of eight bits leave no room for a code that means null."""
    table = pq.read_table(merged)
    for position, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            for kind in (pa.int8(), pa.uint8()):
                column = table.column(position).cast(pa.dictionary(kind, pa.string()))
                table = table.set_column(position, field.with_type(column.type), column)
    pq.write_table(table, tmp_path / "x.parquet")
    assert verify(tmp_path / "x.parquet", sample=4)["holds"]
