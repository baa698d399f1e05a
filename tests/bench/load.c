/* What it costs is taken from the servers, which share the machine: so one epoll set, requests that
 * are templates in which only the digits of the key change, and for each pipeline one send and, if
 * the replies come together, one receive.
 *
 * Replies are checked, not only counted. A value begins with the digits of its key, so a `get` that
 * is answered out of order is noticed; the versions that a connection is given must grow.
 *
 * The leader is found by asking: ERR_REDIRECT names it, and a connection that is told so drains
 * what it has under way and goes there. While there is no leader, or no connection, a connection
 * waits RETRY_MS and tries the next server. */
#include "tests/bench/load.h"

#include <errno.h>
#include <inttypes.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_MS 1000000ull
#define NS_PER_S 1000000000ull

#define SERVERS_MAX 16
#define HOST_MAX 64
#define BUFFERS_SIZE_MAX (1ull << 30) /* of all connections together */
#define DIGITS_MAX 12                 /* of a key's number, as in redis-benchmark */
#define LINE_SIZE_MAX 512             /* of a reply */
#define INPUT_SIZE (256u * 1024)
#define EVENTS_MAX 256
#define RETRY_MS 5
#define DRAIN_MS 5000 /* at the end: how long to wait for what is still under way */
#define PRELOAD_MS 60000

const char *const load_failure_names[LOAD_FAILURE_COUNT] = {
    "ERR_REDIRECT",  "ERR_UNAVAILABLE", "ERR_TIMEOUT",  "ERR_VERSION",  "ERR_CMD_ERR",
    "ERR_TOO_LARGE", "ERR_BUSY",        "ERR_NO_SPACE", "ERR_INTERNAL", "connect",
    "lost",          "unanswered",      "wrong",
};

struct server {
    char host[HOST_MAX];
    uint16_t port;
    struct sockaddr_storage address;
    socklen_t address_size;
};

enum phase { PHASE_PRELOAD, PHASE_WARMUP, PHASE_MEASURE, PHASE_DRAIN };

enum connection_state { CONNECTION_DOWN, CONNECTION_CONNECTING, CONNECTION_UP };

enum parse_state { PARSE_LINE, PARSE_BODY, PARSE_BODY_END };

/* A request under way. */
struct slot {
    uint64_t key;
    bool is_get;
};

struct connection {
    int fd;
    enum connection_state state;
    bool wants_writable;
    bool leaves; /* told to go elsewhere, once all replies are here */
    uint32_t server;
    uint64_t retry_ns; /* DOWN, or UP and told to wait: not before this */

    struct slot *slots; /* `asked` of them, in order; the first `answered` are done */
    uint32_t asked, answered;
    uint64_t sent_ns;
    uint8_t *out;
    size_t out_size, out_done;
    uint64_t last_version;

    enum parse_state parse;
    uint32_t line_size;
    uint64_t body_size, body_seen;
    uint32_t end_seen;
    char line[LINE_SIZE_MAX];
    char body_head[DIGITS_MAX];
};

struct load {
    struct load_options options;
    int server_count;
    struct server servers[SERVERS_MAX];
    uint32_t leader; /* where new connections go */

    /* Templates: a request whose key's number is overwritten at `..._digits`. */
    uint8_t *set_request, *get_request;
    size_t set_size, get_size;
    size_t set_digits, set_value_digits, get_digits;
    uint32_t digits;
    bool value_is_marked; /* it has room for the key's digits */

    int epoll_fd;
    struct connection *connections;
    uint32_t waiting_count; /* with a time in retry_ns */
    uint8_t *input;

    enum phase phase;
    uint64_t phase_end_ns, measure_begin_ns, measure_end_ns;
    uint64_t preload_next, preload_done;
    uint64_t *preload_again; /* keys that failed; as many as can be under way */
    uint64_t preload_again_count;
    uint64_t random;

    struct load_result result;
    uint64_t last_success_ns;
};

static uint64_t now_ns(void)
{
    struct timespec time;

    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * NS_PER_S + (uint64_t)time.tv_nsec;
}

void load_refuse(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    (void)fputs("raftkv-bench: ", stderr);
    (void)vfprintf(stderr, format, arguments);
    (void)fputc('\n', stderr);
    va_end(arguments);
    exit(2);
}

