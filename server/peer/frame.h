/* Frames: what travels on a link between two nodes, as bytes. Pure functions over memory: no
 * socket, no clock, no memory of their own. Decoding believes nothing: whatever the bytes are, the
 * answer is a whole frame, "not yet", or a fault by name.
 *
 * A frame is a header, a body that depends on the type and, behind an append, its entries verbatim:
 *
 *     offset size  header
 *     0      4     magic: 89 'r' 'k' 'f' (no text begins so: a stray HTTP request is told at once)
 *     4      4     CRC32C of bytes 8..size
 *     8      4     size: header and body, in bytes; entries not included
 *     12     2     version of the frame: FRAME_VERSION
 *     14     2     type (enum frame_type)
 *     16     4     group: 0
 *     20     4     entries: bytes that follow the body; 0 for all but an append
 *     24     4     from: id of the sender
 *     28     4     to: id of the receiver
 *
 *     32           hello (1): opens a connection, once in each direction
 *     32     2     lowest protocol version that the sender speaks
 *     34     2     highest
 *     36     4     CRC32C of the ids of the sender's servers, ascending, 4 bytes each
 *     40     8     feature bits; unknown ones are to be ignored
 *     48     8     incarnation of the sender's data directory
 *     56     8     boot: drawn at random by each process at its start, never 0
 *     64     64    name of the cluster, padded with 0; the last byte is 0
 *     128
 *
 *     32           refusal (2): the last frame of a connection, and why it is the last
 *     32     2     reason (enum frame_reason)
 *     34     2     lowest protocol version that the sender speaks
 *     36     2     highest
 *     38     2     0
 *     40     64    name of the sender's cluster, as above
 *     104
 *
 *     32           alive (3): nothing to say, but still here
 *
 *     32           append (4)
 *     32     8     term
 *     40     16    prev: term, index
 *     56     8     commit index
 *     64     8     round
 *     72     4     count of entries, at most RAFT_APPEND_ENTRIES_MAX
 *     76     4     0
 *     80     4·n   size of each entry
 *     80+4·n …     the entries (entry.h), one behind the other
 *
 *     32           append reply (5)                       32           vote (6)
 *     32     8     term                                   32     8     term
 *     40     1     success                                40     16    last: term, index
 *     41     1     full: takes no entries now             56     1     pre-vote
 *     42     6     0                                      57     1     transfer
 *     48     8     round                                  58     6     0
 *     56     8     durable index                          64
 *     64     8     rejected index
 *     72     8     last index                             32           vote reply (7)
 *     80     16    conflict: term, index                  32     8     term
 *     96                                                  40     1     granted
 *                                                         41     1     pre-vote
 *     32           timeout now (8)                        42     6     0
 *     32     8     term                                   48
 *     40
 *
 * Numbers are little-endian, truths are 0 or 1. Every value has one encoding: what decodes, encodes
 * to the same bytes.
 *
 * What makes a frame whole. In this order, so that no length is believed before it is bounded, and
 * nothing is waited for that a checksum has not vouched for:
 *   1. the magic, as far as it has come;
 *   2. size and entries within their bounds (336 bytes, and what entry_bytes_max allows);
 *   3. header and body are there, and their checksum agrees;
 *   4. version, type, group, and each field of the body;
 *   5. the entries are there, and each one is whole by its own checksum, has the size that the body
 *      says, the index that follows from prev, a term and a clock that do not fall, and the chain
 *      of the entry before it. (Whether the first one fits our log is the node's question.)
 * The frame's checksum covers the sizes of the entries and not their bytes: those have a checksum
 * of their own, and 4 MiB are summed once.
 *
 * Versions. Hello and refusal keep this layout for ever, so that any two programs can at least tell
 * each other why they part. All other types follow the highest protocol version that both know. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "raft/raft.h"
#include "server/entry.h"

#define FRAME_VERSION 1
#define FRAME_GROUP 0
/* Protocol versions that this program speaks, and the feature bits that it has. */
#define FRAME_PROTOCOL_MIN 1
#define FRAME_PROTOCOL_MAX 1
#define FRAME_FEATURES 0u

#define FRAME_HEADER_SIZE 32
#define FRAME_HELLO_SIZE 128
#define FRAME_REFUSAL_SIZE 104
#define FRAME_APPEND_SIZE 80 /* without the sizes of its entries */
/* Header and body of the largest frame. */
#define FRAME_SIZE_MAX (FRAME_APPEND_SIZE + 4 * RAFT_APPEND_ENTRIES_MAX)
#define FRAME_CLUSTER_MAX 64 /* with the final NUL */
/* Entries behind one append, in bytes; a single entry that is larger still fits. */
#define FRAME_ENTRIES_BYTES_MAX (4u << 20)
/* Terms and indices: room to add to them without a thought. */
#define FRAME_NUMBER_MAX ((uint64_t)INT64_MAX)

