#include "spawner/output.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define SAID_MAX 1024

/* A pipe is writable when it has room for PIPE_BUF bytes, so a line then goes in whole. */
static bool has_room(struct output *output)
{
    struct pollfd room = { .fd = output->fd, .events = POLLOUT };
    int ready = poll(&room, 1, output->is_stuck ? 0 : OUTPUT_PATIENCE_MS);

    output->is_stuck = ready <= 0;
    return !output->is_stuck;
}

/* Whether all of it is out. */
static bool put(struct output *output, const char *bytes, size_t size)
{
    while (size > 0) {
        if (!has_room(output))
            return false;
        ssize_t count = write(output->fd, bytes, size);
        if (count < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (count < 0) {
            output->is_gone = true;
            return false;
        }
        bytes += count;
        size -= (size_t)count;
    }
    return true;
}

static bool put_dropped(struct output *output)
{
    char line[128];
    int size = snprintf(line, sizeof line,
                        "[spawner] %" PRIu64 " lines were dropped: nobody read this output\n",
                        output->dropped);

    if (!put(output, line, (size_t)size))
        return false;
    output->dropped = 0;
    return true;
}

void output_line(struct output *output, const char *line, size_t size)
{
    if (output->is_gone)
        return;
    bool may_follow = output->dropped == 0 || put_dropped(output);
    if (!may_follow || !put(output, line, size))
        output->dropped++;
}

void output_say(struct output *output, const char *format, ...)
{
    char line[SAID_MAX] = "[spawner] ";
    size_t used = strlen(line);
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(line + used, sizeof line - 1 - used, format, arguments); /* cut if too long */
    va_end(arguments);
    used = strlen(line);
    line[used++] = '\n';
    output_line(output, line, used);
}