static void *get_memory(size_t count, size_t size)
{
    void *memory = calloc(count > 0 ? count : 1, size);

    if (memory == NULL)
        load_refuse("out of memory");
    return memory;
}

/* Counted while measuring; what went wrong otherwise only shows in the exit code, if at all. */
static void fail(struct load *load, enum load_failure failure, uint64_t times)
{
    if (failure == LOAD_WRONG)
        load->result.was_wrong = true;
    if (load->phase >= PHASE_MEASURE)
        load->result.failures[failure] += times;
}

/* -- Servers ----------------------------------------------------------------------------------- */

/* The server of this address; it is added if it is new. */
static uint32_t find_server(struct load *load, const char *host, uint16_t port)
{
    for (int i = 0; i < load->server_count; i++)
        if (load->servers[i].port == port && strcmp(load->servers[i].host, host) == 0)
            return (uint32_t)i;
    if (load->server_count == SERVERS_MAX)
        load_refuse("more than %d servers", SERVERS_MAX);
    if (strlen(host) >= HOST_MAX)
        load_refuse("the host name '%s' is longer than %d bytes", host, HOST_MAX - 1);

    struct server *server = &load->servers[load->server_count];
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *found;
    char service[8];
    (void)snprintf(service, sizeof service, "%u", port);
    int code = getaddrinfo(host, service, &hints, &found);
    if (code != 0)
        load_refuse("cannot resolve '%s': %s", host, gai_strerror(code));
    memcpy(&server->address, found->ai_addr, found->ai_addrlen);
    server->address_size = found->ai_addrlen;
    freeaddrinfo(found);
    memcpy(server->host, host, strlen(host) + 1);
    server->port = port;
    return (uint32_t)load->server_count++;
}

void load_add_server(struct load *load, const char *host, uint16_t port)
{
    (void)find_server(load, host, port);
}

/* -- Requests ---------------------------------------------------------------------------------- */

static uint64_t next_random(struct load *load)
{
    load->random ^= load->random >> 12;
    load->random ^= load->random << 25;
    load->random ^= load->random >> 27;
    return load->random * 0x2545F4914F6CDD1Dull;
}

/* `end`: at most 2^32. */
static uint64_t next_below(struct load *load, uint64_t end)
{
    return ((next_random(load) >> 32) * end) >> 32;
}

static void put_digits(uint8_t *at, uint32_t digits, uint64_t number)
{
    while (digits > 0) {
        at[--digits] = (uint8_t)('0' + number % 10);
        number /= 10;
    }
}

/* "key:" and more, then the digits, if there is room. */
static void put_key(char *key, const struct load_options *options, uint32_t digits)
{
    static const char prefix[] = "key:";
    uint32_t prefix_size = options->key_size - digits;

    for (uint32_t i = 0; i < prefix_size; i++)
        key[i] = i < sizeof prefix - 1 ? prefix[i] : '.';
    memset(key + prefix_size, '0', digits);
    key[options->key_size] = '\0';
}

static void make_templates(struct load *load)
{
    const struct load_options *options = &load->options;
    char key[LOAD_KEY_SIZE_MAX + 1], head[LOAD_KEY_SIZE_MAX + 64];

    load->digits = options->key_size < DIGITS_MAX ? options->key_size : DIGITS_MAX;
    uint64_t numbers = 1;
    for (uint32_t i = 0; i < load->digits; i++)
        numbers *= 10;
    if (options->keys > numbers)
        load_refuse("keys of %u bytes can be %" PRIu64 " at most", options->key_size, numbers);
    put_key(key, options, load->digits);
    load->value_is_marked = options->value_size >= load->digits;

    int size = snprintf(head, sizeof head, "set %s 0 %u\r\n", key, options->value_size);
    load->set_size = (size_t)size + options->value_size + 2;
    load->set_request = get_memory(load->set_size, 1);
    memcpy(load->set_request, head, (size_t)size);
    memset(load->set_request + size, 'v', options->value_size);
    memcpy(load->set_request + load->set_size - 2, "\r\n", 2);
    load->set_digits = 4 + options->key_size - load->digits;
    load->set_value_digits = (size_t)size;

    size = snprintf(head, sizeof head, "get %s\r\n", key);
    load->get_size = (size_t)size;
    load->get_request = get_memory(load->get_size, 1);
    memcpy(load->get_request, head, load->get_size);
    load->get_digits = load->set_digits;
}

