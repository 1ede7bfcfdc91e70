"""Policies over workloads: they carry over to workloads never seen, live in files without code, and start a search."""

import itertools
import json
from dataclasses import replace

import numba
import numpy as np
import pytest
from click.testing import CliRunner

from archgym.agents import make_agent, search
from archgym.agents.autoregressive import draw, log_likelihood
from archgym.agents.policy import (
    WORST,
    Judgement,
    Memory,
    Policy,
    Shortlist,
    Training,
    earned,
    features_of,
    interval,
    judge,
    related,
    train,
)
from archgym.cli import main
from archgym.datasets import read_trials
from archgym.errors import ArchGymError
from archgym.problem import Problem, make_problem
from archgym.registry import SIMULATORS
from archgym.simulators.dram.traces import drawn_names
from archgym.simulators.synthetic import Landscape, Synthetic
from archgym.space import Constraint, DesignSpace, Parameter
from archgym.threads import limit_threads

SPACE = DesignSpace([Parameter(f"x{j}", tuple(range(9))) for j in range(4)])


class Shifted(Landscape):
    """The best value of every parameter is told by a feature."""

    def __init__(self, name, place, space=SPACE):
        self.place = place
        best = np.array([8 * place, 8 * (1 - place), 4, 8 * place])
        super().__init__(name, "for a test", space, lambda designs: np.abs(designs - best).sum(axis=1), np.zeros(4))

    def features(self):
        return {"place": self.place, "nothing": 1.0}


def shifted(name, place, space=SPACE):
    simulator, landscape = Synthetic(), Shifted(name, place, space)
    return Problem(f"synthetic/{name}", simulator, landscape, simulator.objectives(landscape)["loss"])


HOW = Training(updates=150, workloads=6, designs=8, width=24, noise=0.05)


@pytest.fixture(scope="module")
def trained():
    names = ("a", "b", "c", "d", "e", "f", "g", "h")
    return train([Memory(shifted(name, i / 7)) for i, name in enumerate(names)], HOW)


def test_a_policy_carries_over_to_workloads_never_seen(trained):
    for place in (0.07, 0.36, 0.64, 0.93):
        memory = Memory(shifted("unseen", place))
        judged = judge(trained, memory, evaluations=50)
        assert judged.feasible and judged.holds and judged.beats >= 0.5, judged
        assert memory(trained.greedy(memory.problem))[0] > -8, "within two steps of the best of each parameter"


@pytest.fixture(scope="module")
def choosing():
    """A policy that chooses among its most likely designs of the workloads that it was trained on."""
    memories = [Memory(shifted(name, i / 7)) for i, name in enumerate("abcdefgh")]
    return train(memories, replace(HOW, updates=60, bandwidth=0.01))


def test_it_chooses_what_was_good_on_workloads_alike_and_simulates_nothing_for_that(choosing):
    kept = choosing.shortlist
    assert kept.worth.shape == (8, len(kept.designs)) and kept.features[:, 1].tolist() == [i / 7 for i in range(8)]
    likely = np.concatenate([choosing.greedy(shifted("x", i / 7)) for i in range(8)])
    assert len(kept.designs) > 2 and np.array_equal(kept.designs, np.unique(likely, axis=0))
    for i in range(8):
        design = choosing.design(shifted("unseen", i / 7))
        assert design.tolist() == kept.designs[[kept.worth[i].argmax()]].tolist()
        rewards = shifted("a", i / 7).evaluate(kept.designs)[1]
        assert kept.worth[i].argmax() == rewards.argmax() and kept.worth[i].min() >= -1.0


DESIGNS = np.array([[0, 0, 0, 0], [1, 1, 1, 1], [2, 2, 2, 2]])


