/* A real node, node 1 of two, and a leader that is played here over its peer port: what a node takes
 * from a peer, and what it refuses by name, when every frame is well-formed.
 *
 *     peer_refusals SERVER      the path of raftkv-server */
#include <arpa/inet.h>
#include <check.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "server/crc32c.h"
#include "server/endian.h"
#include "server/peer/handshake.h"

#define PATIENCE_S 60
#define ENTRY_BYTES_MAX (1u << 20)
#define TERM 5

static const char *server_path;

struct place {
    char dir[64], config[96], log[96];
    uint16_t log_port, client_port;
    pid_t process;
    int fd; /* our link to the node */
    uint8_t input[1 << 16];
    size_t input_size;
};

static struct place place;

static void wait_a_moment(time_t until)
{
    ck_assert_msg(time(NULL) < until, "waited %d s in vain", PATIENCE_S);
    poll(NULL, 0, 5);
}

static uint16_t free_port(void)
{
    struct sockaddr_in address = { .sin_family = AF_INET };
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, size), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    close(fd);
    return ntohs(address.sin_port);
}

static void start_node(void)
{
    place.process = fork();
    ck_assert_int_ge(place.process, 0);
    if (place.process == 0) {
        int log = open(place.log, O_WRONLY | O_CREAT | O_APPEND, 0600);
        dup2(log, STDERR_FILENO);
        execl(server_path, server_path, "--config", place.config, "1", (char *)NULL);
        _exit(127);
    }
}

/* The exit code of the node, which must end by itself or by `signal_number`. */
static int end_node(int signal_number)
{
    int status;
    time_t until = time(NULL) + PATIENCE_S;

    if (signal_number != 0)
        kill(place.process, signal_number);
    while (waitpid(place.process, &status, WNOHANG) == 0)
        wait_a_moment(until);
    place.process = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void setup(void)
{
    memset(&place, 0, sizeof place);
    snprintf(place.dir, sizeof place.dir, "/tmp/raftkv-peer-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(place.dir));
    snprintf(place.config, sizeof place.config, "%s/server.json", place.dir);
    snprintf(place.log, sizeof place.log, "%s/log", place.dir);
    place.log_port = free_port();
    place.client_port = free_port();
    FILE *file = fopen(place.config, "w");
    fprintf(file,
            "{\"Path\": \"data\", \"Servers\": ["
            "{\"Id\": 0, \"Host\": \"127.0.0.1\", \"ClientPort\": 1, \"LogPort\": 2},"
            "{\"Id\": 1, \"Host\": \"127.0.0.1\", \"ClientPort\": %u, \"LogPort\": %u}]}",
            place.client_port, place.log_port);
    fclose(file);
    place.fd = -1;
    start_node();
}

static void teardown(void)
{
    char command[128];

    if (place.fd >= 0)
        close(place.fd);
    if (place.process != 0)
        (void)end_node(SIGKILL);
    snprintf(command, sizeof command, "rm -rf '%s'", place.dir);
    ck_assert_int_eq(system(command), 0);
}

static bool log_has(const char *text)
{
    static char bytes[1 << 18];
    FILE *file = fopen(place.log, "r");
    size_t size = file == NULL ? 0 : fread(bytes, 1, sizeof bytes - 1, file);

    if (file != NULL)
        fclose(file);
    bytes[size] = '\0';
    return strstr(bytes, text) != NULL;
}

static void until_log_has(const char *text)
{
    time_t until = time(NULL) + PATIENCE_S;
    while (!log_has(text))
        wait_a_moment(until);
}

static int dial(uint16_t port)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port) };
    time_t until = time(NULL) + PATIENCE_S;

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (;;) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
            return fd;
        close(fd);
        wait_a_moment(until);
    }
}

static void say(const void *bytes, size_t size)
{
    ck_assert_int_eq(send(place.fd, bytes, size, MSG_NOSIGNAL), (ssize_t)size);
}

/* The next frame of `type`; false at the end of the stream. */
static bool hear(enum frame_type type, struct frame *frame)
{
    static struct entry entries[RAFT_APPEND_ENTRIES_MAX];
    struct pollfd ready = { .fd = place.fd, .events = POLLIN };

    for (;;) {
        enum frame_fault fault =
            frame_decode(place.input, place.input_size, ENTRY_BYTES_MAX, frame, entries);
        if (fault == FRAME_WHOLE) {
            memmove(place.input, place.input + frame->size, place.input_size - frame->size);
            place.input_size -= frame->size;
            if (frame->type == type)
                return true;
            continue;
        }
        ck_assert_int_eq(fault, FRAME_CUT);
        ck_assert_int_eq(poll(&ready, 1, PATIENCE_S * 1000), 1);
        ssize_t size = recv(place.fd, place.input + place.input_size,
                            sizeof place.input - place.input_size, 0);
        if (size <= 0)
            return false;
        place.input_size += (size_t)size;
    }
}

static void link_up(void)
{
    struct peers_options options = { .member_count = 2 };
    struct frame_hello hello = {
        .protocol_min = 1, .protocol_max = 1, .incarnation = 77, .boot = 5, .cluster = "raftkv"
    };
    uint8_t bytes[FRAME_HELLO_SIZE];
    struct frame frame;

    options.members[1].id = 1;
    hello.servers = handshake_servers(&options);
    place.fd = dial(place.log_port);
    place.input_size = 0;
    say(bytes, frame_encode_hello(bytes, 0, 1, &hello));
    ck_assert(hear(FRAME_HELLO, &frame));
}

