/* When to dial again: a back-off that doubles from attempt to attempt up to a cap, with jitter, and
 * starts over once a link has stayed up. Numbers only: the dialling itself is in peer.c. */
#pragma once

#include "server/os/os.h"

#define DIAL_BACKOFF_MS_MIN 10
#define DIAL_BACKOFF_MS_MAX 500
/* A link that was up for this long has earned a quick redial. */
#define DIAL_STEADY_MS 1000
/* Looking a name up may block the loop (os_resolve), so it may take one part in so many of it. */
#define DIAL_RESOLVE_SHARE 20

struct dial {
    uint64_t at_ns; /* when next; meaningless while a link is there */
    uint32_t backoff_ms;
};

/* At once. */
void dial_init(struct dial *dial, uint64_t now_ns);
/* After the back-off, or a part of it, but at least half: two that broke off together come back
 * apart. `resolve_ns`: how long the look-up took, if there was one. */
void dial_later(struct dial *dial, struct os *os, uint64_t now_ns, uint64_t resolve_ns);
/* A link that stayed up is gone: the next wait is a short one again. */
void dial_reset(struct dial *dial);