static bool is_set_mode(const struct load *load)
{
    return load->phase == PHASE_PRELOAD || load->options.mode == LOAD_SET;
}

static struct slot choose_request(struct load *load)
{
    const struct load_options *options = &load->options;
    struct slot slot = { .is_get = !is_set_mode(load) };

    if (load->phase == PHASE_PRELOAD) {
        slot.key = load->preload_again_count > 0 ? load->preload_again[--load->preload_again_count]
                                                 : load->preload_next++;
        return slot;
    }
    if (options->mode == LOAD_MIX)
        slot.is_get = next_below(load, 100) < options->read_percent;
    slot.key = next_below(load, options->keys);
    return slot;
}

static size_t put_request(const struct load *load, const struct slot *slot, uint8_t *out)
{
    if (slot->is_get) {
        memcpy(out, load->get_request, load->get_size);
        put_digits(out + load->get_digits, load->digits, slot->key);
        return load->get_size;
    }
    memcpy(out, load->set_request, load->set_size);
    put_digits(out + load->set_digits, load->digits, slot->key);
    if (load->value_is_marked)
        memcpy(out + load->set_value_digits, out + load->set_digits, load->digits);
    return load->set_size;
}

/* How many requests the next pipeline may hold now. */
static uint32_t allowed_requests(const struct load *load)
{
    uint64_t left = load->options.keys - load->preload_next + load->preload_again_count;

    switch (load->phase) {
    case PHASE_PRELOAD:
        return left < load->options.depth ? (uint32_t)left : load->options.depth;
    case PHASE_DRAIN:
        return 0;
    default:
        return load->options.depth;
    }
}

/* -- Connections ------------------------------------------------------------------------------- */

static void set_retry(struct load *load, struct connection *connection, uint64_t at_ns)
{
    if (connection->retry_ns == 0)
        load->waiting_count++;
    connection->retry_ns = at_ns;
}

static void clear_retry(struct load *load, struct connection *connection)
{
    if (connection->retry_ns != 0)
        load->waiting_count--;
    connection->retry_ns = 0;
}

/* A request that came to nothing; while preloading its key is written again. */
static void give_up_request(struct load *load, const struct slot *slot, enum load_failure failure)
{
    if (load->phase == PHASE_PRELOAD)
        load->preload_again[load->preload_again_count++] = slot->key;
    fail(load, failure, 1);
}

static void close_connection(struct load *load, struct connection *connection)
{
    while (connection->answered < connection->asked)
        give_up_request(load, &connection->slots[connection->answered++], LOAD_LOST);
    if (connection->fd >= 0)
        (void)close(connection->fd);
    connection->fd = -1;
    connection->state = CONNECTION_DOWN;
    connection->asked = connection->answered = 0;
    connection->leaves = connection->wants_writable = false;
    connection->out_size = connection->out_done = 0;
    connection->parse = PARSE_LINE;
    connection->line_size = 0;
    connection->last_version = 0;
}

/* The connection is gone. Whoever notices first takes all others to the next server; a redirect
 * there brings them to the leader. */
static void lose_connection(struct load *load, struct connection *connection)
{
    if (connection->server == load->leader)
        load->leader = (load->leader + 1) % (uint32_t)load->server_count;
    close_connection(load, connection);
    set_retry(load, connection, now_ns() + RETRY_MS * NS_PER_MS);
}

static void watch(struct load *load, struct connection *connection, bool writable, int operation)
{
    struct epoll_event event = { .events = EPOLLIN | (writable ? (uint32_t)EPOLLOUT : 0),
                                 .data.ptr = connection };

    if (epoll_ctl(load->epoll_fd, operation, connection->fd, &event) < 0)
        load_refuse("epoll_ctl: %s", strerror(errno));
    connection->wants_writable = writable;
}

