"""A step of the chains of simulated annealing; it runs as it is where Numba is not loaded."""

from __future__ import annotations


def step_chains(designs, rewards, logs, spread, cooling, at, reward, own_best, temperature, stuck):
    """Move chains to the designs that they take, and cool them, in place.

    Args:
        designs, rewards: of the proposals, ``(n, d)`` and ``(n,)``.
        logs: the logarithm of a number from 0 to 1 for each.
        spread: of the rewards, in units of which temperatures are.
        cooling: factor on the temperatures.
        at, reward, own_best, temperature, stuck: the chains: designs ``(n, d)``, their rewards, the best of each, its
            temperature and its steps since.

    Returns:
        The position of the best proposal, and the most steps that a chain is stuck.
    """
    best = most = 0
    for i in range(len(rewards)):
        # At temperature 0 only changes that do not worsen are kept.
        if rewards[i] >= reward[i] + temperature[i] * spread * logs[i]:
            for j in range(designs.shape[1]):
                at[i, j] = designs[i, j]
            reward[i] = rewards[i]
        stuck[i] += 1
        if rewards[i] > own_best[i]:
            own_best[i], stuck[i] = rewards[i], 0
        temperature[i] *= cooling
        most = max(most, stuck[i])
        if rewards[i] > rewards[best]:
            best = i
    return best, most
