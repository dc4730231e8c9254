/* The whole service in one process: opens the data folder, listens, runs, and drains at SIGTERM or
 * SIGINT. */
#ifndef PTQ_SERVER_DAEMON_H
#define PTQ_SERVER_DAEMON_H

#include "server/conf.h"

struct daemon;
/* NULL with *e set; the process is then to end (what was opened is not closed). c must live as
 * long as the daemon. */
struct daemon *daemon_start(const struct conf *c, struct err *e);
int daemon_port(const struct daemon *d);
/* Until a signal has come and everything is closed; frees d. */
void daemon_run(struct daemon *d);

#endif
