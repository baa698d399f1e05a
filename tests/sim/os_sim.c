/* server/os/os.h over a simulated machine.
 *
 * Descriptors are a table of pointers, so that the ends of connections can point back to theirs. The
 * lowest free number is given out, as by a kernel: a number that is used again at once finds whoever
 * keeps one too long.
 *
 * Readiness. A descriptor that changes goes to the ready list, once; a wait takes from the list in an
 * order of chance and reports all that is true of the descriptor *then*, as Linux does: news that
 * was overtaken (the data was read meanwhile) is no news. Two things are added to try the reader:
 * now and then an event is kept back for the next wait, and news that is none is reported all the
 * same. None is ever lost: whatever is kept back stays in the list, and the next wait, which comes
 * within LATE_NS, reports it for sure.
 *
 *     changed --> ready list --wait--> anything true? --> reported
 *                     ^                     |   `-- no: forgotten, or (rarely) reported as readable
 *                     `----- kept back -----'
 *
 * Any call may leave the turn for good, but only in machine_call(), in a flush that hangs and at the
 * end of a wait: before and after, never in the middle of a change. Inside, memory is the simulator's,
 * since what is made here outlives the turn's process or is freed by os_sim_free().
 *
 * Flushes are two moments, disk_flush_begin() and disk_flush_end(). A blocking one lets its time pass in
 * the clock of the process between them, the others on the timeline, where two of them may well end in
 * the other order. A flush that hangs is looked at again until the hang is over. */
#include "tests/sim/os_sim.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NS_PER_MS UINT64_C(1000000)
#define LATE_PER_MILLE 20
#define LATE_NS 100000u
#define SPURIOUS_PER_MILLE 10
#define HANG_LOOK_NS (20 * NS_PER_MS)
#define FIRST_FD 3
#define PARTS_MAX 1024 /* of one call, as IOV_MAX */

enum kind {
    KIND_EPOLL = 1,
    KIND_TIMER,
    KIND_SIGNAL,
    KIND_LISTENER,
    KIND_CONNECTION,
    KIND_FILE,
    KIND_QUEUE,
};

static const char *const kind_names[] = {
    [KIND_EPOLL] = "epoll",           [KIND_TIMER] = "timer", [KIND_SIGNAL] = "signal",
    [KIND_LISTENER] = "listener",     [KIND_FILE] = "file",   [KIND_QUEUE] = "flush queue",
    [KIND_CONNECTION] = "connection",
};

struct descriptor {
    enum kind kind;
    int fd;
    struct os *os;
    void *data; /* for the epoll set */
    bool is_watched;
    bool is_held;    /* was kept back once */
    int ready_place; /* in os->ready; -1: not there */
    union {
        struct {            /* timer */
            uint64_t at_ns; /* of the machine's clock; 0: not armed */
            bool has_expired;
        };
        struct net_end *end; /* listener, connection */
        struct {             /* file */
            struct disk_file *file;
            unsigned flags;
            bool is_locked;
            uint64_t errors_told; /* of disk_errors(): each open file is told once */
        };
    };
    struct descriptor *next_free;
};

struct flush {
    bool is_under_way;
    uint32_t serial;
    uint64_t ticket;
    struct disk_file *file;
    int fd; /* that it was asked for by */
    uint64_t mark;
};

struct os {
    struct machine *machine;
    struct descriptor **table; /* by number; NULL: free */
    int table_size;
    int lowest_free; /* nothing below it is free */
    int open_count;
    struct descriptor *spare; /* used before */

    struct descriptor *epoll; /* one set a process */
    struct descriptor **ready;
    int ready_count, ready_capacity;

    struct descriptor *signal;
    int signal_number;

    struct descriptor *queue;
    struct flush flushes[OS_FLUSHES_MAX];
    struct os_flush done[OS_FLUSHES_MAX]; /* in the order in which they ended */
    int done_count, flush_count;          /* flush_count: under way or not taken yet */
    uint32_t flush_serial;
    void (*on_flush)(void *context);
    void *on_flush_context;

    char *names; /* of a directory that is listed: each with its NUL */
    size_t names_size, names_capacity;
    uint32_t name_count;
};

struct address { /* what an os_address holds */
    int32_t slot;
    uint32_t port;
};

/* A call begins: from here to end_call() nothing leaves the turn. */
static struct memory *begin_call(struct os *os)
{
    machine_call(os->machine);
    return memory_enter(NULL);
}

static void end_call(struct memory *before)
{
    (void)memory_enter(before);
}

static void *checked(void *memory)
{
    if (memory == NULL)
        abort();
    return memory;
}

