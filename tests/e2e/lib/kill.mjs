// A job that is disturbed must end as the undisturbed one does.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import os from "node:os";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { convModel, images } from "./files.mjs";
import { CALIBRATE, Server, TERMINAL } from "./server.mjs";

// Work for some seconds: `samples` tasks or more, each of some ten milliseconds.
export async function uploadWork(server, samples) {
  return { model: await server.upload("models", convModel()), data: await server.upload("datasets", images(samples)) };
}
export const work = (ids) => ({ kind: "calibrate", ...ids, quant_config: { model_config: { activation: { calibration_type: "kl" } } } });

// A sweep of at least five rows a sample, each a lease of its own.
export async function uploadSweep(server, samples) {
  const ids = await uploadWork(server, samples);
  const job = await server.succeeded((await server.submit({ ...CALIBRATE, ...ids, options: { samples: 2 } })).id, 120);
  const model = (await server.get(`/v1/jobs/${job.id}/results`)).json.calibrated_model_id;
  return { model, data: ids.data, samples };
}
export const sweepWork = ({ model, data, samples }) => ({ kind: "sensitivity", model, data, options: { data_num: samples, metrics: ["mse", "cosine-similarity"] } });

// What the job's inputs determine: the result's bytes, the artifacts' digests, the lasting events.
export async function outcome(server, id) {
  const result = await server.expect(200, "GET", `/v1/jobs/${id}/results`);
  const artifacts = (await server.get(`/v1/jobs/${id}/artifacts`)).json.items.map(({ name, sha256 }) => ({ name, sha256 }));
  const { rows } = await server.events(`/v1/jobs/${id}/events?follow=false`);
  assert.equal(rows.filter((r) => r.type === "done").length, 1);
  assert.equal(rows.at(-1).type, "done");
  // A warning with a code is about what happened to the worker, not about the model.
  const events = rows.filter((r) => !["progress", "state", "log"].includes(r.type) && !r.data.code).map(({ type, data }) => ({ type, data }));
  return { result: result.body.toString(), artifacts, events };
}

export async function undisturbed(upload, make) {
  const server = await Server.start();
  const { id } = await server.submit(make(await upload(server)));
  const { engine } = await server.succeeded(id, 300);
  const end = await outcome(server, id);
  await server.stop();
  return { ...end, engine };
}

// Resolves when the job has told that at least `n` tasks are done, and not yet all.
export async function progressed(server, id, n) {
  const told = (row) => row.type === "progress" && row.data.done >= n;
  const { rows } = await server.events(`/v1/jobs/${id}/events`, { enough: (all) => all.some(told) });
  const row = rows.find(told);
  assert.ok(row && row.data.done < row.data.total, `the job was too quick: ${JSON.stringify(rows.at(-1))}`);
}

const query = (server, sql) =>
  JSON.parse(execFileSync("sqlite3", ["-json", path.join(server.data, "ptqd.sqlite"), sql], { encoding: "utf8", maxBuffer: 256 << 20 }) || "[]");

// The stored task results, as they lie in the database.
export const tasks = (server, job = "%") =>
  query(server, `SELECT hex(digest) AS digest, kind, hex(result) AS result, blob, attempt, cpu_us, at_ms, times FROM tasks WHERE job_id LIKE '${job}' ORDER BY digest`);

// A finished task must not be computed again: its result has come in once.
export function onceEach(rows) {
  for (const row of rows) assert.equal(row.times, 1, `task ${row.digest} was computed ${row.times} times`);
}

// Milliseconds of computing that a kill at the time `at` can have cost at most, by the task log. All
// that a slot had computed by then is stored, but for what it did since the latest row was written
// (or the attempt began) and for the one task it was at.
export function lostWork(server, id, at) {
  const [{ attempt }] = query(server, `SELECT attempt FROM jobs WHERE id='${id}'`);
  const [begun] = query(server, `SELECT max(at_ms) AS at FROM events WHERE job_id='${id}' AND type='state' AND json_extract(data,'$.attempt')=${attempt}`);
  const [latest] = query(server, `SELECT max(at_ms) AS at FROM tasks WHERE job_id='${id}' AND attempt=${attempt} AND at_ms<=${at}`);
  const [longest] = query(server, `SELECT coalesce(max(cpu_us), 0) AS us FROM tasks WHERE job_id='${id}'`);
  const lost_ms = begun.at === null ? 0 : os.cpus().length * (Math.max(0, at - (latest.at ?? begun.at)) + longest.us / 1000);
  assert.ok(lost_ms <= LOST_MAX_MS, `a kill of attempt ${attempt} lost up to ${lost_ms} ms of work`);
  return Math.round(lost_ms);
}
const LOST_MAX_MS = 5000;

// A small generator with a seed, so that a run can be had again.
function generator(seed) {
  let state = seed;
  return () => (state = (state * 1103515245 + 12345) % 2147483648) / 2147483648;
}

// Until the job has `n` more task results than now, or has ended.
async function stored(server, id, n) {
  const get = async () => (await server.get(`/v1/jobs/${id}`)).json;
  const from = (await get()).cache.misses;
  for (let job = await get(); job.cache.misses < from + n && !TERMINAL.includes(job.state); job = await get()) await delay(20);
}

// Kills the daemon, the worker or one of its children at random moments until the job has ended;
// how many times. Whoever is killed, what was stored stays as it was, is not computed again, and
// little is lost; `lost` takes how much, at most, in ms.
export async function storm(server, id, { kills, seed, lost = [] }) {
  const random = generator(seed);
  let seen = new Map();
  let done = 0;
  for (; done < kills; done++) {
    // Five workers lost in a row without a new task result end a job, by intention: the storm lets
    // each attempt store something, except when it kills the daemon, which does not count.
    const early = random() < 0.2;
    if (!early) await stored(server, id, 1 + Math.floor(random() * 6));
    await delay(random() * 150);
    if (TERMINAL.includes((await server.get(`/v1/jobs/${id}`)).json.state)) break;
    const workers = server.workers();
    const at = Date.now();
    const one = !early && random() < 0.4 && workers.length;
    if (one) process.kill(workers[Math.floor(random() * workers.length)], "SIGKILL");
    else await server.kill();
    lost.push(lostWork(server, id, at));
    if (one) continue;
    const now = tasks(server);
    const digests = new Map(now.map((row) => [row.digest, row]));
    for (const [digest, row] of seen) assert.deepEqual(digests.get(digest), row, "a stored task has changed");
    assert.equal(digests.size, now.length);
    onceEach(now);
    seen = digests;
    await server.start();
  }
  return done;
}
