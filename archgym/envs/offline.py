"""Minari export: the trials of runs as offline episodes of :class:`~archgym.envs.design_env.DesignEnv`.

A run's trials are cut into episodes of ``episode_length`` actions. As at a reset with a given design, the first trial
of an episode is its initial state and earns no reward; every further trial is one action (the design's value indices),
with the objective's reward. The next episode starts at the last trial of the one before, so that no reward is lost.
Other action modes: in ``construct`` every trial is an episode that chooses its values one after the other; in ``edit`` an action
changes one parameter, and designs between two trials are simulated.
Observations are made by the environment's own code: collecting the same designs with Minari's ``DataCollector`` gives
the same numbers.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator, Sequence
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from archgym.datasets.dataset import Dataset
from archgym.datasets.schema import TrialSchema
from archgym.envs.core import ACTION_MODES, Episodes
from archgym.envs.registration import ENVIRONMENTS
from archgym.errors import ArchGymError, MissingExtraError, UnknownNameError, quote
from archgym.objective import Rewards
from archgym.problem import Problem
from archgym.simulator import Evaluation
from archgym.space import Designs

if TYPE_CHECKING:
    from minari.data_collector import EpisodeBuffer


Arrays = dict[str, "np.ndarray[Any, Any]"]


def episode_arrays(
    problem: Problem,
    designs: Designs,
    evaluation: Evaluation,
    rewards: Rewards,
    episode_length: int,
    action_mode: str = "design",
) -> Arrays:
    """One episode of n trials: observations ``(n, width)``, actions ``(n - 1, d)`` (``(n - 1,)`` in ``edit``), rewards,
    terminations and truncations ``(n - 1,)``. In ``edit`` neighbours differ in one parameter."""
    n = len(designs)
    state = Episodes("", n, None, action_mode, episode_length, "absolute", False, None, problem, {})
    state.design = designs
    state.steps = np.arange(n)
    state.best = np.maximum.accumulate(rewards)
    state.columns = np.array([evaluation.metrics[name] for name in state.metric_names])
    state.feasible, state.violation, state.rewards = evaluation.feasible, evaluation.violation, rewards
    actions = designs[1:]
    if action_mode == "edit":
        changed = np.argmax(designs[1:] != designs[:-1], axis=1)
        offsets = np.concatenate([[0], np.cumsum(problem.space.nvec)[:-1]])
        actions = offsets[changed] + designs[1:][np.arange(n - 1), changed]
    return {
        "observations": state.observe(),
        "actions": actions,
        "rewards": rewards[1:],
        "terminations": np.zeros(n - 1, dtype=bool),
        "truncations": np.arange(1, n) == n - 1,
    }


def construction_arrays(problem: Problem, design: Designs, reward: float) -> Arrays:
    """The episode of ``construct`` that makes one design ``(d,)``: a value a step, the reward with the last one."""
    d = len(design)
    state = Episodes("", d + 1, None, "construct", None, "absolute", False, None, problem, {})
    state.design = np.tile(design, (d + 1, 1))
    state.steps = np.arange(d + 1)
    last = np.arange(d) == d - 1
    return {
        "observations": state.observe(),
        "actions": np.asarray(design, dtype=np.int64),
        "rewards": np.where(last, reward, 0.0),
        "terminations": last,
        "truncations": np.zeros(d, dtype=bool),
    }


def edit_path(
    problem: Problem, designs: Designs, evaluation: Evaluation, rewards: Rewards
) -> tuple[Designs, Evaluation, Rewards, int]:
    """A run in which neighbours differ in exactly one parameter: repeats of the design before are left out, and where several
    parameters change, the designs between, which change them in the order of the space, are simulated. Returns how many.

    Raises:
        ArchGymError: designs between would have to be simulated by starting programs.
    """
    rows: list[Any] = [designs[0]]
    source = [0]
    for t in range(1, len(designs)):
        changed = np.flatnonzero(designs[t] != rows[-1])
        for k, parameter in enumerate(changed):
            step = rows[-1].copy()
            step[parameter] = designs[t][parameter]
            rows.append(step)
            source.append(t if k == len(changed) - 1 else -1)
    path, origin = np.array(rows), np.array(source)
    between = np.flatnonzero(origin < 0)
    if len(between) and problem.simulator.starts_programs:
        raise ArchGymError(
            f"{len(between)} designs between the trials would start programs; export the action mode design or construct, or "
            "trials that change one parameter at a time (dataset sample --method perturb)"
        )
    order = np.empty(len(path), dtype=np.int64)
    order[origin >= 0] = origin[origin >= 0]
    order[between] = len(designs) + np.arange(len(between))
    if len(between):
        made, earned = problem.evaluate(path[between], seed=0)
        evaluation = Evaluation.concatenate([evaluation, made])
        rewards = np.concatenate([rewards, earned])
    return path, evaluation.take(order), rewards[order], len(between)


def _episodes(
    problem: Problem, run: tuple[Designs, Evaluation, Rewards], mode: str, episode_length: int, counts: dict[str, int]
) -> Iterator[Arrays]:
    """The episodes of a run."""
    designs, evaluation, rewards = run
    if mode == "construct":
        for design, reward in zip(designs, rewards, strict=True):
            yield construction_arrays(problem, design, float(reward))
        return
    if mode == "edit":
        designs, evaluation, rewards, simulated = edit_path(problem, designs, evaluation, rewards)
        counts["simulated"] += simulated
    for start in range(0, len(designs) - 1, episode_length):
        rows = slice(start, start + episode_length + 1)
        yield episode_arrays(problem, designs[rows], evaluation.take(rows), rewards[rows], episode_length, mode)


def to_minari(
    paths: Path | str | Sequence[Path | str],
    dataset_id: str,
    *,
    root: Path | str | None = None,
    episode_length: int = 16,
    action_mode: str = "design",
    author: str = "",
    description: str = "",
    trust: bool = False,
) -> dict[str, Any]:
    """Write a Minari dataset (HDF5).

    Args:
        paths: trials of one problem.
        dataset_id: as Minari names data sets, ``"archgym/dram/gzip-v0"``; a plain name ``"mine"`` becomes
            ``"archgym/mine-v0"``.
        root: Minari's data folder; its own default (``MINARI_DATASETS_PATH``) where None.
        episode_length: actions an episode; the last one of a run may be shorter. In ``construct`` an episode has an action a
            parameter.
        action_mode: of the environment whose episodes are written: ``design`` (an action is a design), ``construct`` (the
            values of one design, one after the other) or ``edit`` (one parameter changes; designs between two trials that
            differ in several are simulated).
        author, description: for the metadata.
        trust: see :meth:`archgym.datasets.dataset.ProblemInfo.make`.
    """
    if re.fullmatch(r"\w[\w-]*", dataset_id) and not re.search(r"-v\d+$", dataset_id):
        dataset_id = f"archgym/{dataset_id}-v0"
    if not re.fullmatch(r"(?:[\w-]+/)*[\w-]+-v\d+", dataset_id):
        raise ArchGymError(f"{quote(dataset_id)} is no id of Minari's; write namespace/name-v0, as archgym/mine-v0")
    if root is not None:
        os.environ["MINARI_DATASETS_PATH"] = str(Path(root).absolute())
    try:
        import minari
        from gymnasium import spec
        from gymnasium.error import Error as UnknownEnvironment
        from minari.data_collector import EpisodeBuffer
    except ModuleNotFoundError as error:
        raise MissingExtraError("the Minari export", "offline", f"{error.name} is not installed") from None
    if episode_length < 1:
        raise ArchGymError(f"the episode length is {episode_length}; expected a positive number of actions")
    if action_mode not in ACTION_MODES:
        raise UnknownNameError("action mode", action_mode, ACTION_MODES)
    dataset = Dataset(paths)
    problem = dataset.problem(trust=trust)
    width = Episodes("", 1, None, action_mode, episode_length, "absolute", False, None, problem, {})
    counts = {"episodes": 0, "steps": 0, "trials": 0, "simulated": 0}
    kind, _, workload = problem.name.partition("/")
    environment = None
    for name, simulator in ENVIRONMENTS.items():
        if simulator == kind:
            try:
                environment = deepcopy(spec(name))  # what is registered stays as it is
            except UnknownEnvironment:
                break
            environment.kwargs |= {"workload": workload, **_plain_options(problem)}
            if action_mode != "design":
                environment.kwargs["action_mode"] = action_mode
            if action_mode != "construct":
                environment.kwargs["episode_length"] = episode_length
            # Loaders of offline data (d3rlpy's) ask the data set's environment for it.
            environment.max_episode_steps = width.length

    def buffers() -> Iterator[EpisodeBuffer]:
        for seed, designs, evaluation, rewards in _runs(dataset, problem):
            counts["trials"] += len(designs)
            first = True
            for arrays in _episodes(problem, (designs, evaluation, rewards), action_mode, episode_length, counts):
                counts["steps"] += len(arrays["rewards"])
                yield EpisodeBuffer(id=counts["episodes"], seed=seed if first else None, **arrays)
                counts["episodes"] += 1
                first = False

    agents = sorted({name for batch in dataset.batches(["agent"]) for name in batch.column(0).to_pylist()})
    try:
        # Minari warns about every piece of metadata that is left out.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            made = minari.create_dataset_from_buffers(
                dataset_id,
                buffers(),
                env=environment,
                algorithm_name=", ".join(agents),
                author=author or "archgym",
                description=description
                or f"Trials of {', '.join(agents)} on {problem.name}, objective {problem.objective.name}",
                action_space=width.action_space,
                observation_space=width.observation_space,
                data_format="hdf5",
                requirements=["archgym"],
            )
    except (ValueError, OSError) as error:
        if isinstance(error, ArchGymError):
            raise
        raise ArchGymError(f"Minari does not write {dataset_id!r}: {' '.join(str(error).split())[:300]}") from None
    return {"dataset_id": dataset_id, "out": str(made.storage.data_path.parent), **counts}


def _plain_options(problem: Problem) -> dict[str, Any]:
    return {key: value for key, value in problem.options.items() if key != "simulator"}


def _runs(dataset: Dataset, problem: Problem) -> Iterator[tuple[int, Designs, Evaluation, Rewards]]:
    """Each run's trials in order. A shard is a run; a merged file may hold runs one after the other."""
    schema = TrialSchema(problem, {})
    names = [*problem.space.names, *[metric.name for metric in problem.metrics]]
    names += ["feasible", "violation", "reward", "index", "seed", "agent", "study", "run", "hyperparameter_hash"]
    open_run: tuple[Any, ...] | None = None
    parts: list[tuple[Designs, Evaluation, Rewards]] = []

    def finish() -> tuple[int, Designs, Evaluation, Rewards]:
        assert open_run is not None
        designs = np.concatenate([part[0] for part in parts])
        return (
            open_run[0],
            designs,
            Evaluation.concatenate([p[1] for p in parts]),
            np.concatenate([p[2] for p in parts]),
        )

    for file in dataset.files:
        for batch in file.batches(names):
            seed = batch.column("seed").to_numpy()
            index = batch.column("index").to_numpy()
            label = list(
                zip(
                    *[batch.column(n).to_pylist() for n in ("agent", "study", "run", "hyperparameter_hash")],
                    strict=True,
                )
            )
            change = [0]
            change += [
                i
                for i in range(1, len(index))
                if index[i] <= index[i - 1] or seed[i] != seed[i - 1] or label[i] != label[i - 1]
            ]
            designs, evaluation = schema.designs(batch), schema.evaluation(batch)
            rewards = batch.column("reward").to_numpy()
            for start, end in zip(change, [*change[1:], len(index)], strict=True):
                run = (int(seed[start]), str(file.path) if file.run is not None else "", label[start])
                if open_run != run or index[start] == 0:
                    if parts:
                        yield finish()
                    open_run, parts = run, []
                rows = slice(start, end)
                parts.append((designs[rows], evaluation.take(rows), rewards[rows]))
    if parts:
        yield finish()
