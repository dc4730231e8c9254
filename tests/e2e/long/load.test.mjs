// Load: a large upload, job submissions while everything is busy, a thousand streams. What must hold
// on any machine is asserted; how long a submission took is only told, since that depends on who else
// uses the machine: `make bench-service` measures it.
import assert from "node:assert/strict";
import { test } from "node:test";
import { cancelAll, fanOut, keepBusy, prepareUpload, rssKb, submitUnderLoad } from "../lib/load.mjs";
import { CALIBRATE, Server } from "../lib/server.mjs";

const options = { timeout: 600000 };

test("1 GiB is uploaded in bounded memory while all slots compute and jobs are accepted quickly", options, async (t) => {
  const server = await Server.start();
  const upload = await prepareUpload(server.port);
  await keepBusy(server);
  const { jobs, answers, rss, upload: sent } = await submitUnderLoad(server, upload);
  t.diagnostic(`RSS ${rss.before_kb} kB before, ${rss.peak_kb} kB at most; upload ${sent.seconds.toFixed(1)} s; submissions ${JSON.stringify(jobs)}`);
  assert.equal(sent.status, 201);
  assert.ok(jobs.n >= 100, `${jobs.n} submissions are too few to tell`);
  assert.ok(rss.peak_kb - rss.before_kb < 32 * 1024, `RSS grew by ${rss.peak_kb - rss.before_kb} kB`);
  await server.expect(200, "HEAD", `/v1/blobs/sha256:${upload.digest}`);
  const ids = new Set(answers.map((text) => JSON.parse(text).id));
  const known = new Set((await server.all("/v1/jobs")).map((job) => job.id));
  assert.equal(ids.size, jobs.n);
  for (const id of ids) assert.ok(known.has(id), `job ${id} was acknowledged and is gone`);
  await cancelAll(server);
  await server.stop();
});

test("a thousand event streams on one running job lose no row", options, async (t) => {
  const server = await Server.start();
  const id = await keepBusy(server);
  const { differing, ...all } = await fanOut(server.port, id, 1000);
  t.diagnostic(`${JSON.stringify(all)}; RSS of ptqd ${rssKb(server.process.pid)} kB`);
  assert.ok(all.rows >= 20, `${all.rows} rows are too few to tell`);
  assert.equal(differing, 0);
  await cancelAll(server);
  const { model, data } = await server.uploadDemo();
  assert.equal((await server.succeeded((await server.submit({ ...CALIBRATE, model, data })).id)).state, "succeeded");
  await server.stop();
});
