"""The DRAM simulator: controller designs x a memory trace -> time, latency, bandwidth, energy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archgym.errors import ArchGymError, UnknownNameError, quote
from archgym.options import Option, check_given, options_of
from archgym.reading import own_file
from archgym.simulator import Evaluation, Metric, Simulator, Workload, names_own_file
from archgym.simulators.dram.addressmap import MAP_NAMES, named_map
from archgym.simulators.dram.devices import Device, device, devices
from archgym.simulators.dram.energy import PARTS, energy
from archgym.simulators.dram.spaces import LOSES_DATA, SPACES, USUAL, kernel_rows, usual_row
from archgym.simulators.dram.trace import CLOCK_MHZ, Trace
from archgym.space import DesignSpace, Value

DEFAULT_WINDOW = 20_000
"""Requests of a shipped trace that are simulated where nothing else is asked for: enough to rank designs as the whole
recording does, see docs/simulators/dram.md."""
SATURATED = 1.05
"""A trace saturates the memory where the usual controller ends later than this many times its last arrival."""

ORDERS = ("fast", "event")

_DEVICE = device  # the constructor has an argument of that name

METRICS = (
    Metric("total_time_ns", "ns", "min", "time of the last response at the initiator (the makespan)"),
    Metric("latency_mean_ns", "ns", "min", "mean over requests: response at the initiator minus arrival in the trace"),
    Metric("latency_p50_ns", "ns", "min", "median of the same (nearest rank)"),
    Metric("latency_p95_ns", "ns", "min", "95th percentile of the same (nearest rank)"),
    Metric("latency_p99_ns", "ns", "min", "99th percentile of the same (nearest rank)"),
    Metric("latency_max_ns", "ns", "min", "largest of the same"),
    Metric("read_latency_mean_ns", "ns", "min", "mean latency of the reads; NaN without reads"),
    Metric("read_latency_p99_ns", "ns", "min", "99th percentile of the latency of the reads; NaN without reads"),
    Metric("bandwidth_gbps", "Gbit/s", "max", "data moved / total time"),
    Metric("row_hit_rate", "1", "max", "share of column commands that needed no activation of their own"),
    Metric("energy_pj", "pJ", "min", "energy of all devices of all ranks and channels, without I/O and termination"),
    *(Metric(part, "pJ", "min", "part of energy_pj") for part in PARTS),
    Metric("average_power_mw", "mW", "min", "energy / total time"),
    Metric("energy_per_bit_pj", "pJ/bit", "min", "energy / data moved"),
    Metric("n_act", "1", "none", "activate commands"),
    Metric("n_pre", "1", "none", "precharges of a bank, those of RDA, WRA and PREA included"),
    Metric("n_rd", "1", "none", "read commands"),
    Metric("n_wr", "1", "none", "write commands"),
    Metric("n_ref", "1", "none", "refresh commands"),
)

FIXED = 200
"""Requests that take as long as what a simulation takes beside its requests."""
FEWEST = 200
"""Requests of the cheapest fidelity that stands in for a longer one."""


class DramSimulator(Simulator):
    """A cycle-accurate memory controller and its DRAM, with the semantics of DRAMSys 4.0; see docs/simulators/dram.md.

    Args:
        space: ``deployable`` (ArchGym's ten parameters without NoRefresh, 884,736 designs), ``archgym`` (with it, 1,769,472
            designs), ``archgym-rl`` (as its RL agents searched them, 442,368 designs) or ``wide`` (adds device, address
            map, channels, ranks, power-down, larger buffers).
        device: preset of the memory, or ``file:PATH`` for one of your own (``wide`` makes it a parameter).
        address_map: name of an address map (``wide`` makes it a parameter).
        ranks, channels: of the memory (``wide`` makes them parameters); None takes the device's own number of ranks.
        threads: threads of a batch; None takes Numba's number.
        order: ``fast``, or ``event``: the exact order of simultaneous events, equal to DRAMSys 4.0 in every row compared
            and an order of magnitude slower, for validation.
    """

    name = "dram"
    version = "2"
    spaces = tuple(SPACES)
    default_objective = "read_latency"
    fidelities: tuple[str, ...] = ("full", "requests")
    fidelities_with_argument = ("requests",)
    renamed_objectives = MappingProxyType({"archgym-target": "archgym-target-over-gap"})
    default_workload = "gzip"
    usual_name = "the usual controller (open pages, FR-FCFS)"
    pareto = ("latency_mean_ns", "energy_pj")
    metrics = METRICS

    def __init__(
        self,
        space: str | None = None,
        device: str = "DDR4-2400",
        address_map: str = "rbc",
        ranks: int | None = None,
        channels: int = 1,
        threads: int | None = None,
        order: str = "fast",
    ) -> None:
        super().__init__(space)
        if order not in ORDERS:
            raise UnknownNameError("order of events of dram", order, ORDERS)
        self.order = order
        self.device = _DEVICE(device)
        self.ranks = self.device.ranks if ranks is None else int(ranks)
        self.channels = int(channels)
        for what, count in (("ranks", self.ranks), ("channels", self.channels)):
            if not 1 <= count <= 1024:
                raise ArchGymError(f"{what} is {count}; expected a whole number from 1 to 1024")
        self.address_map_name = address_map
        named_map(address_map, self.device, self.ranks, self.channels)
        if threads is not None and threads < 1:
            raise ArchGymError(f"threads is {threads}; expected at least 1")
        self.threads = threads
        self._spaces: dict[int, DesignSpace] = {}
        self._prepared: dict[tuple[Any, ...], Any] = {}
        self._rules: dict[str, tuple[str, str]] = {}
        self._windows: dict[tuple[str, int], Trace] = {}

    @property
    def settings(self) -> dict[str, Any]:
        given = super().settings
        if self.ranks == self.device.ranks:
            given.pop("ranks", None)
        if own_file(str(given.get("device", ""))) is not None:  # known by what the file says, not by where it lies
            given["device"] = f"file {self.device.digest}"
        return given

    # --- workloads ---------------------------------------------------------------------------------------------

    def workloads(self) -> Mapping[str, Workload]:
        from archgym.simulators.dram.traces import all_traces

        return all_traces()

    def further_workloads(self, count: int, rng: np.random.Generator) -> tuple[str, ...]:
        """Generators with arguments drawn at random, whose addresses the memory has."""
        from archgym.simulators.dram.traces import drawn_names

        memory = named_map(self.address_map_name, self.device, self.ranks, self.channels)
        return drawn_names(count, rng, memory.capacity)

    def load_workload(self, name: str, **options: Any) -> Workload:
        """A trace by name, a generator with arguments (``random:gap=2,seed=7``), or ``file:PATH``. ``requests=N``
        simulates the first N requests; 0 means all. A trace of the package is windowed to its first 20,000 requests
        where neither this nor its name says how many, a file is taken whole. ``clock_mhz`` says what clock the times of
        a file or of a generator count."""
        from archgym.simulators.dram.traces import named_trace, shipped_traces

        requests = options.pop("requests", None)
        if requests is not None and (isinstance(requests, bool) or not isinstance(requests, int) or requests < 0):
            raise ArchGymError(f"requests is {requests!r}; expected a whole number of requests, or 0 for all")
        if (path := own_file(name)) is not None:
            return self.read_workload(path, **options, **({"requests": requests} if requests else {}))
        clock_mhz = options.pop("clock_mhz", None)
        check_given(options, self.workload_options(name), f"the trace {quote(name)}")
        trace = named_trace(name, clock_mhz)
        if requests is None and "requests=" not in name:
            requests = DEFAULT_WINDOW
        if requests and requests > len(trace) and name not in shipped_traces():
            raise ArchGymError(
                f"requests is {requests:,}, but the trace {quote(name)} has {len(trace):,}; generate more with requests={requests} "
                "in its name"
            )
        if not requests or requests >= len(trace):
            return trace
        quick = "; a quick look, which need not rank designs as the program does" if requests < DEFAULT_WINDOW else ""
        window = trace.window(requests)
        window.description = f"{trace.description}; the first {requests:,} of {len(trace):,} requests{quick}"
        return window

    def workload_options(self, name: str) -> Mapping[str, Option]:
        from archgym.simulators.dram.traces import FORMATS, read_trace, shipped_traces

        own = names_own_file(name)
        options = {"requests": Option(int | None, None if own else DEFAULT_WINDOW)}
        if own_file(name) is not None:
            values = {"format": FORMATS, "device": devices(), "map": MAP_NAMES, "backwards": ("error", "hold"),
                      "start": ("zero", "keep")}  # fmt: skip
            options |= options_of(read_trace, ["path", "requests"], values)
            options["start"] = Option(str, "zero", ("zero", "keep"))
        elif name not in shipped_traces():
            options["clock_mhz"] = Option(float | None, CLOCK_MHZ)
        return options

    @classmethod
    def option_values(cls) -> Mapping[str, Any]:
        return {"device": devices(), "address_map": MAP_NAMES, "order": ORDERS}

    def read_workload(self, path: Path, **options: Any) -> Workload:
        from archgym.simulators.dram.traces import read_trace

        check_given(options, self.workload_options("file:"), "a trace file")
        return read_trace(path, **{"start": "zero", **options})

    def space(self, workload: Workload) -> DesignSpace:
        trace = _trace(workload)
        # Only the wide space depends on the trace: by the memory that its addresses need.
        highest = int(trace.address.max()) if self.space_name == "wide" else 0
        if highest not in self._spaces:
            make = SPACES[self.space_name]
            about = {"wide": (highest,), "deployable": (self.device,)}.get(self.space_name, ())
            self._spaces[highest] = make(*about)
        return self._spaces[highest]

    # --- evaluation --------------------------------------------------------------------------------------------

    def evaluate(
        self, designs: ArrayLike, workload: Workload, *, fidelity: str | None = None, seed: int | None = None
    ) -> Evaluation:
        space = self.space(workload)
        trace = self._at(_trace(workload), fidelity)
        array = space.check(designs)
        rows = kernel_rows(space, array)
        if self.space_name != "wide":
            memory = self._prepare(trace, self.device, self.address_map_name, self.ranks, self.channels)
            metrics = self._run(rows, memory)
            return Evaluation.build(metrics, count=len(array))
        violation = space.violations(array)
        metrics = {metric.name: np.full(len(array), np.nan) for metric in METRICS}
        good = np.flatnonzero(violation == "")
        if len(good):
            # One group of designs for each memory.
            values = space.columns(array[good])
            memories, inverse = np.unique(array[good, :4], axis=0, return_inverse=True)
            for k in range(len(memories)):
                members = np.flatnonzero(inverse.reshape(-1) == k)
                device_name, map_name, channels, ranks = (
                    values[name][members[0]] for name in ("Device", "AddressMap", "Channels", "Ranks")
                )
                memory = self._prepare(trace, device(device_name), map_name, int(ranks), int(channels))
                for name, column in self._run(rows[good[members]], memory).items():
                    metrics[name][good[members]] = column
        return Evaluation.build(metrics, violation)

    def check_fidelity(self, workload: Workload, fidelity: str | None) -> None:
        super().check_fidelity(workload, fidelity)
        if self.fidelities:
            self._at(_trace(workload), fidelity)

    def _at(self, trace: Trace, fidelity: str | None) -> Trace:
        """The part of a trace that a fidelity simulates: all of it (``full``), or ``requests:N``, the first N."""
        if fidelity in (None, "full"):
            return trace
        kind, _, count = str(fidelity).partition(":")
        if kind != "requests" or not (count.isascii() and count.isdigit() and 1 <= len(count) <= 12 and int(count)):
            raise ArchGymError(
                f"{self.name} has no fidelity {quote(fidelity)}; expected 'full' or 'requests:N', like requests:1000"
            )
        key = (trace.fingerprint, int(count))
        if key not in self._windows:
            self._windows[key] = trace.window(int(count))
        return self._windows[key]

    def relative_cost(self, workload: Workload, fidelity: str | None = None) -> float:
        """The time of a simulation grows with its requests; what comes with each whatever their number takes as long as
        some 200 of them (docs/performance.md)."""
        trace = _trace(workload)
        part = trace if not self.fidelities else self._at(trace, fidelity)
        return (len(part) + FIXED) / (len(trace) + FIXED)

    def cheaper_fidelities(self, workload: Workload, fidelity: str | None = None) -> tuple[str, ...]:
        """A third of the requests, a third of these, and so on, down to a few hundred."""
        if not self.fidelities:
            return ()
        requests, names = len(self._at(_trace(workload), fidelity)), []
        while (requests := requests // 3) >= FEWEST:
            names.append(f"requests:{requests}")
        return tuple(reversed(names))

    def _run(self, rows: NDArray[np.int64], memory: Any) -> dict[str, NDArray[np.float64]]:
        if self.order == "event":
            from archgym.simulators.dram import event_run

            return metrics_of(event_run.run(rows, memory, self.threads), memory)
        from archgym.simulators.dram import batch

        return metrics_of(batch.run(rows, memory, self.threads), memory)

    def _prepare(self, trace: Trace, dev: Device, map_name: str, ranks: int, channels: int) -> Any:
        from archgym.simulators.dram import batch

        key = (trace.fingerprint, dev.name, map_name, ranks, channels)
        if key not in self._prepared:
            # Decoded traces are kept up to about 200 MB.
            while self._prepared and sum(kept.requests for kept in self._prepared.values()) > 4_000_000:
                self._prepared.pop(next(iter(self._prepared)))
            address_map = named_map(map_name, dev, ranks, channels)
            self._prepared[key] = batch.prepare(
                trace, dev, address_map, ranks, channels, clock_mhz=self.device.clock_mhz
            )
        return self._prepared[key]

    def reach(
        self, designs: ArrayLike, workload: Workload, *, fidelity: str | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Designs that differ only in limits that stay out of touch have equal results; see
        archgym.simulators.dram.kernels.fast.covers. For ``wide`` and the exact order of events no more than the design."""
        if self.space_name == "wide" or self.order != "fast":
            return super().reach(designs, workload, fidelity=fidelity)
        from archgym.simulators.dram import batch
        from archgym.simulators.dram.kernels.fast import T_REFI

        trace = self._at(_trace(workload), fidelity)
        space = self.space(workload)
        canonical = space.canonical(designs)
        low, high = canonical.copy(), canonical.copy()
        memory = self._prepare(trace, self.device, self.address_map_name, self.ranks, self.channels)
        if not memory.plain:
            return low, high
        seen = batch.untouched(kernel_rows(space, canonical), memory, self.threads)
        policies = space["RefreshPolicy"].values
        none = policies.index("NoRefresh") if "NoRefresh" in policies else -1
        refreshed = canonical[:, space.position("RefreshPolicy")] != none
        # The trace may end before the first refresh.
        early = (seen["total"] >= 0) & (seen["total"] < memory.timing[T_REFI])
        # Where no refresh had to be decided on, its limits and the policy itself are free.
        idle = np.where(refreshed, seen["flex_high"] < 0, early)
        limits = {
            "RequestBufferSize": (seen["size_needed"], np.ones(len(canonical), dtype=bool)),
            "MaxActiveTransactions": (
                seen["active_needed"], canonical[:, space.position("Arbiter")] != space["Arbiter"].index("Simple")
            ),
            "RefreshMaxPostponed": (np.where(idle, 0, seen["flex_high"] + 1), refreshed),
            "RefreshMaxPulledin": (np.where(idle, 0, 1 - seen["flex_low"]), refreshed),
        }  # fmt: skip
        for name, (needed, active) in limits.items():
            j = space.position(name)
            values = np.array(space.parameters[j].values)
            free = active & (values[canonical[:, j]] >= needed)
            low[free, j] = np.searchsorted(values, needed[free])
            high[free, j] = len(values) - 1
        # The policy itself is free between none and all banks only.
        either = ("RefreshPolicy",) if policies == ("NoRefresh", "AllBank") else ()
        for name in (*either, "RefreshMaxPostponed", "RefreshMaxPulledin"):
            j = space.position(name)
            low[idle, j], high[idle, j] = 0, len(space.parameters[j]) - 1
        return low, high

    # --- pictures ----------------------------------------------------------------------------------------------

    def pictures(self, design: ArrayLike, workload: Workload) -> list[tuple[str, str, str]]:
        """The timeline of a design's commands in its busiest window, and the trace over its time: title, sentence and SVG, for
        reports."""
        from archgym.simulators.dram import batch, overview
        from archgym.simulators.dram.timeline import draw

        trace = _trace(workload)
        space = self.space(trace)
        array = space.check(design)[:1]
        if space.violations(array)[0]:
            return []
        dev, memory = self.device, (self.address_map_name, self.ranks, self.channels)
        if self.space_name == "wide":
            values = space.decode(array)[0]
            dev = device(str(values["Device"]))
            memory = str(values["AddressMap"]), int(values["Ranks"]), int(values["Channels"])
        row = kernel_rows(space, array)[0]
        log, names = batch.command_log(row, self._prepare(trace, dev, *memory))
        svg, sentence = draw(log, names, dev.banks * memory[1], dev.burst_cycles, dev.tck_ps / 1000.0)
        timeline = [("Command timeline", sentence, svg)] if svg else []
        over, about = overview.draw(trace)
        return [*timeline, ("The trace over time", about, over)]

    # --- objectives --------------------------------------------------------------------------------------------

    def objective_for(self, workload: Workload) -> tuple[str, str]:
        """The makespan where the trace saturates the memory: where the usual controller ends later than 1.05 times the last
        arrival; else the makespan only repeats the length of the trace, and what a design is good for is the latency of
        reads (of all requests where there are none)."""
        trace = _trace(workload)
        key = trace.fingerprint
        if key not in self._rules:
            self._rules[key] = self._objective_for(trace)
        return self._rules[key]

    def _objective_for(self, trace: Trace) -> tuple[str, str]:
        if not trace.time[-1]:
            return "makespan", "the trace has no times, so that the memory alone sets the pace"
        latency = "latency_mean" if trace.is_write.all() else "read_latency"
        try:
            memory = self._prepare(trace, self.device, self.address_map_name, self.ranks, self.channels)
        except ArchGymError:  # a trace that needs another memory than the default one of the space
            return latency, "the trace has times"
        from archgym.simulators.dram import batch

        end, last = int(batch.run(usual_row()[None], memory, 1)["total"][0]), int(memory.columns[0][-1])
        if end > SATURATED * last:
            return (
                "makespan",
                f"the usual controller ends {end / max(last, 1):.2f} times as late as the last request arrives",
            )
        return latency, "the usual controller keeps up with the trace, whose makespan says nothing then"

    def objectives(self, workload: Workload) -> Mapping[str, Any]:
        from archgym.objective import TargetOverGap, log_ratio

        def log(name: str, *metrics: str) -> Any:
            return log_ratio(self, workload, list(metrics), name)

        return {
            "read_latency": log("read_latency", "read_latency_mean_ns"),
            "p99": log("p99", "read_latency_p99_ns"),
            "latency_mean": log("latency_mean", "latency_mean_ns"),
            "makespan": log("makespan", "total_time_ns"),
            # What ArchGym calls latency: the makespan.
            "latency": log("latency", "total_time_ns"),
            "energy": log("energy", "energy_pj"),
            "edp": log("edp", "total_time_ns", "energy_pj"),
            # ArchGym's own targets: 0.1 s and 1 W; it took the total time for the latency.
            "archgym-target-over-gap": TargetOverGap(
                {"total_time_ns": 0.1, "average_power_mw": 1.0},
                {"total_time_ns": 1e-9, "average_power_mw": 1e-3},
            ),
        }

    def usual_design(self, workload: Workload) -> Mapping[str, Value]:
        """DRAMSys' own configuration of open pages and FR-FCFS, in the wide space on this simulator's memory."""
        names = self.space(workload).names
        memory: dict[str, Value] = {
            "Device": self.device.name,
            "AddressMap": self.address_map_name,
            "Channels": self.channels,
            "Ranks": self.ranks,
        }
        return {name: value for name, value in {**memory, **USUAL}.items() if name in names}

    def remarks(self, design: Mapping[str, Any]) -> tuple[str, ...]:
        return (LOSES_DATA,) if design.get("RefreshPolicy") == "NoRefresh" else ()


