/* Messages between replicas: a datagram service with every fault that a network of streams can show
 * to the core, and some that it cannot.
 *
 * A message is copied once, into a parcel of the pool, and then shared by reference: by each of its
 * copies under way, and by the ring of old ones. What happens to it is drawn when it is sent, in a
 * fixed order of draws, from a stream of chance that is the post's alone:
 *
 *     cut?  -> lost                      (a cut counts when it is sent, and again when it arrives)
 *     lose? -> lost
 *     duplicate? -> two copies, each with a delay of its own
 *     reorder?   -> this copy is held back for two to eight delays more
 *     replay?    -> one of the old messages of this direction goes again
 *     reset?     -> the connection breaks: both ends are told, and about half of what is under way
 *                   between them never arrives
 *
 * Delays are drawn for each copy alone, so messages overtake each other even without `reorder`: the
 * core is promised no order at all. A draw is made only where a fault is switched on, so a fault that
 * is off costs nothing and moves no other.
 *
 * The ring holds RING_SIZE messages of each direction. With replay on it takes each one; else one in
 * RING_STRIDE, so that a replay that is switched on later finds words of long ago: of an earlier term,
 * an earlier connection, a life of the sender that has ended since.
 *
 * In the steady state nothing is allocated: a parcel keeps the room for its entries' bytes when it
 * goes back to the pool. All of it is the simulator's memory, whoever calls. */
#include "tests/sim/post.h"

#include <assert.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/memory.h"

#define RING_SIZE 64u
#define RING_STRIDE 16u
#define POST_PURPOSE 0x706f7374ull /* "post" */

/* A parcel and what the receiver need not see. `parcel` comes first: they share their address. */
struct box {
    struct parcel parcel;
    struct post *post;
    struct box *next_made; /* all that were ever made */
    uint8_t *bytes;
    size_t capacity;
};

struct direction {
    struct box *ring[RING_SIZE];
    uint32_t ring_count, ring_next;
    uint32_t until_kept; /* messages */
};

struct post {
    struct timeline *timeline;
    struct links *links;
    struct trace *trace;
    struct random random;
    void (*deliver)(void *context, int to, struct parcel *parcel);
    void (*on_break)(void *context, int a, int b);
    void *context;
    struct box *made;
    struct parcel *pool;
    uint64_t breaks[LINKS_NODES_MAX][LINKS_NODES_MAX]; /* [lower slot][higher slot] */
    struct direction directions[LINKS_NODES_MAX][LINKS_NODES_MAX];
    struct post_stats stats;
};

struct post *post_new(struct timeline *timeline, struct links *links, struct trace *trace,
                      uint64_t seed, void (*deliver)(void *context, int to, struct parcel *parcel),
                      void (*on_break)(void *context, int a, int b), void *context)
{
    struct post *post = calloc(1, sizeof *post);
    if (post == NULL)
        abort();
    post->timeline = timeline;
    post->links = links;
    post->trace = trace;
    post->random = random_stream(seed, POST_PURPOSE);
    post->deliver = deliver;
    post->on_break = on_break;
    post->context = context;
    return post;
}

void post_free(struct post *post)
{
    if (post == NULL)
        return;
    while (post->made != NULL) {
        struct box *box = post->made;
        post->made = box->next_made;
        free(box->bytes);
        free(box);
    }
    free(post);
}

/* -- Parcels ------------------------------------------------------------------------------------- */

static struct box *take_box(struct post *post)
{
    struct box *box;

    post->stats.on_loan++;
    if (post->pool != NULL) {
        box = (struct box *)post->pool;
        post->pool = box->parcel.next;
        box->parcel.next = NULL;
        return box;
    }
    box = calloc(1, sizeof *box);
    if (box == NULL)
        abort();
    box->post = post;
    box->next_made = post->made;
    post->made = box;
    post->stats.parcels++;
    return box;
}

static void give_back(struct post *post, struct parcel *parcel)
{
    assert(parcel->references > 0);
    if (--parcel->references > 0)
        return;
    parcel->next = post->pool;
    post->pool = parcel;
    post->stats.on_loan--;
}

