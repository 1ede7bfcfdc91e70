"""Design spaces of serving: what a server's designer chooses, the rules between the choices, and what has no effect."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archgym.simulators.llm.costs import Costs, design_w
from archgym.simulators.llm.devices import ELEMENT_BYTES, Device
from archgym.simulators.llm.iteration import cache_blocks
from archgym.simulators.llm.models import Model
from archgym.simulators.llm.requests import RequestTrace
from archgym.space import Constraint, Designs, DesignSpace, Inactive, Mask, Parameter, boolean

POLICIES = ("mixed", "chunked", "prompts_first", "orca")
ROUTERS = ("round_robin", "least_waiting", "least_tokens")
WEIGHTS = ("bf16", "fp8", "fp4")
CACHES = ("bf16", "fp8")
WATERMARK = 0.01
"""Share of memory blocks that newcomers leave free (``chunked``, ``prompts_first``)."""
DEFAULTS: dict[str, Any] = {
    "tp": 1, "pp": 1, "mode": "aggregated", "prefill_share": 0.125, "prefill_tp": 1, "policy": "mixed", "budget": 2048,
    "max_running": 256, "block": 16, "kv_fraction": 0.9, "weights": "bf16", "kv": "bf16", "router": "round_robin",
    "prefix_cache": True, "dp_attention": 1, "ep": 1,
}  # fmt: skip
"""What a space takes for the parameters that it leaves out."""
DEVICE_COLUMNS = (
    "bf16_flops",
    "fp8_flops",
    "fp4_flops",
    "bandwidth",
    "memory",
    "link",
    "node_devices",
    "nic",
    "devices",
)


def _parameters() -> list[Parameter]:
    return [
        Parameter("tp", (1, 2, 4, 8), True, "devices", "tensor-parallel degree of an instance"),
        Parameter("pp", (1, 2, 4), True, "stages", "pipeline stages of an instance"),
        Parameter(
            "mode", ("aggregated", "disaggregated"), False, "", "prompts and answers on the same or on own instances"
        ),
        Parameter(
            "prefill_share", tuple(k / 8 for k in range(1, 8)), True, "", "share of the devices that process prompts"
        ),
        Parameter("prefill_tp", (1, 2, 4, 8), True, "devices", "tensor-parallel degree of prefilling instances"),
        Parameter("policy", POLICIES, False, "", "batching: vLLM v1, Sarathi, vLLM of 2023, Orca"),
        Parameter("budget", tuple(2**k for k in range(7, 15)), True, "tokens", "tokens an iteration may hold"),
        Parameter("max_running", tuple(2**k for k in range(3, 11)), True, "requests", "requests that run at a time"),
        Parameter("block", (8, 16, 32), True, "tokens", "tokens of a memory block"),
        Parameter(
            "kv_fraction", (0.70, 0.80, 0.85, 0.90, 0.95), True, "", "share of the memory left by weights for the cache"
        ),
        Parameter("weights", WEIGHTS, False, "", "data type of weights"),
        Parameter("kv", CACHES, False, "", "data type of the cache of keys and values"),
        Parameter("router", ROUTERS, False, "", "how requests are spread over instances"),
        boolean("prefix_cache", "blocks given up are found again while nobody took them"),
        Parameter("dp_attention", (1, 2, 4, 8), True, "ranks", "data-parallel ranks of attention (experts only)"),
        Parameter("ep", (1, 2, 4, 8, 16, 32), True, "devices", "expert parallelism over an instance (experts only)"),
    ]


SMALL = ("tp", "policy", "budget", "max_running", "kv_fraction", "router")


def _device_parameters() -> list[Parameter]:
    peaks = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.25, 3.0, 4.0)
    sizes = (16, 24, 48, 80, 96, 141, 192, 288, 384)
    return [
        Parameter("peak_pflops", peaks, True, "PFLOP/s", "dense bf16 peak of a device"),
        Parameter("fp8_factor", (1, 2), True, "", "fp8 peak over bf16 peak; 1: no fp8"),
        Parameter(
            "bandwidth_tb_s", (1.0, 1.6, 2.0, 3.35, 4.8, 8.0, 12.0, 16.0), True, "TB/s", "memory bandwidth of a device"
        ),
        Parameter("memory_gb", sizes, True, "GB", "memory of a device"),
        Parameter("link_gb_s", (32, 64, 150, 300, 450, 900, 1800), True, "GB/s", "fast link, one direction"),
        Parameter("node_devices", (4, 8, 16, 32, 72), True, "devices", "devices that the fast link joins"),
        Parameter("nic_gb_s", (12.5, 25.0, 50.0, 100.0, 200.0), True, "GB/s", "network of a device, one direction"),
        Parameter("devices", tuple(2**k for k in range(3, 15)), True, "devices", "devices in all"),
    ]


class ServingSpace(DesignSpace):
    """The space of a model, a trace and devices; constraints in their fixed order.

    Args:
        kind: ``default``, ``small`` or ``codesign``.
        model, trace, device, devices: what is served, where.
        costs: coefficients of cost and power.
        budget_usd, budget_w: one-sided budgets on all devices together; None for none.
    """

    def __init__(
        self,
        kind: str,
        model: Model,
        trace: RequestTrace,
        device: Device,
        devices: int,
        costs: Costs,
        budget_usd: float | None = None,
        budget_w: float | None = None,
    ) -> None:
        self.kind, self.model, self.device, self.devices_given, self.costs = kind, model, device, devices, costs
        self.budget_usd, self.budget_w = budget_usd, budget_w
        self.longest = int((trace.prompt_tokens + trace.output_tokens).max())
        parameters = _parameters()
        if kind == "small":
            parameters = [p for p in parameters if p.name in SMALL]
        elif kind == "codesign":
            parameters += _device_parameters()
        self._tables = {p.name: _table(p) for p in parameters}
        self._columns = {p.name: j for j, p in enumerate(parameters)}
        super().__init__(parameters, self._constraints(), self._inactive(parameters))

    # --- values ------------------------------------------------------------------------------------------------------

    def values(self, designs: Designs, name: str) -> NDArray[Any]:
        """One parameter's values, ``(n,)``: numbers as they are, kinds as indices; the default where the space leaves
        the parameter out."""
        if name in self._columns:
            return np.asarray(self._tables[name][designs[:, self._columns[name]]])
        known = {p.name: p for p in _parameters()}[name]
        value = _table(known)[known.index(DEFAULTS[name])]
        return np.full(len(designs), value)

    def hardware(self, designs: Designs) -> dict[str, NDArray[np.float64]]:
        """Figures of the devices of each design (``DEVICE_COLUMNS``), in FLOP/s, bytes/s, bytes and devices."""
        n, d = len(designs), self.device
        if self.kind != "codesign":
            given = (
                d.bf16_flops, d.fp8_flops, d.fp4_flops, d.mem_bytes_per_s, d.mem_bytes, d.link_bytes_per_s,
                d.domain_devices, d.nic_bytes_per_s, self.devices_given,
            )  # fmt: skip
            return {name: np.broadcast_to(np.float64(x), n) for name, x in zip(DEVICE_COLUMNS, given, strict=True)}
        peak = self.values(designs, "peak_pflops") * 1e15
        factor = self.values(designs, "fp8_factor")
        return {
            "bf16_flops": peak,
            "fp8_flops": np.where(factor > 1, peak * factor, 0.0),
            "fp4_flops": np.zeros(n),
            "bandwidth": self.values(designs, "bandwidth_tb_s") * 1e12,
            "memory": self.values(designs, "memory_gb") * 1e9,
            "link": self.values(designs, "link_gb_s") * 1e9,
            "node_devices": self.values(designs, "node_devices").astype(np.float64),
            "nic": self.values(designs, "nic_gb_s") * 1e9,
            "devices": self.values(designs, "devices").astype(np.float64),
        }

    def split(self, designs: Designs) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Devices of a decoding instance, and how many decoding and prefilling instances there are (fractions where
        degrees do not divide); no prefilling ones where aggregated."""
        all_devices = self.hardware(designs)["devices"]
        apart = self.values(designs, "mode") == 1
        feeding = np.where(apart, all_devices * self.values(designs, "prefill_share"), 0.0)
        size = (self.values(designs, "tp") * self.values(designs, "pp") * self._ranks(designs)).astype(np.float64)
        feeder = self.values(designs, "prefill_tp").astype(np.float64) * self._ranks(designs)
        return size, (all_devices - feeding) / size, feeding / feeder

    def _ranks(self, designs: Designs) -> NDArray[np.int64]:
        """Attention's data-parallel ranks; one for models without experts."""
        if not self.model.moe_layers:
            return np.ones(len(designs), np.int64)
        return np.asarray(self.values(designs, "dp_attention"))

    def expert_parallel(self, designs: Designs) -> NDArray[np.int64]:
        """Expert parallelism; one for models without experts."""
        if not self.model.moe_layers:
            return np.ones(len(designs), np.int64)
        return np.asarray(self.values(designs, "ep"))

    def ranks(self, designs: Designs) -> NDArray[np.int64]:
        """Attention's data-parallel ranks of an instance."""
        return self._ranks(designs)

    def blocks(self, designs: Designs, feeder: bool = False) -> NDArray[np.float64]:
        """Memory blocks of one attention rank of a decoding (or prefilling) instance, ``(n,)``."""
        tp = self.values(designs, "prefill_tp" if feeder else "tp")
        pp = 1 if feeder else self.values(designs, "pp")
        weights = np.array([ELEMENT_BYTES[w] for w in WEIGHTS])[self.values(designs, "weights")]
        cache = np.array([ELEMENT_BYTES[k] for k in CACHES])[self.values(designs, "kv")]
        return cache_blocks(
            self.model, self.hardware(designs)["memory"], self.values(designs, "kv_fraction"),
            self.values(designs, "block"), tp, self._ranks(designs), pp, weights, cache,
        )  # fmt: skip

    def price(self, designs: Designs) -> NDArray[np.float64]:
        """Price of all devices, USD."""
        h = self.hardware(designs)
        one = self.costs.device_usd(h["bf16_flops"], h["bandwidth"], h["memory"], h["link"], h["nic"])
        return np.asarray(one * h["devices"])

    def device_power(self, designs: Designs) -> NDArray[np.float64]:
        """Power limit of one device, W."""
        if self.kind != "codesign":
            return np.full(len(designs), float(self.device.tdp_w))
        return design_w(self.hardware(designs)["bf16_flops"])

    # --- rules ---------------------------------------------------------------------------------------------------------

    def _constraints(self) -> list[Constraint]:
        rules: list[tuple[str, str, Callable[[Designs], Mask]]] = [
            (
                "devices_divide",
                "the devices that decode divide into instances of tp * pp * dp_attention, those that prefill into "
                "instances of prefill_tp * dp_attention, and there is one of each that is asked for",
                self._devices_divide,
            ),
            (
                "heads_divide",
                "tp and prefill_tp divide the attention heads",
                lambda x: self._both(x, lambda tp: self.model.heads % tp == 0),
            ),
            (
                "ffn_divide",
                "tp and prefill_tp divide the inner width of dense feed-forward layers",
                lambda x: self._both(
                    x, lambda tp: (self.model.ffn % tp == 0) | (self.model.moe_layers == self.model.layers)
                ),
            ),
            (
                "experts_divide",
                "ep divides the experts and the devices of an instance's stage, which divide the experts' inner width",
                self._experts_divide,
            ),
            (
                "tier_size",
                "the devices of an instance's stage lie on one fast link",
                self._tier_size,
            ),
            (
                "memory_capacity",
                "the weights and the runtime leave some of a device's memory",
                lambda x: self._both_blocks(x, 1.0),
            ),
            (
                "precision_supported",
                "the device computes in the type of the weights, and in fp8 where the cache is fp8",
                self._precision,
            ),
            (
                "kv_capacity",
                f"the cache holds the longest request ({self.longest:,} tokens) and the policy's reserve",
                self._capacity,
            ),
            (
                "budget_prompt",
                "under prompts_first a batch holds the longest request, which a restart makes a prompt",
                lambda x: (self.values(x, "policy") != 2) | (self.values(x, "budget") >= self.longest),
            ),
        ]
        if self.budget_usd is not None:
            limit = self.budget_usd
            rules.append(
                ("budget_cost", f"all devices cost at most {limit:g} USD at assumed prices",
                 lambda x: self.price(x) <= limit)
            )  # fmt: skip
        if self.budget_w is not None:
            watts = self.budget_w
            rules.append(
                ("budget_power", f"the power limits of all devices add to at most {watts:g} W",
                 lambda x: self.device_power(x) * self.hardware(x)["devices"] <= watts)
            )  # fmt: skip
        return [Constraint(*rule) for rule in rules]

    def _apart(self, designs: Designs) -> Mask:
        return np.asarray(self.values(designs, "mode") == 1)

    def _both(self, designs: Designs, rule: Callable[[NDArray[Any]], Any]) -> Mask:
        """A rule on tp, and on prefill_tp where disaggregated."""
        return np.asarray(
            rule(self.values(designs, "tp")) & (~self._apart(designs) | rule(self.values(designs, "prefill_tp")))
        )

    def _both_blocks(self, designs: Designs, least: Any) -> Mask:
        feeding = ~self._apart(designs) | (self.blocks(designs, feeder=True) >= least)
        return np.asarray((self.blocks(designs) >= least) & feeding)

    def _devices_divide(self, designs: Designs) -> Mask:
        _, decoding, feeding = self.split(designs)
        whole = (decoding >= 1) & (decoding == np.floor(decoding)) & (feeding == np.floor(feeding))
        return np.asarray(whole & (~self._apart(designs) | (feeding >= 1)))

    def _experts_divide(self, designs: Designs) -> Mask:
        if not self.model.moe_layers:
            return np.ones(len(designs), dtype=bool)
        ep, ranks = self.expert_parallel(designs), self._ranks(designs)

        def rule(tp: NDArray[Any]) -> Any:
            stage = tp * ranks
            inner = np.maximum(stage // ep, 1)
            return (self.model.experts % ep == 0) & (stage % ep == 0) & (self.model.expert_ffn % inner == 0)

        return self._both(designs, rule)

    def _tier_size(self, designs: Designs) -> Mask:
        joined, ranks = self.hardware(designs)["node_devices"], self._ranks(designs)
        return self._both(designs, lambda tp: tp * ranks <= joined)

    def _precision(self, designs: Designs) -> Mask:
        h, kind = self.hardware(designs), self.values(designs, "weights")
        peak = np.choose(kind, [h["bf16_flops"], h["fp8_flops"], h["fp4_flops"]])
        return np.asarray((peak > 0) & ((self.values(designs, "kv") == 0) | (h["fp8_flops"] > 0)))

    def needed_blocks(self, designs: Designs) -> NDArray[np.float64]:
        """Blocks that the longest request takes."""
        return np.ceil(self.longest / self.values(designs, "block"))

    def _capacity(self, designs: Designs) -> Mask:
        policy, blocks = self.values(designs, "policy"), self.blocks(designs)
        # The reference's rule wants a block free beyond those in use, and newcomers leave some.
        reserve = np.where((policy == 1) | (policy == 2), 1 + np.floor(WATERMARK * blocks), 0.0)
        feeding = ~self._apart(designs) | (self.blocks(designs, feeder=True) >= self.needed_blocks(designs))
        return np.asarray((blocks - reserve >= self.needed_blocks(designs)) & feeding)

    def _inactive(self, parameters: list[Parameter]) -> list[Inactive]:
        have = {p.name for p in parameters}
        dense = not self.model.moe_layers
        rules = [
            Inactive("prefill_share", lambda x: ~self._apart(x), "all instances do both"),
            Inactive("prefill_tp", lambda x: ~self._apart(x), "all instances do both"),
            Inactive("budget", self._no_budget, "orca takes whole prompts, and no instance prefills with a budget"),
            Inactive(
                "prefix_cache",
                lambda x: (self.values(x, "policy") != 0) & ~self._apart(x),
                "only mixed batching finds blocks again",
            ),
            Inactive("dp_attention", lambda x: np.full(len(x), dense), "the model has no experts"),
            Inactive("ep", lambda x: np.full(len(x), dense), "the model has no experts"),
            Inactive("router", self._no_choice, "there is one instance to give a request to"),
        ]
        return [rule for rule in rules if rule.parameter in have]

    def _no_budget(self, designs: Designs) -> Mask:
        return np.asarray((self.values(designs, "policy") == 3) & ~self._apart(designs))

    def _no_choice(self, designs: Designs) -> Mask:
        _, decoding, feeding = self.split(designs)
        return np.asarray((decoding < 2) & (feeding < 2))


def _table(parameter: Parameter) -> NDArray[Any]:
    """A parameter's values as an array: numbers and booleans as they are, kinds as indices."""
    if isinstance(parameter.values[0], str):
        return np.arange(len(parameter.values))
    return np.array(parameter.values)


def best_device(device: Device, figures: Mapping[str, float]) -> Device:
    """A designed device: the given one with other figures (``DEVICE_COLUMNS``)."""
    from dataclasses import replace

    joined = int(figures["node_devices"])
    return replace(
        device,
        bf16_flops=figures["bf16_flops"],
        fp8_flops=figures["fp8_flops"],
        fp4_flops=figures["fp4_flops"],
        mem_bytes=figures["memory"],
        mem_bytes_per_s=figures["bandwidth"],
        link_bytes_per_s=figures["link"],
        nic_bytes_per_s=figures["nic"],
        node_devices=joined,
        domain_devices=joined,
    )
