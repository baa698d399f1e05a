/* The log on disk.
 *
 * The log is one stream of records that only grows, cut into segment files of a fixed size:
 *
 *     position 0                  S                          2 S
 *              |H|r|r r|r|r|seal.  |H|r|r r r|r|0 0 0 0 0 0 0|H|0 0 0 0 0 0 0 0 0|
 *               0000000000000001    0000000000000002          0000000000000003
 *
 * A position is a byte of the stream; segment k begins at the end of segment k - 1, so a record's
 * place in its file is its position minus the segment's start. Every segment is filled with zeros
 * and made durable under a temporary name before it gets its own: from then on a flush of it moves
 * no size and allocates no block, so it needs no commit of the file system's journal, and a full
 * disk cannot meet a record half-way. `size` may differ from segment to segment.
 *
 * Header block, the first 4096 bytes of a segment:
 *
 *     offset size
 *     0      8    "RKVSEGMT"
 *     8      4    CRC32C of bytes 12..4096
 *     12     2    format version: 1
 *     14     2    0
 *     16     4    group: 0
 *     20     4    node
 *     24     8    number: 1, 2, 3 …; the file's name in hexadecimal
 *     32     8    start: position of this block in the stream
 *     40     8    size of the file: a multiple of 4096
 *     48     8    salt: random, new for every life of a file
 *     56     8    incarnation of the directory (its identity file has the same)
 *     64     8    hash of the cluster's name (FNV-1a, 64 bits)
 *     72     …    0
 *
 * Record: a frame of 64 bytes, its content, and what is left of the last block. Records begin on
 * 4096-byte boundaries, so writing one never touches a block that another stands in.
 *
 *     offset size
 *     0      4    CRC32C of bytes 4..64
 *     4      2    type: 1 entry, 2 vote, 3 seal
 *     6      2    format version: 1
 *     8      4    group: 0
 *     12     4    size of the content
 *     16     8    position of this record
 *     24     8    durable: everything before this position was on stable storage at the time this
 *                 record was written
 *     32     8    salt of the segment
 *     40     4    CRC32C of the content. An entry begins with a checksum of its own: that one, which
 *                 counts for all of its bytes but itself, is repeated here, and nothing is summed twice
 *     44     20   0
 *     64     …    content: entry - its bytes, as they are on the wire (server/entry.h)
 *                          vote  - term (8), voted for (4; 0xffffffff: nobody), 0 (4)
 *                          seal  - none
 *
 * The salt says which life of the file a record is from: a frame left over from another never
 * counts, whatever its checksum. The position says where it was meant to be: a write that the disk
 * has put elsewhere never counts. Nobody outside learns a salt, so nobody can send a value that looks
 * like a frame where a scan might find it.
 *
 * A record never straddles two segments. The seal is the last record of a segment and sends the
 * reader to the next one; one block is always kept free for it. It is written only when the next
 * segment is durable under its name.
 *
 * `durable` is what lets a reader tell a torn tail from damage: see recover.c. Padding is not
 * summed, and not looked at: nothing depends on it. Numbers are little-endian. */
#include "server/storage/format.h"

#include <assert.h>
#include <string.h>

#include "server/crc32c.h"
#include "server/endian.h"

static const char magic[8] = { 'R', 'K', 'V', 'S', 'E', 'G', 'M', 'T' };

void format_header_encode(const struct format_segment *segment, uint8_t block[STORAGE_BLOCK])
{
    memset(block, 0, STORAGE_BLOCK);
    memcpy(block, magic, sizeof magic);
    store_u16(block + 12, FORMAT_VERSION);
    store_u32(block + 16, FORMAT_GROUP);
    store_u32(block + 20, segment->node);
    store_u64(block + 24, segment->number);
    store_u64(block + 32, segment->start);
    store_u64(block + 40, segment->size);
    store_u64(block + 48, segment->salt);
    store_u64(block + 56, segment->incarnation);
    store_u64(block + 64, segment->cluster_hash);
    store_u32(block + 8, crc32c(0, block + 12, STORAGE_BLOCK - 12));
}

