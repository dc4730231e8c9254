// A ptqd of one's own: fresh data folder, free port, stopped (and its exit checked) at the end.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { build, demo } from "./paths.mjs";
import { readEvents, request } from "./http.mjs";

export const TERMINAL = ["succeeded", "failed", "cancelled"];

// What a failed test has left running must neither keep node waiting nor outlive it.
const running = new Set();
process.on("exit", () => {
  for (const server of running) server.process.kill("SIGKILL");
});

function filesBelow(dir) {
  if (!fs.existsSync(dir)) return [];
  return fs.readdirSync(dir, { withFileTypes: true }).flatMap((e) => {
    const full = path.join(dir, e.name);
    return e.isDirectory() ? filesBelow(full) : [full];
  });
}

export class Server {
  constructor(args = []) {
    this.dir = fs.mkdtempSync(path.join(os.tmpdir(), "ptqd-e2e-"));
    this.data = path.join(this.dir, "data");
    this.args = args;
  }

  static async start(args) {
    const server = new Server(args);
    await server.start();
    return server;
  }

  async start() {
    const portFile = path.join(this.data, "port");
    fs.rmSync(portFile, { force: true });
    const log = fs.openSync(path.join(this.dir, "log"), "a");
    this.process = spawn(path.join(build, "ptqd"), ["--data", this.data, "--port", "0", ...this.args], { stdio: ["ignore", log, log] });
    fs.closeSync(log);
    this.exited = once(this.process, "exit");
    this.process.unref();
    running.add(this);
    this.exited.then(() => running.delete(this));
    for (const from = Date.now(); !(fs.existsSync(portFile) && fs.readFileSync(portFile, "utf8").endsWith("\n")); await delay(10)) {
      if (this.process.exitCode !== null || Date.now() - from > 20000) throw new Error(`ptqd did not start:\n${this.log()}`);
    }
    this.port = Number(fs.readFileSync(portFile, "utf8"));
  }

  log(end = 4000) {
    return fs.readFileSync(path.join(this.dir, "log"), "utf8").slice(-end);
  }

  // SIGTERM: it drains and ends with status 0.
  async stop() {
    if (this.process.exitCode === null && this.process.signalCode === null) this.process.kill("SIGTERM");
    this.process.ref();
    const [code, signal] = await this.exited;
    assert.equal(code, 0, `ptqd ended with ${code ?? signal}:\n${this.log()}`);
    fs.rmSync(this.dir, { recursive: true, force: true });
  }

  async kill() {
    this.process.kill("SIGKILL");
    this.process.ref();
    await this.exited;
  }

  // Process ids of the ptq-worker processes below this server.
  workers() {
    const all = fs.readdirSync("/proc").filter((n) => /^\d+$/.test(n)).flatMap((pid) => {
      try {
        const stat = fs.readFileSync(`/proc/${pid}/stat`, "utf8");
        const name = path.basename(fs.readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0")[0]);
        return [{ pid: Number(pid), name, parent: Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]) }];
      } catch {
        return [];
      }
    });
    const below = (pid) => all.filter((p) => p.parent === pid).flatMap((p) => [p, ...below(p.pid)]);
    return below(this.process.pid).filter((p) => p.name === "ptq-worker").map((p) => p.pid);
  }

  // What an upload could leave behind.
  async leftovers() {
    const [models, datasets] = await Promise.all([this.all("/v1/models"), this.all("/v1/datasets")]);
    return { models: models.length, datasets: datasets.length, blobs: filesBelow(path.join(this.data, "blobs")).length, tmp: filesBelow(path.join(this.data, "tmp")).length };
  }

  request(method, target, body, headers = {}) {
    return request(this.port, { method, path: target, body, headers });
  }
  get(target, headers) {
    return this.request("GET", target, undefined, headers);
  }
  post(target, body, headers) {
    return this.request("POST", target, body === undefined || Buffer.isBuffer(body) ? body : JSON.stringify(body), headers);
  }
  events(target, options) {
    return readEvents(this.port, target, options);
  }

  async expect(status, method, target, body, headers) {
    const answer = await this.request(method, target, body, headers);
    assert.equal(answer.status, status, `${method} ${target}: ${answer.body.toString().slice(0, 600)}`);
    return answer;
  }

  // All items of a list, page by page.
  async all(target, limit = 100) {
    const items = [];
    let after = "";
    for (;;) {
      const page = (await this.expect(200, "GET", `${target}${target.includes("?") ? "&" : "?"}limit=${limit}${after}`)).json;
      items.push(...page.items);
      assert.equal(page.has_more, page.next !== null);
      if (!page.has_more) return items;
      after = `&after=${encodeURIComponent(page.next)}`;
    }
  }

  async upload(kind, body, name) {
    const answer = await this.request("PUT", `/v1/${kind}${name ? `?name=${encodeURIComponent(name)}` : ""}`, body);
    assert.ok([200, 201].includes(answer.status), `upload to ${kind}: ${answer.body}`);
    assert.equal(answer.json.state, "ready");
    return answer.json.id;
  }

  async uploadDemo() {
    const read = (name) => fs.readFileSync(demo(name));
    const model = await this.upload("models", read("digits.onnx"), "digits");
    return { model, data: await this.upload("datasets", read("digits.tar.gz")), evaluation: await this.upload("datasets", read("eval.tar.gz")) };
  }

  async submit(job, headers) {
    const answer = await this.post("/v1/jobs", job, headers);
    assert.equal(answer.status, 202, answer.body.toString());
    assert.equal(answer.headers.location, `/v1/jobs/${answer.json.id}`);
    return answer.json;
  }

  // The job once it has ended, by long polls.
  async ended(id, seconds = 60) {
    for (const from = Date.now(); Date.now() - from < seconds * 1000; ) {
      const job = (await this.expect(200, "GET", `/v1/jobs/${id}`, undefined, { Prefer: "wait=5" })).json;
      if (TERMINAL.includes(job.state)) return job;
    }
    throw new Error(`job ${id} has not ended in ${seconds} s:\n${this.log()}`);
  }

  async succeeded(id, seconds) {
    const job = await this.ended(id, seconds);
    assert.equal(job.state, "succeeded", JSON.stringify(job.error));
    return job;
  }
}

export const CALIBRATE = { kind: "calibrate", quant_config: { model_config: { all_node_type: "int8", activation: { calibration_type: "max" } } } };
