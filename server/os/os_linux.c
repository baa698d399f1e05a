/* The real system. Each function is one system call, or the few that make one idea; anything longer
 * belongs above this seam.
 *
 * Three choices are worth knowing:
 *
 * - Readiness is edge-triggered and a descriptor is watched for everything from the start, so the
 *   steady state makes no epoll_ctl call.
 * - A flush is Linux AIO's FDSYNC with an eventfd: submitting costs about 4 µs and the kernel waits
 *   for the disk on a thread of its own. The iocb is copied by the kernel at submission, so nothing
 *   has to outlive os_flush_start().
 * - A log line is given up rather than waited for: whoever reads our stderr must not be able to stop
 *   a cluster by not reading. */
#include "server/os/os_linux.h"

#include <arpa/inet.h>
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libaio.h>
#include <limits.h>
#include <malloc.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define EVENTS_MAX 512 /* of one epoll_wait; the rest comes with the next one */
#define FILE_MODE 0640
#define DIR_MODE 0750

struct os {
    bool log_is_pipe;
    int flush_fd; /* the eventfd, -1 while the queue is closed */
    io_context_t flush_context;
    int flushes_in_flight;
};

_Static_assert(sizeof(struct sockaddr_storage) <= OS_ADDRESS_SIZE, "every address fits");
_Static_assert(sizeof(void *) == sizeof(uint64_t), "a flush's ticket travels as a pointer");

/* Repeat `call` while a signal interrupts it. */
#define RETRY(call) \
    __extension__({ \
        __typeof__(call) result_; \
        do \
            result_ = (call); \
        while (result_ < 0 && errno == EINTR); \
        result_; \
    })

static int code_of(int result)
{
    return result < 0 ? -errno : result;
}

static int close_with(int fd, int code)
{
    close(fd);
    return code;
}

struct os *os_linux_new(void)
{
    struct os *os = calloc(1, sizeof(*os));
    if (os == NULL)
        return NULL;
    os->flush_fd = -1;

#ifdef M_MMAP_THRESHOLD
    /* Fixed, or each large block that is given back raises it, and the memory of a burst of large
     * replies stays with the process. */
    (void)mallopt(M_MMAP_THRESHOLD, 256 * 1024);
#endif

    struct stat status;
    os->log_is_pipe = fstat(STDERR_FILENO, &status) == 0 && S_ISFIFO(status.st_mode);

    /* The soft limit protects programs that use select(), which we do not. */
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit); /* what it is in the end is asked for later */
    }
    return os;
}

void os_linux_free(struct os *os)
{
    if (os != NULL && os->flush_fd >= 0)
        (void)os_close(os, os->flush_fd);
    free(os);
}

/* -- Time and chance ---------------------------------------------------------------------------- */

