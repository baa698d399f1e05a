/* The keys of server.json: from a tree of JSON to values, each within its own range. Whether the
 * values go together is config.c's business. */
#pragma once

#include <cjson/cJSON.h>

#include "server/config.h"

/* Fills in all of `config` but `file`; `path` as it is written. Returns 0, or a negative code with
 * "<key>: <reason>". */
int config_keys_read(const cJSON *tree, struct config *config, struct error *error);

/* Whether two words differ at most in the case of ASCII letters. */
bool config_same_word(const char *a, const char *b);
