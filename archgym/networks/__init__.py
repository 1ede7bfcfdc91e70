"""Networks as lists of layers: the catalogue, and the readers of files and of PyTorch models.

Shared by every simulator that runs a network: accelerator, mapping, systolic, codesign and the real back-ends.
"""

from archgym.networks.catalogue import Catalogue, names, network
from archgym.networks.layers import DIMS, Layer, Network, conv, gemm

__all__ = ["DIMS", "Catalogue", "Layer", "Network", "conv", "gemm", "names", "network"]
