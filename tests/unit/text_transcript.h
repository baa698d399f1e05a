/* What a stream of requests means, as text: one line for each thing that the parser said.
 *
 *     set key=a value=hello ttl=0 compare=0
 *     error ERR_CMD_ERR expected: get <key>
 *     rest 3 swallow 0
 *
 * Two ways of cutting a stream mean the same if their transcripts are equal. The parser sees each
 * piece in an allocation of exactly its size, so that a sanitizer notices a look beyond it. */
#pragma once

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/client/text.h"

struct transcript {
    char *text;
    size_t size, capacity;

    uint32_t value_bytes_max;
    uint8_t *left; /* received and not used */
    size_t left_size;
    size_t need;
    uint64_t swallow;
    bool has_ended;
};

static inline void transcript_say(struct transcript *script, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static inline void transcript_say(struct transcript *script, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    char line[512];
    int size = vsnprintf(line, sizeof(line), format, values);
    va_end(values);
    assert(size >= 0 && (size_t)size < sizeof(line));
    while (script->size + (size_t)size + 1 > script->capacity) {
        script->capacity = script->capacity == 0 ? 256 : 2 * script->capacity;
        script->text = realloc(script->text, script->capacity);
        assert(script->text != NULL);
    }
    memcpy(script->text + script->size, line, (size_t)size + 1);
    script->size += (size_t)size;
}

static inline void transcript_say_bytes(struct transcript *script, const char *name,
                                        const uint8_t *bytes, size_t size)
{
    transcript_say(script, " %s=", name);
    for (size_t i = 0; i < size; i++)
        if (bytes[i] > 0x20 && bytes[i] < 0x7f && bytes[i] != '\\')
            transcript_say(script, "%c", bytes[i]);
        else
            transcript_say(script, "\\%02x", bytes[i]);
}

static inline void transcript_say_request(struct transcript *script, const struct request *request)
{
    static const char *const names[] = {
        "set", "cas", "delete", "get", "getm", "status", "version"
    };
    bool has_value = request->type == REQUEST_SET || request->type == REQUEST_CAS;

    transcript_say(script, "%s", names[request->type]);
    if (request->key_size > 0)
        transcript_say_bytes(script, "key", request->key, request->key_size);
    if (has_value) {
        transcript_say_bytes(script, "value", request->value, request->value_size);
        transcript_say(script, " ttl=%" PRIu64 " compare=%" PRIu64, request->ttl_ms,
                       request->compare);
    }
    transcript_say(script, "%s\n", request->noreply ? " noreply" : "");
}

static inline void transcript_say_error(struct transcript *script, const char *kind,
                                        const struct text_parsed *parsed)
{
    transcript_say(script, "%s%s %s ", kind, parsed->silent ? " silent" : "",
                   text_error_code(parsed->error));
    if (parsed->error == REPLY_TOO_LARGE)
        transcript_say(script, "%" PRIu64 "\n", parsed->limit);
    else
        transcript_say(script, "%s\n", parsed->text);
}

/* One step at the front of what is left; returns how much it used, 0 if it needs more. */
static inline size_t transcript_step(struct transcript *script)
{
    if (script->swallow != 0) {
        size_t used = text_swallow(&script->swallow, script->left, script->left_size);
        assert(used <= script->left_size);
        script->has_ended = script->swallow == TEXT_SWALLOW_BROKEN;
        if (script->has_ended)
            transcript_say(script, "broken\n");
        return used;
    }
    if (script->left_size == 0 || script->left_size < script->need)
        return 0;
    struct text_parsed parsed;
    memset(&parsed, 0xa5, sizeof(parsed)); /* nothing may depend on what was there */
    text_parse(script->left, script->left_size, script->value_bytes_max, &parsed);
    script->need = 0;
    switch (parsed.status) {
    case TEXT_NEED_MORE:
        assert(parsed.need > script->left_size);
        script->need = parsed.need;
        return 0;
    case TEXT_REQUEST:
        transcript_say_request(script, &parsed.request);
        break;
    case TEXT_QUIT:
        transcript_say(script, "quit\n");
        script->has_ended = true;
        break;
    case TEXT_ERROR:
        transcript_say_error(script, "error", &parsed);
        break;
    case TEXT_SWALLOW:
        assert(parsed.swallow != 0 && parsed.swallow != TEXT_SWALLOW_BROKEN);
        transcript_say_error(script, "error", &parsed);
        script->swallow = parsed.swallow;
        break;
    case TEXT_FATAL:
        transcript_say_error(script, "fatal", &parsed);
        script->has_ended = true;
        break;
    }
    assert(parsed.used > 0 && parsed.used <= script->left_size);
    return parsed.used;
}

static inline void transcript_drop(struct transcript *script, size_t used)
{
    size_t size = script->left_size - used;
    uint8_t *left = malloc(size > 0 ? size : 1);
    assert(left != NULL);
    if (size > 0)
        memcpy(left, script->left + used, size);
    free(script->left);
    script->left = left;
    script->left_size = size;
}

static inline void transcript_feed(struct transcript *script, const uint8_t *bytes, size_t size)
{
    uint8_t *all = malloc(script->left_size + size > 0 ? script->left_size + size : 1);
    assert(all != NULL);
    if (script->left_size > 0)
        memcpy(all, script->left, script->left_size);
    if (size > 0)
        memcpy(all + script->left_size, bytes, size);
    free(script->left);
    script->left = all;
    script->left_size += size;
    for (size_t used = 1; used > 0 && !script->has_ended;) {
        used = transcript_step(script);
        transcript_drop(script, used);
    }
}

/* Ends the transcript; its text is the caller's to free. */
static inline char *transcript_end(struct transcript *script)
{
    if (script->has_ended)
        transcript_say(script, "end\n");
    else
        transcript_say(script, "rest %zu swallow %" PRIu64 "\n", script->left_size,
                       script->swallow);
    free(script->left);
    return script->text;
}
