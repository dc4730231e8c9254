/* What the kernel knows of a TCP connection, without reading from it. */
#ifndef PTQ_SERVER_TCP_H
#define PTQ_SERVER_TCP_H

#include <stdbool.h>
#include <stdint.h>

struct tcp_facts {
    uint64_t bytes_in;    /* received, read by the process or not */
    uint64_t bytes_acked; /* taken by the peer */
    bool reset;           /* gone: nothing goes out any more */
    bool half_closed;     /* the peer has said that it sends no more */
};

/* -1 if fd is no TCP socket any more. */
int tcp_look(int fd, struct tcp_facts *ret);

#endif
