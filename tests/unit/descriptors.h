/* How many descriptors this process may open, for tests of what happens when there are no more.
 *
 * Asking for a limit by setrlimit() is not enough under valgrind, which plays it: an accept() over
 * the limit takes the connection and closes it, where Linux leaves it to be accepted later. So a
 * child process sets the limit of its parent: that is the kernel's, with valgrind and without. The
 * includer defines _GNU_SOURCE, for prlimit(). */
#pragma once

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

struct descriptors {
    int child; /* the socket to it */
};

static void descriptors_serve(int socket, pid_t parent)
{
    int first;
    while (read(socket, &first, sizeof first) == (ssize_t)sizeof first) {
        struct rlimit limit;
        (void)prlimit(parent, RLIMIT_NOFILE, NULL, &limit);
        limit.rlim_cur = (rlim_t)first;
        (void)prlimit(parent, RLIMIT_NOFILE, &limit, NULL);
        (void)!write(socket, &first, sizeof first);
    }
    (void)raise(SIGKILL); /* or what its parent held when it was forked would count as leaked */
}

/* To be called first: the child inherits what is open, and takes descriptors to be made. It ends
 * with this process, or by descriptors_release(). */
static void descriptors_init(struct descriptors *descriptors)
{
    int pair[2];
    pid_t parent = getpid();
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        close(pair[0]);
        descriptors_serve(pair[1], parent);
    }
    close(pair[1]);
    descriptors->child = pair[0];
}

static void descriptors_release(struct descriptors *descriptors)
{
    close(descriptors->child);
    (void)wait(NULL);
}

/* From now on, only `count` more descriptors can be opened, counted from the lowest free number. */
static void descriptors_leave(struct descriptors *descriptors, int count)
{
    int first = 0;
    while (fcntl(first, F_GETFD) >= 0)
        first++;
    first += count;
    ck_assert_int_eq(write(descriptors->child, &first, sizeof first), sizeof first);
    ck_assert_int_eq(read(descriptors->child, &first, sizeof first), sizeof first);
    ck_assert_int_eq(fcntl(0, F_DUPFD, first), -1);
    ck_assert_int_eq(errno, EINVAL); /* Linux: the number is not below the limit */
}
