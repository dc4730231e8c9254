/*
 * unit-tests [-j N] [-t SECONDS] [-g GROUP] [-v] [-1] [TEXT …]: runs the tests whose names hold one
 * of the texts, each in a forked process that leads its own process group (what it leaves behind is
 * killed with it). -g: the group "models" or "long" instead of the usual tests. -1: in this
 * process, for a debugger. The last line is "N passed, N failed, N skipped"; the exit status is 1
 * when a test failed, when a test of the group "models" was skipped, or when no test was run.
 */
#include "tests/test.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/runner.h"

enum { SLOTS_MAX = 16, DIR_MAX = 64 };

struct running {
    const struct test_row *test; /* NULL: the slot is free */
    pid_t pid;
    int output; /* an unlinked file */
    double started, deadline;
    bool timed_out;
    char dir[DIR_MAX];
};

struct skipped {
    const char *name;
    char *why;
};

static struct {
    int slots, seconds;
    const char *group; /* "": the usual tests */
    bool verbose, here;
    char **texts;
    int texts_n;
} opt = {.slots = 2, .seconds = 60, .group = ""};

static struct running slots[SLOTS_MAX];
static int passed, failed, skips_n;
static struct skipped *skips;
static char own_dir[DIR_MAX];
static const char *const groups[] = {"models", "long"};

const char *test_dir(void)
{
    return own_dir;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void die(const char *what)
{
    fprintf(stderr, "unit-tests: %s: %s\n", what, strerror(errno));
    exit(2);
}

static bool in_group(const char *name, const char *group)
{
    size_t len = strlen(group);
    return strncmp(name, group, len) == 0 && name[len] == '_';
}

static bool is_wanted(const struct test_row *t)
{
    const char *group = "";
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++)
        if (in_group(t->name, groups[i]))
            group = groups[i];
    if (strcmp(group, opt.group) != 0)
        return false;
    for (int i = 0; i < opt.texts_n; i++)
        if (strstr(t->name, opt.texts[i]))
            return true;
    return opt.texts_n == 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

static void make_dir(char dir[DIR_MAX])
{
    strcpy(dir, "/tmp/ptqd-test-XXXXXX");
    if (!mkdtemp(dir))
        die("mkdtemp");
}

static void remove_dir(const char *dir)
{
    nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static int open_output(void)
{
    char path[] = "/tmp/ptqd-test-output-XXXXXX";
    int fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0)
        die("mkostemp");
    unlink(path);
    return fd;
}

/* exit(), not _exit(): a leak found at the end of a sanitized test is a failure of that test. */
static void run_in_child(const struct running *r)
{
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setpgid(0, 0);
    int null = open("/dev/null", O_RDONLY);
    if (null < 0 || dup2(null, 0) < 0 || dup2(r->output, 1) < 0 || dup2(r->output, 2) < 0)
        die("dup2");
    close(null);
    strcpy(own_dir, r->dir);
    r->test->run();
    exit(0);
}

static void start(struct running *r, const struct test_row *t)
{
    *r = (struct running){.test = t, .output = open_output(), .started = now()};
    r->deadline = r->started + opt.seconds;
    make_dir(r->dir);
    fflush(NULL);
    r->pid = fork();
    if (r->pid < 0)
        die("fork");
    if (r->pid == 0)
        run_in_child(r);
    setpgid(r->pid, r->pid);
}

static char *read_output(int fd)
{
    off_t len = lseek(fd, 0, SEEK_END);
    char *text = malloc((size_t)len + 1);
    if (!text)
        die("malloc");
    ssize_t n = pread(fd, text, (size_t)len, 0);
    text[n < 0 ? 0 : n] = 0;
    return text;
}

static void add_skip(const char *name, char *why)
{
    skips = realloc(skips, sizeof *skips * (size_t)(skips_n + 1));
    if (!skips)
        die("realloc");
    why[strcspn(why, "\n")] = 0;
    skips[skips_n++] = (struct skipped){name, why};
}

static void say_failed(const struct running *r, int status, const char *text)
{
    printf("FAILED %s", r->test->name);
    if (r->timed_out)
        printf(" (over the limit of %d s)", opt.seconds);
    else if (WIFSIGNALED(status))
        printf(" (killed by signal %d, %s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
    else if (WEXITSTATUS(status) != TEST_EXIT_FAILED)
        printf(" (exit status %d)", WEXITSTATUS(status));
    size_t len = strlen(text);
    printf("\n%s%s", text, len && text[len - 1] != '\n' ? "\n" : "");
}

static void finish(struct running *r, int status)
{
    kill(-r->pid, SIGKILL);
    char *text = read_output(r->output);
    if (WIFEXITED(status) && WEXITSTATUS(status) == TEST_EXIT_SKIPPED) {
        add_skip(r->test->name, text);
        text = NULL;
    } else if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        passed++;
        if (opt.verbose)
            printf("passed %s (%.2f s)\n", r->test->name, now() - r->started);
    } else {
        failed++;
        say_failed(r, status, text);
    }
    fflush(stdout);
    free(text);
    close(r->output);
    remove_dir(r->dir);
    r->test = NULL;
}

static void reap(void)
{
    int status;
    for (int i = 0; i < opt.slots; i++)
        if (slots[i].test && waitpid(slots[i].pid, &status, WNOHANG) == slots[i].pid)
            finish(&slots[i], status);
}

static void kill_late(void)
{
    for (int i = 0; i < opt.slots; i++)
        if (slots[i].test && now() >= slots[i].deadline) {
            slots[i].timed_out = true;
            kill(-slots[i].pid, SIGKILL);
        }
}

/* Until a child ends or the next deadline comes. SIGCHLD is blocked, so none is missed. */
static void wait_for_news(void)
{
    double until = now() + opt.seconds;
    for (int i = 0; i < opt.slots; i++)
        if (slots[i].test && !slots[i].timed_out && slots[i].deadline < until)
            until = slots[i].deadline;
    double left = until - now();
    if (left < 0)
        left = 0;
    struct timespec t = {.tv_sec = (time_t)left,
                         .tv_nsec = (long)((left - (double)(time_t)left) * 1e9)};
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigtimedwait(&child, NULL, &t);
    reap();
    kill_late();
}

static struct running *free_slot(void)
{
    for (int i = 0; i < opt.slots; i++)
        if (!slots[i].test)
            return &slots[i];
    return NULL;
}

static bool all_free(void)
{
    for (int i = 0; i < opt.slots; i++)
        if (slots[i].test)
            return false;
    return true;
}

static void run_all(void)
{
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, NULL);
    for (const struct test_row *t = test_table; t->name; t++) {
        if (!is_wanted(t))
            continue;
        while (!free_slot())
            wait_for_news();
        start(free_slot(), t);
    }
    while (!all_free())
        wait_for_news();
}

