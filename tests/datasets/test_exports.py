"""Exports are read back by the libraries they are for."""

import json
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from archgym.agents.collect import collect
from archgym.datasets import export
from archgym.datasets.card import card, design_diversity
from archgym.datasets.cli import dataset as group
from archgym.datasets.dataset import Dataset
from archgym.envs import DesignEnv
from archgym.errors import ArchGymError
from archgym.problem import make_problem


def test_csv_is_the_table(trials, tmp_path):
    pandas = pytest.importorskip("pandas")
    made = export.to_csv(trials, tmp_path / "x.csv")
    frame = pandas.read_csv(tmp_path / "x.csv")
    table = Dataset(trials).table()
    assert len(frame) == made["rows"] == len(table)
    np.testing.assert_array_equal(frame["time_ns"].to_numpy(), table.column("time_ns").to_numpy())
    about = {row["name"]: row for row in json.loads((tmp_path / "x.columns.json").read_text())}
    assert about["energy_pj"] == {
        "name": "energy_pj", "type": "double", "role": "metric", "unit": "pJ", "direction": "min"
    }  # fmt: skip


def test_parquet_is_read_by_pandas_and_duckdb(trials, tmp_path):
    pandas, duckdb = pytest.importorskip("pandas"), pytest.importorskip("duckdb")
    export.to_parquet(trials, tmp_path / "p")
    frame = pandas.read_parquet(tmp_path / "p")
    count = duckdb.sql(f"SELECT count(*), min(time_ns) FROM '{tmp_path / 'p'}/*.parquet'").fetchall()[0]
    assert count == (len(frame), frame["time_ns"].min()) and len(frame) == Dataset(trials).rows
    assert Dataset(tmp_path / "p").rows == len(frame)


def test_hugging_face_folder(trials, tmp_path):
    pandas = pytest.importorskip("pandas")
    yaml = pytest.importorskip("yaml")
    made = export.to_hugging_face(trials, tmp_path / "hf", title="Toy trials")
    page = (tmp_path / "hf" / "README.md").read_text()
    front = yaml.safe_load(page.split("---\n")[1])
    assert front["license"] == "cc-by-4.0" and front["size_categories"] == ["n<1K"]
    pattern = front["configs"][0]["data_files"][0]["path"]
    files = sorted((tmp_path / "hf").glob(pattern))
    assert files and sum(len(pandas.read_parquet(path)) for path in files) == made["rows"]
    # Plain types: no dictionary, no extension, nothing a reader must know Arrow for.
    assert {str(f.type) for f in pq.read_schema(files[0])} <= {"string", "int64", "double", "bool"}
    assert Dataset(tmp_path / "hf" / "data").rows == made["rows"]
    assert "## Known limits" in page and "toy/light" in page


REQUIRED = ("@context", "@type", "name", "description", "conformsTo", "license", "url", "datePublished", "citeAs")


def test_croissant_has_what_the_standard_requires(trials, tmp_path):
    export.to_croissant(trials, tmp_path / "c", title="Toy trials")
    about = json.loads((tmp_path / "c" / "croissant.json").read_text())
    assert all(about.get(key) for key in REQUIRED)
    assert about["@type"] == "sc:Dataset" and about["conformsTo"] == "http://mlcommons.org/croissant/1.0"
    assert all({"contentUrl", "encodingFormat", "sha256"} <= set(entry) for entry in about["distribution"])
    fields = about["recordSet"][0]["field"]
    names = pq.read_schema(tmp_path / "c" / "trials-00000.parquet").names
    assert [f["name"] for f in fields] == names and all(f["dataType"].startswith("sc:") for f in fields)


def test_croissant_validates(trials, tmp_path):
    croissant = pytest.importorskip("mlcroissant")
    made = export.to_croissant(trials, tmp_path / "c", title="Toy trials")
    about = croissant.Dataset(jsonld=str(tmp_path / "c" / "croissant.json"))
    assert not about.metadata.ctx.issues.errors
    rows = list(about.records(record_set="records-0"))
    assert len(rows) == made["rows"]


# --- Minari --------------------------------------------------------------------------------------------------------


@pytest.fixture
def minari(tmp_path, monkeypatch):
    library = pytest.importorskip("minari")
    pytest.importorskip("h5py")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return library