/* -- Life ---------------------------------------------------------------------------------------- */

struct os *os_sim_new(struct machine *machine)
{
    struct os *os = checked(calloc(1, sizeof *os));
    os->machine = machine;
    os->lowest_free = FIRST_FD;
    return os;
}

void os_sim_free(struct os *os)
{
    if (os == NULL)
        return;
    for (int fd = 0; fd < os->table_size; fd++)
        free(os->table[fd]);
    while (os->spare != NULL) {
        struct descriptor *next = os->spare->next_free;
        free(os->spare);
        os->spare = next;
    }
    free(os->table);
    free(os->ready);
    free(os->names);
    free(os);
}

int os_sim_descriptors(const struct os *os)
{
    return os->open_count;
}

/* -- Descriptors --------------------------------------------------------------------------------- */

static int descriptor_limit(const struct os *os)
{
    int limit = os->machine->descriptor_limit;
    return limit == 0 ? MACHINE_DESCRIPTORS : limit;
}

static void grow_table(struct os *os)
{
    int size = os->table_size == 0 ? 64 : 2 * os->table_size;
    os->table = checked(realloc(os->table, (size_t)size * sizeof(struct descriptor *)));
    for (int fd = os->table_size; fd < size; fd++)
        os->table[fd] = NULL;
    os->table_size = size;
}

/* The lowest free number, or -EMFILE. */
static int free_number(struct os *os)
{
    int fd = os->lowest_free;
    while (fd < os->table_size && os->table[fd] != NULL)
        fd++;
    os->lowest_free = fd;
    /* By count, not by number: the limit may fall below what is open, and one given back is one free. */
    if (FIRST_FD + os->open_count >= descriptor_limit(os))
        return -EMFILE;
    if (fd >= os->table_size)
        grow_table(os);
    return fd;
}

/* NULL, and *code: the process has no more of them. */
static struct descriptor *open_descriptor(struct os *os, enum kind kind, int *code)
{
    int fd = free_number(os);
    if (fd < 0) {
        *code = fd;
        return NULL;
    }
    struct descriptor *descriptor = os->spare;
    if (descriptor != NULL)
        os->spare = descriptor->next_free;
    else
        descriptor = checked(malloc(sizeof *descriptor));
    *descriptor = (struct descriptor){ .kind = kind, .fd = fd, .os = os, .ready_place = -1 };
    os->table[fd] = descriptor;
    os->open_count++;
    return descriptor;
}

static int open_plain(struct os *os, enum kind kind, struct descriptor **place)
{
    struct memory *before = begin_call(os);
    int code = 0;
    struct descriptor *descriptor = open_descriptor(os, kind, &code);
    if (descriptor != NULL && place != NULL)
        *place = descriptor;
    end_call(before);
    return descriptor == NULL ? code : descriptor->fd;
}

static struct descriptor *any_descriptor(struct os *os, int fd)
{
    if (fd < 0 || fd >= os->table_size || os->table[fd] == NULL)
        trace_fail(os->machine->trace, "os", "node %d uses descriptor %d, which is not open",
                   os->machine->slot, fd);
    return os->table[fd];
}

static struct descriptor *descriptor_of(struct os *os, int fd, enum kind kind)
{
    struct descriptor *descriptor = any_descriptor(os, fd);
    if (descriptor->kind != kind)
        trace_fail(os->machine->trace, "os", "node %d uses descriptor %d, a %s, as a %s",
                   os->machine->slot, fd, kind_names[descriptor->kind], kind_names[kind]);
    return descriptor;
}

/* -- The ready list ------------------------------------------------------------------------------ */

static void put_ready(struct os *os, int place, struct descriptor *descriptor)
{
    os->ready[place] = descriptor;
    descriptor->ready_place = place;
}

static void mark_ready(struct descriptor *descriptor)
{
    struct os *os = descriptor->os;
    if (!descriptor->is_watched)
        return;
    if (descriptor->ready_place < 0) {
        if (os->ready_count == os->ready_capacity) {
            os->ready_capacity = os->ready_capacity == 0 ? 64 : 2 * os->ready_capacity;
            size_t size = (size_t)os->ready_capacity * sizeof(struct descriptor *);
            os->ready = checked(realloc(os->ready, size));
        }
        put_ready(os, os->ready_count++, descriptor);
    }
    if (!os->machine->in_turn) /* else the turn's own wait will find it */
        machine_wake(os->machine, timeline_now_ns(os->machine->timeline));
}

