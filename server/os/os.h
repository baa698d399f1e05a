/* The system, as the server sees it: every system call that a node makes goes through here, and
 * nothing else in server/ makes one. There are two implementations, chosen at link time: os_linux.c,
 * and the simulated one of tests/sim/.
 *
 * Functions are shaped like the system calls below them. They return 0, a count or a descriptor, or
 * -errno. None blocks, except where it says so. No call is restarted after EINTR by the caller:
 * implementations do that. Times are nanoseconds of a clock that never goes back.
 *
 * Every function takes its `struct os *`: a hundred nodes may share one process. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct os; /* opaque; owned by main() or the simulator */

#define OS_HOST_MAX 254 /* with the final NUL */
#define OS_ADDRESS_SIZE 128

/* A socket address, as opaque bytes. */
struct os_address {
    uint32_t size;
    _Alignas(8) uint8_t bytes[OS_ADDRESS_SIZE];
};

/* -- Time and chance ---------------------------------------------------------------------------- */

uint64_t os_now_ns(struct os *os);  /* monotonic */
uint64_t os_wall_ms(struct os *os); /* since 1970; for log lines only: never decides anything */
void os_random(struct os *os, void *bytes, size_t size); /* unpredictable */

/* -- Waiting ------------------------------------------------------------------------------------ */

#define OS_READABLE 1u /* data, a connection, an expiry; or end of stream */
#define OS_WRITABLE 2u
#define OS_HANGUP 4u /* the peer has closed, at least its sending half, or an error is pending */

struct os_event {
    uint32_t events;
    void *data; /* as given to os_epoll_add */
};

/* Edge-triggered: an event comes once for each change. All three kinds are always watched. */
int os_epoll_create(struct os *os);
int os_epoll_add(struct os *os, int epoll_fd, int fd, void *data);
int os_epoll_remove(struct os *os, int epoll_fd, int fd);
/* Blocks until something is ready, if `block`; else only looks. */
int os_epoll_wait(struct os *os, int epoll_fd, struct os_event *events, int event_max, bool block);

/* A timer descriptor: readable once `at_ns` (0: never) of os_now_ns() has come. */
int os_timer_create(struct os *os);
int os_timer_set(struct os *os, int fd, uint64_t at_ns);
void os_timer_clear(struct os *os, int fd); /* after an expiry */

/* A descriptor that becomes readable when the process is asked to stop (SIGTERM, SIGINT), and is
 * drained by os_signal_take(): the signal's number, or 0 for none. SIGPIPE is ignored from then on. */
int os_signal_create(struct os *os);
int os_signal_take(struct os *os, int fd);

/* -- Network: non-blocking TCP ------------------------------------------------------------------- */

/* Look up `host` (a name or a numeric address). May block in the system's resolver for names that
 * are neither numeric nor in /etc/hosts. -ENOENT: no such host. */
int os_resolve(struct os *os, const char *host, uint16_t port, struct os_address *address);
/* "127.0.0.1:8000", "[::1]:8000"; for messages. */
void os_address_format(const struct os_address *address, char *text, size_t size);

int os_listen(struct os *os, const struct os_address *address, int backlog);
/* The next connection, or -EAGAIN; -EMFILE or -ENFILE when descriptors have run out. Nagle is off. */
int os_accept(struct os *os, int fd, struct os_address *from);
/* Starts to connect: the descriptor becomes writable or hung up when it is decided. */
int os_connect(struct os *os, const struct os_address *address);
int os_connect_result(struct os *os, int fd); /* 0, or why it failed */
/* 0: end of stream. -EAGAIN: nothing now. A count below `size` has taken all there was, and a count
 * below the parts' sum has filled the socket: both are followed by an event when that changes. */
ptrdiff_t os_recv(struct os *os, int fd, void *bytes, size_t size);
ptrdiff_t os_sendv(struct os *os, int fd, const struct iovec *parts, int part_count);
int os_close(struct os *os, int fd); /* sockets, files, everything */
/* How many descriptors this process may have open. */
int os_descriptor_limit(struct os *os);

/* -- Files --------------------------------------------------------------------------------------
 * Reads and buffered writes may block for as long as the system's page cache makes them. */

#define OS_READ 1u
#define OS_WRITE 2u
#define OS_CREATE 4u    /* if it is not there */
#define OS_EXCLUSIVE 8u /* with OS_CREATE: -EEXIST if it is there */

int os_open(struct os *os, const char *path, unsigned flags);
ptrdiff_t os_pread(struct os *os, int fd, void *bytes, size_t size, uint64_t offset);
ptrdiff_t os_pwritev(struct os *os, int fd, const struct iovec *parts, int part_count,
                     uint64_t offset);
int64_t os_file_size(struct os *os, int fd);
int os_truncate(struct os *os, int fd, uint64_t size);
int os_fdatasync(struct os *os, int fd); /* blocks until the disk has it */
int os_rename(struct os *os, const char *from, const char *to);
int os_unlink(struct os *os, const char *path);
int os_mkdir(struct os *os, const char *path);    /* parents must exist; -EEXIST */
int os_sync_dir(struct os *os, const char *path); /* names in it are durable; blocks */
/* Calls `visit` for each name in the directory but . and .., in no particular order. */
int os_list_dir(struct os *os, const char *path, void (*visit)(void *context, const char *name),
                void *context);
/* An exclusive lock on an open file, for as long as it stays open. -EWOULDBLOCK: another has it. */
int os_lock(struct os *os, int fd);

/* -- Flushes that do not block -------------------------------------------------------------------
 * One queue a node. A flush covers all bytes written to `fd` before it was started. */

#define OS_FLUSHES_MAX 8

struct os_flush {
    uint64_t ticket; /* as given to os_flush_start */
    int result;      /* 0, or -errno: final, never ask again */
};

/* Opens the queue; its descriptor is readable when flushes are done. -ENOSYS: not to be had here. */
int os_flush_open(struct os *os);
/* -EAGAIN with OS_FLUSHES_MAX under way. */
int os_flush_start(struct os *os, int queue_fd, int fd, uint64_t ticket);
/* Takes up to `flush_max` finished ones; returns how many. */
int os_flush_done(struct os *os, int queue_fd, struct os_flush *flushes, int flush_max);

/* -- Words -------------------------------------------------------------------------------------- */

/* One line for the log (stderr), whole or not at all: false if it would have blocked. */
bool os_log(struct os *os, const char *line, size_t size);

/* End the process at once with this exit code: what is not durable is lost, as by a power cut. */
_Noreturn void os_exit(struct os *os, int code);