def test_minari_loads_what_was_exported(minari, tmp_path):
    from archgym.envs.offline import to_minari

    problem = make_problem("toy/light")
    for seed in (1, 2):
        collect(problem, tmp_path / "t", count=40, method="uniform", seed=seed)
    made = to_minari(tmp_path / "t", "archgym/toy-v0", episode_length=8)
    loaded = minari.load_dataset("archgym/toy-v0")
    trials = Dataset(tmp_path / "t").rows
    # Two runs: every trial but the first of each run is one step.
    assert loaded.total_steps == made["steps"] == trials - 2
    assert loaded.total_episodes == made["episodes"]
    rewards = np.concatenate([episode.rewards for episode in loaded.iterate_episodes()])
    table = [
        b.column("reward").to_numpy()[1:] for file in Dataset(tmp_path / "t").files for b in file.batches(["reward"])
    ]
    np.testing.assert_array_equal(rewards, np.concatenate(table))
    for episode in loaded.iterate_episodes():
        assert len(episode.observations) == len(episode.actions) + 1 <= 9
        assert episode.truncations[-1] and not episode.truncations[:-1].any() and not episode.terminations.any()
        assert all(loaded.observation_space.contains(o) for o in episode.observations)
        assert all(loaded.action_space.contains(a) for a in episode.actions)


def test_minari_episodes_are_what_the_environment_shows(minari, tmp_path):
    """Stepping the environment through an exported episode gives its observations and rewards, bit by bit."""
    from archgym.envs.offline import to_minari

    problem = make_problem("toy/heavy")
    collect(problem, tmp_path / "t", count=60, method="agent:random", seed=5)
    to_minari(tmp_path / "t", "archgym/toy-v1", episode_length=7)
    env = DesignEnv(problem=make_problem("toy/heavy"), episode_length=7)
    space = problem.space
    for episode in minari.load_dataset("archgym/toy-v1").iterate_episodes():
        first = np.rint(episode.observations[0][: space.dimension] * np.maximum(space.nvec - 1, 1)).astype(np.int64)
        observation, _ = env.reset(seed=0, options={"design": first})
        np.testing.assert_array_equal(observation, episode.observations[0])
        for t, action in enumerate(episode.actions):
            observation, reward, _, truncated, _ = env.step(action)
            np.testing.assert_array_equal(observation, episode.observations[t + 1])
            assert reward == episode.rewards[t]
        assert truncated == (len(episode.actions) == 7)


@pytest.mark.parametrize("mode", ["design", "construct", "edit"])
def test_minari_in_every_action_mode_is_what_the_environment_shows(minari, tmp_path, mode):
    """Stepping the recovered environment through every episode gives its observations and rewards, bit by bit."""
    from archgym.envs.offline import to_minari

    problem = make_problem("systolic/resnet18")
    collect(problem, tmp_path / "t", count=30, method="agent:ga", seed=5)
    made = to_minari(tmp_path / "t", f"archgym/mode-{mode}-v0", episode_length=7, action_mode=mode)
    data = minari.load_dataset(f"archgym/mode-{mode}-v0")
    environment = data.recover_environment()
    assert environment.spec.max_episode_steps == (problem.space.dimension if mode == "construct" else 7)
    space, steps = problem.space, 0
    for episode in data.iterate_episodes():
        options = None
        if mode != "construct":
            first = np.rint(episode.observations[0][: space.dimension] * np.maximum(space.nvec - 1, 1)).astype(np.int64)
            options = {"design": first}
        observation, _ = environment.unwrapped.reset(seed=0, options=options)
        np.testing.assert_array_equal(observation, episode.observations[0])
        for t, action in enumerate(episode.actions):
            observation, reward, terminated, _, _ = environment.unwrapped.step(action)
            np.testing.assert_array_equal(observation, episode.observations[t + 1])
            assert reward == episode.rewards[t] and terminated == episode.terminations[t]
            steps += 1
    assert steps == made["steps"] == data.total_steps
    if mode == "construct":
        assert made["episodes"] == 30 and steps == 30 * space.dimension
    if mode == "edit":
        assert made["simulated"] > 0


@pytest.mark.parametrize("mode", ["construct", "edit"])
def test_d3rlpys_loader_takes_it(minari, tmp_path, mode):
    pytest.importorskip("d3rlpy")
    from d3rlpy.datasets import get_minari

    from archgym.envs.offline import to_minari

    collect(make_problem("systolic/resnet18"), tmp_path / "t", count=20, method="uniform", seed=1)
    made = to_minari(tmp_path / "t", f"archgym/loaded-{mode}-v0", episode_length=6, action_mode=mode)
    buffer, environment = get_minari(f"archgym/loaded-{mode}-v0")
    assert buffer.transition_count == made["steps"] and len(buffer.episodes) == made["episodes"]
    assert environment.spec.max_episode_steps == (7 if mode == "construct" else 6)


def test_minari_says_what_an_action_mode_cannot_be(minari, tmp_path):
    from archgym.envs.offline import to_minari

    collect(make_problem("toy/light"), tmp_path / "t", count=10, method="uniform", seed=1)
    with pytest.raises(ArchGymError, match="action mode"):
        to_minari(tmp_path / "t", "archgym/x-v0", action_mode="sideways")


