#include "tests/histcheck/naive.h"

#include <assert.h>
#include <string.h>

struct op {
    struct recording_event event; /* with its answer */
    size_t invoked, returned;
    bool is_open; /* may be left out */
};

struct problem {
    struct op ops[NAIVE_OPS_MAX];
    int op_count;
};

/* Everything that an order has led to so far. Copied for each way to go on. */
struct world {
    bool is_placed[NAIVE_OPS_MAX];
    struct {
        int value; /* 0: absent */
        int write; /* which of the writes it is from */
        bool expires;
    } cells[NAIVE_KEYS_MAX];
    uint64_t versions[NAIVE_OPS_MAX]; /* of all writes in their order; 0: nobody was told */
    int write_count;
};

static void add_recording(struct problem *problem, const struct recording *recording, int key)
{
    int place_of[NAIVE_OPS_MAX];
    for (size_t i = 0; i < recording->count; i++) {
        const struct recording_event *event = &recording->events[i];
        if (key >= 0 && event->key != key)
            continue;
        assert(event->op < NAIVE_OPS_MAX && event->key < NAIVE_KEYS_MAX);
        if (!event->is_return) {
            place_of[event->op] = problem->op_count;
            problem->ops[problem->op_count++] = (struct op){ *event, i, SIZE_MAX, true };
            continue;
        }
        struct op *op = &problem->ops[place_of[event->op]];
        op->event = *event;
        if (event->outcome != LINEAR_UNKNOWN) {
            op->returned = i;
            op->is_open = false;
        }
    }
}

/* The versions that are not known have to fit between those that are. */
static bool versions_fit(const struct world *world)
{
    uint64_t least = 1;
    for (int i = 0; i < world->write_count; i++) {
        if (world->versions[i] != 0 && world->versions[i] < least)
            return false;
        if (world->versions[i] != 0)
            least = world->versions[i];
        least++;
    }
    return true;
}

static bool has_version(struct world *world, int key, uint64_t version)
{
    if (world->cells[key].value == 0)
        return false;
    uint64_t *known = &world->versions[world->cells[key].write];
    if (*known == 0)
        *known = version;
    return version == 0 || *known == version;
}

static void write_cell(struct world *world, const struct op *op)
{
    world->versions[world->write_count] = op->is_open ? 0 : op->event.version;
    world->cells[op->event.key].value = op->event.value;
    world->cells[op->event.key].expires = op->event.expires;
    world->cells[op->event.key].write = world->write_count++;
}

static bool carry_out_cas(struct world *world, const struct op *op)
{
    const struct recording_event *event = &op->event;
    bool is_absent = world->cells[event->key].value == 0;
    if (!op->is_open && event->outcome == LINEAR_NONE)
        return is_absent && event->expected != 0;
    if (!op->is_open && event->outcome == LINEAR_DIFFERS)
        return event->version != event->expected && has_version(world, event->key, event->version);
    if (event->expected == 0 ? !is_absent : !has_version(world, event->key, event->expected))
        return false;
    write_cell(world, op);
    return true;
}

/* Whether the operation can have its answer now; an open one, whether it can take effect now. */
static bool carry_out(struct world *world, const struct op *op)
{
    const struct recording_event *event = &op->event;
    bool is_absent = world->cells[event->key].value == 0;
    switch (event->kind) {
    case LINEAR_GET:
        if (op->is_open)
            return false;
        if (event->outcome == LINEAR_NONE)
            return is_absent;
        return world->cells[event->key].value == event->got &&
               has_version(world, event->key, event->version);
    case LINEAR_SET:
        write_cell(world, op);
        return true;
    case LINEAR_CAS:
        return carry_out_cas(world, op);
    default:
        world->cells[event->key].value = 0;
        return op->is_open || is_absent == (event->outcome == LINEAR_NONE);
    }
}

static bool explore(const struct problem *problem, const struct world *world)
{
    size_t frontier = SIZE_MAX;
    bool is_done = true;
    for (int i = 0; i < problem->op_count; i++) {
        const struct op *op = &problem->ops[i];
        if (!world->is_placed[i] && !op->is_open) {
            is_done = false;
            frontier = op->returned < frontier ? op->returned : frontier;
        }
    }
    if (is_done)
        return versions_fit(world);

    for (int key = 0; key < NAIVE_KEYS_MAX; key++) { /* what can vanish may do so now */
        if (world->cells[key].value == 0 || !world->cells[key].expires)
            continue;
        struct world next = *world;
        next.cells[key].value = 0;
        if (explore(problem, &next))
            return true;
    }
    for (int i = 0; i < problem->op_count; i++) {
        if (world->is_placed[i] || problem->ops[i].invoked > frontier)
            continue;
        struct world next = *world;
        next.is_placed[i] = true;
        if (carry_out(&next, &problem->ops[i]) && explore(problem, &next))
            return true;
    }
    return false;
}

/* Failed operations never were. */
static void drop_failed(struct problem *problem)
{
    int kept = 0;
    for (int i = 0; i < problem->op_count; i++) {
        if (problem->ops[i].is_open || problem->ops[i].event.outcome != LINEAR_FAILED)
            problem->ops[kept++] = problem->ops[i];
    }
    problem->op_count = kept;
}

static bool solve(const struct recording *recording, int key)
{
    struct problem problem = { 0 };
    struct world world;
    memset(&world, 0, sizeof(world));
    add_recording(&problem, recording, key);
    drop_failed(&problem);
    return explore(&problem, &world);
}

bool naive_all_keys(const struct recording *recording)
{
    return solve(recording, -1);
}

static bool is_acknowledged_write(const struct op *op)
{
    return !op->is_open && op->event.outcome == LINEAR_VERSION;
}

static bool pairs_are_fine(const struct recording *recording)
{
    struct problem problem = { 0 };
    add_recording(&problem, recording, -1);
    for (int i = 0; i < problem.op_count; i++) {
        for (int k = 0; k < problem.op_count; k++) {
            const struct op *a = &problem.ops[i], *b = &problem.ops[k];
            if (i == k || !is_acknowledged_write(a) || !is_acknowledged_write(b))
                continue;
            if (a->event.version == b->event.version)
                return false;
            if (a->returned < b->invoked && a->event.version > b->event.version)
                return false;
        }
    }
    return true;
}

bool naive_each_key(const struct recording *recording)
{
    for (int key = 0; key < NAIVE_KEYS_MAX; key++) {
        if (!solve(recording, key))
            return false;
    }
    return pairs_are_fine(recording);
}
