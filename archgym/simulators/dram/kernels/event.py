"""The memory controller in the exact order of events: the reference mode, ``order="event"``.

Where several things happen in one cycle, their order decides now and then which row is opened. DRAMSys 4.0 runs on
SystemC's kernel, so its order is that kernel's: processes, events with one pending notification each, a binary heap of
timed notifications, steps of zero delay (delta cycles). This module has that kernel, the initiator, the arbiter and a
controller for each channel, in the plainest form: nothing is cached, every pass looks at every bank. It is an order of
magnitude slower than ``controller.py``, serves as its oracle, and covers what that leaves out: ranks, channels, LPDDR4,
HBM2, refresh of single banks, power-down and the strict command order.

All times are cycles of the memory clock.
"""

# mypy: allow-untyped-defs

from __future__ import annotations

from collections import namedtuple

import numpy as np
from numba import njit

from archgym.simulators.dram.commands import (
    ACT,
    BANK,
    GROUP,
    NONE,
    PDEA,
    PDEP,
    PDXA,
    PDXP,
    PREAB,
    PREPB,
    RANK,
    RD,
    RDA,
    REFAB,
    REFPB,
    REFPB_ROUND,
    SREFEN,
    SREFEX,
    WR,
    WRA,
)

# The design: columns as in spaces.WIDE_NAMES; STRICT is CmdMux
PAGE, SCHEDULER, BUFFER, SIZE, RESPONSES, REFRESH, POSTPONED, PULLED_IN, ARBITER, ACTIVE, POWER_DOWN, STRICT = range(12)
# the memory and what follows from both; then the kernel's scalars. All are in the vector ``k`` of the state.
(
    CHANNELS, RANKS, BANKS, GROUPS, COLUMN_BUSES, READ_END, WRITE_END, GROUP_PLACE, RANK_PLACE, INTERVAL,
    MOST_POSTPONED, MOST_PULLED_IN,
) = range(12, 24)  # fmt: skip
(
    NOW, STEP, HEAP, SERIAL, DELTA, RUN_HEAD, RUN_TAIL, NEXT, ANSWERED, HELD, IN_FLIGHT, INITIATOR_FREE, LAST_END_RESP,
    NEXT_OUT, OUT_HEAD, OUT_TAIL, LOGGED, N_K,
) = range(24, 42)  # fmt: skip
OPEN, OPEN_ADAPTIVE, CLOSED, CLOSED_ADAPTIVE = range(4)
SCHED_FIFO, FRFCFS_GRP, FRFCFS = range(3)
BANKWISE, READ_WRITE, SHARED = range(3)
RESP_FIFO, RESP_REORDER = range(2)
NO_REFRESH, ALL_BANK, PER_BANK = range(3)
ARB_SIMPLE, ARB_FIFO, ARB_REORDER = range(3)

FAR = np.int64(1) << 60
NEVER = -FAR

# Messages between initiator, arbiter and controllers
BEGIN_REQ, END_REQ, BEGIN_RESP, END_RESP = range(4)
INITIATOR, ARBITER_PROCESS, FIRST_CONTROLLER = range(3)  # processes; the first two have one event of the same number
EVENT_REQUEST, EVENT_RELEASE, EVENT_TIMER, EVENT_DATA = range(4)  # of a controller
NOT_PENDING, ZERO_DELAY, TIMED = range(3)

# Scalars of a channel
(
    INCOMING, INCOMING_TIME, OUTGOING, OUTGOING_TIME, PAYLOADS, READS, WRITES, LAST_BANK, LAST_WRITE, ADMITTED,
    NEXT_STRICT, ROW_BUS, COLUMN_BUS, RESP_HEAD, RESP_TAIL, CHANNEL_FREE, LAST_END_REQ, QUEUE_HEAD, QUEUE_TAIL,
    N_CHANNEL,
) = range(20)  # fmt: skip
# Of a bank
OPEN_ROW, COMMAND, TIME, CANDIDATE, BLOCKED, ASLEEP, FIRST, LAST, COUNT, UNREFRESHED, N_BANK = range(11)
# Of a rank: refresh manager, power-down manager
(
    TRIGGER, PULLING, FLEX, R_COMMAND, R_TIME, R_ASLEEP, R_OPEN, R_BANK, R_PINNED, ROUND,
    PD_STATE, PD_ENTRY, PD_EXIT, PD_SELF, PD_IDLE, PD_OPEN, P_COMMAND, P_TIME, WAITING, FAW_COUNT, FAW_ENDS,
) = range(21)  # fmt: skip
N_RANK = FAW_ENDS + 4
IDLE, ACTIVE_PDN, PRECHARGE_PDN, SELF_REFRESH, EXTRA_REFRESH = range(5)

