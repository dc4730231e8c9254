// Edits of a calibrated model: each of the chapter's as one request.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { build, demo } from "./lib/paths.mjs";
import { CALIBRATE, Server } from "./lib/server.mjs";

const options = { timeout: 60000 };
let server, float, model, before_edit;
before(async () => {
  server = await Server.start();
  float = await server.upload("models", fs.readFileSync(demo("digits.onnx")));
  const data = await server.upload("datasets", fs.readFileSync(demo("digits.tar.gz")));
  const job = await server.submit({ ...CALIBRATE, model: float, data });
  await server.succeeded(job.id);
  model = (await server.get(`/v1/jobs/${job.id}/results`)).json.calibrated_model_id;
  before_edit = await calibrations(model);
});
after(() => server.stop());

async function calibrations(id, query = "") {
  const all = [];
  for (let after = ""; ; ) {
    const { json } = await server.expect(200, "GET", `/v1/models/${id}/calibrations?limit=7${query}${after}`);
    all.push(...json.items);
    if (!json.has_more) return all;
    after = `&after=${encodeURIComponent(json.next)}`;
  }
}
const edit = (edits, status = 201, more = {}) => server.expect(status, "POST", `/v1/models/${model}:edit`, JSON.stringify({ edits, ...more }), { "Content-Type": "application/json" });
// What an edit changed: name → field, of all calibrations.
async function changed(edits) {
  const { status, json, headers } = await server.post(`/v1/models/${model}:edit`, { edits });
  assert.ok(status === 201 || status === 200, JSON.stringify(json)); // 200: another case gives the same
  assert.equal(headers.location, `/v1/models/${json.id}`);
  assert.notEqual(json.id, model);
  assert.equal(json.state, "ready");
  const now = await calibrations(json.id);
  assert.deepEqual(now.map((c) => c.name), before_edit.map((c) => c.name));
  return now.filter((c, i) => JSON.stringify(c) !== JSON.stringify(before_edit[i]));
}

test("calibrations are listed, page by page, and filtered", options, async () => {
  assert.ok(before_edit.length > 7);
  const weights = await calibrations(model, "&tensor_type=weight");
  assert.deepEqual(weights, before_edit.filter((c) => c.tensor_type === "weight"));
  const conv = await calibrations(model, "&op_type=Conv&tensor_type=feature");
  assert.ok(conv.length && conv.every((c) => c.input_of.some((x) => x.op_type === "Conv")));
  const one = await calibrations(model, `&name=${encodeURIComponent(conv[0].name)}`);
  assert.deepEqual(one, [conv[0]]);
  assert.deepEqual(await calibrations(model, "&qtype=int16"), []);
  assert.deepEqual(await calibrations(float), []);
  await server.expect(422, "GET", `/v1/models/${model}/calibrations?tensor_type=bias`);
  await server.expect(404, "GET", "/v1/models/mdl_aaaaaaaaaaaaaaaaaaaaaaaaaa/calibrations");
});

test("each edit of the chapter is one request", options, async () => {
  const name = before_edit.find((c) => c.tensor_type === "feature").name;
  const int16 = { qtype: "int16" };
  const conv = before_edit.find((c) => c.tensor_type === "feature" && c.output_of.length && c.input_of.length);
  const names = (list) => list.map((c) => c.name);
  const of = (keep) => names(before_edit.filter(keep));
  const node = conv.input_of[0].node;
  const cases = [
    [{ name }, { qtype: "float32" }, [name]],
    [{ tensor_type: "feature" }, int16, of((c) => c.tensor_type === "feature")],
    [{ tensor_type: "weight" }, int16, of((c) => c.tensor_type === "weight")],
    [{}, int16, of(() => true)],
    [{ inputs_of: [node], tensor_type: "feature" }, int16, of((c) => c.tensor_type === "feature" && c.input_of.some((x) => x.node === node))],
    [{ output_of: [conv.output_of[0]] }, int16, [conv.name]],
    [{ inputs_of_op_type: ["Conv"], tensor_type: "feature" }, int16, of((c) => c.tensor_type === "feature" && c.input_of.some((x) => x.op_type === "Conv"))],
  ];
  for (const [select, set, expected] of cases) {
    const now = await changed([{ select, set }]);
    assert.deepEqual(names(now), expected, JSON.stringify(select));
    assert.ok(now.every((c) => c.qtype === set.qtype));
    assert.deepEqual(now.map((c) => c.thresholds), expected.map((n) => before_edit.find((c) => c.name === n).thresholds));
  }
  const [thresholds] = await changed([{ select: { name }, set: { thresholds: [4.25] } }]);
  assert.deepEqual(thresholds.thresholds, [4.25]);
  const weight = before_edit.find((c) => c.tensor_type === "weight" && c.input_of[0].op_type === "Conv");
  const ec = await changed([{ select: { ec_port_of: [weight.input_of[0].node] }, set: int16 }]);
  assert.deepEqual(names(ec), [weight.name]);
});

