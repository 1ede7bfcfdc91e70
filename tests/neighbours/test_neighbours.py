"""Other libraries on our environments, unmodified, as their users would: what their own readers and buffers make of them.

The libraries are those of the extra ``neighbours``; Tianshou and RLlib pin other versions than we run with and go in
without their requirements (see docs/environments.md). Whole trainings are in examples/.
"""

from __future__ import annotations

import os
import sys

import gymnasium
import numpy as np
import pytest

import archgym  # noqa: F401 (registers the environments)
from archgym.envs import DesignEnv, DesignVectorEnv

MODES = ["design", "construct", "edit"]
ID, OPTIONS = "archgym/Systolic-v0", {"workload": "resnet18"}


@pytest.mark.parametrize("mode", MODES)
def test_minari_records_infos(mode, tmp_path, monkeypatch):
    minari = pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    env = minari.DataCollector(gymnasium.make(ID, action_mode=mode, **OPTIONS), record_infos=True)
    env.action_space.seed(0)
    for episode in range(3):
        env.reset(seed=episode)
        done = False
        while not done:
            _, _, terminated, truncated, _ = env.step(env.action_space.sample())
            done = terminated or truncated
    env.create_dataset(f"archgym/{mode}-v0", algorithm_name="random", author="-", description="-")
    episode = next(iter(minari.load_dataset(f"archgym/{mode}-v0").iterate_episodes()))
    steps = len(episode.rewards)
    assert {key: (len(v), v.dtype.kind) for key, v in episode.infos.items() if key != "action_mask"} == {
        "indices": (steps + 1, "i"), "metrics": (steps + 1, "f"), "defined": (steps + 1, "b"), "evaluated": (steps + 1, "b"),
        "feasible": (steps + 1, "b"), "design_reward": (steps + 1, "f"),
    }  # fmt: skip
    assert ("action_mask" in episode.infos) == (mode != "design")


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_torchrl_s_gym_env_reads_specs_and_infos(mode):
    envs = pytest.importorskip("torchrl.envs")
    from torchrl.envs.utils import check_env_specs

    env = envs.GymEnv(ID, action_mode=mode, categorical_action_encoding=True, **OPTIONS).auto_register_info_dict()
    check_env_specs(env)
    if mode != "design":
        env = envs.TransformedEnv(env, envs.ActionMask())
    data = env.rollout(40, break_when_any_done=False)
    assert {"metrics", "indices", "design_reward", "defined"} <= set(data["next"].keys())
    if mode == "construct":
        end = data["next", "terminated"][:, 0]
        assert end.any() and bool((data["next", "reward"][end, 0] == data["next", "design_reward"][end].float()).all())
    for autoreset in ("Disabled", "SameStep"):
        vector = gymnasium.make_vec(ID, num_envs=3, action_mode=mode, autoreset_mode=autoreset, **OPTIONS)
        wrapped = envs.GymWrapper(vector)
        check_env_specs(wrapped)
        assert wrapped.rollout(20, break_when_any_done=False)["next", "reward"].shape == (3, 20, 1)


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_tianshou_s_buffers_take_infos(mode):
    data = pytest.importorskip("tianshou.data")
    from tianshou.algorithm.random import MARLRandomDiscreteMaskedOffPolicyAlgorithm
    from tianshou.env import DummyVectorEnv

    workers = DummyVectorEnv([lambda: gymnasium.make(ID, action_mode=mode, **OPTIONS)] * 2)
    anyone = MARLRandomDiscreteMaskedOffPolicyAlgorithm(action_space=workers.action_space[0])
    collector = data.Collector(anyone, workers, data.VectorReplayBuffer(200, 2))
    collector.reset()
    collector.collect(n_step=80, random=True)
    assert np.isfinite(collector.buffer.info.metrics).all() and len(collector.buffer) == 80


