/* Fuzzes the text parser: whatever the bytes, and however they are cut, the stream means the same,
 * and nothing outside of what was given is read.
 *
 * The first bytes of an input choose the value limit and how to cut the rest. With libFuzzer
 * (clang -fsanitize=fuzzer,address,undefined) it is a target as usual. Built with -DFUZZ_STANDALONE
 * it is a program of its own:
 *
 *     text_fuzz FILE...          each file is one input
 *     text_fuzz --random N SEED  N inputs made of pieces of requests and noise */
#include "tests/unit/text_transcript.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t next_random(uint64_t *state)
{
    *state += 0x9e3779b97f4a7c15u;
    uint64_t mixed = *state;
    mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9u;
    mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111ebu;
    return mixed ^ mixed >> 31;
}

static char *whole(const uint8_t *bytes, size_t size, uint32_t value_bytes_max)
{
    struct transcript script = { .value_bytes_max = value_bytes_max };
    transcript_feed(&script, bytes, size);
    return transcript_end(&script);
}

static char *in_pieces(const uint8_t *bytes, size_t size, uint32_t value_bytes_max, uint64_t seed)
{
    struct transcript script = { .value_bytes_max = value_bytes_max };
    uint64_t piece_max = seed % 4 == 0 ? 1 : 1 + seed % 64;
    for (size_t done = 0; done < size;) {
        size_t piece = 1 + (size_t)(next_random(&seed) % piece_max);
        if (piece > size - done)
            piece = size - done;
        transcript_feed(&script, bytes + done, piece);
        done += piece;
    }
    return transcript_end(&script);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 3)
        return 0;
    uint32_t value_bytes_max = data[0];
    uint64_t seed = (uint64_t)data[1] << 8 | data[2];
    char *expected = whole(data + 3, size - 3, value_bytes_max);
    char *got = in_pieces(data + 3, size - 3, value_bytes_max, seed);
    if (strcmp(expected, got) != 0) {
        fprintf(stderr, "the cut changes the meaning:\n--- in one piece\n%s--- in pieces\n%s",
                expected, got);
        abort();
    }
    free(expected);
    free(got);
    return 0;
}

#ifdef FUZZ_STANDALONE

#define INPUT_MAX 4096

static const char *const pieces[] = {
    "get ",
    "set ",
    "cas ",
    "getm ",
    "delete ",
    "status",
    "version",
    "quit",
    "GET ",
    "noreply",
    " ",
    "\r\n",
    "\n",
    "\r",
    "a",
    "key ",
    "0 ",
    "1 ",
    "5\r\n",
    "hello",
    "0\r\n",
    "300\r\n",
    "16\r\n",
    "-1",
    "60 5\r\nhello\r\n",
    "18446744073709551615 ",
    "9223372036854775808\r\n",
    "set k 0 3\r\n",
    "set k 0 3 noreply\r\n",
    "cas k 0 1 3\r\n",
    "abc\r\n",
};
#define PIECE_COUNT (sizeof(pieces) / sizeof(pieces[0]))

static size_t random_input(uint64_t *state, uint8_t bytes[INPUT_MAX])
{
    size_t size = 0;
    for (int i = 0; i < 3; i++)
        bytes[size++] = (uint8_t)next_random(state);
    size_t count = next_random(state) % 40;
    for (size_t i = 0; i < count; i++) {
        uint64_t choice = next_random(state);
        if (choice % 16 == 0) {
            bytes[size++] = (uint8_t)(choice >> 8);
        } else if (choice % 64 == 1) {
            size_t run = 900 + (choice >> 8) % 300; /* about as long as a line may be */
            if (size + run > INPUT_MAX - 64)
                continue;
            memset(bytes + size, choice >> 32 & 1 ? ' ' : 'k', run);
            size += run;
        } else {
            const char *piece = pieces[(choice >> 8) % PIECE_COUNT];
            if (size + strlen(piece) > INPUT_MAX - 64)
                break;
            memcpy(bytes + size, piece, strlen(piece));
            size += strlen(piece);
        }
    }
    return size;
}

static int run_random(uint64_t count, uint64_t seed)
{
    static uint8_t bytes[INPUT_MAX];
    for (uint64_t i = 0; i < count; i++) {
        uint64_t state = seed + i;
        size_t size = random_input(&state, bytes);
        LLVMFuzzerTestOneInput(bytes, size);
    }
    printf("text_fuzz: %" PRIu64 " inputs from seed %" PRIu64 "\n", count, seed);
    return 0;
}

static int run_file(const char *path)
{
    static uint8_t bytes[1 << 20];
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        perror(path);
        return 1;
    }
    size_t size = fread(bytes, 1, sizeof(bytes), file);
    fclose(file);
    return LLVMFuzzerTestOneInput(bytes, size);
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "--random") == 0)
        return run_random(strtoull(argv[2], NULL, 10), strtoull(argv[3], NULL, 10));
    int failed = 0;
    for (int i = 1; i < argc; i++)
        failed |= run_file(argv[i]);
    return failed;
}

#endif
