"""Building the table ``nb201-mnist1d``: train every function class of the cell space, in resumable shards.

    archgym nas build-table --folder SHARDS [--minutes 60] [--device cpu|cuda]
    archgym nas build-table --folder SHARDS --status
    archgym nas build-table --folder SHARDS --shards 0 --assemble table.parquet

Start it as often as there are cores to use: processes share the folder and each takes the next free shard. A
shard is written under a temporary name and renamed when complete; a restart skips finished shards and refuses a
folder of another recipe or other data. ``--base table.parquet`` goes on from a table that is already assembled:
``build`` skips the (class, seed) pairs it holds and ``assemble`` merges them in. Every class is trained once before
any is trained again, in a seeded random order, so that an unfinished table is an unbiased sample of the space; only
a few hundred classes get their second seed early, to measure the seed noise.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from archgym.errors import ArchGymError, UnknownNameError
from archgym.simulators.nas import cells
from archgym.simulators.nas.data import load_data
from archgym.simulators.nas.recipes import TABLE_RECIPE, TABLE_RECIPES
from archgym.simulators.nas.table import read_assembled
from archgym.simulators.nas.trainer import TrainRecipe, TrainResult, train_cell
from archgym.writing import replacing, write_text

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHARD_CLASSES = 64
NOISE_SHARDS = 4  # so many shards of the first seed are trained with the second seed early
NOISE_AFTER = 8  # after so many shards of the first seed


def named_recipe(name: str | None, base: Path | None = None) -> TrainRecipe:
    """The recipe of a table by name; where there is none, that of the table ``base``, else version 2's."""
    if name is None and base is not None:
        return TrainRecipe.from_dict(read_assembled(base)[1]["recipe"])
    name = name or "nb201-mnist1d-v2"
    if name not in TABLE_RECIPES:
        raise UnknownNameError("table recipe", name, TABLE_RECIPES)
    return TABLE_RECIPES[name]


@dataclass(frozen=True)
class Shard:
    """One unit of work: some classes (their representatives' codes) with one seed."""

    name: str
    seed: int
    codes: tuple[int, ...]


def plan(seeds: Sequence[int] = (0, 1, 2), shard_classes: int = SHARD_CLASSES) -> list[Shard]:
    """All shards in the order of work; the dead class is not trained."""
    live = cells.representatives("function")
    live = live[~cells.is_dead(cells.rows(live))]
    order = np.random.default_rng(0).permutation(live)
    blocks = [order[at : at + shard_classes] for at in range(0, len(order), shard_classes)]

    def shard(seed: int, block: int) -> Shard:
        return Shard(f"seed{seed}-{block:04d}", seed, tuple(int(code) for code in blocks[block]))

    result: list[Shard] = []
    for position, seed in enumerate(seeds):
        for block in range(len(blocks)):
            if position == 0 and block == NOISE_AFTER:
                result += [shard(other, early) for other in seeds[1:2] for early in range(min(NOISE_SHARDS, block))]
            candidate = shard(seed, block)
            if all(candidate.name != earlier.name for earlier in result):
                result.append(candidate)
    return result


# --- files -----------------------------------------------------------------------------------------------------------


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(content, indent=1, sort_keys=True) + "\n")


def environment(device: str) -> dict[str, str]:
    """Library versions and the device, for a table's metadata."""
    import numba

    from archgym.measure import machine

    versions = {"python": platform.python_version(), "numpy": np.__version__, "numba": numba.__version__}
    try:
        from importlib.metadata import version

        versions["mnist1d"] = version("mnist1d")
        versions["scipy"] = version("scipy")
    except ImportError:
        pass
    if device == "cpu":
        return {"device": f"{machine()}, one thread a network, shared machine", **versions}
    import torch

    return {"device": torch.cuda.get_device_name(), "torch": torch.__version__, **versions}


