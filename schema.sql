-- The only DDL. Embedded at build, applied to a new database; PRAGMA user_version is the schema's
-- version, and server/db.c holds the steps from each version to the next.
PRAGMA user_version = 3;

CREATE TABLE blobs (                 -- content-addressed files under blobs/aa/<sha256>
  sha256      TEXT PRIMARY KEY,      -- 64 hex digits
  size        INTEGER NOT NULL,      -- bytes
  created_ms  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE models (
  id          TEXT PRIMARY KEY,      -- mdl_<26 characters of the content's digest, base 32>
  blob        TEXT NOT NULL REFERENCES blobs(sha256),
  external    TEXT NOT NULL,         -- JSON [{location, blob}], [] for none
  name        TEXT NOT NULL,         -- what the uploader called it, '' if nothing
  state       TEXT NOT NULL CHECK (state IN ('inspecting','ready','invalid')),
  summary     TEXT NOT NULL,         -- JSON from the inspection, {} before
  error       TEXT,                  -- JSON {code, at, detail} when invalid
  created_ms  INTEGER NOT NULL,
  skeleton    TEXT REFERENCES blobs(sha256),    -- the optimized graph without its weights, for
                                                -- checks; NULL: the model itself is read
  calibrations TEXT REFERENCES blobs(sha256)    -- JSON: what a calibrated model's say; else NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE datasets (
  id          TEXT PRIMARY KEY,      -- dat_<26 characters>
  upload      TEXT NOT NULL,         -- sha256 of the bytes as uploaded (they are not kept)
  blob        TEXT REFERENCES blobs(sha256), -- the normalized tar, once inspected
  name        TEXT NOT NULL,
  state       TEXT NOT NULL CHECK (state IN ('inspecting','ready','invalid')),
  summary     TEXT NOT NULL,         -- JSON: inputs, samples, sample digests, labels
  error       TEXT,
  created_ms  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE jobs (
  id          TEXT PRIMARY KEY,      -- job_<ULID>, time-ordered
  kind        TEXT NOT NULL,
  state       TEXT NOT NULL CHECK (state IN
                ('queued','running','waiting','cancelling','succeeded','failed','cancelled')),
  verdict     TEXT,
  spec        TEXT NOT NULL,         -- as resolved, canonical JSON
  spec_sha256 TEXT NOT NULL,         -- of kind and spec: finds an equal job
  priority    INTEGER NOT NULL,
  labels      TEXT NOT NULL,         -- JSON object of strings
  retry_of    TEXT,
  attempt     INTEGER NOT NULL,      -- times a worker was started for it
  engine      TEXT,                  -- the engine profile, pinned at the first attempt
  progress    TEXT NOT NULL,         -- JSON, the last one told
  result      TEXT,                  -- sha256 of the result blob
  error       TEXT,                  -- JSON {code, at, detail}
  created_ms  INTEGER NOT NULL,
  started_ms  INTEGER,
  finished_ms INTEGER,
  version     INTEGER NOT NULL       -- counts changes: the ETag
) STRICT, WITHOUT ROWID;
CREATE INDEX jobs_queue ON jobs(priority DESC, created_ms, id) WHERE state = 'queued';
CREATE INDEX jobs_spec ON jobs(spec_sha256);
CREATE INDEX jobs_state ON jobs(state);

CREATE TABLE events (                -- the truth that every stream, page and test reads
  seq         INTEGER PRIMARY KEY AUTOINCREMENT,
  job_id      TEXT NOT NULL,
  ordinal     INTEGER,               -- place in the replayable history, NULL for progress
  type        TEXT NOT NULL,
  data        TEXT NOT NULL,         -- JSON
  at_ms       INTEGER NOT NULL
) STRICT;
CREATE INDEX events_job ON events(job_id, seq);
CREATE UNIQUE INDEX events_ordinal ON events(job_id, ordinal) WHERE ordinal IS NOT NULL;

CREATE TABLE tasks (                 -- results of pure functions, shared by all jobs
  digest      BLOB PRIMARY KEY,      -- 32 bytes
  kind        TEXT NOT NULL,
  result      BLOB,                  -- inline, or
  blob        TEXT REFERENCES blobs(sha256),
  job_id      TEXT NOT NULL,         -- who had it computed first
  attempt     INTEGER NOT NULL,      -- of that job
  cpu_us      INTEGER NOT NULL,
  at_ms       INTEGER NOT NULL,
  times       INTEGER NOT NULL DEFAULT 1 -- its result came in: more only if two jobs computed it
) STRICT, WITHOUT ROWID;
CREATE INDEX tasks_job ON tasks(job_id);

CREATE TABLE artifacts (
  job_id      TEXT NOT NULL,
  name        TEXT NOT NULL,
  media_type  TEXT NOT NULL,
  blob        TEXT NOT NULL REFERENCES blobs(sha256),
  size        INTEGER NOT NULL,
  PRIMARY KEY (job_id, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE idempotency (
  key         TEXT PRIMARY KEY,
  request     TEXT NOT NULL,         -- sha256 of method, path and body
  job_id      TEXT NOT NULL,
  created_ms  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_age ON idempotency(created_ms);
