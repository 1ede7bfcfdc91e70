"""Differentiable search: a network in which every edge is a mixture of all operations, and the gradient of its weights'
and of its mixture's loss. See :mod:`archgym.simulators.nas.differentiable.search`."""