static void forget_ready(struct descriptor *descriptor)
{
    struct os *os = descriptor->os;
    int place = descriptor->ready_place;
    descriptor->is_held = false;
    if (place < 0)
        return;
    put_ready(os, place, os->ready[--os->ready_count]);
    descriptor->ready_place = -1;
}

static uint32_t connection_events(const struct net_end *end)
{
    switch (net_state(end)) {
    case NET_CONNECTING:
        return 0;
    case NET_FAILED:
        return OS_READABLE | OS_WRITABLE | OS_HANGUP;
    case NET_OPEN:
        break;
    }
    uint32_t events = 0;
    if (net_readable(end) > 0)
        events |= OS_READABLE;
    if (net_writable(end) > 0)
        events |= OS_WRITABLE;
    if (net_hung_up(end))
        events |= OS_READABLE | OS_HANGUP;
    return events;
}

/* What is true of it now. */
static uint32_t events_of(const struct descriptor *descriptor)
{
    const struct os *os = descriptor->os;
    switch (descriptor->kind) {
    case KIND_TIMER:
        return descriptor->has_expired ? OS_READABLE : 0;
    case KIND_SIGNAL:
        return os->signal_number != 0 ? OS_READABLE : 0;
    case KIND_LISTENER:
        return net_pending(descriptor->end) > 0 ? OS_READABLE : 0;
    case KIND_CONNECTION:
        return connection_events(descriptor->end);
    case KIND_QUEUE:
        return os->done_count > 0 ? OS_READABLE : 0;
    case KIND_EPOLL:
    case KIND_FILE:
        break;
    }
    return 0;
}

/* News that is none: on streams only, where a reader must live with it anyhow. */
static bool is_spurious(const struct descriptor *descriptor)
{
    return descriptor->kind == KIND_CONNECTION && net_state(descriptor->end) == NET_OPEN &&
           random_chance(&descriptor->os->machine->random, SPURIOUS_PER_MILLE);
}

static void on_net_changed(void *owner, struct net_end *end)
{
    struct descriptor *descriptor = owner;
    (void)end;
    mark_ready(descriptor);
}

/* -- Time and chance ----------------------------------------------------------------------------- */

uint64_t os_now_ns(struct os *os)
{
    machine_call(os->machine);
    return machine_now_ns(os->machine);
}

uint64_t os_wall_ms(struct os *os)
{
    machine_call(os->machine);
    int64_t ms = (int64_t)(machine_now_ns(os->machine) / NS_PER_MS);
    int64_t wall_ms = ms + os->machine->clock.wall_offset_ms;
    return wall_ms < 0 ? 0 : (uint64_t)wall_ms;
}

void os_random(struct os *os, void *bytes, size_t size)
{
    machine_call(os->machine);
    uint8_t *at = bytes;
    uint64_t word = 0;
    for (size_t i = 0; i < size; i++) {
        if (i % 8 == 0)
            word = random_next(&os->machine->random);
        at[i] = (uint8_t)word;
        word >>= 8;
    }
}

/* -- Waiting ------------------------------------------------------------------------------------- */

int os_epoll_create(struct os *os)
{
    if (os->epoll != NULL)
        trace_fail(os->machine->trace, "os", "node %d wants a second epoll set", os->machine->slot);
    return open_plain(os, KIND_EPOLL, &os->epoll);
}

int os_epoll_add(struct os *os, int epoll_fd, int fd, void *data)
{
    struct memory *before = begin_call(os);
    (void)descriptor_of(os, epoll_fd, KIND_EPOLL);
    struct descriptor *descriptor = any_descriptor(os, fd);
    int code = 0;
    if (descriptor->kind == KIND_FILE || descriptor->kind == KIND_EPOLL)
        code = -EPERM;
    else if (descriptor->is_watched)
        code = -EEXIST;
    if (code == 0) {
        descriptor->is_watched = true;
        descriptor->data = data;
        if (events_of(descriptor) != 0)
            mark_ready(descriptor);
    }
    end_call(before);
    return code;
}

int os_epoll_remove(struct os *os, int epoll_fd, int fd)
{
    machine_call(os->machine);
    (void)descriptor_of(os, epoll_fd, KIND_EPOLL);
    struct descriptor *descriptor = any_descriptor(os, fd);
    if (!descriptor->is_watched)
        return -ENOENT;
    forget_ready(descriptor);
    descriptor->is_watched = false;
    return 0;
}

