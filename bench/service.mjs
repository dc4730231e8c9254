// The service under load: `make bench-service`. One ptqd on loopback with a data folder of its own;
// every line of build/bench/service.jsonl is one measurement, `ok` where there is a bound.
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { build } from "../tests/e2e/lib/paths.mjs";
import { CALIBRATE, Server } from "../tests/e2e/lib/server.mjs";
import { cancelAll, fanOut, GIB, hammer, keepBusy, prepareUpload, rssKb, submitUnderLoad, watchRss } from "../tests/e2e/lib/load.mjs";

const RSS_MB = 32;
const POST_P99_MS = 50;
const STREAMS = 1000;

const file = path.join(build, "bench/service.jsonl");
fs.mkdirSync(path.dirname(file), { recursive: true });
fs.writeFileSync(file, "");
let missed = 0;
function report(measurement) {
  fs.appendFileSync(file, JSON.stringify(measurement) + "\n");
  const { what, ok, ...rest } = measurement;
  missed += ok === false;
  console.log(`${what.padEnd(34)} ${ok === undefined ? "    " : ok ? "ok  " : "MISS"} ${Object.entries(rest).map(([k, v]) => `${k} ${v}`).join(", ")}`);
}
const mb = (kb) => Number((kb / 1024).toFixed(1));
const load = () => Number(os.loadavg()[0].toFixed(2));

async function gets(server) {
  for (const clients of [1, 8]) {
    const { answers, ...times } = await hammer(server.port, { clients, n: 4000, status: 200, make: () => ({ path: "/healthz" }) });
    report({ what: "GET /healthz", clients, ...times });
  }
  const { answers, ...times } = await hammer(server.port, { clients: 8, n: 4000, status: 200, make: () => ({ path: "/v1/jobs?limit=1" }) });
  report({ what: "GET /v1/jobs?limit=1", clients: 8, ...times });
}

// Queued behind a job that computes, so that what is timed is the durable acknowledgement alone.
async function submissions(server, ids) {
  for (const clients of [1, 16]) {
    const { answers, ...times } = await hammer(server.port, {
      clients, n: 1000, status: 202,
      make: (i) => ({ method: "POST", path: "/v1/jobs", body: { ...CALIBRATE, ...ids, priority: -1, labels: { i: String(i) } } }),
    });
    report({ what: "POST /v1/jobs, all slots computing", clients, ...times });
  }
}

async function streams(server, id) {
  const rss = watchRss(server.process.pid);
  const before = rssKb(server.process.pid);
  const ended = fanOut(server.port, id, STREAMS);
  const { differing, ...rest } = await ended;
  report({ what: "event streams on one running job", ...rest, differing, rss_growth_mb: mb(rss.stop() - before), ok: differing === 0 });
}

async function upload(server) {
  const up = await prepareUpload(server.port);
  const before = rssKb(server.process.pid);
  const rss = watchRss(server.process.pid);
  const { status, seconds } = await up.start();
  const growth = mb(rss.stop() - before);
  report({ what: "upload of 1 GiB, idle", status, seconds: Number(seconds.toFixed(2)), mb_s: Math.round(GIB / 1e6 / seconds), rss_growth_mb: growth, ok: status === 201 && growth < RSS_MB });
}

async function combined(server) {
  const up = await prepareUpload(server.port);
  await keepBusy(server);
  const { jobs, rss, upload: sent } = await submitUnderLoad(server, up);
  const growth = mb(rss.peak_kb - rss.before_kb);
  report({ what: "POST /v1/jobs, computing + upload", ...jobs, ok: jobs.p99_ms < POST_P99_MS });
  report({ what: "upload of 1 GiB, computing + POSTs", status: sent.status, seconds: Number(sent.seconds.toFixed(2)), mb_s: Math.round(GIB / 1e6 / sent.seconds), rss_growth_mb: growth, ok: sent.status === 201 && growth < RSS_MB });
  await cancelAll(server);
}

// A fresh server for each, so that none inherits the other's queue or memory.
async function on(fn) {
  const server = await Server.start();
  await fn(server);
  await server.stop();
}

report({ what: "machine", cpus: os.cpus().length, model: os.cpus()[0].model.trim(), node: process.version, load_1min: load() });
await on(gets);
await on(async (server) => {
  const { model, data } = await server.uploadDemo();
  await keepBusy(server);
  await submissions(server, { model, data });
  await cancelAll(server);
});
await on(async (server) => {
  const id = await keepBusy(server);
  await streams(server, id);
  await cancelAll(server);
});
await on(upload);
await on(combined);
report({ what: "end", load_1min: load() });
if (missed) console.log(`${missed} missed`);
process.exitCode = missed ? 1 : 0;
