/* Logs: one JSON object a line on stderr, never blocking: what a full pipe refuses is counted and
 * told in the next line that gets through. Secrets and tensors never go here. */
#ifndef PTQ_COMMON_LOG_H
#define PTQ_COMMON_LOG_H

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

void log_init(const char *program, enum log_level most);
/* event is a fixed word ("job.start"), the rest is free text; both are JSON-escaped. */
void log_event(enum log_level level, const char *event, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#endif
