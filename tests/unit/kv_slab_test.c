#include "kv/slab.h"

#include <check.h>
#include <signal.h>
#include <stdlib.h>

#include "tests/unit/kv_counting_allocator.h"

START_TEST(a_stride_fits_its_size_and_wastes_little)
{
    for (uint32_t size = SLAB_BLOCK_MIN; size <= SLAB_BLOCK_MAX; size++) {
        uint32_t stride = slab_stride(size);
        ck_assert_uint_ge(stride, size);
        ck_assert_uint_le(stride - size, size < 257 ? 3 : size / 32);
        ck_assert_uint_eq(stride % 4, 0);
        ck_assert_uint_eq(slab_stride(stride), stride); /* a stride is a size of its own class */
    }
}
END_TEST

/* Blocks as their user sees them: a handle, and bytes that must stay. */
#define BLOCKS_MAX 6000

struct block {
    uint32_t handle, size;
    uint8_t content;
};

struct blocks {
    struct counting counting;
    struct memory memory;
    struct slab slab;
    struct block list[BLOCKS_MAX];
    uint32_t count;
    uint32_t random;
};

static uint32_t any(struct blocks *blocks, uint32_t below)
{
    blocks->random = blocks->random * 1664525u + 1013904223u;
    return (uint32_t)((uint64_t)blocks->random * below >> 32);
}

static void add(struct blocks *blocks, uint32_t size)
{
    struct block *block = &blocks->list[blocks->count++];
    block->size = size;
    block->content = (uint8_t)any(blocks, 256);
    block->handle = slab_alloc(&blocks->slab, &blocks->memory, size);
    if (block->handle == 0)
        ck_abort_msg("no handle");
    memset(slab_at(&blocks->slab, block->handle), block->content, size);
}

static void drop(struct blocks *blocks, uint32_t i)
{
    uint32_t freed = blocks->list[i].handle;
    uint32_t moved = slab_free(&blocks->slab, &blocks->memory, freed);
    blocks->list[i] = blocks->list[--blocks->count];
    if (moved == 0)
        return;
    for (i = 0; i < blocks->count; i++) {
        if (blocks->list[i].handle == moved) {
            blocks->list[i].handle = freed;
            return;
        }
    }
    ck_abort_msg("a block moved that nobody has");
}

static void check_contents(const struct blocks *blocks)
{
    for (uint32_t i = 0; i < blocks->count; i++) {
        const struct block *block = &blocks->list[i];
        const uint8_t *bytes = (const uint8_t *)slab_at(&blocks->slab, block->handle);
        static uint8_t expected[SLAB_BLOCK_MAX];
        memset(expected, block->content, block->size);
        if (memcmp(bytes, expected, block->size) != 0 || (uintptr_t)bytes % 4 != 0)
            ck_abort_msg("block %u of %u bytes", i, block->size);
    }
}

/* For each stride, as many chunks as its blocks fill; one chunk in reserve; the directory. */
static void check_density(const struct blocks *blocks)
{
    static uint32_t counts[SLAB_BLOCK_MAX + 1];
    memset(counts, 0, sizeof(counts));
    for (uint32_t i = 0; i < blocks->count; i++)
        counts[slab_stride(blocks->list[i].size)]++;
    uint64_t chunks = 0;
    for (uint32_t stride = SLAB_BLOCK_MIN; stride <= SLAB_BLOCK_MAX; stride++) {
        uint32_t each = SLAB_CHUNK_SIZE / stride;
        chunks += (counts[stride] + each - 1) / each;
    }
    uint64_t directory =
        (blocks->slab.chunks.count * UINT64_C(9) / 8 + 4) * sizeof(struct slab_chunk);
    ck_assert_uint_ge(blocks->counting.bytes, chunks * SLAB_CHUNK_SIZE);
    ck_assert_uint_le(blocks->counting.bytes, (chunks + 1) * SLAB_CHUNK_SIZE + directory);
    ck_assert_uint_eq(blocks->counting.bytes, blocks->memory.bytes);
}

static void start(struct blocks *blocks, uint32_t seed)
{
    memset(blocks, 0, sizeof(*blocks));
    blocks->counting.fill = 0xa5;
    blocks->memory.allocator = counting_allocator(&blocks->counting);
    blocks->random = seed;
    slab_init(&blocks->slab);
}

