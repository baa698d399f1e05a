/* The real system keeps the promises of os.h. */
#include "server/os/os_linux.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define MS 1000000u

static struct os *os_new(void)
{
    struct os *os = os_linux_new();
    ck_assert_ptr_nonnull(os);
    return os;
}

static void expect_private(int fd)
{
    ck_assert_int_ge(fd, 0);
    ck_assert_msg((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0, "another program would inherit it");
}

static void expect_ready(int fd, short events)
{
    struct pollfd ready = { .fd = fd, .events = events };
    ck_assert_int_eq(poll(&ready, 1, 10000), 1);
}

/* -- Time, chance, waiting ---------------------------------------------------------------------- */

START_TEST(clocks_and_chance)
{
    struct os *os = os_new();
    uint64_t before = os_now_ns(os);
    ck_assert_uint_ge(os_now_ns(os), before);
    ck_assert_uint_gt(os_wall_ms(os), 1700000000000u);
    uint8_t first[64] = { 0 }, second[64] = { 0 };
    os_random(os, first, sizeof(first));
    os_random(os, second, sizeof(second));
    ck_assert_int_ne(memcmp(first, second, sizeof(first)), 0);
    ck_assert(first[63] != 0 || first[62] != 0 || first[61] != 0 || first[60] != 0);
    os_linux_free(os);
    os_linux_free(NULL);
}
END_TEST

START_TEST(epoll_is_edge_triggered)
{
    struct os *os = os_new();
    int epoll = os_epoll_create(os), mark = 0, ends[2];
    struct os_event events[4];
    expect_private(epoll);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
    ck_assert_int_eq(os_epoll_add(os, epoll, ends[0], &mark), 0);
    ck_assert_int_eq(os_epoll_wait(os, epoll, events, 4, false), 1);
    ck_assert_uint_eq(events[0].events, OS_WRITABLE);
    ck_assert_ptr_eq(events[0].data, &mark);
    ck_assert_int_eq(os_epoll_wait(os, epoll, events, 4, false), 0);
    ck_assert_int_eq(write(ends[1], "x", 1), 1);
    ck_assert_int_eq(os_epoll_wait(os, epoll, events, 4, true), 1);
    ck_assert_uint_eq(events[0].events, OS_READABLE | OS_WRITABLE);
    ck_assert_int_eq(os_epoll_wait(os, epoll, events, 4, false), 0);
    ck_assert_int_eq(shutdown(ends[1], SHUT_WR), 0);
    ck_assert_int_eq(os_epoll_wait(os, epoll, events, 4, true), 1);
    ck_assert_uint_eq(events[0].events, OS_READABLE | OS_WRITABLE | OS_HANGUP);
    ck_assert_int_eq(os_epoll_remove(os, epoll, ends[0]), 0);
    close(ends[1]);
    ck_assert_int_eq(os_epoll_wait(os, epoll, events, 4, false), 0);
    ck_assert_int_eq(os_epoll_add(os, epoll, 9999, &mark), -EBADF);
    close(ends[0]);
    os_close(os, epoll);
    os_linux_free(os);
}
END_TEST

START_TEST(a_timer_fires_at_its_time)
{
    struct os *os = os_new();
    int timer = os_timer_create(os);
    expect_private(timer);
    struct pollfd ready = { .fd = timer, .events = POLLIN };
    uint64_t at = os_now_ns(os) + 20 * MS;
    ck_assert_int_eq(os_timer_set(os, timer, at), 0);
    ck_assert_int_eq(poll(&ready, 1, 0), 0);
    expect_ready(timer, POLLIN);
    ck_assert_uint_ge(os_now_ns(os), at);
    os_timer_clear(os, timer);
    ck_assert_int_eq(poll(&ready, 1, 0), 0);
    os_timer_clear(os, timer);                       /* does no harm, and does not block */
    ck_assert_int_eq(os_timer_set(os, timer, 1), 0); /* in the past */
    expect_ready(timer, POLLIN);
    ck_assert_int_eq(os_timer_set(os, timer, os_now_ns(os) + 5 * MS), 0);
    ck_assert_int_eq(os_timer_set(os, timer, 0), 0);
    ck_assert_int_eq(poll(&ready, 1, 30), 0);
    os_close(os, timer);
    os_linux_free(os);
}
END_TEST

START_TEST(signals_become_events)
{
    struct os *os = os_new();
    int fd = os_signal_create(os);
    expect_private(fd);
    ck_assert_int_eq(os_signal_take(os, fd), 0);
    raise(SIGTERM);
    expect_ready(fd, POLLIN);
    ck_assert_int_eq(os_signal_take(os, fd), SIGTERM);
    ck_assert_int_eq(os_signal_take(os, fd), 0);
    raise(SIGINT);
    ck_assert_int_eq(os_signal_take(os, fd), SIGINT);
    raise(SIGPIPE); /* each of these would end the process */
    raise(SIGHUP);
    ck_assert_int_eq(os_signal_take(os, fd), 0);
    os_close(os, fd);
    os_linux_free(os);
}
END_TEST

/* -- Network ------------------------------------------------------------------------------------ */

static void expect_resolved(struct os *os, const char *host, const char *expected)
{
    struct os_address address;
    char text[80];
    ck_assert_int_eq(os_resolve(os, host, 8000, &address), 0);
    os_address_format(&address, text, sizeof(text));
    ck_assert_str_eq(text, expected);
}

START_TEST(names_are_resolved)
{
    struct os *os = os_new();
    struct os_address address = { 0 };
    char text[80];
    expect_resolved(os, "127.0.0.1", "127.0.0.1:8000");
    expect_resolved(os, "localhost", "127.0.0.1:8000");
    expect_resolved(os, "::1", "[::1]:8000");
    os_address_format(&address, text, sizeof(text));
    ck_assert_str_eq(text, "(no address)");
    ck_assert_int_eq(os_resolve(os, "256.0.0.1.", 1, &address) < 0, 1);
    ck_assert_int_eq(os_resolve(os, "bad name", 1, &address), -ENOENT);
    ck_assert_uint_eq(address.size, 0); /* untouched */
    os_linux_free(os);
}
END_TEST

/* Listens on a port of the system's choice, which goes to `address`. */
static int listen_anywhere(struct os *os, const char *host, struct os_address *address)
{
    ck_assert_int_eq(os_resolve(os, host, 0, address), 0);
    int fd = os_listen(os, address, 16);
    if (fd < 0)
        return fd;
    socklen_t size = sizeof(address->bytes);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)(void *)address->bytes, &size), 0);
    address->size = size;
    return fd;
}

