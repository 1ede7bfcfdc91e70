"""Proxies: learned models that stand in for a simulator, behind the same contract.

``make_problem("dram/gzip", simulator="proxy:gzip.proxy.npz")`` is a problem whose metrics come from the proxy. The
words after a question mark choose the mixed mode: ``proxy:FILE?every=10`` (every tenth design, chosen by a hash of
the design), ``?uncertain=0.05`` (designs whose interval is wider than 5 % of the prediction) are evaluated by the true
simulator instead, and ``&retrain=200`` trains the proxy on after every 200 of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from archgym.proxies.simulator import ProxySimulator
    from archgym.simulator import Simulator


def load_proxy(path: str | Path, true_simulator: Simulator) -> ProxySimulator:
    """A simulator that answers from the proxy file ``path`` and stands for ``true_simulator``.

    Raises:
        ArchGymError: where the file is no proxy, or one of another simulator, version or space.
    """
    from archgym.proxies.simulator import ProxySimulator, parse_path

    file, options = parse_path(str(path))
    return ProxySimulator.open(file, true_simulator, **options)


__all__ = ["load_proxy"]
