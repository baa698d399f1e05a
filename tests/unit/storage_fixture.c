#include "tests/unit/storage_fixture.h"

#include <assert.h>
#include <check.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct storage_options fixture_options(enum storage_flush_kind flush)
{
    return (struct storage_options){
        .path = "data",
        .cluster = "test",
        .node = FIXTURE_NODE,
        .segment_bytes = FIXTURE_SEGMENT_BYTES,
        .cache_bytes = 1 << 20,
        .flush = flush,
    };
}

struct storage *fixture_open(struct os *os, enum storage_flush_kind flush,
                             struct storage_recovered *recovered)
{
    struct storage_options options = fixture_options(flush);
    struct error error = { "" };
    struct storage *storage = storage_open(os, &options, recovered, &error);
    ck_assert_msg(storage != NULL, "%s", error.text);
    return storage;
}

const char *fixture_segment(uint64_t number)
{
    static char paths[4][64];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], FIXTURE_LOG "/%016" PRIx64 ".segment", number);
    return path;
}

struct history *history_new(void)
{
    struct history *history = calloc(1, sizeof *history);
    assert(history != NULL);
    history->newest = calloc(HISTORY_MAX, sizeof *history->newest);
    assert(history->newest != NULL);
    return history;
}

void history_free(struct history *history)
{
    for (int i = 0; i < history->step_count; i++)
        free(history->steps[i].bytes);
    free(history->newest);
    free(history);
}

int history_entry_of_kind(struct history *history, struct storage *storage, uint16_t kind,
                          uint64_t index, uint64_t term, uint32_t size)
{
    assert(history->step_count < HISTORY_MAX);
    struct step *step = &history->steps[history->step_count];
    uint64_t chain = index == 1 ? 0 : history->steps[history->newest[index - 2]].chain;
    uint8_t *bytes = malloc(size);
    assert(bytes != NULL);
    /* Never zero, so that every byte that is lost makes a difference. */
    for (uint32_t i = ENTRY_HEADER_SIZE; i < size; i++)
        bytes[i] = (uint8_t)((i * 7 + (uint32_t)index * 13 + (uint32_t)term) % 251 + 1);
    struct entry entry = {
        .size = size,
        .kind = kind,
        .term = term,
        .index = index,
        .clock_ms = 1000 + (uint64_t)history->step_count,
        .count = kind == ENTRY_COMMANDS,
    };
    entry_seal(bytes, chain, &entry);
    int code = storage_append(storage, &entry);
    if (code < 0) {
        free(bytes);
        return code;
    }
    *step = (struct step){ .index = index,
                           .term = term,
                           .bytes = bytes,
                           .size = size,
                           .chain = entry.chain,
                           .clock_ms = entry.clock_ms };
    history->newest[index - 1] = history->step_count++;
    history->last = index;
    return 0;
}

int history_entry(struct history *history, struct storage *storage, uint64_t index, uint64_t term,
                  uint32_t size)
{
    return history_entry_of_kind(history, storage, ENTRY_COMMANDS, index, term, size);
}

int history_vote(struct history *history, struct storage *storage, uint64_t term,
                 uint32_t voted_for)
{
    assert(history->step_count < HISTORY_MAX);
    int code = storage_vote(storage, term, voted_for);
    if (code == 0)
        history->steps[history->step_count++] =
            (struct step){ .term = term, .voted_for = voted_for };
    return code;
}

int history_flush(struct history *history, struct storage *storage)
{
    assert(history->turn_count < TURNS_MAX);
    history->turn_steps[history->turn_count++] = history->step_count;
    return storage_flush(storage, (uint64_t)history->turn_count);
}

int history_collect(struct history *history, struct storage *storage)
{
    uint64_t seq = 0;
    int code = 0;
    if (storage_done(storage, &seq, &code)) {
        ck_assert_uint_ge(seq, 1);
        ck_assert_uint_le(seq, (uint64_t)history->turn_count);
        ck_assert_int_ge(history->turn_steps[seq - 1], history->acked_steps);
        history->acked_steps = history->turn_steps[seq - 1];
    }
    return code;
}

void fixture_prepare(struct history *history, struct storage *storage)
{
    for (int rest = 0; rest < 2; rest++) { /* it also rests while a flush is under way */
        while (storage_background(storage, 1))
            rest = 0;
        ck_assert_int_eq(history_collect(history, storage), 0);
    }
}

void twin_replay(const struct history *history, int step_count, struct twin *twin)
{
    twin->last = 0;
    twin->term = 0;
    twin->voted_for = UINT32_MAX;
    for (int i = 0; i < step_count; i++) {
        const struct step *step = &history->steps[i];
        if (step->index != 0) {
            twin->steps[step->index - 1] = i;
            twin->last = step->index;
        }
        if (step->term > twin->term) {
            twin->term = step->term;
            twin->voted_for = UINT32_MAX;
        }
        if (step->index == 0 && step->term == twin->term)
            twin->voted_for = step->voted_for;
    }
}

static const char *runs_difference(const struct history *history, const struct twin *twin,
                                   const struct storage_recovered *recovered)
{
    uint32_t run = 0;
    uint64_t term = 0;
    for (uint64_t index = 1; index <= twin->last; index++) {
        const struct step *step = &history->steps[twin->steps[index - 1]];
        if (step->term == term)
            continue;
        term = step->term;
        if (run == recovered->run_count)
            return "too few runs";
        if (recovered->runs[run].term != term || recovered->runs[run].first != index)
            return "another run";
        run++;
    }
    return run == recovered->run_count ? NULL : "too many runs";
}

const char *history_difference(const struct history *history, int step_count,
                               struct storage *storage, const struct storage_recovered *recovered)
{
    static struct twin twin; /* 32 KB: for the stacks of sanitized builds */
    twin_replay(history, step_count, &twin);
    if (recovered->last_index != twin.last)
        return "another last index";
    if (recovered->term != twin.term)
        return "another term";
    if (recovered->voted_for != twin.voted_for)
        return "another vote";
    const char *runs = runs_difference(history, &twin, recovered);
    if (runs != NULL)
        return runs;
    for (uint64_t index = twin.last; index >= 1; index--) {
        const struct step *step = &history->steps[twin.steps[index - 1]];
        if (storage_chain(storage, index) != step->chain)
            return "another chain";
        if (storage_size(storage, index) != step->size)
            return "another size";
    }
    if (twin.last > 0 &&
        recovered->last_clock_ms != history->steps[twin.steps[twin.last - 1]].clock_ms)
        return "another clock";
    for (uint64_t index = 1; index <= twin.last; index++) {
        const struct step *step = &history->steps[twin.steps[index - 1]];
        struct entry entry;
        struct error error;
        if (storage_entry(storage, index, &entry, &error) != 0)
            return "an entry that cannot be read";
        if (entry.size != step->size || memcmp(entry.bytes, step->bytes, step->size) != 0)
            return "other bytes";
    }
    return NULL;
}

int history_match(const struct history *history, int least, struct storage *storage,
                  const struct storage_recovered *recovered)
{
    for (int steps = history->step_count; steps >= least; steps--)
        if (history_difference(history, steps, storage, recovered) == NULL)
            return steps;
    return -1;
}
