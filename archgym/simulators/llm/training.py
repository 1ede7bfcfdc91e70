"""The training problem: how to lay one optimisation step of a model out on a cluster, and which cluster to build."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from functools import cache, cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archgym.errors import ArchGymError, UnknownNameError, quote
from archgym.locating import located
from archgym.objective import Objective, log_ratio
from archgym.options import Option, check_given, options_of
from archgym.simulator import Evaluation, Metric, Simulator, Workload, remembered
from archgym.simulators.llm import devices as device_catalogue
from archgym.simulators.llm import models as model_catalogue
from archgym.simulators.llm.calculon import VERDICTS, ExecutionSpace, packed_systems, read_system
from archgym.simulators.llm.costs import costs as read_costs
from archgym.simulators.llm.devices import Device
from archgym.simulators.llm.kernels import training as kernel
from archgym.simulators.llm.kernels.calculon import RESULTS
from archgym.simulators.llm.models import Model
from archgym.simulators.llm.operators import folder_digest, table_folder
from archgym.simulators.llm.training_model import SOFTWARE, StepModel, cluster_vector
from archgym.simulators.llm.training_spaces import LayoutSpace
from archgym.space import DesignSpace

TOKENS_A_DEVICE = 16384
"""Tokens of a step a device where the workload's name does not say how many: what published runs have."""
NAMED = (
    "llama3.1-8b@8xh100",
    "llama3.1-70b@64xh100",
    "llama3.1-405b@1024xh100",
    "gpt3-13b@64xa100",
    "gpt3-175b@1024xa100",
    "llama2-7b@8xa100",
    "llama2-13b@16xa100",
    "llama2-70b@64xa100",
    "qwen3-32b@64xh200",
    "mixtral-8x7b@64xh100",
    "mixtral-8x22b@128xh100",
    "qwen3-30b-a3b@16xh100",
    "qwen3-235b-a22b@256xh200",
    "deepseek-v3@1024xh100",
    "minimax-m2.5@256xh200",
    "gpt-oss-120b@64xb200",
)
"""Workloads that are listed; any ``MODEL@NxDEVICE`` is one."""
DRAWN_DEVICES = ("a100", "h100", "h200", "b200")
"""Devices of workloads that are drawn at random."""
_NAME = re.compile(r"(?P<model>.+)@(?P<devices>\d{1,6})x(?P<device>.+)")


class TrainingWorkload(Workload):
    """One optimisation step: a model, sequences of ``sequence`` tokens, ``batch`` of them, on ``devices`` devices."""

    def __init__(
        self, name: str, model: Model, device: Device, devices: int, sequence: int, batch: int, software: str
    ) -> None:
        self.model, self.device, self.devices = model, device, devices
        self.sequence, self.batch, self.software = sequence, batch, software
        super().__init__(
            name,
            f"a step of {model.name} ({model.parameters / 1e9:.3g}e9 parameters), {batch} sequences of {sequence} tokens, "
            f"on {devices} x {device.name}",
        )

    @property
    def fingerprint(self) -> str:
        parts = (
            self.model.fingerprint,
            self.device.fingerprint,
            self.devices,
            self.sequence,
            self.batch,
            self.software,
        )
        return blake2b(repr(parts).encode(), digest_size=8).hexdigest()

    def features(self) -> dict[str, float]:
        """Sizes on a log scale."""
        sizes = {
            "hidden": self.model.hidden,
            "layers": self.model.layers,
            "experts": max(self.model.experts, 1),
            "parameters": self.model.parameters,
            "active_parameters": self.model.active_parameters,
            "sequence": self.sequence,
            "batch": self.batch,
            "devices": self.devices,
            "peak_flops": self.device.bf16_flops,
            "memory_bytes": self.device.mem_bytes,
            "link_bytes_per_s": self.device.link_bytes_per_s,
        }
        return {f"log_{name}": float(np.log10(value)) / 10.0 for name, value in sizes.items()}


