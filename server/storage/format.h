/* The bytes of a segment file: its header block, and the frame before each record. Pure functions
 * over memory; the essay and the byte tables are in format.c. */
#pragma once

#include <stdint.h>

#include "server/storage/storage.h"

#define FORMAT_VERSION 1
#define FORMAT_GROUP 0
#define FORMAT_HEADER_SIZE STORAGE_BLOCK
#define FORMAT_FRAME_SIZE 64
#define FORMAT_VOTE_SIZE 16
/* A seal has no content: one block, for which room is always kept. */
#define FORMAT_SEAL_BYTES STORAGE_BLOCK
/* Header, one record and the seal: below that a segment is no segment. */
#define FORMAT_SEGMENT_BYTES_MIN (3 * STORAGE_BLOCK)

/* What the header block says. */
struct format_segment {
    uint64_t number; /* from 1; the file's name */
    uint64_t start;  /* position of the header block in the stream */
    uint64_t size;   /* of the file */
    uint64_t salt;   /* random: tells this life of the file from others */
    uint64_t incarnation;
    uint64_t cluster_hash;
    uint32_t node;
};

enum format_header {
    FORMAT_HEADER_GOOD,
    FORMAT_HEADER_NO_MAGIC,
    FORMAT_HEADER_BAD_SUM,
    FORMAT_HEADER_BAD_VERSION, /* `found` is the version */
    FORMAT_HEADER_BAD_GROUP,   /* `found` is the group */
    FORMAT_HEADER_BAD_SIZE,    /* `found` is the size */
};

void format_header_encode(const struct format_segment *segment, uint8_t block[STORAGE_BLOCK]);
/* `found` is set where the table above says so; `segment` only if the answer is GOOD. */
enum format_header format_header_decode(const uint8_t block[STORAGE_BLOCK],
                                        struct format_segment *segment, uint64_t *found);
uint64_t format_cluster_hash(const char *cluster);

enum format_type { FORMAT_ENTRY = 1, FORMAT_VOTE = 2, FORMAT_SEAL = 3 };

struct format_frame {
    uint16_t type; /* enum format_type, or unknown */
    uint16_t version;
    uint32_t group;
    uint32_t content_size;
    uint32_t content_sum; /* CRC32C; of an entry: the one that it carries itself */
    uint64_t position;    /* of this record in the stream */
    uint64_t durable;     /* all before this position was on stable storage when this was written */
};

enum format_place {
    FORMAT_PLACE_BLANK,   /* zeros: nothing was written here */
    FORMAT_PLACE_GARBAGE, /* not a frame */
    FORMAT_PLACE_FOREIGN, /* a whole frame, of another place or of another life of this file */
    FORMAT_PLACE_FRAME,   /* a frame that belongs here */
};

void format_frame_encode(const struct format_frame *frame, uint64_t salt,
                         uint8_t bytes[FORMAT_FRAME_SIZE]);
/* What stands at `bytes`, where a record at `position` of a segment with this salt would stand.
 * `frame` is set if the answer is FRAME. Looks at FORMAT_FRAME_SIZE bytes, no more. */
enum format_place format_frame_decode(const uint8_t *bytes, uint64_t salt, uint64_t position,
                                      struct format_frame *frame);

void format_vote_encode(uint64_t term, uint32_t voted_for, uint8_t bytes[FORMAT_VOTE_SIZE]);
/* False if reserved bytes are not 0. */
bool format_vote_decode(const uint8_t bytes[FORMAT_VOTE_SIZE], uint64_t *term, uint32_t *voted_for);

/* Bytes of the file that a record with this much content takes: frame, content, up to the boundary.
 * 64 bits wide, so that no content size can overflow it. */
static inline uint64_t format_record_bytes(uint64_t content_size)
{
    return (FORMAT_FRAME_SIZE + content_size + STORAGE_BLOCK - 1) / STORAGE_BLOCK * STORAGE_BLOCK;
}

/* The largest content of a record in a segment of this size. */
static inline uint64_t format_content_max(uint64_t segment_size)
{
    return segment_size - FORMAT_HEADER_SIZE - FORMAT_SEAL_BYTES - FORMAT_FRAME_SIZE;
}
