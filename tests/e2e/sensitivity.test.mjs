// A sweep through the service: rows as they are found, the result, and the client's table.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import path from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import fs from "node:fs";
import { floats, onnx, images } from "./lib/files.mjs";
import { build } from "./lib/paths.mjs";
import { CALIBRATE, Server } from "./lib/server.mjs";

const options = { timeout: 120000 };
let server, ids, model;
before(async () => {
  server = await Server.start();
  ids = await server.uploadDemo();
  const job = await server.succeeded((await server.submit({ ...CALIBRATE, model: ids.model, data: ids.data })).id);
  model = (await server.get(`/v1/jobs/${job.id}/results`)).json.calibrated_model_id;
});
after(() => server.stop());

const sweep = async (more) => {
  const job = await server.succeeded((await server.submit({ kind: "sensitivity", model, data: ids.data, options: more })).id);
  return { job, result: (await server.expect(200, "GET", `/v1/jobs/${job.id}/results`)).json };
};

test("a sweep ranks the nodes, worst first, with less work than whole runs", options, async () => {
  const { result } = await sweep({ metrics: ["mse", "cosine-similarity", "sqnr"], data_num: 3, verbose: true });
  assert.equal(result.samples, 3);
  assert.ok(result.rows.length > 10);
  assert.deepEqual(result.rows.map((r) => r.rank), result.rows.map((_, i) => i + 1));
  for (let i = 1; i < result.rows.length; i++) assert.ok(result.rows[i - 1].mse >= result.rows[i].mse);
  for (const row of result.rows) {
    const seen = row.samples.map((s) => s.outputs.scores.mse);
    assert.ok(Math.abs(seen.reduce((a, b) => a + b) / 3 - row.mse) <= 1e-12 * row.mse, row.node);
    assert.equal(row.mse, row.outputs.scores.mse, "there is one output");
  }
  assert.ok(result.operations.share < 0.8, JSON.stringify(result.operations));
});

test("whole runs give the same figures", options, async () => {
  const [fast, naive] = [await sweep({ data_num: 2 }), await sweep({ data_num: 2, naive: true })];
  assert.deepEqual(fast.result.rows, naive.result.rows);
  assert.ok(fast.result.operations.executed < naive.result.operations.executed);
});

test("rows come as events, with running means and then the last ones", options, async () => {
  const { job, result } = await sweep({ data_num: 4, metrics: ["mae"] });
  const rows = (await server.events(`/v1/jobs/${job.id}/events?follow=false`)).rows.filter((e) => e.type === "node_result").map((e) => e.data);
  assert.equal(rows.filter((r) => r.samples === 1).length, result.rows.length);
  const last = new Map(rows.filter((r) => r.samples === 4).map((r) => [r.node, r.mae]));
  for (const row of result.rows) assert.equal(last.get(row.node), row.mae);
});

test("a sweep with more samples or other metrics computes what is missing", options, async () => {
  const narrow = await sweep({ data_num: 5 });
  const again = await sweep({ data_num: 5, metrics: ["mre", "chebyshev"] });
  assert.equal(again.job.cache.misses, 0, "every row is there");
  const wide = await sweep({ data_num: 6 });
  assert.equal(wide.job.cache.misses * 5, wide.job.cache.hits, "one sample of six is new");
  assert.equal(narrow.result.rows.length, wide.result.rows.length);
});

test("what is asked wrongly is refused with its place", options, async () => {
  const wrong = [
    [{ metrics: ["cosine"] }, "/options/metrics/0"],
    [{ metrics: [] }, "/options/metrics"],
    [{ node_type: "nodes" }, "/options/node_type"],
    [{ data_num: 0 }, "/options/data_num"],
    [{ data_num: 100000 }, "/options/data_num"],
    [{ interested_nodes: [["a", 1]] }, "/options/interested_nodes/0/1"],
    [{ outputs: "scores" }, "/options/outputs"],
    [{ verbose: "True" }, "/options/verbose"],
    [{ metric: ["mse"] }, "/options/metric"],
  ];
  for (const [more, pointer] of wrong) {
    const answer = await server.expect(422, "POST", "/v1/jobs", JSON.stringify({ kind: "sensitivity", model, data: ids.data, options: more }));
    assert.equal(answer.json.errors[0].pointer, pointer);
  }
});

test("an unknown node fails the job with its place and near names", options, async () => {
  const job = await server.ended((await server.submit({ kind: "sensitivity", model, data: ids.data, options: { interested_nodes: ["no such node"] } })).id);
  assert.equal(job.state, "failed");
  assert.equal(job.error.at, "/options/interested_nodes/0");
});

