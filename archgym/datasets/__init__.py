"""The shared dataset: the trial schema, the crash-safe writer and the reader."""

from archgym.datasets.schema import TrialSchema, hyperparameter_hash
from archgym.datasets.shards import ShardWriter, find_shards, read_shard, read_trials

__all__ = ["ShardWriter", "TrialSchema", "find_shards", "hyperparameter_hash", "read_shard", "read_trials"]
