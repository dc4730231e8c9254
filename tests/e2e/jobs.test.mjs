// The life of a job.
import assert from "node:assert/strict";
import crypto from "node:crypto";
import { execFile } from "node:child_process";
import path from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { build } from "./lib/paths.mjs";
import { CALIBRATE, Server } from "./lib/server.mjs";

const options = { timeout: 120000 };
let server, ids, request;
before(async () => {
  server = await Server.start();
  ids = await server.uploadDemo();
  request = { ...CALIBRATE, model: ids.model, data: ids.data };
});
after(() => server.stop());

// No two of these are the same job, so that none is answered from what an earlier one has computed.
let variants = 200;
const fresh = () => ({ ...request, quant_config: { model_config: { activation: { calibration_type: "kl", num_bin: variants++ } } } });

test("calibrate gives calibrations, a ledger and a calibrated model", options, async () => {
  const job = await server.succeeded((await server.submit(request)).id);
  assert.equal(job.kind, "calibrate");
  assert.equal(job.attempt, 1);
  assert.ok(job.engine);
  assert.ok(job.timestamps.created <= job.timestamps.started && job.timestamps.started <= job.timestamps.finished);
  const result = (await server.expect(200, "GET", `/v1/jobs/${job.id}/results`)).json;
  assert.equal(result.samples, 64);
  assert.ok(result.calibrations.length > 20);
  assert.equal(new Set(result.calibrations.map((c) => c.name)).size, result.calibrations.length);
  for (const c of result.calibrations) {
    assert.equal(c.qtype, "int8");
    assert.ok(c.thresholds.length > 0 && c.thresholds.every((t) => t > 0), c.name);
  }
  const weights = result.calibrations.filter((c) => c.tensor_type === "weight");
  assert.equal(weights.length, 12, "11 Conv and a Gemm");
  assert.ok(result.ledger.length > 0);
  const model = (await server.expect(200, "GET", `/v1/models/${result.calibrated_model_id}`)).json;
  assert.equal(model.summary.calibrated, true);
  assert.equal(model.summary.calibrations, result.calibrations.length);
});

test("artifacts have the size and the digest that the list says", options, async () => {
  const job = await server.succeeded((await server.submit(request)).id);
  const { items } = (await server.expect(200, "GET", `/v1/jobs/${job.id}/artifacts`)).json;
  assert.deepEqual(items.map((a) => a.name), ["calibrated_model.onnx", "quant_config.json"]);
  for (const a of items) {
    const whole = await server.expect(200, "GET", a.links.self);
    assert.equal(whole.body.length, a.size_bytes);
    assert.equal(crypto.createHash("sha256").update(whole.body).digest("hex"), a.sha256);
    const part = await server.expect(206, "GET", a.links.self, undefined, { Range: "bytes=3-9" });
    assert.deepEqual(part.body, whole.body.subarray(3, 10));
    await server.expect(416, "GET", a.links.self, undefined, { Range: `bytes=${a.size_bytes}-` });
  }
  await server.expect(404, "GET", `/v1/jobs/${job.id}/artifacts/other.onnx`);
});

test("evaluate tells the metrics of each output and the accuracy", options, async () => {
  const calibrated = await server.succeeded((await server.submit(request)).id);
  const model = { from_job: calibrated.id, artifact: "calibrated_model.onnx" };
  const job = await server.succeeded((await server.submit({ kind: "evaluate", model, data: ids.evaluation })).id);
  const result = (await server.expect(200, "GET", `/v1/jobs/${job.id}/results`)).json;
  assert.equal(result.samples, 500);
  const [{ output, samples, metrics }] = result.outputs;
  assert.deepEqual({ output, samples }, { output: "scores", samples: 500 });
  const cosine = metrics["cosine-similarity"];
  assert.ok(cosine.min <= cosine.avg && cosine.avg <= cosine.max && cosine.max <= 1.0000001 && cosine.avg > 0.98, JSON.stringify(cosine));
  assert.ok(metrics.l1.avg > 0, "int8 is not float");
  assert.equal(result.accuracy.metric, "top-1");
  assert.equal(result.accuracy.samples, 500);
  assert.equal(result.accuracy.float, 0.992, "what scripts/train_demo.py measured");
  assert.ok(result.accuracy.quantized > 0.96);
  const [low, high] = result.accuracy.difference_interval;
  const difference = result.accuracy.quantized - result.accuracy.float;
  assert.ok(low <= difference + 1e-12 && difference <= high + 1e-12);
  assert.equal(result.accuracy_top5.metric, "top-5");
  assert.ok(result.accuracy_top5.quantized >= result.accuracy.quantized);
  assert.equal(result.nodes, null);
});

