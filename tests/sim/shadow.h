/* The shadow: a second, naive store, to hold the real one and every answer against. It takes the
 * committed entries, command by command, and keeps for each key all that it ever was, with the place
 * in the log from which it was so.
 *
 *     shadow_begin(shadow, entry.clock_ms);              for each entry, from index 1 on
 *     shadow_apply(shadow, &command, &effect);           for each command of it
 *     shadow_find_none(shadow, key, size, from, &at)     was there no such key, from here on?
 *
 * A place is an index and a number: 0 is the state once the entry's clock counts, n that behind its
 * nth command. It shares nothing with kv/ but the decoder of commands and the words for results. A
 * value is named by the op that wrote it (op.h): its bytes are not kept. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kv/command.h"
#include "kv/kv.h"

struct shadow; /* opaque */

struct shadow_place {
    uint64_t index;
    uint32_t number;
};

/* What a key is. Absent: version 0, and all else 0. */
struct shadow_state {
    uint64_t version;
    uint64_t written_by; /* 0: by no op */
    uint64_t expires_ms; /* log clock; 0: never */
    uint32_t value_size;
};

struct shadow_effect {
    enum kv_status status;
    uint64_t version; /* as in struct kv_result */
    struct shadow_place place;
};

struct shadow *shadow_new(void);
void shadow_free(struct shadow *shadow); /* accepts NULL */

/* The next entry; its clock takes keys away. */
void shadow_begin(struct shadow *shadow, uint64_t clock_ms);
void shadow_apply(struct shadow *shadow, const struct kv_command *command,
                  struct shadow_effect *effect);

/* The newest place: 0/0 before the first entry. */
struct shadow_place shadow_end(const struct shadow *shadow);
/* The clock that counts from index `index` on; 0 for index 0. */
uint64_t shadow_clock_ms(const struct shadow *shadow, uint64_t index);
bool shadow_before(struct shadow_place a, struct shadow_place b);

/* The key as it is now; false if it is absent or dead. */
bool shadow_get(const struct shadow *shadow, const uint8_t *key, size_t key_size,
                struct shadow_state *state);
/* The first place not before `from` and not behind the end at which the key had the value that was
 * written at `written`; false if there is none. `state` is that value's. O(log n). */
bool shadow_find_value(const struct shadow *shadow, const uint8_t *key, size_t key_size,
                       struct shadow_place from, struct shadow_place written,
                       struct shadow_place *at, struct shadow_state *state);
/* The first place not before `from` at which the key was absent or dead. */
bool shadow_find_none(const struct shadow *shadow, const uint8_t *key, size_t key_size,
                      struct shadow_place from, struct shadow_place *at);

/* Keys that are alive now, and each of them, in the order in which they first came to be. */
uint64_t shadow_count_alive(const struct shadow *shadow);
typedef void shadow_visit(void *context, const uint8_t *key, size_t key_size,
                          const struct shadow_state *state);
void shadow_each(const struct shadow *shadow, shadow_visit *visit, void *context);
