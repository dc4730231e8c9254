#include <stdio.h>

#include "common/log.h"
#include "server/daemon.h"

int main(int argc, char **argv)
{
    static struct conf conf;
    struct err e = ERR_INIT;
    log_init("ptqd", LOG_INFO);
    int answered = conf_parse(&conf, argc, argv, &e);
    if (answered > 0)
        return 0;
    log_init("ptqd", (enum log_level)conf.log_level);
    struct daemon *d = answered < 0 ? NULL : daemon_start(&conf, &e);
    if (!d) {
        fprintf(stderr, "ptqd: %s%s%s\n", e.at, *e.at ? ": " : "", e.detail);
        return 1;
    }
    daemon_run(d);
    return 0;
}
