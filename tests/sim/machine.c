/* How simulated time passes on a machine.
 *
 * A turn is a function call, so to the world it takes no time: whatever it sends, writes or starts
 * happens at the moment T when it begins. What it costs is added up meanwhile: its clock reads T plus
 * the costs so far, the flushes that it starts end that much later, and the machine is busy until T
 * plus all of it. Nothing that comes in between is seen before then. So each process sees a clock that
 * never goes back and calls that take time, and no order of events comes about that a real machine
 * could not show: one that computes in an instant and then stalls shows the same.
 *
 * A process that would wait leaves its turn by longjmp: the wait is the first thing that a turn does,
 * so beginning the turn anew is the same as going on with it. A crash and an exit leave in the same
 * way. What the process held then lies in the machine's memory arena, and goes with it.
 *
 * A blocking flush that hangs is the one call that can neither be finished nor begun anew. The process
 * stays where it is; when the hang is over it is killed, as an operator would do it (`crashed`).
 *
 * Wake-ups. The timeline cannot take an event back, so each event is a mere question: is there a
 * process of this boot that wants to be woken by now? At most one wish is kept (the earliest), and an
 * event that finds none, or finds it in the future, does nothing. */
#include "tests/sim/machine.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>

#include "tests/sim/os_sim.h"

#define NS_PER_MS UINT64_C(1000000)
#define HANG_LOOK_NS (20 * NS_PER_MS) /* how often a hang is looked at: is it over? */
#define REBOOT_CLOCK_MIN_NS (1000 * NS_PER_MS)
#define REBOOT_CLOCK_MAX_NS (300000 * NS_PER_MS)

__extension__ typedef unsigned __int128 uint128; /* nanoseconds times a rate */

/* -- The clock ----------------------------------------------------------------------------------- */

static uint32_t rate_of(const struct machine *machine)
{
    return machine->clock.rate_per_mille == 0 ? 1000 : machine->clock.rate_per_mille;
}

static uint64_t local_at(const struct machine *machine, uint64_t world_ns)
{
    if (world_ns <= machine->clock_base_world_ns)
        return machine->clock_base_local_ns;
    uint64_t passed = world_ns - machine->clock_base_world_ns;
    return machine->clock_base_local_ns + (uint64_t)((uint128)passed * rate_of(machine) / 1000);
}

uint64_t machine_now_ns(const struct machine *machine)
{
    uint64_t cost = machine->in_turn ? machine->turn_cost_ns : 0;
    return local_at(machine, timeline_now_ns(machine->timeline) + cost);
}

uint64_t machine_world_ns(const struct machine *machine, uint64_t local_ns)
{
    if (local_ns <= machine->clock_base_local_ns)
        return machine->clock_base_world_ns;
    uint128 wanted = (uint128)(local_ns - machine->clock_base_local_ns) * 1000;
    uint32_t rate = rate_of(machine);
    uint128 passed = (wanted + rate - 1) / rate;
    uint64_t limit = UINT64_MAX - machine->clock_base_world_ns;
    return machine->clock_base_world_ns + (passed > limit ? limit : (uint64_t)passed);
}

static uint64_t free_from(const struct machine *machine)
{
    uint64_t now = timeline_now_ns(machine->timeline);
    return machine->busy_until > now ? machine->busy_until : now;
}

/* The new rate counts from the end of the last turn's time: the process has read its clock up to
 * there, and it may not go back. */
void machine_set_rate(struct machine *machine, uint32_t rate_per_mille)
{
    assert(rate_per_mille > 0 && !machine->in_turn);
    uint64_t from = free_from(machine);
    machine->clock_base_local_ns = local_at(machine, from);
    machine->clock_base_world_ns = from;
    machine->clock.rate_per_mille = rate_per_mille;
    if (machine->os != NULL)
        os_sim_clock_changed(machine->os);
    machine_wake(machine, from); /* levels 1 and 2: to say anew when they want to be woken */
}

/* A monotonic clock begins with the machine, anywhere, and begins again lower after a power cut. */
static void set_clock(struct machine *machine)
{
    if (machine->clock_is_set)
        return;
    machine->clock_is_set = true;
    machine->clock_base_world_ns = timeline_now_ns(machine->timeline);
    machine->clock_base_local_ns = machine->clock.offset_ns;
    if (machine->boots > 0)
        machine->clock_base_local_ns =
            random_between(&machine->random, REBOOT_CLOCK_MIN_NS, REBOOT_CLOCK_MAX_NS);
    if (machine->clock_base_local_ns < NS_PER_MS) /* 0 means "never" to many a deadline */
        machine->clock_base_local_ns = NS_PER_MS;
}

/* -- Calls --------------------------------------------------------------------------------------- */

void machine_leave(struct machine *machine, enum machine_left how, int exit_code)
{
    assert(machine->in_turn && how != MACHINE_RUNS);
    machine->left = how;
    machine->left_code = exit_code;
    longjmp(machine->leave, 1);
}

