// The debugger's tools through the service and by HMCT's command lines: data, pictures, folders.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { build } from "./lib/paths.mjs";
import { CALIBRATE, Server } from "./lib/server.mjs";

const options = { timeout: 180000 };
let server, ids, model, weight, activation, conv;
before(async () => {
  server = await Server.start();
  ids = await server.uploadDemo();
  const job = await server.succeeded((await server.submit({ ...CALIBRATE, model: ids.model, data: ids.data })).id);
  const result = (await server.get(`/v1/jobs/${job.id}/results`)).json;
  model = result.calibrated_model_id;
  weight = result.calibrations.find((c) => c.tensor_type === "weight").name;
  activation = result.calibrations.find((c) => c.tensor_type === "feature").name;
  conv = (await server.get(`/v1/models/${model}/graph`)).json.nodes.find((n) => n.op_type === "Conv").name;
});
after(() => server.stop());

/** The result, and the text of each of its files by path. */
const run = async (kind, more) => {
  const job = await server.succeeded((await server.submit({ kind, model, data: ids.data, options: more })).id);
  const { json: result } = await server.expect(200, "GET", `/v1/jobs/${job.id}/results`);
  const files = {};
  for (const f of result.files) files[f.path] = (await server.expect(200, "GET", `/v1/jobs/${job.id}/artifacts/${f.artifact}`)).body.toString();
  for (const [name, text] of Object.entries(files)) if (name.endsWith(".svg")) assert.match(text, /^<svg xmlns=[^]*<\/svg>\n$/);
  return { result, files };
};
const sum = (list) => list.reduce((a, b) => a + b, 0);

test("plot-distribution counts every element before and after, and the error of a node", options, async () => {
  const { result, files } = await run("plot-distribution", { nodes_list: [weight, activation, conv], data_num: 2 });
  assert.equal(Object.keys(files).length, 3);
  for (const d of result.distributions) {
    for (const which of ["before", "after", "error"]) assert.equal(sum(d[which]), d.elements, `${d.node} ${which}`);
    assert.ok(d.error_stats.std > 0);
  }
  const [w, a, n] = result.distributions;
  assert.deepEqual([w.samples, a.samples, n.samples], [1, 2, 2]);
  assert.ok(Math.max(Math.abs(w.before_stats.min), w.before_stats.max) >= w.thresholds[1]);
  assert.equal(n.thresholds, null);
});

test("channels have their five numbers in order", options, async () => {
  const { result } = await run("get-channelwise-data-distribution", { nodes_list: [weight, activation] });
  assert.deepEqual(result.channels.map((c) => c.axis), [0, 1]);
  for (const c of result.channels) {
    assert.equal(c.median.length, c.channels);
    c.median.forEach((m, i) => assert.ok(c.min[i] <= c.q1[i] && c.q1[i] <= m && m <= c.q3[i] && c.q3[i] <= c.max[i]));
  }
});

test("the accumulated error of everything ends at what evaluate tells", options, async () => {
  const { result } = await run("plot-acc-error", { quantize_node: ["weight", "activation", [conv]], average_mode: true });
  assert.deepEqual(result.curves.map((c) => c.name), ["weight", "activation", conv]);
  const all = (await run("plot-acc-error", {})).result, job = await server.succeeded((await server.submit({ kind: "evaluate", model, data: ids.data, options: { samples: 1, nodes: true } })).id);
  const { nodes } = (await server.get(`/v1/jobs/${job.id}/results`)).json;
  assert.deepEqual(all.curves[0].scores, nodes.map((n) => n["cosine-similarity"]));
  const none = (await run("plot-acc-error", { non_quantize_node: [[conv]] })).result;
  assert.equal(none.curves[0].scores[none.nodes.indexOf(conv)], 1, "the first Conv alone is not quantized");
});

