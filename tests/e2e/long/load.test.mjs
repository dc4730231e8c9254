// Load: a large upload, job submissions while everything is busy, a thousand streams.
import assert from "node:assert/strict";
import crypto from "node:crypto";
import fs from "node:fs";
import http from "node:http";
import { Readable } from "node:stream";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { uploadWork, work } from "../lib/kill.mjs";
import { CALIBRATE, Server } from "../lib/server.mjs";

const options = { timeout: 600000 };
const rssKb = (pid) => Number(/VmRSS:\s+(\d+)/.exec(fs.readFileSync(`/proc/${pid}/status`, "utf8"))[1]);

// `size` bytes in pieces of 1 MiB that differ.
function* bytes(size) {
  const piece = crypto.createHash("shake256", { outputLength: 1 << 20 }).update("load").digest();
  for (let at = 0; at < size; at += piece.length) {
    piece.writeUInt32LE(at / piece.length, 0);
    yield Buffer.from(piece.subarray(0, Math.min(piece.length, size - at)));
  }
}
function digestOf(size) {
  const hash = crypto.createHash("sha256");
  for (const piece of bytes(size)) hash.update(piece);
  return hash.digest("hex");
}
function upload(port, size, digest) {
  return new Promise((resolve, reject) => {
    const req = http.request({ host: "127.0.0.1", port, method: "PUT", path: `/v1/blobs/sha256:${digest}`, headers: { "Content-Length": size } }, (res) => res.resume().on("end", () => resolve(res.statusCode)));
    req.on("error", reject);
    Readable.from(bytes(size)).pipe(req);
  });
}

test("1 GiB is uploaded in bounded memory while jobs are accepted quickly", options, async (t) => {
  const size = 1 << 30;
  const digest = digestOf(size);
  const server = await Server.start();
  const ids = await uploadWork(server, 60);
  const { id } = await server.submit(work(ids));
  const { model, data } = await server.uploadDemo();
  const before = rssKb(server.process.pid);
  let peak = before;
  let uploading = true;
  const sent = upload(server.port, size, digest).finally(() => (uploading = false));
  const times = [];
  for (let i = 0; uploading || times.length < 100; i++) {
    const from = process.hrtime.bigint();
    await server.submit({ ...CALIBRATE, model, data, priority: -1, labels: { i: String(i) } });
    times.push(Number(process.hrtime.bigint() - from) / 1e6);
    peak = Math.max(peak, rssKb(server.process.pid));
    await delay(20);
  }
  assert.equal(await sent, 201);
  times.sort((a, b) => a - b);
  const p99 = times[Math.floor(times.length * 0.99)];
  t.diagnostic(`RSS ${before} kB before, ${peak} kB at most; ${times.length} submissions, p50 ${times[times.length >> 1].toFixed(1)} ms, p99 ${p99.toFixed(1)} ms`);
  assert.ok(peak - before < 32 * 1024, `RSS grew by ${peak - before} kB`);
  assert.ok(p99 < 50, `p99 of a submission is ${p99} ms`);
  await server.expect(200, "HEAD", `/v1/blobs/sha256:${digest}`);
  for (const job of await server.all("/v1/jobs?state=queued")) await server.post(`/v1/jobs/${job.id}:cancel`);
  await server.post(`/v1/jobs/${id}:cancel`);
  await server.stop();
});

test("a thousand event streams lose no row", options, async (t) => {
  const STREAMS = 1000;
  const server = await Server.start();
  const { model, data } = await server.uploadDemo();
  const ids = await uploadWork(server, 30);
  const { id } = await server.submit(work(ids));
  const streams = Array.from({ length: STREAMS }, (_, i) => server.events(`/v1/jobs/${id}/events`, { accept: i % 2 ? "text/event-stream" : "application/x-ndjson" }));
  const all = await Promise.all(streams);
  const lasting = (rows) => rows.filter((r) => r.type !== "progress").map((r) => r.seq).join(",");
  const stored = lasting((await server.events(`/v1/jobs/${id}/events?follow=false`)).rows);
  for (const { rows, ended } of all) {
    assert.ok(ended);
    assert.equal(lasting(rows), stored);
  }
  t.diagnostic(`${STREAMS} streams of ${all[0].rows.length} rows; RSS of ptqd ${rssKb(server.process.pid)} kB`);
  assert.equal((await server.succeeded((await server.submit({ ...CALIBRATE, model, data })).id)).state, "succeeded");
  await server.stop();
});
