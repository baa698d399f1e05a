#include "tests/bench/histogram.h"

#define SUB_COUNT (1u << HISTOGRAM_SUB_BITS)
#define NS_PER_MS 1e6

static uint32_t bucket_of(uint64_t ns)
{
    if (ns < SUB_COUNT)
        return (uint32_t)ns;
    uint32_t shift = 63u - (uint32_t)__builtin_clzll(ns) - HISTOGRAM_SUB_BITS;
    uint32_t bucket = (shift + 1) * SUB_COUNT + (uint32_t)((ns >> shift) & (SUB_COUNT - 1));
    return bucket < HISTOGRAM_BUCKETS ? bucket : HISTOGRAM_BUCKETS - 1;
}

/* The first value that is above the bucket. */
static uint64_t bucket_end(uint32_t bucket)
{
    if (bucket < SUB_COUNT)
        return bucket + 1;
    uint32_t shift = bucket / SUB_COUNT - 1;
    return (uint64_t)(SUB_COUNT + bucket % SUB_COUNT + 1) << shift;
}

void histogram_add(struct histogram *histogram, uint64_t ns)
{
    histogram->count++;
    histogram->sum_ns += ns;
    histogram->buckets[bucket_of(ns)]++;
    if (ns > histogram->max_ns)
        histogram->max_ns = ns;
}

void histogram_merge(struct histogram *histogram, const struct histogram *other)
{
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++)
        histogram->buckets[i] += other->buckets[i];
    histogram->count += other->count;
    histogram->sum_ns += other->sum_ns;
    if (other->max_ns > histogram->max_ns)
        histogram->max_ns = other->max_ns;
}

double histogram_percentile_ms(const struct histogram *histogram, double share)
{
    double wanted = (double)histogram->count * share;
    uint64_t seen = 0;

    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += histogram->buckets[i];
        if (seen > 0 && (double)seen >= wanted) {
            uint64_t ns = bucket_end(i) < histogram->max_ns ? bucket_end(i) : histogram->max_ns;
            return (double)ns / NS_PER_MS;
        }
    }
    return 0;
}

double histogram_mean_ms(const struct histogram *histogram)
{
    double count = (double)histogram->count;
    return count > 0 ? (double)histogram->sum_ns / count / NS_PER_MS : 0;
}

double histogram_max_ms(const struct histogram *histogram)
{
    return (double)histogram->max_ns / NS_PER_MS;
}
