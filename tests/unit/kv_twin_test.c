/* The store against a naive twin: an array that is searched from end to end, and digests that are
 * summed up from nothing. */
#include <check.h>
#include <inttypes.h>
#include <stdlib.h>

#include "kv/digest.h"
#include "kv/hash.h"
#include "kv/kv.h"
#include "tests/unit/kv_counting_allocator.h"

static const uint8_t hash_key[KV_HASH_KEY_SIZE] = "sixteen byte key";

static struct kv *open_kv(struct counting *counting)
{
    struct kv_allocator allocator = counting_allocator(counting);
    return kv_new(&allocator, hash_key);
}

static void close_kv(struct kv *kv, struct counting *counting)
{
    struct kv_stats stats;
    kv_stats(kv, &stats);
    ck_assert_uint_eq(stats.memory_bytes, counting->bytes);
    kv_free(kv);
    ck_assert_uint_eq(counting->blocks, 0);
    ck_assert_uint_eq(counting->bytes, 0);
}

#define TWIN_KEYS 400
#define VALUE_MAX 100000

/* Key i of the pool; its bytes, once made, stay. */
struct pool_key {
    uint8_t *bytes;
    uint16_t size;
};

struct twin_item {
    bool exists; /* dead but not taken back included */
    uint8_t *value;
    uint32_t value_size;
    uint64_t version, expires_ms;
};

struct twin {
    struct pool_key keys[TWIN_KEYS];
    struct twin_item items[TWIN_KEYS];
    uint64_t clock_ms, last_version;
    uint64_t random;
    struct hash_key key_hash, value_hash, digest;
};

static uint64_t any64(struct twin *twin)
{
    twin->random ^= twin->random << 13;
    twin->random ^= twin->random >> 7;
    twin->random ^= twin->random << 17;
    return twin->random * UINT64_C(2685821657736338717);
}

static uint32_t any(struct twin *twin, uint32_t below)
{
    return (uint32_t)((any64(twin) >> 32) * below >> 32);
}

static uint32_t any_size(struct twin *twin, uint32_t largest)
{
    switch (any(twin, 20)) {
    case 0:
        return any(twin, largest + 1);
    case 1:
        return 0;
    case 2:
    case 3:
        return any(twin, 2000);
    case 4:
        return 240 + any(twin, 30);
    default:
        return any(twin, 64);
    }
}

static uint8_t *make_bytes(struct twin *twin, size_t size)
{
    uint8_t *bytes = (uint8_t *)malloc(size + (size == 0)); /* exact: guarded by the sanitizer */
    assert(bytes != NULL);
    uint64_t word = any64(twin);
    for (size_t i = 0; i < size; i++) {
        if (i % 64 < 8)
            bytes[i] = (uint8_t)(word >> i % 8 * 8);
        else
            bytes[i] = (uint8_t)i;
    }
    return bytes;
}

static bool has_key(const struct twin *twin, int count, const struct pool_key *key)
{
    for (int i = 0; i < count; i++)
        if (twin->keys[i].size == key->size &&
            memcmp(twin->keys[i].bytes, key->bytes, key->size) == 0)
            return true;
    return false;
}

static void make_pool(struct twin *twin)
{
    for (int i = 0; i < TWIN_KEYS; i++) {
        struct pool_key *key = &twin->keys[i];
        do {
            free(key->bytes);
            bool rare = i % 20 == 0;
            key->size =
                (uint16_t)(i == 0 ? KV_KEY_SIZE_MAX : any_size(twin, rare ? KV_KEY_SIZE_MAX : 300));
            key->bytes = make_bytes(twin, key->size);
            if (i % 3 == 1 && key->size >= 3)
                memcpy(key->bytes, "{t}", 3); /* a third in one slot */
        } while (has_key(twin, i, key));
    }
}

static bool is_dead(const struct twin *twin, const struct twin_item *item)
{
    return item->expires_ms != 0 && item->expires_ms <= twin->clock_ms;
}

static uint64_t twin_key_hash(const struct twin *twin, int i)
{
    return hash_bytes(&twin->key_hash, twin->keys[i].bytes, twin->keys[i].size);
}

static bool dies_before(const struct twin *twin, int a, int b)
{
    if (twin->items[a].expires_ms != twin->items[b].expires_ms)
        return twin->items[a].expires_ms < twin->items[b].expires_ms;
    return twin_key_hash(twin, a) < twin_key_hash(twin, b);
}

static void twin_forget(struct twin *twin, int i)
{
    free(twin->items[i].value);
    twin->items[i] = (struct twin_item){ .exists = false };
}

static void twin_begin(struct twin *twin, uint64_t clock_ms)
{
    if (clock_ms > twin->clock_ms)
        twin->clock_ms = clock_ms;
    for (int taken = 0; taken < KV_EXPIRE_MAX; taken++) {
        int first = -1;
        for (int i = 0; i < TWIN_KEYS; i++)
            if (twin->items[i].exists && is_dead(twin, &twin->items[i]))
                if (first < 0 || dies_before(twin, i, first))
                    first = i;
        if (first < 0)
            return;
        twin_forget(twin, first);
    }
}