def test_a_shortlist_weighs_workloads_by_the_ranks_of_their_features_and_keeps_constraints():
    worth = np.array([[0.0, -1.0, -0.5], [-1.0, 0.0, -0.5], [-1.0, 0.0, -0.5]])
    # On any scale: only the order of the features counts.
    features = np.array([[1.0, 5.0], [2.0, 5.0], [1000.0, 5.0]])
    kept = Shortlist(DESIGNS, worth, features, 0.1)
    free = DesignSpace(SMALL)
    assert [kept.best(free, np.array([x, 7.0]))[0, 0] for x in (0.0, 1.0, 2.0, 999.0, 1e9)] == [0, 0, 1, 1, 1]
    even = replace(kept, bandwidth=10.0)
    assert even.best(free, np.array([0.0, 7.0]))[0, 0] == 1, "all workloads count alike"
    rule = Constraint("rule", "for a test", lambda d: d[:, 0] != 0)
    assert kept.best(DesignSpace(SMALL, [rule]), np.array([0.0, 7.0]))[0, 0] == 2
    none = Constraint("none", "for a test", lambda d: d[:, 0] == 4)
    assert kept.best(DesignSpace(SMALL, [none]), np.array([0.0, 7.0])).shape == (0, 4)


def test_infeasible_designs_are_worth_less_than_bad_ones_and_scales_do_not_count():
    class Known:
        def __init__(self, rewards, feasible):
            self.problem, self.told = shifted("a", 0.5), (np.array(rewards), np.array(feasible))

        def __call__(self, designs):
            return self.told

    some = [Known([1.0, 3.0, 2.0], [True] * 3), Known([-1e6, 3e6, -99.0], [True, True, False]),
            Known([-9.0] * 3, [False] * 3)]  # fmt: skip
    worth = Shortlist.simulated(DESIGNS, some, 0.1).worth
    assert worth.tolist() == [[-1.0, 0.0, -1.0], [-1.0, 0.0, WORST], [WORST] * 3]


def test_where_nothing_on_the_shortlist_keeps_the_constraints_the_most_likely_design_is_taken(choosing):
    first = choosing.shortlist.designs
    rule = Constraint("rule", "for a test", lambda d: ~(d[:, None] == first).all(axis=2).any(axis=1))
    bound = shifted("unseen", 0.3, DesignSpace([Parameter(f"x{j}", tuple(range(9))) for j in range(4)], [rule]))
    assert np.array_equal(choosing.design(bound), choosing.greedy(bound)) and rule.satisfied(choosing.design(bound))[0]


def test_members_add_designs_to_choose_among_and_the_first_one_is_the_policy_of_one_member():
    memories = [Memory(shifted(name, i / 3)) for i, name in enumerate("abcd")]
    told, how = [], replace(HOW, updates=5, bandwidth=0.1)
    one, three = train(memories, how), train(memories, replace(how, members=3), told.append)
    assert np.array_equal(one.net, three.net) and told == list(range(15))
    designs = set(map(tuple, one.shortlist.designs.tolist()))
    assert designs < set(map(tuple, three.shortlist.designs.tolist())) and three.about.simulations > 0
    with pytest.raises(ArchGymError, match="only with a bandwidth above 0"):
        train(memories, replace(how, members=2, bandwidth=0.0))


def test_equal_seeds_train_equal_policies_and_other_seeds_others():
    how = replace(HOW, updates=3)
    one, same, other = (
        train([Memory(shifted("a", 0.1)), Memory(shifted("b", 0.9))], replace(how, seed=seed)) for seed in (1, 1, 2)
    )
    assert np.array_equal(one.net, same.net) and not np.array_equal(one.net, other.net)
    assert one.about.simulations > 0


def test_two_threads_train_what_one_does(monkeypatch):
    def policy(threads):
        with limit_threads(threads):
            memories = [Memory(make_problem(f"dram/{name}:requests=200")) for name in ("stream", "random", "copy")]
            return train(memories, Training(updates=2, width=8, bandwidth=0.2))

    monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", 2)
    one, two = policy(1), policy(2)
    assert np.array_equal(one.net, two.net) and np.array_equal(one.shortlist.worth, two.shortlist.worth)