/* Up to `event_max` events, drawn from the list; what is kept back gathers at its end. */
static int take_events(struct os *os, struct os_event *events, int event_max)
{
    struct random *random = &os->machine->random;
    int count = 0, left = os->ready_count;
    while (left > 0 && count < event_max) {
        int place = left == 1 ? 0 : (int)random_below(random, (uint64_t)left);
        struct descriptor *descriptor = os->ready[place];
        uint32_t happened = events_of(descriptor);
        left--;
        if (happened != 0 && !descriptor->is_held && random_chance(random, LATE_PER_MILLE)) {
            descriptor->is_held = true;
            put_ready(os, place, os->ready[left]);
            put_ready(os, left, descriptor);
            continue;
        }
        put_ready(os, place, os->ready[left]);
        if (--os->ready_count != left)
            put_ready(os, left, os->ready[os->ready_count]);
        descriptor->ready_place = -1;
        descriptor->is_held = false;
        if (happened == 0 && is_spurious(descriptor))
            happened = OS_READABLE;
        if (happened != 0)
            events[count++] = (struct os_event){ happened, descriptor->data };
    }
    return count;
}

int os_epoll_wait(struct os *os, int epoll_fd, struct os_event *events, int event_max, bool block)
{
    struct machine *machine = os->machine;
    machine_call(machine);
    (void)descriptor_of(os, epoll_fd, KIND_EPOLL);
    int count = take_events(os, events, event_max);
    if (count > 0 || !block)
        return count;
    if (os->ready_count > 0) /* kept back */
        machine_wake(machine, timeline_now_ns(machine->timeline) +
                                  random_between(&machine->random, 1, LATE_NS));
    machine_leave(machine, MACHINE_WAITS, 0);
}

/* -- Timers -------------------------------------------------------------------------------------- */

#define FD_BITS 32 /* of an event's argument; the boot stands above them */

/* An event is only a question: is the timer due? One that was set anew in the meantime is not, and has
 * an event of its own. */
static void on_timer(void *owner, uint64_t argument)
{
    struct machine *machine = owner;
    struct os *os = machine->os;
    int fd = (int)(argument & UINT32_MAX);
    if (os == NULL || machine->boots != argument >> FD_BITS || fd >= os->table_size)
        return;
    struct descriptor *descriptor = os->table[fd];
    bool is_armed = descriptor != NULL && descriptor->kind == KIND_TIMER && descriptor->at_ns != 0;
    if (!is_armed || machine_now_ns(machine) < descriptor->at_ns)
        return;
    descriptor->at_ns = 0;
    descriptor->has_expired = true;
    mark_ready(descriptor);
}

static void schedule_timer(const struct descriptor *timer)
{
    struct machine *machine = timer->os->machine;
    timeline_at(machine->timeline, machine_world_ns(machine, timer->at_ns), on_timer, machine,
                (uint64_t)machine->boots << FD_BITS | (uint32_t)timer->fd);
}

void os_sim_clock_changed(struct os *os)
{
    for (int fd = 0; fd < os->table_size; fd++) {
        const struct descriptor *descriptor = os->table[fd];
        if (descriptor != NULL && descriptor->kind == KIND_TIMER && descriptor->at_ns != 0)
            schedule_timer(descriptor);
    }
}

int os_timer_create(struct os *os)
{
    return open_plain(os, KIND_TIMER, NULL);
}

/* An expiry that was not cleared is forgotten, as by the kernel. */
int os_timer_set(struct os *os, int fd, uint64_t at_ns)
{
    struct memory *before = begin_call(os);
    struct descriptor *timer = descriptor_of(os, fd, KIND_TIMER);
    timer->at_ns = at_ns;
    timer->has_expired = false;
    if (at_ns != 0)
        schedule_timer(timer);
    end_call(before);
    return 0;
}

void os_timer_clear(struct os *os, int fd)
{
    machine_call(os->machine);
    descriptor_of(os, fd, KIND_TIMER)->has_expired = false;
}

/* -- Signals ------------------------------------------------------------------------------------- */

int os_signal_create(struct os *os)
{
    return open_plain(os, KIND_SIGNAL, &os->signal);
}

int os_signal_take(struct os *os, int fd)
{
    machine_call(os->machine);
    (void)descriptor_of(os, fd, KIND_SIGNAL);
    int number = os->signal_number;
    os->signal_number = 0;
    return number;
}

void os_sim_signal(struct os *os, int number)
{
    os->signal_number = number;
    if (os->signal != NULL)
        mark_ready(os->signal);
}

/* -- Network ------------------------------------------------------------------------------------- */

static void pack_address(struct os_address *address, int slot, uint16_t port)
{
    struct address content = { .slot = slot, .port = port };
    *address = (struct os_address){ .size = sizeof content };
    memcpy(address->bytes, &content, sizeof content);
}