void machine_call(struct machine *machine)
{
    assert(machine->in_turn);
    if (machine->crash_after_calls > 0 && --machine->crash_after_calls == 0)
        machine_leave(machine, MACHINE_CRASHES, 0);
    machine->calls++;
    machine->turn_cost_ns += machine->costs.call_ns;
}

void machine_spend(struct machine *machine, uint64_t cost_ns)
{
    machine->turn_cost_ns += cost_ns;
}

uint64_t machine_flush_ns(struct machine *machine)
{
    const struct machine_costs *costs = &machine->costs;
    if (machine->flush_hangs)
        return UINT64_MAX;
    uint64_t slowness = machine->flush_slowness == 0 ? 1 : machine->flush_slowness;
    if (costs->flush_max_ns <= costs->flush_min_ns)
        return costs->flush_min_ns * slowness;
    return random_between(&machine->random, costs->flush_min_ns, costs->flush_max_ns) * slowness;
}

int machine_flush_result(struct machine *machine)
{
    if (machine->flush_fails == 0)
        return 0;
    machine->flush_fails--;
    return -EIO;
}

/* -- A piece of a process's life ----------------------------------------------------------------- */

/* Runs `body` as the process. No local lives across the setjmp: what longjmp may do to one that has
 * changed is undefined. */
static enum machine_left run_guarded(struct machine *machine, void (*body)(struct machine *machine))
{
    assert(!machine->in_turn);
    machine->in_turn = true;
    machine->turn_cost_ns = 0;
    (void)memory_enter(machine->memory);
    machine->left = MACHINE_RUNS;
    if (setjmp(machine->leave) == 0)
        body(machine);
    (void)memory_enter(NULL);
    machine->busy_until = timeline_now_ns(machine->timeline) + machine->turn_cost_ns;
    machine->in_turn = false;
    return machine->left;
}

static void forget_process(struct machine *machine)
{
    os_sim_free(machine->os);
    memory_free(machine->memory);
    machine->os = NULL;
    machine->memory = NULL;
    machine->process = NULL;
    machine->wake_pending = false;
    machine->crash_after_calls = 0;
    machine->is_dead = machine->is_stuck = false;
    machine->busy_until = 0;
}

/* The kernel closes what the process had open. It does so before the descriptors are forgotten: their
 * ends would call back into them. */
static void bury(struct machine *machine)
{
    if (machine->net != NULL)
        net_process_died(machine->net, machine->slot);
    forget_process(machine);
    if (machine->disk != NULL)
        disk_process_died(machine->disk);
}

void machine_crash(struct machine *machine, bool power, enum disk_tear tear)
{
    assert(!machine->in_turn);
    trace_line(machine->trace, machine->slot, power ? "loses power" : "is killed");
    if (!power) {
        bury(machine);
        return;
    }
    if (machine->net != NULL)
        net_power_cut(machine->net, machine->slot);
    forget_process(machine);
    if (machine->disk != NULL)
        disk_power_cut(machine->disk, &machine->random, tear);
    machine->clock_is_set = false;
}

static void report_crash(struct machine *machine)
{
    if (machine->events.crashed != NULL)
        machine->events.crashed(machine->events.context, machine);
    else
        machine_crash(machine, machine->crash_cuts_power, DISK_TEAR_SECTORS);
}

static void end_by_itself(struct machine *machine, int exit_code)
{
    trace_line(machine->trace, machine->slot, "exits with %d", exit_code);
    bury(machine);
    if (machine->events.exited != NULL)
        machine->events.exited(machine->events.context, machine, exit_code);
}

static void look_at_hang(void *owner, uint64_t boots)
{
    struct machine *machine = owner;
    if (!machine->is_stuck || machine->boots != boots)
        return;
    if (machine->flush_hangs) {
        uint64_t next = timeline_now_ns(machine->timeline) + HANG_LOOK_NS;
        timeline_at(machine->timeline, next, look_at_hang, machine, boots);
        return;
    }
    machine->crash_cuts_power = false;
    report_crash(machine);
}

/* The turn, or the start, was left by something that ends the process. */
static void end_inside(struct machine *machine)
{
    machine->is_dead = true;
    switch (machine->left) {
    case MACHINE_CRASHES:
        trace_line(machine->trace, machine->slot, "crashes in call %" PRIu64, machine->calls + 1);
        report_crash(machine);
        return;
    case MACHINE_HANGS:
        trace_line(machine->trace, machine->slot, "hangs in a blocking flush");
        machine->is_stuck = true;
        look_at_hang(machine, machine->boots);
        return;
    case MACHINE_EXITS:
        end_by_itself(machine, machine->left_code);
        return;
    case MACHINE_RUNS:
    case MACHINE_WAITS:
        break;
    }
    assert(false); /* neither ends a process */
}

/* -- Start --------------------------------------------------------------------------------------- */

static void start_body(struct machine *machine)
{
    machine->process = machine->type->start(machine, &machine->left_code);
}

/* Whoever ends in good order gives everything back; what is left would pile up in a process that
 * lives on. */