void post_release(struct post *post, struct parcel *parcel)
{
    struct memory *before = memory_enter(NULL);

    give_back(post, parcel);
    (void)memory_enter(before);
}

/* Returns how many bytes there are. */
static size_t copy_entries(struct box *box, const struct entry *entries, uint32_t count)
{
    size_t size = 0;

    for (uint32_t i = 0; i < count; i++)
        size += entries[i].size;
    if (size > box->capacity) {
        free(box->bytes);
        box->capacity = size < 1024 ? 1024 : 2 * size;
        box->bytes = malloc(box->capacity);
        if (box->bytes == NULL)
            abort();
    }
    uint8_t *bytes = box->bytes;
    for (uint32_t i = 0; i < count; i++) {
        struct entry *copy = &box->parcel.entries[i];
        *copy = entries[i];
        memcpy(bytes, entries[i].bytes, entries[i].size);
        copy->bytes = bytes;
        copy->payload = bytes + ENTRY_HEADER_SIZE;
        bytes += entries[i].size;
    }
    return size;
}

/* Returns the size that the message would have on a wire, about. */
static size_t fill(struct box *box, int from, int to, const struct raft_message *message,
                   const struct entry *entries)
{
    struct parcel *parcel = &box->parcel;

    parcel->message = *message;
    parcel->from = from;
    parcel->to = to;
    parcel->entry_count = message->type == RAFT_APPEND ? message->append.entry_count : 0;
    parcel->references = 1; /* the sender's, until all copies are on their way */
    return 64 + copy_entries(box, entries, parcel->entry_count);
}

/* What leaves a node is part of the run's hash: the words, and the entries by their chains. */
static void hash_parcel(const struct post *post, const struct parcel *parcel)
{
    const struct raft_message *message = &parcel->message;
    uint64_t said[4] = { (uint64_t)message->type << 32 | (uint64_t)parcel->from << 8 |
                             (uint64_t)parcel->to,
                         message->term, 0, 0 };

    switch (message->type) {
    case RAFT_APPEND:
        said[2] = message->append.prev.index << 16 ^ message->append.commit_index;
        said[3] = message->append.round << 8 | parcel->entry_count;
        if (parcel->entry_count > 0)
            said[2] ^= parcel->entries[parcel->entry_count - 1].chain;
        break;
    case RAFT_APPEND_REPLY:
        said[2] = message->append_reply.durable_index << 16 ^ message->append_reply.last_index;
        said[3] = message->append_reply.round << 2 | (uint64_t)message->append_reply.success << 1 |
                  (uint64_t)message->append_reply.full;
        break;
    case RAFT_VOTE:
        said[2] = message->vote.last.index << 16 ^ message->vote.last.term;
        said[3] = (uint64_t)message->vote.pre_vote << 1 | (uint64_t)message->vote.transfer;
        break;
    case RAFT_VOTE_REPLY:
        said[3] =
            (uint64_t)message->vote_reply.pre_vote << 1 | (uint64_t)message->vote_reply.granted;
        break;
    default:
        break;
    }
    for (int i = 0; i < 4; i++)
        trace_number(post->trace, said[i]);
}

/* -- On the way ---------------------------------------------------------------------------------- */

static uint64_t *breaks_of(struct post *post, int a, int b)
{
    return a < b ? &post->breaks[a][b] : &post->breaks[b][a];
}

/* `argument`: the connection that it left by. */
static void arrive(void *owner, uint64_t argument)
{
    struct box *box = owner;
    struct post *post = box->post;
    struct parcel *parcel = &box->parcel;
    int from = parcel->from, to = parcel->to;
    bool broken = argument != *breaks_of(post, from, to) && random_chance(&post->random, 500);

    if (broken || post->links->of[from][to].cut) {
        post->stats.lost++;
        give_back(post, parcel);
        return;
    }
    post->stats.delivered++;
    post->deliver(post->context, to, parcel);
}