class LlmTrainingSimulator(Simulator):
    """Search for the layout of a training step on a cluster.

    Args:
        space: ``default`` (15 parameters), ``small`` (7, enumerable), ``codesign`` (with device, node and network),
            ``calculon`` (Calculon's execution, for the fidelity of that name).
        costs: ``file:PATH`` of a JSON with coefficients of cost, in place of the package's assumptions.
        budget_usd, budget_w: most that the cluster may cost in USD and draw in W; no limit where 0.
        tables: folder with measured operators for the fidelity ``table``; the environment variable ARCHGYM_REF where
            empty.
        system: ``file:PATH`` or ``file:PATH#NAME`` of a system of Calculon, for the space ``calculon``; the device with
            assumed tables of efficiency where empty.

    Fidelities: ``closed`` (operators in closed form), ``table`` (corrected by the measured tables of a folder), and
    ``calculon`` (Calculon's own results, faults included; only in, and the only one of, the space ``calculon``).

    Violations, in the order of the checks: ``devices_divide``, ``heads_divide``, ``kv_heads``, ``hidden_divide``,
    ``ffn_divide``, ``layers_divide``, ``batch_divide``, ``sequence_divide``, ``experts_divide``, ``tier_size``,
    ``memory_capacity``, ``offload_capacity``, ``precision_supported``, ``budget_cost``, ``budget_power``; in the space
    ``calculon`` those of Calculon.
    """

    name = "llm-training"
    version = "1"
    spaces = ("default", "small", "codesign", "calculon")
    fidelities = ("closed", "table", "calculon")
    default_objective = "time"
    default_workload = "llama3.1-70b@64xh100"
    pareto = ("step_time_s", "memory_bytes")
    metrics: tuple[Metric, ...] = (
        Metric("step_time_s", "s", "min", "one optimisation step"),
        Metric("tokens_per_s_per_device", "tokens/s", "max", "tokens trained a second and device"),
        Metric("mfu", "", "max", "model FLOP/s (no recomputation) over the peak of the type in use"),
        Metric("memory_bytes", "B", "min", "memory of the fullest device, the runtime's included"),
        Metric(
            "energy_per_token_j", "J", "min", "energy of all devices a token; shares of the power limit are assumed"
        ),
        Metric("cost_per_mtoken_usd", "USD", "min", "cost of a million tokens; all coefficients of cost are assumed"),
        Metric("bubble_share", "", "none", "share of the step that the pipeline idles"),
        Metric("exposed_comm_share", "", "none", "share of the step that waits for communication"),
        Metric("compute_s", "s", "none", "forward and backward computation"),
        Metric("recompute_s", "s", "none", "computation done again"),
        Metric("exposed_tp_s", "s", "none", "tensor-parallel traffic that nothing hides"),
        Metric("exposed_cp_ep_s", "s", "none", "exchange of contexts and experts that nothing hides"),
        Metric("exposed_pp_s", "s", "none", "transfers between stages"),
        Metric("exposed_dp_s", "s", "none", "data-parallel traffic that nothing hides"),
        Metric("exposed_offload_s", "s", "none", "transfers to the host that nothing hides"),
        Metric("bubble_s", "s", "none", "idling of the pipeline"),
        Metric("optimizer_s", "s", "none", "optimizer"),
        Metric("forward_s", "s", "none", "forward pass of a micro-batch through the slowest stage"),
        Metric("backward_s", "s", "none", "backward pass of a micro-batch through the slowest stage"),
        Metric("weight_bytes", "B", "none", "weights on a device"),
        Metric("gradient_bytes", "B", "none", "gradients on a device"),
        Metric("optimizer_bytes", "B", "none", "optimizer state on a device"),
        Metric("activation_bytes", "B", "none", "activations on a device"),
        Metric("host_bytes", "B", "none", "what a device keeps in its host's memory"),
        Metric("cluster_usd", "USD", "min", "price of the cluster; all coefficients are assumed"),
        Metric("cluster_w", "W", "min", "power limit of all devices"),
    )

    def __init__(
        self,
        space: str | None = None,
        *,
        costs: str = "",
        budget_usd: float = 0.0,
        budget_w: float = 0.0,
        tables: str = "",
        system: str = "",
    ) -> None:
        super().__init__(space)
        for name, value in (("budget_usd", budget_usd), ("budget_w", budget_w)):
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e18:
                raise ArchGymError(f"{name} is {quote(value)}; expected a number from 0 (no limit) up")
        self.costs = read_costs(costs)
        self.budget_usd, self.budget_w = float(budget_usd), float(budget_w)
        self.tables, self.system = str(table_folder(located(tables))) if tables else "", read_system(system)
        self._system_name = system
        if self.space_name == "calculon":
            self.metrics = _CALCULON_METRICS
        self.changed: Mapping[str, float] = {}
        self._spaces: dict[str, LayoutSpace] = {}
        self._executions: dict[str, ExecutionSpace] = {}
        self._models: dict[tuple[str, str], StepModel] = {}

    @property
    def settings(self) -> dict[str, Any]:
        """Costs, tables and a system count by their content, not by the file or folder that holds them."""
        found = {name: v for name, v in self.given_options.items() if name not in ("costs", "tables", "system")}
        if self.costs != read_costs():
            found["costs"] = vars(self.costs)
        if self.tables:
            found["tables"] = folder_digest(Path(self.tables))
        if self.system is not None:
            found["system"] = blake2b(json.dumps(self.system, sort_keys=True).encode(), digest_size=16).hexdigest()
        return found

    def sources(self, fidelity: str | None) -> Mapping[str, str]:
        """The tables of the environment variable ARCHGYM_REF, where the fidelity reads them."""
        if fidelity != "table" or self.tables:
            return super().sources(fidelity)
        return {**super().sources(fidelity), "tables": folder_digest(self._table_folder())}

    # --- workloads -------------------------------------------------------------------------------------------------

    def workloads(self) -> Mapping[str, Workload]:
        return _named()

    def further_workloads(self, count: int, rng: np.random.Generator) -> tuple[str, ...]:
        """Models of the catalogue on other numbers of devices: powers of two, from where 16 bytes a parameter fit in the
        devices' memory to 16 times as many; some 300."""
        names = []
        for model in model_catalogue.catalogue():
            for device in DRAWN_DEVICES:
                bytes_needed = 16.0 * model_catalogue.model(model).parameters
                least = np.log2(bytes_needed / device_catalogue.device(device).mem_bytes)
                names += [f"{model}@{2 ** (max(int(np.ceil(least)), 0) + more)}x{device}" for more in range(5)]
        some = [name for name in names if name not in NAMED]
        return tuple(some[i] for i in rng.permutation(len(some))[:count])

    def load_workload(self, name: str, **options: Any) -> Workload:
        """``MODEL@NxDEVICE``; either may be ``file:PATH``. Options: ``model`` and ``device`` (in place of the name's),
        ``sequence`` tokens, ``batch`` sequences a step, ``software`` (``current``, ``2023``, ``2022``)."""
        check_given(options, self.workload_options(name), "a training workload")
        return make_workload(name, **options)

    def workload_options(self, name: str) -> Mapping[str, Option]:
        return options_of(make_workload, ("name",), {"software": SOFTWARE})

    def space(self, workload: Workload) -> DesignSpace:
        if self.space_name == "calculon":
            return self.execution(_training(workload))
        return self.layouts(_training(workload))

    def execution(self, workload: TrainingWorkload) -> ExecutionSpace:
        """The space of Calculon's execution."""
        key = workload.fingerprint
        if key not in self._executions:
            m = workload.model
            shape = [m.hidden, m.ffn, workload.sequence, m.heads, m.head_dim, m.layers]
            systems = packed_systems(self.system, workload.device, self._system_name)
            self._executions[key] = ExecutionSpace(
                np.array(shape, dtype=np.int64), systems, workload.devices, workload.batch
            )
        return self._executions[key]

    def layouts(self, workload: TrainingWorkload) -> LayoutSpace:
        """The design space with its maps for the kernel."""
        key = workload.fingerprint
        if key not in self._spaces:
            device = workload.device
            price = self.costs.device_usd(
                device.bf16_flops,
                device.mem_bytes_per_s,
                device.mem_bytes,
                device.link_bytes_per_s,
                device.nic_bytes_per_s,
            )
            usd = float(self.costs.usd_per_s(price, device.tdp_w))
            cluster = cluster_vector(device, workload.devices, usd)
            vector = self._model(workload, "closed").model
            self._spaces[key] = LayoutSpace(self.space_name, workload.model, vector, cluster, device)
        return self._spaces[key]

    def _model(self, workload: TrainingWorkload, fidelity: str) -> StepModel:
        key = (workload.fingerprint, fidelity)
        if key not in self._models:
            tables = self._table_folder() if fidelity == "table" else None
            self._models[key] = StepModel(
                workload.model,
                workload.device,
                workload.sequence,
                workload.batch,
                workload.software,
                tables,
                self.changed,
            )
        return self._models[key]

    def _table_folder(self) -> Path:
        folder = self.tables or os.environ.get("ARCHGYM_REF", "")
        if not folder:
            raise ArchGymError(
                "the fidelity table needs measured operators: name their folder with the option tables or in ARCHGYM_REF"
            )
        return Path(folder)

    # --- evaluation ------------------------------------------------------------------------------------------------

    def check_fidelity(self, workload: Workload, fidelity: str | None) -> None:
        super().check_fidelity(workload, fidelity)
        if fidelity is not None and (self.space_name == "calculon") != (fidelity == "calculon"):
            raise ArchGymError("the fidelity calculon and the space calculon go together; ask for both or neither")
        if fidelity == "table":
            self._model(_training(workload), fidelity)

    def evaluate(
        self, designs: ArrayLike, workload: Workload, *, fidelity: str | None = None, seed: int | None = None
    ) -> Evaluation:
        work = _training(workload)
        own = self.space_name == "calculon"
        fidelity = fidelity or ("calculon" if own else "closed")
        if own:
            return self._calculon(designs, work)
        space = self.layouts(work)
        rows = space.check(designs)
        clusters = space.clusters(rows)
        price = self.costs.device_usd(
            *(clusters[:, i] for i in (kernel.PEAK_BF16, kernel.MEM_RATE, kernel.MEM, kernel.LINK, kernel.NIC))
        )
        if self.space_name == "codesign":
            clusters[:, kernel.USD_PER_S] = self.costs.usd_per_s(price, clusters[:, kernel.TDP])
        values, broken = space.decoded(rows, clusters)
        out, verdict = self._model(work, fidelity).evaluate(values, clusters, broken == 0)
        cluster_usd = np.broadcast_to(price * clusters[:, kernel.DEVICES], len(rows))
        cluster_w = np.broadcast_to(clusters[:, kernel.TDP] * clusters[:, kernel.DEVICES], len(rows))
        violation = self._violations(values, broken, verdict, clusters, cluster_usd, cluster_w)
        columns = dict(zip(kernel.METRICS, out.T, strict=True))
        return Evaluation.build(columns | {"cluster_usd": cluster_usd, "cluster_w": cluster_w}, violation)

    def _calculon(self, designs: ArrayLike, work: TrainingWorkload) -> Evaluation:
        space = self.execution(work)
        rows = space.check(designs)
        # One table, filled once: at a hundred columns copies would take as long as the model.
        table = np.empty((len(self.metrics), len(rows)))
        verdict = space.fill(rows, table[4:])
        columns = {metric.name: column for metric, column in zip(self.metrics, table, strict=True)}
        total = columns["total_time"]
        np.divide(float(work.batch) * work.sequence / work.devices, total, out=columns["tokens_per_s_per_device"])
        columns["step_time_s"][:], columns["mfu"][:] = total, columns["total_efficiency"]
        columns["memory_bytes"][:] = columns["proc_mem_tier1_cap_req"]
        return Evaluation(columns, verdict == 0, np.array(VERDICTS, dtype=object)[verdict], table)

    def _violations(
        self,
        values: NDArray[np.float64],
        broken: NDArray[np.int64],
        verdict: NDArray[np.int64],
        clusters: NDArray[np.float64],
        cluster_usd: NDArray[np.float64],
        cluster_w: NDArray[np.float64],
    ) -> NDArray[np.object_]:
        """Names of the first broken rules, those that an evaluation finds after those that need none."""
        # The lowest bit set is the first rule broken.
        first = np.zeros(len(broken), dtype=np.int64)
        some = broken != 0
        first[some] = np.log2((broken[some] & -broken[some]).astype(np.float64)).astype(np.int64) + 1
        after = len(kernel.RULES) + 1
        first = np.where(first == 0, np.where(verdict > 0, after - 1 + verdict, 0), first)
        lacks = (values[:, kernel.PRECISION] == 1) & (clusters[:, kernel.PEAK_FP8] <= 0)
        limits = [(lacks, after + 2)]
        if self.budget_usd:
            limits.append((cluster_usd > self.budget_usd, after + 3))
        if self.budget_w:
            limits.append((cluster_w > self.budget_w, after + 4))
        for over, number in limits:
            first[(first == 0) & over] = number
        return _VIOLATIONS[first]

    def pictures(self, design: ArrayLike, workload: Workload) -> list[tuple[str, str, str]]:
        """Schedule of the pipeline and parts of the step for reports: title, sentence and SVG of each."""
        from archgym.simulators.llm.training_pictures import draw_parts, draw_schedule
        from archgym.svg import svg

        work = _training(workload)
        row = self.space(workload).check(design)[:1]
        evaluation = self.evaluate(row, workload)
        if not evaluation.feasible[0] or self.space_name == "calculon":
            return []
        metrics = {name: float(column[0]) for name, column in evaluation.metrics.items()}
        space = self.layouts(work)
        clusters = space.clusters(row)
        values = dict(zip(kernel.DESIGN, space.decoded(row, clusters)[0][0].tolist(), strict=True))
        stages, chunks = int(values["pp"]), int(values["interleaving"])
        dp = int(clusters[0, kernel.DEVICES]) // int(values["tp"] * values["pp"] * values["cp"])
        micro_batches = max(int(work.batch / (dp * values["micro_batch"])), 1)
        parts = "Computation, what of communication nothing hides, bubbles and the optimizer add up to the step."
        passes = "One forward, one backward: when each stage works on which micro-batch."
        return [
            ("Step time", parts, svg(draw_parts(metrics))),
            ("Pipeline schedule", passes, svg(draw_schedule(stages, chunks, micro_batches, metrics))),
        ]

    # --- objectives ------------------------------------------------------------------------------------------------

    @remembered
    def references(self, workload: Workload) -> Mapping[str, float]:
        """Medians over the feasible designs among 65,536 uniform draws with seed 0: few are feasible."""
        evaluation = self.evaluate(self.space(workload).sample(65536, 0), workload)
        found = {}
        for metric in self.metrics:
            column = evaluation.metrics[metric.name]
            column = column[np.isfinite(column) & (column > 0)]
            found[metric.name] = float(np.median(column)) if len(column) else 1.0
        return found

    def objectives(self, workload: Workload) -> Mapping[str, Objective]:
        """``time``, ``mfu``, ``memory``, ``cost``, ``energy``, ``time-cost`` (their product), and for ``codesign``
        ``throughput-per-usd`` and ``throughput-per-w`` of the cluster, as log ratios."""

        def ratio(name: str, *metrics: str) -> Objective:
            return log_ratio(self, workload, metrics, name)

        common = {
            "time": ratio("time", "step_time_s"),
            "mfu": ratio("mfu", "mfu"),
            "memory": ratio("memory", "memory_bytes"),
        }
        if self.space_name == "calculon":
            return common
        return {
            **common,
            "cost": ratio("cost", "cost_per_mtoken_usd"),
            "energy": ratio("energy", "energy_per_token_j"),
            "time-cost": ratio("time-cost", "step_time_s", "cost_per_mtoken_usd"),
            "throughput-per-usd": ratio("throughput-per-usd", "step_time_s", "cluster_usd"),
            "throughput-per-w": ratio("throughput-per-w", "step_time_s", "cluster_w"),
        }


