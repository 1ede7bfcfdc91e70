"""A program with every way to end, and Python functions likewise; in a file of their own, so that other processes find them."""

from __future__ import annotations

import os
import time

from archgym.simulator import Metric
from archgym.simulators.external import ProcessSimulator, Violation
from archgym.space import Constraint, Inactive, Parameter, Permutation

SCRIPT = """
echo x >> "$1/log"
test "$2" = crash && { echo 'assertion failed: depth' >&2; kill -SEGV $$; }
test "$2" = exit && { echo 'no memory' >&2; exit 3; }
test "$2" = hang && { sleep 600 & sleep 600; }
test "$2" = mute && { echo nothing; exit 0; }
test "$2" = flaky && test ! -e "$1/flaky" && { touch "$1/flaky"; exit 1; }
. ./settings
echo "time_ns: $(( (depth + load) * 10 )).5"
echo "energy_pj = $(( depth + 1 ))e3"
"""
MODES = ("ok", "crash", "exit", "hang", "mute", "flaky")


class Case(ProcessSimulator):
    """Runs a shell script that notes each of its starts in ``$ARCHGYM_TEST_LOG/log``."""

    name, version = "case", "1"
    parameters = (
        Parameter("mode", MODES, ordered=False),
        Parameter("depth", (1, 2, 4, 8)),
        Parameter("spare", (False, True), ordered=False),
        Permutation("order", ("a", "b", "c")),
    )
    constraints = (Constraint("shallow", "a mute design is shallow", lambda v: (v["mode"] != "mute") | (v["depth"] < 8),
                              over="values"),)  # fmt: skip
    inactive = (Inactive("spare", lambda v: v["depth"] < 4, "small designs have no spare", over="values"),)
    metrics = (Metric("time_ns", "ns", "min"), Metric("energy_pj", "pJ", "min"))
    violations = (*ProcessSimulator.violations, "no_memory")
    exit_violations = {3: "no_memory"}
    cases = {"light": {"load": 1}, "heavy": {"load": 7}}
    command = ("sh", "-c", SCRIPT.replace("$", "$$"), "case", "$log", "$mode")
    inputs = {"settings": "depth=$depth\nload=$load\norder='$order'\nspare=$spare\n"}
    time_limit_s = 20.0

    def workloads(self):
        made = super().workloads()
        for workload in made.values():
            workload.values["log"] = os.environ.get("ARCHGYM_TEST_LOG", "/nowhere")
        return made


class Good(Case):
    """Only the designs that give a result."""

    name = "good"
    parameters = (Parameter("mode", ("ok",)), *Case.parameters[1:])
    constraints = ()


class Function(ProcessSimulator):
    """The same in Python."""

    name, version = "function", "1"
    parameters = (Parameter("mode", ("ok", "raise", "exit", "hang", "own", "nan")), Parameter("depth", (1, 2, 4)))
    metrics = (Metric("time_ns", "ns", "min"),)
    violations = (*ProcessSimulator.violations, "too_deep")
    time_limit_s = 5.0

    def simulate(self, job):
        print("said", job.values["depth"])
        if job.values["mode"] == "raise":
            raise RuntimeError("broken pipe stage")
        if job.values["mode"] == "exit":
            os._exit(7)
        if job.values["mode"] == "hang":
            time.sleep(600)
        if job.values["mode"] == "own":
            raise Violation("too_deep")
        return {"time_ns": float("nan") if job.values["mode"] == "nan" else 2.5 * job.values["depth"]}