def test_what_draws_earn_is_their_rank_whatever_the_scale():
    feasible = np.array([True, False, True, True])
    assert earned(np.array([1.0, -99.0, 3.0, 2.0]), feasible).tolist() == [-1.0, WORST, 1.0, 0.0]
    assert earned(np.array([1e6, -99.0, 3e6, 2e6]), feasible).tolist() == [-1.0, WORST, 1.0, 0.0]
    assert earned(np.array([-1.0, -1.0]), np.zeros(2, dtype=bool)).tolist() == [WORST, WORST]


def test_a_memory_simulates_each_design_once():
    memory = Memory(shifted("a", 0.5))
    assert np.isnan(memory.best)
    designs = SPACE.sample(50, 0)
    first = memory(np.concatenate([designs, designs]))[0]
    assert len(memory) == len(np.unique(designs, axis=0))
    assert memory.best == first.max()
    assert np.array_equal(first[:50], first[50:]) and np.array_equal(first[:50], memory.problem.evaluate(designs)[1])


def random_policy(problem, seed):
    """A policy whose choices depend on those before them, and are far from uniform."""
    policy = Policy.untrained([problem], Training(width=12), np.random.default_rng(seed))
    policy.net[:, :] = 0.5 * np.random.default_rng([seed, 1]).normal(size=policy.net.shape)
    return policy


SMALL = [Parameter(f"x{j}", tuple(range(5))) for j in range(4)]
EVERY = np.array(list(itertools.product(range(5), repeat=4)))