def open_folder(folder: Path, recipe: TrainRecipe, data_fingerprint: str, device: str = "cpu") -> dict[str, Any]:
    """The folder's manifest, made where there is none; refuses another recipe or other data."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "manifest.json"
    if not path.exists():
        _write_json(
            path,
            {
                "recipe": recipe.as_dict(),
                "recipe_fingerprint": recipe.fingerprint,
                "data_fingerprint": data_fingerprint,
                "environment": environment(device),
                "shards": {},
            },
        )
    manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if manifest["recipe_fingerprint"] != recipe.fingerprint:
        raise ArchGymError(
            f"{folder} holds shards of recipe {manifest['recipe_fingerprint']}, asked for {recipe.fingerprint}; "
            "use another folder or the folder's recipe"
        )
    if manifest["data_fingerprint"] != data_fingerprint:
        raise ArchGymError(
            f"{folder} was trained on data {manifest['data_fingerprint']}, here the recipe gives {data_fingerprint} "
            "(another version of the generator?); use another folder"
        )
    return manifest


def write_shard(
    folder: Path, shard: Shard, results: Sequence[TrainResult], recipe: TrainRecipe, data_fingerprint: str
) -> Path:
    """Write a finished shard under its name, atomically."""
    path = folder / f"{shard.name}.npz"
    entropies: dict[str, Any] = {
        name: np.array([getattr(result, name) for result in results])
        for name in ("valid_cross_entropy", "test_cross_entropy")
        if all(getattr(result, name) is not None for result in results)
    }
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez(
            file,
            **entropies,
            codes=np.array(shard.codes, dtype=np.int64),
            seed=np.int64(shard.seed),
            valid=np.array([result.valid for result in results]),
            test=np.array([result.test for result in results]),
            loss=np.array([result.loss for result in results]),
            seconds=np.array([result.seconds for result in results]),
            recipe_fingerprint=np.array(recipe.fingerprint),
            data_fingerprint=np.array(data_fingerprint),
        )
    return path


def read_shard(path: Path) -> dict[str, NDArray[Any]]:
    """Arrays of a shard."""
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def finished(folder: Path) -> list[Path]:
    """Complete shards, by name."""
    return sorted(folder.glob("seed*-*.npz"))


def update_manifest(folder: Path) -> None:
    """List the hashes of the finished shards."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    known = manifest["shards"]
    manifest["shards"] = {shard.stem: known.get(shard.stem) or _sha256(shard) for shard in finished(folder)}
    _write_json(path, manifest)


def _claim(folder: Path, shard: Shard) -> Path | None:
    """Take a shard for this process; None where another living process has it."""
    path = folder / f"{shard.name}.claim"
    for _ in range(2):
        try:
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            try:
                os.kill(int(path.read_text() or "0") or os.getpid(), 0)
                return None
            except (ProcessLookupError, FileNotFoundError):
                path.unlink(missing_ok=True)  # its process is gone
            except (ValueError, PermissionError):
                return None
        else:
            with os.fdopen(handle, "w") as file:
                file.write(str(os.getpid()))
            return path
    return None


# --- commands --------------------------------------------------------------------------------------------------------


def build(
    folder: Path,
    recipe: TrainRecipe = TABLE_RECIPE,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    minutes: float | None = None,
    shards: int | None = None,
    device: str = "cpu",
    group: int = 512,
    base: Path | None = None,
    log: Any = None,
) -> int:
    """Work on the shards of ``folder`` until none is left, ``minutes`` have passed or ``shards`` are done.

    Returns the number of shards finished by this call. ``group`` networks are trained at once on a GPU.
    """
    if minutes is not None and not minutes >= 0:
        raise ArchGymError(f"minutes={minutes}: expected 0 or more")
    if device != "cpu":
        from archgym.simulators.nas.torch_trainer import usable_device

        usable_device(device)
    data = load_data(recipe.data)
    have = set()
    if base is not None:
        columns, metadata = read_assembled(base)
        if metadata["recipe_fingerprint"] != recipe.fingerprint or metadata["data_fingerprint"] != data.fingerprint:
            raise ArchGymError(
                f"{base} was made with recipe {metadata['recipe_fingerprint']} and other data or settings"
            )
        have = set(zip(columns["code"].tolist(), columns["seed"].tolist(), strict=True))
    open_folder(folder, recipe, data.fingerprint, device)
    begin, done = time.monotonic(), 0
    for shard in plan(seeds, SHARD_CLASSES if device == "cpu" else group):
        if shards is not None and done >= shards:
            break
        if minutes is not None and time.monotonic() - begin > 60.0 * minutes:
            break
        if (folder / f"{shard.name}.npz").exists():
            # Of a process that was killed after it had written the shard.
            (folder / f"{shard.name}.claim").unlink(missing_ok=True)
            continue
        todo = Shard(shard.name, shard.seed, tuple(code for code in shard.codes if (code, shard.seed) not in have))
        if not todo.codes:
            continue
        claim = _claim(folder, shard)
        if claim is None:
            continue
        try:
            if (folder / f"{shard.name}.npz").exists():
                continue
            started = time.monotonic()
            if device == "cpu":
                results = [train_cell(code, todo.seed, data, recipe) for code in todo.codes]
            else:
                from archgym.simulators.nas.torch_trainer import train_group

                results = train_group([(code, todo.seed) for code in todo.codes], data, recipe, device=device)
            write_shard(folder, todo, results, recipe, data.fingerprint)
            update_manifest(folder)
            done += 1
            if log is not None:
                print(
                    f"{shard.name}: {len(todo.codes)} networks, {time.monotonic() - started:.0f} s, "
                    f"mean test {np.mean([result.test[-1] for result in results]):.2f}",
                    file=log,
                    flush=True,
                )
        finally:
            claim.unlink(missing_ok=True)
    return done


