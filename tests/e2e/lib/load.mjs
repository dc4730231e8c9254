// Load, and what it is measured by. The client's own work is kept small: connections are kept, and
// nothing is held against the document here (the other tests do that).
import { spawn } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import http from "node:http";
import net from "node:net";
import path from "node:path";
import readline from "node:readline";
import { fileURLToPath } from "node:url";
import { convModel, images } from "./files.mjs";
import { CALIBRATE } from "./server.mjs";

export const GIB = 1 << 30;

// Resident kB of the process: {now}, and watch(): {stop() → the most that was seen}.
export const rssKb = (pid) => Number(/VmRSS:\s+(\d+)/.exec(fs.readFileSync(`/proc/${pid}/status`, "utf8"))[1]);
export function watchRss(pid) {
  let most = rssKb(pid);
  const timer = setInterval(() => (most = Math.max(most, rssKb(pid))), 20);
  return { stop: () => (clearInterval(timer), Math.max(most, rssKb(pid))) };
}

// {n, rate, p50, p99, max} of times in ms, `seconds` the time they took together.
export function summary(times, seconds) {
  const sorted = [...times].sort((a, b) => a - b);
  const at = (q) => Number(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))].toFixed(2));
  return { n: times.length, rate: Math.round(times.length / seconds), p50_ms: at(0.5), p99_ms: at(0.99), max_ms: at(1) };
}

// One kept connection: call() takes {method, path, body} and gives {status, body}.
export class Client {
  constructor(port) {
    this.agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
    this.port = port;
  }
  call({ method = "GET", path: target, body }) {
    return new Promise((resolve, reject) => {
      const text = body === undefined ? undefined : JSON.stringify(body);
      const headers = text === undefined ? {} : { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(text) };
      const req = http.request({ host: "127.0.0.1", port: this.port, method, path: target, headers, agent: this.agent }, (res) => {
        const parts = [];
        res.on("data", (part) => parts.push(part)).on("end", () => resolve({ status: res.statusCode, body: Buffer.concat(parts).toString() }));
      });
      req.on("error", reject).end(text);
    });
  }
  close() {
    this.agent.destroy();
  }
}

// `clients` connections call what `make(i)` gives, `n` times in all or until `until()` holds; every
// answer must have that status. `pause_ms` lies between two calls of a client.
export async function hammer(port, { clients = 1, n = Infinity, until = () => false, pause_ms = 0, status, make }) {
  const times = [];
  const answers = [];
  let next = 0;
  const from = performance.now();
  await Promise.all(Array.from({ length: clients }, async () => {
    const client = new Client(port);
    while (next < n && !until()) {
      const call = make(next++);
      const start = performance.now();
      const answer = await client.call(call);
      times.push(performance.now() - start);
      if (answer.status !== status) throw new Error(`${call.path}: ${answer.status} ${answer.body}`);
      answers.push(answer.body);
      if (pause_ms) await new Promise((resolve) => setTimeout(resolve, pause_ms));
    }
    client.close();
  }));
  return { ...summary(times, (performance.now() - from) / 1000), answers };
}

// An upload by another process, ready to go: start() lets it, done is {status, seconds}.
export async function prepareUpload(port, size = GIB) {
  const script = path.join(path.dirname(fileURLToPath(import.meta.url)), "upload.mjs");
  const child = spawn(process.execPath, [script, String(port), String(size)], { stdio: ["pipe", "pipe", "inherit"] });
  const lines = readline.createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const line = async () => {
    const { value, done } = await lines.next();
    if (done) throw new Error("the upload's process has ended early");
    return JSON.parse(value);
  };
  const { digest } = await line();
  const upload = { digest, over: false };
  upload.start = () => {
    child.stdin.end("go\n");
    upload.done = line().finally(() => (upload.over = true));
    return upload.done;
  };
  upload.exited = once(child, "exit");
  return upload;
}

// The body of one event stream as it came, chunks joined: HTTP/1.1 by hand, so that a thousand of
// them cost this process little.
function readStream(port, target) {
  return new Promise((resolve, reject) => {
    const socket = net.connect(port, "127.0.0.1");
    const parts = [];
    socket.on("error", reject).on("data", (part) => parts.push(part));
    socket.on("end", () => {
      const all = Buffer.concat(parts);
      const head = all.indexOf("\r\n\r\n");
      const top = all.subarray(0, head).toString("latin1");
      if (!top.startsWith("HTTP/1.1 200") || !/transfer-encoding: chunked/i.test(top)) reject(new Error(`${target}: ${top.split("\r\n")[0]}`));
      else resolve(dechunk(all.subarray(head + 4)));
    });
    socket.write(`GET ${target} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: application/x-ndjson\r\nConnection: close\r\n\r\n`);
  });
}
function dechunk(body) {
  const parts = [];
  for (let at = 0; ; ) {
    const end = body.indexOf("\r\n", at);
    if (end < 0) throw new Error("a stream was cut");
    const size = parseInt(body.subarray(at, end).toString("latin1"), 16);
    if (size === 0) return Buffer.concat(parts);
    parts.push(body.subarray(end + 2, end + 2 + size));
    at = end + 2 + size + 2;
  }
}

// `n` streams on the job, from before it ends to its end; each must be, byte for byte, what the
// event log then holds. {streams, rows, bytes, differing}.
export async function fanOut(port, id, n) {
  const target = `/v1/jobs/${id}/events`;
  const bodies = await Promise.all(Array.from({ length: n }, () => readStream(port, target)));
  const stored = await readStream(port, `${target}?follow=false`);
  const rows = stored.toString().split("\n").length - 1;
  return { streams: n, rows, bytes: stored.length, differing: bodies.filter((b) => !b.equals(stored)).length };
}

// Jobs that keep every slot computing for minutes, until they are cancelled; resolves once one runs.
// No two share a task: their percentiles differ.
export async function keepBusy(server) {
  const ids = { model: await server.upload("models", convModel({ width: 96, layers: 12 })), data: await server.upload("datasets", images(200)) };
  const jobs = [];
  for (let i = 0; i < 6; i++) {
    const activation = { calibration_type: "max", max_percentile: 0.999 - i / 10000 };
    jobs.push(await server.submit({ kind: "calibrate", ...ids, quant_config: { model_config: { activation } }, priority: 5 }));
  }
  for (;;) {
    const { state } = (await server.get(`/v1/jobs/${jobs[0].id}`)).json;
    if (state === "running") return jobs[0].id;
    if (state !== "queued") throw new Error(`the job that should compute is ${state}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

export async function cancelAll(server) {
  const left = async () => [...(await server.all("/v1/jobs?state=queued")), ...(await server.all("/v1/jobs?state=running"))];
  for (const job of await left()) await server.post(`/v1/jobs/${job.id}:cancel`);
}

// The case that counts: while all slots compute and `upload` (prepared) runs, jobs are submitted by
// `clients` connections. {jobs: summary, rss: {before_kb, peak_kb}, upload: {status, seconds}}.
export async function submitUnderLoad(server, upload, clients = 1) {
  const { model, data } = await server.uploadDemo();
  const before_kb = rssKb(server.process.pid);
  const rss = watchRss(server.process.pid);
  const sent = upload.start();
  const { answers, ...jobs } = await hammer(server.port, {
    clients, status: 202, pause_ms: 10,
    until: () => upload.over,
    make: (i) => ({ method: "POST", path: "/v1/jobs", body: { ...CALIBRATE, model, data, priority: -1, labels: { i: String(i) } } }),
  });
  const { status, seconds } = await sent;
  return { jobs, answers, rss: { before_kb, peak_kb: rss.stop() }, upload: { status, seconds } };
}