static struct kv_result twin_apply(struct twin *twin, int i, const struct kv_command *command)
{
    struct twin_item *item = &twin->items[i];
    bool alive = item->exists && !is_dead(twin, item);
    if (command->type == KV_DELETE) {
        if (!alive)
            return (struct kv_result){ .status = KV_NOT_FOUND };
        twin_forget(twin, i);
        return (struct kv_result){ .status = KV_OK };
    }
    if (command->type == KV_CAS && alive && item->version != command->compare)
        return (struct kv_result){ .status = KV_VERSION_DIFFERS, .version = item->version };
    if (command->type == KV_CAS && !alive && command->compare != 0)
        return (struct kv_result){ .status = KV_NOT_FOUND };

    twin_forget(twin, i);
    item->exists = true;
    item->value = (uint8_t *)malloc((size_t)command->value_size + 1);
    assert(item->value != NULL);
    memcpy(item->value, command->value, command->value_size);
    item->value_size = command->value_size;
    item->version = ++twin->last_version;
    if (command->ttl_ms != 0) {
        uint64_t left = UINT64_MAX - 1 - twin->clock_ms;
        uint64_t ttl_ms = command->ttl_ms < left ? command->ttl_ms : left;
        item->expires_ms = twin->clock_ms + ttl_ms;
    }
    return (struct kv_result){ .status = KV_OK, .version = item->version };
}

/* Digests, keys and next expiry, from nothing. */
static void check_sums(const struct twin *twin, const struct kv *kv)
{
    static uint64_t digests[KV_SLOTS], keys[KV_SLOTS];
    memset(digests, 0, sizeof(digests));
    memset(keys, 0, sizeof(keys));
    uint64_t next_expiry_ms = 0, all = 0;
    for (int i = 0; i < TWIN_KEYS; i++) {
        const struct twin_item *item = &twin->items[i];
        if (!item->exists)
            continue;
        struct digest_item digest = {
            .key_hash = twin_key_hash(twin, i),
            .value_hash = hash_bytes(&twin->value_hash, item->value, item->value_size),
            .key_size = twin->keys[i].size,
            .value_size = item->value_size,
            .version = item->version,
            .expires_ms = item->expires_ms,
        };
        uint32_t slot = kv_slot(twin->keys[i].bytes, twin->keys[i].size);
        digests[slot] += digest_item(&twin->digest, &digest);
        keys[slot]++;
        all++;
        if (item->expires_ms != 0 && (next_expiry_ms == 0 || item->expires_ms < next_expiry_ms))
            next_expiry_ms = item->expires_ms;
    }
    struct digest_whole whole = { 0, twin->last_version, twin->clock_ms };
    for (uint32_t slot = 0; slot < KV_SLOTS; slot++) {
        if (kv_slot_digest(kv, slot) != digests[slot] || kv_slot_keys(kv, slot) != keys[slot])
            ck_abort_msg("slot %u", slot);
        whole.slots += digest_slot(&twin->digest, slot, digests[slot]);
    }
    struct kv_stats stats;
    kv_stats(kv, &stats);
    ck_assert(kv_digest(kv) == digest_whole(&twin->digest, &whole));
    ck_assert_uint_eq(stats.keys, all);
    ck_assert_uint_eq(stats.next_expiry_ms, next_expiry_ms);
    ck_assert_uint_eq(stats.clock_ms, twin->clock_ms);
    ck_assert_uint_eq(stats.last_version, twin->last_version);
}

static bool matches(const struct twin_item *item, const struct kv_value *value)
{
    return value->size == item->value_size && value->version == item->version &&
           value->expires_ms == item->expires_ms &&
           memcmp(value->bytes, item->value, value->size) == 0;
}

static void check_get(const struct twin *twin, const struct kv *kv, int i)
{
    const struct twin_item *item = &twin->items[i];
    bool alive = item->exists && !is_dead(twin, item);
    struct kv_value value;
    if (kv_get(kv, twin->keys[i].bytes, twin->keys[i].size, &value) != alive)
        ck_abort_msg("key %d should be %s", i, alive ? "there" : "gone");
    if (alive && !matches(item, &value))
        ck_abort_msg("key %d has another value", i);
}

struct twin_scan {
    const struct twin *twin;
    uint32_t slot;
    int visits[TWIN_KEYS];
};

static void check_visit(void *context, const uint8_t *key, size_t key_size,
                        const struct kv_value *value)
{
    struct twin_scan *scan = (struct twin_scan *)context;
    ck_assert_uint_eq(kv_slot(key, key_size), scan->slot);
    for (int i = 0; i < TWIN_KEYS; i++) {
        const struct pool_key *own = &scan->twin->keys[i];
        if (own->size != key_size || memcmp(own->bytes, key, key_size) != 0)
            continue;
        scan->visits[i]++;
        if (!matches(&scan->twin->items[i], value))
            ck_abort_msg("key %d is visited with another value", i);
        return;
    }
    ck_abort_msg("a key is visited that nobody set");
}