uint64_t os_now_ns(struct os *os)
{
    (void)os;
    struct timespec now;
    int result = clock_gettime(CLOCK_MONOTONIC, &now);
    assert(result == 0);
    (void)result;
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t os_wall_ms(struct os *os)
{
    (void)os;
    struct timespec now;
    int result = clock_gettime(CLOCK_REALTIME, &now);
    assert(result == 0);
    (void)result;
    return (uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u;
}

void os_random(struct os *os, void *bytes, size_t size)
{
    (void)os;
    uint8_t *at = bytes;
    while (size > 0) {
        ssize_t count = RETRY(getrandom(at, size, 0));
        assert(count > 0); /* the kernel has had it since 3.17 and it cannot fail otherwise */
        at += count;
        size -= (size_t)count;
    }
}

/* -- Waiting ------------------------------------------------------------------------------------ */

int os_epoll_create(struct os *os)
{
    (void)os;
    return code_of(epoll_create1(EPOLL_CLOEXEC));
}

int os_epoll_add(struct os *os, int epoll_fd, int fd, void *data)
{
    (void)os;
    struct epoll_event event = {
        .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
        .data = { .ptr = data },
    };
    return code_of(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event));
}

int os_epoll_remove(struct os *os, int epoll_fd, int fd)
{
    (void)os;
    return code_of(epoll_ctl(epoll_fd, EPOLL_CTL_DEL, fd, NULL));
}

static uint32_t events_of(uint32_t epoll_events)
{
    uint32_t events = 0;
    if (epoll_events & EPOLLIN)
        events |= OS_READABLE;
    if (epoll_events & EPOLLOUT)
        events |= OS_WRITABLE;
    if (epoll_events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        events |= OS_HANGUP;
    return events;
}

int os_epoll_wait(struct os *os, int epoll_fd, struct os_event *events, int event_max, bool block)
{
    (void)os;
    struct epoll_event ready[EVENTS_MAX];
    int max = event_max < EVENTS_MAX ? event_max : EVENTS_MAX;
    int count = RETRY(epoll_wait(epoll_fd, ready, max, block ? -1 : 0));
    if (count < 0)
        return -errno;
    for (int i = 0; i < count; i++)
        events[i] = (struct os_event){ events_of(ready[i].events), ready[i].data.ptr };
    return count;
}

int os_timer_create(struct os *os)
{
    (void)os;
    return code_of(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC));
}

int os_timer_set(struct os *os, int fd, uint64_t at_ns)
{
    (void)os;
    struct itimerspec setting = {
        .it_value = { .tv_sec = (time_t)(at_ns / 1000000000u),
                      .tv_nsec = (long)(at_ns % 1000000000u) },
    };
    return code_of(timerfd_settime(fd, TFD_TIMER_ABSTIME, &setting, NULL));
}

void os_timer_clear(struct os *os, int fd)
{
    (void)os;
    uint64_t expiries;
    ssize_t size = RETRY(read(fd, &expiries, sizeof(expiries)));
    (void)size; /* EAGAIN: it was set anew in the meantime, which clears it too */
}

int os_signal_create(struct os *os)
{
    (void)os;
    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN); /* a terminal that closes does not stop a server */
    sigset_t stop;
    sigemptyset(&stop);
    sigaddset(&stop, SIGTERM);
    sigaddset(&stop, SIGINT);
    if (sigprocmask(SIG_BLOCK, &stop, NULL) < 0)
        return -errno;
    return code_of(signalfd(-1, &stop, SFD_NONBLOCK | SFD_CLOEXEC));
}

int os_signal_take(struct os *os, int fd)
{
    (void)os;
    struct signalfd_siginfo taken[2]; /* SIGTERM and SIGINT: each can be pending once */
    ssize_t size = RETRY(read(fd, taken, sizeof(taken)));
    return size >= (ssize_t)sizeof(taken[0]) ? (int)taken[0].ssi_signo : 0;
}

/* -- Network ------------------------------------------------------------------------------------- */

static int code_of_resolver(int result)
{
    switch (result) {
    case 0:
        return 0;
    case EAI_NONAME:
    case EAI_NODATA:
    case EAI_ADDRFAMILY:
        return -ENOENT;
    case EAI_AGAIN:
        return -EAGAIN;
    case EAI_MEMORY:
        return -ENOMEM;
    case EAI_SYSTEM:
        return -errno;
    default:
        return -EIO;
    }
}

/* The first IPv4 address if the name has one: 'localhost' then means 127.0.0.1 everywhere, which is
 * what those expect who write that number elsewhere. */
int os_resolve(struct os *os, const char *host, uint16_t port, struct os_address *address)
{
    (void)os;
    char service[8];
    snprintf(service, sizeof(service), "%u", (unsigned)port);
    struct addrinfo hints = { .ai_family = AF_UNSPEC,
                              .ai_socktype = SOCK_STREAM,
                              .ai_flags = AI_NUMERICSERV };
    struct addrinfo *found = NULL;
    int code = code_of_resolver(getaddrinfo(host, service, &hints, &found));
    if (code != 0)
        return code;

    assert(found != NULL); /* the resolver's word, when it says that it has found some */
    const struct addrinfo *chosen = found;
    while (chosen != NULL && chosen->ai_family != AF_INET)
        chosen = chosen->ai_next;
    if (chosen == NULL)
        chosen = found;
    *address = (struct os_address){ .size = (uint32_t)chosen->ai_addrlen };
    memcpy(address->bytes, chosen->ai_addr, chosen->ai_addrlen);
    freeaddrinfo(found);
    return 0;
}

