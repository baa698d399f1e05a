/* The value of an op says which op wrote it, and is worth checking to its last byte: behind the
 * number come letters that follow from the number and from the size, so that a value that is cut
 * short, or put together from two, is nobody's. Eight letters come from one word of chance at a
 * time. */
#include "tests/sim/op.h"

#include <assert.h>
#include <string.h>

#include "server/endian.h"
#include "tests/sim/random.h"

#define DIGITS_MAX 20
#define NIBBLES UINT64_C(0x0f0f0f0f0f0f0f0f)
#define LETTERS_FROM_A UINT64_C(0x6161616161616161) /* 'a' in each byte: letters a to p */

/* Eight letters. */
static uint64_t next_letters(struct random *letters)
{
    return (random_next(letters) & NIBBLES) + LETTERS_FROM_A;
}

static uint32_t put_number(uint8_t *bytes, uint64_t number)
{
    uint8_t digits[DIGITS_MAX];
    uint32_t count = 0;
    do {
        digits[count++] = (uint8_t)('0' + number % 10);
        number /= 10;
    } while (number != 0);
    for (uint32_t i = 0; i < count; i++)
        bytes[i] = digits[count - 1 - i];
    bytes[count] = '.';
    return count + 1;
}

/* The number in front and the size of its text with the point; 0: there is none. */
static uint32_t take_number(const uint8_t *bytes, uint32_t size, uint64_t *number)
{
    uint32_t at = 0;
    uint64_t value = 0;
    for (; at < size && bytes[at] >= '0' && bytes[at] <= '9'; at++) {
        uint64_t digit = (uint64_t)(bytes[at] - '0');
        if (at == 0 && digit == 0)
            return 0;
        if (value > (UINT64_MAX - digit) / 10)
            return 0;
        value = 10 * value + digit;
    }
    if (at == 0 || at == size || bytes[at] != '.')
        return 0;
    *number = value;
    return at + 1;
}

void op_value(uint64_t number, uint8_t *bytes, uint32_t size)
{
    assert(number != 0 && size >= OP_VALUE_MIN);
    uint32_t at = put_number(bytes, number);
    struct random letters = random_stream(number, size);
    for (; size - at >= 8; at += 8)
        store_u64(bytes + at, next_letters(&letters));
    if (at < size) {
        uint8_t last[8];
        store_u64(last, next_letters(&letters));
        memcpy(bytes + at, last, size - at);
    }
}

uint64_t op_of_value(const uint8_t *bytes, uint32_t size)
{
    uint64_t number = 0;
    uint32_t at = take_number(bytes, size, &number);
    if (at == 0 || size < OP_VALUE_MIN)
        return 0;
    struct random letters = random_stream(number, size);
    for (; size - at >= 8; at += 8)
        if (load_u64(bytes + at) != next_letters(&letters))
            return 0;
    if (at == size)
        return number;
    uint8_t last[8];
    store_u64(last, next_letters(&letters));
    return memcmp(bytes + at, last, size - at) == 0 ? number : 0;
}

const char *op_type_name(enum op_type type)
{
    static const char *const names[] = {
        [OP_GET] = "get", [OP_GETM] = "getm",     [OP_SET] = "set",
        [OP_CAS] = "cas", [OP_DELETE] = "delete",
    };
    assert(type < sizeof names / sizeof names[0]);
    return names[type];
}

const char *outcome_type_name(enum outcome_type type)
{
    static const char *const names[] = {
        [OUTCOME_VALUE] = "value",     [OUTCOME_NONE] = "none",       [OUTCOME_STORED] = "stored",
        [OUTCOME_DELETED] = "deleted", [OUTCOME_DIFFERS] = "differs", [OUTCOME_REFUSED] = "refused",
        [OUTCOME_UNKNOWN] = "unknown",
    };
    assert(type < sizeof names / sizeof names[0]);
    return names[type];
}
