// Sweeps against naive ones by ONNX Runtime, two cores each:
// `make bench-sweep [MODELS="a.onnx b.onnx"] [SAMPLES=4] [SECONDS=120] [ROUNDS=1] [OUTPUTS=name]`.
// Ours is one ptq-worker with two children, from its start to its end. Theirs makes a session for each
// node that we measure, with Q/DQ before that node's inputs, and runs the same samples with two threads;
// after SECONDS it begins no more, and the time is scaled to all nodes, which the row tells.
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { defaultModels, nameOf, samplesOf } from "./models.mjs";

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "..");
const build = process.env.PTQ_BUILD;
const library = process.env.ORT_LIBRARY || null;
const samples = Number(process.env.SAMPLES ?? 4);
const seconds = Number(process.env.SECONDS ?? 120);
const rounds = Number(process.env.ROUNDS ?? 1);
const outputs = process.env.OUTPUTS ? process.env.OUTPUTS.split(",") : null;
const dir = path.join(build, "bench");
const env = { ...process.env, OMP_NUM_THREADS: "1", OPENBLAS_NUM_THREADS: "1" };

const text = (program, args) => execFileSync(path.join(build, program), args, { env, encoding: "utf8", maxBuffer: 1 << 28, stdio: ["ignore", "pipe", "inherit"] });
const median = (v) => [...v].sort((a, b) => a - b)[v.length >> 1];
const round = (v, n) => (v === null ? null : Number(v.toFixed(n)));

// Proportional set size of a process and all below it: shared pages count once.
function memoryOf(pid) {
  try {
    const own = Number(/^Pss: +(\d+) kB/m.exec(fs.readFileSync(`/proc/${pid}/smaps_rollup`, "utf8"))[1]) * 1024;
    const below = fs.readdirSync(`/proc/${pid}/task`).flatMap((t) => fs.readFileSync(`/proc/${pid}/task/${t}/children`, "utf8").split(" ").filter((p) => p));
    return own + below.map((p) => memoryOf(p)).reduce((a, b) => a + b, 0);
  } catch {
    return 0;
  }
}

async function worker(job, out, slots) {
  const file = `${out}.json`;
  fs.writeFileSync(file, JSON.stringify(job));
  const from = process.hrtime.bigint();
  const child = spawn(path.join(build, "ptq-worker"), [file, "--out", out, "--slots", String(slots)], { env, stdio: ["ignore", "ignore", "pipe"] });
  let said = "";
  child.stderr.on("data", (d) => (said += d));
  let peak = 0;
  const timer = setInterval(() => (peak = Math.max(peak, memoryOf(child.pid))), 250);
  const [code] = await once(child, "exit");
  clearInterval(timer);
  if (code !== 0) throw new Error(said.trim().split("\n").at(-1));
  return { s: Number(process.hrtime.bigint() - from) / 1e9, peak, result: JSON.parse(fs.readFileSync(path.join(out, "result.json"))) };
}

// What each of our rows quantizes, by name: weights of these, every input of the rest.
const WEIGHTED = new Set(["Conv", "ConvTranspose", "Gemm", "MatMul"]);
const FIRST_ONLY = new Set(["Resize", "Pad", "Slice", "Clip", "Reshape", "Transpose", "GridSample", "Split"]);
function candidateLines(result, nodes) {
  const byName = new Map(nodes.map((n) => [n.name, n]));
  return result.rows.filter((r) => !r.tied_with).map((r) => {
    const node = byName.get(r.node);
    const inputs = WEIGHTED.has(node.op_type) ? node.inputs.slice(0, 2) : FIRST_ONLY.has(node.op_type) ? node.inputs.slice(0, 1) : node.inputs;
    return [r.node, ...new Set(inputs.filter((i) => i))].join("\t") + "\n";
  });
}

function theirs(model, lines, files, outNames, work) {
  const list = path.join(work, "nodes.tsv");
  fs.writeFileSync(list, lines.join(""));
  return JSON.parse(text("bench/ort_sweep", [library, model, list, String(seconds), "2", String(samples), ...files.flatMap(([name, all]) => [name, ...all]), "--", ...outNames]));
}

async function measure(model) {
  const name = nameOf(model);
  const work = path.join(dir, "sweep", name);
  fs.rmSync(work, { recursive: true, force: true });
  const seen = JSON.parse(text("ptq-worker", ["inspect", model]));
  const files = seen.inputs.map((i) => [i.name, samplesOf(model, i, path.join(work, "data", encodeURIComponent(i.name)), samples)]);
  const data = path.join(work, "data");
  await worker({ kind: "calibrate", model, data, quant_config: { model_config: { all_node_type: "int8", activation: { calibration_type: "max" } } }, options: { samples: 1 } }, path.join(work, "calibrated"), 1);
  const job = { kind: "sensitivity", model: path.join(work, "calibrated/calibrated_model.onnx"), data, options: { data_num: samples, metrics: ["mse"], ...(outputs ? { outputs } : {}), ...(process.env.MEMORY ? { memory: Number(process.env.MEMORY) } : {}) } };
  const ours = [];
  const peers = [];
  let two;
  for (let i = 0; i < rounds; i++) {
    two = await worker(job, path.join(work, "two"), 2);
    ours.push(two.s);
    if (library) peers.push(theirs(model, candidateLines(two.result, seen.nodes), files, outputs ?? seen.outputs.map((o) => o.name), work));
  }
  const one = await worker(job, path.join(work, "one"), 1);
  const unique = two.result.rows.filter((r) => !r.tied_with).length;
  const whole = peers.map((p) => (p.seconds / p.measured) * unique);
  const ours_s = median(ours);
  const ort_s = library ? median(whole) : null;
  return {
    model: name, samples, nodes: two.result.rows.length, candidates: unique, outputs: outputs ?? "all", ours_s: round(ours_s, 3), ort_s: round(ort_s, 3), ratio: ort_s && round(ort_s / ours_s, 2),
    ops_share: round(two.result.operations.share, 4), workers_2_over_1: round(one.s / ours_s, 2), peak_bytes: two.peak, ort_nodes_measured: library ? peers[0].measured : null, rounds,
    note: library && peers[0].measured < unique ? `ONNX Runtime was given ${peers[0].measured} of ${unique} nodes in ${seconds} s; its time is scaled` : null,
  };
}

if (!library) console.log("ONNX Runtime skipped: npm cannot install onnxruntime-node here, or it has no library for this machine");
fs.mkdirSync(dir, { recursive: true });
const file = path.join(dir, "sweep.jsonl");
fs.writeFileSync(file, "");
const columns = ["model", "samples", "nodes", "ours_s", "ort_s", "ratio", "ops_share", "workers_2_over_1", "peak_bytes"];
const line = (row) => console.log(columns.map((c) => (c === "model" ? String(row[c]).padEnd(22) : String(row[c] ?? "-").padStart(c.length + 3))).join(" "));
line(Object.fromEntries(columns.map((c) => [c, c])));
const models = process.env.MODELS ? process.env.MODELS.split(/\s+/).filter((m) => m) : defaultModels(process.env.PTQ_MODELS, dir);
for (const model of models) {
  try {
    const row = await measure(path.resolve(root, model));
    fs.appendFileSync(file, JSON.stringify(row) + "\n");
    line(row);
    if (row.note) console.log(`  ${row.note}`);
  } catch (error) {
    console.log(`${model}: ${error.message.split("\n")[0]}`);
    process.exitCode = 1;
  }
}
