/* /v1/datasets. */
#include "server/api.h"

#include <string.h>

#include "common/sha256.h"
#include "server/blobs.h"
#include "server/intake.h"

static int dataset_state(struct server *s, const char *id, struct arena *a, const char **ret,
                         struct err *e)
{
    struct dataset_row d;
    int found = dataset_load(FROM_DB(s->db), id, a, &d, e);
    if (found == 1)
        *ret = d.state;
    return found < 0 ? -1 : 0;
}

static json_t *dataset_by_id(struct server *s, const char *id, struct arena *a, struct err *e)
{
    struct dataset_row d;
    int found = dataset_load(FROM_DB(s->db), id, a, &d, e);
    if (found == 0)
        err_set(e, ERR_NOT_FOUND, NULL, "There is no data set %.100s.", id);
    return found == 1 ? dataset_json(&d, false) : NULL;
}

static const struct intake_kind datasets = {"/v1/datasets/", dataset_state, dataset_by_id};

static void put_dataset(struct req *r)
{
    static const char *const names[] = {"name"};
    const struct upload *u = req_upload(r);
    const char *name;
    struct digest d;
    char id[ID_MAX];
    if (req_only_query(r, names, 1) || intake_name(r, &name))
        return;
    digest_parse(u->sha256, &d);
    id_of_digest("dat_", &d, id);
    struct inspect_opts o = {
        .id = id, .name = name, .sha256 = u->sha256, .file = u->path, .size = u->size};
    intake(r, &datasets, &o);
}

static json_t *dataset_item(struct req *r, struct stmt *s, const char **ret_id, int64_t *ret_ms,
                            struct err *e)
{
    (void)e;
    struct dataset_row d;
    dataset_read(s, req_arena(r), &d);
    *ret_id = d.id;
    *ret_ms = d.created_ms;
    return dataset_json(&d, false);
}

static void list_datasets(struct req *r)
{
    static const char *const names[] = {"state"};
    static const char *const states[] = {"inspecting", "ready", "invalid", NULL};
    struct page p;
    struct err e = ERR_INIT;
    const char *state;
    if (page_read(r, names, 1, &p) || query_word(r, "state", states, &state))
        return;
    struct stmt *s = db_stmt(req_server(r)->db,
                             "SELECT " DATASET_COLUMNS " FROM " DATASET_TABLES
                             " WHERE (?1 IS NULL OR d.state=?1) AND (d.created_ms, d.id) < "
                             "(?2, ?3) ORDER BY d.created_ms DESC, d.id DESC LIMIT ?4",
                             &e);
    if (!s) {
        reply_problem(r, &e);
        return;
    }
    db_put_text(s, state);
    db_put_int(s, p.after_ms);
    db_put_text(s, p.after_id);
    db_put_int(s, p.limit + 1);
    page_reply(r, &p, s, dataset_item);
}

/* The data set of the path; false when a problem was replied. */
static bool load_dataset(struct req *r, struct dataset_row *ret)
{
    struct err e = ERR_INIT;
    const char *id = req_param(r, "id");
    int found = dataset_load(FROM_DB(req_server(r)->db), id, req_arena(r), ret, &e);
    if (found == 0)
        api_not_found(r, "data set", id);
    if (found < 0)
        reply_problem(r, &e);
    return found == 1;
}

static void get_dataset(struct req *r)
{
    static const char *const names[] = {"digests"};
    struct dataset_row d;
    bool digests;
    if (req_only_query(r, names, 1) || query_flag(r, "digests", false, &digests) ||
        !load_dataset(r, &d))
        return;
    api_reply(r, 200, dataset_json(&d, digests));
}

static void get_content(struct req *r)
{
    struct dataset_row d;
    struct err e = ERR_INIT;
    if (req_only_query(r, NULL, 0) || !load_dataset(r, &d))
        return;
    if (d.blob) {
        reply_file(r, blobs_path(req_server(r)->blobs, req_arena(r), d.blob), "application/x-tar",
                   d.blob, true, arena_printf(req_arena(r), "%s.tar", d.id));
        return;
    }
    err_set(&e, ERR_CONFLICT, NULL, "The data set is %s: it has no content.", d.state);
    reply_problem(r, &e);
}

static void delete_dataset(struct req *r)
{
    static const struct removal how = {
        "data set",
        "SELECT id FROM jobs WHERE state IN ('queued','running','waiting','cancelling') AND "
        "?1 IN (json_extract(spec,'$.data'), json_extract(spec,'$.calibration_data')) LIMIT 1",
        "DELETE FROM datasets WHERE id=?1"};
    intake_delete(r, &how);
}

extern const struct route api_datasets_routes[];
const struct route api_datasets_routes[] = {
    {"PUT", "/v1/datasets", "putDataset", BODY_FILE, put_dataset},
    {"POST", "/v1/datasets", "createDataset", BODY_FILE, put_dataset},
    {"GET", "/v1/datasets", "listDatasets", BODY_NONE, list_datasets},
    {"GET", "/v1/datasets/{id}", "getDataset", BODY_NONE, get_dataset},
    {"DELETE", "/v1/datasets/{id}", "deleteDataset", BODY_NONE, delete_dataset},
    {"GET", "/v1/datasets/{id}/content", "getDatasetContent", BODY_NONE, get_content},
    {0}};
