/* How long a message takes. Most are spread evenly between the link's two bounds; one in
 * TAIL_ONE_IN is late by up to TAIL_SPANS times their distance, since what breaks protocols is the
 * message that comes when nobody thinks of it any more. A link whose bounds are equal is exact. */
#include "tests/sim/links.h"

#define TAIL_ONE_IN 64
#define TAIL_SPANS 16
#define NS_PER_S UINT64_C(1000000000)

void links_init(struct links *links)
{
    *links = (struct links){ 0 };
    for (int from = 0; from < LINKS_MACHINES_MAX; from++) {
        for (int to = 0; to < LINKS_MACHINES_MAX; to++) {
            links->of[from][to].delay_min_ns = 50000;
            links->of[from][to].delay_max_ns = 500000;
        }
    }
}

static uint64_t transfer_ns(uint64_t size, uint64_t bytes_per_s)
{
    if (bytes_per_s == 0)
        return 0;
    uint64_t seconds = size / bytes_per_s, rest = size % bytes_per_s;
    /* The rest is below bytes_per_s; a link that is fast enough to overflow has no such delay. */
    uint64_t part = rest <= UINT64_MAX / NS_PER_S ? rest * NS_PER_S / bytes_per_s : 0;
    return seconds * NS_PER_S + part;
}

/* Always two draws, so that a change of the bounds does not move what is drawn behind it. */
uint64_t link_delay_ns(const struct link *link, struct random *random, uint64_t size)
{
    uint64_t min = link->delay_min_ns, max = link->delay_max_ns;
    if (max < min)
        max = min;
    uint64_t delay = random_between(random, min, max);
    uint64_t tail = random_next(random);
    if (tail % TAIL_ONE_IN == 0) {
        struct random lateness = { tail };
        delay += random_between(&lateness, 0, TAIL_SPANS * (max - min));
    }
    return delay + transfer_ns(size, link->bytes_per_s);
}
