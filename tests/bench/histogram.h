/* Latencies in buckets whose width is 1/64 of their power of two: 1.6 % at most, from a nanosecond
 * to eighteen minutes, in 18 KiB.
 *
 *     histogram_add(&histogram, ns, 1);
 *     histogram_percentile_ms(&histogram, 0.99)
 *
 * All zero is an empty histogram. */
#pragma once

#include <stdint.h>

#define HISTOGRAM_SUB_BITS 6
#define HISTOGRAM_BUCKETS ((41u - HISTOGRAM_SUB_BITS) << HISTOGRAM_SUB_BITS) /* up to 2^40 ns */

struct histogram {
    uint64_t count, sum_ns, max_ns;
    uint64_t buckets[HISTOGRAM_BUCKETS];
};

void histogram_add(struct histogram *histogram, uint64_t ns);
/* Add what `other` holds. */
void histogram_merge(struct histogram *histogram, const struct histogram *other);
/* What `share` (above 0, up to 1) of all do not exceed; 0 if there are none. */
double histogram_percentile_ms(const struct histogram *histogram, double share);
double histogram_mean_ms(const struct histogram *histogram);
double histogram_max_ms(const struct histogram *histogram);
