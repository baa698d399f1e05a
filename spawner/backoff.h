/* How long to wait before a node that has ended is started again: 100 ms, doubling to 5 s, so
 * that a crash loop costs little; and from the start again once the node has lived for 10 s, so
 * that a rare crash costs little too. */
#pragma once

#include <stdint.h>

#define BACKOFF_MS_MIN 100
#define BACKOFF_MS_MAX 5000
#define BACKOFF_RESET_MS 10000

/* `previous_ms` is the last wait before the run that has just ended, 0 if it was the first run;
 * `lived_ms` is how long that run lasted. */
uint32_t backoff_next_ms(uint32_t previous_ms, uint64_t lived_ms);
