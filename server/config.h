/* server.json: the cluster as its operator describes it. Read once, at the start; every mistake is
 * an error that names file, key and reason. Keys match without regard to case.
 *
 *     { "Path": "data",
 *       "Cluster": "raftkv",
 *       "Servers": [ { "Id": 0, "Host": "localhost", "ClientPort": 9000, "LogPort": 8000 }, … ],
 *       "HeartbeatMs": 50, "ElectionMinMs": 150, "ElectionMaxMs": 300,
 *       "Flush": "aio", "LogLevel": "info",
 *       "Limits": { "ValueBytes": 1048576, … } }
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "server/error.h"
#include "server/logger.h"
#include "server/os/os.h"

#define CONFIG_SERVERS_MAX 9
#define CONFIG_CLUSTER_MAX 64 /* letters, digits, '.', '_', '-'; with the final NUL */
#define CONFIG_PATH_MAX 3072
#define CONFIG_FILE_BYTES_MAX (1u << 20)

enum config_flush { CONFIG_FLUSH_AIO, CONFIG_FLUSH_SYNC };

struct config_server {
    uint32_t id; /* 0 to 2^31 - 1 */
    char host[OS_HOST_MAX];
    uint16_t client_port, log_port;
};

/* "Limits": every one has a default and a range (config_keys.c, limit_keys). */
struct config_limits {
    uint32_t value_bytes;         /* ValueBytes: of one value */
    uint32_t clients;             /* Clients: connections */
    uint32_t pipeline;            /* Pipeline: requests of one connection that wait for an answer */
    uint32_t output_bytes;        /* OutputBytes: replies that one connection has not read */
    uint64_t client_memory_bytes; /* ClientMemoryBytes: buffers of all connections together */
    uint32_t request_timeout_ms;  /* RequestTimeoutMs: to send a whole request once begun */
    uint64_t uncommitted_bytes;   /* UncommittedBytes: proposed and not yet committed */
    uint32_t batch_bytes;         /* BatchBytes: a turn's writes; one larger command still fits */
    uint64_t store_bytes;         /* StoreBytes: memory of the store */
    uint64_t log_cache_bytes;     /* LogCacheBytes: newest entries kept in memory */
    uint32_t peer_window_bytes;   /* PeerWindowBytes: entries sent to a follower, unacknowledged */
    uint32_t segment_bytes;       /* SegmentBytes: one file of the log; a multiple of 4096 */
};

struct config {
    char file[CONFIG_PATH_MAX]; /* as given */
    char path[CONFIG_PATH_MAX]; /* data of all nodes: relative to the file's folder, resolved */
    char cluster[CONFIG_CLUSTER_MAX];
    int server_count; /* 1 to CONFIG_SERVERS_MAX */
    struct config_server servers[CONFIG_SERVERS_MAX];
    uint32_t heartbeat_ms, election_ms_min, election_ms_max;
    enum config_flush flush;
    enum logger_level log_level;
    struct config_limits limits;
};

/* Read `file` through `os`. Returns 0, or a negative code with `error` set and `config` undefined.
 * The message is one line: "<file>: <key>: <reason>". */
int config_read(struct os *os, const char *file, struct config *config, struct error *error);

/* The same from memory; `file` is for messages and for the folder that Path is relative to. */
int config_parse(const char *text, size_t size, const char *file, struct config *config,
                 struct error *error);

/* The server of this id, or NULL. */
const struct config_server *config_find(const struct config *config, uint32_t id);
