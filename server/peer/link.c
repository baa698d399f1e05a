#include "server/peer/link.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

static void on_ready(void *owner, uint32_t events)
{
    struct link *link = owner;

    if (events & (OS_READABLE | OS_HANGUP))
        link->readable = true;
    if (events & OS_HANGUP)
        link->ended = true;
    if (events & (OS_WRITABLE | OS_HANGUP)) {
        link->writable = true;
        link->clogged = false;
    }
}

struct link *link_new(struct os *os, struct reactor *reactor, int fd, enum link_state state,
                      uint64_t now_ns, int *code)
{
    struct link *link = calloc(1, sizeof *link);
    int result = link == NULL ? -ENOMEM : 0;

    if (link != NULL) {
        link->os = os;
        link->reactor = reactor;
        link->source = (struct reactor_source){
            .fd = fd, .phase = REACTOR_PEER, .on_ready = on_ready, .owner = link
        };
        link->state = state;
        link->read_bytes = LINK_READ_BYTES_MIN;
        link->opened_ns = link->heard_ns = link->said_ns = now_ns;
        result = reactor_add(reactor, &link->source);
    }
    if (result == 0)
        return link;
    free(link);
    (void)os_close(os, fd); /* nothing was said on it */
    *code = result;
    return NULL;
}

void link_free(struct link *link)
{
    if (link == NULL)
        return;
    reactor_remove(link->reactor, &link->source);
    (void)os_close(link->os, link->source.fd); /* a socket: nothing is lost that was not before */
    buffer_release(&link->output);
    buffer_release(&link->input);
    free(link);
}

/* A read that comes back with less than it asked for has emptied the socket, and the next bytes are
 * announced anew: it is not read again to hear so. Unless the other end has closed: its end of
 * stream was announced together with the bytes before it. */
ptrdiff_t link_receive(struct link *link, size_t size_max)
{
    assert(size_max > 0);
    size_t size = link->read_bytes < size_max ? link->read_bytes : size_max;
    if (!buffer_reserve(&link->input, size))
        return -ENOMEM;
    size_t room = buffer_room(&link->input);
    if (size < room)
        size = room < size_max ? room : size_max;

    ptrdiff_t count = os_recv(link->os, link->source.fd, buffer_end(&link->input), size);
    if (count == -EAGAIN)
        link->readable = false;
    if (count <= 0)
        return count == 0 ? -EPIPE : count == -EAGAIN ? 0 : count;

    buffer_added(&link->input, (size_t)count);
    if ((size_t)count < size)
        link->readable = link->ended;
    else if (link->read_bytes < LINK_READ_BYTES_MAX)
        link->read_bytes *= 2;
    return count;
}

size_t link_send(struct link *link)
{
    struct iovec part = { .iov_base = (void *)(uintptr_t)buffer_front(&link->output),
                          .iov_len = link->output.size };
    assert(part.iov_len > 0);

    ptrdiff_t count = os_sendv(link->os, link->source.fd, &part, 1);
    if (count < 0 && count != -EAGAIN)
        link->broken = (int)count;
    if (count < (ptrdiff_t)part.iov_len)
        link->clogged = true;
    if (count < 0)
        return 0;
    buffer_take(&link->output, (size_t)count);
    return (size_t)count;
}

void link_tidy(struct link *link)
{
    buffer_tidy(&link->input);
    buffer_tidy(&link->output);
    link->read_bytes = LINK_READ_BYTES_MIN;
}