_CALCULON_METRICS = (
    Metric("step_time_s", "s", "min", "Calculon's total_time"),
    Metric("tokens_per_s_per_device", "tokens/s", "max", "tokens trained a second and device"),
    Metric("mfu", "", "max", "Calculon's total_efficiency"),
    Metric("memory_bytes", "B", "min", "Calculon's proc_mem_tier1_cap_req"),
    *(Metric(name, "", "none", "as Calculon names and counts it") for name in RESULTS),
)
_VIOLATIONS = np.array(
    [
        "",
        *kernel.RULES,
        "memory_capacity",
        "offload_capacity",
        "precision_supported",
        "budget_cost",
        "budget_power",
    ],
    dtype=object,
)


def _training(workload: Workload) -> TrainingWorkload:
    if not isinstance(workload, TrainingWorkload):
        raise ArchGymError(f"{workload.name!r} is no training workload; name one as MODEL@NxDEVICE")
    return workload


class _Named(Mapping[str, Workload]):
    """The listed workloads, made on first access."""

    @cached_property
    def _made(self) -> dict[str, Workload]:
        return {}

    def __getitem__(self, name: str) -> Workload:
        if name not in NAMED:
            raise KeyError(name)
        if name not in self._made:
            self._made[name] = make_workload(name)
        return self._made[name]

    def __iter__(self) -> Any:
        return iter(NAMED)

    def __len__(self) -> int:
        return len(NAMED)


