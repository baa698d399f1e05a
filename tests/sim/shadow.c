/* One list of versions for each key, oldest first: what the key became, and from where on. A delete is
 * a version too, of nothing. Expiry adds none: a version with an expiry dies at the first index whose
 * clock has reached it, and clocks never fall along the log, so a binary search finds that index.
 *
 *     clock      100      250      250         400
 *     index      1        2        3           4
 *     key k      set ttl 150       (dead)      delete: not found
 *                |--------|-------->
 *                1/1      2/0: 250 >= 100 + 150
 *
 * All else is as naive as can be: no reclaiming, no digests, one table of keys. */
#include "tests/sim/shadow.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/op.h"

struct version {
    struct shadow_place from;
    struct shadow_state state;
};

struct key {
    uint64_t hash;
    uint8_t *bytes; /* owned */
    size_t size;
    struct version *versions; /* owned; oldest first */
    size_t version_count, version_capacity;
};

struct shadow {
    struct key *keys; /* in the order in which they first came */
    size_t key_count, key_capacity;
    size_t *table; /* open addressing: 1 + place in `keys`; 0: free */
    size_t table_size;
    uint64_t *clocks; /* of the entries 1, 2, … */
    size_t clock_count, clock_capacity;
    uint64_t last_version;
    uint32_t command_count; /* of the newest entry */
};

static void *grow(void *memory, size_t *capacity, size_t size_of_one)
{
    *capacity = *capacity == 0 ? 16 : 2 * *capacity;
    void *grown = realloc(memory, *capacity * size_of_one);
    if (grown == NULL)
        abort();
    return grown;
}

struct shadow *shadow_new(void)
{
    struct shadow *shadow = calloc(1, sizeof *shadow);
    if (shadow == NULL)
        abort();
    return shadow;
}

void shadow_free(struct shadow *shadow)
{
    if (shadow == NULL)
        return;
    for (size_t i = 0; i < shadow->key_count; i++) {
        free(shadow->keys[i].bytes);
        free(shadow->keys[i].versions);
    }
    free(shadow->keys);
    free(shadow->table);
    free(shadow->clocks);
    free(shadow);
}

/* -- Keys ---------------------------------------------------------------------------------------- */

static uint64_t hash_of(const uint8_t *bytes, size_t size)
{
    uint64_t hash = 0xcbf29ce484222325;
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ bytes[i]) * 0x100000001b3;
    return hash ^ hash >> 29;
}

static struct key *find_key(const struct shadow *shadow, const uint8_t *bytes, size_t size)
{
    if (shadow->table_size == 0)
        return NULL;
    uint64_t hash = hash_of(bytes, size);
    for (size_t i = hash & (shadow->table_size - 1); shadow->table[i] != 0;
         i = (i + 1) & (shadow->table_size - 1)) {
        struct key *key = &shadow->keys[shadow->table[i] - 1];
        if (key->hash == hash && key->size == size && memcmp(key->bytes, bytes, size) == 0)
            return key;
    }
    return NULL;
}

static void enter(struct shadow *shadow, size_t place)
{
    size_t i = shadow->keys[place].hash & (shadow->table_size - 1);
    while (shadow->table[i] != 0)
        i = (i + 1) & (shadow->table_size - 1);
    shadow->table[i] = place + 1;
}

static struct key *add_key(struct shadow *shadow, const uint8_t *bytes, size_t size)
{
    if (shadow->key_count == shadow->key_capacity) {
        shadow->keys = grow(shadow->keys, &shadow->key_capacity, sizeof *shadow->keys);
        shadow->table_size = 2 * shadow->key_capacity; /* a power of 2, at most half full */
        free(shadow->table);
        shadow->table = calloc(shadow->table_size, sizeof *shadow->table);
        if (shadow->table == NULL)
            abort();
        for (size_t i = 0; i < shadow->key_count; i++)
            enter(shadow, i);
    }
    struct key *key = &shadow->keys[shadow->key_count];
    *key = (struct key){ .hash = hash_of(bytes, size), .bytes = malloc(size + 1), .size = size };
    if (key->bytes == NULL)
        abort();
    memcpy(key->bytes, bytes, size);
    enter(shadow, shadow->key_count++);
    return key;
}

