/* The handshake's judgement: who may be linked with, and the sentences for who may not. Pure
 * functions: the conversation itself is in meet.c.
 *
 *     lower id                            higher id
 *        | --- connects, hello --------------> |   judges; wrong: refusal, close
 *        | <-- hello ------------------------- |   up
 *        |     judges; wrong: refusal, close   |
 *     up | --- messages, alive --------------> |
 *
 * A stranger must speak first, so a port scan learns nothing; and whoever is refused is told why,
 * so that the reason stands in the log of the node that has to be mended. */
#pragma once

#include "server/peer/frame.h"
#include "server/peer/peer.h"

#define HANDSHAKE_TEXT_MAX 256

/* Whether the sender of `hello` (a whole FRAME_HELLO) is the peer it should be. `dialled` is whom
 * we dialled, or RAFT_NODE_NONE if he dialled us. Says nothing about rivals of a link that is
 * up. */
enum frame_reason handshake_judge(const struct peers_options *options, const struct frame *hello,
                                  uint32_t dialled);

/* Why we refuse: about the other one, in a sentence that names what was found and what we are. */
void handshake_explain(enum frame_reason reason, const struct peers_options *options,
                       const struct frame *hello, char text[static HANDSHAKE_TEXT_MAX]);
/* Why we are refused: the same from the other side, of what a FRAME_REFUSAL says. */
void handshake_explain_refusal(const struct peers_options *options, const struct frame *refusal,
                               char text[static HANDSHAKE_TEXT_MAX]);

/* Of the ids of all members, in any order: equal lists, equal numbers. */
uint32_t handshake_servers(const struct peers_options *options);

/* What we say of ourselves. */
struct frame_hello handshake_hello(const struct peers_options *options, uint64_t boot);
struct frame_refusal handshake_refusal(const struct peers_options *options,
                                       enum frame_reason reason);