test("rows are read page by page, by any metric, and as CSV", options, async () => {
  const { job, result } = await sweep({ metrics: ["mse", "mae", "cosine-similarity"], data_num: 2 });
  const target = `/v1/jobs/${job.id}/results/nodes`;
  const rows = await server.all(target, 7);
  assert.deepEqual(rows.map((r) => r.node), result.rows.map((r) => r.node));
  const byCosine = await server.all(`${target}?sort=cosine-similarity&output=scores`, 100);
  for (let i = 1; i < byCosine.length; i++) assert.ok(byCosine[i - 1]["cosine-similarity"] <= byCosine[i]["cosine-similarity"]);
  const csv = await server.expect(200, "GET", target, undefined, { Accept: "text/csv" });
  const lines = csv.body.toString().split("\r\n");
  assert.equal(lines[0], "rank,node,mse,mae,cosine-similarity");
  assert.equal(lines.length, result.rows.length + 2);
  assert.equal(Number(lines[1].split(",")[2]), result.rows[0].mse);
  assert.equal((await server.expect(200, "GET", `${target}?format=csv`)).body.toString(), csv.body.toString());
  await server.expect(422, "GET", `${target}?sort=sqnr`);
  await server.expect(422, "GET", `${target}?output=other`);
  await server.expect(422, "GET", `${target}?limit=0`);
});

test("the fast mode tells how many samples each row saw; a budget changes no figure", options, async () => {
  const [whole, fast] = [await sweep({ data_num: 16, metrics: ["mse"] }), await sweep({ data_num: 16, metrics: ["mse"], fast: true })];
  assert.deepEqual(fast.result.rounds.map((r) => r.samples), [4, 8, 16]);
  assert.equal(fast.job.cache.misses, 0, "its rows are those of the whole sweep");
  assert.equal(fast.result.rows[0].node, whole.result.rows[0].node);
  for (const row of fast.result.rows) assert.ok(row.samples_seen >= 4 && row.interval[0] <= row.mse && row.mse <= row.interval[1], row.node);
  assert.ok(fast.result.rows.some((row) => row.samples_seen < 16), "some were left behind");
  const { result, job } = await sweep({ data_num: 2, metrics: ["mae"], memory: 80 << 20, interested_nodes: [whole.result.rows[0].node] });
  const free = await sweep({ data_num: 2, metrics: ["mae"], interested_nodes: [whole.result.rows[0].node] });
  assert.deepEqual(result.rows, free.result.rows);
  const low = await server.ended((await server.submit({ kind: "sensitivity", model, data: ids.data, options: { memory: 1000, data_num: 20 } })).id);
  assert.equal(low.error.at, "/options/memory");
  assert.equal(job.state, "succeeded");
});

test("ptq and hmct-debugger print the table", options, async () => {
  const args = ["get-sensitivity-of-nodes", model, ids.data, "-n", "weight", "-m", "[cosine-similarity,mse]", "-v", "True"];
  const env = { ...process.env, PTQ_URL: `http://127.0.0.1:${server.port}` };
  const run = async (name) => (await promisify(execFile)(path.join(build, name), args, { env, cwd: server.dir })).stdout;
  const text = await run("ptq"), lines = text.split("\n");
  assert.equal(await run("hmct-debugger"), text);
  assert.match(lines[0], /^=+weight sensitivity=+$/);
  assert.match(lines[1], /^node +cosine-similarity  mse +$/);
  assert.match(lines[2], /^-+$/);
  assert.equal(lines[2].length, lines[0].length);
  assert.equal(lines.length, 3 + 12 + 1, "11 Conv and a Gemm");
  for (const line of lines.slice(3, -1)) assert.match(line, /^\S+ +\d\.\d+ +\d+\.\d+ +$/);
});

// x through two branches; names as the chapter's models have them.
function chapterModel() {
  const w = (name, out, into) => ({ name, shape: [out, into, 3, 3], data: floats(out * into * 9, (i) => Math.sin(i * 1.7) / 8) });
  const conv = (name, from, weight, to) => ({ op: "Conv", name, inputs: [from, weight], outputs: [to] });
  return onnx({
    nodes: [
      conv("Conv_265", "x", "w0", "a"), { op: "Sigmoid", name: "Sigmoid_266", inputs: ["a"], outputs: ["b"] }, { op: "Mul", name: "Mul_943", inputs: ["a", "b"], outputs: ["c"] },
      conv("Conv_401", "c", "w1", "d"), conv("Conv_404", "c", "w2", "box"), { op: "Concat", name: "Concat_1003", inputs: ["d", "box"], outputs: ["det"], ints: { axis: 1 } },
    ],
    tensors: [w("w0", 8, 8), w("w1", 8, 8), w("w2", 4, 8)],
    inputs: [{ name: "x", shape: [1, 8, 16, 16] }],
    outputs: [{ name: "box", shape: [1, 4, 12, 12] }, { name: "det", shape: [1, 12, 12, 12] }],
  });
}