/* -- Places and clocks --------------------------------------------------------------------------- */

bool shadow_before(struct shadow_place a, struct shadow_place b)
{
    return a.index != b.index ? a.index < b.index : a.number < b.number;
}

static struct shadow_place later(struct shadow_place a, struct shadow_place b)
{
    return shadow_before(a, b) ? b : a;
}

struct shadow_place shadow_end(const struct shadow *shadow)
{
    return (struct shadow_place){ shadow->clock_count, shadow->command_count };
}

uint64_t shadow_clock_ms(const struct shadow *shadow, uint64_t index)
{
    assert(index <= shadow->clock_count);
    return index == 0 ? 0 : shadow->clocks[index - 1];
}

void shadow_begin(struct shadow *shadow, uint64_t clock_ms)
{
    uint64_t before = shadow_clock_ms(shadow, shadow->clock_count);
    if (shadow->clock_count == shadow->clock_capacity)
        shadow->clocks = grow(shadow->clocks, &shadow->clock_capacity, sizeof *shadow->clocks);
    shadow->clocks[shadow->clock_count++] = clock_ms > before ? clock_ms : before;
    shadow->command_count = 0;
}

/* The first place at which `version` is dead, if time alone takes it; false: it lives at the end. */
static bool find_death(const struct shadow *shadow, const struct version *version,
                       struct shadow_place *death)
{
    size_t low = (size_t)version->from.index; /* clocks[low - 1] is before the expiry */
    size_t high = shadow->clock_count;        /* clocks[high] is not, or is no clock */
    if (version->state.expires_ms == 0 || shadow_clock_ms(shadow, high) < version->state.expires_ms)
        return false;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (shadow->clocks[middle] >= version->state.expires_ms)
            high = middle;
        else
            low = middle + 1;
    }
    *death = (struct shadow_place){ low + 1, 0 };
    return true;
}

/* -- Applying ------------------------------------------------------------------------------------ */

static bool state_now(const struct shadow *shadow, const struct key *key,
                      struct shadow_state *state)
{
    struct shadow_place death;
    if (key == NULL || key->version_count == 0)
        return false;
    const struct version *newest = &key->versions[key->version_count - 1];
    if (newest->state.version == 0 || find_death(shadow, newest, &death))
        return false;
    *state = newest->state;
    return true;
}

static void add_version(const struct shadow *shadow, struct key *key,
                        const struct shadow_state *state)
{
    if (key->version_count == key->version_capacity)
        key->versions = grow(key->versions, &key->version_capacity, sizeof *key->versions);
    key->versions[key->version_count++] =
        (struct version){ .from = shadow_end(shadow), .state = *state };
}

static uint64_t expiry_of(uint64_t clock_ms, uint64_t ttl_ms)
{
    const uint64_t latest = UINT64_MAX - 1;
    if (ttl_ms == 0)
        return 0;
    return clock_ms >= latest || ttl_ms > latest - clock_ms ? latest : clock_ms + ttl_ms;
}

static void write_key(struct shadow *shadow, struct key *key, const struct kv_command *command,
                      struct shadow_effect *effect)
{
    if (key == NULL)
        key = add_key(shadow, command->key, command->key_size);
    struct shadow_state state = {
        .version = ++shadow->last_version,
        .written_by = op_of_value(command->value, command->value_size),
        .expires_ms = expiry_of(shadow_clock_ms(shadow, shadow->clock_count), command->ttl_ms),
        .value_size = command->value_size,
    };
    add_version(shadow, key, &state);
    effect->status = KV_OK;
    effect->version = state.version;
}

static void delete_key(const struct shadow *shadow, struct key *key, struct shadow_effect *effect)
{
    static const struct shadow_state absent;
    add_version(shadow, key, &absent);
    effect->status = KV_OK;
}

