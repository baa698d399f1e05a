/* Recovery: read the stream from its beginning, and find its end.
 *
 * The first place that does not hold a good record ends the log. Which end is it?
 *
 *   - After a crash, writes that no flush had covered are there or not there, in any combination:
 *     whole blocks, single sectors, the later without the earlier. What was acknowledged is there.
 *     Such an end is torn: what stands behind it was promised to nobody, and is cut off.
 *   - If something acknowledged stood at that place, the disk has lost it. Cutting there would make
 *     this node forget what it has promised; another leader could then be elected without it.
 *
 * What tells the two apart has to be a fact that survives any crash. Not the existence of a later
 * record: with two flushes under way, it may have come to the disk before the earlier one. Not the
 * existence of a later segment: segments are prepared ahead. It is the field `durable` of a frame:
 * every record says up to where the log was on stable storage when it was written. One frame that
 * belongs where it stands proves it for ever, whether its content came to the disk or not, and
 * whether what lies between is readable or not. So from the bad place on every block is looked at,
 * in all segments. One more proof is a seal: it is written after its successor has become durable.
 *
 * Nothing proves the records of the last flush, since nothing was written behind them. Bit rot
 * there looks like a torn write and is cut off: the price of not writing a second time.
 *
 * Then the tail is made safe, before anything is appended:
 *
 *   1. What is left behind the end is overwritten with zeros. Otherwise a new record of the right
 *      length could be followed by an old one, with the right salt at the right position: it would
 *      count as a part of the log, and its `durable` as a proof. A crash half-way does no harm: the
 *      place at the end is as bad as before, and the next start goes on.
 *   2. The records that no frame proves durable are written again, byte for byte, and flushed.
 *      They were read from the system's cache: after a failed flush and a restart of the process
 *      alone, the pages may be marked clean and yet not be on the disk; a flush alone would then
 *      promise what it does not do. It is the one time that a record's block is written twice.
 *   3. The directory is flushed: a segment may have got its name just before the crash.
 *
 * Whatever is intact and still cannot be accepted (an entry of a kind or a version that is newer
 * than this program, an index that skips one, a chain that does not fit) is refused by name. */
#include "server/storage/recover.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "server/endian.h"
#include "server/storage/scan.h"

/* -- The cases ---------------------------------------------------------------------------------- */

#define PLACE(place) (1u << (place))
enum { NO = 1, YES = 2, ANY = NO | YES };

/* clang-format off */
const struct recover_case recover_cases[] = {
    /*                              place                       left-           verdict
     *                                                          overs   proven                   */
    { "end of the log",             PLACE(RECOVER_BLANK),       NO,     NO,     RECOVER_END     },
    { "a write lost",               PLACE(RECOVER_BLANK),       YES,    NO,     RECOVER_TORN    },
    { "a frame torn",               PLACE(RECOVER_GARBAGE),     YES,    NO,     RECOVER_TORN    },
    { "a frame out of place",       PLACE(RECOVER_FOREIGN),     YES,    NO,     RECOVER_TORN    },
    { "a content torn",             PLACE(RECOVER_HALF),        YES,    NO,     RECOVER_TORN    },
    { "a durable record zeroed",    PLACE(RECOVER_BLANK),       YES,    YES,    RECOVER_DAMAGED },
    { "a durable frame changed",    PLACE(RECOVER_GARBAGE),     YES,    YES,    RECOVER_DAMAGED },
    { "a durable frame replaced",   PLACE(RECOVER_FOREIGN),     YES,    YES,    RECOVER_DAMAGED },
    { "a durable content changed",  PLACE(RECOVER_HALF),        YES,    YES,    RECOVER_DAMAGED },
    { "a segment lost",             PLACE(RECOVER_NO_SEGMENT),  NO,     ANY,    RECOVER_DAMAGED },
    /* A frame that proves something stands behind what it proves. */
    { "a proof in zeros",           PLACE(RECOVER_BLANK),       NO,     YES,    RECOVER_NEVER   },
    /* What is not blank is left over itself; and where there is no file, nothing is. */
    { "something in zeros",         PLACE(RECOVER_GARBAGE) | PLACE(RECOVER_FOREIGN) |
                                    PLACE(RECOVER_HALF),        NO,     ANY,    RECOVER_NEVER   },
    { "leftovers without a file",   PLACE(RECOVER_NO_SEGMENT),  YES,    ANY,    RECOVER_NEVER   },
};
/* clang-format on */
const int recover_case_count = sizeof recover_cases / sizeof recover_cases[0];

bool recover_case_matches(const struct recover_case *row, const struct recover_facts *facts)
{
    return (row->places & PLACE(facts->place)) != 0 &&
           (row->leftovers & (facts->has_leftovers ? YES : NO)) != 0 &&
           (row->proven & (facts->is_proven ? YES : NO)) != 0;
}

const struct recover_case *recover_case_of(const struct recover_facts *facts)
{
    for (int i = 0; i < recover_case_count; i++)
        if (recover_case_matches(&recover_cases[i], facts))
            return &recover_cases[i];
    abort(); /* a combination without a case: the test walks them all */
}

static const char *const place_words[RECOVER_PLACE_COUNT] = {
    [RECOVER_BLANK] = "zeros where a record should begin",
    [RECOVER_GARBAGE] = "bytes that are not the beginning of a record",
    [RECOVER_FOREIGN] = "a record of another place, or of an earlier life of the file",
    [RECOVER_HALF] = "a record whose content does not fit its checksum",
    [RECOVER_NO_SEGMENT] = "the segment is sealed, and the next one is missing",
};

