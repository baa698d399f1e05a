/* Entries: from memory if they are there, else read back from the file and checked again.
 *
 * One read fetches one record, unless the entry before it was the last one asked for: then somebody
 * is working through the log, and a larger piece is read. Blocks below the written position never
 * change, so a piece stays true until another takes its place. */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "server/storage/log.h"

#define READER_AHEAD_BYTES (512 * 1024)

void reader_init(struct reader *reader)
{
    *reader = (struct reader){ .spare_fd = -1 };
}

void reader_release(struct reader *reader, struct os *os)
{
    for (size_t i = 0; i < sizeof reader->open / sizeof reader->open[0]; i++)
        if (reader->open[i].number != 0)
            (void)os_close(os, reader->open[i].fd); /* was only read from */
    if (reader->spare_fd >= 0)
        (void)os_close(os, reader->spare_fd);
    free(reader->bytes);
    free(reader->gathered);
    reader_init(reader);
}

int reader_hold_spare(struct reader *reader, struct os *os, const char *path)
{
    int fd = os_open(os, path, OS_READ);
    if (fd < 0)
        return fd;
    reader->spare_fd = fd;
    return 0;
}

/* Give one of ours back to the system, to open another file with; false if we have none. */
static bool give_one_back(struct reader *reader, struct os *os)
{
    if (reader->spare_fd >= 0) {
        (void)os_close(os, reader->spare_fd);
        reader->spare_fd = -1;
        return true;
    }
    for (size_t i = 0; i < sizeof reader->open / sizeof reader->open[0]; i++) {
        if (reader->open[i].number == 0)
            continue;
        (void)os_close(os, reader->open[i].fd);
        reader->open[i].number = 0;
        return true;
    }
    return false;
}

/* A descriptor to read `segment` with. Those the log has closed are opened again, a few at a time. */
static int descriptor_of(struct storage *storage, const struct segment *segment)
{
    if (segment->fd >= 0)
        return segment->fd;
    struct reader *reader = &storage->reader;
    const uint32_t open_max = sizeof reader->open / sizeof reader->open[0];
    for (uint32_t i = 0; i < open_max; i++)
        if (reader->open[i].number == segment->number)
            return reader->open[i].fd;
    char path[SEGMENT_PATH_MAX];
    int fd = segment_path(storage->log_path, segment->number, SEGMENT_SUFFIX, path);
    if (fd == 0)
        fd = os_open(storage->os, path, OS_READ);
    while ((fd == -EMFILE || fd == -ENFILE) && give_one_back(reader, storage->os))
        fd = os_open(storage->os, path, OS_READ);
    if (fd < 0)
        return fd;
    uint32_t taken = reader->next_open++ % open_max;
    if (reader->open[taken].number != 0)
        (void)os_close(storage->os, reader->open[taken].fd);
    reader->open[taken].number = segment->number;
    reader->open[taken].fd = fd;
    return fd;
}

/* Have [position, position + size) in the reader; as much as `ahead` behind it may come along. */
static int fetch(struct storage *storage, const struct segment *segment, uint64_t position,
                 uint64_t size, uint64_t ahead)
{
    struct reader *reader = &storage->reader;
    if (position >= reader->from && position + size <= reader->to)
        return 0;
    /* Not beyond what is written: what comes there later would be missing from the piece. */
    uint64_t end = segment->written;
    if (position + size > end)
        return -EBADMSG;
    if (end - position > (size > ahead ? size : ahead))
        end = position + (size > ahead ? size : ahead);
    if (end - position > reader->capacity) {
        uint8_t *bytes = realloc(reader->bytes, (size_t)(end - position));
        if (bytes == NULL)
            return -ENOMEM;
        reader->bytes = bytes;
        reader->capacity = (size_t)(end - position);
    }
    reader->from = reader->to = 0;
    int fd = descriptor_of(storage, segment);
    if (fd < 0)
        return fd;
    ptrdiff_t count = segment_read(storage->os, fd, reader->bytes, (size_t)(end - position),
                                   position - segment->start);
    if (count < 0)
        return (int)count;
    if ((uint64_t)count < size)
        return -EBADMSG;
    reader->from = position;
    reader->to = position + (uint64_t)count;
    return 0;
}

