/* Frames of earlier connections, sent again (N3). Each stream of bytes between two nodes is followed
 * from its beginning, so that the bounds of frames are known: the header says how long a frame is. The
 * last few of each direction are kept, hello and refusal excepted, and may be put into a later stream
 * of the same direction where it stands at a bound. */
#include <stdlib.h>
#include <string.h>

#include "server/peer/frame.h"
#include "tests/sim/world_state.h"

#define KEPT 16
#define KEPT_BYTES_MAX 8192
#define HEADER_BYTES 32
#define CLIENT_PORTS_FROM 9000

struct kept_frame {
    size_t size;
    uint8_t bytes[KEPT_BYTES_MAX];
};

struct stream { /* of one direction; the newest connection's */
    uint64_t connection;
    uint16_t port;
    uint64_t frames;               /* whole ones so far: the first is the hello */
    size_t have;                   /* of the frame that is under way */
    uint64_t size;                 /* of it; 0: the header is not whole */
    uint8_t bytes[KEPT_BYTES_MAX]; /* of it, as far as they fit */
    uint64_t kept_count;
    struct kept_frame kept[KEPT]; /* a ring */
};

struct replayer {
    struct world *world;
    struct stream *streams[LINKS_NODES_MAX][LINKS_NODES_MAX]; /* [from][to]; made when needed */
};

struct replayer *replayer_new(struct world *world)
{
    struct replayer *replayer = calloc(1, sizeof *replayer);
    if (replayer == NULL)
        abort();
    replayer->world = world;
    return replayer;
}

void replayer_free(struct replayer *replayer)
{
    if (replayer == NULL)
        return;
    for (int from = 0; from < LINKS_NODES_MAX; from++)
        for (int to = 0; to < LINKS_NODES_MAX; to++)
            free(replayer->streams[from][to]);
    free(replayer);
}

static uint32_t number_at(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 |
           (uint32_t)bytes[3] << 24;
}

static void keep(struct stream *stream)
{
    uint16_t type = (uint16_t)(stream->bytes[14] | stream->bytes[15] << 8);
    bool is_raft = type != FRAME_HELLO && type != FRAME_REFUSAL && type != FRAME_ALIVE;

    if (!is_raft || stream->size > KEPT_BYTES_MAX)
        return;
    struct kept_frame *kept = &stream->kept[stream->kept_count++ % KEPT];
    kept->size = (size_t)stream->size;
    memcpy(kept->bytes, stream->bytes, kept->size);
}

static size_t take(struct stream *stream, const uint8_t *bytes, size_t size)
{
    size_t wanted = stream->size == 0 ? HEADER_BYTES : (size_t)stream->size;
    size_t count = wanted - stream->have < size ? wanted - stream->have : size;

    if (stream->have < KEPT_BYTES_MAX) {
        size_t fits = KEPT_BYTES_MAX - stream->have;
        memcpy(stream->bytes + stream->have, bytes, count < fits ? count : fits);
    }
    stream->have += count;
    if (stream->size == 0 && stream->have == HEADER_BYTES)
        stream->size = (uint64_t)number_at(stream->bytes + 8) + number_at(stream->bytes + 20);
    if (stream->size != 0 && stream->have == stream->size) {
        keep(stream);
        stream->frames++;
        stream->have = 0;
        stream->size = 0;
    }
    return count;
}

void replayer_seen(void *context, int from, int to, uint16_t to_port, uint64_t connection,
                   const void *bytes, size_t size)
{
    struct replayer *replayer = context;
    const uint8_t *at = bytes;

    if (from >= LINKS_NODES_MAX || to >= LINKS_NODES_MAX || to_port >= CLIENT_PORTS_FROM)
        return;
    struct stream **place = &replayer->streams[from][to];
    if (*place == NULL) {
        *place = calloc(1, sizeof **place);
        if (*place == NULL)
            abort();
    }
    struct stream *stream = *place;
    if (stream->connection != connection) {
        stream->connection = connection;
        stream->port = to_port;
        stream->frames = 0;
        stream->have = 0;
        stream->size = 0;
    }
    while (size > 0) {
        size_t taken = take(stream, at, size);
        at += taken;
        size -= taken;
    }
}

bool replayer_replay(struct replayer *replayer, int from, int to, struct random *random)
{
    struct stream *stream = replayer->streams[from][to];

    if (stream == NULL || stream->kept_count == 0 || stream->have != 0 || stream->frames < 2)
        return false; /* nothing to send again, in the middle of a frame, or not yet greeted */
    uint64_t count = stream->kept_count < KEPT ? stream->kept_count : KEPT;
    const struct kept_frame *kept = &stream->kept[random_below(random, count)];
    return net_inject(replayer->world->net, from, to, stream->port, kept->bytes, kept->size);
}
