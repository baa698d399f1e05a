/* What a running scenario is made of: shared by script*.c. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "tests/sim/text_reply.h"
#include "tests/sim/world_state.h"

#define SCRIPT_WORDS_MAX 24
#define SCRIPT_WORD_MAX 128
#define SCRIPT_NAME_MAX 32
#define SCRIPT_VARIABLES_MAX 32
#define SCRIPT_LINES_KEPT 64
#define SCRIPT_LINE_MAX 256

struct script_step {
    int line;
    int word_count;
    char words[SCRIPT_WORDS_MAX][SCRIPT_WORD_MAX];
};

struct script_variable {
    char name[SCRIPT_NAME_MAX], text[SCRIPT_NAME_MAX];
};

struct script_node {
    bool has_exited; /* by itself, and the script has not yet said that it expects that */
    int exit_code;
    bool has_crashed;    /* at the call that `crash` named, and not started since */
    uint64_t last_index; /* of its log */
    uint64_t index_before, index_recovered; /* the same, when it went down and when it started */
    uint64_t turn_ns;                       /* the longest turn since the last `remember` */
    uint64_t line_count;
    char lines[SCRIPT_LINES_KEPT][SCRIPT_LINE_MAX]; /* a ring of what it has logged */
    struct machine_events events;                   /* the world's, which ours call */
};

enum script_fate { SCRIPT_OPEN, SCRIPT_ENDED };

struct script_request {
    char name[SCRIPT_NAME_MAX];  /* of `begin`; else empty */
    char value[SCRIPT_NAME_MAX]; /* of a set: what the script calls its value */
    struct op op;
    int slot; /* of the node that is asked */
    enum script_fate fate;
    struct outcome outcome;
    enum text_reply_kind reply; /* level 3; PARTIAL: none came */
};

struct script_connections; /* script_client.c, level 3 */

struct script_run {
    const char *path;
    const struct script_step *steps;
    int step_count;
    const struct script_step *step; /* the one that runs */
    int at;                         /* its next word */
    char word[SCRIPT_WORD_MAX];     /* the last one taken, variables replaced */
    bool is_check; /* steps are read and have no effect: the whole file is looked through first */
    bool print;

    int level;
    int node_count;
    uint64_t seed;
    bool starts_down;
    bool has_begun; /* settings are not taken any more */
    enum disk_tear tear;
    struct plan plan;
    struct world *world; /* NULL: settings are still taken */
    struct script_node nodes[LINKS_NODES_MAX];
    struct script_variable variables[SCRIPT_VARIABLES_MAX];
    int variable_count;
    struct script_request *requests;
    size_t request_count, request_capacity;
    struct script_connections *connections;
    uint64_t term, elections; /* as remembered */
    int leader;
};

/* -- script_words.c: false, after a word on stderr, where the line is not as it should be --------- */

/* file:line, and what was expected. Always false. */
bool script_mistake(struct script_run *run, const char *expected);
/* file:line, and what came instead; with the last events. Always false. */
bool script_differs(struct script_run *run, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* The next word, variables replaced; NULL at the end, or if a variable is unknown. */
const char *script_word(struct script_run *run);
/* Takes the next word if it is this one. */
bool script_take(struct script_run *run, const char *word);
bool script_want(struct script_run *run, const char *word);
bool script_want_end(struct script_run *run);
bool script_has_more(const struct script_run *run);
bool script_want_name(struct script_run *run, const char *what, char name[SCRIPT_NAME_MAX]);
bool script_want_number(struct script_run *run, uint64_t *number);
bool script_want_time(struct script_run *run, uint64_t *ns); /* 300ms, 2s, 1.5E, 3H */
bool script_want_node(struct script_run *run, int *slot);
/* One or more nodes, or `all`: a bit for each. */
bool script_want_nodes(struct script_run *run, uint32_t *nodes);
/* `within TIME`, the default if it is not there, and the end of the line. */
bool script_want_limit(struct script_run *run, uint64_t default_ns, uint64_t *ns);
bool script_bind(struct script_run *run, const char *name, const char *text);
bool script_bind_node(struct script_run *run, const char *name, int slot);
bool script_read(const char *path, struct script_step **steps, int *count);

/* -- script_world.c ------------------------------------------------------------------------------ */

void script_begin_world(struct script_run *run);
/* False if a node had ended by itself, and the script did not expect it. */
bool script_end_world(struct script_run *run);
void script_crash_node(struct script_run *run, int slot, bool power);
void script_pass(struct script_run *run, uint64_t ns);
typedef bool script_condition(struct script_run *run, uint64_t argument);
/* Until it holds; looked at in each millisecond. */
bool script_wait(struct script_run *run, script_condition *holds, uint64_t argument, uint64_t ns);
void script_remember(struct script_run *run);
bool script_is_leader(const struct script_run *run, int slot);

/* The commands, each with the rest of its line. NULL: there is none of that name. */
typedef bool script_command(struct script_run *run);
script_command *script_find_setting(const char *word); /* script_setting.c */
script_command *script_find_fault(const char *word);   /* script_fault.c */
script_command *script_find_request(const char *word); /* script_request.c */
bool script_expect(struct script_run *run);            /* script_expect.c */
bool script_leader(struct script_run *run);

/* -- script_client.c ----------------------------------------------------------------------------- */

void script_clients_begin(struct script_run *run); /* of a new world */
void script_clients_end(struct script_run *run);
/* What was begun since the last time leaves now, each connection's requests in one piece. */
void script_clients_flush(struct script_run *run);
/* The process at `slot` is gone: its connections end, and what was asked there is unknown. */
void script_clients_lost(struct script_run *run, int slot);
/* By the connection of this name to its node; its outcome comes later, or now. */
void script_client_send(struct script_run *run, size_t request, const char *connection);

/* -- script_request.c ----------------------------------------------------------------------------- */

struct script_request *script_find_by_name(struct script_run *run, const char *name);
