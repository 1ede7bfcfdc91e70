"""Design spaces of a training step: how a model is laid out on a cluster, and with ``codesign`` the cluster too."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from archgym.simulators.llm.costs import design_w
from archgym.simulators.llm.devices import Device
from archgym.simulators.llm.kernels import training as kernel
from archgym.simulators.llm.models import Model
from archgym.space import Constraint, Designs, DesignSpace, Inactive, Mask, Parameter, boolean

PIPELINE = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 15, 16, 18, 20, 21, 24, 28, 30, 32, 35, 40, 42, 48, 64)
ORDERS = ("tp-cp-dp-pp", "tp-cp-pp-dp", "tp-dp-cp-pp")
LAYOUT = (
    Parameter("tp", (1, 2, 4, 8, 16, 32), True, "devices", "tensor parallel degree"),
    Parameter("pp", PIPELINE, True, "stages", "pipeline parallel degree"),
    Parameter("cp", (1, 2, 4, 8, 16), True, "devices", "context parallel degree (dense attention only)"),
    Parameter("ep", (1, 2, 4, 8, 16, 32, 64), True, "devices", "expert parallel degree, inside dp x cp"),
    Parameter("micro_batch", (1, 2, 3, 4, 6, 8, 12, 16, 32), True, "sequences", "sequences of a replica at a time"),
    Parameter("interleaving", (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16), True, "chunks", "model chunks of a stage"),
    Parameter("recompute", ("none", "selective", "full"), False, "", "what the backward pass computes again"),
    Parameter("zero", (0, 1, 2, 3), True, "", "sharded over dp: 1 optimizer, 2 and gradients, 3 and parameters"),
    Parameter("tp_comm", ("ar", "p2p_rs_ag", "rs_ag"), False, "", "tensor-parallel traffic; rs_ag: sequence parallel"),
    Parameter("tp_overlap", ("none", "ring", "pipe"), False, "", "how it overlaps with products"),
    boolean("dp_overlap", "data-parallel traffic behind computation"),
    boolean("ag_redo", "gather activations again in the backward pass instead of keeping them"),
    Parameter("precision", ("bf16", "fp8"), False, "", "type of the matrix products"),
    Parameter("offload", ("none", "optimizer", "optimizer+weights", "all"), False, "", "kept in the host's memory"),
    Parameter("order", ORDERS, False, "", "which axis is innermost on the network"),
)
"""The layout's parameters, in the kernel's order."""
SMALL = ("tp", "pp", "micro_batch", "interleaving", "recompute", "zero", "dp_overlap")
SMALL_FIXED = {"tp_comm": "rs_ag", "tp_overlap": "ring", "ag_redo": True}
"""Values of the space ``small`` that are not the first of their list."""
HARDWARE = (
    Parameter("peak_pflops", (0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.25, 3.0, 4.0), True, "PFLOP/s", "dense bf16 peak"),
    Parameter("fp8_factor", (1, 2), True, "", "fp8 peak over bf16 peak"),
    Parameter("mem_tb_s", (1.0, 1.6, 2.0, 3.35, 4.8, 8.0, 12.0, 16.0), True, "TB/s", "memory bandwidth"),
    Parameter("mem_gb", (16, 24, 48, 80, 96, 141, 192, 288, 384), True, "GB", "memory of a device"),
    Parameter("link_gb_s", (32, 64, 150, 300, 450, 900, 1800), True, "GB/s", "fast link, a device and direction"),
    Parameter("node_devices", (4, 8, 16, 32, 72), True, "devices", "devices that the fast link joins"),
    Parameter("nic_gb_s", (12.5, 25.0, 50.0, 100.0, 200.0), True, "GB/s", "network, a device and direction"),
    Parameter("devices", tuple(2**k for k in range(3, 15)), True, "devices", "devices of the cluster"),
)
"""What ``codesign`` adds."""
SENTENCES = {
    "devices_divide": "tp x pp x cp divides the number of devices",
    "heads_divide": "tp divides the attention heads",
    "kv_heads": "tp divides the key and value heads, or they divide tp (then devices hold copies)",
    "hidden_divide": "tp divides the hidden size",
    "ffn_divide": "tp divides the feed-forward width",
    "layers_divide": "there are at most as many stages as layers, and interleaving divides a stage's layers",
    "batch_divide": "dp x micro-batch divides the global batch",
    "sequence_divide": "cp and, with sequence parallelism, tp divide the sequence; cp is for dense attention",
    "experts_divide": "ep divides the experts and dp x cp",
    "tier_size": "tp fills a fast-link domain in equal parts, or whole domains",
}


class LayoutSpace(DesignSpace):
    """A space of layouts for one workload, with the maps that the kernel decodes rows by.

    Args:
        kind: ``default``, ``small`` or ``codesign``.
        model: the model (its vector decides which parameters have no effect).
        vector: the model's vector.
        cluster: the cluster's vector; in ``codesign`` what the hardware parameters do not say.
        device: its types and size decide what is listed.
    """

    def __init__(
        self, kind: str, model: Model, vector: NDArray[np.float64], cluster: NDArray[np.float64], device: Device
    ) -> None:
        self.kind, self.vector, self.cluster = kind, vector, cluster
        layout = [parameter for parameter in LAYOUT if kind != "small" or parameter.name in SMALL]
        parameters = [*layout, *(HARDWARE if kind == "codesign" else ())]
        names = [parameter.name for parameter in parameters]
        self.columns_of = np.array([names.index(p.name) if p.name in names else -1 for p in LAYOUT], dtype=np.int64)
        self.values = np.zeros((len(LAYOUT), max(len(p) for p in LAYOUT)))
        for j, parameter in enumerate(LAYOUT):
            # Words become their place in the list, which is the kernel's number.
            numeric = all(isinstance(value, int) for value in parameter.values)
            listed = [float(value) if numeric else float(i) for i, value in enumerate(parameter.values)]
            if self.columns_of[j] < 0:
                chosen = SMALL_FIXED.get(parameter.name, parameter.values[0])
                if parameter.name == "ep":
                    chosen = max(e for e in parameter.values if isinstance(e, int) and e <= 8 and _fits(e, model))
                listed = [listed[parameter.index(chosen)]]  # type: ignore[arg-type]
            self.values[j, : len(listed)] = listed
        rules = [Constraint(name, SENTENCES[name], self._rule(bit)) for bit, name in enumerate(kernel.RULES)]
        super().__init__(parameters, rules, self._inactive(names), repair=None)

    def clusters(self, designs: Designs) -> NDArray[np.float64]:
        """The cluster of each design ``(n, 14)``, or the only one ``(1, 14)``."""
        if self.kind != "codesign":
            return self.cluster[None]
        found = np.repeat(self.cluster[None], len(designs), axis=0)
        value = {
            p.name: np.array(p.values, dtype=np.float64)[designs[:, len(LAYOUT) + j]] for j, p in enumerate(HARDWARE)
        }
        found[:, kernel.PEAK_BF16] = value["peak_pflops"] * 1e15
        found[:, kernel.PEAK_FP8] = np.where(value["fp8_factor"] > 1, value["peak_pflops"] * 2e15, 0.0)
        found[:, kernel.PEAK_FP4] = 0.0
        found[:, kernel.MEM] = value["mem_gb"] * 1e9
        found[:, kernel.MEM_RATE] = value["mem_tb_s"] * 1e12
        found[:, kernel.LINK] = value["link_gb_s"] * 1e9
        found[:, kernel.NIC] = value["nic_gb_s"] * 1e9
        found[:, kernel.DOMAIN] = value["node_devices"]
        found[:, kernel.DEVICES] = value["devices"]
        found[:, kernel.TDP] = design_w(value["peak_pflops"] * 1e15)
        return found

    def decoded(
        self, designs: Designs, clusters: NDArray[np.float64] | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Canonical values ``(n, 15)`` as the kernel takes them, and bits of the broken rules ``(n,)``."""
        clusters = self.clusters(designs) if clusters is None else clusters
        made, broken = np.empty((len(designs), len(LAYOUT))), np.empty(len(designs), dtype=np.int64)
        kernel.decode_rows(0, len(designs), self.vector, clusters, self.columns_of, self.values, designs, made, broken)
        return made, broken

    def _rule(self, bit: int) -> Callable[[Designs], Mask]:
        return lambda designs: np.asarray(self.decoded(designs)[1] >> bit & 1 == 0)

    def _inactive(self, names: list[str]) -> list[Inactive]:
        """The rules of the kernel's ``canonical_values``, in the same order."""

        def column(designs: Designs, name: str) -> NDArray[np.float64]:
            j = [p.name for p in LAYOUT].index(name)
            if self.columns_of[j] < 0:
                return np.full(len(designs), self.values[j, 0])
            return np.asarray(self.values[j][designs[:, self.columns_of[j]]])

        def alone(designs: Designs) -> Mask:
            devices = self.clusters(designs)[:, kernel.DEVICES]
            return np.asarray(np.floor(devices / (column(designs, "tp") * column(designs, "pp"))) <= 1)

        dense = self.vector[kernel.EXPERTS] == 0
        fused = self.vector[kernel.UNFUSED] == 0
        rules: list[tuple[str, Callable[[Designs], Mask], str]] = [
            ("ep", lambda d: np.full(len(d), dense), "the model has no experts"),
            ("interleaving", lambda d: column(d, "pp") == 1, "there is no pipeline"),
            (
                "order",
                lambda d: (column(d, "pp") == 1) & (column(d, "order") == kernel.TP_CP_PP_DP),
                "there is no pipeline",
            ),
            ("tp_comm", lambda d: column(d, "tp") == 1, "there is no tensor parallelism"),
            ("tp_overlap", lambda d: column(d, "tp") == 1, "there is no tensor parallelism"),
            (
                "ag_redo",
                lambda d: (column(d, "tp_comm") != kernel.RS_AG) | (column(d, "recompute") == kernel.FULL),
                "only sequence parallelism gathers, and full recomputation gathers anyway",
            ),
            (
                "recompute",
                lambda d: fused & (column(d, "recompute") == kernel.SELECTIVE),
                "fused attention keeps no scores",
            ),
            ("zero", alone, "there is one replica"),
            ("dp_overlap", alone, "there is one replica"),
            (
                "order",
                lambda d: (column(d, "cp") == 1) & (column(d, "order") == kernel.TP_DP_CP_PP),
                "there is no context parallelism",
            ),
        ]
        return [Inactive(name, when, sentence) for name, when, sentence in rules if name in names]


def _fits(ep: int, model: Model) -> bool:
    return (model.experts % ep == 0) if model.experts else ep == 1
