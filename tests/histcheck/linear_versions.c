/* What values and versions tell without a search, in two linear passes (and sorting).
 *
 * Values. If one write only could have written what a get saw, that write took effect, before the
 * get returned: an unknown write becomes a known one, and with the get's version if it told one. The
 * other way round, a get that told no version gets that of the write.
 *
 * Versions. Each is greater than any given before to any key. So, at the moment when a version has
 * been told to anybody, all writes with smaller versions have happened; and a write happens after
 * the invocations of all writes with smaller versions. That narrows the time of each write, and if
 * nothing is left of it, the rule is broken:
 *
 *     process 1   [ set a -> version 8 ]
 *     process 2                           [ set b -> version 5 ]
 *
 * `b` has to be written before version 8 was told, that is before its own invocation. The check of
 * each key, which follows, uses the narrowed times: so it finds some of the contradictions between
 * keys, and has fewer orders to try. */
#include "tests/histcheck/linear_parts.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* -- Values ----------------------------------------------------------------------------------------- */

/* What is known of a value on the key at hand. */
struct value_facts {
    size_t writer_count;
    size_t writer;    /* the last one */
    uint64_t seen;    /* the first return of a get that saw it */
    uint64_t version; /* as told by such a get, or 0 */
};

static const struct value_facts no_facts = { .seen = LINEAR_NEVER };

static void collect(const struct linear_op *ops, size_t begin, size_t end,
                    struct value_facts *facts)
{
    for (size_t i = begin; i < end; i++)
        facts[ops[i].value] = facts[ops[i].got] = no_facts;
    for (size_t i = begin; i < end; i++) {
        if (linear_op_writes(&ops[i])) {
            facts[ops[i].value].writer_count++;
            facts[ops[i].value].writer = i;
        }
        struct value_facts *got = &facts[ops[i].got];
        if (ops[i].returned < got->seen)
            got->seen = ops[i].returned;
        if (got->version == 0)
            got->version = ops[i].version;
    }
}

static void settle_write(struct linear_op *write, const struct value_facts *facts)
{
    if (facts->seen == LINEAR_NEVER || facts->seen < write->invoked)
        return; /* not seen; or before it was written, which the search will find impossible */
    bool is_known = linear_op_has_written(write);
    if (!is_known && write->outcome != LINEAR_UNKNOWN)
        return; /* it answered that it had not been done: also for the search */
    if (facts->seen < write->returned)
        write->returned = facts->seen;
    if (write->version == 0)
        write->version = facts->version;
    write->outcome = write->version != 0 ? LINEAR_VERSION : LINEAR_DONE;
}

static bool any_appends(const struct linear_op *ops, size_t begin, size_t end)
{
    for (size_t i = begin; i < end; i++) {
        if (ops[i].kind == LINEAR_APPEND)
            return true;
    }
    return false;
}

/* Of one key. `facts` has room for every name. */
static void learn_values(struct linear_op *ops, size_t begin, size_t end, struct value_facts *facts)
{
    if (any_appends(ops, begin, end))
        return; /* a value may have many authors */
    collect(ops, begin, end, facts);
    for (size_t i = begin; i < end; i++) {
        const struct value_facts *written = &facts[ops[i].value];
        if (linear_op_writes(&ops[i]) && ops[i].value != 0 && written->writer_count == 1)
            settle_write(&ops[i], written);
    }
    for (size_t i = begin; i < end; i++) {
        const struct value_facts *got = &facts[ops[i].got];
        if (ops[i].got == 0 || got->writer_count != 1 || ops[i].version != 0)
            continue;
        if (linear_op_has_written(&ops[got->writer]))
            ops[i].version = ops[got->writer].version;
    }
}

/* -- Versions --------------------------------------------------------------------------------------- */

/* A version became known to somebody. */
struct told {
    uint64_t version;
    uint64_t invoked, returned;
    size_t op;
    bool is_write; /* the operation was given the version */
};

static int compare_told(const void *left, const void *right)
{
    const struct told *a = left, *b = right;
    if (a->version != b->version)
        return a->version < b->version ? -1 : 1;
    return (a->op > b->op) - (a->op < b->op);
}