static bool unpack_address(const struct os_address *address, struct address *content)
{
    if (address->size != sizeof *content)
        return false;
    memcpy(content, address->bytes, sizeof *content);
    return true;
}

int os_resolve(struct os *os, const char *host, uint16_t port, struct os_address *address)
{
    machine_call(os->machine);
    for (int slot = 0; slot < LINKS_NODES_MAX; slot++) {
        char name[16];
        (void)snprintf(name, sizeof name, OS_SIM_HOST_FORMAT, slot);
        if (strcmp(name, host) == 0) {
            pack_address(address, slot, port);
            return 0;
        }
    }
    return -ENOENT;
}

void os_address_format(const struct os_address *address, char *text, size_t size)
{
    struct address content;
    if (!unpack_address(address, &content))
        (void)snprintf(text, size, "(no address)");
    else if (content.slot >= LINKS_NODES_MAX)
        (void)snprintf(text, size, "client:%u", (unsigned)content.port);
    else
        (void)snprintf(text, size, OS_SIM_HOST_FORMAT ":%u", (int)content.slot,
                       (unsigned)content.port);
}

/* The descriptor is not to be had after all. */
static void give_up(struct descriptor *descriptor)
{
    struct os *os = descriptor->os;
    os->table[descriptor->fd] = NULL;
    if (descriptor->fd < os->lowest_free)
        os->lowest_free = descriptor->fd;
    os->open_count--;
    descriptor->next_free = os->spare;
    os->spare = descriptor;
}

int os_listen(struct os *os, const struct os_address *address, int backlog)
{
    struct machine *machine = os->machine;
    struct memory *before = begin_call(os);
    struct address content;
    bool is_ours = unpack_address(address, &content) && content.slot == machine->slot;
    int code = is_ours ? 0 : -EADDRNOTAVAIL;
    struct descriptor *descriptor = is_ours ? open_descriptor(os, KIND_LISTENER, &code) : NULL;
    if (descriptor != NULL) {
        descriptor->end = net_listen(machine->net, machine->slot, (uint16_t)content.port, backlog,
                                     on_net_changed, descriptor, &code);
        if (descriptor->end == NULL)
            give_up(descriptor);
        else
            code = descriptor->fd;
    }
    end_call(before);
    return code;
}

/* The descriptor is had before the connection, as in a kernel: a process without any hears -EMFILE
 * even if there is nothing to accept. */
int os_accept(struct os *os, int fd, struct os_address *from)
{
    struct memory *before = begin_call(os);
    struct descriptor *listener = descriptor_of(os, fd, KIND_LISTENER);
    int code = -EAGAIN;
    struct descriptor *descriptor = open_descriptor(os, KIND_CONNECTION, &code);
    if (descriptor != NULL) {
        descriptor->end = net_accept(listener->end, on_net_changed, descriptor);
        if (descriptor->end == NULL) {
            give_up(descriptor);
        } else {
            code = descriptor->fd;
            if (from != NULL)
                pack_address(from, net_machine_of_peer(descriptor->end), 0);
        }
    }
    end_call(before);
    return code;
}

int os_connect(struct os *os, const struct os_address *address)
{
    struct machine *machine = os->machine;
    struct memory *before = begin_call(os);
    struct address content = { 0 };
    int code = unpack_address(address, &content) ? 0 : -EAFNOSUPPORT;
    struct descriptor *descriptor = code == 0 ? open_descriptor(os, KIND_CONNECTION, &code) : NULL;
    if (descriptor != NULL) {
        descriptor->end = net_connect(machine->net, machine->slot, content.slot,
                                      (uint16_t)content.port, on_net_changed, descriptor);
        assert(descriptor->end != NULL);
        code = descriptor->fd;
    }
    end_call(before);
    return code;
}

int os_connect_result(struct os *os, int fd)
{
    machine_call(os->machine);
    const struct net_end *end = descriptor_of(os, fd, KIND_CONNECTION)->end;
    return net_state(end) == NET_FAILED ? net_error(end) : 0;
}

ptrdiff_t os_recv(struct os *os, int fd, void *bytes, size_t size)
{
    struct memory *before = begin_call(os);
    ptrdiff_t count = net_recv(descriptor_of(os, fd, KIND_CONNECTION)->end, bytes, size);
    end_call(before);
    return count;
}