enum frame_type {
    FRAME_HELLO = 1,
    FRAME_REFUSAL,
    FRAME_ALIVE,
    FRAME_APPEND,
    FRAME_APPEND_REPLY,
    FRAME_VOTE,
    FRAME_VOTE_REPLY,
    FRAME_TIMEOUT_NOW,
    FRAME_TYPE_END
};

/* Why a connection is refused. A newer program may send one that we do not know. */
enum frame_reason {
    FRAME_ACCEPTED,
    FRAME_WRONG_CLUSTER,
    FRAME_WRONG_GROUP,
    FRAME_WRONG_PROTOCOL, /* no protocol version in common */
    FRAME_SAME_ID,        /* the sender of the hello has our id */
    FRAME_UNKNOWN_NODE,   /* its id is not in our list */
    FRAME_WRONG_NODE,     /* it looks for another node, or another one answers */
    FRAME_WRONG_SIDE,     /* of a pair, the node of the lower id dials */
    FRAME_RIVAL,          /* another process of this id is alive */
    FRAME_WRONG_SERVERS,  /* its list of servers has other ids: it would count other majorities */
    FRAME_REASON_END
};

struct frame_hello {
    uint16_t protocol_min, protocol_max;
    uint32_t servers; /* handshake_servers() */
    uint64_t features;
    uint64_t incarnation;
    uint64_t boot;
    char cluster[FRAME_CLUSTER_MAX];
};

struct frame_refusal {
    uint16_t reason; /* enum frame_reason, or unknown */
    uint16_t protocol_min, protocol_max;
    char cluster[FRAME_CLUSTER_MAX];
};

struct frame {
    enum frame_type type;
    uint32_t group; /* not FRAME_GROUP in a hello only: the handshake answers that one */
    uint32_t from, to;
    size_t size; /* entries included */
    union {
        struct frame_hello hello;
        struct frame_refusal refusal;
        struct raft_message message; /* from FRAME_APPEND on; from and to filled in */
    };
};

enum frame_fault {
    FRAME_WHOLE,
    FRAME_CUT,           /* good as far as it goes: wait until there are frame->size bytes */
    FRAME_NOT_ONE,       /* other magic: not a frame at all */
    FRAME_TOO_LARGE,     /* a size beyond its bound, or below the header's */
    FRAME_BAD_SUM,       /* checksum of header and body */
    FRAME_BAD_VERSION,   /* unknown version of the frame */
    FRAME_BAD_TYPE,      /* unknown type */
    FRAME_BAD_FIELD,     /* a size, group, truth or reserved field out of range */
    FRAME_BAD_ENTRY,     /* an entry that is not whole, or not the one that should stand there */
    FRAME_ENTRY_VERSION, /* a whole entry, of a format that this program does not know */
    FRAME_FAULT_COUNT
};

/* Read the frame at the front of `bytes`. `entries` has room for RAFT_APPEND_ENTRIES_MAX: an append
 * fills in its own, borrowed from `bytes`. Unless the answer is FRAME_WHOLE, both are undefined,
 * but for frame->size of FRAME_CUT: more bytes than there are, and a bound that has been
 * checked. */
enum frame_fault frame_decode(const uint8_t *bytes, size_t size, uint32_t entry_bytes_max,
                              struct frame *frame, struct entry *entries);

/* A sentence for people: "its checksum does not match". */
const char *frame_fault_text(enum frame_fault fault);

/* Bytes of entries that one append may carry. */
size_t frame_entries_bytes_max(uint32_t entry_bytes_max);

/* Each writes one frame, at most FRAME_SIZE_MAX bytes, and returns its size. Behind an append the
 * caller puts the entries' bytes; their sizes and number are taken from `entries` and the
 * message. */
size_t frame_encode_hello(uint8_t *bytes, uint32_t from, uint32_t to,
                          const struct frame_hello *hello);
size_t frame_encode_refusal(uint8_t *bytes, uint32_t from, uint32_t to,
                            const struct frame_refusal *refusal);
size_t frame_encode_alive(uint8_t *bytes, uint32_t from, uint32_t to);
size_t frame_encode_message(uint8_t *bytes, const struct raft_message *message,
                            const struct entry *entries);
