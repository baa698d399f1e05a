/* What the tests of storage share: a history of records, and a naive twin that says what a log must
 * hold after any number of them.
 *
 *     history_entry(&history, storage, index, term, size)    appends to both
 *     history_flush(&history, storage)                       ends a turn
 *     history_check(&history, k, storage, &recovered)        is it the state after k records? */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "server/storage/storage.h"
#include "tests/unit/os_memory.h"

#define FIXTURE_NODE 1
#define FIXTURE_SEGMENT_BYTES STORAGE_SEGMENT_BYTES_MIN
#define FIXTURE_DIRECTORY "data/1"
#define FIXTURE_LOG "data/1/log"

#define HISTORY_MAX 8192
#define TURNS_MAX 4096

struct step {
    uint64_t index; /* 0: a vote */
    uint64_t term;
    uint32_t voted_for;
    uint8_t *bytes; /* of the entry; owned */
    uint32_t size;
    uint64_t chain, clock_ms;
};

struct history {
    struct step steps[HISTORY_MAX];
    int step_count;
    /* Turns: storage_flush(i + 1) came when this many steps had been taken. */
    int turn_steps[TURNS_MAX];
    int turn_count;
    int acked_steps; /* promised durable by storage_done */
    int *newest;     /* step of the entry at each index, for building; owned */
    uint64_t last;
};

/* The state of a log, replayed by the twin. */
struct twin {
    int steps[HISTORY_MAX]; /* steps[i]: of the entry at index i + 1 */
    uint64_t last;
    uint64_t term;
    uint32_t voted_for;
};

struct storage_options fixture_options(enum storage_flush_kind flush);
/* Opens; a failure ends the test with the message. */
struct storage *fixture_open(struct os *os, enum storage_flush_kind flush,
                             struct storage_recovered *recovered);
/* The path of segment `number`; valid until the fourth next call. */
const char *fixture_segment(uint64_t number);

struct history *history_new(void);
void history_free(struct history *history);
/* Each returns what storage answered; the history only grows if that is 0. */
int history_entry(struct history *history, struct storage *storage, uint64_t index, uint64_t term,
                  uint32_t size);
int history_entry_of_kind(struct history *history, struct storage *storage, uint16_t kind,
                          uint64_t index, uint64_t term, uint32_t size);
int history_vote(struct history *history, struct storage *storage, uint64_t term,
                 uint32_t voted_for);
int history_flush(struct history *history, struct storage *storage);
/* storage_done, noted; returns its code. */
int history_collect(struct history *history, struct storage *storage);

/* Let the background work until it has nothing left to do: the next segment is ready. */
void fixture_prepare(struct history *history, struct storage *storage);

void twin_replay(const struct history *history, int step_count, struct twin *twin);
/* NULL if the storage holds the state after `step_count` records; else what differs. */
const char *history_difference(const struct history *history, int step_count,
                               struct storage *storage, const struct storage_recovered *recovered);
/* The largest number of steps, from `least` on, that the state fits; -1: none. */
int history_match(const struct history *history, int least, struct storage *storage,
                  const struct storage_recovered *recovered);