static void expect_stream_options(int fd)
{
    int value = 0;
    socklen_t size = sizeof(value);
    ck_assert_int_eq(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, &size), 0);
    ck_assert_int_eq(value, 1);
    ck_assert_int_eq(getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &value, &size), 0);
    ck_assert_int_eq(value, 1);
    ck_assert_int_eq(fcntl(fd, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
}

START_TEST(two_ends_talk)
{
    struct os *os = os_new();
    struct os_address address, from = { 0 };
    int listener = listen_anywhere(os, "127.0.0.1", &address);
    expect_private(listener);
    ck_assert_int_eq(os_accept(os, listener, &from), -EAGAIN);
    int near = os_connect(os, &address);
    expect_private(near);
    expect_ready(near, POLLOUT);
    ck_assert_int_eq(os_connect_result(os, near), 0);
    expect_ready(listener, POLLIN);
    int far = os_accept(os, listener, &from);
    expect_private(far);
    expect_stream_options(near);
    expect_stream_options(far);
    char text[80];
    os_address_format(&from, text, sizeof(text));
    ck_assert_int_eq(strncmp(text, "127.0.0.1:", 10), 0);

    char bytes[8] = "";
    ck_assert_int_eq(os_recv(os, far, bytes, sizeof(bytes)), -EAGAIN);
    struct iovec parts[] = { { (void *)(uintptr_t) "ab", 2 }, { (void *)(uintptr_t) "cd", 2 } };
    ck_assert_int_eq(os_sendv(os, near, parts, 2), 4);
    expect_ready(far, POLLIN);
    ck_assert_int_eq(os_recv(os, far, bytes, sizeof(bytes)), 4);
    ck_assert_int_eq(memcmp(bytes, "abcd", 4), 0);

    ck_assert_int_eq(os_close(os, near), 0);
    expect_ready(far, POLLIN);
    ck_assert_int_eq(os_recv(os, far, bytes, sizeof(bytes)), 0);
    ck_assert_int_eq(os_sendv(os, far, parts, 2), 4); /* answered with a reset */
    expect_ready(far, POLLERR);
    ptrdiff_t sent = os_sendv(os, far, parts, 2); /* and no SIGPIPE, though nothing ignores it */
    ck_assert(sent == -EPIPE || sent == -ECONNRESET);
    os_close(os, far);
    os_close(os, listener);
    os_linux_free(os);
}
END_TEST

START_TEST(a_full_socket_takes_a_part_and_then_nothing)
{
    struct os *os = os_new();
    struct os_address address;
    int listener = listen_anywhere(os, "127.0.0.1", &address);
    int near = os_connect(os, &address);
    expect_ready(listener, POLLIN);
    int far = os_accept(os, listener, NULL);
    static uint8_t bytes[65536];
    struct iovec parts[2000]; /* more than one system call takes */
    for (int i = 0; i < 2000; i++)
        parts[i] = (struct iovec){ bytes, sizeof(bytes) };
    ptrdiff_t sent = os_sendv(os, near, parts, 2000);
    ck_assert_int_gt(sent, 0);
    ck_assert_int_lt(sent, 2000 * 65536);
    int calls = 0;
    while ((sent = os_sendv(os, near, parts, 2000)) > 0)
        ck_assert_int_lt(++calls, 1000);
    ck_assert_int_eq(sent, -EAGAIN);
    os_close(os, near);
    os_close(os, far);
    os_close(os, listener);
    os_linux_free(os);
}
END_TEST

START_TEST(a_port_is_taken_once_and_free_again_at_once)
{
    struct os *os = os_new();
    struct os_address address;
    int listener = listen_anywhere(os, "127.0.0.1", &address);
    ck_assert_int_eq(os_listen(os, &address, 16), -EADDRINUSE);
    int near = os_connect(os, &address);
    expect_ready(listener, POLLIN);
    int far = os_accept(os, listener, NULL);
    os_close(os, far); /* our end waits in TIME_WAIT and must not hold the port */
    os_close(os, near);
    os_close(os, listener);
    listener = os_listen(os, &address, 16);
    ck_assert_int_ge(listener, 0);
    os_close(os, listener);

    near = os_connect(os, &address);
    if (near >= 0) {
        expect_ready(near, POLLOUT);
        ck_assert_int_eq(os_connect_result(os, near), -ECONNREFUSED);
        os_close(os, near);
    } else {
        ck_assert_int_eq(near, -ECONNREFUSED);
    }
    os_linux_free(os);
}
END_TEST

START_TEST(a_connection_to_oneself_is_none)
{
    struct os *os = os_new();
    struct os_address address;
    int fd = listen_anywhere(os, "127.0.0.1", &address);
    os_close(os, fd);
    fd = socket(AF_INET, SOCK_STREAM, 0);
    int yes = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
    const struct sockaddr *to = (const struct sockaddr *)(const void *)address.bytes;
    ck_assert_int_eq(bind(fd, to, address.size), 0);
    ck_assert_int_eq(connect(fd, to, address.size), 0); /* it does succeed */
    ck_assert_int_eq(os_connect_result(os, fd), -ECONNREFUSED);
    os_close(os, fd);
    os_linux_free(os);
}
END_TEST

START_TEST(the_wildcard_of_ipv6_takes_ipv4_too)
{
    struct os *os = os_new();
    struct os_address address, loopback;
    int listener = listen_anywhere(os, "::", &address);
    if (listener == -EAFNOSUPPORT || listener == -EADDRNOTAVAIL) {
        os_linux_free(os);
        return; /* a system without IPv6 */
    }
    struct sockaddr_in6 bound;
    memcpy(&bound, address.bytes, sizeof(bound));
    ck_assert_int_eq(os_resolve(os, "127.0.0.1", ntohs(bound.sin6_port), &loopback), 0);
    int near = os_connect(os, &loopback);
    expect_ready(listener, POLLIN);
    int far = os_accept(os, listener, NULL);
    ck_assert_int_ge(far, 0);
    os_close(os, far);
    os_close(os, near);
    os_close(os, listener);
    os_linux_free(os);
}
END_TEST

START_TEST(descriptors_run_out_with_a_code)
{
    struct os *os = os_new();
    struct os_address address;
    int listener = listen_anywhere(os, "127.0.0.1", &address);
    int near = os_connect(os, &address);
    expect_ready(listener, POLLIN);
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    int next = dup(0);
    close(next);
    limit.rlim_cur = (rlim_t)next;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    ck_assert_int_eq(os_descriptor_limit(os), next);
    ck_assert_int_eq(os_accept(os, listener, NULL), -EMFILE);
    os_close(os, near);
    os_close(os, listener);
    os_linux_free(os);
}
END_TEST

START_TEST(all_descriptors_that_we_may_have_are_asked_for)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max < 100 ? limit.rlim_max : 100;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    struct os *os = os_new();
    ck_assert_int_eq(os_descriptor_limit(os), (int)limit.rlim_max);
    os_linux_free(os);
}
END_TEST

