"""Choose the reference rows that come with the tests: a few of every kind out of a folder of recorded runs.

    python tools/choose_reference.py REFERENCE tests/reference

Every file keeps its form, so that ``archgym validate NAME --ref tests/reference/NAME`` reads it.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any

TRACES = ("x02_hot", "x03_bursty", "x11_streams")


def packed(path: Path, text: str) -> None:
    """Write a gzip file that depends on ``text`` alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode(), 9, mtime=0))


def rows(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def table(chosen: list[dict[str, str]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(chosen[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(chosen)
    return text.getvalue()


def main(source: Path, target: Path) -> None:
    dram = [row for row in rows(source / "dram" / "dramsys40_wide.csv.gz") if row["trace"] in TRACES]
    packed(target / "dram" / "dramsys40_wide.csv.gz", table(dram))
    for name in TRACES:
        (target / "dram" / "traces").mkdir(exist_ok=True)
        shutil.copyfile(source / "dram" / "traces" / f"{name}.csv.gz", target / "dram" / "traces" / f"{name}.csv.gz")

    accelerator = source / "accelerator"
    packed(target / "accelerator" / "scalesim_closed_form.csv.gz",
           table(rows(accelerator / "scalesim_closed_form.csv.gz")[::7]))  # fmt: skip
    usable = [row for row in rows(accelerator / "maestro_gamma_runs.csv.gz") if row["macs_ok"] == "1"]
    packed(target / "accelerator" / "maestro_gamma_runs.csv.gz", table(usable[::9]))
    with gzip.open(accelerator / "timeloop_random_cases.json.gz", "rt", encoding="utf-8") as file:
        cases: list[Any] = json.load(file)
    packed(target / "accelerator" / "timeloop_random_cases.json.gz", json.dumps(cases[::6]))

    runs = json.loads((source / "soc" / "farsi_runs.json").read_text(encoding="utf-8"))
    (target / "soc").mkdir(parents=True, exist_ok=True)
    text = json.dumps(runs[::3], separators=(",", ":"))
    (target / "soc" / "farsi_runs.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
