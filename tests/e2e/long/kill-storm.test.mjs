// Twenty kills at random moments over one job of at least a hundred tasks.
import assert from "node:assert/strict";
import { test } from "node:test";
import { onceEach, outcome, storm, sweepWork, tasks, undisturbed, uploadSweep, uploadWork, work } from "../lib/kill.mjs";
import { Server } from "../lib/server.mjs";

const KILLS = 20;
const seed = Number(process.env.SEED ?? Date.now() % 100000);

async function withstand(t, upload, make) {
  const { engine, ...expected } = await undisturbed(upload, make);
  const server = await Server.start();
  const { id } = await server.submit(make(await upload(server)));
  const lost = [];
  const kills = await storm(server, id, { kills: KILLS, seed, lost });
  const job = await server.ended(id, 300);
  t.diagnostic(`${kills} kills, attempt ${job.attempt}, state ${job.state}, ${JSON.stringify(job.cache)}`);
  t.diagnostic(`work lost at most, ms: ${lost.join(" ")}`);
  assert.equal(job.state, "succeeded", JSON.stringify(job.error));
  assert.equal(job.engine, engine);
  assert.equal(kills, KILLS, "the job ended too soon");
  assert.deepEqual(await outcome(server, id), expected);
  const rows = tasks(server, id);
  assert.ok(rows.length >= 100, `${rows.length} tasks`);
  onceEach(rows);
  assert.ok(new Set(rows.map((r) => r.attempt)).size > 1, "the attempts went on where the one before had stopped");
  assert.ok(!server.log(Infinity).includes("task.again"), "no finished task was computed again");
  await server.stop();
}

test(`${KILLS} kills of daemon and workers over a calibration (SEED=${seed})`, { timeout: 900000 }, (t) => withstand(t, (server) => uploadWork(server, 640), work));

test(`${KILLS} kills of daemon, worker and children over a sweep (SEED=${seed})`, { timeout: 900000 }, (t) => withstand(t, (server) => uploadSweep(server, 240), sweepWork));