def test_the_likelihoods_are_those_of_the_draws():
    policy = random_policy(shifted("a", 0.5, DesignSpace(SMALL)), 0)
    assert np.exp(log_likelihood(policy.net, policy.offsets, EVERY)).sum() == pytest.approx(1.0, abs=1e-4)
    numbers = np.random.default_rng(1).random((50, 4))
    designs, (log_p, baseline) = np.empty((50, 4), dtype=np.int64), np.empty((2, 50, 4), dtype=np.float32)
    draw(policy.net, policy.offsets, np.zeros((50, 12), dtype=np.float32), numbers, designs, log_p, baseline)
    assert log_likelihood(policy.net, policy.offsets, designs) == pytest.approx(log_p.sum(axis=1), abs=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_its_design_is_the_most_likely_one_that_keeps_the_constraints(seed):
    free = shifted("a", 0.5, DesignSpace(SMALL))
    policy = random_policy(free, seed)
    first = policy.greedy(free)
    likely = log_likelihood(policy.net_for(free), policy.offsets, EVERY)
    # All that begin as the most likely one does break it, as do most others.
    rule = Constraint("rule", "for a test", lambda d: (d[:, 0] != first[0, 0]) & (d.sum(axis=1) % 4 == 0))
    bound = shifted("a", 0.5, DesignSpace(SMALL, [rule]))
    keeps = rule.satisfied(EVERY)
    assert not rule.satisfied(first)[0]
    assert np.array_equal(policy.greedy(bound)[0], EVERY[keeps][likely[keeps].argmax()])


def test_a_design_that_a_policy_holds_for_impossible_is_found_too_and_without_one_it_stays():
    only = Constraint("only", "for a test", lambda d: d[:, 3] == 4)
    bound = shifted("a", 0.5, DesignSpace(SMALL, [only]))
    policy = random_policy(bound, 0)
    policy.net[:, -1] = policy.encoder[1][:, -1] = 0.0
    policy.net[0, -1] = 1.0
    policy.net[1 + policy.offsets[-1] + policy.offsets[4] - 1, -1] = -60.0
    assert policy.greedy(bound)[0, 3] == 4
    none = Constraint("none", "for a test", lambda d: np.zeros(len(d), dtype=bool))
    free = policy.greedy(shifted("a", 0.5, DesignSpace(SMALL)))
    assert np.array_equal(policy.greedy(shifted("a", 0.5, DesignSpace(SMALL, [none]))), free)


def test_related_workloads_are_grouped_by_name_and_by_features():
    named = [shifted("alexnet", 0.1), shifted("vgg16", 0.5), shifted("archgym_vgg01", 0.9), shifted("other", 0.1)]
    assert sorted(map(sorted, related(named))) == [[0, 3], [1, 2]]


def test_it_is_read_as_it_was_written(trained, tmp_path):
    path = trained.save(tmp_path / "p.policy.npz")
    read, problem = Policy.load(path), shifted("unseen", 0.3)
    assert read.about == trained.about and np.array_equal(read.net, trained.net)
    assert np.array_equal(read.greedy(problem), trained.greedy(problem))
    assert features_of([problem])[0] == read.about.features == ["nothing", "place"]


def test_a_shortlist_is_read_as_it_was_written_and_older_files_have_none(choosing, tmp_path):
    path, problem = choosing.save(tmp_path / "p.policy.npz"), shifted("unseen", 0.3)
    read = Policy.load(path)
    for name, value in vars(choosing.shortlist).items():
        assert np.array_equal(getattr(read.shortlist, name), value), name
    assert np.array_equal(read.design(problem), choosing.design(problem))
    arrays = {name: value for name, value in np.load(path).items() if not name.startswith("shortlist")}
    facts = json.loads(arrays["about"].tobytes())
    del facts["training"]["bandwidth"]
    old = np.frombuffer(json.dumps({**facts, "format": 1}).encode(), dtype=np.uint8)
    np.savez(tmp_path / "old.npz", **{**arrays, "about": old})
    assert np.array_equal(Policy.load(tmp_path / "old.npz").design(problem), choosing.greedy(problem))


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("designs", lambda value: value + 9),
        ("designs", lambda value: value - 9),
        ("designs", lambda value: value[:, :-1]),
        ("designs", lambda value: value[:0]),
        ("designs", lambda value: value.astype(float)),
        ("worth", lambda value: value[:-1]),
        ("worth", lambda value: value * np.nan),
        ("features", lambda value: value[:, :-1]),
        ("bandwidth", lambda value: np.float64(0.0)),
        ("bandwidth", lambda value: None),
        ("designs", lambda value: None),
    ],
)
def test_a_damaged_shortlist_is_refused_in_a_sentence(choosing, tmp_path, key, change):
    arrays = dict(np.load(choosing.save(tmp_path / "p.policy.npz")))
    changed = change(arrays.pop(f"shortlist.{key}"))
    if changed is not None:
        arrays[f"shortlist.{key}"] = changed
    np.savez(tmp_path / "broken.npz", **arrays)
    with pytest.raises(ArchGymError, match="malformed or of another version; train it again"):
        Policy.load(tmp_path / "broken.npz")


def damaged(arrays, key):
    broken = dict(arrays)
    if key == "about":
        broken["about"] = np.frombuffer(b'{"format": 1}', dtype=np.uint8)
    elif key == "objects":
        broken["net"] = np.array([{"a": 1}], dtype=object)
    elif key == "missing":
        del broken["inner"]
    elif key == "more":
        broken["more"] = np.zeros(3)
    elif key == "nan":
        broken["net"] = np.where(np.arange(broken["net"].size).reshape(broken["net"].shape) == 7, np.nan, 0.0)
    else:
        broken[key] = broken[key][:-1]
    return broken


@pytest.mark.parametrize("key", ["about", "objects", "missing", "more", "nan", "net", "center", "features"])
def test_what_is_no_policy_is_refused_in_a_sentence(trained, tmp_path, key):
    path = trained.save(tmp_path / "p.policy.npz")
    np.savez(tmp_path / "broken.npz", **damaged(dict(np.load(path)), key))
    with pytest.raises(ArchGymError) as refused:
        Policy.load(tmp_path / "broken.npz")
    assert len(str(refused.value)) < 300