static size_t collect_told(const struct linear_op *ops, size_t op_count, struct told *told)
{
    size_t count = 0;
    for (size_t i = 0; i < op_count; i++) {
        const struct linear_op *op = &ops[i];
        struct told it = { op->version, op->invoked, op->returned, i, linear_op_has_written(op) };
        if (op->version != 0)
            told[count++] = it;
        it.version = op->expected;
        if (op->kind == LINEAR_CAS && it.is_write && op->expected != 0) {
            it.is_write = false;
            told[count++] = it;
        }
    }
    qsort(told, count, sizeof(*told), compare_told);
    return count;
}

static char *pair_words(const struct linear_history *history, const char *rule,
                        const struct linear_op *a, const struct linear_op *b)
{
    char *a_words = linear_op_words(history, a);
    char *b_words = linear_op_words(history, b);
    int size = snprintf(NULL, 0, "  %s:\n    %s\n    %s\n", rule, a_words, b_words) + 1;
    char *words = names_grow(NULL, (size_t)size, 1);
    (void)snprintf(words, (size_t)size, "  %s:\n    %s\n    %s\n", rule, a_words, b_words);
    free(a_words);
    free(b_words);
    return words;
}

/* No version is given twice: not to two writes, nor seen on two keys. */
static char *find_twins(const struct linear_history *history, const struct linear_op *ops,
                        const struct told *told, size_t count, uint32_t *key)
{
    size_t first = 0, writer = SIZE_MAX;
    for (size_t i = 0; i < count; i++) {
        if (told[i].version != told[first].version) {
            first = i;
            writer = SIZE_MAX;
        }
        const struct linear_op *op = &ops[told[i].op], *other = &ops[told[first].op];
        bool is_twin = op->key != other->key;
        if (told[i].is_write && writer != SIZE_MAX) {
            is_twin = true;
            other = &ops[writer];
        }
        if (is_twin) {
            *key = op->key;
            return pair_words(history, "no version is given twice", other, op);
        }
        if (told[i].is_write)
            writer = told[i].op;
    }
    return NULL;
}

/* All writes with smaller versions have happened when a version is told. */
static char *narrow_returns(const struct linear_history *history, struct linear_op *ops,
                            const struct told *told, size_t count, uint32_t *key)
{
    const struct told *first = NULL; /* to return, of this version and all greater ones */
    for (size_t i = count; i-- > 0;) {
        if (first == NULL || told[i].returned < first->returned)
            first = &told[i];
        /* Of one version, the observers may stand before their write: look at all of them. */
        size_t same = i;
        while (same > 0 && told[same - 1].version == told[i].version) {
            same--;
            if (told[same].returned < first->returned)
                first = &told[same];
        }
        for (size_t k = same; k <= i; k++) {
            struct linear_op *op = &ops[told[k].op];
            if (!told[k].is_write)
                continue;
            if (first->returned < op->invoked) {
                *key = op->key;
                return pair_words(history,
                                  "versions follow time: the first was told before the "
                                  "second, with no greater one, was invoked",
                                  &ops[first->op], op);
            }
            if (first->returned < op->returned)
                op->returned = first->returned;
        }
        i = same;
    }
    return NULL;
}

/* A write happens after the invocations of all writes with smaller versions. */
static void narrow_invocations(struct linear_op *ops, const struct told *told, size_t count)
{
    uint64_t last = 0;
    for (size_t i = 0; i < count; i++) {
        if (!told[i].is_write)
            continue;
        if (told[i].invoked > last)
            last = told[i].invoked;
        ops[told[i].op].invoked = last;
    }
}

char *linear_learn(const struct linear_history *history, struct linear_op *ops, size_t op_count,
                   uint32_t *key)
{
    struct value_facts *facts = names_grow(NULL, history->names.count, sizeof(*facts));
    for (size_t begin = 0, end; begin < op_count; begin = end) {
        for (end = begin + 1; end < op_count && ops[end].key == ops[begin].key;)
            end++;
        learn_values(ops, begin, end, facts);
    }
    free(facts);

    struct told *told = names_grow(NULL, 2 * op_count, sizeof(*told));
    size_t count = collect_told(ops, op_count, told);
    char *words = find_twins(history, ops, told, count, key);
    if (words == NULL)
        words = narrow_returns(history, ops, told, count, key);
    if (words == NULL)
        narrow_invocations(ops, told, count);
    free(told);
    return words;
}
