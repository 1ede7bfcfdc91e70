"""The shared dataset: the trial schema, the crash-safe writer, readers and tools."""

from archgym.datasets.dataset import Dataset, DatasetWriter, read_trials
from archgym.datasets.schema import TrialSchema, hyperparameter_hash
from archgym.datasets.shards import ShardWriter, find_shards, read_shard

__all__ = [
    "Dataset",
    "DatasetWriter",
    "ShardWriter",
    "TrialSchema",
    "find_shards",
    "hyperparameter_hash",
    "read_shard",
    "read_trials",
]
