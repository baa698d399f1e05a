#include "server/peer/handshake.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/crc32c.h"
#include "server/endian.h"

static bool is_member(const struct peers_options *options, uint32_t id)
{
    for (int i = 0; i < options->member_count; i++) {
        if (options->members[i].id == id)
            return true;
    }
    return false;
}

static int by_id(const void *left, const void *right)
{
    const uint32_t *a = left, *b = right;
    return (*a > *b) - (*a < *b);
}

uint32_t handshake_servers(const struct peers_options *options)
{
    uint32_t ids[RAFT_VOTERS_MAX];
    uint32_t sum = 0;

    for (int i = 0; i < options->member_count; i++)
        ids[i] = options->members[i].id;
    qsort(ids, (size_t)options->member_count, sizeof ids[0], by_id);
    for (int i = 0; i < options->member_count; i++) {
        uint8_t bytes[4];
        store_u32(bytes, ids[i]);
        sum = crc32c(sum, bytes, sizeof bytes);
    }
    return sum;
}

/* From the general to the particular: a version that we do not speak may mean anything by the
 * rest. */
enum frame_reason handshake_judge(const struct peers_options *options, const struct frame *hello,
                                  uint32_t dialled)
{
    const struct frame_hello *body = &hello->hello;

    assert(hello->type == FRAME_HELLO);
    if (body->protocol_min > FRAME_PROTOCOL_MAX || body->protocol_max < FRAME_PROTOCOL_MIN)
        return FRAME_WRONG_PROTOCOL;
    if (hello->group != FRAME_GROUP)
        return FRAME_WRONG_GROUP;
    if (strcmp(body->cluster, options->cluster) != 0)
        return FRAME_WRONG_CLUSTER;
    if (hello->from == options->id)
        return FRAME_SAME_ID;
    if (!is_member(options, hello->from))
        return FRAME_UNKNOWN_NODE;
    if (hello->to != options->id || (dialled != RAFT_NODE_NONE && hello->from != dialled))
        return FRAME_WRONG_NODE;
    if (dialled == RAFT_NODE_NONE && hello->from > options->id)
        return FRAME_WRONG_SIDE;
    if (body->servers != handshake_servers(options))
        return FRAME_WRONG_SERVERS;
    return FRAME_ACCEPTED;
}

void handshake_explain(enum frame_reason reason, const struct peers_options *options,
                       const struct frame *hello, char text[static HANDSHAKE_TEXT_MAX])
{
    const struct frame_hello *body = &hello->hello;
    size_t size = HANDSHAKE_TEXT_MAX;

    assert(reason > FRAME_ACCEPTED);
    assert(reason < FRAME_REASON_END);
    switch (reason) {
    case FRAME_WRONG_CLUSTER:
        snprintf(text, size, "it belongs to cluster '%s', this node to '%s'", body->cluster,
                 options->cluster);
        return;
    case FRAME_WRONG_GROUP:
        snprintf(text, size, "it speaks for group %" PRIu32 ", this node knows only group %d",
                 hello->group, FRAME_GROUP);
        return;
    case FRAME_WRONG_PROTOCOL:
        snprintf(text, size, "it speaks protocol versions %u to %u, this node %d to %d",
                 (unsigned)body->protocol_min, (unsigned)body->protocol_max, FRAME_PROTOCOL_MIN,
                 FRAME_PROTOCOL_MAX);
        return;
    case FRAME_SAME_ID:
        snprintf(text, size, "it has the id %" PRIu32 " of this node: two are started with one id",
                 hello->from);
        return;
    case FRAME_UNKNOWN_NODE:
        snprintf(text, size, "its id %" PRIu32 " is not in this node's list of servers",
                 hello->from);
        return;
    case FRAME_WRONG_NODE:
        snprintf(text, size,
                 "it is node %" PRIu32 " and looks for node %" PRIu32 ", this is node %" PRIu32
                 ": compare the lists of servers",
                 hello->from, hello->to, options->id);
        return;
    case FRAME_WRONG_SIDE:
        snprintf(text, size,
                 "node %" PRIu32 " dials node %" PRIu32 ", but of a pair the lower id dials",
                 hello->from, options->id);
        return;
    case FRAME_RIVAL:
        snprintf(text, size,
                 "another process is alive as node %" PRIu32 ", with other data or a copy of it",
                 hello->from);
        return;
    case FRAME_WRONG_SERVERS:
        snprintf(text, size,
                 "node %" PRIu32 " has another list of servers: the ids in both files must agree",
                 hello->from);
        return;
    case FRAME_ACCEPTED:
    case FRAME_REASON_END:
        return;
    }
}