ptrdiff_t os_sendv(struct os *os, int fd, const struct iovec *parts, int part_count)
{
    struct memory *before = begin_call(os);
    struct net_end *end = descriptor_of(os, fd, KIND_CONNECTION)->end;
    ptrdiff_t count = net_sendv(end, parts, part_count < PARTS_MAX ? part_count : PARTS_MAX);
    end_call(before);
    return count;
}

int os_descriptor_limit(struct os *os)
{
    machine_call(os->machine);
    return descriptor_limit(os);
}

/* -- Files --------------------------------------------------------------------------------------- */

static struct descriptor *file_of(struct os *os, int fd, unsigned needed)
{
    struct descriptor *descriptor = descriptor_of(os, fd, KIND_FILE);
    if ((descriptor->flags & needed) != needed)
        trace_fail(os->machine->trace, "os", "node %d: file %d was not opened for that",
                   os->machine->slot, fd);
    return descriptor;
}

int os_open(struct os *os, const char *path, unsigned flags)
{
    struct memory *before = begin_call(os);
    int code = 0;
    struct descriptor *descriptor = open_descriptor(os, KIND_FILE, &code);
    if (descriptor != NULL) {
        descriptor->flags = flags;
        descriptor->is_locked = false;
        code = disk_open(os->machine->disk, path, flags, &descriptor->file);
        if (code < 0) {
            give_up(descriptor);
        } else {
            descriptor->errors_told = disk_errors(descriptor->file);
            code = descriptor->fd;
        }
    }
    end_call(before);
    return code;
}

ptrdiff_t os_pread(struct os *os, int fd, void *bytes, size_t size, uint64_t offset)
{
    struct memory *before = begin_call(os);
    struct disk_file *file = file_of(os, fd, OS_READ)->file;
    ptrdiff_t count = disk_read(os->machine->disk, file, bytes, size, offset);
    end_call(before);
    return count;
}

ptrdiff_t os_pwritev(struct os *os, int fd, const struct iovec *parts, int part_count,
                     uint64_t offset)
{
    struct memory *before = begin_call(os);
    struct disk_file *file = file_of(os, fd, OS_WRITE)->file;
    int count_max = part_count < PARTS_MAX ? part_count : PARTS_MAX;
    ptrdiff_t count = disk_write(os->machine->disk, file, parts, count_max, offset);
    end_call(before);
    return count;
}

int64_t os_file_size(struct os *os, int fd)
{
    machine_call(os->machine);
    return (int64_t)disk_size(file_of(os, fd, 0)->file);
}

int os_truncate(struct os *os, int fd, uint64_t size)
{
    struct memory *before = begin_call(os);
    int code = disk_truncate(os->machine->disk, file_of(os, fd, OS_WRITE)->file, size);
    end_call(before);
    return code;
}

/* The time of a blocking flush passes; the process may be left in it, by a crash or for good. */
static void spend_flush(struct machine *machine)
{
    uint64_t flush_ns = machine_flush_ns(machine);
    if (flush_ns == UINT64_MAX)
        machine_leave(machine, MACHINE_HANGS, 0);
    machine_spend(machine, flush_ns);
    machine_call(machine);
}

/* What Linux says at the end of a flush: the error of any write-back of the file, its own or another
 * flush's, once to each open file. So two flushes by one descriptor can be told of each other's. */
static int tell_error(struct descriptor *file, int result)
{
    if (file == NULL)
        return result;
    bool is_news = disk_errors(file->file) != file->errors_told;
    file->errors_told = disk_errors(file->file);
    return is_news ? -EIO : 0;
}

int os_fdatasync(struct os *os, int fd)
{
    struct machine *machine = os->machine;
    struct memory *before = begin_call(os);
    struct disk_file *file = file_of(os, fd, 0)->file;
    uint64_t mark = disk_flush_begin(machine->disk, file);
    spend_flush(machine);
    int code = machine_flush_result(machine);
    disk_flush_end(machine->disk, file, mark, code);
    code = tell_error(file_of(os, fd, 0), code);
    end_call(before);
    return code;
}

int os_rename(struct os *os, const char *from, const char *to)
{
    struct memory *before = begin_call(os);
    int code = disk_rename(os->machine->disk, from, to);
    end_call(before);
    return code;
}

int os_unlink(struct os *os, const char *path)
{
    struct memory *before = begin_call(os);
    int code = disk_unlink(os->machine->disk, path);
    end_call(before);
    return code;
}

int os_mkdir(struct os *os, const char *path)
{
    struct memory *before = begin_call(os);
    int code = disk_mkdir(os->machine->disk, path);
    end_call(before);
    return code;
}

