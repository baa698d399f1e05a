#include "server/storage/identity.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/crc32c.h"
#include "server/storage/segment.h"

#define IDENTITY_TEXT_MAX 512
#define IDENTITY_TITLE "raftkv-identity "
#define IDENTITY_CHECKSUM "checksum "
#define IDENTITY_CHECKSUM_SIZE (sizeof IDENTITY_CHECKSUM - 1 + 8 + 1) /* the last line */

static int identity_path(const char *directory, const char *suffix, char path[SEGMENT_PATH_MAX],
                         struct error *error)
{
    if (snprintf(path, SEGMENT_PATH_MAX, "%s/identity%s", directory, suffix) < SEGMENT_PATH_MAX)
        return 0;
    return error_set(error, -ENAMETOOLONG, "the path '%.200s…' is too long", directory);
}

/* Take "<key><value>\n" from the front of the text. False if it begins otherwise. */
static bool take_line(const char **text, const char *key, char *value, size_t value_max)
{
    size_t key_size = strlen(key);
    if (strncmp(*text, key, key_size) != 0)
        return false;
    const char *begin = *text + key_size;
    const char *end = strchr(begin, '\n');
    if (end == NULL || end == begin || (size_t)(end - begin) >= value_max)
        return false;
    memcpy(value, begin, (size_t)(end - begin));
    value[end - begin] = '\0';
    *text = end + 1;
    return true;
}

/* All of `text` is a number in `base`. */
static bool to_number(const char *text, int base, uint64_t max, uint64_t *number)
{
    if (text[strspn(text, base == 16 ? "0123456789abcdef" : "0123456789")] != '\0')
        return false;
    errno = 0;
    unsigned long long value = strtoull(text, NULL, base);
    if (errno != 0 || value > max)
        return false;
    *number = value;
    return true;
}

static bool checksum_fits(const char *text, size_t size)
{
    if (size <= IDENTITY_CHECKSUM_SIZE)
        return false;
    char last[IDENTITY_CHECKSUM_SIZE + 1];
    size_t summed = size - IDENTITY_CHECKSUM_SIZE;
    (void)snprintf(last, sizeof last, IDENTITY_CHECKSUM "%08" PRIx32 "\n", crc32c(0, text, summed));
    return memcmp(text + summed, last, IDENTITY_CHECKSUM_SIZE) == 0;
}

static bool parse_fields(const char *text, struct identity *identity, uint64_t *group)
{
    char value[IDENTITY_TEXT_MAX];
    uint64_t node;
    struct identity parsed = { 0 };
    if (!take_line(&text, "group ", value, sizeof value) ||
        !to_number(value, 10, UINT32_MAX, group) ||
        !take_line(&text, "cluster ", parsed.cluster, sizeof parsed.cluster) ||
        !take_line(&text, "node ", value, sizeof value) ||
        !to_number(value, 10, UINT32_MAX, &node) ||
        !take_line(&text, "incarnation ", value, sizeof value) ||
        !to_number(value, 16, UINT64_MAX, &parsed.incarnation) ||
        strlen(text) != IDENTITY_CHECKSUM_SIZE)
        return false;
    parsed.node = (uint32_t)node;
    *identity = parsed;
    return true;
}

static int identity_parse(const char *path, const char *text, size_t size,
                          struct identity *identity, struct error *error)
{
    if (memchr(text, '\0', size) != NULL || !checksum_fits(text, size))
        return error_set(error, -EBADMSG,
                         "'%s' is damaged: its checksum does not fit. It says whose directory this "
                         "is; without it the log in there must not be used. Bring the file back "
                         "from a copy, or move the directory away and replace this node",
                         path);
    char version[IDENTITY_TEXT_MAX];
    if (!take_line(&text, IDENTITY_TITLE, version, sizeof version))
        return error_set(error, -EBADMSG, "'%s' is not a raftkv identity file", path);
    if (strcmp(version, "1") != 0)
        return error_set(error, -EPROTONOSUPPORT,
                         "'%s' has format version %s, and this program knows version %d: start the "
                         "program that made the directory, or a newer one",
                         path, version, IDENTITY_VERSION);
    uint64_t group;
    if (!parse_fields(text, identity, &group))
        return error_set(error, -EBADMSG,
                         "'%s' has a line that format version %d does not have: start the program "
                         "that made the directory",
                         path, IDENTITY_VERSION);
    if (group != IDENTITY_GROUP)
        return error_set(error, -EPROTONOSUPPORT,
                         "'%s' belongs to group %" PRIu64
                         ", and this program knows group %d: start "
                         "the program that made the directory, or a newer one",
                         path, group, IDENTITY_GROUP);
    return 0;
}

int identity_read(struct os *os, const char *directory, struct identity *identity,
                  struct error *error)
{
    char path[SEGMENT_PATH_MAX];
    int code = identity_path(directory, "", path, error);
    if (code < 0)
        return code;
    int fd = os_open(os, path, OS_READ);
    if (fd == -ENOENT)
        return fd;
    if (fd < 0)
        return error_set_errno(error, fd, "cannot open '%s'", path);
    char text[IDENTITY_TEXT_MAX + 1];
    ptrdiff_t size = segment_read(os, fd, text, IDENTITY_TEXT_MAX, 0);
    (void)os_close(os, fd);
    if (size < 0)
        return error_set_errno(error, (int)size, "cannot read '%s'", path);
    text[size] = '\0';
    return identity_parse(path, text, (size_t)size, identity, error);
}

static int write_file(struct os *os, const char *path, const char *text, size_t size)
{
    int fd = os_open(os, path, OS_READ | OS_WRITE | OS_CREATE);
    if (fd < 0)
        return fd;
    struct iovec part = { .iov_base = (void *)(uintptr_t)text, .iov_len = size };
    int code = os_truncate(os, fd, 0);
    if (code == 0)
        code = segment_write(os, fd, &part, 1, 0);
    if (code == 0)
        code = os_fdatasync(os, fd);
    int close_code = os_close(os, fd);
    return code < 0 ? code : close_code;
}

int identity_write(struct os *os, const char *directory, const struct identity *identity,
                   struct error *error)
{
    assert(strlen(identity->cluster) > 0);
    char text[IDENTITY_TEXT_MAX];
    int size = snprintf(
        text, sizeof text,
        IDENTITY_TITLE "%d\ngroup %d\ncluster %s\nnode %" PRIu32 "\nincarnation %016" PRIx64 "\n",
        IDENTITY_VERSION, IDENTITY_GROUP, identity->cluster, identity->node, identity->incarnation);
    size += snprintf(text + size, sizeof text - (size_t)size, IDENTITY_CHECKSUM "%08" PRIx32 "\n",
                     crc32c(0, text, (size_t)size));

    char path[SEGMENT_PATH_MAX], temporary[SEGMENT_PATH_MAX];
    int code = identity_path(directory, "", path, error);
    if (code == 0)
        code = identity_path(directory, ".new", temporary, error);
    if (code < 0)
        return code;
    code = write_file(os, temporary, text, (size_t)size);
    if (code == 0)
        code = os_rename(os, temporary, path);
    return code < 0 ? error_set_errno(error, code, "cannot write '%s'", path) : 0;
}
