// Twenty kills at random moments over one job of at least a hundred tasks.
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { outcome, tasks, undisturbed, uploadWork, work } from "../lib/kill.mjs";
import { Server, TERMINAL } from "../lib/server.mjs";

const SAMPLES = 160;
const KILLS = 20;
const seed = Number(process.env.SEED ?? Date.now() % 100000);

// A small generator with a seed, so that a run can be had again.
let state = seed;
const random = () => (state = (state * 1103515245 + 12345) % 2147483648) / 2147483648;

// Until the job has `n` more task results than now, or has ended.
async function stored(server, id, n) {
  const count = async () => (await server.get(`/v1/jobs/${id}`)).json;
  const from = (await count()).cache.misses;
  for (let job = await count(); job.cache.misses < from + n && !TERMINAL.includes(job.state); job = await count()) await delay(20);
}

test(`${KILLS} kills of daemon and workers (SEED=${seed})`, { timeout: 900000 }, async (t) => {
  const { engine, ...expected } = await undisturbed(SAMPLES);
  const server = await Server.start();
  const { id } = await server.submit(work(await uploadWork(server, SAMPLES)));
  let kills = 0;
  let seen = new Map();
  while (kills < KILLS) {
    // Five workers lost in a row without a new task result end a job, by intention: the storm lets
    // each attempt store something, except when it kills the daemon, which does not count.
    const early = random() < 0.2;
    if (!early) await stored(server, id, 1 + Math.floor(random() * 6));
    await delay(random() * 300);
    if (TERMINAL.includes((await server.get(`/v1/jobs/${id}`)).json.state)) break;
    const workers = server.workers();
    if (!early && random() < 0.4 && workers.length) process.kill(workers[Math.floor(random() * workers.length)], "SIGKILL");
    else {
      await server.kill();
      // What is stored stays as it is: no task is computed twice and none gets another result.
      const now = tasks(server);
      const digests = new Map(now.map((row) => [row.digest, row]));
      for (const [digest, row] of seen) assert.deepEqual(digests.get(digest), row, "a stored task has changed");
      assert.equal(digests.size, now.length);
      seen = digests;
      await server.start();
    }
    kills++;
  }
  const job = await server.ended(id, 300);
  t.diagnostic(`${kills} kills, attempt ${job.attempt}, state ${job.state}, ${JSON.stringify(job.cache)}`);
  assert.equal(job.state, "succeeded", JSON.stringify(job.error));
  assert.equal(job.engine, engine);
  assert.ok(kills >= 5, `the job ended after ${kills} kills`);
  assert.deepEqual(await outcome(server, id), expected);
  const rows = tasks(server);
  assert.ok(rows.length >= 100, `${rows.length} tasks`);
  assert.ok(new Set(rows.map((r) => r.attempt)).size > 1, "the attempts went on where the one before had stopped");
  await server.stop();
});