int os_sync_dir(struct os *os, const char *path)
{
    struct machine *machine = os->machine;
    struct memory *before = begin_call(os);
    spend_flush(machine);
    int code = machine_flush_result(machine);
    if (code == 0)
        code = disk_sync_dir(machine->disk, path);
    end_call(before);
    return code;
}

static void keep_name(void *context, const char *name)
{
    struct os *os = context;
    size_t size = strlen(name) + 1;
    if (os->names_capacity - os->names_size < size) {
        os->names_capacity = 2 * os->names_capacity + size + 256;
        os->names = checked(realloc(os->names, os->names_capacity));
    }
    memcpy(os->names + os->names_size, name, size);
    os->names_size += size;
    os->name_count++;
}

static const char *name_at(const struct os *os, uint32_t number)
{
    const char *name = os->names;
    while (number-- > 0)
        name += strlen(name) + 1;
    return name;
}

/* The names are gathered first: `visit` runs as the process, and may leave the turn. Their order is
 * the disk's, begun at a place of chance, and forth or back. */
int os_list_dir(struct os *os, const char *path, void (*visit)(void *context, const char *name),
                void *context)
{
    struct memory *before = begin_call(os);
    os->names_size = 0;
    os->name_count = 0;
    int code = disk_list(os->machine->disk, path, keep_name, os);
    end_call(before);
    uint32_t count = code < 0 ? 0 : os->name_count;
    if (count == 0)
        return code;
    uint32_t first = (uint32_t)random_below(&os->machine->random, count);
    bool is_backward = random_chance(&os->machine->random, 500);
    for (uint32_t i = 0; i < count; i++)
        visit(context, name_at(os, (first + (is_backward ? count - i : i)) % count));
    return 0;
}

int os_lock(struct os *os, int fd)
{
    machine_call(os->machine);
    struct descriptor *wanted = file_of(os, fd, 0);
    for (int other = 0; other < os->table_size; other++) {
        const struct descriptor *descriptor = os->table[other];
        bool holds = descriptor != NULL && descriptor != wanted && descriptor->kind == KIND_FILE &&
                     descriptor->is_locked && descriptor->file == wanted->file;
        if (holds)
            return -EWOULDBLOCK;
    }
    wanted->is_locked = true;
    return 0;
}

/* -- Flushes that do not block ------------------------------------------------------------------- */

static struct flush *find_flush(struct os *os, uint32_t serial)
{
    for (int i = 0; i < OS_FLUSHES_MAX; i++)
        if (os->flushes[i].is_under_way && os->flushes[i].serial == serial)
            return &os->flushes[i];
    return NULL;
}

static void tell_of_flush(struct os *os)
{
    if (os->queue != NULL)
        mark_ready(os->queue);
    if (os->on_flush != NULL) {
        os->on_flush(os->on_flush_context);
        machine_wake(os->machine, timeline_now_ns(os->machine->timeline));
    }
}

static struct descriptor *still_open(const struct os *os, const struct flush *flush)
{
    struct descriptor *file = flush->fd < os->table_size ? os->table[flush->fd] : NULL;
    bool is_same = file != NULL && file->kind == KIND_FILE && file->file == flush->file;
    return is_same ? file : NULL;
}

static void end_flush(struct os *os, struct flush *flush)
{
    int result = machine_flush_result(os->machine);
    disk_flush_end(os->machine->disk, flush->file, flush->mark, result);
    result = tell_error(still_open(os, flush), result);
    disk_release(os->machine->disk, flush->file);
    flush->is_under_way = false;
    os->done[os->done_count++] = (struct os_flush){ .ticket = flush->ticket, .result = result };
}

/* A flush that hangs, or ends while the disk hangs, is looked at again. The serial number keeps the
 * event from a later flush in the same place, the boot from a later process. */
static void on_flush_end(void *owner, uint64_t argument)
{
    struct machine *machine = owner;
    struct os *os = machine->os;
    if (os == NULL || machine->boots != argument >> 32)
        return;
    struct flush *flush = find_flush(os, (uint32_t)argument);
    if (flush == NULL)
        return;
    if (machine->flush_hangs) {
        uint64_t later_ns = random_between(&machine->random, HANG_LOOK_NS / 2, HANG_LOOK_NS);
        timeline_at(machine->timeline, timeline_now_ns(machine->timeline) + later_ns, on_flush_end,
                    machine, argument);
        return;
    }
    end_flush(os, flush);
    tell_of_flush(os);
}

