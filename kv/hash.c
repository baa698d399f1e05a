#include "kv/hash.h"

struct sip {
    uint64_t v0, v1, v2, v3;
};

static inline uint64_t rotate_left(uint64_t x, int bits)
{
    return x << bits | x >> (64 - bits);
}

/* Written out, because only so does every compiler make one load of it: the loop below, for 8
 * bytes, halves the speed with some. */
static inline uint64_t load_word(const uint8_t *bytes)
{
    return (uint64_t)bytes[0] | (uint64_t)bytes[1] << 8 | (uint64_t)bytes[2] << 16 |
           (uint64_t)bytes[3] << 24 | (uint64_t)bytes[4] << 32 | (uint64_t)bytes[5] << 40 |
           (uint64_t)bytes[6] << 48 | (uint64_t)bytes[7] << 56;
}

/* The last 0 to 7 bytes. */
static inline uint64_t load_rest(const uint8_t *bytes, size_t size)
{
    uint64_t word = 0;
    for (size_t i = 0; i < size; i++)
        word |= (uint64_t)bytes[i] << 8 * i;
    return word;
}

static inline void sip_round(struct sip *s)
{
    s->v0 += s->v1;
    s->v2 += s->v3;
    s->v1 = rotate_left(s->v1, 13) ^ s->v0;
    s->v3 = rotate_left(s->v3, 16) ^ s->v2;
    s->v0 = rotate_left(s->v0, 32);

    s->v2 += s->v1;
    s->v0 += s->v3;
    s->v1 = rotate_left(s->v1, 17) ^ s->v2;
    s->v3 = rotate_left(s->v3, 21) ^ s->v0;
    s->v2 = rotate_left(s->v2, 32);
}

static inline struct sip sip_start(const struct hash_key *key)
{
    /* The ASCII bytes of "somepseudorandomlygeneratedbytes". */
    return (struct sip){
        .v0 = key->k0 ^ UINT64_C(0x736f6d6570736575),
        .v1 = key->k1 ^ UINT64_C(0x646f72616e646f6d),
        .v2 = key->k0 ^ UINT64_C(0x6c7967656e657261),
        .v3 = key->k1 ^ UINT64_C(0x7465646279746573),
    };
}

static inline void sip_word(struct sip *s, uint64_t word)
{
    s->v3 ^= word;
    sip_round(s);
    s->v0 ^= word;
}

/* The last word: what is left of the bytes, and in its top byte how many there were in all. */
static inline uint64_t sip_end(struct sip *s, uint64_t rest, size_t size)
{
    sip_word(s, rest | (uint64_t)size << 56);
    s->v2 ^= 0xff;
    sip_round(s);
    sip_round(s);
    sip_round(s);
    return s->v0 ^ s->v1 ^ s->v2 ^ s->v3;
}

uint64_t hash_bytes(const struct hash_key *key, const uint8_t *bytes, size_t size)
{
    struct sip s = sip_start(key);
    size_t whole = size / 8 * 8;
    for (size_t i = 0; i < whole; i += 8)
        sip_word(&s, load_word(bytes + i));
    uint64_t rest = size > whole ? load_rest(bytes + whole, size - whole) : 0;
    return sip_end(&s, rest, size);
}

uint64_t hash_words(const struct hash_key *key, const uint64_t *words, size_t count)
{
    struct sip s = sip_start(key);
    for (size_t i = 0; i < count; i++)
        sip_word(&s, words[i]);
    return sip_end(&s, 0, count * 8);
}

struct hash_key hash_key_derive(const uint8_t *bytes, uint64_t use)
{
    struct hash_key root = {
        .k0 = load_word(bytes),
        .k1 = load_word(bytes + 8),
    };
    return (struct hash_key){
        .k0 = hash_words(&root, (uint64_t[]){ use, 0 }, 2),
        .k1 = hash_words(&root, (uint64_t[]){ use, 1 }, 2),
    };
}