static int family_of(const struct os_address *address)
{
    struct sockaddr header;
    memcpy(&header, address->bytes, sizeof(header));
    return address->size == 0 ? AF_UNSPEC : header.sa_family;
}

void os_address_format(const struct os_address *address, char *text, size_t size)
{
    char host[INET6_ADDRSTRLEN];
    if (family_of(address) == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, address->bytes, sizeof(in));
        inet_ntop(AF_INET, &in.sin_addr, host, sizeof(host));
        snprintf(text, size, "%s:%u", host, (unsigned)ntohs(in.sin_port));
    } else if (family_of(address) == AF_INET6) {
        struct sockaddr_in6 in6;
        memcpy(&in6, address->bytes, sizeof(in6));
        inet_ntop(AF_INET6, &in6.sin6_addr, host, sizeof(host));
        snprintf(text, size, "[%s]:%u", host, (unsigned)ntohs(in6.sin6_port));
    } else {
        snprintf(text, size, "(no address)");
    }
}

static const struct sockaddr *sockaddr_of(const struct os_address *address)
{
    return (const struct sockaddr *)(const void *)address->bytes;
}

static int socket_for(const struct os_address *address)
{
    int fd = socket(family_of(address), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    return code_of(fd);
}

static int set_option(int fd, int level, int option, int value)
{
    return code_of(setsockopt(fd, level, option, &value, sizeof(value)));
}

/* What a listener accepts inherits these: no call per connection. Keepalive finds the clients whose
 * machine has vanished, within two minutes; without it they hold their place for ever. */
static int set_stream_options(int fd)
{
    int code = set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    if (code == 0)
        code = set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    if (code == 0)
        code = set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, 60);
    if (code == 0)
        code = set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, 15);
    if (code == 0)
        code = set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, 4);
    return code;
}

int os_listen(struct os *os, const struct os_address *address, int backlog)
{
    (void)os;
    int fd = socket_for(address);
    if (fd < 0)
        return fd;
    int code = set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (code == 0)
        code = set_stream_options(fd);
    if (code == 0 && family_of(address) == AF_INET6)
        code = set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0); /* [::] takes IPv4 too */
    if (code == 0)
        code = code_of(bind(fd, sockaddr_of(address), address->size));
    if (code == 0)
        code = code_of(listen(fd, backlog));
    return code < 0 ? close_with(fd, code) : fd;
}

/* Errors of the connection at the head of the queue, not of the listener: accept(2) hands them over
 * and takes that connection out. */
static bool is_gone_already(int error)
{
    return error == ECONNABORTED || error == EPROTO || error == ENETDOWN || error == ENETUNREACH ||
           error == EHOSTDOWN || error == EHOSTUNREACH || error == ENONET || error == ENOPROTOOPT ||
           error == ETIMEDOUT;
}

int os_accept(struct os *os, int fd, struct os_address *from)
{
    (void)os;
    struct os_address address = { 0 };
    int accepted;
    do {
        socklen_t size = sizeof(address.bytes);
        accepted = accept4(fd, (struct sockaddr *)(void *)address.bytes, &size,
                           SOCK_NONBLOCK | SOCK_CLOEXEC);
        address.size = size;
    } while (accepted < 0 && (errno == EINTR || is_gone_already(errno)));
    if (accepted < 0)
        return -errno;
    if (from != NULL)
        *from = address;
    return accepted;
}

int os_connect(struct os *os, const struct os_address *address)
{
    (void)os;
    int fd = socket_for(address);
    if (fd < 0)
        return fd;
    int code = set_stream_options(fd);
    if (code == 0)
        code = code_of(connect(fd, sockaddr_of(address), address->size));
    if (code == -EINPROGRESS || code == -EINTR) /* both: it goes on without us */
        code = 0;
    return code < 0 ? close_with(fd, code) : fd;
}

/* A connect() to a port of this machine that nobody listens on can meet itself, if the kernel draws
 * that same port for our end. It would look connected, and hold the port against its real owner. */
static bool is_connected_to_itself(int fd)
{
    struct sockaddr_storage here = { 0 }, there = { 0 };
    socklen_t here_size = sizeof(here), there_size = sizeof(there);
    return getsockname(fd, (struct sockaddr *)&here, &here_size) == 0 &&
           getpeername(fd, (struct sockaddr *)&there, &there_size) == 0 &&
           here_size == there_size && memcmp(&here, &there, here_size) == 0;
}