def test_it_refuses_problems_of_other_kinds(trained):
    with pytest.raises(ArchGymError, match="trained for synthetic, not for systolic"):
        trained.greedy(make_problem("systolic/resnet18"))
    with pytest.raises(ArchGymError, match="other parameters"):
        trained.greedy(make_problem("synthetic/rugged"))


@pytest.mark.parametrize("kind", ["trained", "choosing"])
def test_a_search_starts_with_its_design_and_goes_on_bit_by_bit(kind, request, tmp_path):
    trained = request.getfixturevalue(kind)
    path = str(trained.save(tmp_path / "p.policy.npz"))
    problem = shifted("unseen", 0.3)
    agent = make_agent("ppo-fast", problem, 3, policy=path)
    assert np.array_equal(agent.ask(64), trained.design(problem))

    def run(log, budget, resume=False):
        search(problem, make_agent("ppo-fast", problem, 3, policy=path), budget, log=log, resume=resume)
        return read_trials(log).select(["x0", "x1", "x2", "x3", "reward"]).to_pylist()

    whole = run(tmp_path / "whole.arrows", 120)
    run(tmp_path / "parts.arrows", 40)
    assert run(tmp_path / "parts.arrows", 120, resume=True) == whole
    assert [whole[0][name] for name in ("x0", "x1", "x2", "x3")] == trained.design(problem)[0].tolist()
    with pytest.raises(ArchGymError, match="action_mode=construct"):
        make_agent("ppo-fast", problem, 3, policy=path, action_mode="design")


def test_a_judgement_holds_from_the_median_on():
    assert Judgement("p", 1.0, True, 1.0, 0.5).holds and not Judgement("p", 1.0, True, 1.1, 0.4).holds
    assert not Judgement("p", -20.0, False, -20.0, 1.0).holds, "as infeasible as random search is no success"


def test_the_interval_takes_groups_for_the_independent_ones():
    assert interval([[True, True], [True]]) == (1.0, 1.0) and interval([[True, False]]) == (0.5, 0.5)
    assert interval([[True] * 8, [False]]) == (0.0, 1.0)
    low, high = interval([[True], [True], [True], [False]])
    assert low == 0.25 and high == 1.0


SYSTOLIC = ("resnet18", "vgg16", "bert_base_s128")


def invoke(*arguments, code=0):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result.output


def test_the_commands_train_use_and_judge(tmp_path):
    path = tmp_path / "s.policy.npz"
    chosen = [word for name in SYSTOLIC for word in ("--workload", name)]
    facts = json.loads(invoke("policy", "train", "systolic", *chosen, "--updates", 5, "--out", path, "--json"))
    assert facts["workloads"] == [f"systolic/{name}" for name in SYSTOLIC] and facts["simulations"] > 50
    invoke("run", "systolic/alexnet", "--agent", "ppo-fast", "--hyper", f"policy={path}", "--budget", 40, "--json")
    told = json.loads(invoke("policy", "evaluate", path, "--workload", "alexnet", "--workload", "archgym_vgg01",
                             "--evaluations", 5, "--repeats", 3, "--json"))  # fmt: skip
    assert [row["problem"] for row in told["workloads"]] == ["systolic/alexnet"], "a sibling of vgg16 is no unseen one"
    again = invoke("policy", "train", "systolic", *chosen, "--updates", 5, "--out", path, code=2)
    assert "exists already" in again
    assert "related ones" in invoke("policy", "evaluate", path, "--workload", "resnet50", code=2)


def test_leaving_out_judges_every_workload_by_a_policy_that_knows_none_of_its_group():
    chosen = [word for name in (*SYSTOLIC, "archgym_resnet50") for word in ("--workload", name)]
    told = json.loads(invoke("policy", "leave-out", "systolic", *chosen, "--also", "alexnet", "--updates", 2,
                             "--evaluations", 5, "--repeats", 3, "--json"))  # fmt: skip
    assert ["systolic/resnet18", "systolic/archgym_resnet50"] in told["groups"]
    assert len(told["workloads"]) == 4 and 0.0 <= told["share"] <= 1.0
    text = invoke("policy", "leave-out", "systolic", *chosen[:4], "--updates", 1, "--evaluations", 2, "--repeats", 1)
    assert "of 2 workloads" in text