static void check_for_leaks(const struct machine *machine)
{
    if (memory_blocks(machine->memory) > 0)
        trace_fail(machine->trace, "S21",
                   "node %d: a process ended in good order with %" PRIu64 " bytes in %" PRIu64
                   " blocks not freed",
                   machine->slot, memory_bytes(machine->memory), memory_blocks(machine->memory));
    if (machine->os != NULL && os_sim_descriptors(machine->os) > 0)
        trace_fail(machine->trace, "S21",
                   "node %d: a process ended in good order with %d descriptors not closed",
                   machine->slot, os_sim_descriptors(machine->os));
}

bool machine_start(struct machine *machine)
{
    assert(machine->process == NULL && !machine->in_turn);
    if (machine->is_dead)
        bury(machine); /* crashed while it started, and nobody has completed that */
    set_clock(machine);
    machine->boots++;
    trace_line(machine->trace, machine->slot, "starts (%s, boot %" PRIu32 ")", machine->type->name,
               machine->boots);
    machine->memory = memory_new();
    if (machine->disk != NULL || machine->net != NULL)
        machine->os = os_sim_new(machine);
    machine->left_code = 0;
    if (run_guarded(machine, start_body) != MACHINE_RUNS) {
        machine->process = NULL;
        end_inside(machine);
        return false;
    }
    if (machine->process == NULL) {
        check_for_leaks(machine);
        end_by_itself(machine, machine->left_code);
        return false;
    }
    machine_wake(machine, machine->busy_until);
    return true;
}

/* -- The turn ------------------------------------------------------------------------------------ */

static void turn_body(struct machine *machine)
{
    uint64_t wake_ns = 0;
    bool goes_on = machine->type->turn(machine->process, &wake_ns);
    machine_spend(machine, machine->costs.turn_ns);
    if (!goes_on) {
        int exit_code = machine->type->exit_code(machine->process);
        machine->type->free(machine->process);
        check_for_leaks(machine);
        machine_leave(machine, MACHINE_EXITS, exit_code);
    }
    if (wake_ns != 0) {
        uint64_t free_ns = timeline_now_ns(machine->timeline) + machine->turn_cost_ns;
        uint64_t at_ns = machine_world_ns(machine, wake_ns);
        machine_wake(machine, at_ns > free_ns ? at_ns : free_ns);
    }
}

static void run_turn(struct machine *machine)
{
    if (machine->events.before_turn != NULL)
        machine->events.before_turn(machine->events.context, machine);
    enum machine_left left = run_guarded(machine, turn_body);
    if (left == MACHINE_WAITS)
        return;
    machine->turns++;
    trace_number(machine->trace, machine->turn_cost_ns);
    if (left != MACHINE_RUNS) {
        end_inside(machine);
        return;
    }
    if (machine->events.after_turn != NULL)
        machine->events.after_turn(machine->events.context, machine);
}

static void on_wake(void *owner, uint64_t boots)
{
    struct machine *machine = owner;
    uint64_t now = timeline_now_ns(machine->timeline);
    bool is_wanted = machine->wake_pending && machine->boots == boots && machine->wake_at <= now;
    if (!is_wanted || machine->is_paused || machine->process == NULL || machine->is_dead)
        return;
    machine->wake_pending = false;
    if (machine->busy_until > now)
        machine_wake(machine, machine->busy_until);
    else
        run_turn(machine);
}

void machine_wake(struct machine *machine, uint64_t at_ns)
{
    if (machine->process == NULL || machine->is_dead)
        return;
    uint64_t earliest = free_from(machine);
    if (at_ns < earliest)
        at_ns = earliest;
    if (machine->wake_pending && machine->wake_at <= at_ns)
        return;
    machine->wake_pending = true;
    machine->wake_at = at_ns;
    struct memory *before = memory_enter(NULL);
    timeline_at(machine->timeline, at_ns, on_wake, machine, machine->boots);
    (void)memory_enter(before);
}

/* -- From outside -------------------------------------------------------------------------------- */

void machine_arm_crash(struct machine *machine, uint64_t nth_call, bool power)
{
    machine->crash_after_calls = nth_call;
    machine->crash_cuts_power = power;
}

void machine_pause(struct machine *machine)
{
    if (!machine->is_paused)
        trace_line(machine->trace, machine->slot, "is paused");
    machine->is_paused = true;
}

/* The kernel has gone on meanwhile: what has come, and timers that are due, are found by one turn. */
void machine_resume(struct machine *machine)
{
    if (!machine->is_paused)
        return;
    trace_line(machine->trace, machine->slot, "goes on");
    machine->is_paused = false;
    if (machine->wake_pending) {
        machine->wake_pending = false;
        machine_wake(machine, machine->wake_at);
    }
}

void machine_signal(struct machine *machine, int number)
{
    trace_line(machine->trace, machine->slot, "gets signal %d", number);
    if (machine->os != NULL)
        os_sim_signal(machine->os, number);
}
