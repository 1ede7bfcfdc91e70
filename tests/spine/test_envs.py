"""Environments over the small problem: Gymnasium's and SB3's checks, modes, equality of single and vector."""

from __future__ import annotations

import subprocess
import sys
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from archgym.datasets import read_trials
from archgym.envs import DesignEnv, DesignVectorEnv
from archgym.errors import ArchGymError

MODES = ["design", "construct", "edit"]


@pytest.mark.parametrize("mode", MODES)
def test_check_env_passes_without_a_warning(bowl, mode):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(DesignEnv(problem=bowl, action_mode=mode), skip_render_check=True)


@pytest.mark.parametrize("mode", MODES)
def test_sb3_check_env_passes(bowl, mode):
    checker = pytest.importorskip("stable_baselines3.common.env_checker")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        checker.check_env(DesignEnv(problem=bowl, action_mode=mode, workload_features=True), warn=True)


def same_steps(vector, singles, steps=9):
    """Step a vector environment and single ones by the same random actions, and find no difference."""
    for _ in range(steps):
        actions = np.array([vector.single_action_space.sample() for _ in singles])
        observations, rewards, terminated, truncated, infos = vector.step(actions)
        for i, env in enumerate(singles):
            obs, reward, term, trunc, info = env.step(actions[i])
            assert (reward, term, trunc) == (rewards[i], terminated[i], truncated[i])
            if term or trunc:
                assert np.array_equal(infos["final_obs"][i], obs)
                obs, info = env.reset()
            assert np.array_equal(observations[i], obs)
            assert np.array_equal(infos["indices"][i], info["indices"])
            assert vector.observation_space.contains(observations)


@pytest.mark.parametrize("mode", MODES)
def test_the_vector_environment_goes_the_same_way_as_single_ones(bowl, mode):
    n = 5
    vector = DesignVectorEnv(problem=bowl, num_envs=n, action_mode=mode, episode_length=3, autoreset_mode="SameStep")
    singles = [DesignEnv(problem=bowl, action_mode=mode, episode_length=3) for _ in range(n)]
    observations, infos = vector.reset(seed=10)
    firsts = [env.reset(seed=10 + i) for i, env in enumerate(singles)]
    assert np.array_equal(observations, [obs for obs, _ in firsts])
    same_steps(vector, singles)


def test_construct_gives_its_reward_at_the_end_and_masks_what_does_not_exist(bowl):
    env = DesignEnv(problem=bowl, action_mode="construct", info="full")
    _, info = env.reset(seed=0)
    assert info["full"]["design"] == dict.fromkeys(bowl.space.names)
    counts = []
    for choice in (10, 3, 1, 2):
        counts.append(int(env.action_masks().sum()))
        _, reward, terminated, _, info = env.step(choice)
    assert counts == [16, 4, 2, 4]
    assert terminated and info["full"]["metrics"]["time_ns"] == 10.0 == info["metrics"][0]
    assert reward == bowl.evaluate([[10, 3, 1, 2]])[1][0]


def test_edit_changes_one_parameter(bowl):
    env = DesignEnv(problem=bowl, action_mode="edit", info="full")
    env.reset(options={"design": {"size": 1, "speed_mhz": 100.0, "policy": "eager", "patience": 1}})
    assert env.action_space.n == 26 and env.action_masks().sum() == 22
    _, _, _, _, info = env.step(16 + 2)
    assert info["full"]["design"] == {"size": 1, "speed_mhz": 400.0, "policy": "eager", "patience": 1}


def test_info_has_the_same_keys_at_reset_and_step_and_nothing_random(bowl):
    env = DesignEnv(problem=bowl)
    one, two = env.reset(seed=4)[1], env.step(env.action_space.sample())[4]
    assert one.keys() == two.keys()
    again = DesignEnv(problem=bowl).reset(seed=4)[1]
    assert {k: str(v) for k, v in one.items()} == {k: str(v) for k, v in again.items()}


@pytest.mark.parametrize("mode", MODES)
def test_info_holds_finite_arrays_of_fixed_types(bowl, mode):
    env = DesignEnv(problem=bowl, action_mode=mode, episode_length=4)
    env.action_space.seed(0)
    forms = set()
    for _ in range(20):
        infos = [env.reset(seed=0)[1]]
        done = False
        while not done:
            _, _, terminated, truncated, info = env.step(env.action_space.sample())
            infos.append(info)
            done = terminated or truncated
        for info in infos:
            forms.add(
                tuple((key, type(v), getattr(v, "shape", ()), str(np.asarray(v).dtype)) for key, v in info.items())
            )
            assert all(np.isfinite(np.asarray(value)).all() for value in info.values())
    assert len(forms) == 1