/* The order to campaign, and the requests for votes that follow it. */
static bool is_of_transfer(const struct raft_message *message)
{
    return message->type == RAFT_TIMEOUT_NOW ||
           (message->type == RAFT_VOTE && message->vote.transfer);
}

static void dispatch(struct post *post, struct box *box, const struct link *link, size_t size)
{
    const struct parcel *parcel = &box->parcel;
    uint64_t delay = link_delay_ns(link, &post->random, size);

    if (link->order_delay_ns != 0 && is_of_transfer(&parcel->message))
        delay += random_below(&post->random, link->order_delay_ns);
    if (link->reorder != 0 && random_chance(&post->random, link->reorder)) {
        delay += random_between(&post->random, 2, 8) * (link->delay_max_ns + 1);
        post->stats.reordered++;
    }
    box->parcel.references++;
    timeline_at(post->timeline, timeline_now_ns(post->timeline) + delay, arrive, box,
                *breaks_of(post, parcel->from, parcel->to));
}

static void keep(struct post *post, struct direction *direction, struct box *box, bool always)
{
    struct box **place = &direction->ring[direction->ring_next];

    if (!always && direction->until_kept > 0) {
        direction->until_kept--;
        return;
    }
    direction->until_kept = RING_STRIDE - 1;
    if (*place != NULL)
        give_back(post, &(*place)->parcel);
    *place = box;
    box->parcel.references++;
    direction->ring_next = (direction->ring_next + 1) % RING_SIZE;
    if (direction->ring_count < RING_SIZE)
        direction->ring_count++;
}

static void replay(struct post *post, struct direction *direction, const struct link *link)
{
    if (direction->ring_count == 0)
        return;
    struct box *box = direction->ring[random_below(&post->random, direction->ring_count)];
    post->stats.replayed++;
    dispatch(post, box, link, 64);
}

/* -- Breaks -------------------------------------------------------------------------------------- */

static void tell_break(void *owner, uint64_t argument)
{
    struct post *post = owner;

    post->on_break(post->context, (int)(argument >> 8), (int)(argument & 0xff));
}

static void maybe_break(struct post *post, const struct link *link, int from, int to)
{
    if (link->reset == 0 || random_below(&post->random, 1000000) >= link->reset)
        return;
    post->stats.broken++;
    ++*breaks_of(post, from, to);
    if (post->on_break != NULL)
        timeline_at(post->timeline, timeline_now_ns(post->timeline), tell_break, post,
                    (uint64_t)from << 8 | (uint64_t)to);
}

/* -- Sending ------------------------------------------------------------------------------------- */

static void send_over(struct post *post, struct box *box, const struct link *link, size_t size)
{
    struct direction *direction = &post->directions[box->parcel.from][box->parcel.to];
    bool lost = link->cut || (link->lose != 0 && random_chance(&post->random, link->lose));

    if (lost) {
        post->stats.lost++;
    } else {
        dispatch(post, box, link, size);
        if (link->duplicate != 0 && random_chance(&post->random, link->duplicate)) {
            post->stats.duplicated++;
            dispatch(post, box, link, size);
        }
    }
    if (link->replay != 0 && random_chance(&post->random, link->replay))
        replay(post, direction, link);
    keep(post, direction, box, link->replay != 0);
}

void post_send(struct post *post, int from, int to, const struct raft_message *message,
               const struct entry *entries)
{
    assert(from != to && from >= 0 && from < LINKS_NODES_MAX && to >= 0 && to < LINKS_NODES_MAX);
    struct memory *before = memory_enter(NULL);
    const struct link *link = &post->links->of[from][to];
    struct box *box = take_box(post);
    size_t size = fill(box, from, to, message, entries);

    post->stats.sent++;
    hash_parcel(post, &box->parcel);
    send_over(post, box, link, size);
    give_back(post, &box->parcel);
    maybe_break(post, link, from, to);
    (void)memory_enter(before);
}

void post_stats(const struct post *post, struct post_stats *stats)
{
    *stats = post->stats;
}