/* An entry of `kind` at `index`; its bytes stand in `bytes`. */
static struct entry make_entry(uint8_t *bytes, uint16_t kind, uint64_t index, uint64_t chain)
{
    struct entry entry = { .size = ENTRY_HEADER_SIZE, .kind = kind, .term = TERM, .index = index };

    if (kind == ENTRY_GENESIS) {
        struct entry_genesis genesis = { .feature_level = ENTRY_FEATURE_LEVEL,
                                         .voter_count = 2,
                                         .voters = { 0, 1 } };
        entry.size += (uint32_t)entry_genesis_encode(bytes + ENTRY_HEADER_SIZE, &genesis);
    }
    entry_seal(bytes, chain, &entry);
    return entry;
}

static void append(const struct entry *entry, uint64_t commit_index)
{
    struct raft_message message = { .type = RAFT_APPEND, .from = 0, .to = 1, .term = TERM };
    uint8_t bytes[FRAME_SIZE_MAX + 512];

    message.append.prev.index = entry->index - 1;
    message.append.prev.term = entry->index > 1 ? TERM : 0;
    message.append.commit_index = commit_index;
    message.append.entry_count = 1;
    message.append.entry_terms[0] = TERM;
    size_t size = frame_encode_message(bytes, &message, entry);
    memcpy(bytes + size, entry->bytes, entry->size);
    say(bytes, size + entry->size);
}

static void until_durable(uint64_t index)
{
    struct frame frame;

    do
        ck_assert(hear(FRAME_APPEND_REPLY, &frame));
    while (!frame.message.append_reply.success || frame.message.append_reply.durable_index < index);
}

/* The link is up and the node holds entry 1. Returns the chain of that entry. */
static uint64_t lead(void)
{
    uint8_t bytes[ENTRY_HEADER_SIZE + ENTRY_GENESIS_SIZE_MAX];

    link_up();
    struct entry genesis = make_entry(bytes, ENTRY_GENESIS, 1, 0);
    append(&genesis, 1);
    until_durable(1);
    return genesis.chain;
}

static bool status_has(const char *line)
{
    static char bytes[8192];
    size_t size = 0;
    ssize_t count;
    int fd = dial(place.client_port);

    ck_assert_int_eq(send(fd, "status\nquit\n", 12, MSG_NOSIGNAL), 12);
    while ((count = recv(fd, bytes + size, sizeof bytes - 1 - size, 0)) > 0)
        size += (size_t)count;
    close(fd);
    bytes[size] = '\0';
    return strstr(bytes, line) != NULL;
}

START_TEST(an_entry_that_continues_the_log_is_taken)
{
    uint8_t bytes[ENTRY_HEADER_SIZE];
    struct entry next = make_entry(bytes, ENTRY_CLOCK, 2, lead());

    append(&next, 2);
    until_durable(2);
    ck_assert(status_has("STAT commit_index 2\r\n"));
    ck_assert(status_has("STAT broken_chains 0\r\n"));
}
END_TEST

START_TEST(a_broken_chain_is_refused_by_name)
{
    uint8_t bytes[ENTRY_HEADER_SIZE];
    struct entry next = make_entry(bytes, ENTRY_CLOCK, 2, lead() ^ 1);
    struct frame frame;

    append(&next, 2);
    ck_assert(!hear(FRAME_APPEND_REPLY, &frame) || !hear(FRAME_APPEND_REPLY, &frame));
    until_log_has("append refused: broken chain");
    ck_assert(status_has("STAT broken_chains 1\r\n"));
    ck_assert(status_has("STAT last_index 1\r\n"));
}
END_TEST

START_TEST(an_unknown_kind_stops_the_node_and_is_not_kept)
{
    uint8_t bytes[ENTRY_HEADER_SIZE];
    uint64_t chain = lead();
    struct entry next = make_entry(bytes, 99, 2, chain);

    append(&next, 2);
    ck_assert_int_eq(end_node(0), 1);
    ck_assert(log_has("is of kind 99, which this version does not know"));
    close(place.fd);
    start_node();
    link_up();
    ck_assert(status_has("STAT last_index 1\r\n"));
    next = make_entry(bytes, ENTRY_CLOCK, 2, chain);
    append(&next, 2);
    until_durable(2);
}
END_TEST

START_TEST(a_foreign_format_version_is_refused_by_name)
{
    uint8_t bytes[ENTRY_HEADER_SIZE];
    struct entry next = make_entry(bytes, ENTRY_CLOCK, 2, lead());
    struct frame frame;

    store_u16(bytes + 8, ENTRY_VERSION + 1);
    store_u32(bytes, crc32c(0, bytes + 4, sizeof bytes - 4));
    append(&next, 2);
    while (hear(FRAME_APPEND_REPLY, &frame))
        ;
    until_log_has("format");
    ck_assert(status_has("STAT last_index 1\r\n"));
    ck_assert(status_has("STAT peers_bad_frames 1\r\n"));
}
END_TEST

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: peer_refusals SERVER\n");
        return EXIT_FAILURE;
    }
    server_path = argv[1];

    Suite *suite = suite_create("peer_refusals");
    TCase *tcase = tcase_create("refusals");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 2 * PATIENCE_S);
    tcase_add_test(tcase, an_entry_that_continues_the_log_is_taken);
    tcase_add_test(tcase, a_broken_chain_is_refused_by_name);
    tcase_add_test(tcase, an_unknown_kind_stops_the_node_and_is_not_kept);
    tcase_add_test(tcase, a_foreign_format_version_is_refused_by_name);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
