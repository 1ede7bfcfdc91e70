"""What the workers of every executor share."""

from __future__ import annotations

from typing import Any

from archgym.studies.spec import RunSpec

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)
"""What BLAS libraries, torch and Numba read for their number of threads when they are loaded."""

ATTEMPTS = 3
"""How often a run is started again that was lost with its process."""


class Lost:
    """Stands for a result that no process lived to give."""


LOST = Lost()


def lost_record(run: RunSpec, study: str) -> dict[str, Any]:
    """The record of a run whose process dies again and again."""
    return {
        "run": run.id,
        "study": study,
        "problem_key": run.problem_key,
        **run.as_dict(),
        "status": "failed",
        "error": "the process that did it died each time (out of memory?)",
    }