test("the chapter's command lines work as they are printed, through a shell", options, async () => {
  const dir = path.join(server.dir, "chapter");
  fs.mkdirSync(path.join(dir, "float"), { recursive: true });
  const chapter = await server.upload("models", chapterModel());
  const data = await server.upload("datasets", images(3, { size: 16 }));
  const job = await server.succeeded((await server.submit({ ...CALIBRATE, model: chapter, data })).id);
  const file = (await server.expect(200, "GET", `/v1/jobs/${job.id}/artifacts/calibrated_model.onnx`)).body;
  for (const name of ["hybridnets-384-640_calibrated_model", "yolop-384-640_calibrated_model", "lane_calibrated_model_int16", "lane_calibrated_model", "lane_calibrated_model_box"]) fs.writeFileSync(path.join(dir, `${name}.onnx`), file);
  fs.writeFileSync(path.join(dir, "data.tar"), images(3, { size: 16 }));
  await promisify(execFile)("bash", ["-c", "mkdir calibration_data && tar -xf data.tar -C calibration_data"], { cwd: dir });
  const lines = {
    "hmct-debugger get-sensitivity-of-nodes hybridnets-384-640_calibrated_model.onnx calibration_data/ -n node -v True -s ./debug_result": ["debug_result", ["cosine-similarity"]],
    "hmct-debugger get-sensitivity-of-nodes yolop-384-640_calibrated_model.onnx calibration_data/ -n node -v True -s ./debug_result": ["debug_result", ["cosine-similarity"]],
    "hmct-debugger get-sensitivity-of-nodes yolop-384-640_calibrated_model.onnx calibration_data/ -n node -o Concat_1003 -v True -s det_debug_result/": ["det_debug_result", ["cosine-similarity"], "Concat_1003"],
    "hmct-debugger get-sensitivity-of-nodes yolop-384-640_calibrated_model.onnx calibration_data/ -n node -o Concat_1003 -m mse -v True -s det_mse_debug_result/": ["det_mse_debug_result", ["mse"], "Concat_1003"],
    "hmct-debugger get-sensitivity-of-nodes lane_calibrated_model_int16.onnx calibration_data/ -m ['cosine-similarity','mre','mse','sqnr','chebyshev'] -n node -v True -s ./int16_debug_result": ["int16_debug_result", ["cosine-similarity", "mre", "mse", "sqnr", "chebyshev"]],
    "hmct-debugger get-sensitivity-of-nodes lane_calibrated_model.onnx calibration_data/ -m ['cosine-similarity','mre','mse','sqnr','chebyshev'] -n node -v True -s ./debug_result": ["debug_result", ["cosine-similarity", "mre", "mse", "sqnr", "chebyshev"]],
    "hmct-debugger get-sensitivity-of-nodes lane_calibrated_model_box.onnx calibration_data/ -m ['cosine-similarity','mre','mse','sqnr','chebyshev'] -n node -o Conv_404 -v True -s ./box_debug_result": ["box_debug_result", ["cosine-similarity", "mre", "mse", "sqnr", "chebyshev"], "Conv_404"],
  };
  const env = { ...process.env, PATH: `${build}:${process.env.PATH}`, PTQ_URL: `http://127.0.0.1:${server.port}` };
  for (const [line, [folder, metrics, output]] of Object.entries(lines)) {
    const { stdout } = await promisify(execFile)("bash", ["-c", line], { cwd: dir, env });
    const rows = stdout.split("\n");
    assert.match(rows[0], /^=+node sensitivity=+$/, line);
    assert.deepEqual(rows[1].split(/ +/).filter((w) => w), ["node", ...metrics], line);
    assert.equal(fs.readFileSync(path.join(dir, folder, "node_sensitivity.txt"), "utf8"), stdout, line);
    const saved = JSON.parse(fs.readFileSync(path.join(dir, folder, "node_sensitivity.json")));
    assert.deepEqual(saved.metrics, metrics);
    assert.deepEqual(saved.outputs, output ? [output] : ["box", "det"]);
    assert.equal(saved.rows[0].samples.length, 1, "the first sample, told in full");
    const listed = saved.rows.map((r) => r.node);
    assert.ok(listed.includes("Conv_265") && listed.includes("Mul_943"), line);
    assert.equal(listed.includes("Concat_1003"), output !== "Conv_404", "who reaches no chosen output is not listed");
  }
});