@cache
def _named() -> Mapping[str, Workload]:
    return _Named()


def make_workload(
    name: str,
    model: str = "",
    device: str = "",
    sequence: int = 0,
    batch: int = 0,
    software: str | int = "current",
) -> TrainingWorkload:
    """The workload ``MODEL@NxDEVICE``.

    Args:
        name: the model, the number of devices and the device, by names of the catalogues or ``file:PATH``.
        model, device: in place of those in the name.
        sequence: tokens of a sequence; 2,048 for GPT-3, 8,192 for Llama 3.1 and 4,096 for others where 0.
        batch: sequences of a step; some 16,384 tokens a device where 0.
        software: generation of the training software.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise ArchGymError(
            f"{quote(name)} names no training workload; write MODEL@NxDEVICE, such as {NAMED[1]} "
            f"(models: archgym llm models, devices: archgym llm devices)"
        )
    made = model_catalogue.model(model or match["model"])
    chip = device_catalogue.device(device or match["device"])
    devices = int(match["devices"])
    software = str(software)  # a command line gives 2023 as a number
    if software not in SOFTWARE:
        raise UnknownNameError("software", software, SOFTWARE)
    for what, value in (("sequence", sequence), ("batch", batch)):
        if not 0 <= value <= 2**24:
            raise ArchGymError(f"{what} is {value}; expected a whole number from 1 up (0 for the default)")
    if not 1 <= devices <= 131072:
        raise ArchGymError(f"{quote(name)} asks for {devices} devices; expected 1 to 131,072")
    if not sequence:
        sequence = 2048 if made.name.startswith("gpt3") else 8192 if made.name.startswith("llama3.1") else 4096
    if not batch:
        batch = max(devices * TOKENS_A_DEVICE // sequence, 1)
    return TrainingWorkload(name, made, chip, devices, sequence, batch, software)
