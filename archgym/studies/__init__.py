"""Many runs: agents x hyperparameters x problems x seeds, on one machine or a cluster, and their statistics."""

from archgym.studies.spec import RunSpec, StudySpec, load_spec, parse_spec, ready_studies
from archgym.studies.store import Study
from archgym.studies.study import StudyResult, run_study

__all__ = ["RunSpec", "Study", "StudyResult", "StudySpec", "load_spec", "parse_spec", "ready_studies", "run_study"]
