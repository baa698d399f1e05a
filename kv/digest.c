#include "kv/digest.h"

struct hash_key digest_key(const uint8_t *hash_key)
{
    return hash_key_derive(hash_key, 3);
}

/* The three hash different numbers of words, so none can pass for another. */

uint64_t digest_item(const struct hash_key *key, const struct digest_item *item)
{
    const uint64_t sizes = (uint64_t)item->key_size << 32 | item->value_size;
    const uint64_t words[5] = { item->key_hash, sizes, item->value_hash, item->version,
                                item->expires_ms };
    return hash_words(key, words, 5);
}

uint64_t digest_slot(const struct hash_key *key, uint32_t slot, uint64_t slot_digest)
{
    const uint64_t words[2] = { slot, slot_digest };
    return hash_words(key, words, 2);
}

uint64_t digest_whole(const struct hash_key *key, const struct digest_whole *whole)
{
    const uint64_t words[3] = { whole->slots, whole->last_version, whole->clock_ms };
    return hash_words(key, words, 3);
}