test("info tells of every node, and prints HMCT's tables by either name", options, async () => {
  const calibrated = await server.succeeded((await server.submit(request)).id);
  const { calibrated_model_id: model } = (await server.get(`/v1/jobs/${calibrated.id}/results`)).json;
  const job = await server.succeeded((await server.submit({ kind: "evaluate", model, data: ids.data, options: { nodes: true, samples: 2 } })).id);
  const { nodes, outputs } = (await server.expect(200, "GET", `/v1/jobs/${job.id}/results`)).json;
  const { json: graph } = await server.expect(200, "GET", `/v1/models/${model}/graph`);
  assert.deepEqual(nodes.map((n) => n.node), graph.nodes.map((n) => n.name));
  const last = nodes.find((n) => graph.nodes.find((g) => g.name === n.node).outputs.includes("scores"));
  assert.ok(Math.abs(last["cosine-similarity"] - outputs[0].metrics["cosine-similarity"].avg) < 1e-12);
  const env = { ...process.env, PTQ_URL: `http://127.0.0.1:${server.port}` };
  const run = async (name, ...args) => (await promisify(execFile)(path.join(build, name), args, { env, cwd: server.dir })).stdout;
  const text = await run("hmct-info", model, "-c", ids.data, "--samples", "2");
  assert.equal(await run("ptq", "info", model, "-c", ids.data, "--samples", "2"), text);
  const lines = text.split("\n");
  assert.match(lines[2], /^Node +ON +Subgraph  Type +Cosine Similarity  Threshold  In\/Out DataType  $/);
  assert.match(lines[4], /^\S+ +BPU  id\(0\) +\S+ +[01]\.\d{6} +\d+\.\d{6} +int8\/int8 +$/);
  assert.match(text, /\n\| scores \| cosine-similarity \| [01]\.\d{6} \| [01]\.\d{6} \| [01]\.\d{6} \|\n/);
  const one = await run("hmct-info", model, "-c", ids.data, "--samples", "1");
  assert.match(one, /\nThe quantized model output:\n=+\nOutput +Cosine Similarity  L1 Distance  L2 Distance  Chebyshev Distance  \n-+\nscores /);
});

test("export writes a QDQ model, alone or beside a calibration", options, async () => {
  const job = await server.succeeded((await server.submit({ ...request, options: { export: "qdq" } })).id);
  const { calibrated_model_id: model, export: beside } = (await server.expect(200, "GET", `/v1/jobs/${job.id}/results`)).json;
  const alone = await server.succeeded((await server.submit({ kind: "export", model })).id);
  const result = (await server.expect(200, "GET", `/v1/jobs/${alone.id}/results`)).json;
  assert.deepEqual(result, beside);
  assert.ok(result.types.int8 > 10);
  const files = await Promise.all([job, alone].map((j) => server.expect(200, "GET", `/v1/jobs/${j.id}/artifacts/qdq_model.onnx`)));
  assert.deepEqual(files[0].body, files[1].body);
  assert.ok(files[0].body.includes("DequantizeLinear"));
  const wrong = [[{ kind: "export", model, data: ids.data }, "/data"], [{ kind: "evaluate", model }, "/data"],
    [{ kind: "export", model, options: { opset21: 1 } }, "/options/opset21"], [{ ...request, options: { export: "tflite" } }, "/options/export"]];
  for (const [body, pointer] of wrong) assert.equal((await server.expect(422, "POST", "/v1/jobs", JSON.stringify(body))).json.errors[0].pointer, pointer);
});

