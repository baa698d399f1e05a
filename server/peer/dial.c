#include "server/peer/dial.h"

#define NS_PER_MS 1000000ull

void dial_init(struct dial *dial, uint64_t now_ns)
{
    *dial = (struct dial){ .at_ns = now_ns, .backoff_ms = DIAL_BACKOFF_MS_MIN };
}

void dial_later(struct dial *dial, struct os *os, uint64_t now_ns, uint64_t resolve_ns)
{
    uint64_t half_ns = (uint64_t)dial->backoff_ms * NS_PER_MS / 2;
    uint64_t jitter;

    os_random(os, &jitter, sizeof jitter);
    uint64_t wait_ns = half_ns + jitter % (half_ns + 1);
    if (wait_ns < resolve_ns * DIAL_RESOLVE_SHARE)
        wait_ns = resolve_ns * DIAL_RESOLVE_SHARE;
    dial->at_ns = now_ns + wait_ns;
    dial->backoff_ms *= 2;
    if (dial->backoff_ms > DIAL_BACKOFF_MS_MAX)
        dial->backoff_ms = DIAL_BACKOFF_MS_MAX;
}

void dial_reset(struct dial *dial)
{
    dial->backoff_ms = DIAL_BACKOFF_MS_MIN;
}