START_TEST(blocks_keep_their_bytes_and_are_packed_without_holes)
{
    static struct blocks blocks;
    start(&blocks, (uint32_t)_i);
    uint32_t sizes = _i % 2 == 0 ? 3 : SLAB_BLOCK_MAX - SLAB_BLOCK_MIN + 1;

    for (int wave = 0; wave < 4; wave++) {
        uint32_t target = wave % 2 == 0 ? BLOCKS_MAX - 1 : any(&blocks, 100);
        while (blocks.count != target) {
            bool grows = blocks.count < target ? any(&blocks, 10) < 8 : any(&blocks, 10) < 2;
            if (grows && blocks.count < BLOCKS_MAX)
                add(&blocks, SLAB_BLOCK_MIN + any(&blocks, sizes) * (sizes == 3 ? 400 : 1));
            else if (blocks.count > 0)
                drop(&blocks, any(&blocks, blocks.count));
        }
        check_contents(&blocks);
        check_density(&blocks);
    }
    while (blocks.count > 0)
        drop(&blocks, any(&blocks, blocks.count));
    check_density(&blocks);
    slab_release(&blocks.slab, &blocks.memory);
    ck_assert_uint_eq(blocks.counting.blocks, 0);
}
END_TEST

START_TEST(release_takes_back_blocks_that_are_still_there)
{
    static struct blocks blocks;
    start(&blocks, 1);
    for (uint32_t i = 0; i < 1000; i++)
        add(&blocks, SLAB_BLOCK_MIN + i);
    slab_release(&blocks.slab, &blocks.memory);
    ck_assert_uint_eq(blocks.counting.blocks, 0);
    ck_assert_uint_eq(blocks.memory.bytes, 0);
}
END_TEST

START_TEST(a_count_at_the_edge_of_a_chunk_does_not_go_to_the_allocator)
{
    static struct blocks blocks;
    start(&blocks, 1);
    for (uint32_t i = 0; i < SLAB_CHUNK_SIZE / 64 + 1; i++)
        add(&blocks, 64);
    drop(&blocks, 0);
    blocks.counting.calls = 0;
    for (int i = 0; i < 100; i++) {
        add(&blocks, 64);
        drop(&blocks, 0);
    }
    ck_assert_uint_eq(blocks.counting.calls, 0);
    slab_release(&blocks.slab, &blocks.memory);
}
END_TEST

START_TEST(the_last_block_of_a_size_moves_no_other)
{
    static struct blocks blocks;
    start(&blocks, 1);
    ck_assert_uint_eq(slab_last(&blocks.slab, 64), 0);
    for (uint32_t i = 0; i < 2000; i++)
        add(&blocks, 64);
    for (uint32_t i = 0; i < 2000; i++) {
        uint32_t last = slab_last(&blocks.slab, 64);
        ck_assert_uint_ne(last, 0);
        ck_assert_uint_eq(slab_free(&blocks.slab, &blocks.memory, last), 0);
    }
    ck_assert_uint_eq(slab_last(&blocks.slab, 64), 0);
    slab_release(&blocks.slab, &blocks.memory);
}
END_TEST

START_TEST(no_handle_stops)
{
    static struct blocks blocks;
    start(&blocks, 1);
    add(&blocks, 64);
    (void)slab_at(&blocks.slab, 0);
}
END_TEST

START_TEST(a_block_too_large_stops)
{
    static struct blocks blocks;
    start(&blocks, 1);
    (void)slab_alloc(&blocks.slab, &blocks.memory, SLAB_BLOCK_MAX + 1);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("slab");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, a_stride_fits_its_size_and_wastes_little);
    tcase_add_loop_test(tc, blocks_keep_their_bytes_and_are_packed_without_holes, 0, 6);
    tcase_add_test(tc, release_takes_back_blocks_that_are_still_there);
    tcase_add_test(tc, a_count_at_the_edge_of_a_chunk_does_not_go_to_the_allocator);
    tcase_add_test(tc, the_last_block_of_a_size_moves_no_other);
    tcase_add_test_raise_signal(tc, no_handle_stops, SIGABRT);
    tcase_add_test_raise_signal(tc, a_block_too_large_stops, SIGABRT);

    Suite *suite = suite_create("kv_slab");
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