void shadow_apply(struct shadow *shadow, const struct kv_command *command,
                  struct shadow_effect *effect)
{
    struct key *key = find_key(shadow, command->key, command->key_size);
    struct shadow_state now = { 0 };
    bool is_there = state_now(shadow, key, &now);

    assert(shadow->clock_count > 0);
    shadow->command_count++;
    *effect = (struct shadow_effect){ .status = KV_NOT_FOUND, .place = shadow_end(shadow) };
    if (command->type == KV_DELETE) {
        if (is_there)
            delete_key(shadow, key, effect);
    } else if (command->type == KV_SET || command->compare == now.version) {
        write_key(shadow, key, command, effect);
    } else if (is_there) {
        effect->status = KV_VERSION_DIFFERS;
        effect->version = now.version;
    }
}

/* -- Looking back -------------------------------------------------------------------------------- */

bool shadow_get(const struct shadow *shadow, const uint8_t *key, size_t key_size,
                struct shadow_state *state)
{
    return state_now(shadow, find_key(shadow, key, key_size), state);
}

/* How many versions begin at or before `place`. */
static size_t count_until(const struct key *key, struct shadow_place place)
{
    size_t low = 0, high = key->version_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (shadow_before(place, key->versions[middle].from))
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* Where version `i` of the key ends: the next one begins, or time has taken it. False: it lasts. */
static bool find_end(const struct shadow *shadow, const struct key *key, size_t i,
                     struct shadow_place *end)
{
    bool dies = find_death(shadow, &key->versions[i], end);
    if (i + 1 == key->version_count)
        return dies;
    struct shadow_place next = key->versions[i + 1].from;
    if (!dies || shadow_before(next, *end))
        *end = next;
    return true;
}

bool shadow_find_value(const struct shadow *shadow, const uint8_t *key_bytes, size_t key_size,
                       struct shadow_place from, struct shadow_place written,
                       struct shadow_place *at, struct shadow_state *state)
{
    const struct key *key = find_key(shadow, key_bytes, key_size);
    if (key == NULL)
        return false;
    size_t count = count_until(key, written);
    if (count == 0)
        return false;
    const struct version *version = &key->versions[count - 1];
    if (version->state.version == 0 || shadow_before(version->from, written))
        return false; /* nothing was written there */
    struct shadow_place end, first = later(from, version->from);
    if (shadow_before(shadow_end(shadow), first))
        return false;
    if (find_end(shadow, key, count - 1, &end) && !shadow_before(first, end))
        return false;
    *at = first;
    *state = version->state;
    return true;
}

bool shadow_find_none(const struct shadow *shadow, const uint8_t *key_bytes, size_t key_size,
                      struct shadow_place from, struct shadow_place *at)
{
    const struct key *key = find_key(shadow, key_bytes, key_size);
    size_t i = key == NULL ? 0 : count_until(key, from);

    if (shadow_before(shadow_end(shadow), from))
        return false;
    *at = from;
    if (i == 0)
        return true; /* it has never been, so far */
    for (i--; i < key->version_count; i++) {
        const struct version *version = &key->versions[i];
        struct shadow_place death;
        *at = later(from, version->from);
        if (version->state.version == 0)
            return true;
        if (!find_death(shadow, version, &death))
            continue;
        *at = later(from, death);
        if (i + 1 == key->version_count || shadow_before(*at, key->versions[i + 1].from))
            return true;
    }
    return false;
}

void shadow_each(const struct shadow *shadow, shadow_visit *visit, void *context)
{
    for (size_t i = 0; i < shadow->key_count; i++) {
        const struct key *key = &shadow->keys[i];
        struct shadow_state state;
        if (state_now(shadow, key, &state))
            visit(context, key->bytes, key->size, &state);
    }
}

static void count_one(void *context, const uint8_t *key, size_t key_size,
                      const struct shadow_state *state)
{
    uint64_t *count = context;
    (void)key;
    (void)key_size;
    (void)state;
    (*count)++;
}

uint64_t shadow_count_alive(const struct shadow *shadow)
{
    uint64_t count = 0;
    shadow_each(shadow, count_one, &count);
    return count;
}