test("raising all nodes to float32 leaves no error", options, async () => {
  const { result } = await run("sensitivity-analysis", { pick_threshold: 1.1 });
  const scores = result.steps.map((s) => s.outputs.scores);
  assert.ok(result.steps.length > 10 && scores[0] < 0.99999);
  assert.ok(Math.abs(scores.at(-1) - 1) < 1e-9, String(scores.at(-1)));
});

test("samples come worst first; tensors tell how they fit", options, async () => {
  const { result } = await run("select-sensitive-samples", { metric: "mse", num: 5 });
  assert.equal(result.samples.length, 5);
  for (let i = 1; i < 5; i++) assert.ok(result.samples[i - 1].score >= result.samples[i].score);
  const { tensors } = (await run("tensor-analysis", { node_names: [conv] })).result;
  assert.equal(tensors.length, 3, "the input, the weight, the output");
  for (const t of tensors) assert.ok(t.sqnr > 0 && t.outlier_ratio >= 1);
  assert.ok(tensors[0].levels_used > 0 && tensors[0].levels_used <= 1);
});

test("what is asked wrongly is refused with its place", options, async () => {
  const wrong = [["plot-distribution", {}, "/options/nodes_list"], ["plot-acc-error", { metric: "cosine" }, "/options/metric"],
    ["sensitivity-analysis", { qtype: "int4" }, "/options/qtype"], ["runall", { node_type: ["nodes"] }, "/options/node_type"],
    ["select-sensitive-samples", { num: 0 }, "/options/num"], ["plot-acc-error", { axis: 1 }, "/options/axis"]];
  for (const [kind, more, pointer] of wrong) {
    const answer = await server.expect(422, "POST", "/v1/jobs", JSON.stringify({ kind, model, data: ids.data, options: more }));
    assert.equal(answer.json.errors[0].pointer, pointer);
  }
  const job = await server.ended((await server.submit({ kind: "plot-distribution", model, data: ids.data, options: { nodes_list: ["nobody"] } })).id);
  assert.equal(job.error.at, "/options/nodes_list/0");
});

test("hmct-debugger runall lays out the vendor's folders, by a server and without", options, async () => {
  const env = { ...process.env, PTQ_URL: `http://127.0.0.1:${server.port}` };
  const cmd = (...args) => promisify(execFile)(path.join(build, "hmct-debugger"), args, { env, cwd: server.dir });
  await cmd("runall", model, ids.data, "-s", "served", "-dn", "2", "-nm", "['cosine-similarity','mse']", "-avm", "True");
  const file = path.join(server.dir, "model.onnx"), data = path.join(server.dir, "data.tar");
  await promisify(execFile)(path.join(build, "ptq"), ["get", model, "-o", file], { env });
  await promisify(execFile)(path.join(build, "ptq"), ["get", ids.data, "-o", data], { env });
  await cmd("runall", file, data, "-s", "local", "-dn", "2", "-nm", "['cosine-similarity','mse']", "-avm", "True", "--local");
  const tree = (dir) => fs.readdirSync(path.join(server.dir, dir), { recursive: true }).filter((f) => f.includes(".")).sort();
  const served = tree("served");
  for (const folder of ["node_sensitivity", "data_distribution", "channelwise_distribution", "accumulate_error", "sensitivity_analysis"])
    assert.ok(served.some((f) => f.startsWith(`${folder}/`)), folder);
  assert.deepEqual(tree("local"), served);
  for (const f of served.filter((n) => n.endsWith(".svg"))) assert.deepEqual(fs.readFileSync(path.join(server.dir, "local", f)), fs.readFileSync(path.join(server.dir, "served", f)), f);
});

// The daemon's own folder is called data: it is read as a path, and is no data set.
test("a folder may have the name of a command", options, async () => {
  const line = [path.join(build, "hmct-debugger"), ["runall", model, "data", "-s", "./all", "-dn", "1", "--url", `http://127.0.0.1:${server.port}`]];
  await assert.rejects(promisify(execFile)(...line, { cwd: server.dir }), /does not belong to a data set/);
});
