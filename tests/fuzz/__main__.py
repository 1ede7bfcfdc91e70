"""``make fuzz``: give every reader mutated files until the time is up; what fails is kept under ``out/fuzz``."""

from __future__ import annotations

import argparse
import hashlib
import random
import re
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.fuzz.targets import Fault, judge, targets


def run() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="how long, all readers together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="names of readers, separated by commas")
    parser.add_argument("--out", type=Path, default=Path("out/fuzz"))
    given = parser.parse_args()
    chosen = [t for t in targets() if not given.only or t.name in given.only.split(",")]
    failed = 0
    for target in chosen:
        seed, rng, counts, kinds = target.seed(), random.Random(f"{given.seed} {target.name}"), Counter(), Counter()
        with tempfile.TemporaryDirectory(prefix="archgym-fuzz-") as name:
            assert judge(target, seed, Path(name) / "x", 0), f"{target.name}: its own seed is refused"
            end = time.monotonic() + given.seconds / len(chosen)
            while time.monotonic() < end:
                content = target.mutate(seed, rng)
                try:
                    counts["read" if judge(target, content, Path(name) / "x") else "refused"] += 1
                except Fault as fault:
                    counts["failed"] += 1
                    kind = re.sub(r"[^\w]+", "-", str(fault))[:60]
                    kinds[kind] += 1
                    if kinds[kind] <= 3:
                        given.out.mkdir(parents=True, exist_ok=True)
                        digest = hashlib.sha256(content).hexdigest()[:6]
                        (given.out / f"{target.name}-{kind}-{digest}").write_bytes(content)
        failed += counts["failed"]
        print(f"{target.name}: {dict(counts)}", *(f"\n    {n} x {kind}" for kind, n in kinds.most_common()), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(run())
