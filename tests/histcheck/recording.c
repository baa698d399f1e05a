#include "tests/histcheck/recording.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/histcheck/names.h"

/* A client between invocation and return. */
enum stage { IDLE, INVOKED, EFFECTED };

struct client {
    enum stage stage;
    struct recording_event op; /* its answer too, once there is one */
};

struct cell {
    int value;
    uint64_t version;
    bool expires;
};

struct maker {
    const struct recording_options *options;
    struct recording *recording;
    uint64_t random;
    struct client clients[RECORDING_PROCESSES_MAX];
    struct cell cells[RECORDING_KEYS_MAX];
    uint64_t version;
    int last_value;
    struct recording_event *late; /* unknown, and not yet done */
    size_t late_count, late_room;
};

uint64_t recording_random(uint64_t *state, uint64_t below)
{
    *state += 0x9e3779b97f4a7c15u; /* splitmix64 */
    uint64_t mixed = *state;
    mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9u;
    mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111ebu;
    return (mixed ^ mixed >> 31) % below;
}

static bool chance(struct maker *maker, unsigned per_mille)
{
    return recording_random(&maker->random, 1000) < per_mille;
}

static void add_event(struct recording *recording, const struct recording_event *event)
{
    if (recording->count == recording->room) {
        recording->room = recording->room > 0 ? 2 * recording->room : 32;
        recording->events =
            names_grow(recording->events, recording->room, sizeof(*recording->events));
    }
    recording->events[recording->count++] = *event;
}

static uint64_t write_cell(struct maker *maker, const struct recording_event *op)
{
    maker->version += 1 + recording_random(&maker->random, 2);
    maker->cells[op->key] = (struct cell){ op->value, maker->version, op->expires };
    return maker->version;
}

static void answer(struct recording_event *op, enum linear_outcome outcome, uint64_t version)
{
    op->outcome = outcome;
    op->version = version;
}

/* The store: what it does and says, at one moment. */
static void carry_out(struct maker *maker, struct recording_event *op)
{
    struct cell *cell = &maker->cells[op->key];
    switch (op->kind) {
    case LINEAR_GET:
        op->got = cell->value;
        answer(op, cell->value != 0 ? LINEAR_VALUE : LINEAR_NONE,
               cell->value != 0 && !chance(maker, maker->options->untold_per_mille) ? cell->version
                                                                                    : 0);
        return;
    case LINEAR_SET:
        answer(op, LINEAR_VERSION, write_cell(maker, op));
        return;
    case LINEAR_CAS:
        if (op->expected == (cell->value != 0 ? cell->version : 0))
            answer(op, LINEAR_VERSION, write_cell(maker, op));
        else
            answer(op, cell->value != 0 ? LINEAR_DIFFERS : LINEAR_NONE,
                   cell->value != 0 ? cell->version : 0);
        return;
    default:
        answer(op, cell->value != 0 ? LINEAR_DELETED : LINEAR_NONE, 0);
        cell->value = 0;
    }
}

static struct recording_event make_op(struct maker *maker, int process)
{
    static const enum linear_kind kinds[] = { LINEAR_GET, LINEAR_GET, LINEAR_GET,   LINEAR_SET,
                                              LINEAR_SET, LINEAR_CAS, LINEAR_DELETE };
    const struct recording_options *options = maker->options;
    struct recording_event op = {
        .process = process,
        .op = maker->recording->op_count,
        .kind = kinds[recording_random(&maker->random, sizeof(kinds) / sizeof(kinds[0]))],
        .key = (int)recording_random(&maker->random, (uint64_t)options->key_count),
    };
    if (op.kind == LINEAR_SET || op.kind == LINEAR_CAS) {
        op.value = options->value_count > 0
                       ? 1 + (int)recording_random(&maker->random, (uint64_t)options->value_count)
                       : ++maker->last_value;
        op.expires = chance(maker, options->expires_per_mille);
    }
    if (op.kind == LINEAR_CAS && !chance(maker, 250)) {
        const struct cell *cell = &maker->cells[op.key];
        op.expected = cell->value == 0 ? maker->version : cell->version;
    }
    return op;
}