static void run_here(void)
{
    for (const struct test_row *t = test_table; t->name; t++) {
        if (!is_wanted(t))
            continue;
        fprintf(stderr, "%s\n", t->name);
        make_dir(own_dir);
        t->run();
        remove_dir(own_dir);
        passed++;
    }
}

static void read_options(int argc, char **argv)
{
    for (int c; (c = getopt(argc, argv, "j:t:g:v1")) != -1;) {
        if (c == 'j')
            opt.slots = atoi(optarg);
        else if (c == 't')
            opt.seconds = atoi(optarg);
        else if (c == 'g')
            opt.group = optarg;
        else if (c == 'v')
            opt.verbose = true;
        else if (c == '1')
            opt.here = true;
        else
            exit(2);
    }
    if (opt.slots < 1 || opt.slots > SLOTS_MAX || opt.seconds < 1) {
        fprintf(stderr, "unit-tests: -j 1 to %d, -t at least 1\n", SLOTS_MAX);
        exit(2);
    }
    opt.texts = argv + optind;
    opt.texts_n = argc - optind;
}

int main(int argc, char **argv)
{
    read_options(argc, argv);
    if (opt.here)
        run_here();
    else
        run_all();
    for (int i = 0; i < skips_n; i++) {
        printf("skipped %s: %s\n", skips[i].name, skips[i].why);
        free(skips[i].why);
    }
    free(skips);
    if (passed + failed + skips_n == 0)
        printf("unit-tests: no test has this name\n");
    bool models_missing = skips_n && strcmp(opt.group, "models") == 0;
    if (models_missing)
        printf("unit-tests: a test of this group may not be skipped\n");
    printf("%d passed, %d failed, %d skipped\n", passed, failed, skips_n);
    return failed || models_missing || passed + failed + skips_n == 0;
}