void handshake_explain_refusal(const struct peers_options *options, const struct frame *refusal,
                               char text[static HANDSHAKE_TEXT_MAX])
{
    const struct frame_refusal *body = &refusal->refusal;
    size_t size = HANDSHAKE_TEXT_MAX;

    assert(refusal->type == FRAME_REFUSAL);
    switch (body->reason) {
    case FRAME_WRONG_CLUSTER:
        snprintf(text, size, "it refuses this node: it belongs to cluster '%s', this node to '%s'",
                 body->cluster, options->cluster);
        return;
    case FRAME_WRONG_GROUP:
        snprintf(text, size, "it refuses this node: it does not know group %d", FRAME_GROUP);
        return;
    case FRAME_WRONG_PROTOCOL:
        snprintf(text, size,
                 "it refuses this node: it speaks protocol versions %u to %u, this node %d to %d",
                 (unsigned)body->protocol_min, (unsigned)body->protocol_max, FRAME_PROTOCOL_MIN,
                 FRAME_PROTOCOL_MAX);
        return;
    case FRAME_SAME_ID:
        snprintf(text, size, "it refuses this node: it has the id %" PRIu32 " itself", options->id);
        return;
    case FRAME_UNKNOWN_NODE:
        snprintf(text, size,
                 "it refuses this node: the id %" PRIu32 " is not in its list of servers",
                 options->id);
        return;
    case FRAME_WRONG_NODE:
        snprintf(text, size,
                 "it refuses this node: it is node %" PRIu32
                 ", not the one that was looked for: compare the lists of servers",
                 refusal->from);
        return;
    case FRAME_WRONG_SIDE:
        snprintf(text, size, "it refuses this node: of a pair the lower id dials");
        return;
    case FRAME_RIVAL:
        snprintf(text, size,
                 "it refuses this node: another process is alive there as node %" PRIu32
                 ", with other data or a copy of it",
                 options->id);
        return;
    case FRAME_WRONG_SERVERS:
        snprintf(text, size,
                 "it refuses this node: it has another list of servers: the ids in both files must "
                 "agree");
        return;
    default:
        snprintf(text, size, "it refuses this node, for a reason unknown to this program (%u)",
                 (unsigned)body->reason);
    }
}

struct frame_hello handshake_hello(const struct peers_options *options, uint64_t boot)
{
    struct frame_hello hello = {
        .protocol_min = FRAME_PROTOCOL_MIN,
        .protocol_max = FRAME_PROTOCOL_MAX,
        .servers = handshake_servers(options),
        .features = FRAME_FEATURES,
        .incarnation = options->incarnation,
        .boot = boot,
    };
    snprintf(hello.cluster, sizeof hello.cluster, "%s", options->cluster);
    return hello;
}

struct frame_refusal handshake_refusal(const struct peers_options *options,
                                       enum frame_reason reason)
{
    struct frame_refusal refusal = {
        .reason = (uint16_t)reason,
        .protocol_min = FRAME_PROTOCOL_MIN,
        .protocol_max = FRAME_PROTOCOL_MAX,
    };
    snprintf(refusal.cluster, sizeof refusal.cluster, "%s", options->cluster);
    return refusal;
}