static void invoke(struct maker *maker, int process)
{
    struct client *client = &maker->clients[process];
    client->op = make_op(maker, process);
    client->stage = INVOKED;
    add_event(maker->recording, &client->op);
    maker->recording->op_count++;
}

static void keep_for_later(struct maker *maker, const struct recording_event *op)
{
    if (maker->late_count == maker->late_room) {
        maker->late_room = 2 * maker->late_room + 8;
        maker->late = names_grow(maker->late, maker->late_room, sizeof(*maker->late));
    }
    maker->late[maker->late_count++] = *op;
}

static void come_back(struct maker *maker, struct client *client)
{
    client->op.is_return = true;
    add_event(maker->recording, &client->op);
    client->stage = IDLE;
}

static void step_client(struct maker *maker, int process)
{
    struct client *client = &maker->clients[process];
    bool is_lost = chance(maker, maker->options->unknown_per_mille);
    if (client->stage == IDLE) {
        if (maker->recording->op_count < maker->options->op_count)
            invoke(maker, process);
    } else if (client->stage == INVOKED && is_lost) {
        keep_for_later(maker, &client->op);
        client->op.outcome = LINEAR_UNKNOWN;
        come_back(maker, client);
    } else if (client->stage == INVOKED && chance(maker, maker->options->failed_per_mille)) {
        client->op.outcome = LINEAR_FAILED;
        come_back(maker, client);
    } else if (client->stage == INVOKED) {
        carry_out(maker, &client->op);
        client->stage = EFFECTED;
    } else {
        if (is_lost)
            client->op.outcome = LINEAR_UNKNOWN;
        come_back(maker, client);
    }
}

/* What nobody asked for at this moment: a key expires, an unknown operation takes effect. */
static void step_world(struct maker *maker)
{
    int key = (int)recording_random(&maker->random, (uint64_t)maker->options->key_count);
    if (maker->cells[key].expires && chance(maker, 100))
        maker->cells[key].value = 0;
    if (maker->late_count > 0 && chance(maker, 100)) {
        size_t i = (size_t)recording_random(&maker->random, maker->late_count);
        carry_out(maker, &maker->late[i]);
        maker->late[i] = maker->late[--maker->late_count];
    }
}

/* An operation of the one who notices the fault, on key 0, undisturbed. */
static void probe(struct maker *maker, enum linear_kind kind, int value,
                  enum linear_outcome outcome, uint64_t version)
{
    struct recording_event op = {
        .process = maker->options->process_count,
        .op = maker->recording->op_count++,
        .kind = kind,
        .value = kind == LINEAR_GET ? 0 : value,
        .got = kind == LINEAR_GET ? value : 0,
        .outcome = outcome,
        .version = version,
    };
    add_event(maker->recording, &op);
    op.is_return = true;
    add_event(maker->recording, &op);
}

static void happen(struct maker *maker, enum recording_fault fault)
{
    uint64_t told = chance(maker, 500); /* whether reads tell versions */
    int old = ++maker->last_value, new = ++maker->last_value;
    uint64_t version = maker->version + 1;
    maker->version += 2;
    probe(maker, LINEAR_SET, old, LINEAR_VERSION, version);
    switch (fault) {
    case RECORDING_STALE_READ:
        probe(maker, LINEAR_SET, new, LINEAR_VERSION, version + 1);
        probe(maker, LINEAR_GET, new, LINEAR_VALUE, told * (version + 1));
        probe(maker, LINEAR_GET, old, LINEAR_VALUE, told * version);
        break;
    case RECORDING_LOST_WRITE:
        probe(maker, LINEAR_SET, new, LINEAR_VERSION, version + 1);
        probe(maker, LINEAR_GET, old, LINEAR_VALUE, told * version);
        break;
    case RECORDING_TWIN_VERSION:
        probe(maker, LINEAR_SET, new, LINEAR_VERSION, version);
        break;
    default:
        probe(maker, LINEAR_DELETE, 0, LINEAR_DELETED, 0);
        probe(maker, LINEAR_GET, old, LINEAR_VALUE, told * version);
    }
    maker->cells[0] = (struct cell){ old, version, false };
}