static void connect_to_leader(struct load *load, struct connection *connection)
{
    const struct server *server = &load->servers[load->leader];
    int on = 1;

    clear_retry(load, connection);
    connection->server = load->leader;
    connection->fd =
        socket(server->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (connection->fd < 0)
        load_refuse("socket: %s", strerror(errno));
    (void)setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(connection->fd, (const struct sockaddr *)&server->address, server->address_size) <
            0 &&
        errno != EINPROGRESS) {
        fail(load, LOAD_CONNECT, 1);
        lose_connection(load, connection);
        return;
    }
    connection->state = CONNECTION_CONNECTING;
    watch(load, connection, true, EPOLL_CTL_ADD);
}

static void send_rest(struct load *load, struct connection *connection)
{
    ssize_t size = send(connection->fd, connection->out + connection->out_done,
                        connection->out_size - connection->out_done, MSG_NOSIGNAL);

    if (size < 0 && errno != EAGAIN) {
        lose_connection(load, connection);
        return;
    }
    if (size > 0)
        connection->out_done += (size_t)size;
    bool has_more = connection->out_done < connection->out_size;
    if (has_more != connection->wants_writable)
        watch(load, connection, has_more, EPOLL_CTL_MOD);
}

/* The next pipeline, if this connection has none under way and may have one. */
static void ask(struct load *load, struct connection *connection, uint64_t now)
{
    uint32_t count = allowed_requests(load);

    connection->asked = connection->answered = 0;
    if (count == 0)
        return;
    uint8_t *out = connection->out;
    for (uint32_t i = 0; i < count; i++) {
        connection->slots[i] = choose_request(load);
        out += put_request(load, &connection->slots[i], out);
    }
    connection->asked = count;
    connection->out_size = (size_t)(out - connection->out);
    connection->out_done = 0;
    connection->sent_ns = now;
    send_rest(load, connection);
}

/* All replies are here: go on, or away. */
static void turn_over(struct load *load, struct connection *connection, uint64_t now)
{
    if (connection->leaves) {
        close_connection(load, connection);
        set_retry(load, connection, connection->retry_ns != 0 ? connection->retry_ns : now);
    } else if (connection->retry_ns == 0) {
        ask(load, connection, now);
    } else {
        connection->asked = connection->answered = 0;
    }
}

/* -- Replies ----------------------------------------------------------------------------------- */

static void succeed(struct load *load, struct connection *connection, uint64_t now)
{
    const struct slot *slot = &connection->slots[connection->answered];

    load->result.operations_total++;
    if (load->phase == PHASE_PRELOAD)
        load->preload_done++;
    if (load->phase != PHASE_MEASURE)
        return;
    histogram_add(slot->is_get ? &load->result.gets : &load->result.sets,
                  now - connection->sent_ns);
    if (now - load->last_success_ns > load->result.gap_ns_max)
        load->result.gap_ns_max = now - load->last_success_ns;
    load->last_success_ns = now;
}

static void follow_redirect(struct load *load, struct connection *connection)
{
    char host[HOST_MAX];
    uint16_t port;

    if (sscanf(connection->line, "ERR_REDIRECT %63s %" SCNu16, host, &port) != 2 || port == 0) {
        fail(load, LOAD_WRONG, 1);
        return;
    }
    uint32_t server = find_server(load, host, port);
    connection->leaves = true;
    load->leader = server;
    if (server == connection->server) /* it will learn who leads before long */
        set_retry(load, connection, now_ns() + RETRY_MS * NS_PER_MS);
}

/* A line that begins with ERR_ and is not about the key. */
static void take_error(struct load *load, struct connection *connection, uint64_t now)
{
    const struct slot *slot = &connection->slots[connection->answered];

    for (int i = 0; i <= LOAD_INTERNAL; i++) {
        size_t size = strlen(load_failure_names[i]);
        if (strncmp(connection->line, load_failure_names[i], size) != 0 ||
            (connection->line[size] != ' ' && connection->line[size] != '\0'))
            continue;
        give_up_request(load, slot, (enum load_failure)i);
        if (i == LOAD_REDIRECT) {
            follow_redirect(load, connection);
        } else {
            set_retry(load, connection, now + RETRY_MS * NS_PER_MS);
            if ((i == LOAD_UNAVAILABLE || i == LOAD_TIMEOUT) && !connection->leaves) {
                connection->leaves = true;
                if (load->leader == connection->server)
                    load->leader = (load->leader + 1) % (uint32_t)load->server_count;
            }
        }
        return;
    }
    give_up_request(load, slot, LOAD_WRONG);
}

