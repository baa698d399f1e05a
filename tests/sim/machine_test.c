/* Machines with a process that does what each test says: clocks, turns, and the ways out of them. */
#include "tests/sim/machine.h"

#include <check.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>

#include "tests/sim/os_sim.h"

#define MS UINT64_C(1000000)
#define S (1000 * MS)

struct world {
    struct timeline *timeline;
    struct trace *trace;
    struct machine machine;
    /* What the process does. */
    uint64_t wake_every_ns; /* of its own clock; 0: it waits for others */
    int calls_each_turn;
    int turns_to_live; /* then it ends by itself; 0: for ever */
    bool refuses, exits, leaks, hangs;
    /* What was seen. */
    int starts, turns, before, after, crashes, exited, freed;
    int exit_code;
    uint64_t last_now, last_world;
    int bytes_held; /* of its memory when it crashed */
};

struct process {
    struct world *world;
    int turns;
    char *leak;
};

static void note_time(struct world *world)
{
    uint64_t now = machine_now_ns(&world->machine);
    ck_assert_uint_ge(now, world->last_now);
    world->last_now = now;
}

static void make_calls(struct world *world)
{
    for (int i = 0; i < world->calls_each_turn; i++) {
        machine_call(&world->machine);
        note_time(world);
    }
}

static void *start(struct machine *machine, int *exit_code)
{
    struct world *world = machine->user;
    world->starts++;
    make_calls(world);
    *exit_code = 2;
    if (world->refuses)
        return NULL;
    struct process *process = calloc(1, sizeof *process);
    ck_assert_ptr_nonnull(process);
    process->world = world;
    if (world->leaks)
        process->leak = malloc(10);
    return process;
}

static bool turn(void *context, uint64_t *wake_ns)
{
    struct process *process = context;
    struct world *world = process->world;
    ck_assert_uint_eq(*wake_ns, 0);
    note_time(world);
    world->last_world = timeline_now_ns(world->timeline);
    make_calls(world);
    world->turns++;
    if (world->exits)
        os_exit(world->machine.os, 7);
    if (world->hangs)
        machine_leave(&world->machine, MACHINE_HANGS, 0);
    if (world->wake_every_ns != 0)
        *wake_ns = machine_now_ns(&world->machine) + world->wake_every_ns;
    return ++process->turns != world->turns_to_live;
}

static int exit_code_of(const void *process)
{
    (void)process;
    return 3;
}

static void end(void *context)
{
    struct process *process = context;
    process->world->freed++;
    free(process);
}

static const struct process_type type = {
    .name = "toy", .start = start, .turn = turn, .exit_code = exit_code_of, .free = end
};

static void on_before(void *context, struct machine *machine)
{
    struct world *world = context;
    (void)machine;
    world->before++;
}

static void on_after(void *context, struct machine *machine)
{
    struct world *world = context;
    ck_assert_ptr_nonnull(machine->process);
    world->after++;
}

static void on_crashed(void *context, struct machine *machine)
{
    struct world *world = context;
    world->crashes++;
    world->bytes_held = (int)memory_bytes(machine->memory);
    machine_crash(machine, machine->crash_cuts_power, DISK_TEAR_NOTHING);
    world->last_now = 0;
}

static void on_exited(void *context, struct machine *machine, int exit_code)
{
    struct world *world = context;
    ck_assert_ptr_null(machine->process);
    world->exited++;
    world->exit_code = exit_code;
}

static struct world *world_new(void)
{
    struct world *world = calloc(1, sizeof *world);
    ck_assert_ptr_nonnull(world);
    world->timeline = timeline_new(5);
    world->trace = trace_new(world->timeline, false);
    world->machine = (struct machine){
        .slot = 1,
        .id = 2,
        .type = &type,
        .timeline = world->timeline,
        .trace = world->trace,
        .disk = disk_new(world->trace, 1),
        .random = random_stream(5, 1),
        .costs = { .call_ns = 1000, .flush_min_ns = MS, .flush_max_ns = 2 * MS, .turn_ns = 10000 },
        .events = { .context = world,
                    .before_turn = on_before,
                    .after_turn = on_after,
                    .crashed = on_crashed,
                    .exited = on_exited },
        .user = world,
    };
    return world;
}

