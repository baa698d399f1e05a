#include "server/error.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int error_set(struct error *error, int code, const char *format, ...)
{
    assert(code < 0);
    if (error == NULL)
        return code;
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(error->text, sizeof error->text, format, arguments); /* cut if too long */
    va_end(arguments);
    return code;
}

int error_set_errno(struct error *error, int code, const char *format, ...)
{
    assert(code < 0);
    if (error == NULL)
        return code;
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(error->text, sizeof error->text, format, arguments);
    va_end(arguments);
    size_t used = strlen(error->text);
    (void)snprintf(error->text + used, sizeof error->text - used, ": %s", strerror(-code));
    return code;
}

int error_prefix(struct error *error, int code, const char *format, ...)
{
    assert(code < 0);
    if (error == NULL)
        return code;
    char behind[ERROR_TEXT_MAX];
    memcpy(behind, error->text, sizeof behind);
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(error->text, sizeof error->text, format, arguments);
    va_end(arguments);
    size_t used = strlen(error->text);
    (void)snprintf(error->text + used, sizeof error->text - used, ": %s", behind);
    return code;
}