def test_minari_takes_a_plain_name_and_leaves_the_registry_alone(minari, tmp_path):
    import gymnasium
    from click.testing import CliRunner

    from archgym.cli import main

    collect(make_problem("systolic/resnet18"), tmp_path / "t", count=20, method="uniform", seed=1)
    before = repr(gymnasium.spec("archgym/Systolic-v0"))
    command = ["dataset", "export", str(tmp_path / "t"), "--format", "minari", "-o", "mini", "--episode-length", "6"]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0 and "archgym/mini-v0" in done.output, done.output
    assert repr(gymnasium.spec("archgym/Systolic-v0")) == before
    environment = minari.load_dataset("archgym/mini-v0").recover_environment()
    assert environment.spec.max_episode_steps == 6
    environment.reset(seed=0)
    ends = [environment.step(environment.action_space.sample())[3] for _ in range(6)]
    assert ends == [False] * 5 + [True]
    refused = CliRunner().invoke(main, [*command[:6], "no/version"])
    assert refused.exit_code == 2 and "is no id of Minari's" in refused.output


def test_minari_refuses_several_problems(minari, trials):
    from archgym.envs.offline import to_minari

    with pytest.raises(ArchGymError, match="several problems"):
        to_minari(trials, "archgym/toy-v2")


# --- the card ------------------------------------------------------------------------------------------------------


def test_card_says_what_the_data_lacks(tmp_path):
    problem = make_problem("toy/light")
    collect(problem, tmp_path / "all", count=300, method="sobol", seed=1)
    collect(problem, tmp_path / "one", count=40, method="perturb", near=tmp_path / "all", top=1, changes=1)
    wide, narrow = card(tmp_path / "all", tmp_path / "c1"), card(tmp_path / "one", tmp_path / "c2", plots=False)
    assert wide["problems"][0]["design"]["distance"] == pytest.approx(1.0, abs=0.1)
    assert narrow["problems"][0]["design"]["distance"] < 0.6
    assert narrow["problems"][0]["metric"]["coverage"] < wide["problems"][0]["metric"]["coverage"] > 0.9
    assert any("one agent" in limit for limit in narrow["limits"])
    assert any("two-parameter" in limit for limit in narrow["limits"])
    assert (tmp_path / "c1" / "coverage-toy-light-small.png").stat().st_size > 1000
    page = (tmp_path / "c1" / "README.md").read_text()
    assert "| Depth | 100.0 % |" in page and "coverage-toy-light-small.png" in page


def test_diversity_of_known_designs():
    from archgym.datasets.schema import TrialSchema

    problem = make_problem("toy/light")
    designs = np.repeat(problem.space.sample(1, 0), 50, axis=0)
    designs[:, 0] = np.arange(50) % 3
    evaluation, rewards = problem.evaluate(designs)
    batch = TrialSchema(problem, {}).batch(0, designs, evaluation, rewards, np.zeros(50, bool), 0.0, 0.0)
    import pyarrow as pa

    found = design_diversity(problem, pa.Table.from_batches([batch]))
    assert found["levels"]["Policy"] == 1 and found["levels"]["Depth"] == pytest.approx(1 / 6)
    assert found["entropy"]["Policy"] == pytest.approx(1, abs=1e-3) and found["entropy"]["Depth"] == 0
    assert found["distinct"] == pytest.approx(3 / 50)


# --- the command line ----------------------------------------------------------------------------------------------


def run(*arguments, code=0):
    result = CliRunner().invoke(group, [*map(str, arguments), "--json"])
    assert result.exit_code == code, (result.output, result.exception)
    return json.loads(result.output)


def test_every_command_prints_one_json_object(trials, tmp_path):
    assert run("info", trials)["rows"] == Dataset(trials).rows
    assert run("verify", trials, "--sample", 10)["holds"]
    merged = run("merge", trials, "--out", tmp_path / "m")
    assert merged["rows_out"] < merged["rows_in"]
    assert run("split", tmp_path / "m", "--out", tmp_path / "s")["rows"].keys() == {"train", "test"}
    made = run("sample", "toy/light", "--out", tmp_path / "n", "-n", 32, "--method", "lhs")
    assert made["evaluations"] == 32
    for kind in ("csv", "parquet", "huggingface", "croissant"):
        run("export", tmp_path / "m", "--out", tmp_path / f"e-{kind}", "--format", kind)
    assert run("card", tmp_path / "m", "--out", tmp_path / "card")["problems"]
    if "duckdb" in sys.modules or pytest.importorskip("duckdb"):
        found = run("query", tmp_path / "m", "SELECT max(reward) AS best FROM trials WHERE problem = 'toy/heavy'")
        assert found["result"][0]["best"] < 20


def test_a_failed_check_leaves_with_code_1(trials, tmp_path):
    content = sorted(trials.glob("*.arrows"))[0].read_bytes()
    (tmp_path / "x.arrows").write_bytes(content[:-300])
    assert not run("verify", tmp_path / "x.arrows", code=1)["holds"]


def test_text_output(trials):
    result = CliRunner().invoke(group, ["info", str(trials)])
    assert result.exit_code == 0 and "toy/heavy" in result.output and "energy_pj" in result.output
