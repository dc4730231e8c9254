// kill -9 of the daemon and of workers: accepted work is not lost, results are the same bytes.
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { lostWork, onceEach, outcome, progressed, storm, sweepWork, tasks, undisturbed, uploadSweep, uploadWork, work } from "./lib/kill.mjs";
import { digits } from "./lib/files.mjs";
import { CALIBRATE, Server } from "./lib/server.mjs";

const options = { timeout: 240000 };
const SAMPLES = 100;
let reference;

test("an undisturbed job, to compare with", options, async () => {
  reference = await undisturbed((server) => uploadWork(server, SAMPLES), work);
});

test("a daemon killed in the middle of a job goes on with it when it is started again", options, async (t) => {
  const server = await Server.start();
  const { id } = await server.submit(work(await uploadWork(server, SAMPLES)));
  await progressed(server, id, 5);
  const workers = server.workers();
  assert.ok(workers.length > 0);
  const at = Date.now();
  await server.kill();
  t.diagnostic(`at most ${lostWork(server, id, at)} ms of work lost`);
  const stored = tasks(server);
  assert.ok(stored.length >= 5);
  for (const from = Date.now(); workers.some((pid) => alive(pid)); await delay(20)) assert.ok(Date.now() - from < 5000, "workers die with the daemon");
  await server.start();
  const job = await server.succeeded(id, 120);
  assert.equal(job.attempt, 2);
  const byDigest = new Map(tasks(server).map((row) => [row.digest, row]));
  for (const row of stored) assert.deepEqual(byDigest.get(row.digest), row, "a finished task was used as it was");
  assert.ok([...byDigest.values()].some((row) => row.attempt === 2));
  onceEach([...byDigest.values()]);
  assert.equal(job.engine, reference.engine);
  const { engine, ...expected } = reference;
  assert.deepEqual(await outcome(server, id), expected);
  await server.stop();
});

test("a job whose worker is killed runs again from its finished tasks", options, async () => {
  const server = await Server.start();
  const { id } = await server.submit(work(await uploadWork(server, SAMPLES)));
  await progressed(server, id, 5);
  const [first] = server.workers();
  const at = Date.now();
  process.kill(first, "SIGKILL");
  lostWork(server, id, at);
  const job = await server.succeeded(id, 120);
  assert.equal(job.attempt, 2);
  onceEach(tasks(server));
  const { engine, ...expected } = reference;
  assert.deepEqual(await outcome(server, id), expected);
  await server.stop();
});

test("a sweep that is killed four times gives the same bytes and computes no row again", options, async () => {
  const upload = (server) => uploadSweep(server, 12);
  const { engine, ...expected } = await undisturbed(upload, sweepWork);
  const server = await Server.start();
  const { id } = await server.submit(sweepWork(await upload(server)));
  await storm(server, id, { kills: 4, seed: 11 });
  const job = await server.succeeded(id, 120);
  assert.equal(job.engine, engine);
  assert.deepEqual(await outcome(server, id), expected);
  assert.ok(job.attempt > 1);
  assert.ok(!server.log(Infinity).includes("task.again"));
  await server.stop();
});

test("what was acknowledged before a kill is there after it", options, async () => {
  const server = await Server.start();
  const { model, data } = await server.uploadDemo();
  const acknowledged = [];
  for (let i = 0; i < 20; i++) acknowledged.push((await server.submit({ ...CALIBRATE, model, data, labels: { i: String(i) } })).id);
  const half = server.request("PUT", "/v1/datasets", digits(2000)).catch(() => null);
  await server.kill();
  await half;
  await server.start();
  assert.deepEqual((await server.all("/v1/jobs")).map((j) => j.id), acknowledged.slice().reverse());
  for (const id of acknowledged) assert.equal((await server.ended(id, 120)).state, "succeeded");
  assert.equal((await server.leftovers()).tmp, 0, "what an upload had begun is swept");
  await server.stop();
});

test("a second daemon on the same data is refused", options, async () => {
  const server = await Server.start();
  const second = new Server();
  second.data = server.data;
  const from = Date.now();
  await assert.rejects(async () => {
    const { spawn } = await import("node:child_process");
    const { build } = await import("./lib/paths.mjs");
    const child = spawn(`${build}/ptqd`, ["--data", server.data, "--port", "0"], { stdio: "ignore" });
    const code = await new Promise((resolve) => child.on("exit", resolve));
    if (code !== 0) throw new Error(`status ${code}`);
  }, /status [1-9]/);
  assert.ok(Date.now() - from < 10000);
  await server.expect(200, "GET", "/readyz");
  await server.stop();
});

function alive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