static void world_free(struct world *world)
{
    machine_crash(&world->machine, false, DISK_TEAR_NOTHING);
    disk_free(world->machine.disk);
    trace_free(world->trace);
    timeline_free(world->timeline);
    free(world);
}

static void run_until(struct world *world, uint64_t at_ns)
{
    while (timeline_step(world->timeline, at_ns))
        ;
}

/* -- Clocks -------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    uint32_t rate;
    uint64_t base_world, base_local;
} clocks[] = {
    { "as the world", 1000, 0, 0 },
    { "half", 500, 123456789, 77 },
    { "double", 2000, 5, UINT64_C(1) << 31 },
    { "odd", 1337, UINT64_C(1) << 40, (UINT64_C(1) << 32) * MS - 5 },
    { "a thousand years", 1999, 3, UINT64_C(1) << 62 },
};

START_TEST(the_world_s_time_is_the_first_that_shows_a_local_one)
{
    struct world *world = world_new();
    struct machine *machine = &world->machine;
    machine->clock.rate_per_mille = clocks[_i].rate;
    machine->clock_base_world_ns = clocks[_i].base_world;
    machine->clock_base_local_ns = clocks[_i].base_local;
    struct random random = random_stream(1, (uint64_t)_i);
    uint64_t at = clocks[_i].base_world;
    for (int i = 0; i < 2000; i++) {
        uint64_t local = machine_now_ns(machine) + random_below(&random, 50) + 1;
        if (i % 100 == 99)
            local += random_below(&random, UINT64_C(1) << 52);
        uint64_t world_ns = machine_world_ns(machine, local);
        ck_assert_uint_ge(world_ns, at);
        at = world_ns;
        if (world_ns > 0) {
            run_until(world, world_ns - 1);
            bool is_early = machine_now_ns(machine) < local ||
                            timeline_now_ns(world->timeline) == clocks[_i].base_world;
            ck_assert_msg(is_early, "%s", clocks[_i].name);
        }
        run_until(world, world_ns);
        ck_assert_msg(machine_now_ns(machine) >= local, "%s", clocks[_i].name);
    }
    ck_assert_uint_eq(machine_world_ns(machine, 0), clocks[_i].base_world);
    world_free(world);
}
END_TEST

START_TEST(a_clock_never_goes_back_whatever_its_rate_does)
{
    struct world *world = world_new();
    struct machine *machine = &world->machine;
    world->wake_every_ns = 50000;
    world->calls_each_turn = 20;
    machine->clock.offset_ns = 70 * S;
    ck_assert(machine_start(machine));
    for (uint32_t i = 0; i < 200; i++) {
        run_until(world, i * MS + i * 777);
        machine_set_rate(machine, i % 2 == 0 ? 2000 : 500);
    }
    ck_assert_int_gt(world->turns, 1000);
    ck_assert_uint_gt(world->last_now, 70 * S);
    uint64_t before_ns = machine_now_ns(machine);
    machine_crash(machine, false, DISK_TEAR_NOTHING);
    ck_assert(machine_start(machine)); /* the machine stood: the clock goes on */
    ck_assert_uint_ge(machine_now_ns(machine), before_ns);
    world_free(world);
}
END_TEST

START_TEST(a_clock_begins_anew_after_a_power_cut)
{
    struct world *world = world_new();
    struct machine *machine = &world->machine;
    machine->clock.offset_ns = 4000 * S;
    ck_assert(machine_start(machine));
    ck_assert_uint_eq(machine_now_ns(machine), 4000 * S);
    machine_crash(machine, true, DISK_TEAR_NOTHING);
    ck_assert(machine_start(machine));
    ck_assert_uint_lt(machine_now_ns(machine), 4000 * S);
    world_free(world);
}
END_TEST

/* -- Turns --------------------------------------------------------------------------------------- */

START_TEST(a_turn_takes_time_and_the_next_one_waits_for_it)
{
    struct world *world = world_new();
    struct machine *machine = &world->machine;
    world->calls_each_turn = 5;
    ck_assert(machine_start(machine));
    run_until(world, 4999);
    ck_assert_int_eq(world->turns, 0); /* the start's own calls */
    run_until(world, 5000);
    ck_assert_int_eq(world->turns, 1);
    machine_wake(machine, 5001);
    machine_wake(machine, 5002);
    run_until(world, 19999);
    ck_assert_int_eq(world->turns, 1);
    run_until(world, S);
    ck_assert_int_eq(world->turns, 2);
    ck_assert_uint_eq(world->last_world, 20000);
    ck_assert_int_eq(world->before, 2);
    ck_assert_int_eq(world->after, 2);
    ck_assert_uint_eq(machine->calls, 15);
    world_free(world);
}
END_TEST

