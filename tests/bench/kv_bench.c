/* What the store costs: nanoseconds per call and bytes per key, at a number of keys of 16 bytes
 * with values of 32 (the aims in the design are for that). One line for each measurement.
 *
 *     kv_bench [keys]          1,000,000 if not said */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kv/hash.h"
#include "kv/kv.h"

#define KEY_SIZE 16
#define VALUE_SIZE 32

static void *take(void *context, size_t size)
{
    (void)context;
    void *memory = malloc(size);
    if (memory == NULL)
        abort();
    return memory;
}

static void *change(void *context, void *memory, size_t size, size_t new_size)
{
    (void)context;
    (void)size;
    void *changed = realloc(memory, new_size);
    if (changed == NULL)
        abort();
    return changed;
}

static void give_back(void *context, void *memory, size_t size)
{
    (void)context;
    (void)size;
    free(memory);
}

static const struct kv_allocator allocator = {
    .alloc = take,
    .resize = change,
    .release = give_back,
};

static uint64_t now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

/* The i-th key: its number in decimal, behind the tag. */
static void make_key(char *key, uint64_t i, const char *tag)
{
    size_t tag_size = strlen(tag);
    memcpy(key, tag, tag_size);
    for (size_t at = KEY_SIZE; at > tag_size; at--) {
        key[at - 1] = (char)('0' + i % 10);
        i /= 10;
    }
}

struct run {
    struct kv *kv;
    uint64_t keys;
    const char *tag; /* in front of each key */
    uint64_t ttl_ms;
    uint32_t value_size;
    uint64_t random;
};

static uint64_t any_key(struct run *run)
{
    run->random = run->random * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (run->random >> 20) % run->keys;
}

static void set(struct run *run, uint64_t i, enum kv_command_type type)
{
    static const uint8_t value[65536];
    char key[KEY_SIZE];
    make_key(key, i, run->tag);
    struct kv_command command = {
        .type = type,
        .key = (const uint8_t *)key,
        .key_size = KEY_SIZE,
    };
    if (type != KV_DELETE) {
        command.value = value;
        command.value_size = run->value_size;
        command.ttl_ms = run->ttl_ms;
    }
    struct kv_result result;
    kv_apply(run->kv, &command, &result);
}

static void report(const char *name, uint64_t start_ns, uint64_t calls)
{
    double each = (double)(now_ns() - start_ns) / (double)calls;
    printf("  %-34s %8.0f ns\n", name, each);
}

static void count_key(void *context, const uint8_t *key, size_t key_size,
                      const struct kv_value *value)
{
    (void)key;
    (void)key_size;
    (void)value;
    ++*(uint64_t *)context;
}

static void scan_all(struct run *run)
{
    uint64_t seen = 0;
    for (uint32_t slot = 0; slot < KV_SLOTS; slot++) {
        uint64_t cursor = 0;
        do {
            cursor = kv_scan(run->kv, slot, cursor, count_key, &seen);
        } while (cursor != 0);
    }
    if (seen != run->keys)
        abort();
}

static void measure(const char *name, struct run run)
{
    static const uint8_t hash_key[KV_HASH_KEY_SIZE] = "sixteen byte key";
    run.kv = kv_new(&allocator, hash_key);
    run.value_size = VALUE_SIZE;
    printf("%s, %" PRIu64 " keys:\n", name, run.keys);

    kv_begin(run.kv, 1000);
    uint64_t start = now_ns();
    uint64_t worst = 0;
    for (uint64_t i = 0; i < run.keys; i++) {
        uint64_t before = now_ns();
        set(&run, i, KV_SET);
        uint64_t took = now_ns() - before;
        worst = took > worst ? took : worst;
    }
    report("set of a new key", start, run.keys);
    printf("  %-34s %8.0f us\n", "  the slowest of them", (double)worst / 1000);

    struct kv_stats stats;
    kv_stats(run.kv, &stats);
    double each = (double)stats.memory_bytes / (double)run.keys - KEY_SIZE - VALUE_SIZE;
    printf("  %-34s %8.1f bytes\n", "beyond key and value", each);

    start = now_ns();
    for (uint64_t i = 0; i < run.keys; i++)
        set(&run, any_key(&run), KV_SET);
    report("set of a random key, same size", start, run.keys);

    start = now_ns();
    for (uint64_t i = 0; i < run.keys; i++) {
        struct kv_value value;
        char key[KEY_SIZE];
        make_key(key, any_key(&run), run.tag);
        if (!kv_get(run.kv, (const uint8_t *)key, KEY_SIZE, &value))
            abort();
    }
    report("get of a random key", start, run.keys);

    start = now_ns();
    scan_all(&run);
    report("scan, each key", start, run.keys);

    run.value_size = 128;
    start = now_ns();
    for (uint64_t i = 0; i < run.keys; i++)
        set(&run, any_key(&run), KV_SET);
    report("set of a random key, to 128 bytes", start, run.keys);

    start = now_ns();
    for (uint64_t i = 0; i < run.keys; i++)
        set(&run, any_key(&run), KV_SET);
    report("again, 128 bytes", start, run.keys);

    if (run.ttl_ms != 0) {
        start = now_ns();
        uint64_t turns = 0;
        worst = 0;
        kv_begin(run.kv, 1000 + run.ttl_ms);
        while (kv_has_dead(run.kv)) {
            uint64_t before = now_ns();
            kv_begin(run.kv, 0);
            uint64_t took = now_ns() - before;
            worst = took > worst ? took : worst;
            turns++;
        }
        report("expiry, each key", start, run.keys);
        printf("  %-34s %8.0f us\n", "  the slowest turn", (double)worst / 1000);
    } else {
        start = now_ns();
        for (uint64_t i = 0; i < run.keys; i++)
            set(&run, i, KV_DELETE);
        report("delete", start, run.keys);
    }
    kv_free(run.kv);
}

static void measure_hash(void)
{
    static uint8_t bytes[65536];
    static const size_t sizes[] = { 16, 32, 128, 1024, 65536 };
    struct hash_key key = { 1, 2 };
    printf("hash_bytes:\n");
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        uint64_t calls = 100000000 / (sizes[i] + 50);
        uint64_t start = now_ns();
        for (uint64_t n = 0; n < calls; n++)
            bytes[0] = (uint8_t)hash_bytes(&key, bytes, sizes[i]);
        char name[32];
        (void)snprintf(name, sizeof(name), "%zu bytes", sizes[i]);
        report(name, start, calls);
    }
}

int main(int argc, char **argv)
{
    uint64_t keys = argc > 1 ? strtoull(argv[1], NULL, 10) : 1000000;
    if (keys == 0)
        return 1;
    measure_hash();
    measure("spread over the slots", (struct run){ .keys = keys, .tag = "" });
    measure("spread, with an expiry", (struct run){ .keys = keys, .tag = "", .ttl_ms = 1000 });
    measure("all in one slot", (struct run){ .keys = keys, .tag = "{t}" });
    return 0;
}
