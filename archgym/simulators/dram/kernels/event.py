"""The memory controller in the exact order of events: the reference mode, ``order="event"``.

Where several things happen in one cycle, their order decides now and then which row is opened. DRAMSys 4.0 runs on
SystemC's kernel, so its order is that kernel's: processes, events with one pending notification each, a binary heap of
timed notifications, steps of zero delay (delta cycles). This module has that kernel, the initiator, the arbiter and a
controller for each channel, in the plainest form: nothing is cached, every pass looks at every bank; policies and managers
are those of ``policy.py``. It is more than an order of magnitude slower than ``fast.py``, serves as its oracle, and covers
what that leaves out: ranks, channels, LPDDR4, HBM2, refresh of single banks, power-down and the strict command order.

All times are cycles of the memory clock.
"""

# mypy: allow-untyped-defs

from __future__ import annotations

from collections import namedtuple

import numpy as np

from archgym.compiling import inner, kernel
from archgym.simulators.dram.commands import BANK, GROUP, NONE, RANK, RD, RDA, REFPB, REFPB_ROUND, WRA
from archgym.simulators.dram.kernels.policy import (
    after_command,
    apply,
    enqueue,
    has_space,
    log_command,
    pick,
    power_down_command,
    refresh_command,
    remove_from_buffer,
    select,
)
from archgym.simulators.dram.kernels.state import ARB_FIFO, ARB_REORDER, ARB_SIMPLE, FAR, NEVER, RESP_REORDER, record

# What functions are called with: NumPy's whole numbers, as Numba compiles a function once more for every literal.
BEGIN_REQ, END_REQ, BEGIN_RESP, END_RESP = np.arange(4)  # messages between initiator, arbiter and controllers
INITIATOR, ARBITER_PROCESS, FIRST_CONTROLLER = np.arange(3)  # processes; the first two: one event, of the same number
EVENT_REQUEST, EVENT_RELEASE, EVENT_TIMER, EVENT_DATA = np.arange(4)  # events of a controller
AT_ONCE, NEXT_CYCLE = np.arange(2)  # delays in cycles
FIRST_REQUEST = np.int64(0)

NOT_PENDING, ZERO_DELAY, TIMED = range(3)

#: The event kernel's and the initiator's own scalars; a command, a heap entry; an event, the delta list and the run queue;
#: a message; the queues of messages of a process; the queues of a channel (the last is the arbiter's, in channel 0).
PROGRESS = record(
    "step", "heap", "serial", "delta", "run_head", "run_tail", "next", "answered", "held", "in_flight",
    "initiator_free", "last_end_resp", "next_out", "out_head", "out_tail", "logged", "group_place", "rank_place",
)  # fmt: skip
COMMAND = record("rows", "length", "faw", "window")
ENTRY = record("time", "event", "serial")
EVENT = record("pending", "time", "serial", "delta", "run", "queued")
MESSAGE = record("time", "phase", "request")
ENDS = record("zero_head", "zero_tail", "late_count")
QUEUES = record("requests", "responses", "admitted", "answers")

#: Everything that a simulation works on: arrays, so that compiled functions share one mutable state.
State = namedtuple(
    "State",
    ["m", "p", "rows", "commands", "heap", "events", "zero", "late", "ends", "queues", "last", "log"],
)


# --- the event kernel ------------------------------------------------------------------------------------------------


