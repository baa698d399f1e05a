/* What happened in a run: a hash over all of it (equal seeds must give equal hashes, whatever the
 * compiler), the last lines for a failure's report, and on request everything, printed. Lines never
 * hold an address or anything else that differs from run to run. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/sim/timeline.h"

#define TRACE_LINES_KEPT 200
#define TRACE_LINE_MAX 200

struct trace; /* opaque */

struct trace *trace_new(const struct timeline *timeline, bool print);
void trace_free(struct trace *trace); /* accepts NULL */

/* One line, behind the time; `node` -1: of no node. Hashed, kept, and printed with `print`. */
void trace_line(struct trace *trace, int node, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Into the hash only: bytes that leave a node, that reach a disk, … */
void trace_bytes(struct trace *trace, const void *bytes, size_t size);
void trace_number(struct trace *trace, uint64_t number);
uint64_t trace_hash(const struct trace *trace);
/* The last lines, oldest first, to stderr. */
void trace_print_last(const struct trace *trace);

/* What else is to be said when a rule is broken (how to repeat the run, …): called by trace_fail(). */
void trace_on_fail(struct trace *trace, void (*fail_hook)(void *context), void *context);
/* A broken rule ends the run: prints the last lines, `rule` (such as "S3") with the sentence, and what
 * the fail hook says; then aborts. Everything in tests/sim/ reports violations through this. */
_Noreturn void trace_fail(const struct trace *trace, const char *rule, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