# Of a request; of a command; of a heap entry; of an event, the delta list and the run queue; of a message
Q_ARRIVAL, Q_CHANNEL, Q_RANK, Q_BANK, Q_ROW, Q_LINE, Q_WRITE, Q_READY, Q_ANSWERED, Q_NUMBER, Q_NEXT, Q_END = range(12)
D_ROWS, D_LENGTH, D_FAW, D_WINDOW = range(4)
H_TIME, H_EVENT, H_SERIAL = range(3)
E_PENDING, E_TIME, E_SERIAL, E_DELTA, E_RUN, E_QUEUED = range(6)
M_TIME, M_PHASE, M_REQUEST = range(3)
ZERO_HEAD, ZERO_TAIL, LATE_COUNT = range(3)
K_REQUESTS, K_RESPONSES, K_ADMITTED, K_ANSWERS = range(4)  # queues; the last is the arbiter's, in channel 0

#: Everything that a simulation works on: int64 arrays, so that compiled functions share one mutable state.
State = namedtuple(
    "State",
    [
        "k", "rows", "commands", "requests", "heap", "events", "zero", "late", "ends", "scalars", "queues", "banks",
        "ranks", "last", "log",
    ],
)  # fmt: skip

_options = {"cache": True, "nogil": True}


# --- the event kernel ------------------------------------------------------------------------------------------------


