/* The hash is one word that everything is folded into: `fold` multiplies two words into 128 bits
 * and xors the halves, so that each bit of the input reaches all of the result. Long runs of bytes
 * go through four lanes at once, because a single chain of multiplications would wait for itself.
 * Bytes are taken as little-endian words; a size goes in front of them, so that ("ab", "c") and
 * ("a", "bc") differ.
 *
 * A line's cost is its vsnprintf(), once, straight into the ring of the last lines; time and node
 * stay numbers until somebody prints them. */
#include "tests/sim/trace.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/endian.h"

#define START UINT64_C(0x243f6a8885a308d3)
#define FACTOR UINT64_C(0x9e3779b97f4a7c15)
#define LANE_BYTES 32
/* Begins the hash of each kind of thing, so that none can pass for another. */
enum kind { KIND_LINE = 1, KIND_BYTES, KIND_NUMBER };

__extension__ typedef unsigned __int128 uint128;

struct line {
    uint64_t at_ns;
    int node;
    char text[TRACE_LINE_MAX];
};

struct trace {
    const struct timeline *timeline;
    bool print;
    bool *is_failing; /* behind a pointer: a failure's trace is const */
    uint64_t hash;
    void (*fail_hook)(void *context);
    void *fail_context;
    uint64_t line_count;
    struct line lines[TRACE_LINES_KEPT];
};

struct trace *trace_new(const struct timeline *timeline, bool print)
{
    struct trace *trace = calloc(1, sizeof *trace);
    assert(trace != NULL);
    trace->timeline = timeline;
    trace->print = print;
    trace->hash = START;
    trace->is_failing = calloc(1, sizeof *trace->is_failing);
    assert(trace->is_failing != NULL);
    return trace;
}

void trace_free(struct trace *trace)
{
    if (trace == NULL)
        return;
    free(trace->is_failing);
    free(trace);
}

void trace_on_fail(struct trace *trace, void (*fail_hook)(void *context), void *context)
{
    trace->fail_hook = fail_hook;
    trace->fail_context = context;
}

/* -- The hash ---------------------------------------------------------------------------------- */

static uint64_t fold(uint64_t a, uint64_t b)
{
    uint128 product = (uint128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint64_t hash_word(uint64_t hash, uint64_t word)
{
    /* A product with 0 would forget the past: the addition moves on from there. */
    return fold(hash ^ word, FACTOR) + START;
}

static uint64_t hash_lanes(uint64_t hash, const uint8_t *bytes, size_t size)
{
    uint64_t a = hash, b = hash + 1, c = hash + 2, d = hash + 3;
    for (; size != 0; bytes += LANE_BYTES, size -= LANE_BYTES) {
        a = hash_word(a, load_u64(bytes));
        b = hash_word(b, load_u64(bytes + 8));
        c = hash_word(c, load_u64(bytes + 16));
        d = hash_word(d, load_u64(bytes + 24));
    }
    return hash_word(hash_word(hash_word(a, b), c), d);
}

static uint64_t hash_bytes(uint64_t hash, const uint8_t *bytes, size_t size)
{
    hash = hash_word(hash, size);
    if (size >= 2 * LANE_BYTES) {
        size_t whole = size - size % LANE_BYTES;
        hash = hash_lanes(hash, bytes, whole);
        bytes += whole;
        size -= whole;
    }
    for (; size >= 8; bytes += 8, size -= 8)
        hash = hash_word(hash, load_u64(bytes));
    if (size == 0)
        return hash;
    uint8_t last[8] = { 0 };
    memcpy(last, bytes, size);
    return hash_word(hash, load_u64(last));
}

void trace_bytes(struct trace *trace, const void *bytes, size_t size)
{
    trace->hash = hash_bytes(hash_word(trace->hash, KIND_BYTES), bytes, size);
}

void trace_number(struct trace *trace, uint64_t number)
{
    trace->hash = hash_word(hash_word(trace->hash, KIND_NUMBER), number);
}

uint64_t trace_hash(const struct trace *trace)
{
    return trace->hash;
}

/* -- Lines ------------------------------------------------------------------------------------- */

static void print_line(FILE *to, const struct line *line)
{
    fprintf(to, "%6" PRIu64 ".%09" PRIu64 " ", line->at_ns / 1000000000, line->at_ns % 1000000000);
    if (line->node >= 0)
        fprintf(to, "n%d %s\n", line->node, line->text);
    else
        fprintf(to, "-- %s\n", line->text);
}

void trace_line(struct trace *trace, int node, const char *format, ...)
{
    struct line *line = &trace->lines[trace->line_count++ % TRACE_LINES_KEPT];
    line->at_ns = timeline_now_ns(trace->timeline);
    line->node = node;
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line->text, sizeof line->text, format, arguments);
    va_end(arguments);
    assert(length >= 0);
    size_t size = (size_t)length < sizeof line->text ? (size_t)length : sizeof line->text - 1;

    uint64_t hash = hash_word(trace->hash, KIND_LINE);
    hash = hash_word(hash_word(hash, line->at_ns), (uint64_t)(int64_t)node);
    trace->hash = hash_bytes(hash, (const uint8_t *)line->text, size);
    if (trace->print)
        print_line(stdout, line);
}

void trace_print_last(const struct trace *trace)
{
    uint64_t count = trace->line_count;
    for (uint64_t i = count < TRACE_LINES_KEPT ? 0 : count - TRACE_LINES_KEPT; i < count; i++)
        print_line(stderr, &trace->lines[i % TRACE_LINES_KEPT]);
}

_Noreturn void trace_fail(const struct trace *trace, const char *rule, const char *format, ...)
{
    fflush(stdout);
    bool is_first = trace == NULL || !*trace->is_failing;
    if (trace != NULL)
        *trace->is_failing = true;
    if (is_first && trace != NULL)
        trace_print_last(trace);
    fprintf(stderr, "violation of %s: ", rule);
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, "\n");
    /* A hook that breaks a rule of its own is not called again. */
    if (is_first && trace != NULL && trace->fail_hook != NULL)
        trace->fail_hook(trace->fail_context);
    fflush(stdout);
    fflush(stderr);
    abort();
}