/* -- Files -------------------------------------------------------------------------------------- */

static char directory[64];

static void enter_directory(void)
{
    strcpy(directory, "/tmp/os_linux_test.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    ck_assert_int_eq(chdir(directory), 0);
}

static void leave_directory(void)
{
    ck_assert_int_eq(chdir("/"), 0);
    ck_assert_int_eq(rmdir(directory), 0);
}

START_TEST(files_are_opened_read_and_written)
{
    struct os *os = os_new();
    ck_assert_int_eq(os_open(os, "a", OS_READ), -ENOENT);
    int fd = os_open(os, "a", OS_READ | OS_WRITE | OS_CREATE | OS_EXCLUSIVE);
    expect_private(fd);
    ck_assert_int_eq(os_open(os, "a", OS_WRITE | OS_CREATE | OS_EXCLUSIVE), -EEXIST);
    struct iovec parts[] = { { (void *)(uintptr_t) "hello ", 6 },
                             { (void *)(uintptr_t) "world", 5 } };
    ck_assert_int_eq(os_pwritev(os, fd, parts, 2, 3), 11);
    ck_assert_int_eq(os_file_size(os, fd), 14);
    char bytes[32] = "";
    ck_assert_int_eq(os_pread(os, fd, bytes, sizeof(bytes), 3), 11);
    ck_assert_str_eq(bytes, "hello world");
    ck_assert_int_eq(os_pread(os, fd, bytes, sizeof(bytes), 14), 0);
    ck_assert_int_eq(os_truncate(os, fd, 5), 0);
    ck_assert_int_eq(os_file_size(os, fd), 5);
    ck_assert_int_eq(os_fdatasync(os, fd), 0);
    ck_assert_int_eq(os_close(os, fd), 0);
    ck_assert_int_eq(os_close(os, fd), -EBADF);

    fd = os_open(os, "a", OS_READ);
    ck_assert_int_eq(os_pwritev(os, fd, parts, 2, 0), -EBADF);
    ck_assert_int_eq(os_file_size(os, fd), 5); /* opening does not truncate */
    os_close(os, fd);
    fd = os_open(os, "a", OS_WRITE | OS_CREATE);
    ck_assert_int_eq(os_file_size(os, fd), 5);
    ck_assert_int_eq(os_pread(os, fd, bytes, 1, 0), -EBADF);
    os_close(os, fd);
    ck_assert_int_eq(os_rename(os, "a", "b"), 0);
    ck_assert_int_eq(os_rename(os, "a", "c"), -ENOENT);
    ck_assert_int_eq(os_unlink(os, "b"), 0);
    ck_assert_int_eq(os_unlink(os, "b"), -ENOENT);
    os_linux_free(os);
}
END_TEST

static void count_name(void *context, const char *name)
{
    int *counts = context;
    counts[strcmp(name, "x") == 0 ? 0 : strcmp(name, "y") == 0 ? 1 : 2]++;
}

START_TEST(directories_are_made_listed_and_flushed)
{
    struct os *os = os_new();
    int counts[3] = { 0 };
    ck_assert_int_eq(os_mkdir(os, "d"), 0);
    ck_assert_int_eq(os_mkdir(os, "d"), -EEXIST);
    ck_assert_int_eq(os_mkdir(os, "no/d"), -ENOENT);
    ck_assert_int_eq(os_mkdir(os, "d/x"), 0);
    os_close(os, os_open(os, "d/y", OS_WRITE | OS_CREATE));
    ck_assert_int_eq(os_list_dir(os, "d", count_name, counts), 0);
    ck_assert_int_eq(counts[0], 1);
    ck_assert_int_eq(counts[1], 1);
    ck_assert_int_eq(counts[2], 0);
    ck_assert_int_eq(os_list_dir(os, "no", count_name, counts), -ENOENT);
    ck_assert_int_eq(os_sync_dir(os, "d"), 0);
    ck_assert_int_eq(os_sync_dir(os, "no"), -ENOENT);
    ck_assert_int_eq(os_sync_dir(os, "d/y"), -ENOTDIR);
    rmdir("d/x");
    os_unlink(os, "d/y");
    rmdir("d");
    os_linux_free(os);
}
END_TEST

START_TEST(a_lock_has_one_holder)
{
    struct os *os = os_new();
    int first = os_open(os, "lock", OS_WRITE | OS_CREATE);
    int second = os_open(os, "lock", OS_WRITE | OS_CREATE);
    ck_assert_int_eq(os_lock(os, first), 0);
    ck_assert_int_eq(os_lock(os, second), -EWOULDBLOCK);
    os_close(os, first);
    ck_assert_int_eq(os_lock(os, second), 0);
    os_close(os, second);
    os_unlink(os, "lock");
    os_linux_free(os);
}
END_TEST

/* Collects by edge-triggered epoll, as the node does, `step` at a time. */
static void collect_flushes(struct os *os, int queue, int count, int step, uint64_t seen[])
{
    int epoll = os_epoll_create(os), done = 0;
    struct os_event event;
    struct os_flush flushes[OS_FLUSHES_MAX];
    ck_assert_int_eq(os_epoll_add(os, epoll, queue, NULL), 0);
    while (done < count) {
        ck_assert_int_eq(os_epoll_wait(os, epoll, &event, 1, true), 1);
        int taken;
        while ((taken = os_flush_done(os, queue, flushes, step)) > 0) {
            ck_assert_int_le(taken, step);
            for (int i = 0; i < taken; i++) {
                ck_assert_int_eq(flushes[i].result, 0);
                seen[done++] = flushes[i].ticket;
            }
        }
    }
    os_close(os, epoll);
}

START_TEST(flushes_come_back_with_their_tickets)
{
    struct os *os = os_new();
    int fd = os_open(os, "f", OS_WRITE | OS_CREATE);
    int queue = os_flush_open(os);
    if (queue == -ENOSYS) { /* not to be had here: the node then flushes by os_fdatasync() */
        os_close(os, fd);
        os_unlink(os, "f");
        os_linux_free(os);
        return;
    }
    expect_private(queue);
    struct os_flush flush;
    ck_assert_int_eq(os_flush_done(os, queue, &flush, 1), 0);
    for (int round = 0; round < 20; round++) {
        uint64_t seen[OS_FLUSHES_MAX] = { 0 }, all = 0;
        struct iovec part = { (void *)(uintptr_t) "bytes", 5 };
        ck_assert_int_eq(os_pwritev(os, fd, &part, 1, 0), 5);
        for (uint64_t i = 0; i < OS_FLUSHES_MAX; i++)
            ck_assert_int_eq(os_flush_start(os, queue, fd, UINT64_MAX - i), 0);
        ck_assert_int_eq(os_flush_start(os, queue, fd, 0), -EAGAIN);
        collect_flushes(os, queue, OS_FLUSHES_MAX, 1 + round % 8, seen);
        for (int i = 0; i < OS_FLUSHES_MAX; i++)
            all |= (uint64_t)1 << (UINT64_MAX - seen[i]);
        ck_assert_uint_eq(all, 0xff);
    }
    ck_assert_int_eq(os_flush_start(os, queue, 9999, 1), -EBADF);
    ck_assert_int_eq(os_flush_start(os, queue, fd, 1), 0);
    os_close(os, queue); /* with one under way */
    queue = os_flush_open(os);
    ck_assert_int_ge(queue, 0);
    ck_assert_int_eq(os_flush_done(os, queue, &flush, 1), 0);
    os_close(os, fd);
    os_unlink(os, "f");
    os_linux_free(os); /* closes the queue */
}
END_TEST

START_TEST(what_cannot_be_flushed_this_way_says_so)
{
    struct os *os = os_new();
    int queue = os_flush_open(os);
    int ends[2];
    ck_assert_int_eq(pipe(ends), 0);
    if (queue >= 0)
        ck_assert_int_eq(os_flush_start(os, queue, ends[1], 1), -ENOSYS);
    close(ends[0]);
    close(ends[1]);
    os_linux_free(os);
}
END_TEST

/* -- Words -------------------------------------------------------------------------------------- */

START_TEST(a_log_line_is_written_whole_or_dropped)
{
    int ends[2], saved = dup(STDERR_FILENO);
    ck_assert_int_eq(pipe(ends), 0);
    ck_assert_int_eq(dup2(ends[1], STDERR_FILENO), STDERR_FILENO);
    struct os *os = os_new();
    char line[1000];
    memset(line, 'x', sizeof(line) - 1);
    line[sizeof(line) - 1] = '\n';
    int written = 0;
    while (os_log(os, line, sizeof(line)))
        ck_assert_int_lt(++written, 100000);
    bool again = os_log(os, line, sizeof(line));
    dup2(saved, STDERR_FILENO);
    ck_assert_int_gt(written, 0);
    ck_assert(!again);

    ck_assert_int_eq(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
    char bytes[1000];
    ssize_t size, total = 0;
    while ((size = read(ends[0], bytes, sizeof(bytes))) > 0) {
        ck_assert_int_eq(size, sizeof(bytes));
        ck_assert_int_eq(memcmp(bytes, line, sizeof(bytes)), 0);
        total += size;
    }
    ck_assert_int_eq(total, written * (ssize_t)sizeof(line));
    close(ends[0]);
    close(ends[1]);
    close(saved);
    os_linux_free(os);
}
END_TEST

START_TEST(a_log_whose_reader_has_gone_does_no_harm)
{
    int ends[2], saved = dup(STDERR_FILENO);
    ck_assert_int_eq(pipe(ends), 0);
    ck_assert_int_eq(dup2(ends[1], STDERR_FILENO), STDERR_FILENO);
    close(ends[0]);
    struct os *os = os_new();
    int signals = os_signal_create(os);
    bool is_written = os_log(os, "x\n", 2);
    dup2(saved, STDERR_FILENO);
    ck_assert(!is_written);
    os_close(os, signals);
    close(ends[1]);
    close(saved);
    os_linux_free(os);
}
END_TEST

START_TEST(the_end_has_a_code)
{
    os_exit(os_new(), 3);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("os_linux");
    TCase *system = tcase_create("system");
    tcase_set_timeout(system, 30);
    tcase_add_test(system, clocks_and_chance);
    tcase_add_test(system, epoll_is_edge_triggered);
    tcase_add_test(system, a_timer_fires_at_its_time);
    tcase_add_test(system, signals_become_events);
    tcase_add_test(system, names_are_resolved);
    tcase_add_test(system, two_ends_talk);
    tcase_add_test(system, a_full_socket_takes_a_part_and_then_nothing);
    tcase_add_test(system, a_port_is_taken_once_and_free_again_at_once);
    tcase_add_test(system, a_connection_to_oneself_is_none);
    tcase_add_test(system, the_wildcard_of_ipv6_takes_ipv4_too);
    tcase_add_test(system, descriptors_run_out_with_a_code);
    tcase_add_test(system, all_descriptors_that_we_may_have_are_asked_for);
    tcase_add_test(system, a_log_line_is_written_whole_or_dropped);
    tcase_add_test(system, a_log_whose_reader_has_gone_does_no_harm);
    tcase_add_exit_test(system, the_end_has_a_code, 3);
    suite_add_tcase(suite, system);

    TCase *files = tcase_create("files");
    tcase_set_timeout(files, 30);
    tcase_add_checked_fixture(files, enter_directory, leave_directory);
    tcase_add_test(files, files_are_opened_read_and_written);
    tcase_add_test(files, directories_are_made_listed_and_flushed);
    tcase_add_test(files, a_lock_has_one_holder);
    tcase_add_test(files, flushes_come_back_with_their_tickets);
    tcase_add_test(files, what_cannot_be_flushed_this_way_says_so);
    suite_add_tcase(suite, files);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
