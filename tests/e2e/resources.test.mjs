// Models, datasets and blobs.
import assert from "node:assert/strict";
import crypto from "node:crypto";
import { execFile } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { build, demo } from "./lib/paths.mjs";
import { digit, digits, floats, matmulModel, npy, tar, zip } from "./lib/files.mjs";
import { CALIBRATE, Server } from "./lib/server.mjs";

const options = { timeout: 60000 };
const digest = (data) => `sha256:${crypto.createHash("sha256").update(data).digest("hex")}`;
let server;
before(async () => (server = await Server.start()));
after(() => server.stop());

test("the same model twice is one model", options, async () => {
  const file = fs.readFileSync(demo("digits.onnx"));
  const first = await server.expect(201, "PUT", "/v1/models?name=digits", file);
  assert.equal(first.headers.location, `/v1/models/${first.json.id}`);
  assert.equal(first.json.blob, digest(file));
  assert.equal(first.json.name, "digits");
  const again = await server.expect(200, "POST", "/v1/models", file, { "Content-Type": "application/octet-stream" });
  assert.equal(again.json.id, first.json.id);
  assert.equal((await server.all("/v1/models")).filter((m) => m.id === first.json.id).length, 1);
});

test("a model's summary tells its inputs, nodes and what became of them", options, async () => {
  const { summary } = (await server.get(`/v1/models/${await server.upload("models", fs.readFileSync(demo("digits.onnx")))}`)).json;
  assert.deepEqual(summary.inputs, [{ name: "image", type: "float32", shape: [1, 1, 8, 8] }]);
  assert.deepEqual(summary.outputs, [{ name: "scores", type: "float32", shape: [1, 10] }]);
  assert.equal(summary.operators.BatchNormalization, 11);
  assert.ok(summary.nodes.every((n) => n.op_type !== "BatchNormalization"), "BatchNormalization is folded into Conv");
  assert.equal(summary.nodes.length, summary.counts.nodes_optimized);
  assert.equal(summary.origins.length, summary.counts.nodes);
  assert.equal(summary.calibrated, false);
  const names = new Set(summary.nodes.map((n) => n.name));
  for (const o of summary.origins) assert.ok(o.optimized === null || names.has(o.optimized), `${o.original} → ${o.optimized}`);
});

test("the content of a model comes back byte for byte, also in ranges", options, async () => {
  const file = fs.readFileSync(demo("digits.onnx"));
  const at = `/v1/models/${await server.upload("models", file)}/content`;
  const whole = await server.expect(200, "GET", at);
  assert.deepEqual(whole.body, file);
  const part = await server.expect(206, "GET", at, undefined, { Range: "bytes=100-199" });
  assert.deepEqual(part.body, file.subarray(100, 200));
  assert.equal(part.headers["content-range"], `bytes 100-199/${file.length}`);
  const tail = await server.expect(206, "GET", at, undefined, { Range: "bytes=-7" });
  assert.deepEqual(tail.body, file.subarray(-7));
  await server.expect(416, "GET", at, undefined, { Range: `bytes=${file.length}-` });
  await server.expect(304, "GET", at, undefined, { "If-None-Match": whole.headers.etag });
  await server.expect(200, "HEAD", at);
});

test("an ETag gives 304 until the representation changes", options, async () => {
  const id = await server.upload("models", matmulModel(5));
  for (const path of [`/v1/models/${id}`, `/v1/models/${id}/graph`]) {
    const { headers } = await server.expect(200, "GET", path);
    await server.expect(304, "GET", path, undefined, { "If-None-Match": headers.etag });
    await server.expect(304, "GET", path, undefined, { "If-None-Match": `"other", ${headers.etag}` });
    await server.expect(200, "GET", path, undefined, { "If-None-Match": '"other"' });
  }
});

test("a deleted model is gone, and can be uploaded again under its id", options, async () => {
  const file = matmulModel(6);
  const id = await server.upload("models", file);
  await server.expect(204, "DELETE", `/v1/models/${id}`);
  await server.expect(404, "GET", `/v1/models/${id}`);
  await server.expect(404, "DELETE", `/v1/models/${id}`);
  assert.equal(await server.upload("models", file), id);
});

test("a model with external data is put together from blobs", options, async () => {
  const weights = floats(64, (i) => Math.cos(i));
  const file = matmulModel(8, { external: { location: "weights.bin", offset: 0, length: weights.length } });
  for (const data of [file, weights]) {
    await server.expect(404, "HEAD", `/v1/blobs/${digest(data)}`);
    await server.expect(201, "PUT", `/v1/blobs/${digest(data)}`, data);
    await server.expect(200, "PUT", `/v1/blobs/${digest(data)}`, data);
    await server.expect(200, "HEAD", `/v1/blobs/${digest(data)}`);
  }
  const body = { blob: digest(file), name: "split", external_data: [{ location: "weights.bin", blob: digest(weights) }] };
  const made = await server.expect(201, "POST", "/v1/models", JSON.stringify(body), { "Content-Type": "application/json" });
  assert.deepEqual(made.json.external_data, body.external_data);
  assert.equal(made.json.summary.counts.parameters, 64);
});

