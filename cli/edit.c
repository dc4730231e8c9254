/* ptq edit: change calibrations of a calibrated model. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/http.h"
#include "cli/show.h"
#include "common/json.h"

enum { EDIT_PATH_MAX = 1024, EDITS_BYTES_MAX = 8 << 20 };

static json_t *read_edits(const char *path, struct err *e)
{
    FILE *f = fopen(path, "rbe");
    if (!f) {
        err_errno(e, path, "The edits cannot be read");
        return NULL;
    }
    char *text = xmalloc(EDITS_BYTES_MAX);
    size_t n = fread(text, 1, EDITS_BYTES_MAX, f);
    fclose(f);
    json_t *v = json_parse(text, n, e);
    free(text);
    if (!v)
        err_in(e, path);
    return v;
}

/* ---- with a server ---- */

static int download(struct cli *c, const char *id, struct err *e)
{
    char path[EDIT_PATH_MAX];
    struct progress p = {0};
    if (!c->opt.out)
        return 0;
    snprintf(path, sizeof path, "/v1/models/%s/content", id);
    int rc = remote_download(cli_remote(c), path, c->opt.out, progress_bytes, &p, e);
    progress_end(&p);
    return rc;
}

static int ask(struct cli *c, json_t *edits, json_t **ret, struct err *e)
{
    const char *model;
    char path[EDIT_PATH_MAX], segment[256];
    if (upload_model(c, c->words[0], &model, e))
        return -1;
    remote_segment(model, segment, sizeof segment);
    snprintf(path, sizeof path, "/v1/models/%s:edit", segment);
    json_t *req = json_pack("{s:O}", "edits", edits);
    if (c->opt.name)
        json_object_set_new(req, "name", json_string(c->opt.name));
    if (c->opt.march)
        json_object_set_new(req, "march", json_string(c->opt.march));
    int rc = remote_call(cli_remote(c), "POST", path, req, ret, e);
    json_decref(req);
    return rc;
}

static int edit_remote(struct cli *c, json_t *edits, struct err *e)
{
    json_t *model = NULL;
    int rc = ask(c, edits, &model, e) || download(c, json_str(model, "id", ""), e);
    if (!rc && c->opt.json)
        show_json(model);
    else if (!rc)
        puts(json_str(model, "id", ""));
    json_decref(model);
    return rc ? cli_fail(e) : EXIT_OK;
}

/* ---- without one ---- */

static int edit_local(struct cli *c, struct err *e)
{
    char *argv[] = {(char *)worker_path(c), (char *)"edit",     (char *)c->words[0],
                    (char *)c->words[1],    (char *)c->opt.out, NULL};
    int status = 0;
    if (!c->opt.out) {
        err_set(e, ERR_BAD_REQUEST, "--out", "With --local, say where the edited model goes.");
        return cli_fail(e);
    }
    if (c->opt.march && strcmp(c->opt.march, "nash-e") != 0) {
        err_set(e, ERR_BAD_REQUEST, "--march", "With --local there is nash-e only.");
        return cli_fail(e);
    }
    pid_t pid = fork();
    if (pid == 0) {
        execvp(argv[0], argv);
        fprintf(stderr, "ptq: %s cannot be run: %s. Set PTQ_WORKER to where ptq-worker is.\n",
                argv[0], strerror(errno));
        _exit(EXIT_USAGE);
    }
    if (pid < 0) {
        err_errno(e, "", "A process cannot be made");
        return cli_fail(e);
    }
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_FAILED;
}

int cmd_edit(struct cli *c, struct err *e)
{
    if (c->opt.local)
        return edit_local(c, e);
    json_t *edits = read_edits(c->words[1], e);
    int status = edits ? edit_remote(c, edits, e) : cli_fail(e);
    json_decref(edits);
    return status;
}