static bool read_size(const char *line, uint64_t *number)
{
    char *end;

    *number = strtoull(line, &end, 10);
    return end != line && *end == '\0';
}

/* A whole line is in connection->line; a value may follow it. */
static void take_line(struct load *load, struct connection *connection, uint64_t now)
{
    const struct slot *slot = &connection->slots[connection->answered];
    const char *line = connection->line;
    uint64_t number;

    if (slot->is_get && strncmp(line, "VALUE ", 6) == 0 && read_size(line + 6, &number)) {
        connection->body_size = number;
        connection->body_seen = connection->end_seen = 0;
        connection->parse = connection->body_size > 0 ? PARSE_BODY : PARSE_BODY_END;
        return;
    }
    if (slot->is_get && strncmp(line, "ERR_NOT_FOUND", 13) == 0) {
        if (load->phase == PHASE_MEASURE)
            load->result.misses++;
        succeed(load, connection, now);
    } else if (!slot->is_get && strncmp(line, "OK ", 3) == 0 && read_size(line + 3, &number) &&
               number > connection->last_version) {
        connection->last_version = number;
        succeed(load, connection, now);
    } else {
        take_error(load, connection, now);
    }
    connection->answered++;
}

/* A value and its line end have passed by. */
static void take_value(struct load *load, struct connection *connection, uint64_t now)
{
    const struct slot *slot = &connection->slots[connection->answered];
    uint8_t wanted[DIGITS_MAX];

    put_digits(wanted, load->digits, slot->key);
    if (connection->body_size != load->options.value_size ||
        (load->value_is_marked && memcmp(wanted, connection->body_head, load->digits) != 0))
        fail(load, LOAD_WRONG, 1);
    else
        succeed(load, connection, now);
    connection->answered++;
    connection->parse = PARSE_LINE;
}

/* Take as much of a line as is there. Returns how much, or -1 if it cannot be a reply. */
static ssize_t parse_line(struct load *load, struct connection *connection, const uint8_t *bytes,
                          size_t size, uint64_t now)
{
    const uint8_t *end = memchr(bytes, '\n', size);
    size_t used = end != NULL ? (size_t)(end - bytes) + 1 : size;

    if (connection->line_size + used >= LINE_SIZE_MAX)
        return -1;
    memcpy(connection->line + connection->line_size, bytes, used);
    connection->line_size += (uint32_t)used;
    if (end == NULL)
        return (ssize_t)used;
    if (connection->line_size < 2 || connection->line[connection->line_size - 2] != '\r')
        return -1;
    connection->line[connection->line_size - 2] = '\0';
    connection->line_size = 0;
    take_line(load, connection, now);
    return (ssize_t)used;
}

static size_t parse_body(struct load *load, struct connection *connection, const uint8_t *bytes,
                         size_t size)
{
    uint64_t left = connection->body_size - connection->body_seen;
    size_t used = left < size ? (size_t)left : size;

    for (size_t i = 0; i < used && connection->body_seen + i < load->digits; i++)
        connection->body_head[connection->body_seen + i] = (char)bytes[i];
    connection->body_seen += used;
    if (connection->body_seen == connection->body_size)
        connection->parse = PARSE_BODY_END;
    return used;
}

static bool parse_input(struct load *load, struct connection *connection, const uint8_t *bytes,
                        size_t size, uint64_t now)
{
    while (size > 0) {
        ssize_t used = 1;
        if (connection->answered == connection->asked)
            return false; /* nothing was asked */
        switch (connection->parse) {
        case PARSE_LINE:
            used = parse_line(load, connection, bytes, size, now);
            if (used < 0)
                return false;
            break;
        case PARSE_BODY:
            used = (ssize_t)parse_body(load, connection, bytes, size);
            break;
        case PARSE_BODY_END:
            if (*bytes != (uint8_t) "\r\n"[connection->end_seen++])
                return false;
            if (connection->end_seen == 2)
                take_value(load, connection, now);
            break;
        }
        bytes += used;
        size -= (size_t)used;
    }
    return true;
}

