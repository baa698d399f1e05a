/* The identity file: whose directory this is. Text, so that a person can look.
 *
 *     raftkv-identity 1
 *     group 0
 *     cluster raftkv
 *     node 2
 *     incarnation 9f86d081884c7d65
 *     checksum 5ad0b6f1
 *
 * The first line ends in the format version; the checksum is the CRC32C, in hexadecimal, of all the
 * lines above it, in every version. It is written last when a directory is made, to another name,
 * flushed and renamed: a directory with an identity is complete. */
#pragma once

#include <stdint.h>

#include "server/error.h"
#include "server/os/os.h"

#define IDENTITY_VERSION 1
#define IDENTITY_GROUP 0
#define IDENTITY_CLUSTER_MAX 64 /* with the final NUL */

struct identity {
    char cluster[IDENTITY_CLUSTER_MAX];
    uint32_t node;
    uint64_t incarnation; /* drawn when the directory was made */
};

/* Read <directory>/identity. -ENOENT (and no message): there is none. Anything else below 0 comes
 * with a message that names the file. */
int identity_read(struct os *os, const char *directory, struct identity *identity,
                  struct error *error);
/* Write it, flush it and give it its name; the name is durable when the directory is flushed. */
int identity_write(struct os *os, const char *directory, const struct identity *identity,
                   struct error *error);
