"""What was simulated once need not be simulated again: a store of evaluations, shared by runs and processes."""

from archgym.store.database import Store, StoreError
from archgym.store.stored import Stored, Tally, chosen_path, default_path, simulating_anew, stored, tally, using

__all__ = [
    "Store",
    "StoreError",
    "Stored",
    "Tally",
    "chosen_path",
    "default_path",
    "simulating_anew",
    "stored",
    "tally",
    "using",
]
