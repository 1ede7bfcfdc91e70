"""Exports: CSV, Parquet, a Hugging Face folder and Croissant metadata. Minari episodes are in archgym.envs.offline."""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv

from archgym.datasets.card import card
from archgym.datasets.dataset import Dataset, DatasetWriter
from archgym.errors import ArchGymError
from archgym.writing import replacing, unwritable, write_json, write_text

Paths = Path | str | Sequence[Path | str]


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """The schema with plain strings for dictionary columns, which every reader knows."""
    return pa.schema([f.with_type(pa.string()) if pa.types.is_dictionary(f.type) else f for f in schema])


def plain_batch(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The batch in the plain schema."""
    arrays = [c.dictionary_decode() if pa.types.is_dictionary(c.type) else c for c in batch.columns]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def columns_table(schema: pa.Schema) -> list[dict[str, str]]:
    """Name, type, role, unit and direction of every column."""
    rows = []
    for f in plain_schema(schema):
        meta = {key.decode(): value.decode() for key, value in (f.metadata or {}).items()}
        rows.append(
            {
                "name": f.name,
                "type": str(f.type),
                "role": meta.get("role", "trial"),
                "unit": meta.get("unit", ""),
                "direction": meta.get("direction", ""),
            }
        )
    return rows


def to_csv(paths: Paths, out: Path) -> dict[str, Any]:
    """One CSV file with a header, and ``<name>.columns.json`` beside it with types, roles and units."""
    dataset = Dataset(paths)
    schema = plain_schema(dataset.schema).remove_metadata()
    out = Path(out)
    rows = 0
    try:
        with replacing(out) as temporary, pacsv.CSVWriter(str(temporary), schema) as writer:
            for batch in dataset.batches():
                writer.write_batch(plain_batch(batch, schema))
                rows += batch.num_rows
        about = write_json(out.with_suffix(".columns.json"), columns_table(dataset.schema))
    except OSError as error:
        raise unwritable(out, error) from None
    return {"out": str(out), "rows": rows, "files": [str(out), str(about)]}


def to_parquet(paths: Paths, out: Path) -> dict[str, Any]:
    """A folder of Parquet files that archgym reads back; no row is dropped."""
    dataset = Dataset(paths)
    about = {"made": {"tool": "export", "sources": [str(path) for path in dataset.paths]}}
    with DatasetWriter(Path(out), dataset.schema, dataset.problems.values(), about) as writer:
        for batch in dataset.batches():
            writer.write(batch)
    return {"out": str(out), "rows": writer.rows, "files": [str(path) for path in writer.files]}


def to_hugging_face(
    paths: Paths, out: Path, *, licence: str = "cc-by-4.0", title: str = "Design trials", trust: bool = False
) -> dict[str, Any]:
    """A folder that ``datasets.load_dataset`` takes as it is: ``data/train-*.parquet`` (plain types), the card with
    its front matter as README.md, and Croissant metadata."""
    dataset = Dataset(paths)
    out = Path(out)
    schema = plain_schema(dataset.schema)
    about = {"made": {"tool": "export", "sources": [str(path) for path in dataset.paths]}}
    with DatasetWriter(out / "data", schema, dataset.problems.values(), about) as writer:
        for batch in dataset.batches():
            writer.write(plain_batch(batch, schema))
    files = []
    for i, path in enumerate(writer.files):
        name = path.with_name(f"train-{i:05d}-of-{len(writer.files):05d}.parquet")
        path.rename(name)
        files.append(name)
    made = card(paths, out, trust=trust, title=title)
    page = out / "README.md"
    write_text(page, _front_matter(dataset, licence, title) + page.read_text(encoding="utf-8"))
    croissant = write_croissant(files, out / "croissant.json", licence=licence, title=title, rows=writer.rows)
    return {
        "out": str(out),
        "rows": writer.rows,
        "files": [str(path) for path in (*files, page, *(p["plot"] for p in made["problems"] if p["plot"]), croissant)],
    }


def _front_matter(dataset: Dataset, licence: str, title: str) -> str:
    size = next(
        (label for limit, label in ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"),
                                    (10**7, "1M<n<10M")) if dataset.rows < limit),
        "10M<n<100M",
    )  # fmt: skip
    return "\n".join(
        [
            "---",
            f"pretty_name: {json.dumps(title)}",
            f"license: {licence}",
            "task_categories:",
            "- tabular-regression",
            "tags:",
            "- design-space-exploration",
            "- computer-architecture",
            "size_categories:",
            f"- {size}",
            "configs:",
            "- config_name: default",
            "  data_files:",
            "  - split: train",
            "    path: data/train-*.parquet",
            "---",
            "",
            "",
        ]
    )


_LICENCES = {
    "cc-by-4.0": "https://creativecommons.org/licenses/by/4.0/",
    "cc0-1.0": "https://creativecommons.org/publicdomain/zero/1.0/",
    "apache-2.0": "https://www.apache.org/licenses/LICENSE-2.0",
    "mit": "https://opensource.org/licenses/MIT",
}

_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
"""The JSON-LD context that the Croissant 1.0 specification prescribes."""


def write_croissant(
    files: Sequence[Path],
    out: Path,
    *,
    licence: str = "cc-by-4.0",
    title: str = "Design trials",
    rows: int | None = None,
    url: str | None = None,
) -> Path:
    """Croissant 1.0 metadata for Parquet files that lie in the folder of ``out`` or below it.

    ``url`` is the data set's home page. Without one the standard's required field names the content instead: the
    SHA-256 of the first file as a URN.
    """
    import pyarrow.parquet as pq

    out = Path(out)
    if not files:
        raise ArchGymError("Croissant metadata needs at least one Parquet file; export to parquet first")
    schema = plain_schema(pq.read_schema(files[0]))
    distribution = []
    record_sets: list[dict[str, Any]] = []
    kinds = {"int64": "sc:Integer", "double": "sc:Float", "bool": "sc:Boolean", "string": "sc:Text"}
    for i, path in enumerate(files):
        name = path.relative_to(out.parent).as_posix()
        identity = f"trials-{i}"
        distribution.append(
            {
                "@type": "cr:FileObject",
                "@id": identity,
                "name": identity,
                "description": f"trials, part {i + 1} of {len(files)}",
                "contentUrl": name,
                "contentSize": f"{path.stat().st_size} B",
                "encodingFormat": "application/x-parquet",
                "sha256": _sha256(path),
            }
        )
        fields = []
        for row, f in zip(columns_table(schema), schema, strict=True):
            unit = f", in {row['unit']}" if row["unit"] else ""
            fields.append(
                {
                    "@type": "cr:Field",
                    "@id": f"{identity}/{row['name']}",
                    "name": row["name"],
                    "description": f"{row['role']}{unit}",
                    "dataType": kinds.get(str(f.type), "sc:Text"),
                    "source": {"fileObject": {"@id": identity}, "extract": {"column": row["name"]}},
                }
            )
        record_sets.append(
            {
                "@type": "cr:RecordSet",
                "@id": f"records-{i}",
                "name": f"records-{i}",
                "description": f"trials, part {i + 1} of {len(files)}",
                "field": fields,
            }
        )
    about = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "name": "".join(c if c.isalnum() else "-" for c in title.lower()),
        "description": f"{title}: evaluated hardware designs, one row a trial"
        + (f", {rows:,} rows" if rows else "")
        + ".",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "license": _LICENCES.get(licence, licence),
        "url": url or f"urn:sha256:{_sha256(files[0])}",
        "version": "1.0.0",
        "datePublished": datetime.date.today().isoformat(),
        "citeAs": f"@misc{{archgym-trials, title={{{title}}}, howpublished={{archgym}}}}",
        "distribution": distribution,
        "recordSet": record_sets,
    }
    return write_json(out, about)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as source:
        while block := source.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def to_croissant(
    paths: Paths, out: Path, *, licence: str = "cc-by-4.0", title: str = "Design trials"
) -> dict[str, Any]:
    """A folder with the trials as Parquet and ``croissant.json`` that describes them."""
    dataset = Dataset(paths)
    schema = plain_schema(dataset.schema)
    made = {"made": {"tool": "export", "sources": [str(path) for path in dataset.paths]}}
    with DatasetWriter(Path(out), schema, dataset.problems.values(), made) as writer:
        for batch in dataset.batches():
            writer.write(plain_batch(batch, schema))
    about = write_croissant(writer.files, Path(out) / "croissant.json", licence=licence, title=title, rows=writer.rows)
    return {"out": str(out), "rows": writer.rows, "files": [*map(str, writer.files), str(about)]}
