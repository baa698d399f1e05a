/* Errors of cold paths (start-up, recovery, configuration): a sentence for people. */
#pragma once

#define ERROR_TEXT_MAX 1024

struct error {
    char text[ERROR_TEXT_MAX];
};

/* Write the message; returns `code` (negative), so that `return error_set(…)` is the usual shape.
 * `error` may be NULL. */
int error_set(struct error *error, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The same, with ": <what errno `code` means>" behind it. */
int error_set_errno(struct error *error, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Put "<prefix>: " before what is there. Returns `code`. */
int error_prefix(struct error *error, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