def collect(folder: Path, base: Path | None = None) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Columns of all finished shards (and of ``base``), sorted by (code, seed), with the metadata."""
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    recipe = TrainRecipe.from_dict(manifest["recipe"])
    parts: list[dict[str, NDArray[Any]]] = []
    for path in finished(folder):
        stored = read_shard(path)
        for name in ("recipe_fingerprint", "data_fingerprint"):
            if str(stored[name]) != manifest[name]:
                raise ArchGymError(f"shard {path.name} has {name} {stored[name]}, the manifest {manifest[name]}")
        listed = manifest["shards"].get(path.stem)
        if listed is not None and listed != _sha256(path):
            raise ArchGymError(f"shard {path.name} differs from the hash in the manifest; delete it and build again")
        part: dict[str, NDArray[Any]] = {
            "code": stored["codes"].astype(np.uint16),
            "seed": np.full(len(stored["codes"]), int(stored["seed"]), dtype=np.uint8),
        }
        for k, epoch in enumerate(recipe.checkpoints):
            for split in ("valid", "test"):
                part[f"{split}_e{epoch}"] = np.round(stored[split][:, k] * 100).astype(np.uint16)
                if f"{split}_cross_entropy" in stored and manifest["recipe_fingerprint"] != TABLE_RECIPE.fingerprint:
                    entropy = stored[f"{split}_cross_entropy"][:, k]
                    part[f"{split}_cross_entropy_e{epoch}"] = np.round(entropy, 5).astype(np.float32)
            part[f"seconds_e{epoch}"] = np.round(stored["seconds"][:, k], 3).astype(np.float32)
        part["train_loss"] = np.round(stored["loss"][:, -1], 5).astype(np.float32)
        parts.append(part)
    environments = [manifest["environment"]]
    if base is not None:
        columns, metadata = read_assembled(base)
        if metadata["recipe_fingerprint"] != manifest["recipe_fingerprint"]:
            raise ArchGymError(f"{base} was made with another recipe ({metadata['recipe_fingerprint']})")
        parts.append(columns)
        earlier = metadata.get("environments") or [metadata.get("environment", {})]
        environments = [*earlier, *(one for one in environments if one not in earlier)]
    if not parts:
        raise ArchGymError(f"{folder} has no finished shard; run build first")
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.lexsort((columns["seed"], columns["code"]))
    columns = {name: column[order] for name, column in columns.items()}
    pairs = columns["code"].astype(np.int64) * 256 + columns["seed"]
    if len(np.unique(pairs)) != len(pairs):
        raise ArchGymError(f"{folder} trains a (class, seed) pair twice; the base table overlaps the shards")
    live = int((~cells.is_dead(cells.rows(cells.representatives("function")))).sum())
    seeds = {str(seed): int((columns["seed"] == seed).sum()) for seed in np.unique(columns["seed"])}
    metadata = {
        "name": next((n for n, r in TABLE_RECIPES.items() if r.fingerprint == recipe.fingerprint), "own recipe"),
        "recipe": manifest["recipe"],
        "recipe_fingerprint": manifest["recipe_fingerprint"],
        "data_fingerprint": manifest["data_fingerprint"],
        "environments": environments,
        "live_classes": live,
        "classes_trained": len(np.unique(columns["code"])),
        "networks_by_seed": seeds,
    }
    return columns, metadata


def assemble(folder: Path, output: Path, base: Path | None = None) -> dict[str, Any]:
    """Write the table; equal shards give equal bytes. Returns the metadata."""
    columns, metadata = collect(folder, base)
    write_table(output, columns, metadata)
    return metadata


def write_table(output: Path, columns: Mapping[str, NDArray[Any]], metadata: Mapping[str, Any]) -> None:
    """Columns and metadata as Parquet, under a temporary name first."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({name: pa.array(column) for name, column in columns.items()})
    table = table.replace_schema_metadata({"archgym": json.dumps(metadata, sort_keys=True)})
    with replacing(output) as temporary:
        pq.write_table(table, temporary, compression="zstd", compression_level=15)


def status(folder: Path) -> dict[str, Any]:
    """How far a folder is: networks by seed, classes trained, share of the live classes."""
    _, metadata = collect(folder)
    return {
        "recipe_fingerprint": metadata["recipe_fingerprint"],
        "classes_trained": metadata["classes_trained"],
        "coverage": metadata["classes_trained"] / metadata["live_classes"],
        "networks_by_seed": metadata["networks_by_seed"],
    }