test("evaluating a float model calibrates it first, to the same figures", options, async () => {
  const calibrated = await server.succeeded((await server.submit(request)).id);
  const { calibrated_model_id: model } = (await server.get(`/v1/jobs/${calibrated.id}/results`)).json;
  const twoSteps = await server.succeeded((await server.submit({ kind: "evaluate", model, data: ids.evaluation })).id);
  const oneStep = await server.succeeded((await server.submit({ ...request, kind: "evaluate", data: ids.evaluation, calibration_data: ids.data })).id);
  const [a, b] = await Promise.all([twoSteps, oneStep].map((job) => server.get(`/v1/jobs/${job.id}/results`)));
  assert.deepEqual(b.json.outputs, a.json.outputs);
  assert.deepEqual(b.json.accuracy, a.json.accuracy);
});

test("samples limits the job to the first samples", options, async () => {
  const job = await server.succeeded((await server.submit({ ...request, options: { samples: 5 } })).id);
  assert.equal((await server.get(`/v1/jobs/${job.id}/results`)).json.samples, 5);
  assert.equal(job.spec.options.samples, 5);
});

test("an equal job computes nothing again and gives the same bytes", options, async () => {
  const first = await server.succeeded((await server.submit({ ...request, options: { samples: 9 } })).id);
  const second = await server.succeeded((await server.submit({ ...request, options: { samples: 9 } })).id);
  assert.notEqual(second.id, first.id);
  assert.equal(second.cache.misses, 0);
  assert.ok(second.cache.hits > 0);
  const [a, b] = await Promise.all([first, second].map((job) => server.get(`/v1/jobs/${job.id}/results`)));
  assert.deepEqual(b.body, a.body);
});

test("an Idempotency-Key gives one job for many requests", options, async () => {
  const body = fresh();
  const headers = { "Idempotency-Key": "key-1" };
  const answers = await Promise.all(Array.from({ length: 30 }, () => server.post("/v1/jobs", body, headers)));
  const accepted = answers.filter((a) => a.status === 202);
  for (const a of answers) assert.ok(a.status === 202 || (a.status === 409 && a.json.type === "/problems/idempotency-busy"), `${a.status}`);
  assert.equal(new Set(accepted.map((a) => a.json.id)).size, 1);
  assert.equal(accepted.filter((a) => a.headers["idempotent-replayed"] === undefined).length, 1);
  const replay = await server.post("/v1/jobs", body, headers);
  assert.equal(replay.headers["idempotent-replayed"], "true");
  const other = await server.post("/v1/jobs", { ...body, priority: 1 }, headers);
  assert.equal(other.status, 422);
  assert.equal(other.json.type, "/problems/idempotency-mismatch");
  await server.ended(accepted[0].json.id);
});

test("Prefer: wait answers early when the job ends, and in time when it does not", options, async () => {
  const { id } = await server.submit(request);
  const from = Date.now();
  assert.equal((await server.get(`/v1/jobs/${id}`, { Prefer: "wait=50" })).json.state, "succeeded");
  assert.ok(Date.now() - from < 45000);
  assert.equal((await server.get(`/v1/jobs/${id}`, { Prefer: "wait=0" })).status, 200);
  const ended = await server.get(`/v1/jobs/${id}`);
  const again = Date.now();
  await server.expect(200, "GET", `/v1/jobs/${id}`, undefined, { Prefer: "wait=50" });
  assert.ok(Date.now() - again < 5000, "a job that has ended is not waited for");
  await server.expect(304, "GET", `/v1/jobs/${id}`, undefined, { "If-None-Match": ended.headers.etag });
});