enum format_header format_header_decode(const uint8_t block[STORAGE_BLOCK],
                                        struct format_segment *segment, uint64_t *found)
{
    if (memcmp(block, magic, sizeof magic) != 0)
        return FORMAT_HEADER_NO_MAGIC;
    if (load_u32(block + 8) != crc32c(0, block + 12, STORAGE_BLOCK - 12))
        return FORMAT_HEADER_BAD_SUM;
    if (load_u16(block + 12) != FORMAT_VERSION) {
        *found = load_u16(block + 12);
        return FORMAT_HEADER_BAD_VERSION;
    }
    if (load_u32(block + 16) != FORMAT_GROUP) {
        *found = load_u32(block + 16);
        return FORMAT_HEADER_BAD_GROUP;
    }
    uint64_t size = load_u64(block + 40);
    if (size < FORMAT_SEGMENT_BYTES_MIN || size > UINT32_MAX || size % STORAGE_BLOCK != 0) {
        *found = size;
        return FORMAT_HEADER_BAD_SIZE;
    }
    *segment = (struct format_segment){
        .number = load_u64(block + 24),
        .start = load_u64(block + 32),
        .size = size,
        .salt = load_u64(block + 48),
        .incarnation = load_u64(block + 56),
        .cluster_hash = load_u64(block + 64),
        .node = load_u32(block + 20),
    };
    return FORMAT_HEADER_GOOD;
}

uint64_t format_cluster_hash(const char *cluster)
{
    uint64_t hash = 0xcbf29ce484222325;
    for (; *cluster != '\0'; cluster++)
        hash = (hash ^ (uint8_t)*cluster) * 0x100000001b3;
    return hash;
}

void format_frame_encode(const struct format_frame *frame, uint64_t salt,
                         uint8_t bytes[FORMAT_FRAME_SIZE])
{
    assert(frame->position % STORAGE_BLOCK == 0);
    assert(frame->durable <= frame->position);

    memset(bytes, 0, FORMAT_FRAME_SIZE);
    store_u16(bytes + 4, frame->type);
    store_u16(bytes + 6, frame->version);
    store_u32(bytes + 8, frame->group);
    store_u32(bytes + 12, frame->content_size);
    store_u64(bytes + 16, frame->position);
    store_u64(bytes + 24, frame->durable);
    store_u64(bytes + 32, salt);
    store_u32(bytes + 40, frame->content_sum);
    store_u32(bytes, crc32c(0, bytes + 4, FORMAT_FRAME_SIZE - 4));
}

enum format_place format_frame_decode(const uint8_t *bytes, uint64_t salt, uint64_t position,
                                      struct format_frame *frame)
{
    static const uint8_t zeros[FORMAT_FRAME_SIZE];
    if (memcmp(bytes, zeros, sizeof zeros) == 0)
        return FORMAT_PLACE_BLANK;
    if (load_u32(bytes) != crc32c(0, bytes + 4, FORMAT_FRAME_SIZE - 4))
        return FORMAT_PLACE_GARBAGE;
    if (load_u64(bytes + 16) != position || load_u64(bytes + 32) != salt)
        return FORMAT_PLACE_FOREIGN;
    *frame = (struct format_frame){
        .type = load_u16(bytes + 4),
        .version = load_u16(bytes + 6),
        .group = load_u32(bytes + 8),
        .content_size = load_u32(bytes + 12),
        .content_sum = load_u32(bytes + 40),
        .position = position,
        .durable = load_u64(bytes + 24),
    };
    return FORMAT_PLACE_FRAME;
}

void format_vote_encode(uint64_t term, uint32_t voted_for, uint8_t bytes[FORMAT_VOTE_SIZE])
{
    store_u64(bytes, term);
    store_u32(bytes + 8, voted_for);
    store_u32(bytes + 12, 0);
}

bool format_vote_decode(const uint8_t bytes[FORMAT_VOTE_SIZE], uint64_t *term, uint32_t *voted_for)
{
    if (load_u32(bytes + 12) != 0)
        return false;
    *term = load_u64(bytes);
    *voted_for = load_u32(bytes + 8);
    return true;
}