/* Whether the record at `bytes` is the entry at `index`, unharmed. */
static bool is_the_entry(const struct storage *storage, const struct segment *segment,
                         uint64_t index, const uint8_t *bytes, struct entry *entry)
{
    const struct position_item *item = positions_get(&storage->positions, index);
    struct format_frame frame;
    uint32_t size = storage_size(storage, index);
    struct entry parsed;
    if (format_frame_decode(bytes, segment->salt, item->position, &frame) != FORMAT_PLACE_FRAME ||
        frame.type != FORMAT_ENTRY || frame.content_size != size)
        return false;
    if (entry_parse(bytes + FORMAT_FRAME_SIZE, size, &parsed) != ENTRY_GOOD ||
        parsed.size != size || parsed.index != index || parsed.chain != item->chain)
        return false;
    *entry = parsed;
    return true;
}

static int read_entry(struct storage *storage, uint64_t index, struct entry *entry,
                      struct error *error)
{
    const struct position_item *item = positions_get(&storage->positions, index);
    const struct segment *segment =
        &storage->segments.items[segment_list_find(&storage->segments, item->position)];
    uint64_t size = FORMAT_FRAME_SIZE + (uint64_t)storage_size(storage, index);
    uint64_t ahead = index == storage->reader.last_index + 1 ? READER_AHEAD_BYTES : 0;

    char path[SEGMENT_PATH_MAX];
    int code = segment_path(storage->log_path, segment->number, SEGMENT_SUFFIX, path);
    if (code == 0)
        code = fetch(storage, segment, item->position, size, ahead);
    if (code < 0 && code != -EBADMSG)
        return error_set_errno(error, code,
                               "cannot read entry %" PRIu64 " from '%s' offset %" PRIu64, index,
                               path, item->position - segment->start);
    if (code < 0 ||
        !is_the_entry(storage, segment, index,
                      storage->reader.bytes + (item->position - storage->reader.from), entry))
        return error_set(error, -EBADMSG,
                         "'%s' offset %" PRIu64 ": entry %" PRIu64
                         " was written here, and other bytes came back: the disk or somebody has "
                         "changed them",
                         path, item->position - segment->start, index);
    storage->reader.last_index = index;
    return 0;
}

int storage_entry(struct storage *storage, uint64_t index, struct entry *entry, struct error *error)
{
    assert(index >= 1);
    assert(index <= storage->positions.last);

    uint64_t base = positions_bytes_end(&storage->positions, index - 1);
    const uint8_t *bytes = cache_find(&storage->cache, index, base);
    if (bytes == NULL)
        return read_entry(storage, index, entry, error);
    if (entry_parse(bytes, storage_size(storage, index), entry) != ENTRY_GOOD)
        return error_set(error, -EBADMSG, "entry %" PRIu64 " has changed in this process's memory",
                         index);
    return 0;
}

/* Move an entry that stands in the reader, which the next read may overwrite, behind those that were
 * gathered before it. */
static int gather(struct reader *reader, size_t *gathered, struct entry *entry)
{
    if (*gathered + entry->size > reader->gathered_capacity)
        return -ENOMEM;
    uint8_t *bytes = reader->gathered + *gathered;
    memcpy(bytes, entry->bytes, entry->size);
    entry->bytes = bytes;
    entry->payload = bytes + ENTRY_HEADER_SIZE;
    *gathered += entry->size;
    return 0;
}

static int reserve_gathered(struct reader *reader, uint64_t size)
{
    if (size <= reader->gathered_capacity)
        return 0;
    uint8_t *bytes = realloc(reader->gathered, (size_t)size);
    if (bytes == NULL)
        return -ENOMEM;
    reader->gathered = bytes;
    reader->gathered_capacity = (size_t)size;
    return 0;
}

int storage_entries(struct storage *storage, uint64_t first, uint32_t count, struct entry *entries,
                    struct error *error)
{
    struct reader *reader = &storage->reader;
    size_t gathered = 0;

    for (uint32_t i = 0; i < count; i++) {
        uint64_t base = positions_bytes_end(&storage->positions, first + i - 1);
        bool is_cached = cache_find(&storage->cache, first + i, base) != NULL;
        int code = storage_entry(storage, first + i, &entries[i], error);
        if (code < 0)
            return code;
        if (is_cached || count == 1)
            continue;
        /* What is not in memory is older than what is: the first one decides for all. */
        if (gathered == 0)
            code = reserve_gathered(reader, storage_span(storage, first, first + count - 1));
        if (code == 0)
            code = gather(reader, &gathered, &entries[i]);
        if (code < 0)
            return error_set_errno(error, code, "cannot gather entries %" PRIu64 " to %" PRIu64,
                                   first, first + count - 1);
    }
    return 0;
}