int os_connect_result(struct os *os, int fd)
{
    (void)os;
    int error = 0;
    socklen_t size = sizeof(error);
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
        return -errno;
    if (error == 0 && is_connected_to_itself(fd))
        return -ECONNREFUSED;
    return -error;
}

ptrdiff_t os_recv(struct os *os, int fd, void *bytes, size_t size)
{
    (void)os;
    ssize_t count = RETRY(recv(fd, bytes, size, 0));
    return count < 0 ? -errno : count;
}

ptrdiff_t os_sendv(struct os *os, int fd, const struct iovec *parts, int part_count)
{
    (void)os;
    struct msghdr message = {
        .msg_iov = (struct iovec *)parts, /* sendmsg() only reads it */
        .msg_iovlen = (size_t)(part_count < IOV_MAX ? part_count : IOV_MAX),
    };
    ssize_t count = RETRY(sendmsg(fd, &message, MSG_NOSIGNAL));
    return count < 0 ? -errno : count;
}

int os_close(struct os *os, int fd)
{
    if (os != NULL && fd >= 0 && fd == os->flush_fd) {
        (void)io_destroy(os->flush_context); /* waits for the flushes under way */
        os->flush_fd = -1;
        os->flushes_in_flight = 0;
    }
    /* Never repeated: Linux has closed the descriptor even if it says EINTR. */
    return code_of(close(fd));
}

int os_descriptor_limit(struct os *os)
{
    (void)os;
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return -errno;
    return limit.rlim_cur > INT_MAX ? INT_MAX : (int)limit.rlim_cur;
}

/* -- Files --------------------------------------------------------------------------------------- */

int os_open(struct os *os, const char *path, unsigned flags)
{
    (void)os;
    int mode = O_RDONLY;
    if (flags & OS_WRITE)
        mode = flags & OS_READ ? O_RDWR : O_WRONLY;
    if (flags & OS_CREATE)
        mode |= O_CREAT;
    if (flags & OS_EXCLUSIVE)
        mode |= O_EXCL;
    return code_of(RETRY(open(path, mode | O_CLOEXEC, FILE_MODE)));
}

ptrdiff_t os_pread(struct os *os, int fd, void *bytes, size_t size, uint64_t offset)
{
    (void)os;
    ssize_t count = RETRY(pread(fd, bytes, size, (off_t)offset));
    return count < 0 ? -errno : count;
}

ptrdiff_t os_pwritev(struct os *os, int fd, const struct iovec *parts, int part_count,
                     uint64_t offset)
{
    (void)os;
    int count_max = part_count < IOV_MAX ? part_count : IOV_MAX;
    ssize_t count = RETRY(pwritev(fd, parts, count_max, (off_t)offset));
    return count < 0 ? -errno : count;
}

int64_t os_file_size(struct os *os, int fd)
{
    (void)os;
    struct stat status;
    return fstat(fd, &status) < 0 ? -errno : (int64_t)status.st_size;
}

int os_truncate(struct os *os, int fd, uint64_t size)
{
    (void)os;
    return code_of(RETRY(ftruncate(fd, (off_t)size)));
}

int os_fdatasync(struct os *os, int fd)
{
    (void)os;
    /* Not repeated after an error, EINTR included: a second call may report success for pages that
     * the first one has lost. */
    return code_of(fdatasync(fd));
}

int os_rename(struct os *os, const char *from, const char *to)
{
    (void)os;
    return code_of(rename(from, to));
}

int os_unlink(struct os *os, const char *path)
{
    (void)os;
    return code_of(unlink(path));
}

int os_mkdir(struct os *os, const char *path)
{
    (void)os;
    return code_of(mkdir(path, DIR_MODE));
}

