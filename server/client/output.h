/* Bytes on their way to one client: a queue of blocks, filled at the end, sent from the front.
 *
 * The first block is small, since most connections have one short reply to send in a turn; once that
 * is not enough, larger ones follow, and a large value gets one that is cut to it. Small blocks go
 * back to a pool. An empty output holds no block. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct output_block; /* opaque */

struct output_pool {
    struct output_block *free;
    uint32_t free_count;
    uint64_t memory_bytes; /* of all blocks in use */
};

struct output {
    struct output_block *first, *last;
    size_t size; /* unsent bytes */
};

#define OUTPUT_PARTS_MAX 64

void output_pool_release(struct output_pool *pool);

/* The memory that appending `size` bytes would newly take. */
size_t output_growth(const struct output *output, size_t size);
/* False: out of memory; then nothing has been added. */
bool output_append(struct output *output, struct output_pool *pool, const void *bytes, size_t size);
/* The front of the queue, for one vectored write; returns how many parts. */
int output_parts(const struct output *output, struct iovec parts[OUTPUT_PARTS_MAX]);
/* The first `size` bytes have been sent. */
void output_consume(struct output *output, struct output_pool *pool, size_t size);
void output_release(struct output *output, struct output_pool *pool);