@inner
def notify(s, event, delay):
    """Notify an event: zero delay beats timed, an earlier time replaces a later one, everything else is ignored."""
    if s.events[event].pending == ZERO_DELAY:
        return
    if delay == 0:
        s.events[event].pending = ZERO_DELAY
        s.events[s.p[0].delta].delta = event
        s.p[0].delta += 1
        return
    time = s.m.k[0].now + delay
    if s.events[event].pending == TIMED and s.events[event].time <= time:
        return
    # What was pending stays in the heap; its serial number no longer fits, which makes it void.
    s.p[0].serial += 1
    s.events[event].pending, s.events[event].time, s.events[event].serial = TIMED, time, s.p[0].serial
    s.p[0].heap += 1
    i = s.p[0].heap
    while i > 1 and s.heap[i // 2].time > time:
        s.heap[i] = s.heap[i // 2]
        i //= 2
    s.heap[i].time, s.heap[i].event, s.heap[i].serial = time, event, s.p[0].serial


@inner
def remove_root(s):
    """Take the root off the heap; returns its event, -1 where it is void."""
    event, serial = s.heap[1].event, s.heap[1].serial
    n = s.p[0].heap
    time, last, last_serial = s.heap[n].time, s.heap[n].event, s.heap[n].serial
    n -= 1
    s.p[0].heap = n
    i = 1
    while 2 * i <= n:
        child = 2 * i
        best = child if s.heap[child].time < time else i
        best_time = s.heap[child].time if best == child else time
        if child + 1 <= n and s.heap[child + 1].time < best_time:
            best = child + 1
        if best == i:
            break
        s.heap[i] = s.heap[best]
        i = best
    s.heap[i].time, s.heap[i].event, s.heap[i].serial = time, last, last_serial
    if s.events[event].pending == TIMED and s.events[event].serial == serial:
        return event
    return np.int64(-1)


@inner
def trigger(s, event):
    """An event fires: its process goes to the end of the run queue, where it is not yet in it."""
    s.events[event].pending = NOT_PENDING
    process = event if event < 2 else FIRST_CONTROLLER + (event - 2) // 4
    if not s.events[process].queued:
        s.events[process].queued = True
        tail = s.p[0].run_tail
        s.events[tail].run = process
        s.p[0].run_tail = (tail + 1) % s.events.shape[0]


@inner
def send(s, process, phase, request, delay):
    """A message to the initiator or the arbiter; without delay it is delivered in the next step."""
    if delay == 0:
        tail = s.ends[process].zero_tail % s.zero.shape[1]
        s.zero[process, tail].time, s.zero[process, tail].phase = s.p[0].step, phase
        s.zero[process, tail].request = request
        s.ends[process].zero_tail += 1
    else:
        time = s.m.k[0].now + delay
        i = s.ends[process].late_count
        s.ends[process].late_count += 1
        while i > 0 and s.late[process, i - 1].time > time:
            s.late[process, i] = s.late[process, i - 1]
            i -= 1
        s.late[process, i].time, s.late[process, i].phase, s.late[process, i].request = time, phase, request
    notify(s, process, delay)


@inner
def deliver(s, process):
    """Run the initiator or the arbiter: messages without delay of the step before, then those due, then renew the
    notification for the next one."""
    while s.ends[process].zero_head < s.ends[process].zero_tail:
        head = s.ends[process].zero_head % s.zero.shape[1]
        if s.zero[process, head].time >= s.p[0].step:
            break
        s.ends[process].zero_head += 1
        receive(s, process, s.zero[process, head].phase, s.zero[process, head].request)
    while s.ends[process].late_count and s.late[process, 0].time == s.m.k[0].now:
        phase, request = s.late[process, 0].phase, s.late[process, 0].request
        s.ends[process].late_count -= 1
        for i in range(s.ends[process].late_count):
            s.late[process, i] = s.late[process, i + 1]
        receive(s, process, phase, request)
    if s.ends[process].late_count:
        notify(s, process, s.late[process, 0].time - s.m.k[0].now)


@inner
def receive(s, process, phase, request):
    """Hand a message to the initiator or the arbiter."""
    if process == INITIATOR:
        initiator(s, phase, request)
    elif s.m.k[0].arbiter == ARB_SIMPLE:
        simple_arbiter(s, phase, request)
    else:
        limited_arbiter(s, phase, request)


@kernel
def simulate(s):
    """Run to the last response; False where the heap or the log is too small."""
    k, p = s.m.k[0], s.p[0]
    for channel in range(s.m.k[0].channels):
        trigger(s, 2 + 4 * channel + EVENT_TIMER)
    trigger(s, INITIATOR)
    n = s.m.requests.shape[0]
    while True:
        while p.run_head != p.run_tail:
            process = s.events[p.run_head].run
            p.run_head = (p.run_head + 1) % s.events.shape[0]
            s.events[process].queued = False
            if process >= FIRST_CONTROLLER:
                controller_pass(s, process - FIRST_CONTROLLER)
            elif p.next == 0:
                p.next = 1
                send(s, ARBITER_PROCESS, BEGIN_REQ, FIRST_REQUEST, s.m.requests[0].arrival)
            else:
                deliver(s, process)
        if p.answered == n:
            return True
        if p.heap + 64 > s.heap.shape[0] or p.logged + 64 > s.log.shape[0]:
            return False
        p.step += 1
        if p.delta:
            for i in range(p.delta - 1, -1, -1):
                trigger(s, s.events[i].delta)
            p.delta = 0
            continue
        while p.run_head == p.run_tail:
            if not p.heap:
                return True  # nothing will ever happen again: a deadlock, seen by the count of answers
            k.now = s.heap[1].time
            while p.heap and s.heap[1].time == k.now:
                event = remove_root(s)
                if event >= 0:
                    trigger(s, event)


# --- initiator and arbiters ------------------------------------------------------------------------------------------


@inner
def initiator(s, phase, request):
    """Offers requests in order, one at a time; takes every response at once."""
    if phase == END_REQ:
        i = s.p[0].next
        if i < s.m.requests.shape[0]:
            s.p[0].next += 1
            send(s, ARBITER_PROCESS, BEGIN_REQ, i, max(s.m.requests[i].arrival - s.m.k[0].now, 1))
    else:
        s.m.requests[request].answered = s.m.k[0].now
        s.p[0].answered += 1
        send(s, ARBITER_PROCESS, END_RESP, request, AT_ONCE)


@inner
def request_to_controller(s, request, delay):
    c = s.m.requests[request].channel
    s.m.channels[c].incoming, s.m.channels[c].incoming_time = request, s.m.k[0].now + delay
    notify(s, 2 + 4 * c + EVENT_REQUEST, delay)


@inner
def release_to_controller(s, request):
    c = s.m.requests[request].channel
    s.m.channels[c].outgoing_time = s.m.k[0].now
    notify(s, 2 + 4 * c + EVENT_RELEASE, AT_ONCE)


@inner
def push_request(s, request):
    """Queue a request for its channel."""
    c = s.m.requests[request].channel
    s.queues[c, s.m.channels[c].queue_tail].requests = request
    s.m.channels[c].queue_tail += 1


@inner
def pop_request(s, c):
    request = s.queues[c, s.m.channels[c].queue_head].requests
    s.m.channels[c].queue_head += 1
    return request


@inner
def simple_arbiter(s, phase, request):
    """One request and one response at a time; the initiator waits until the controller has taken its request."""
    c = s.m.requests[request].channel
    if phase == BEGIN_REQ:
        if s.m.channels[c].channel_free:
            s.m.channels[c].channel_free = 0
            request_to_controller(s, request, AT_ONCE)
        else:
            push_request(s, request)
    elif phase == END_REQ:
        send(s, INITIATOR, END_REQ, request, AT_ONCE)
        if s.m.channels[c].queue_head < s.m.channels[c].queue_tail:
            request_to_controller(s, pop_request(s, c), NEXT_CYCLE)
        else:
            s.m.channels[c].channel_free = 1
    elif phase == BEGIN_RESP:
        if s.p[0].initiator_free:
            s.p[0].initiator_free = 0
            send(s, INITIATOR, BEGIN_RESP, request, AT_ONCE)
        else:
            s.queues[0, s.p[0].out_tail].answers = request
            s.p[0].out_tail += 1
    else:
        release_to_controller(s, request)
        if s.p[0].out_head < s.p[0].out_tail:
            send(s, INITIATOR, BEGIN_RESP, s.queues[0, s.p[0].out_head].answers, NEXT_CYCLE)
            s.p[0].out_head += 1
        else:
            s.p[0].initiator_free = 1


@inner
def limited_arbiter(s, phase, request):
    """The Fifo and the Reorder arbiter: a limit of requests in flight, an unbounded queue for each channel; Reorder
    returns responses in the order of the requests."""
    k, p = s.m.k[0], s.p[0]
    c = s.m.requests[request].channel
    if phase == BEGIN_REQ:
        if p.in_flight < s.m.k[0].active:
            p.in_flight += 1
            send(s, INITIATOR, END_REQ, request, AT_ONCE)
            push_request(s, request)
        else:
            p.held = request
        if s.m.channels[c].channel_free and s.m.channels[c].queue_head < s.m.channels[c].queue_tail:
            s.m.channels[c].channel_free = 0
            request_to_controller(s, pop_request(s, c), 1 if s.m.channels[c].last_end_req == k.now else 0)
    elif phase == END_REQ:
        s.m.channels[c].last_end_req = k.now
        if s.m.channels[c].queue_head < s.m.channels[c].queue_tail:
            request_to_controller(s, pop_request(s, c), NEXT_CYCLE)
        else:
            s.m.channels[c].channel_free = 1
    elif phase == BEGIN_RESP:
        release_to_controller(s, request)
        s.m.requests[request].ready = True
        if s.m.k[0].arbiter == ARB_FIFO:
            s.queues[0, p.out_tail].answers = request
            p.out_tail += 1
        if p.initiator_free:
            answer_next(s, 1 if p.last_end_resp == k.now else 0)
    else:
        p.last_end_resp = k.now
        held = p.held
        if held >= 0:
            p.held = -1
            send(s, INITIATOR, END_REQ, held, AT_ONCE)
            c = s.m.requests[held].channel
            if s.m.channels[c].channel_free:
                s.m.channels[c].channel_free = 0
                request_to_controller(s, held, 1 if s.m.channels[c].last_end_req == k.now else 0)
            else:
                push_request(s, held)
        else:
            p.in_flight -= 1
        answer_next(s, NEXT_CYCLE)


@inner
def answer_next(s, delay):
    """Send the next response to the initiator, if there is one; otherwise the initiator is free."""
    p = s.p[0]
    request = np.int64(-1)
    if s.m.k[0].arbiter == ARB_REORDER:
        if p.next_out < s.m.requests.shape[0] and s.m.requests[p.next_out].ready:
            request = p.next_out
            p.next_out += 1
    elif p.out_head < p.out_tail:
        request = s.queues[0, p.out_head].answers
        p.out_head += 1
    p.initiator_free = request < 0
    if request >= 0:
        send(s, INITIATOR, BEGIN_RESP, request, delay)


# --- the controller --------------------------------------------------------------------------------------------------


@inner
def controller_pass(s, c):
    """One pass of a channel's controller."""
    now = s.m.k[0].now
    responses(s, c)
    admit(s, c)
    for rank in range(s.m.k[0].ranks):
        evaluate_refresh(s, c, rank)
    for rank in range(s.m.k[0].ranks):
        evaluate_power_down(s, c, rank)

    waiting, command, rank, bank, request = select(s.m, c)
    if command != NONE:
        issue(s, c, command, rank, bank, request)
        if RD <= command <= WRA:
            remove_from_buffer(s.m, c, bank, request)
            admit(s, c)
            put_response(s, c, request, command)
        after_command(s.m, c, rank, RD <= command <= WRA)

    blocked = waiting and command == NONE  # a command was there, but none was due
    wake = FAR
    for bank in range(s.m.k[0].ranks * s.m.k[0].banks):
        time = choose(s, c, bank)
        if not (blocked and time == now):
            wake = min(wake, time)
    for rank in range(s.m.k[0].ranks):
        time = evaluate_refresh(s, c, rank)
        if not (blocked and time == now):
            wake = min(wake, time)
    for rank in range(s.m.k[0].ranks):
        time = evaluate_power_down(s, c, rank)
        if not (blocked and time == now):
            wake = min(wake, time)
    if wake < FAR:
        notify(s, 2 + 4 * c + EVENT_TIMER, wake - now)


@inner
def responses(s, c):
    """Finish the response that is out, send the next one whose data has ended."""
    now = s.m.k[0].now
    x = s.m.channels[c]
    delay = 0
    if x.outgoing >= 0:
        if x.outgoing_time != now:
            return
        x.outgoing = -1
        x.payloads -= 1
        if x.payloads == 0:
            return
        delay = 1
    elif x.outgoing_time == now:
        delay = 1
    request = response_head(s, c)
    if request < 0:
        return
    if s.m.requests[request].end <= now:
        x.resp_head += 1
        x.outgoing, x.outgoing_time = request, FAR
        send(s, ARBITER_PROCESS, BEGIN_RESP, request, delay)
    else:
        notify(s, 2 + 4 * c + EVENT_DATA, s.m.requests[request].end - now)


@inner
def response_head(s, c):
    """The request that is answered next, -1 where it is not known yet."""
    head = s.m.channels[c].resp_head
    if s.m.k[0].responses == RESP_REORDER:
        if head < s.m.channels[c].admitted:
            request = s.queues[c, head].admitted
            if s.m.requests[request].end < FAR:
                return request
    elif head < s.m.channels[c].resp_tail:
        return s.queues[c, head].responses
    return np.int64(-1)


@inner
def put_response(s, c, request, command):
    """A column command was issued: its response is due at the end of the data."""
    now = s.m.k[0].now
    s.m.requests[request].end = now + (s.m.k[0].read_end if command in (RD, RDA) else s.m.k[0].write_end)
    s.queues[c, s.m.channels[c].resp_tail].responses = request
    s.m.channels[c].resp_tail += 1
    head = response_head(s, c)
    if head >= 0 and s.m.requests[head].end > now:
        notify(s, 2 + 4 * c + EVENT_DATA, s.m.requests[head].end - now)


@inner
def admit(s, c):
    """Take the request that waits at the controller, if there is one and space; its bank chooses anew."""
    x = s.m.channels[c]
    request = x.incoming
    if request < 0 or x.incoming_time > s.m.k[0].now or not has_space(s.m, c):
        return
    x.payloads += 1
    s.queues[c, x.admitted].admitted = request
    enqueue(s.m, c, request)
    choose(s, c, s.m.requests[request].bank)
    x.incoming = -1
    send(s, ARBITER_PROCESS, END_REQ, request, AT_ONCE)


@inner
def choose(s, c, bank):
    """A bank chooses its next command; returns its earliest time."""
    b = s.m.banks[c, bank]
    b.command, b.time = NONE, FAR
    if b.asleep or b.blocked or not b.count:
        return b.time
    b.command = pick(s.m, c, bank)
    b.time = earliest(s, c, b.command, bank // s.m.k[0].banks, bank)
    return b.time


@inner
def earliest(s, c, command, rank, bank):
    """Earliest time of a command by the timing constraints; ``bank`` counts over the ranks."""
    time = s.m.k[0].now
    group = bank // (s.m.k[0].banks // s.m.k[0].groups)
    for i in range(s.commands[command].rows, s.commands[command + 1].rows):
        before, place, delay = s.rows[i, 1], s.rows[i, 2], s.rows[i, 3]
        if place == BANK:
            last = s.last[c, before, bank]
        elif place == GROUP:
            last = s.last[c, before, s.p[0].group_place + group]
        elif place == RANK:
            last = s.last[c, before, s.p[0].rank_place + rank]
        else:
            last = NEVER
            for other in range(s.m.k[0].ranks):
                if other != rank:
                    last = max(last, s.last[c, before, s.p[0].rank_place + other])
        time = max(time, last + delay)
    if s.commands[command].faw and s.m.ranks[c, rank].faw_count >= 4:
        time = max(time, s.m.ranks[c, rank].faw_ends[s.m.ranks[c, rank].faw_count % 4] + s.commands[command].faw)
    column = RD <= command <= WRA
    x = s.m.channels[c]
    return max(time, x.column_bus if s.m.k[0].column_buses and column else x.row_bus)


@inner
def issue(s, c, command, rank, bank, request):
    """A command goes to the DRAM: update banks, managers, buses and what the constraints look back to."""
    k, p, x, r = s.m.k[0], s.p[0], s.m.channels[c], s.m.ranks[c, rank]
    now = k.now
    if apply(s.m, c, command, rank, bank):
        s.last[c, REFPB_ROUND, p.rank_place + rank] = now
    bus_free = now + s.commands[command].length
    if k.column_buses and RD <= command <= WRA:
        x.column_bus = bus_free
    else:
        x.row_bus = bus_free
    s.last[c, command, p.rank_place + rank] = now
    if command <= WRA or command == REFPB:  # commands of one bank
        s.last[c, command, bank] = now
        s.last[c, command, p.group_place + bank // (k.banks // k.groups)] = now
    if s.commands[command].window:
        r.faw_ends[r.faw_count % 4] = now + s.commands[command].window - 1
        r.faw_count += 1
    log_command(s, c, command, rank, bank, request)


@inner
def evaluate_refresh(s, c, rank):
    """The refresh manager of a rank; returns when it wants to be looked at again."""
    wake = refresh_command(s.m, c, rank)
    r = s.m.ranks[c, rank]
    if r.refresh_command == NONE:
        return wake
    r.refresh_time = earliest(s, c, r.refresh_command, rank, rank * s.m.k[0].banks + r.refresh_bank)
    return r.refresh_time


@inner
def evaluate_power_down(s, c, rank):
    """The power-down manager of a rank; returns its earliest time."""
    power_down_command(s.m, c, rank)
    r = s.m.ranks[c, rank]
    if r.power_command != NONE:
        r.power_time = earliest(s, c, r.power_command, rank, rank * s.m.k[0].banks)
    return r.power_time
