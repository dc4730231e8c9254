#include "common/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"

enum { TEXT_MAX = 2048, LINE_MAX_BYTES = 8192 };

static const char *const level_names[] = {"error", "warn", "info", "debug"};
static const char *program_name = "ptq";
static enum log_level most_verbose = LOG_INFO;
static unsigned long dropped;

void log_init(const char *program, enum log_level most)
{
    program_name = program;
    most_verbose = most;
}

static void escape(char *to, size_t size, const char *from)
{
    size_t n = 0;
    for (; *from && n + 7 < size; from++) {
        unsigned char c = (unsigned char)*from;
        if (c == '"' || c == '\\')
            n += (size_t)snprintf(to + n, size - n, "\\%c", c);
        else if (c < 0x20 || c == 0x7f)
            n += (size_t)snprintf(to + n, size - n, "\\u%04x", c);
        else
            to[n++] = (char)c;
    }
    to[n] = '\0';
}

void log_event(enum log_level level, const char *event, const char *fmt, ...)
{
    if (level > most_verbose)
        return;
    char text[TEXT_MAX], safe[TEXT_MAX * 3], iso[CLOCK_ISO_MAX], line[LINE_MAX_BYTES];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    escape(safe, sizeof safe, text);
    clock_iso(clock_wall_ms(), iso);
    int n = snprintf(line, sizeof line,
                     "{\"ts\":\"%s\",\"level\":\"%s\",\"program\":\"%s\",\"event\":\"%s\","
                     "\"text\":\"%s\",\"dropped\":%lu}\n",
                     iso, level_names[level], program_name, event, safe, dropped);
    if (n >= (int)sizeof line)
        n = (int)sizeof line - 1;
    if (write(2, line, (size_t)n) == n)
        dropped = 0;
    else
        dropped++;
}
