/* Recovery: what the log holds, and whether it may be believed. The essay is in recover.c. */
#pragma once

#include "server/storage/storage.h"

/* What stands where the next record should be. */
enum recover_place {
    RECOVER_BLANK,      /* no frame: zeros */
    RECOVER_GARBAGE,    /* something that is not a frame */
    RECOVER_FOREIGN,    /* a frame of another place, or of another life of this file */
    RECOVER_HALF,       /* our frame, and behind it not the content that it speaks of */
    RECOVER_NO_SEGMENT, /* nothing at all: the segment before is sealed, and there is no next one */
    RECOVER_PLACE_COUNT
};

/* All that the decision depends on. */
struct recover_facts {
    enum recover_place place;
    bool has_leftovers; /* from that place on, not everything is zero */
    bool is_proven;     /* a frame says that what stood there was durable */
};

enum recover_verdict {
    RECOVER_END,     /* the log ends here */
    RECOVER_TORN,    /* it ends here, and what lies behind was never acknowledged: cut it off */
    RECOVER_DAMAGED, /* acknowledged records are lost: do not use it */
    RECOVER_NEVER,   /* facts that exclude each other */
};

struct recover_case {
    const char *name;
    unsigned places;            /* a bit for each enum recover_place */
    unsigned leftovers, proven; /* bits: 1 no, 2 yes */
    enum recover_verdict verdict;
};

extern const struct recover_case recover_cases[];
extern const int recover_case_count;

bool recover_case_matches(const struct recover_case *row, const struct recover_facts *facts);
/* The one case that matches. */
const struct recover_case *recover_case_of(const struct recover_facts *facts);

/* Read all segments of the directory into `storage` (paths, identity and `os` are set), repair the
 * tail, and make sure that everything that counts is durable. Sets all of `recovered` but `fresh` and
 * `incarnation`. */
int recover_log(struct storage *storage, struct storage_recovered *recovered, struct error *error);