test("ptq takes a model as a folder, its external data beside it", options, async () => {
  const weights = floats(64, (i) => Math.sin(i));
  const folder = path.join(server.dir, "split");
  fs.mkdirSync(path.join(folder, "parts"), { recursive: true });
  fs.writeFileSync(path.join(folder, "model.onnx"), matmulModel(8, { external: { location: "parts/w.bin", offset: 0, length: weights.length } }));
  const add = () => promisify(execFile)(path.join(build, "ptq"), ["model", "add", folder, "--url", `http://127.0.0.1:${server.port}`, "--json"]);
  await assert.rejects(add(), /parts\/w\.bin/);
  fs.writeFileSync(path.join(folder, "parts", "w.bin"), weights);
  const made = JSON.parse((await add()).stdout);
  assert.deepEqual(made.external_data, [{ location: "parts/w.bin", blob: digest(weights) }]);
  assert.equal(JSON.parse((await add()).stdout).id, made.id);
  fs.writeFileSync(path.join(folder, "other.onnx"), "");
  await assert.rejects(add(), /more than one ONNX file/);
});

test("the forms of a dataset give the same samples", options, async () => {
  const samples = [0, 1, 2].map((i) => [`image/${i}.npy`, digit(i)]);
  const forms = [tar(samples), zip(samples), tar(samples.map(([name, data]) => [`folder/${name}`, data]))];
  const seen = [];
  for (const form of forms) {
    const id = await server.upload("datasets", form);
    const { summary } = (await server.expect(200, "GET", `/v1/datasets/${id}?digests=true`)).json;
    assert.deepEqual(summary.inputs, [{ name: "image", dtype: "float32", shape: [1, 1, 8, 8], uniform: true }]);
    assert.equal(summary.samples, 3);
    seen.push(summary.sample_digests);
    assert.equal((await server.expect(200, "GET", `/v1/datasets/${id}`)).json.summary.sample_digests, undefined);
  }
  assert.deepEqual(seen[1], seen[0]);
  assert.deepEqual(seen[2], seen[0]);
});

test("the stored form of a dataset can be uploaded again", options, async () => {
  const id = await server.upload("datasets", fs.readFileSync(demo("eval.tar.gz")));
  const { summary } = (await server.get(`/v1/datasets/${id}?digests=true`)).json;
  assert.deepEqual(summary.labels, { dtype: "int64", count: 500, classes: 10 });
  const content = await server.expect(200, "GET", `/v1/datasets/${id}/content`);
  const again = await server.upload("datasets", content.body);
  assert.deepEqual((await server.get(`/v1/datasets/${again}?digests=true`)).json.summary.sample_digests, summary.sample_digests);
});

test("lists go page by page, newest first, each item once", options, async () => {
  const ids = [];
  for (let i = 0; i < 5; i++) ids.push(await server.upload("datasets", digits(2, 100 + i)));
  const paged = (await server.all("/v1/datasets", 2)).map((d) => d.id);
  assert.deepEqual(paged.slice(0, 5), ids.reverse());
  assert.equal(new Set(paged).size, paged.length);
  assert.deepEqual(paged, (await server.all("/v1/datasets", 100)).map((d) => d.id));
  assert.equal((await server.all("/v1/datasets?state=invalid")).length, 0);
  for (const bad of ["limit=0", "limit=101", "limit=x", "after=nonsense", "state=odd", "unknown=1"]) await server.expect(422, "GET", `/v1/datasets?${bad}`);
});

test("what a job that has not ended uses cannot be deleted", options, async () => {
  const model = await server.upload("models", fs.readFileSync(demo("digits.onnx")));
  const data = await server.upload("datasets", fs.readFileSync(demo("eval.tar.gz")));
  const jobs = [];
  for (let i = 0; i < 6; i++) jobs.push(await server.submit({ ...CALIBRATE, model, data, quant_config: { model_config: { activation: { calibration_type: "kl", num_bin: 200 + i } } } }));
  await server.expect(409, "DELETE", `/v1/models/${model}`);
  await server.expect(409, "DELETE", `/v1/datasets/${data}`);
  for (const job of jobs) await server.post(`/v1/jobs/${job.id}:cancel`);
  for (const job of jobs) await server.ended(job.id);
});

test("with respond-async the answer does not wait for the inspection", options, async () => {
  const body = tar([["x/0.npy", npy([1, 2], floats(2))]]);
  const answer = await server.expect(201, "PUT", "/v1/datasets", body, { Prefer: "respond-async" });
  for (let tries = 0; (await server.get(`/v1/datasets/${answer.json.id}`)).json.state === "inspecting"; tries++) assert.ok(tries < 20000);
  assert.equal((await server.get(`/v1/datasets/${answer.json.id}`)).json.state, "ready");
  const bad = await server.expect(201, "PUT", "/v1/datasets", Buffer.from("no archive"), { Prefer: "respond-async" });
  for (let tries = 0; (await server.get(`/v1/datasets/${bad.json.id}`)).json.state === "inspecting"; tries++) assert.ok(tries < 20000);
  const { state, error } = (await server.get(`/v1/datasets/${bad.json.id}`)).json;
  assert.equal(state, "invalid");
  assert.equal(error.type, "/problems/bad-data");
  await server.expect(204, "DELETE", `/v1/datasets/${bad.json.id}`);
});

test("the service tells its version, its document, its health and its metrics", options, async () => {
  await server.expect(200, "GET", "/");
  await server.expect(200, "GET", "/healthz");
  assert.equal((await server.expect(200, "GET", "/readyz")).json.ready, true);
  await server.expect(200, "GET", "/v1/version");
  assert.equal((await server.expect(200, "GET", "/v1/openapi.json")).json.openapi, "3.1.0");
  const metrics = (await server.expect(200, "GET", "/metrics")).body.toString();
  for (const line of metrics.trimEnd().split("\n")) assert.match(line, /^(# (HELP|TYPE) [a-z_]+ .+|[a-z_]+(\{([a-z]+="([^"\\]|\\.)*",?)*\})? [-+0-9.eEInfNa]+)$/);
});