int os_sync_dir(struct os *os, const char *path)
{
    (void)os;
    int fd = RETRY(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (fd < 0)
        return -errno;
    return close_with(fd, code_of(fsync(fd)));
}

int os_list_dir(struct os *os, const char *path, void (*visit)(void *context, const char *name),
                void *context)
{
    (void)os;
    DIR *dir = opendir(path);
    if (dir == NULL)
        return -errno;
    const struct dirent *entry;
    while (errno = 0, (entry = readdir(dir)) != NULL) {
        bool is_dots = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0;
        if (!is_dots)
            visit(context, entry->d_name);
    }
    int code = -errno;
    closedir(dir);
    return code;
}

int os_lock(struct os *os, int fd)
{
    (void)os;
    return code_of(RETRY(flock(fd, LOCK_EX | LOCK_NB)));
}

/* -- Flushes that do not block ------------------------------------------------------------------- */

int os_flush_open(struct os *os)
{
    assert(os->flush_fd < 0); /* one queue a node, and one node a process here */
    int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (fd < 0)
        return -errno;
    os->flush_context = NULL;
    if (io_setup(OS_FLUSHES_MAX, &os->flush_context) < 0)
        return close_with(fd, -ENOSYS);
    os->flush_fd = fd;
    os->flushes_in_flight = 0;
    return fd;
}

int os_flush_start(struct os *os, int queue_fd, int fd, uint64_t ticket)
{
    assert(queue_fd >= 0 && queue_fd == os->flush_fd);
    if (os->flushes_in_flight == OS_FLUSHES_MAX)
        return -EAGAIN;
    struct iocb flush;
    io_prep_fdsync(&flush, fd);
    io_set_eventfd(&flush, queue_fd);
    flush.data = (void *)(uintptr_t)ticket;
    struct iocb *list[] = { &flush };
    int result = io_submit(os->flush_context, 1, list); /* libaio returns -errno, and sets none */
    if (result == -EINVAL)
        return -ENOSYS; /* an old kernel, or a file system without it */
    if (result < 0)
        return result;
    os->flushes_in_flight++;
    return 0;
}

/* The eventfd is never read. Edge-triggered epoll reports every signal all the same, and a count that
 * is not taken cannot take the news of a flush with it that did not fit into `flushes`. */
int os_flush_done(struct os *os, int queue_fd, struct os_flush *flushes, int flush_max)
{
    assert(queue_fd >= 0 && queue_fd == os->flush_fd);
    struct io_event events[OS_FLUSHES_MAX];
    int max = flush_max < OS_FLUSHES_MAX ? flush_max : OS_FLUSHES_MAX;
    struct timespec at_once = { 0 };
    int count;
    do
        count = io_getevents(os->flush_context, 0, max, events, &at_once);
    while (count == -EINTR);
    assert(count >= 0); /* anything else means that the context is not ours */
    for (int i = 0; i < count; i++)
        flushes[i] = (struct os_flush){ .ticket = (uint64_t)(uintptr_t)events[i].data,
                                        .result = (int)(long)events[i].res };
    assert(count <= os->flushes_in_flight);
    os->flushes_in_flight -= count;
    return count;
}

/* -- Words --------------------------------------------------------------------------------------- */

/* A pipe takes up to PIPE_BUF bytes whole or not at all. poll() is not enough there: nodes that share
 * one stderr may both see the last free page, and the second would sleep. */
static ssize_t write_to_pipe(const char *line, size_t size)
{
    struct iovec part = { (void *)(uintptr_t)line, size };
    ssize_t count = RETRY(pwritev2(STDERR_FILENO, &part, 1, -1, RWF_NOWAIT));
    if (count < 0 && (errno == EOPNOTSUPP || errno == ENOSYS || errno == EINVAL))
        count = RETRY(write(STDERR_FILENO, line, size)); /* an older kernel */
    return count;
}

bool os_log(struct os *os, const char *line, size_t size)
{
    if (size > PIPE_BUF)
        size = PIPE_BUF;
    struct pollfd target = { .fd = STDERR_FILENO, .events = POLLOUT };
    if (poll(&target, 1, 0) != 1 || !(target.revents & POLLOUT))
        return false;
    ssize_t count =
        os->log_is_pipe ? write_to_pipe(line, size) : RETRY(write(STDERR_FILENO, line, size));
    return count == (ssize_t)size;
}

_Noreturn void os_exit(struct os *os, int code)
{
    (void)os;
    _exit(code);
}
