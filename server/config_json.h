/* JSON text as a tree of cJSON, with nothing forgiven. cJSON alone is kinder than an operator's
 * file deserves: it skips every control character as if it were a space, cuts strings at \u0000,
 * takes 01 and 1. for numbers, recurses a thousand levels, and some of its releases read a byte
 * past the end of cut-off text. So a scan over the tokens comes first and refuses all that, with
 * the place; cJSON then judges the grammar. What the tree means is config.c's business. */
#pragma once

#include <stddef.h>

#include <cjson/cJSON.h>

#include "server/error.h"

/* Levels of lists and objects; server.json needs three. */
#define CONFIG_JSON_DEPTH_MAX 8
/* Characters of one number. */
#define CONFIG_JSON_NUMBER_MAX 60

/* The tree, owned (cJSON_Delete), or NULL with `error` set: "line 3, column 7: <reason>". Keys that
 * come twice are in the tree twice. Numbers may be infinite. */
cJSON *config_json_parse(const char *text, size_t size, struct error *error);