def metrics_of(out: Mapping[str, NDArray[np.int64]], prepared: Any) -> dict[str, NDArray[np.float64]]:
    """Metric columns from the controller's whole numbers (cycles and counts)."""
    dev: Device = prepared.device
    tck_ns = dev.tck_ps / 1000.0
    reads, writes = out["rd"], out["wr"]
    total_ns = out["total"] * tck_ns
    bits = 8.0 * dev.burst_bytes * prepared.requests
    parts = energy(dev, prepared.ranks, out)
    total_pj = sum(parts.values(), start=np.zeros(len(total_ns)))
    with np.errstate(all="ignore"):
        return {
            "total_time_ns": total_ns,
            "latency_mean_ns": out["latency_sum"] * tck_ns / prepared.requests,
            "latency_p50_ns": out["latency_p50"] * tck_ns,
            "latency_p95_ns": out["latency_p95"] * tck_ns,
            "latency_p99_ns": out["latency_p99"] * tck_ns,
            "latency_max_ns": out["latency_max"] * tck_ns,
            "read_latency_mean_ns": np.where(reads > 0, out["read_latency_sum"] * tck_ns / reads, np.nan),
            "read_latency_p99_ns": np.where(reads > 0, out["read_latency_p99"] * tck_ns, np.nan),
            "bandwidth_gbps": bits / total_ns,
            "row_hit_rate": np.maximum(1.0 - out["act"] / (reads + writes), 0.0),
            "energy_pj": total_pj,
            **parts,
            "average_power_mw": total_pj / total_ns,
            "energy_per_bit_pj": total_pj / bits,
            "n_act": out["act"].astype(np.float64),
            "n_pre": out["pre"].astype(np.float64),
            "n_rd": reads.astype(np.float64),
            "n_wr": writes.astype(np.float64),
            "n_ref": (out["ref"] + out.get("ref_bank", 0)).astype(np.float64),
        }


def _trace(workload: Workload) -> Trace:
    if not isinstance(workload, Trace):
        raise ArchGymError(f"the workload of dram is a {type(workload).__name__}; expected a Trace")
    return workload
