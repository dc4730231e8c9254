/* Work that may wait: hashing, copying and computing give way to the loop and to the database's
 * writer. Nothing here can fail: a kernel that refuses leaves things as they are. */
#ifndef PTQ_SERVER_BACKGROUND_H
#define PTQ_SERVER_BACKGROUND_H

/* A worker process, and all that it forks from now on: `nice` more than this process. */
void background_process(int pid, int nice);
/* The thread of the uv pool that calls it, from then on. */
void background_thread(void);

#endif