START_TEST(a_process_is_woken_when_its_own_clock_says_so)
{
    struct world *world = world_new();
    world->machine.clock.rate_per_mille = 500;
    world->wake_every_ns = 10 * MS;
    ck_assert(machine_start(&world->machine));
    run_until(world, S);
    ck_assert_int_ge(world->turns, 49);
    ck_assert_int_le(world->turns, 51);
    world_free(world);
}
END_TEST

START_TEST(the_earliest_wake_up_counts_and_each_once)
{
    struct world *world = world_new();
    struct machine *machine = &world->machine;
    ck_assert(machine_start(machine));
    run_until(world, MS);
    machine_wake(machine, 9 * MS);
    machine_wake(machine, 5 * MS);
    machine_wake(machine, 7 * MS);
    run_until(world, 20 * MS);
    ck_assert_int_eq(world->turns, 2);
    ck_assert_uint_eq(world->last_world, 5 * MS);
    machine_wake(machine, 40 * MS);
    machine_wake(machine, 30 * MS);
    run_until(world, 35 * MS);
    machine_wake(machine, 60 * MS); /* what is left of 40 is no wish any more */
    run_until(world, 50 * MS);
    ck_assert_int_eq(world->turns, 3);
    ck_assert_uint_eq(world->last_world, 30 * MS);
    world_free(world);
}
END_TEST

START_TEST(a_paused_process_does_nothing_and_then_all_at_once)
{
    struct world *world = world_new();
    struct machine *machine = &world->machine;
    world->wake_every_ns = MS;
    ck_assert(machine_start(machine));
    run_until(world, 10 * MS);
    int turns = world->turns;
    machine_pause(machine);
    run_until(world, 500 * MS);
    machine_wake(machine, 0);
    run_until(world, S);
    ck_assert_int_eq(world->turns, turns);
    machine_resume(machine);
    run_until(world, S);
    ck_assert_int_eq(world->turns, turns + 1);
    run_until(world, S + 10 * MS);
    ck_assert_int_ge(world->turns, turns + 9);
    world_free(world);
}
END_TEST

START_TEST(wake_ups_of_a_process_do_not_wake_the_next_one)
{
    struct world *world = world_new();
    struct machine *machine = &world->machine;
    ck_assert(machine_start(machine));
    run_until(world, MS);
    machine_wake(machine, 5 * MS);
    machine_crash(machine, false, DISK_TEAR_NOTHING);
    machine_wake(machine, 3 * MS); /* down: nothing */
    run_until(world, 2 * MS);
    ck_assert(machine_start(machine));
    run_until(world, 20 * MS);
    ck_assert_int_eq(world->turns, 2);
    world_free(world);
}
END_TEST

/* -- Ways out ------------------------------------------------------------------------------------ */

START_TEST(a_crash_is_before_the_nth_call)
{
    struct world *world = world_new();
    struct machine *machine = &world->machine;
    world->calls_each_turn = 10;
    world->wake_every_ns = MS;
    ck_assert(machine_start(machine));
    machine_arm_crash(machine, 25, true);
    run_until(world, S);
    ck_assert_int_eq(world->crashes, 1);
    ck_assert_int_eq(world->turns, 2); /* and 4 calls of the third */
    ck_assert_uint_eq(machine->calls, 10 + 24);
    ck_assert_int_gt(world->bytes_held, 0);
    ck_assert_ptr_null(machine->process);
    ck_assert_int_eq(world->freed, 0);
    ck_assert(machine_start(machine)); /* the order is gone */
    run_until(world, 2 * S);
    ck_assert_int_eq(world->crashes, 1);
    machine_arm_crash(machine, 50, true);
    machine_crash(machine, false, DISK_TEAR_NOTHING);
    ck_assert(machine_start(machine)); /* and so it is when the process goes before */
    run_until(world, 3 * S);
    ck_assert_int_eq(world->crashes, 1);
    world_free(world);
}
END_TEST

