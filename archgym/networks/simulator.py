"""What every simulator that runs a network shares: where its workloads come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from archgym import networks
from archgym.errors import ArchGymError
from archgym.networks.layers import Network
from archgym.options import Option, options_of
from archgym.reading import own_file
from archgym.simulator import OWN_PYTHON, Simulator, Workload


def _reader(name: str) -> Callable[..., Network]:
    """Who reads a network of a Python file of the user's own."""
    if name.startswith("arch:"):
        from archgym.networks import arch_file

        return arch_file.network_of
    from archgym.networks import torch_file

    return torch_file.network_of


def own_network(name: str, **options: Any) -> Network:
    """The network of ``torch:FILE.py:NAME`` or ``arch:FILE.py:NAME``. It runs FILE.py."""
    return _reader(name)(name, **options)


def network_options(name: str) -> dict[str, Option]:
    """The options of a network by name, ``batch`` left out, which every network takes."""
    if name.startswith(OWN_PYTHON):
        return options_of(_reader(name), ["name"])
    if own_file(name) is not None:
        from archgym.networks.readers import FORMATS, read_network

        return options_of(read_network, ["path"], {"format": FORMATS})
    return options_of(networks.network, ["name", "batch"])


class NetworkSimulator(Simulator):
    """Base of the simulators whose workloads are networks."""

    def workloads(self) -> Mapping[str, Workload]:
        return networks.Catalogue()

    def load_workload(self, name: str, **options: Any) -> Workload:
        """A network.

        Args:
            name: of the catalogue, ``file:PATH`` for a file that describes the layers (see
                :mod:`archgym.networks.readers`), ``torch:FILE.py:NAME`` for a PyTorch model of the user's own (see
                :mod:`archgym.networks.torch_file`), or ``arch:FILE.py:NAME`` for a design of an architecture space
                (see :mod:`archgym.networks.arch_file`). The last two run FILE.py.
            options: ``batch``; for transformers of the catalogue ``context``; for PyTorch models ``input``, the
                example input's shape, and ``left_out``, operations that are to count nothing; for architecture spaces
                ``design``, ``input`` and ``classes``.
        """
        if name.startswith(OWN_PYTHON):
            batch = options.pop("batch", 1)
            return own_network(name, **options).with_batch(batch)
        if (path := own_file(name)) is not None:
            return self.read_workload(path, **options)
        return networks.network(name, **options)

    def workload_options(self, name: str) -> Mapping[str, Option]:
        return {"batch": Option(int, 1), **network_options(name)}

    def read_workload(self, path: Path, **options: Any) -> Workload:
        from archgym.networks.readers import read_network

        batch = options.pop("batch", 1)
        return read_network(path, **options).with_batch(batch)

    def check_network(self, workload: Workload) -> Network:
        """``workload`` where it is a network; else one sentence."""
        if not isinstance(workload, Network):
            raise ArchGymError(
                f"{self.name} works on a network, not on a {type(workload).__name__}; use load_workload()"
            )
        return workload
