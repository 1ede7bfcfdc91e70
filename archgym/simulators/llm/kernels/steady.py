"""Steady state of serving instances in closed form, over whole batches of designs.

``d`` requests decode, prompts of ``I`` tokens and answers of ``O`` tokens; ``c`` prompt tokens go into an iteration
that has any, which is the share ``phi`` of the iterations. With t_d a step of the decodes alone and t_p one with c prompt
tokens as well, TPOT = phi*t_p + (1 - phi)*t_d. A fixed point, found by damped iteration.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from __future__ import annotations

import numpy as np

from archgym.compiling import inner, kernel
from archgym.simulators.llm.kernels.serving import CLOSED, ORCA, PROMPTS_FIRST, Cost, batch_seconds

ROUNDS = 30
"""Rounds of the iteration, damped by a half."""


@kernel(error_model="numpy")
def cost_of(tables, i):
    """Row ``i`` of stacked tables (see :class:`archgym.simulators.llm.iteration.Tables`)."""
    one = tables.tokens[:1]
    return Cost(
        CLOSED, tables.law[i], tables.tokens, tables.dense[i], tables.traffic[i], tables.emitting, tables.head[i],
        one, one, tables.decodes, tables.context, tables.attention[i], tables.scalar[i, 0], tables.scalar[i, 1],
        tables.scalar[i, 2],
    )  # fmt: skip


@inner(error_model="numpy")
def decode_step(cost, stages, d, context, prompt, chunk):
    """Seconds of an iteration of ``d`` decodes with ``chunk`` tokens of prompts of ``prompt`` tokens."""
    emitting = d + (chunk / prompt if prompt > 0.0 else 0.0)
    tokens = max(d + chunk, 1.0)
    return batch_seconds(cost, stages, tokens, chunk * prompt, d * context, d, chunk, 0.0, emitting)


@inner(error_model="numpy")
def prompt_room(policy, budget, decodes):
    """Prompt tokens that an iteration with so many decodes takes at most."""
    if policy == ORCA:
        return np.inf
    return budget if policy == PROMPTS_FIRST else max(budget - decodes, 1.0)


@inner(error_model="numpy")
def tpot(cost, policy, stages, budget, d, prompt, output, prompts_here, measured):
    """Seconds between tokens with ``d`` requests decoding on an instance, and seconds of an iteration with prompts.

    Stages work on one micro-batch each, so that a token takes a round through all of them. ``measured``: prompts take
    min(I, budget) tokens of an iteration whatever the decodes leave, as the engines' constants were fitted; else they
    share the budget with the decodes, and several go into one iteration where one does not keep up.
    """
    own = d / stages
    context = prompt + 0.5 * output
    alone = decode_step(cost, stages, own, context, 0.0, 0.0)
    arriving = own / output  # prompts that follow those that end, an iteration
    room = budget if measured else prompt_room(policy, budget, own)
    chunk = min(prompt, room)
    if not measured and arriving * prompt > chunk:
        chunk = min(arriving * prompt, room)
    if policy == PROMPTS_FIRST:
        # Prompts run alone and hold the decodes up.
        chunk = max(prompt, np.floor(budget / prompt) * prompt)
        with_prompt = decode_step(cost, stages, 0.0, context, prompt, chunk)
        between = alone + (arriving * prompt / chunk * with_prompt if prompts_here else 0.0)
        return stages * between, stages * with_prompt
    with_prompt = decode_step(cost, stages, own, context, prompt, chunk)
    if not prompts_here:
        return stages * alone, stages * with_prompt
    share = min(1.0, arriving * prompt / chunk)
    return stages * (share * with_prompt + (1.0 - share) * alone), stages * with_prompt


@inner(error_model="numpy")
def closed_loop(cost, policy, stages, budget, concurrency, prompt, output):
    """TPOT and TTFT, s, with ``concurrency`` requests always in flight."""
    d, first, between = concurrency, 0.0, 0.0
    for _ in range(ROUNDS):
        between, iteration = tpot(cost, policy, stages, budget, d, prompt, output, True, True)
        first = np.ceil(prompt / budget) * iteration + 0.5 * between
        d = 0.5 * (d + concurrency * output * between / (output * between + first))
    return between, first


@kernel(error_model="numpy")
def closed_loops(tables, index, server, columns, out):
    """:func:`closed_loop` for rows of (concurrency, prompt, output); ``server`` has (policy, stages, budget)."""
    for i in range(len(index)):
        cost = cost_of(tables, index[i])
        out[i, 0], out[i, 1] = closed_loop(
            cost, server[i, 0], server[i, 1], float(server[i, 2]), columns[i, 0], columns[i, 1], columns[i, 2]
        )


@inner(error_model="numpy")
def _load(cost, policy, stages, budget, most, full, rate, prompt, output, prompts_here):
    """Requests decoding on an instance at ``rate`` arrivals a second, at most ``most``, and TPOT: Little's law,
    d = rate * output * TPOT(d), by the Illinois form of the secant rule. ``full`` is TPOT(most)."""
    low, high = 0.0, most
    above = rate * output * full - most
    if above >= 0.0:
        return most, full
    between, _ = tpot(cost, policy, stages, budget, min(1e-3, most), prompt, output, prompts_here, False)
    below = rate * output * between
    d, side = 0.0, 0
    for _ in range(ROUNDS):
        d = high - above * (high - low) / (above - below)
        between, _ = tpot(cost, policy, stages, budget, d, prompt, output, prompts_here, False)
        off = rate * output * between - d
        if abs(off) <= 1e-10 * d:
            break
        if off > 0.0:
            low, below = d, off
            if side == 1:
                above *= 0.5
            side = 1
        else:
            high, above = d, off
            if side == -1:
                below *= 0.5
            side = -1
    return d, between


@inner(error_model="numpy")
def _normal(z):
    """Share of a normal distribution below ``z`` (logistic approximation, within 0.01)."""
    return 1.0 / (1.0 + np.exp(-1.702 * z))


@inner(error_model="numpy")
def _first_token(busy, queue_s, span, steps, iteration, between):
    """Seconds to a first token after ``steps`` iterations, where a share of the trace was queued."""
    return queue_s * span + busy + steps * iteration + 0.5 * between


@inner(error_model="numpy")
def alone_step(cost, stages, d, prompt, output):
    """Seconds of a round of decodes without prompts."""
    return stages * decode_step(cost, stages, d / stages, prompt + 0.5 * output, 0.0, 0.0)


@kernel(error_model="numpy")
def evaluate(first, last, tables, index, servers, floats, workload, prompts, outputs, levels, out):
    """Steady metrics of designs ``first`` to ``last - 1``.

    Args:
        tables: stacked cost tables; ``index`` int64 ``(n, 2)``: rows for the instances that decode and that prefill.
        servers: int64 ``(n, 6)``: policy, stages, replicas (that decode), cap on requests, budget, replicas that
            prefill (0: aggregated).
        floats: float64 ``(n, 3)``: tokens that an instance's memory holds, seconds a prompt token's cache takes to
            cross the network, devices.
        workload: arrivals a second, mean prompt and output tokens, requests.
        prompts, outputs: quantiles of both, evenly spaced, float64 ``(q,)``.
        levels: TTFT and TPOT levels, s.
        out: float64 ``(n, 20)``: mean, p50, p90, p99 of TTFT, TPOT and E2E; output tokens a second; share within the
            levels; utilisation; share of the time at work, share of that with prompts, bytes a second while decoding,
            share of the time that prefilling instances work; load over capacity.
    """
    rate, prompt, output, requests = workload[0], workload[1], workload[2], workload[3]
    q = len(prompts) - 1
    for i in range(first, last):
        policy, stages, replicas, cap = servers[i, 0], servers[i, 1], servers[i, 2], servers[i, 3]
        budget, feeders = float(servers[i, 4]), servers[i, 5]
        cost, feed = cost_of(tables, index[i, 0]), cost_of(tables, index[i, 1])
        split = feeders > 0
        own = rate / replicas
        most = max(1.0, min(float(cap), floats[i, 0] / (prompt + 0.5 * output)))
        if policy != ORCA and policy != PROMPTS_FIRST:
            # Every decode that ends makes room for prompt tokens of the next request, out of the same budget.
            most = min(most, stages * budget / (1.0 if split else 1.0 + prompt / output))
        # What the instance can at most finish, from its full batch.
        full, _ = tpot(cost, policy, stages, budget, most, prompt, output, not split, False)
        capacity = most / (output * full)
        d, between = _load(cost, policy, stages, budget, most, full, own, prompt, output, not split)
        _, iteration = tpot(cost, policy, stages, budget, d, prompt, output, not split, False)
        transfer = 0.0
        if split:
            chunk = min(prompt, budget)
            iteration = stages * decode_step(feed, stages, 0.0, 0.0, prompt, chunk)
            feed_capacity = stages * chunk / (prompt * iteration)
            busy = rate / feeders / feed_capacity
            capacity = min(capacity, feed_capacity * feeders / replicas)
            transfer = floats[i, 1]
        else:
            # The share of its iterations' prompt room that is taken.
            chunk = min(prompt, prompt_room(policy, budget, d / stages))
            busy = own * prompt / chunk * iteration / stages
        load = own / capacity
        room = budget if split else prompt_room(policy, budget, d / stages)
        wait = min(busy, 0.98) / (1.0 - min(busy, 0.98)) * 0.5 * iteration * np.ceil(prompt / room)
        # Beyond its capacity the queue grows over the trace: the last request waits longest.
        queue = requests / replicas * max(0.0, 1.0 / capacity - 1.0 / own)
        spread = np.sqrt(d)
        high = min(most, d + 2.33 * spread)
        at_high, _ = tpot(cost, policy, stages, budget, high, prompt, output, not split, False)
        gap = transfer * prompt / max(output - 1.0, 1.0)
        steps = np.maximum(np.ceil(prompts / room), 1.0)
        row = out[i]
        row[0] = _first_token(wait, queue, 0.5, np.mean(steps), iteration, between)
        row[4] = between + gap
        row[8] = row[0] + (output - 1.0) * row[4]
        for column, share in ((1, 0.5), (2, 0.9), (3, 0.99)):
            at = share * q
            low = min(int(at), q - 1)
            z = 0.0 if share == 0.5 else (1.28 if share == 0.9 else 2.33)
            long = max(1.0, np.ceil((prompts[low] + (at - low) * (prompts[low + 1] - prompts[low])) / room))
            tail = wait * (-np.log(1.0 - share))
            row[column] = _first_token(tail, queue, share, long, iteration, between)
            row[4 + column] = between + (at_high - between) * z / 2.33 + gap
            answer = outputs[low] + (at - low) * (outputs[low + 1] - outputs[low])
            row[8 + column] = row[0] + queue * (share - 0.5) + (answer - 1.0) * row[4]
        served = min(own, capacity)
        row[12] = served * replicas * output
        # Share of requests within both levels: over the prompts' lengths and the place in the queue, and over the
        # fluctuation of the batch.
        met = 0.0
        for j in range(q + 1):
            rest = levels[0] - _first_token(wait, 0.0, 0.0, steps[j], iteration, between)
            met += 0.0 if rest < 0.0 else (1.0 if queue <= rest else rest / queue)
        width = max((at_high - between) / 2.33, 1e-6 * between)
        row[13] = met / (q + 1) * _normal((levels[1] - between - gap) / width)
        row[14] = min(1.0, load)
        # For energy: share of the time at work, of that with prompts, and bytes a second from memory while decoding.
        traffic = np.interp(d / stages, tables.tokens, tables.traffic[index[i, 0]])
        row[15] = 1.0 if load >= 1.0 else 1.0 - np.exp(-d)
        mixed = 0.0 if split else min(1.0, d / stages / output * prompt / chunk)
        row[16] = mixed * iteration / (mixed * iteration + (1.0 - mixed) * alone_step(cost, stages, d, prompt, output))
        row[17] = (traffic + cost.cache_bytes * d * (prompt + 0.5 * output)) / alone_step(
            cost, stages, d, prompt, output
        )
        row[18] = min(1.0, busy) if split else 0.0
        row[19] = load