@pytest.mark.parametrize("kind", ["dram", "llm-training"])
def test_further_workloads_are_new_and_have_the_features_of_those_listed(kind):
    simulator = SIMULATORS.load(kind)()
    names = simulator.further_workloads(12, np.random.default_rng(3))
    assert names == simulator.further_workloads(12, np.random.default_rng(3))
    assert names != simulator.further_workloads(12, np.random.default_rng(4))
    listed = simulator.workloads()
    assert len(set(names)) == 12 and not set(names) & set(listed)
    of_listed = simulator.load_workload(simulator.default_workload).features()
    for name in names:
        features = simulator.load_workload(name).features()
        assert features.keys() == of_listed.keys() and np.isfinite(list(features.values())).all()


def test_the_addresses_of_further_traces_lie_within_the_memory():
    for device in ("HBM2", "DDR4-2400"):
        simulator = SIMULATORS.load("dram")(device=device, ranks=1)
        names = simulator.further_workloads(30, np.random.default_rng(3))
        highest = [simulator.load_workload(name).address.max() for name in names]
        assert 2**27 < max(highest) < simulator.device.rank_bytes
    with pytest.raises(ArchGymError, match="1,048,576 bytes is too small"):
        drawn_names(1, np.random.default_rng(3), 1 << 20)


def test_policies_learn_from_further_workloads_at_a_cheaper_fidelity_and_leave_several_groups_out():
    told = json.loads(invoke("policy", "leave-out", "dram", "--workload", "stream", "--workload", "random", "--workload",
                             "copy", "--requests", 400, "--further", 4, "--train-fidelity", "requests:100", "--folds", 2,
                             "--updates", 1, "--bandwidth", 0.2, "--evaluations", 2, "--repeats", 1, "--json"))  # fmt: skip
    assert told["training"]["bandwidth"] == 0.2
    assert told["groups"] == [["dram/stream"], ["dram/random"], ["dram/copy"]]
    assert told["train_fidelity"] == "requests:100" and told["interval"][0] <= told["share"] <= told["interval"][1]
    assert all(row["best"] >= max(row["reward"], row["random_best"]) for row in told["workloads"])
    # Two trainings of an update: at most 16 draws and 7 most likely designs for each of 7 workloads and training, 3 designs
    # judged a workload.
    assert told["simulations"] <= 2 * (16 + 7) * 7 + 3 * 3


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["train", "systolic", "--further", "3", "--out", "x"], "systolic draws no workloads"),
        (
            ["train", "dram", "--workload", "stream", "--train-fidelity", "request:9", "--out", "x"],
            "did you mean 'requests'",
        ),
        (["train", "dram", "--members", "3", "--out", "x"], "only with a bandwidth above 0"),
        (["train", "dram", "--bandwidth", "nan", "--out", "x"], "not a number"),
        (["train", "systolik", "--out", "x"], "did you mean 'systolic'"),
        (["train", "systolic", "--workload", "resnet19", "--out", "x"], "resnet19"),
        (["train", "systolic", "--workload", "vgg16", "--workload", "vgg16", "--out", "x"], "twice"),
        (["evaluate", "missing.policy.npz"], "missing.policy.npz"),
        (["leave-out", "systolic", "--workload", "vgg16", "--workload", "archgym_vgg01"], "related"),
        (["train", "nas", "--workload", "nb201-mnist1d", "--workload", "nb201-mnist1d", "--out", "x"], "twice"),
    ],
)
def test_bad_input_is_a_sentence(arguments, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = invoke("policy", *arguments, code=2)
    assert sentence in text and "Traceback" not in text and not list(tmp_path.iterdir())