@pytest.mark.slow
def test_tianshou_s_ppo():
    pytest.importorskip("tianshou")
    from tianshou.algorithm import PPO
    from tianshou.algorithm.modelfree.reinforce import DiscreteActorPolicy
    from tianshou.algorithm.optim import AdamOptimizerFactory
    from tianshou.data import Collector, VectorReplayBuffer
    from tianshou.env import DummyVectorEnv
    from tianshou.trainer import OnPolicyTrainerParams
    from tianshou.utils.net.common import Net
    from tianshou.utils.net.discrete import DiscreteActor, DiscreteCritic

    workers = DummyVectorEnv([lambda: gymnasium.make(ID, action_mode="construct", **OPTIONS)] * 2)
    space, seen = workers.action_space[0], workers.observation_space[0]
    body = Net(state_shape=seen.shape, hidden_sizes=[16])
    actor = DiscreteActor(preprocess_net=body, action_shape=space.n, softmax_output=False)
    policy = DiscreteActorPolicy(actor=actor, action_space=space)
    ppo = PPO(policy=policy, critic=DiscreteCritic(preprocess_net=body), optim=AdamOptimizerFactory(lr=1e-3))
    collector = Collector(ppo, workers, VectorReplayBuffer(200, 2))
    often = {"max_epochs": 1, "epoch_num_steps": 128, "collection_step_num_env_steps": 64, "show_progress": False}
    assert ppo.run_training(OnPolicyTrainerParams(training_collector=collector, **often)).train_step == 128


@pytest.mark.slow
def test_skrl_s_wrapper_in_every_mode():
    wrappers = pytest.importorskip("skrl.envs.wrappers.torch")
    import torch

    for mode in MODES:
        env = wrappers.wrap_env(gymnasium.make_vec(ID, num_envs=3, action_mode=mode, **OPTIONS))
        env.reset()
        for _ in range(20):
            actions = torch.as_tensor(np.array(env._env.action_space.sample())).reshape(3, -1)
            observations, rewards, *_ = env.step(actions)
        assert observations.shape[0] == rewards.shape[0] == 3 and bool(torch.isfinite(observations).all())


@pytest.mark.slow
def test_a_remote_process_of_ray_finds_an_id_with_its_import():
    ray = pytest.importorskip("ray")
    paths = {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, runtime_env={"env_vars": paths})
    try:

        @ray.remote
        def make(name):
            import gymnasium

            try:
                return gymnasium.make(name).reset(seed=0)[1]["feasible"] in (True, False)
            except gymnasium.error.NamespaceNotFound as error:
                return str(error)

        assert "Namespace archgym not found" in ray.get(make.remote(ID))
        assert ray.get(make.remote(f"archgym:{ID}")) is True
    finally:
        ray.shutdown()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("autoreset", ["NextStep", "SameStep", "Disabled"])
def test_gymnasium_s_vector_wrappers(bowl, mode, autoreset):
    from gymnasium.wrappers import vector as wrappers

    options = {"problem": bowl, "num_envs": 2, "action_mode": mode, "episode_length": 3, "autoreset_mode": autoreset}
    made = [
        wrappers.RecordEpisodeStatistics,
        lambda env: wrappers.ClipReward(env, -1, 1),
        lambda env: wrappers.TransformReward(env, lambda reward: reward * 2),
    ]
    if autoreset != "SameStep":  # which Gymnasium's own refuse
        made += [
            lambda env: wrappers.DtypeObservation(env, np.float64),
            wrappers.FlattenObservation,
            wrappers.NormalizeReward,
            lambda env: wrappers.RescaleObservation(env, 0.0, 1.0),
            wrappers.DictInfoToList,
        ]
    if autoreset == "NextStep":  # the only one that Gymnasium's own takes
        made.append(wrappers.NormalizeObservation)
    for wrap in made:
        env = wrap(DesignVectorEnv(**options))
        env.reset(seed=0)
        env.action_space.seed(0)
        for _ in range(4):
            observations, rewards, terminated, truncated, _ = env.step(env.action_space.sample())
            ended = terminated | truncated
            if autoreset == "Disabled" and ended.any():
                env.reset(options={"reset_mask": ended})
            assert np.isfinite(observations).all() and np.isfinite(rewards).all()


def test_copies_of_a_logging_environment_write_files_of_their_own(bowl, tmp_path):
    import copy
    import pickle

    env = DesignEnv(problem=bowl, log=tmp_path)
    env.reset(seed=0)
    others = [copy.deepcopy(env), pickle.loads(pickle.dumps(env))]
    for each in [env, *others]:
        each.reset(seed=1)
        each.close()
    assert len(list(tmp_path.glob("env*.arrows"))) == 3