/* -- What lies behind the end ------------------------------------------------------------------- */

struct leftovers {
    uint64_t bytes;      /* in blocks that are not zero */
    uint64_t next_index; /* of the first entry that can still be read there; 0: none */
};

static void look_at_block(struct scan *scan, const struct segment *segment, uint64_t offset,
                          const uint8_t *block, struct leftovers *leftovers)
{
    leftovers->bytes += STORAGE_BLOCK;
    struct format_frame frame;
    if (format_frame_decode(block, segment->salt, segment->start + offset, &frame) !=
            FORMAT_PLACE_FRAME ||
        frame.version != FORMAT_VERSION)
        return;
    scan_note_proof(scan, &frame);
    const uint8_t *content = block + FORMAT_FRAME_SIZE;
    bool is_entry = frame.type == FORMAT_ENTRY && load_u32(content) == frame.content_sum;
    if (is_entry && offset != scan->offset && leftovers->next_index == 0)
        leftovers->next_index = load_u64(content + 24);
}

static int look_behind(struct scan *scan, struct leftovers *leftovers)
{
    for (uint32_t slot = scan->slot; slot < scan->storage->segments.count; slot++) {
        const struct segment *segment = scan_segment(scan, slot);
        for (uint64_t offset = scan_end_of_records(scan, slot); offset < segment->size;
             offset += STORAGE_BLOCK) {
            const uint8_t *block;
            int code = scan_window(scan, slot, offset, STORAGE_BLOCK, &block);
            if (code < 0)
                return code;
            if (!scan_is_zero(block))
                look_at_block(scan, segment, offset, block, leftovers);
        }
    }
    return 0;
}

static int refuse_damage(const struct scan *scan, enum recover_place place,
                         const struct leftovers *leftovers)
{
    const struct segment_list *segments = &scan->storage->segments;
    uint64_t last = scan->storage->positions.last;
    char path[SEGMENT_PATH_MAX], lost[64], proof[128] = "";
    if (leftovers->next_index > last + 1)
        (void)snprintf(lost, sizeof lost, "entries %" PRIu64 " to %" PRIu64, last + 1,
                       leftovers->next_index - 1);
    else
        (void)snprintf(lost, sizeof lost, "what came after entry %" PRIu64, last);
    if (place != RECOVER_NO_SEGMENT) {
        const struct segment *segment =
            &segments->items[segment_list_find(segments, scan->proof_position)];
        (void)snprintf(proof, sizeof proof,
                       " (proof: the record in segment %016" PRIx64 " offset %" PRIu64
                       ", written when this was durable)",
                       segment->number, scan->proof_position - segment->start);
    }
    return error_set(scan->error, -EBADMSG,
                     "'%s' offset %" PRIu64 ": %s. This is no torn write: acknowledged data stood "
                     "there, and is lost: %s%s. This node must not vote or serve without it. Do "
                     "not cut the file: keep the directory, and replace this node; the other nodes "
                     "hold the entries",
                     scan_path(scan, scan->slot, path), scan->offset, place_words[place], lost,
                     proof);
}

/* -- All together ------------------------------------------------------------------------------- */

static int find_end(struct scan *scan)
{
    struct recover_facts facts = { 0 };
    struct leftovers leftovers = { 0 };
    int code;
    do
        code = scan_record(scan, &facts.place);
    while (code > 0);
    if (code == 0 && facts.place != RECOVER_NO_SEGMENT)
        code = look_behind(scan, &leftovers);
    if (code < 0)
        return code;
    facts.has_leftovers = leftovers.bytes > 0;
    facts.is_proven = scan->proven > scan_segment(scan, scan->slot)->start + scan->offset;

    const struct recover_case *row = recover_case_of(&facts);
    assert(row->verdict != RECOVER_NEVER);
    if (row->verdict == RECOVER_DAMAGED)
        return refuse_damage(scan, facts.place, &leftovers);
    if (row->verdict == RECOVER_TORN) {
        char path[SEGMENT_PATH_MAX];
        scan->recovered->torn_bytes = leftovers.bytes;
        (void)snprintf(scan->recovered->torn_at, sizeof scan->recovered->torn_at,
                       "%.800s offset %" PRIu64 ": %s", scan_path(scan, scan->slot, path),
                       scan->offset, place_words[facts.place]);
    }
    return 0;
}

/* Tell the open storage where the log goes on. */
static void hand_over(const struct scan *scan)
{
    struct storage *storage = scan->storage;
    storage->current = scan->slot;
    storage->flush_slot = scan->slot;
    storage->open_slot = scan->slot;
    storage->position = scan_segment(scan, scan->slot)->start + scan->offset;
    storage->durable = storage->position;
    for (uint32_t slot = 0; slot < storage->segments.count; slot++)
        scan_segment(scan, slot)->flushing = scan_segment(scan, slot)->written;
    assert(scan_segment(scan, scan->slot)->written == storage->position);
}

int recover_log(struct storage *storage, struct storage_recovered *recovered, struct error *error)
{
    struct scan scan = {
        .storage = storage,
        .recovered = recovered,
        .error = error,
        .offset = FORMAT_HEADER_SIZE,
    };
    recovered->first_index = 1;
    recovered->voted_for = UINT32_MAX;
    int code = scan_load_segments(&scan);
    if (code == 0)
        code = find_end(&scan);
    if (code == 0)
        code = scan_repair(&scan);
    free(scan.bytes);
    if (code < 0)
        return code;
    recovered->last_index = storage->positions.last;
    recovered->segment_count = storage->segments.count;
    hand_over(&scan);
    return 0;
}