static bool any_at_work(const struct maker *maker)
{
    for (int i = 0; i < maker->options->process_count; i++) {
        if (maker->clients[i].stage != IDLE)
            return true;
    }
    return false;
}

struct recording recording_make(const struct recording_options *options, int fault)
{
    assert(options->process_count < RECORDING_PROCESSES_MAX);
    assert(options->key_count <= RECORDING_KEYS_MAX);
    struct recording recording = { 0 };
    struct maker maker = {
        .options = options,
        .recording = &recording,
        .random = options->seed,
    };
    while (recording.op_count < options->op_count || any_at_work(&maker)) {
        step_client(&maker, (int)recording_random(&maker.random, (uint64_t)options->process_count));
        step_world(&maker);
        if (fault >= 0 && recording.op_count >= options->op_count / 2) {
            happen(&maker, (enum recording_fault)fault);
            fault = -1;
        }
        if (recording.op_count == options->op_count && chance(&maker, 100))
            break; /* what is open stays open */
    }
    free(maker.late);
    return recording;
}

void recording_release(struct recording *recording)
{
    free(recording->events);
    *recording = (struct recording){ 0 };
}

static void twist_get(struct recording_event *event, uint64_t *random)
{
    if (event->outcome == LINEAR_NONE || recording_random(random, 3) == 0) {
        event->outcome = LINEAR_VALUE;
        event->got = 1 + (int)recording_random(random, 4);
        event->version = recording_random(random, 6);
    } else if (recording_random(random, 2) == 0) {
        event->outcome = LINEAR_NONE;
        event->got = 0;
        event->version = 0;
    } else {
        event->version = recording_random(random, 8);
    }
}

void recording_twist(struct recording *recording, uint64_t *random)
{
    struct recording_event *event = &recording->events[recording_random(random, recording->count)];
    if (!event->is_return || event->outcome == LINEAR_FAILED || event->outcome == LINEAR_UNKNOWN)
        return;
    if (event->kind == LINEAR_GET) {
        twist_get(event, random);
    } else if (event->kind == LINEAR_DELETE) {
        event->outcome = event->outcome == LINEAR_NONE ? LINEAR_DELETED : LINEAR_NONE;
    } else if (event->kind == LINEAR_CAS && recording_random(random, 2) == 0) {
        static const enum linear_outcome outcomes[] = { LINEAR_NONE, LINEAR_DIFFERS,
                                                        LINEAR_VERSION };
        event->outcome = outcomes[recording_random(random, 3)];
        event->version = event->outcome == LINEAR_NONE ? 0 : 1 + recording_random(random, 8);
    } else if (event->version != 0) {
        event->version = 1 + recording_random(random, 8);
    }
}

void recording_play(const struct recording *recording, struct linear_history *history)
{
    for (size_t i = 0; i < recording->count; i++) {
        const struct recording_event *event = &recording->events[i];
        char process[16], key[16], value[16];
        (void)snprintf(process, sizeof(process), "%d", event->process);
        (void)snprintf(key, sizeof(key), "k%d", event->key);
        (void)snprintf(value, sizeof(value), "v%d", event->is_return ? event->got : event->value);
        struct linear_call call = {
            event->kind, key, value, NULL, event->expected, event->expires,
        };
        struct linear_result result = { event->outcome, value, event->version };
        const char *complaint = event->is_return ? linear_return(history, process, &result, i + 1)
                                                 : linear_invoke(history, process, &call, i + 1);
        if (complaint != NULL) {
            fprintf(stderr, "event %zu: %s\n", i, complaint);
            abort();
        }
    }
}