static void on_readable(struct load *load, struct connection *connection)
{
    ssize_t size = recv(connection->fd, load->input, INPUT_SIZE, 0);
    uint64_t now = now_ns();

    if (size < 0 && errno == EAGAIN)
        return;
    if (size <= 0) {
        lose_connection(load, connection);
        return;
    }
    if (!parse_input(load, connection, load->input, (size_t)size, now)) {
        fail(load, LOAD_WRONG, 1);
        lose_connection(load, connection);
        return;
    }
    if (connection->answered == connection->asked)
        turn_over(load, connection, now);
}

static void on_connected(struct load *load, struct connection *connection)
{
    int code = 0;
    socklen_t size = sizeof code;

    if (getsockopt(connection->fd, SOL_SOCKET, SO_ERROR, &code, &size) < 0 || code != 0) {
        fail(load, LOAD_CONNECT, 1);
        lose_connection(load, connection);
        return;
    }
    connection->state = CONNECTION_UP;
    watch(load, connection, false, EPOLL_CTL_MOD);
    ask(load, connection, now_ns());
}

static void on_event(struct load *load, struct connection *connection, uint32_t events)
{
    if (connection->state == CONNECTION_DOWN)
        return;
    if (connection->state == CONNECTION_CONNECTING) {
        on_connected(load, connection);
        return;
    }
    if (events & EPOLLOUT)
        send_rest(load, connection);
    if (connection->state == CONNECTION_UP && (events & (EPOLLIN | EPOLLERR | EPOLLHUP)))
        on_readable(load, connection);
}

/* -- Phases ------------------------------------------------------------------------------------ */

static uint64_t to_ns(double seconds)
{
    return (uint64_t)(seconds * (double)NS_PER_S);
}

static uint64_t under_way(const struct load *load)
{
    uint64_t count = 0;

    for (uint32_t i = 0; i < load->options.connections; i++)
        count += load->connections[i].asked - load->connections[i].answered;
    return count;
}

/* Connections that have nothing under way and wait for nothing begin. */
static void wake_all(struct load *load, uint64_t now)
{
    for (uint32_t i = 0; i < load->options.connections; i++) {
        struct connection *connection = &load->connections[i];
        if (connection->state == CONNECTION_UP && connection->asked == connection->answered &&
            connection->retry_ns == 0)
            ask(load, connection, now);
    }
}

static void retry_all(struct load *load, uint64_t now)
{
    for (uint32_t i = 0; i < load->options.connections; i++) {
        struct connection *connection = &load->connections[i];
        if (connection->retry_ns == 0 || connection->retry_ns > now)
            continue;
        if (connection->state == CONNECTION_DOWN) {
            connect_to_leader(load, connection);
        } else if (connection->asked == connection->answered) {
            clear_retry(load, connection);
            ask(load, connection, now);
        }
    }
}

static void begin_phase(struct load *load, enum phase phase, uint64_t now)
{
    const double seconds[] = { [PHASE_PRELOAD] = PRELOAD_MS / 1e3,
                               [PHASE_WARMUP] = load->options.warmup,
                               [PHASE_MEASURE] = load->options.seconds,
                               [PHASE_DRAIN] = DRAIN_MS / 1e3 };

    load->phase = phase;
    load->phase_end_ns = now + to_ns(seconds[phase]);
    if (phase == PHASE_MEASURE)
        load->measure_begin_ns = load->measure_end_ns = load->last_success_ns = now;
    if (phase == PHASE_DRAIN && load->measure_begin_ns != 0)
        load->measure_end_ns = now;
    wake_all(load, now);
}

/* Returns false when all is over. */
static bool advance_phase(struct load *load, uint64_t now)
{
    bool is_late = now >= load->phase_end_ns;

    switch (load->phase) {
    case PHASE_PRELOAD:
        if (is_late)
            load_refuse("preloading took longer than %d s: %" PRIu64 " of %" PRIu64 " keys",
                        PRELOAD_MS / 1000, load->preload_done, load->options.keys);
        if (load->preload_done == load->options.keys)
            begin_phase(load, load->options.seconds > 0 ? PHASE_WARMUP : PHASE_DRAIN, now);
        return true;
    case PHASE_WARMUP:
        if (is_late)
            begin_phase(load, PHASE_MEASURE, now);
        return true;
    case PHASE_MEASURE:
        if (is_late)
            begin_phase(load, PHASE_DRAIN, now);
        return true;
    case PHASE_DRAIN:
        if (is_late)
            fail(load, LOAD_UNANSWERED, under_way(load));
        return !is_late && under_way(load) > 0;
    }
    return false;
}

