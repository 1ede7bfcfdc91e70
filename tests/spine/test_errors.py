"""Names that nobody knows: the near one, else all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archgym.errors import MAX_SENTENCE, UnknownNameError
from archgym.simulators.accelerator import components as accelerator
from archgym.simulators.dram import devices as dram
from archgym.simulators.llm import devices as llm

AGENTS = [
    "random",
    "walk",
    "ga",
    "aco",
    "bo",
    "tpe",
    "cmaes",
    "ppo",
    "maskable-ppo",
    "reinforce",
    "a2c",
    "dqn",
    "sac",
    "nsga2",
]


@pytest.mark.parametrize(
    ("given", "near"),
    [("gaa", "ga"), ("PPO", "ppo"), ("reinforced", "reinforce"), ("maskable", "maskable-ppo"), ("cmeas", "cmaes")],
)
def test_a_near_name_is_offered(given, near):
    assert str(UnknownNameError("agent", given, AGENTS)) == f"unknown agent {given!r}; did you mean {near!r}?"


@pytest.mark.parametrize("given", ["annealing", "x", "", "hyperband"])
def test_without_a_near_name_all_are_listed(given):
    message = str(UnknownNameError("agent", given, AGENTS))
    assert message == f"unknown agent {given!r}; known: {', '.join(sorted(AGENTS))}"


@given(st.lists(st.text("abcxyz-", min_size=1, max_size=40), max_size=80, unique=True), st.text(max_size=100))
def test_no_name_of_the_list_is_cut(known, name):
    error = UnknownNameError("agent", name, known)
    message = str(error)
    assert len(message) <= MAX_SENTENCE
    if error.nearest is None:
        listed, _, more = message.rpartition("known: ")[2].partition(" and ")
        shown = [text for text in listed.split(", ") if text]
        assert shown == (sorted(known)[: len(shown)] if known else ["none"])
        assert not more or more == f"{len(known) - len(shown)} more"
        assert more or not known or len(shown) == len(known)


@pytest.mark.parametrize("read", [accelerator.technology, dram.device, llm.device])
def test_a_path_where_a_name_is_expected_is_told_how_to_name_a_file(read):
    with pytest.raises(UnknownNameError, match=r"for a file of your own write 'file:my/own\.json'"):
        read("my/own.json")