@njit(**_options)
def notify(s, event, delay):
    """Notify an event: zero delay beats timed, an earlier time replaces a later one, everything else is ignored."""
    if s.events[event, E_PENDING] == ZERO_DELAY:
        return
    if delay == 0:
        s.events[event, E_PENDING] = ZERO_DELAY
        s.events[s.k[DELTA], E_DELTA] = event
        s.k[DELTA] += 1
        return
    time = s.k[NOW] + delay
    if s.events[event, E_PENDING] == TIMED and s.events[event, E_TIME] <= time:
        return
    # What was pending stays in the heap; its serial number no longer fits, which makes it void.
    s.k[SERIAL] += 1
    s.events[event, E_PENDING], s.events[event, E_TIME], s.events[event, E_SERIAL] = TIMED, time, s.k[SERIAL]
    s.k[HEAP] += 1
    i = s.k[HEAP]
    while i > 1 and s.heap[i // 2, H_TIME] > time:
        s.heap[i] = s.heap[i // 2]
        i //= 2
    s.heap[i, H_TIME], s.heap[i, H_EVENT], s.heap[i, H_SERIAL] = time, event, s.k[SERIAL]


@njit(**_options)
def remove_root(s):
    """Take the root off the heap; returns its event, -1 where it is void."""
    event, serial = s.heap[1, H_EVENT], s.heap[1, H_SERIAL]
    n = s.k[HEAP]
    time, last, last_serial = s.heap[n, H_TIME], s.heap[n, H_EVENT], s.heap[n, H_SERIAL]
    n -= 1
    s.k[HEAP] = n
    i = 1
    while 2 * i <= n:
        child = 2 * i
        best = child if s.heap[child, H_TIME] < time else i
        best_time = s.heap[child, H_TIME] if best == child else time
        if child + 1 <= n and s.heap[child + 1, H_TIME] < best_time:
            best = child + 1
        if best == i:
            break
        s.heap[i] = s.heap[best]
        i = best
    s.heap[i, H_TIME], s.heap[i, H_EVENT], s.heap[i, H_SERIAL] = time, last, last_serial
    if s.events[event, E_PENDING] == TIMED and s.events[event, E_SERIAL] == serial:
        return event
    return np.int64(-1)


@njit(**_options)
def trigger(s, event):
    """An event fires: its process goes to the end of the run queue, where it is not yet in it."""
    s.events[event, E_PENDING] = NOT_PENDING
    process = event if event < 2 else FIRST_CONTROLLER + (event - 2) // 4
    if not s.events[process, E_QUEUED]:
        s.events[process, E_QUEUED] = True
        tail = s.k[RUN_TAIL]
        s.events[tail, E_RUN] = process
        s.k[RUN_TAIL] = (tail + 1) % s.events.shape[0]


@njit(**_options)
def send(s, process, phase, request, delay):
    """A message to the initiator or the arbiter; without delay it is delivered in the next step."""
    if delay == 0:
        tail = s.ends[process, ZERO_TAIL] % s.zero.shape[1]
        s.zero[process, tail, M_TIME], s.zero[process, tail, M_PHASE] = s.k[STEP], phase
        s.zero[process, tail, M_REQUEST] = request
        s.ends[process, ZERO_TAIL] += 1
    else:
        time = s.k[NOW] + delay
        i = s.ends[process, LATE_COUNT]
        s.ends[process, LATE_COUNT] += 1
        while i > 0 and s.late[process, i - 1, M_TIME] > time:
            s.late[process, i] = s.late[process, i - 1]
            i -= 1
        s.late[process, i, M_TIME], s.late[process, i, M_PHASE], s.late[process, i, M_REQUEST] = time, phase, request
    notify(s, process, delay)


@njit(**_options)
def deliver(s, process):
    """Run the initiator or the arbiter: messages without delay of the step before, then those due, then renew the
    notification for the next one."""
    while s.ends[process, ZERO_HEAD] < s.ends[process, ZERO_TAIL]:
        head = s.ends[process, ZERO_HEAD] % s.zero.shape[1]
        if s.zero[process, head, M_TIME] >= s.k[STEP]:
            break
        s.ends[process, ZERO_HEAD] += 1
        receive(s, process, s.zero[process, head, M_PHASE], s.zero[process, head, M_REQUEST])
    while s.ends[process, LATE_COUNT] and s.late[process, 0, M_TIME] == s.k[NOW]:
        phase, request = s.late[process, 0, M_PHASE], s.late[process, 0, M_REQUEST]
        s.ends[process, LATE_COUNT] -= 1
        for i in range(s.ends[process, LATE_COUNT]):
            s.late[process, i] = s.late[process, i + 1]
        receive(s, process, phase, request)
    if s.ends[process, LATE_COUNT]:
        notify(s, process, s.late[process, 0, M_TIME] - s.k[NOW])


@njit(**_options)
def receive(s, process, phase, request):
    """Hand a message to the initiator or the arbiter."""
    if process == INITIATOR:
        initiator(s, phase, request)
    elif s.k[ARBITER] == ARB_SIMPLE:
        simple_arbiter(s, phase, request)
    else:
        limited_arbiter(s, phase, request)


@njit(**_options)
def simulate(s):
    """Run to the last response; False where the heap or the log is too small."""
    k = s.k
    for channel in range(s.k[CHANNELS]):
        trigger(s, 2 + 4 * channel + EVENT_TIMER)
    trigger(s, INITIATOR)
    n = s.requests.shape[0]
    while True:
        while k[RUN_HEAD] != k[RUN_TAIL]:
            process = s.events[k[RUN_HEAD], E_RUN]
            k[RUN_HEAD] = (k[RUN_HEAD] + 1) % s.events.shape[0]
            s.events[process, E_QUEUED] = False
            if process >= FIRST_CONTROLLER:
                controller_pass(s, process - FIRST_CONTROLLER)
            elif k[NEXT] == 0:
                k[NEXT] = 1
                send(s, ARBITER_PROCESS, BEGIN_REQ, 0, s.requests[0, Q_ARRIVAL])
            else:
                deliver(s, process)
        if k[ANSWERED] == n:
            return True
        if k[HEAP] + 64 > s.heap.shape[0] or k[LOGGED] + 64 > s.log.shape[0]:
            return False
        k[STEP] += 1
        if k[DELTA]:
            for i in range(k[DELTA] - 1, -1, -1):
                trigger(s, s.events[i, E_DELTA])
            k[DELTA] = 0
            continue
        while k[RUN_HEAD] == k[RUN_TAIL]:
            if not k[HEAP]:
                return True  # nothing will ever happen again: a deadlock, seen by the count of answers
            k[NOW] = s.heap[1, H_TIME]
            while k[HEAP] and s.heap[1, H_TIME] == k[NOW]:
                event = remove_root(s)
                if event >= 0:
                    trigger(s, event)


# --- initiator and arbiters ------------------------------------------------------------------------------------------


@njit(**_options)
def initiator(s, phase, request):
    """Offers requests in order, one at a time; takes every response at once."""
    if phase == END_REQ:
        i = s.k[NEXT]
        if i < s.requests.shape[0]:
            s.k[NEXT] += 1
            send(s, ARBITER_PROCESS, BEGIN_REQ, i, max(s.requests[i, Q_ARRIVAL] - s.k[NOW], 1))
    else:
        s.requests[request, Q_ANSWERED] = s.k[NOW]
        s.k[ANSWERED] += 1
        send(s, ARBITER_PROCESS, END_RESP, request, 0)


@njit(**_options)
def request_to_controller(s, request, delay):
    c = s.requests[request, Q_CHANNEL]
    s.scalars[c, INCOMING], s.scalars[c, INCOMING_TIME] = request, s.k[NOW] + delay
    notify(s, 2 + 4 * c + EVENT_REQUEST, delay)


@njit(**_options)
def release_to_controller(s, request):
    c = s.requests[request, Q_CHANNEL]
    s.scalars[c, OUTGOING_TIME] = s.k[NOW]
    notify(s, 2 + 4 * c + EVENT_RELEASE, 0)


@njit(**_options)
def push_request(s, request):
    """Queue a request for its channel."""
    c = s.requests[request, Q_CHANNEL]
    s.queues[c, s.scalars[c, QUEUE_TAIL], K_REQUESTS] = request
    s.scalars[c, QUEUE_TAIL] += 1


@njit(**_options)
def pop_request(s, c):
    request = s.queues[c, s.scalars[c, QUEUE_HEAD], K_REQUESTS]
    s.scalars[c, QUEUE_HEAD] += 1
    return request


@njit(**_options)
def simple_arbiter(s, phase, request):
    """One request and one response at a time; the initiator waits until the controller has taken its request."""
    c = s.requests[request, Q_CHANNEL]
    if phase == BEGIN_REQ:
        if s.scalars[c, CHANNEL_FREE]:
            s.scalars[c, CHANNEL_FREE] = 0
            request_to_controller(s, request, 0)
        else:
            push_request(s, request)
    elif phase == END_REQ:
        send(s, INITIATOR, END_REQ, request, 0)
        if s.scalars[c, QUEUE_HEAD] < s.scalars[c, QUEUE_TAIL]:
            request_to_controller(s, pop_request(s, c), 1)
        else:
            s.scalars[c, CHANNEL_FREE] = 1
    elif phase == BEGIN_RESP:
        if s.k[INITIATOR_FREE]:
            s.k[INITIATOR_FREE] = 0
            send(s, INITIATOR, BEGIN_RESP, request, 0)
        else:
            s.queues[0, s.k[OUT_TAIL], K_ANSWERS] = request
            s.k[OUT_TAIL] += 1
    else:
        release_to_controller(s, request)
        if s.k[OUT_HEAD] < s.k[OUT_TAIL]:
            send(s, INITIATOR, BEGIN_RESP, s.queues[0, s.k[OUT_HEAD], K_ANSWERS], 1)
            s.k[OUT_HEAD] += 1
        else:
            s.k[INITIATOR_FREE] = 1


@njit(**_options)
def limited_arbiter(s, phase, request):
    """The Fifo and the Reorder arbiter: a limit of requests in flight, an unbounded queue for each channel; Reorder
    returns responses in the order of the requests."""
    k = s.k
    c = s.requests[request, Q_CHANNEL]
    if phase == BEGIN_REQ:
        if k[IN_FLIGHT] < s.k[ACTIVE]:
            k[IN_FLIGHT] += 1
            send(s, INITIATOR, END_REQ, request, 0)
            push_request(s, request)
        else:
            k[HELD] = request
        if s.scalars[c, CHANNEL_FREE] and s.scalars[c, QUEUE_HEAD] < s.scalars[c, QUEUE_TAIL]:
            s.scalars[c, CHANNEL_FREE] = 0
            request_to_controller(s, pop_request(s, c), 1 if s.scalars[c, LAST_END_REQ] == k[NOW] else 0)
    elif phase == END_REQ:
        s.scalars[c, LAST_END_REQ] = k[NOW]
        if s.scalars[c, QUEUE_HEAD] < s.scalars[c, QUEUE_TAIL]:
            request_to_controller(s, pop_request(s, c), 1)
        else:
            s.scalars[c, CHANNEL_FREE] = 1
    elif phase == BEGIN_RESP:
        release_to_controller(s, request)
        s.requests[request, Q_READY] = True
        if s.k[ARBITER] == ARB_FIFO:
            s.queues[0, k[OUT_TAIL], K_ANSWERS] = request
            k[OUT_TAIL] += 1
        if k[INITIATOR_FREE]:
            answer_next(s, 1 if k[LAST_END_RESP] == k[NOW] else 0)
    else:
        k[LAST_END_RESP] = k[NOW]
        held = k[HELD]
        if held >= 0:
            k[HELD] = -1
            send(s, INITIATOR, END_REQ, held, 0)
            c = s.requests[held, Q_CHANNEL]
            if s.scalars[c, CHANNEL_FREE]:
                s.scalars[c, CHANNEL_FREE] = 0
                request_to_controller(s, held, 1 if s.scalars[c, LAST_END_REQ] == k[NOW] else 0)
            else:
                push_request(s, held)
        else:
            k[IN_FLIGHT] -= 1
        answer_next(s, 1)


@njit(**_options)
def answer_next(s, delay):
    """Send the next response to the initiator, if there is one; otherwise the initiator is free."""
    k = s.k
    request = np.int64(-1)
    if s.k[ARBITER] == ARB_REORDER:
        if k[NEXT_OUT] < s.requests.shape[0] and s.requests[k[NEXT_OUT], Q_READY]:
            request = k[NEXT_OUT]
            k[NEXT_OUT] += 1
    elif k[OUT_HEAD] < k[OUT_TAIL]:
        request = s.queues[0, k[OUT_HEAD], K_ANSWERS]
        k[OUT_HEAD] += 1
    k[INITIATOR_FREE] = request < 0
    if request >= 0:
        send(s, INITIATOR, BEGIN_RESP, request, delay)


# --- the controller --------------------------------------------------------------------------------------------------


@njit(**_options)
def controller_pass(s, c):
    """One pass of a channel's controller."""
    now = s.k[NOW]
    responses(s, c)
    admit(s, c)
    for rank in range(s.k[RANKS]):
        evaluate_refresh(s, c, rank)
    for rank in range(s.k[RANKS]):
        evaluate_power_down(s, c, rank)

    waiting, command, rank, bank, request = select(s, c)
    if command != NONE:
        issue(s, c, command, rank, bank, request)
        if RD <= command <= WRA:
            remove_from_buffer(s, c, bank, request)
            admit(s, c)
            put_response(s, c, request, command)
            s.ranks[c, rank, WAITING] -= 1
        if s.ranks[c, rank, WAITING] == 0:
            s.ranks[c, rank, PD_IDLE] = 1
            if s.ranks[c, rank, PD_STATE] == IDLE:
                s.ranks[c, rank, PD_ENTRY] = 1

    blocked = waiting and command == NONE  # a command was there, but none was due
    wake = FAR
    for bank in range(s.k[RANKS] * s.k[BANKS]):
        time = choose(s, c, bank)
        if not (blocked and time == now):
            wake = min(wake, time)
    for rank in range(s.k[RANKS]):
        time = evaluate_refresh(s, c, rank)
        if not (blocked and time == now):
            wake = min(wake, time)
    for rank in range(s.k[RANKS]):
        time = evaluate_power_down(s, c, rank)
        if not (blocked and time == now):
            wake = min(wake, time)
    if wake < FAR:
        notify(s, 2 + 4 * c + EVENT_TIMER, wake - now)


@njit(**_options)
def responses(s, c):
    """Finish the response that is out, send the next one whose data has ended."""
    now = s.k[NOW]
    x = s.scalars[c]
    delay = 0
    if x[OUTGOING] >= 0:
        if x[OUTGOING_TIME] != now:
            return
        x[OUTGOING] = -1
        x[PAYLOADS] -= 1
        if x[PAYLOADS] == 0:
            return
        delay = 1
    elif x[OUTGOING_TIME] == now:
        delay = 1
    request = response_head(s, c)
    if request < 0:
        return
    if s.requests[request, Q_END] <= now:
        x[RESP_HEAD] += 1
        x[OUTGOING], x[OUTGOING_TIME] = request, FAR
        send(s, ARBITER_PROCESS, BEGIN_RESP, request, delay)
    else:
        notify(s, 2 + 4 * c + EVENT_DATA, s.requests[request, Q_END] - now)


@njit(**_options)
def response_head(s, c):
    """The request that is answered next, -1 where it is not known yet."""
    head = s.scalars[c, RESP_HEAD]
    if s.k[RESPONSES] == RESP_REORDER:
        if head < s.scalars[c, ADMITTED]:
            request = s.queues[c, head, K_ADMITTED]
            if s.requests[request, Q_END] < FAR:
                return request
    elif head < s.scalars[c, RESP_TAIL]:
        return s.queues[c, head, K_RESPONSES]
    return np.int64(-1)


@njit(**_options)
def put_response(s, c, request, command):
    """A column command was issued: its response is due at the end of the data."""
    now = s.k[NOW]
    s.requests[request, Q_END] = now + (s.k[READ_END] if command in (RD, RDA) else s.k[WRITE_END])
    s.queues[c, s.scalars[c, RESP_TAIL], K_RESPONSES] = request
    s.scalars[c, RESP_TAIL] += 1
    head = response_head(s, c)
    if head >= 0 and s.requests[head, Q_END] > now:
        notify(s, 2 + 4 * c + EVENT_DATA, s.requests[head, Q_END] - now)


@njit(**_options)
def has_space(s, c):
    """Space in the request buffer, tested without a look at the request that comes in."""
    x, size = s.scalars[c], s.k[SIZE]
    if s.k[BUFFER] == BANKWISE:
        return x[LAST_BANK] < 0 or s.banks[c, x[LAST_BANK], COUNT] < size
    if s.k[BUFFER] == READ_WRITE:
        return x[READS] < size and x[WRITES] < size
    return x[READS] + x[WRITES] < size


@njit(**_options)
def admit(s, c):
    """Take the request that waits at the controller, if there is one and space; its bank chooses anew."""
    x = s.scalars[c]
    request = x[INCOMING]
    if request < 0 or x[INCOMING_TIME] > s.k[NOW] or not has_space(s, c):
        return
    x[PAYLOADS] += 1
    rank = s.requests[request, Q_RANK]
    r = s.ranks[c, rank]
    if r[WAITING] == 0:
        r[PD_IDLE] = r[PD_ENTRY] = r[PD_SELF] = 0
        if r[PD_STATE] != IDLE:
            r[PD_EXIT] = 1
    r[WAITING] += 1
    bank = s.requests[request, Q_BANK]
    b = s.banks[c, bank]
    s.requests[request, Q_NEXT] = -1
    if b[COUNT]:
        s.requests[b[LAST], Q_NEXT] = request
    else:
        b[FIRST] = request
    b[LAST] = request
    b[COUNT] += 1
    x[WRITES if s.requests[request, Q_WRITE] else READS] += 1
    x[LAST_BANK] = bank
    s.queues[c, x[ADMITTED], K_ADMITTED] = request
    x[ADMITTED] += 1
    s.requests[request, Q_NUMBER] = x[ADMITTED]
    choose(s, c, bank)
    x[INCOMING] = -1
    send(s, ARBITER_PROCESS, END_REQ, request, 0)


@njit(**_options)
def remove_from_buffer(s, c, bank, request):
    b = s.banks[c, bank]
    if b[FIRST] == request:
        b[FIRST] = s.requests[request, Q_NEXT]
    else:
        before = b[FIRST]
        while s.requests[before, Q_NEXT] != request:
            before = s.requests[before, Q_NEXT]
        s.requests[before, Q_NEXT] = s.requests[request, Q_NEXT]
        if b[LAST] == request:
            b[LAST] = before
    b[COUNT] -= 1
    s.scalars[c, WRITES if s.requests[request, Q_WRITE] else READS] -= 1
    s.scalars[c, LAST_WRITE] = s.requests[request, Q_WRITE]


@njit(**_options)
def candidate(s, c, bank):
    """The request that the scheduler would serve next in a bank that has one."""
    b = s.banks[c, bank]
    head, row = b[FIRST], b[OPEN_ROW]
    if s.k[SCHEDULER] == SCHED_FIFO or row < 0:
        return head
    oldest = np.int64(-1)
    i = head
    while i >= 0:
        if s.requests[i, Q_ROW] == row:
            if s.k[SCHEDULER] == FRFCFS:
                return i
            if oldest < 0:
                oldest = i
            if s.requests[i, Q_WRITE] == s.scalars[c, LAST_WRITE]:
                # Not before an older request to the same address.
                hazard = False
                j = head
                while j != i:
                    if s.requests[j, Q_ROW] == row and s.requests[j, Q_LINE] == s.requests[i, Q_LINE]:
                        hazard = True
                        break
                    j = s.requests[j, Q_NEXT]
                if not hazard:
                    return i
        i = s.requests[i, Q_NEXT]
    return head if oldest < 0 else oldest


@njit(**_options)
def closes(s, c, bank):
    """Whether the column command of a bank closes the row (auto-precharge)."""
    page = s.k[PAGE]
    if page in (OPEN, CLOSED):
        return page == CLOSED
    b = s.banks[c, bank]
    hits = 0
    if s.k[SCHEDULER] == SCHED_FIFO:  # looks at the head and the one behind it only
        hits = 1
        second = s.requests[b[FIRST], Q_NEXT]
        if second >= 0 and s.requests[second, Q_ROW] == b[OPEN_ROW]:
            hits = 2
    else:
        i = b[FIRST]
        while i >= 0:
            hits += s.requests[i, Q_ROW] == b[OPEN_ROW]
            i = s.requests[i, Q_NEXT]
    return hits < 2 and (page == CLOSED_ADAPTIVE or b[COUNT] >= 2)


@njit(**_options)
def choose(s, c, bank):
    """A bank chooses its next command; returns its earliest time."""
    b = s.banks[c, bank]
    b[COMMAND], b[TIME] = NONE, FAR
    if b[ASLEEP] or b[BLOCKED] or not b[COUNT]:
        return b[TIME]
    request = candidate(s, c, bank)
    b[CANDIDATE] = request
    if b[OPEN_ROW] < 0:
        command = ACT
    elif s.k[PAGE] == CLOSED or s.requests[request, Q_ROW] == b[OPEN_ROW]:
        if closes(s, c, bank):
            command = WRA if s.requests[request, Q_WRITE] else RDA
        else:
            command = WR if s.requests[request, Q_WRITE] else RD
    else:
        command = PREPB
    b[COMMAND] = command
    b[TIME] = earliest(s, c, command, bank // s.k[BANKS], bank)
    return b[TIME]


@njit(**_options)
def earliest(s, c, command, rank, bank):
    """Earliest time of a command by the timing constraints; ``bank`` counts over the ranks."""
    time = s.k[NOW]
    group = bank // (s.k[BANKS] // s.k[GROUPS])
    for i in range(s.commands[command, D_ROWS], s.commands[command + 1, D_ROWS]):
        before, place, delay = s.rows[i, 1], s.rows[i, 2], s.rows[i, 3]
        if place == BANK:
            last = s.last[c, before, bank]
        elif place == GROUP:
            last = s.last[c, before, s.k[GROUP_PLACE] + group]
        elif place == RANK:
            last = s.last[c, before, s.k[RANK_PLACE] + rank]
        else:
            last = NEVER
            for other in range(s.k[RANKS]):
                if other != rank:
                    last = max(last, s.last[c, before, s.k[RANK_PLACE] + other])
        time = max(time, last + delay)
    if s.commands[command, D_FAW] and s.ranks[c, rank, FAW_COUNT] >= 4:
        time = max(time, s.ranks[c, rank, FAW_ENDS + s.ranks[c, rank, FAW_COUNT] % 4] + s.commands[command, D_FAW])
    column = RD <= command <= WRA
    return max(time, s.scalars[c, COLUMN_BUS if s.k[COLUMN_BUSES] and column else ROW_BUS])


@njit(**_options)
def select(s, c):
    """The command mux: smallest end time, then lowest admission number; refresh before requests, power-down last.

    Returns whether there was a command at all, and the winner if it is due: command (else NONE), rank, bank, request.
    """
    now = s.k[NOW]
    any_command = False
    # With separate buses the best row and the best column command are taken first; else all compete in place 0.
    best_end = np.array([FAR, FAR])
    best_start = np.array([FAR, FAR])
    best_number = np.array([FAR, FAR])
    best = np.zeros((2, 4), np.int64)
    for rank in range(s.k[RANKS]):
        r = s.ranks[c, rank]
        for k in range(-2, s.k[BANKS]):
            bank, request = rank * s.k[BANKS], np.int64(-1)
            if k == -2:
                command, start, number = r[P_COMMAND], r[P_TIME], FAR - 1
            elif k == -1:
                command, start, number = r[R_COMMAND], r[R_TIME], np.int64(0)
                bank += r[R_BANK]
            else:
                bank += k
                b = s.banks[c, bank]
                command, start, request = b[COMMAND], b[TIME], b[CANDIDATE]
                number = s.requests[request, Q_NUMBER] if command != NONE else FAR
            if command == NONE:
                continue
            any_command = True
            column = RD <= command <= WRA
            if s.k[STRICT] and column and number != s.scalars[c, NEXT_STRICT]:
                continue
            start = max(start, now)
            end = start + s.commands[command, D_LENGTH]
            place = 1 if s.k[COLUMN_BUSES] and column else 0
            if end < best_end[place] or (end == best_end[place] and number < best_number[place]):
                best_end[place], best_start[place], best_number[place] = end, start, number
                best[place, 0], best[place, 1], best[place, 2], best[place, 3] = command, rank, bank, request
            if k == -2:
                break  # a power-down command keeps all others of its rank back
    # Of the two buses' commands the earlier one, of simultaneous ones the older request's.
    place = 0
    if best_start[1] < best_start[0] or (best_start[1] == best_start[0] and best_number[1] < best_number[0]):
        place = 1
    if best_start[place] != now:
        return any_command, NONE, np.int64(-1), np.int64(-1), np.int64(-1)
    return any_command, best[place, 0], best[place, 1], best[place, 2], best[place, 3]


@njit(**_options)
def issue(s, c, command, rank, bank, request):
    """A command goes to the DRAM: update banks, managers, buses and what the constraints look back to."""
    now = s.k[NOW]
    r, x = s.ranks[c, rank], s.scalars[c]
    banks = s.k[BANKS]
    b = s.banks[c, bank]
    column = RD <= command <= WRA
    if command == ACT:
        b[OPEN_ROW] = s.requests[b[CANDIDATE], Q_ROW]
        r[R_OPEN] += 1
        r[PD_OPEN] += 1
    elif command == PREPB:
        b[OPEN_ROW] = -1
        r[R_OPEN] -= 1
        r[PD_OPEN] -= 1
    elif command in (RDA, WRA):
        b[OPEN_ROW] = -1
        r[R_OPEN] -= 1  # the power-down manager's count stays, as in the reference
    elif command == REFPB:
        b[BLOCKED] = 0
        b[UNREFRESHED] = 0
        r[R_PINNED] = 0
        r[ROUND] = (r[ROUND] + 1) % banks
        if r[ROUND] == 0:
            s.last[c, REFPB_ROUND, s.k[RANK_PLACE] + rank] = now
            for k in range(rank * banks, (rank + 1) * banks):
                s.banks[c, k, UNREFRESHED] = 1
        pulled_in(s, r)
        if r[PD_IDLE]:
            r[PD_ENTRY] = 1
    elif not column:
        for k in range(rank * banks, (rank + 1) * banks):
            a = s.banks[c, k]
            if command == PREAB:
                a[OPEN_ROW] = -1
            elif command == REFAB:
                a[BLOCKED] = a[ASLEEP] = 0
            elif command in (PDXA, PDXP):
                a[ASLEEP] = 0
            elif command != SREFEX:
                a[ASLEEP] = 1
        if command == PREAB:
            r[R_OPEN] = r[PD_OPEN] = 0
        elif command == REFAB:
            if r[R_ASLEEP]:
                r[R_ASLEEP] = r[PULLING] = 0
                r[TRIGGER] = now + s.k[INTERVAL] if s.k[INTERVAL] else FAR
            else:
                pulled_in(s, r)
            if r[PD_STATE] == EXTRA_REFRESH:
                r[PD_STATE], r[PD_EXIT] = IDLE, 0
            elif r[PD_IDLE]:
                r[PD_ENTRY] = 1
        elif command == PDEA:
            r[PD_STATE], r[PD_ENTRY], r[R_ASLEEP] = ACTIVE_PDN, 0, 1
        elif command == PDEP:
            r[PD_STATE], r[PD_ENTRY], r[R_ASLEEP] = PRECHARGE_PDN, 0, 1
        elif command == SREFEN:
            r[PD_STATE], r[PD_ENTRY], r[PD_SELF], r[R_ASLEEP], r[TRIGGER] = SELF_REFRESH, 0, 0, 1, FAR
        elif command == PDXA:
            r[PD_STATE], r[PD_EXIT], r[R_ASLEEP] = IDLE, 0, 0
        elif command == PDXP:
            r[PD_STATE], r[PD_EXIT], r[R_ASLEEP] = IDLE, 0, 0
            if r[PD_IDLE]:
                r[PD_SELF] = 1
        elif command == SREFEX:
            r[PD_STATE] = EXTRA_REFRESH

    if column:
        x[NEXT_STRICT] += 1
    x[COLUMN_BUS if s.k[COLUMN_BUSES] and column else ROW_BUS] = now + s.commands[command, D_LENGTH]
    s.last[c, command, s.k[RANK_PLACE] + rank] = now
    if command <= WRA or command == REFPB:  # commands of one bank
        s.last[c, command, bank] = now
        s.last[c, command, s.k[GROUP_PLACE] + bank // (banks // s.k[GROUPS])] = now
    if s.commands[command, D_WINDOW]:
        r[FAW_ENDS + r[FAW_COUNT] % 4] = now + s.commands[command, D_WINDOW] - 1
        r[FAW_COUNT] += 1
    i = s.k[LOGGED]
    s.log[i, 0], s.log[i, 1], s.log[i, 2], s.log[i, 3], s.log[i, 4] = now, command, c, rank, bank
    s.log[i, 5] = request
    s.k[LOGGED] += 1


@njit(**_options)
def pulled_in(s, r):
    """A refresh was issued: count it, and stop pulling in at the limit."""
    if r[PULLING]:
        r[FLEX] -= 1
    else:
        r[PULLING] = 1
    if r[FLEX] == -s.k[MOST_PULLED_IN]:
        r[PULLING] = 0
        r[TRIGGER] += s.k[INTERVAL]


@njit(**_options)
def idle_bank(s, c, rank, unrefreshed):
    """The first bank of a rank without requests (of those not yet refreshed in this round), -1 where all have some."""
    for k in range(s.k[BANKS]):
        bank = rank * s.k[BANKS] + k
        if (not unrefreshed or s.banks[c, bank, UNREFRESHED]) and s.banks[c, bank, COUNT] == 0:
            return k
    return -1


@njit(**_options)
def evaluate_refresh(s, c, rank):
    """The refresh manager of a rank; returns when it wants to be looked at again."""
    if s.k[REFRESH] == NO_REFRESH:
        return FAR
    now, interval, postponed = s.k[NOW], s.k[INTERVAL], s.k[MOST_POSTPONED]
    r = s.ranks[c, rank]
    r[R_COMMAND], r[R_TIME] = NONE, FAR
    if now < r[TRIGGER]:
        return r[TRIGGER]
    r[PD_ENTRY] = 0
    if r[PD_STATE] != IDLE:
        r[PD_EXIT] = 1
    if r[R_ASLEEP]:
        return FAR
    if now >= r[TRIGGER] + interval:
        r[TRIGGER] += interval
        r[PULLING] = 0
    forced = r[FLEX] == postponed
    first = rank * s.k[BANKS]
    if s.k[REFRESH] == ALL_BANK:
        busy = False
        for k in range(first, first + s.k[BANKS]):
            busy |= s.banks[c, k, COUNT] > 0
        if r[PULLING]:
            if busy:
                r[PULLING] = 0
                r[TRIGGER] += interval
                return r[TRIGGER]
        elif forced:
            for k in range(first, first + s.k[BANKS]):
                s.banks[c, k, BLOCKED] = 1
        elif busy:
            r[FLEX] += 1
            r[TRIGGER] += interval
            return r[TRIGGER]
        # While pulling in no bank is open.
        r[R_COMMAND] = PREAB if r[R_OPEN] > 0 and not r[PULLING] else REFAB
        r[R_BANK] = 0
    else:
        bank = idle_bank(s, c, rank, True)
        if r[PULLING]:
            if bank < 0:
                r[PULLING] = 0
                r[TRIGGER] += interval
                return r[TRIGGER]
            r[R_BANK] = bank
        elif not r[R_PINNED]:
            if bank < 0:
                if not forced:
                    r[FLEX] += 1
                    r[TRIGGER] += interval
                    return r[TRIGGER]
                bank = 0
                while not s.banks[c, first + bank, UNREFRESHED]:
                    bank += 1
            r[R_BANK] = bank
        if s.banks[c, first + r[R_BANK], OPEN_ROW] >= 0:
            r[R_COMMAND] = PREPB
        else:
            r[R_COMMAND] = REFPB
            if forced and not r[PULLING]:
                s.banks[c, first + r[R_BANK], BLOCKED] = 1
                r[R_PINNED] = 1
    r[R_TIME] = earliest(s, c, r[R_COMMAND], rank, first + r[R_BANK])
    return r[R_TIME]


@njit(**_options)
def evaluate_power_down(s, c, rank):
    """The power-down manager of a rank (Staggered: power-down, then self refresh); returns its earliest time."""
    if not s.k[POWER_DOWN]:
        return FAR
    r = s.ranks[c, rank]
    command = NONE
    if r[PD_EXIT]:
        state = r[PD_STATE]
        if state == ACTIVE_PDN:
            command = PDXA
        elif state == PRECHARGE_PDN:
            command = PDXP
        elif state == SELF_REFRESH:
            command = SREFEX
        else:
            command = REFAB
    elif r[PD_ENTRY]:
        command = PDEA if r[PD_OPEN] != 0 else PDEP
    elif r[PD_SELF]:
        command = SREFEN
    r[P_COMMAND], r[P_TIME] = command, FAR
    if command != NONE:
        r[P_TIME] = earliest(s, c, command, rank, rank * s.k[BANKS])
    return r[P_TIME]