static void check_scan(const struct twin *twin, const struct kv *kv)
{
    struct twin_scan scan = { .twin = twin };
    for (uint32_t slot = 0; slot < KV_SLOTS; slot++) {
        scan.slot = slot;
        uint64_t cursor = 0;
        do {
            cursor = kv_scan(kv, slot, cursor, check_visit, &scan);
        } while (cursor != 0);
    }
    for (int i = 0; i < TWIN_KEYS; i++) {
        bool alive = twin->items[i].exists && !is_dead(twin, &twin->items[i]);
        if (scan.visits[i] != (alive ? 1 : 0))
            ck_abort_msg("key %d: %d visits", i, scan.visits[i]);
    }
}

static struct kv_command any_command(struct twin *twin, int i)
{
    static const enum kv_command_type types[] = { KV_SET, KV_SET, KV_SET, KV_CAS, KV_DELETE };
    struct kv_command command = {
        .type = types[any(twin, 5)],
        .key = twin->keys[i].bytes,
        .key_size = twin->keys[i].size,
    };
    if (command.type == KV_DELETE)
        return command;
    const struct twin_item *item = &twin->items[i];
    command.value_size = any_size(twin, any(twin, 10) == 0 ? VALUE_MAX : 1100);
    if (item->exists && any(twin, 3) == 0)
        command.value_size = item->value_size;
    command.value = make_bytes(twin, command.value_size);
    uint32_t ttl = any(twin, 20);
    if (ttl == 0)
        command.ttl_ms = UINT64_MAX - any(twin, 100);
    else if (ttl < 10)
        command.ttl_ms = 1 + any(twin, 60);
    if (command.type == KV_CAS) {
        uint32_t right = any(twin, 4);
        command.compare = right == 0 ? 0 : item->version;
        if (right == 1)
            command.compare = any64(twin) % (twin->last_version + 2);
    }
    return command;
}

#define STEPS 12000

START_TEST(the_store_does_what_its_naive_twin_does)
{
    static struct twin twin;
    twin.random = 0x9e3779b97f4a7c15 + (uint64_t)_i;
    twin.key_hash = hash_key_derive(hash_key, 1);
    twin.value_hash = hash_key_derive(hash_key, 2);
    twin.digest = digest_key(hash_key);
    make_pool(&twin);

    struct counting counting = { .fill = 0xa5 }, other_counting = { .fill = 0x3c };
    struct kv *kv = open_kv(&counting);
    struct kv *other = open_kv(&other_counting);
    int applied[3][3] = { { 0 } }; /* by type and status */

    for (int step = 0; step < STEPS; step++) {
        if (any(&twin, 8) == 0) {
            uint64_t clock_ms = twin.clock_ms + any(&twin, 20);
            if (any(&twin, 10) == 0)
                clock_ms = any64(&twin) % (twin.clock_ms + 1); /* back */
            kv_begin(kv, clock_ms);
            kv_begin(other, clock_ms);
            twin_begin(&twin, clock_ms);
        }
        int i = (int)any(&twin, TWIN_KEYS);
        struct kv_command command = any_command(&twin, i);
        struct kv_result result, other_result;
        kv_apply(kv, &command, &result);
        kv_apply(other, &command, &other_result);
        struct kv_result expected = twin_apply(&twin, i, &command);
        if (result.status != expected.status || result.version != expected.version)
            ck_abort_msg("step %d: %d, version %" PRIu64 ", not %d, %" PRIu64, step, result.status,
                         result.version, expected.status, expected.version);
        applied[command.type - 1][result.status]++;
        free((void *)(uintptr_t)command.value);

        check_get(&twin, kv, i);
        check_get(&twin, kv, (int)any(&twin, TWIN_KEYS));
        if (kv_digest(kv) != kv_digest(other) || counting.bytes != other_counting.bytes)
            ck_abort_msg("step %d: two stores with the same calls differ", step);
        struct kv_stats stats;
        kv_stats(kv, &stats);
        if (stats.memory_bytes != counting.bytes)
            ck_abort_msg("step %d: memory_bytes", step);
        if (step % 1000 == 999) {
            for (i = 0; i < TWIN_KEYS; i++)
                check_get(&twin, kv, i);
            check_sums(&twin, kv);
            check_scan(&twin, kv);
        }
    }
    for (int type = 0; type < 3; type++)
        ck_assert_int_gt(applied[type][KV_OK], 100); /* or nothing was tested */
    ck_assert_int_gt(applied[KV_CAS - 1][KV_VERSION_DIFFERS], 100);
    ck_assert_int_gt(applied[KV_DELETE - 1][KV_NOT_FOUND], 100);

    close_kv(kv, &counting);
    close_kv(other, &other_counting);
    for (int i = 0; i < TWIN_KEYS; i++) {
        twin_forget(&twin, i);
        free(twin.keys[i].bytes);
    }
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("twin");
    tcase_set_timeout(tc, 120);
    tcase_add_loop_test(tc, the_store_does_what_its_naive_twin_does, 0, 6);

    Suite *suite = suite_create("kv_twin");
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