@pytest.mark.parametrize("mode", MODES)
def test_vector_environments_go_as_gymnasium_s_own(bowl, mode):
    options = {"problem": bowl, "action_mode": mode, "episode_length": 3}
    ours = DesignVectorEnv(num_envs=3, **options)
    theirs = gymnasium.vector.SyncVectorEnv([lambda: DesignEnv(**options)] * 3)
    assert ours.metadata["autoreset_mode"] == theirs.metadata["autoreset_mode"] == ours.autoreset_mode
    ours.action_space.seed(1)
    (a, info_a), (b, info_b) = ours.reset(seed=2), theirs.reset(seed=2)
    for _ in range(12):
        assert np.array_equal(a, b) and info_a.keys() == info_b.keys()
        for key, column in info_a.items():
            assert np.array_equal(column, info_b[key]), key
        actions = ours.action_space.sample()
        (a, *ends_a, info_a), (b, *ends_b, info_b) = ours.step(actions), theirs.step(actions)
        assert all(np.array_equal(x, y) for x, y in zip(ends_a, ends_b, strict=True))


def test_without_autoreset_a_mask_says_what_starts_again(bowl):
    env = DesignVectorEnv(problem=bowl, num_envs=3, episode_length=2, autoreset_mode="Disabled")
    env.reset(seed=0)
    env.action_space.seed(0)
    first, *_ = env.step(env.action_space.sample())
    mask = np.array([True, False, True])
    again, infos = env.reset(options={"reset_mask": mask})
    assert np.array_equal(again[1], first[1]) and not np.array_equal(again[0], first[0])
    _, _, _, truncated, _ = env.step(env.action_space.sample())
    assert truncated.tolist() == [False, True, False], "the others begin their episodes"
    for bad in ([True], np.zeros(3, dtype=bool), [1, 0, 1]):
        with pytest.raises(ArchGymError, match="expected a bool a sub-environment"):
            env.reset(options={"reset_mask": bad})


def test_gymnasium_s_vector_wrappers_take_it(bowl):
    from gymnasium.wrappers.vector import (
        NormalizeObservation,
        NormalizeReward,
        RecordEpisodeStatistics,
        RescaleObservation,
    )

    env = DesignVectorEnv(problem=bowl, num_envs=2, episode_length=2)
    env = RecordEpisodeStatistics(NormalizeReward(NormalizeObservation(RescaleObservation(env, 0.0, 1.0))))
    env.reset(seed=0)
    for _ in range(5):
        observations, *_ = env.step(env.action_space.sample())
    assert np.isfinite(observations).all()


def test_an_argument_that_nobody_takes_is_a_type_error_too(bowl):
    with pytest.raises(TypeError, match="unexpected keyword argument 'frameskip'"):
        DesignEnv("bowl", frameskip=1)
    with pytest.raises(ArchGymError, match="unknown autoreset mode 'nextstep'; did you mean 'NextStep'"):
        DesignVectorEnv(problem=bowl, num_envs=2, autoreset_mode="nextstep")


def test_an_id_with_its_import_works_where_nothing_was_imported():
    code = "import gymnasium; print(gymnasium.make('archgym:archgym/Systolic-v0').spec.id)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["archgym/Systolic-v0"]


def test_the_workload_changes_through_reset(bowl):
    env = DesignEnv("bowl", "deep", workload_features=True)
    deep, _ = env.reset(seed=0)
    flat, _ = env.reset(seed=0, options={"workload": "flat"})
    assert env.problem.name == "bowl/flat"
    assert (deep[-1], flat[-1]) == (4.0, 1.0)
    with pytest.raises(ArchGymError, match="unknown reset option 'workloads'"):
        env.reset(options={"workloads": "flat"})


def test_improvement_rewards_add_up_to_the_gain(bowl):
    env = DesignEnv(problem=bowl, reward_mode="improvement", episode_length=50)
    _, info = env.reset(seed=0)
    start, total, best = info["design_reward"], 0.0, info["design_reward"]
    env.action_space.seed(0)
    for _ in range(50):
        _, reward, _, truncated, info = env.step(env.action_space.sample())
        total, best = total + reward, max(best, info["design_reward"])
        assert reward >= 0
    assert truncated and total == pytest.approx(best - start)


def test_environments_log_every_trial(bowl, tmp_path):
    env = DesignVectorEnv(problem=bowl, num_envs=8, log=tmp_path)
    env.reset(seed=0)
    env.step(env.action_space.sample())
    env.close()
    assert len(read_trials(tmp_path)) == 16


def test_next_step_autoreset_ignores_the_action_after_an_end(bowl):
    env = DesignVectorEnv(problem=bowl, num_envs=2, episode_length=2, autoreset_mode="NextStep")
    env.reset(seed=0)
    ends = [env.step(env.action_space.sample())[3].all() for _ in range(6)]
    assert ends == [False, True, False, False, True, False]