static int wait_ms(const struct load *load, uint64_t now)
{
    uint64_t left_ns = load->phase_end_ns > now ? load->phase_end_ns - now : 0;
    uint64_t left_ms = left_ns / NS_PER_MS + 1;

    if (load->waiting_count > 0 && left_ms > RETRY_MS / 2)
        return RETRY_MS / 2;
    return left_ms < 100 ? (int)left_ms : 100;
}

/* The time from the last success to the end is a gap too. */
static void finish_result(struct load *load, struct load_result *result)
{
    uint64_t tail_ns = load->measure_end_ns - load->last_success_ns;

    if (load->last_success_ns < load->measure_end_ns && tail_ns > load->result.gap_ns_max)
        load->result.gap_ns_max = tail_ns;
    load->result.seconds =
        (double)(load->measure_end_ns - load->measure_begin_ns) / (double)NS_PER_S;
    *result = load->result;
}

void load_run(struct load *load, struct load_result *result)
{
    struct epoll_event events[EVENTS_MAX];
    uint64_t now = now_ns();

    begin_phase(load, load->options.preload ? PHASE_PRELOAD : PHASE_WARMUP, now);
    for (uint32_t i = 0; i < load->options.connections; i++)
        connect_to_leader(load, &load->connections[i]);

    while (advance_phase(load, now)) {
        int count = epoll_wait(load->epoll_fd, events, EVENTS_MAX, wait_ms(load, now));
        if (count < 0 && errno != EINTR)
            load_refuse("epoll_wait: %s", strerror(errno));
        for (int i = 0; i < count; i++)
            on_event(load, events[i].data.ptr, events[i].events);
        now = now_ns();
        if (load->waiting_count > 0)
            retry_all(load, now);
        if (load->phase == PHASE_PRELOAD && load->preload_again_count > 0)
            wake_all(load, now);
    }
    finish_result(load, result);
}

/* -- Life -------------------------------------------------------------------------------------- */

static void make_connections(struct load *load)
{
    const struct load_options *options = &load->options;
    size_t request_size = load->set_size > load->get_size ? load->set_size : load->get_size;

    if ((uint64_t)options->connections * options->depth * request_size > BUFFERS_SIZE_MAX)
        load_refuse("connections x depth x request size is above %llu bytes", BUFFERS_SIZE_MAX);
    load->connections = get_memory(options->connections, sizeof *load->connections);
    load->preload_again =
        get_memory((size_t)options->connections * options->depth, sizeof *load->preload_again);
    load->input = get_memory(INPUT_SIZE, 1);
    for (uint32_t i = 0; i < options->connections; i++) {
        struct connection *connection = &load->connections[i];
        connection->fd = -1;
        connection->slots = get_memory(options->depth, sizeof *connection->slots);
        connection->out = get_memory(options->depth, request_size);
    }
}

struct load *load_new(const struct load_options *options)
{
    struct load *load = get_memory(1, sizeof *load);

    load->options = *options;
    if (options->seconds <= 0)
        load->options.warmup = 0;
    load->random = options->seed * 2 + 0x9E3779B97F4A7C15ull;
    load->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (load->epoll_fd < 0)
        load_refuse("epoll_create1: %s", strerror(errno));
    make_templates(load);
    make_connections(load);
    return load;
}

void load_free(struct load *load)
{
    for (uint32_t i = 0; i < load->options.connections; i++) {
        struct connection *connection = &load->connections[i];
        if (connection->fd >= 0)
            (void)close(connection->fd);
        free(connection->slots);
        free(connection->out);
    }
    (void)close(load->epoll_fd);
    free(load->connections);
    free(load->preload_again);
    free(load->input);
    free(load->set_request);
    free(load->get_request);
    free(load);
}