test("the same edit is the same model, and the first one stays", options, async () => {
  const edits = [{ select: { tensor_type: "feature" }, set: { switch: "OFF" } }];
  const first = (await edit(edits)).json.id;
  assert.equal((await edit(edits, 200)).json.id, first);
  assert.deepEqual(await calibrations(model), before_edit);
  const named = (await edit([{ select: {}, set: { qtype: "float16" } }], 201, { name: "half" })).json;
  assert.equal(named.name, "half");
});

test("what is wrong with an edit has its place", options, async () => {
  const set = { qtype: "int16" };
  const wrong = [
    [[{ select: { name: `${before_edit[0].name}x` }, set }], /^\/edits\/0\/select\/name/, before_edit[0].name],
    [[{ select: {}, set }, { select: {}, set: { qtype: "int9" } }], /^\/edits\/1\/set\/qtype$/],
    [[{ select: {}, set: {} }], /^\/edits\/0\/set$/],
    [[{ select: { tensor_typ: "weight" }, set }], /^\/edits\/0\/select\/tensor_typ$/],
    [[], /^\/edits$/],
  ];
  for (const [edits, at, near] of wrong) {
    const { json } = await edit(edits, 422);
    assert.match(json.errors[0].pointer, at);
    if (near) assert.ok(json.detail.includes(near), json.detail);
  }
  const { json } = await server.expect(422, "POST", `/v1/models/${float}:edit`, JSON.stringify({ edits: [{ select: {}, set }] }));
  assert.match(json.detail, /no calibrations/);
  await server.expect(404, "POST", "/v1/models/mdl_aaaaaaaaaaaaaaaaaaaaaaaaaa:edit", JSON.stringify({ edits: [{ select: {}, set }] }));
});

test("ptq edit writes the edited model, with a server and without", options, async () => {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), "ptq-edit-"));
  const at = (name) => path.join(dir, name);
  const ptq = (...args) => spawnSync(path.join(build, "ptq"), ["edit", ...args], { env: { ...process.env, PTQ_URL: `http://127.0.0.1:${server.port}` }, encoding: "utf8" });
  try {
    fs.writeFileSync(at("model.onnx"), (await server.expect(200, "GET", `/v1/models/${model}/content`)).body);
    fs.writeFileSync(at("edits.json"), JSON.stringify([{ select: { tensor_type: "feature" }, set: { qtype: "int16" } }]));
    const remote = ptq(model, at("edits.json"), "-o", at("remote.onnx")), local = ptq(at("model.onnx"), at("edits.json"), "-o", at("local.onnx"), "--local");
    assert.equal(remote.status, 0, remote.stderr);
    assert.equal(local.status, 0, local.stderr);
    assert.ok(fs.readFileSync(at("remote.onnx")).equals(fs.readFileSync(at("local.onnx"))));
    assert.match(remote.stdout, /^mdl_[a-z2-7]{26}\n$/);
    fs.writeFileSync(at("edits.json"), "[{}]");
    for (const more of [[], ["--local"]]) assert.equal(ptq(at("model.onnx"), at("edits.json"), "-o", at("x.onnx"), ...more).status, 1);
    assert.ok(!fs.existsSync(at("x.onnx")));
  } finally {
    fs.rmSync(dir, { recursive: true });
  }
});