@pytest.mark.parametrize(
    ("kwargs", "sentence"),
    [
        ({"action_mode": "constructt"}, "did you mean 'construct'"),
        ({"episode_length": 0}, "episode_length is 0"),
        ({"reward_mode": "best"}, "unknown reward mode"),
        ({"render_mode": "human"}, "unknown render mode"),
        ({"info": "all"}, "unknown kind of info"),
        ({"episode_length": 2.5}, "episode_length is 2.5; expected a positive whole number of steps"),
    ],
)
def test_bad_arguments_get_one_sentence(bowl, kwargs, sentence):
    with pytest.raises(ArchGymError, match=sentence):
        DesignEnv(problem=bowl, **kwargs)


def test_actions_outside_the_space_are_refused(bowl):
    env = DesignEnv(problem=bowl)
    env.reset(seed=0)
    with pytest.raises(ArchGymError, match="index 99"):
        env.step([99, 0, 0, 0])
    edit = DesignEnv(problem=bowl, action_mode="edit")
    edit.reset(seed=0)
    with pytest.raises(ArchGymError, match="not in Discrete"):
        edit.step(26)


@pytest.mark.parametrize("mode", ["ansi", "rgb_array"])
def test_rendering(bowl, mode):
    env = DesignEnv(problem=bowl, render_mode=mode)
    env.reset(seed=0)
    picture = env.render()
    if mode == "ansi":
        assert "speed_mhz" in picture and "MHz" in picture
    else:
        assert picture.ndim == 3 and picture.shape[2] == 3 and picture.std() > 10


def test_stable_baselines3_runs_on_the_adapter(bowl):
    sb3 = pytest.importorskip("stable_baselines3")
    from archgym.envs.sb3 import SB3VecEnv

    venv = SB3VecEnv(DesignVectorEnv(problem=bowl, num_envs=4, episode_length=4))
    model = sb3.PPO("MlpPolicy", venv, n_steps=16, batch_size=32, n_epochs=1, seed=0, device="cpu")
    model.learn(128)
    assert len(model.ep_info_buffer) == 32
    assert gymnasium.spaces.MultiDiscrete([16, 4, 2, 4]) == venv.action_space


def test_an_improvement_needs_several_designs_an_episode(bowl):
    for make in (DesignEnv, DesignVectorEnv):
        with pytest.raises(ArchGymError, match="an episode of 'construct' makes one"):
            make(problem=bowl, action_mode="construct", reward_mode="improvement")


@pytest.mark.parametrize("mode", MODES)
def test_several_workloads_go_the_ways_of_environments_of_their_own(bowl, mode, tmp_path):
    options = {"action_mode": mode, "episode_length": 3, "workload_features": True}
    several = DesignVectorEnv("bowl", ["deep", "flat"], num_envs=5, log=tmp_path, autoreset_mode="SameStep", **options)
    singles = [DesignEnv("bowl", name, **options) for name in ("deep", "flat", "deep", "flat", "deep")]
    observations, infos = several.reset(seed=10)
    assert infos["workload"].tolist() == [0, 1, 0, 1, 0]
    assert np.array_equal(observations, [env.reset(seed=10 + i)[0] for i, env in enumerate(singles)])
    same_steps(several, singles)
    several.close()
    trials = read_trials(tmp_path)
    assert set(trials.column("workload").to_pylist()) == {"deep", "flat"}
    with pytest.raises(ArchGymError, match="of deep, flat"):
        several.reset(options={"workload": "flat"})
    with pytest.raises(ArchGymError, match="expected a name or a list of names"):
        DesignVectorEnv("bowl", [])


def test_make_vec_takes_several_workloads():
    envs = gymnasium.make_vec("archgym/Systolic-v0", num_envs=4, workload=["resnet18", "vgg16"])
    envs.reset(seed=0)
    envs.single_action_space.seed(0)  # the design has to be feasible: others have no metrics
    design = np.tile(envs.single_action_space.sample(), (4, 1))
    metrics = envs.step(design)[4]["metrics"]
    assert metrics.any()
    assert (metrics[0] == metrics[2]).all() and (metrics[1] == metrics[3]).all() and (metrics[0] != metrics[1]).any()


def test_arguments_of_other_types_are_refused_in_a_sentence():
    for problem in ("synthetic/rugged", 3, {"name": "x"}):
        with pytest.raises(ArchGymError, match="expected a Problem"):
            gymnasium.make("archgym/Systolic-v0", problem=problem)
        with pytest.raises(ArchGymError, match="expected a Problem"):
            gymnasium.make_vec("archgym/Systolic-v0", num_envs=2, problem=problem)
    with pytest.raises(ArchGymError, match="expected a name"):
        DesignVectorEnv("synthetic", 3)
    env = DesignVectorEnv("synthetic", num_envs=2)
    with pytest.raises(ArchGymError, match="reset_mask"):
        env.reset(options={"maskk": [True, False]})
