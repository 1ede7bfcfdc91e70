"""A C program of one's own as a simulator, with a study, a store, a proxy and a report; run again, it starts nothing."""

import subprocess
from pathlib import Path

import archgym
from archgym.proxies.training import train_on_problem
from archgym.reports import write_report
from archgym.simulator import Metric
from archgym.simulators.external import ProcessSimulator
from archgym.space import Constraint, Parameter
from archgym.store import using
from archgym.studies import parse_spec, run_study

C = r"""
#include <stdio.h>
#include <stdlib.h>
int main(int argc, char **argv) {
    int sets = atoi(argv[1]), ways = atoi(argv[2]), stride = atoi(argv[3]);
    static long tag[256][8], misses;
    for (int pass = 0; pass < 20; pass++)
        for (long line = 0; line < 1024; line += stride) {
            long *set = tag[line % sets]; int way = 0;
            while (way < ways && set[way] != line + 1) way++;
            if (way == ways) { misses++; way = ways - 1; }
            for (; way > 0; way--) set[way] = set[way - 1];  /* least recently used goes */
            set[0] = line + 1;
        }
    printf("misses: %ld\narea_um2: %g\n", misses, 1.5 * sets * ways + 20.0 * ways);
}
"""
HERE = Path("out-own-c-program").resolve()


class Cache(ProcessSimulator):
    name, version = "cache", "1"
    parameters = (Parameter("sets", tuple(range(8, 257, 8))), Parameter("ways", tuple(range(1, 9))))
    constraints = (Constraint("fits", "at most 1,024 lines", lambda v: v["sets"] * v["ways"] <= 1024, over="values"),)
    metrics = (Metric("misses", "1", "min"), Metric("area_um2", "um2", "min"))
    default_objective = "misses*area_um2"
    cases = {"near": {"stride": 3}, "far": {"stride": 16}}
    command = (str(HERE / "cache"), "$sets", "$ways", "$stride")


def main():
    HERE.mkdir(exist_ok=True)
    subprocess.run(["cc", "-O1", "-x", "c", "-o", HERE / "cache", "-"], input=C, text=True, check=True)
    archgym.SIMULATORS.register("cache", Cache)
    with using(HERE / "store.sqlite"):
        spec = "{name: mine, budget: 20, seeds: 3, problems: [cache/near, cache/far], agents: [random, ga, local]}"
        done = run_study(parse_spec(spec), HERE / "study", resume=True)
        proxy = train_on_problem(archgym.make_problem("cache/near"), 60, settings={"trees": 20})
        print(done.evaluations, "evaluations,", done.from_store, "from the store;", proxy.save(HERE / "near.npz"))
        print(write_report(done.study.folder, trust=True))
    return done


if __name__ == "__main__":
    main()