test("cancel ends a job, is repeatable, and changes nothing that has ended", options, async () => {
  const running = await server.submit(fresh());
  const answer = await server.post(`/v1/jobs/${running.id}:cancel`);
  assert.ok([200, 202].includes(answer.status));
  const job = await server.ended(running.id);
  assert.ok(["cancelled", "succeeded"].includes(job.state));
  const again = await server.expect(200, "POST", `/v1/jobs/${running.id}:cancel`);
  assert.equal(again.json.state, job.state);
  if (job.state === "cancelled") await server.expect(409, "GET", `/v1/jobs/${running.id}/results`);
});

test("a queued job that is cancelled never runs; retry makes a new job of it", options, async () => {
  const jobs = [];
  for (let i = 0; i < 8; i++) jobs.push(await server.submit(fresh()));
  const last = jobs.at(-1);
  await server.post(`/v1/jobs/${last.id}:cancel`);
  const cancelled = await server.ended(last.id);
  assert.equal(cancelled.state, "cancelled");
  assert.equal(cancelled.attempt, 0);
  const retry = await server.expect(202, "POST", `/v1/jobs/${last.id}:retry`);
  assert.equal(retry.json.retry_of, last.id);
  assert.deepEqual(retry.json.spec, cancelled.spec);
  await server.succeeded(retry.json.id);
  for (const job of jobs) await server.ended(job.id);
  await server.expect(409, "POST", `/v1/jobs/${retry.json.id}:retry`);
});

test("labels and priority are patched under If-Match", options, async () => {
  const { id } = await server.submit({ ...request, labels: { branch: "main", keep: "1" } });
  await server.ended(id);
  const { headers } = await server.get(`/v1/jobs/${id}`);
  const patch = (body, extra) => server.request("PATCH", `/v1/jobs/${id}`, JSON.stringify(body), { "Content-Type": "application/merge-patch+json", ...extra });
  assert.equal((await patch({ priority: 3 })).status, 428);
  const changed = await patch({ labels: { branch: null, team: "a" }, priority: 3 }, { "If-Match": headers.etag });
  assert.equal(changed.status, 200);
  assert.deepEqual(changed.json.labels, { keep: "1", team: "a" });
  assert.equal(changed.json.priority, 3);
  assert.equal((await patch({ priority: 4 }, { "If-Match": headers.etag })).status, 412);
  assert.equal((await patch({ state: "failed" }, { "If-Match": changed.headers.etag })).status, 422);
  const found = await server.all("/v1/jobs?label=team:a");
  assert.deepEqual(found.map((j) => j.id), [id]);
});

test("jobs are listed by state, kind and label, and deleted once they have ended", options, async () => {
  const { id } = await server.submit({ ...request, labels: { mark: "x:y" } });
  const all = (await server.all("/v1/jobs", 3)).map((j) => j.id);
  assert.equal(all[0], id);
  assert.equal(new Set(all).size, all.length);
  await server.succeeded(id);
  assert.deepEqual((await server.all("/v1/jobs?label=mark:x:y")).map((j) => j.id), [id]);
  for (const job of await server.all("/v1/jobs?state=succeeded&kind=calibrate")) assert.deepEqual([job.state, job.kind], ["succeeded", "calibrate"]);
  await server.expect(204, "DELETE", `/v1/jobs/${id}`);
  for (const path of ["", "/events", "/results", "/artifacts"]) await server.expect(404, "GET", `/v1/jobs/${id}${path}`);
});

test("a job that runs cannot be deleted, and has no results yet", options, async () => {
  const jobs = [];
  for (let i = 0; i < 4; i++) jobs.push(await server.submit(fresh()));
  const last = jobs.at(-1).id;
  await server.expect(409, "DELETE", `/v1/jobs/${last}`);
  const early = await server.expect(409, "GET", `/v1/jobs/${last}/results`);
  assert.match(early.json.detail, /queued|running/);
  for (const job of jobs) await server.succeeded(job.id);
});