static void schedule_flush(struct os *os, const struct flush *flush)
{
    struct machine *machine = os->machine;
    uint64_t flush_ns = machine_flush_ns(machine);
    if (flush_ns == UINT64_MAX)
        flush_ns = HANG_LOOK_NS;
    uint64_t at_ns = timeline_now_ns(machine->timeline) + machine->turn_cost_ns + flush_ns;
    timeline_at(machine->timeline, at_ns, on_flush_end, machine,
                (uint64_t)machine->boots << 32 | flush->serial);
}

int os_flush_open(struct os *os)
{
    if (os->queue != NULL)
        trace_fail(os->machine->trace, "os", "node %d wants a second flush queue",
                   os->machine->slot);
    return open_plain(os, KIND_QUEUE, &os->queue);
}

int os_flush_start(struct os *os, int queue_fd, int fd, uint64_t ticket)
{
    struct memory *before = begin_call(os);
    (void)descriptor_of(os, queue_fd, KIND_QUEUE);
    struct disk_file *file = file_of(os, fd, 0)->file;
    int code = os->flush_count == OS_FLUSHES_MAX ? -EAGAIN : 0;
    if (code == 0) {
        struct flush *flush = os->flushes;
        while (flush->is_under_way)
            flush++;
        disk_hold(file); /* the descriptor may be closed before the flush ends */
        *flush = (struct flush){ .is_under_way = true,
                                 .serial = ++os->flush_serial,
                                 .ticket = ticket,
                                 .file = file,
                                 .fd = fd,
                                 .mark = disk_flush_begin(os->machine->disk, file) };
        os->flush_count++;
        schedule_flush(os, flush);
    }
    end_call(before);
    return code;
}

int os_flush_done(struct os *os, int queue_fd, struct os_flush *flushes, int flush_max)
{
    machine_call(os->machine);
    (void)descriptor_of(os, queue_fd, KIND_QUEUE);
    int count = os->done_count < flush_max ? os->done_count : flush_max;
    memcpy(flushes, os->done, (size_t)count * sizeof *flushes);
    os->done_count -= count;
    memmove(os->done, os->done + count, (size_t)os->done_count * sizeof *flushes);
    os->flush_count -= count;
    return count;
}

void os_sim_on_flush(struct os *os, void (*on_flush)(void *context), void *context)
{
    os->on_flush = on_flush;
    os->on_flush_context = context;
}

/* Closing the queue waits for the flushes under way, as the kernel does. */
static void drain_queue(struct os *os)
{
    for (int i = 0; i < OS_FLUSHES_MAX; i++) {
        if (!os->flushes[i].is_under_way)
            continue;
        spend_flush(os->machine);
        end_flush(os, &os->flushes[i]);
    }
    os->done_count = os->flush_count = 0;
    os->queue = NULL;
}

/* -- Closing ------------------------------------------------------------------------------------- */

static void drop_watches(struct os *os)
{
    for (int fd = 0; fd < os->table_size; fd++) {
        struct descriptor *descriptor = os->table[fd];
        if (descriptor == NULL || !descriptor->is_watched)
            continue;
        forget_ready(descriptor);
        descriptor->is_watched = false;
    }
    os->epoll = NULL;
}

static void close_object(struct descriptor *descriptor)
{
    struct os *os = descriptor->os;
    switch (descriptor->kind) {
    case KIND_EPOLL:
        drop_watches(os);
        return;
    case KIND_SIGNAL:
        os->signal = NULL;
        return;
    case KIND_LISTENER:
    case KIND_CONNECTION:
        net_close(descriptor->end);
        return;
    case KIND_FILE:
        disk_release(os->machine->disk, descriptor->file);
        return;
    case KIND_QUEUE:
        drain_queue(os);
        return;
    case KIND_TIMER:
        return;
    }
}

int os_close(struct os *os, int fd)
{
    struct memory *before = begin_call(os);
    struct descriptor *descriptor = any_descriptor(os, fd);
    close_object(descriptor);
    forget_ready(descriptor);
    give_up(descriptor);
    end_call(before);
    return 0;
}

/* -- Words --------------------------------------------------------------------------------------- */

bool os_log(struct os *os, const char *line, size_t size)
{
    struct machine *machine = os->machine;
    struct memory *before = begin_call(os);
    size_t shown = size > 0 && line[size - 1] == '\n' ? size - 1 : size;
    trace_line(machine->trace, machine->slot, "%.*s", shown < INT_MAX ? (int)shown : INT_MAX, line);
    if (machine->events.said != NULL)
        machine->events.said(machine->events.context, machine, line, size);
    end_call(before);
    return true;
}

void os_exit(struct os *os, int code)
{
    machine_call(os->machine);
    machine_leave(os->machine, MACHINE_EXITS, code);
}