START_TEST(a_start_may_crash)
{
    struct world *world = world_new();
    struct machine *machine = &world->machine;
    world->calls_each_turn = 10;
    machine_arm_crash(machine, 10, false);
    ck_assert(!machine_start(machine));
    ck_assert_int_eq(world->crashes, 1);
    run_until(world, S);
    ck_assert_int_eq(world->turns, 0);
    ck_assert(machine_start(machine));
    world_free(world);
}
END_TEST

START_TEST(a_start_may_be_refused)
{
    struct world *world = world_new();
    world->refuses = true;
    ck_assert(!machine_start(&world->machine));
    ck_assert_int_eq(world->exited, 1);
    ck_assert_int_eq(world->exit_code, 2);
    run_until(world, S);
    ck_assert_int_eq(world->turns, 0);
    world_free(world);
}
END_TEST

START_TEST(a_process_may_end_by_itself)
{
    struct world *world = world_new();
    world->turns_to_live = 3;
    world->wake_every_ns = MS;
    ck_assert(machine_start(&world->machine));
    run_until(world, S);
    ck_assert_int_eq(world->turns, 3);
    ck_assert_int_eq(world->after, 2);
    ck_assert_int_eq(world->freed, 1);
    ck_assert_int_eq(world->exited, 1);
    ck_assert_int_eq(world->exit_code, 3);
    world_free(world);
}
END_TEST

START_TEST(a_process_may_exit_in_its_middle)
{
    struct world *world = world_new();
    world->exits = true;
    ck_assert(machine_start(&world->machine));
    run_until(world, S);
    ck_assert_int_eq(world->exited, 1);
    ck_assert_int_eq(world->exit_code, 7);
    ck_assert_int_eq(world->freed, 0);
    world_free(world);
}
END_TEST

START_TEST(a_process_that_hangs_is_killed_when_the_hang_is_over)
{
    struct world *world = world_new();
    struct machine *machine = &world->machine;
    world->hangs = true;
    machine->flush_hangs = true;
    ck_assert(machine_start(machine));
    run_until(world, 5 * S);
    ck_assert_int_eq(world->turns, 1);
    ck_assert_int_eq(world->crashes, 0);
    ck_assert(machine->is_stuck);
    machine->flush_hangs = false;
    run_until(world, 6 * S);
    ck_assert_int_eq(world->crashes, 1);
    ck_assert(!machine->is_stuck);
    ck_assert(machine_start(machine));
    world_free(world);
}
END_TEST

/* trace_fail() ends the run: the test expects the abort. */
START_TEST(memory_that_an_orderly_end_leaves_is_a_leak)
{
    struct world *world = world_new();
    world->leaks = true;
    world->turns_to_live = 1;
    ck_assert(machine_start(&world->machine));
    run_until(world, S);
    exit(EXIT_SUCCESS); /* it was not seen */
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("machine");
    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, the_world_s_time_is_the_first_that_shows_a_local_one, 0,
                        sizeof clocks / sizeof clocks[0]);
    tcase_add_test(tests, a_clock_never_goes_back_whatever_its_rate_does);
    tcase_add_test(tests, a_clock_begins_anew_after_a_power_cut);
    tcase_add_test(tests, a_turn_takes_time_and_the_next_one_waits_for_it);
    tcase_add_test(tests, a_process_is_woken_when_its_own_clock_says_so);
    tcase_add_test(tests, the_earliest_wake_up_counts_and_each_once);
    tcase_add_test(tests, a_paused_process_does_nothing_and_then_all_at_once);
    tcase_add_test(tests, wake_ups_of_a_process_do_not_wake_the_next_one);
    tcase_add_test(tests, a_crash_is_before_the_nth_call);
    tcase_add_test(tests, a_start_may_crash);
    tcase_add_test(tests, a_start_may_be_refused);
    tcase_add_test(tests, a_process_may_end_by_itself);
    tcase_add_test(tests, a_process_may_exit_in_its_middle);
    tcase_add_test(tests, a_process_that_hangs_is_killed_when_the_hang_is_over);
    tcase_add_test_raise_signal(tests, memory_that_an_orderly_end_leaves_is_a_leak, SIGABRT);

    Suite *suite = suite_create("sim");
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
