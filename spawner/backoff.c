#include "spawner/backoff.h"

uint32_t backoff_next_ms(uint32_t previous_ms, uint64_t lived_ms)
{
    if (previous_ms == 0 || lived_ms >= BACKOFF_RESET_MS)
        return BACKOFF_MS_MIN;
    return previous_ms < BACKOFF_MS_MAX / 2 ? 2 * previous_ms : BACKOFF_MS_MAX;
}
