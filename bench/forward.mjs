// The executor against ONNX Runtime, one thread each: `make bench-forward [MODELS="a.onnx b.onnx"]`.
// Times are processor time, so other processes on the machine count little; rounds of both are
// interleaved, each in processes of their own, and the medians over the rounds are told.
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { defaultModels, nameOf, samplesOf } from "./models.mjs";

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "..");
const build = process.env.PTQ_BUILD;
const collection = process.env.PTQ_MODELS;
const library = process.env.ORT_LIBRARY || null;
const rounds = Number(process.env.ROUNDS ?? 3);
const env = { ...process.env, OMP_NUM_THREADS: "1", OPENBLAS_NUM_THREADS: "1" };
const dir = path.join(build, "bench");

const text = (program, args) => execFileSync(path.join(build, program), args, { env, encoding: "utf8", maxBuffer: 1 << 28, stdio: ["ignore", "pipe", "inherit"] });
const median = (v) => [...v].sort((a, b) => a - b)[v.length >> 1];

function prepare(model) {
  const name = nameOf(model);
  const work = path.join(dir, "forward", name);
  fs.rmSync(work, { recursive: true, force: true });
  const { inputs, outputs } = JSON.parse(text("ptq-worker", ["inspect", model]));
  const files = inputs.map((input) => [input.name, samplesOf(model, input, path.join(work, "data", encodeURIComponent(input.name)), 1)[0]]);
  return { name, model, work, files, outputs: outputs.map((o) => o.name), data: path.join(work, "data") };
}

// One round of ours: {forward_ms, gflop, …} of the trace, and what its steps ran on.
function ours(m, file) {
  const trace = path.join(m.work, "trace.json");
  text("ptq-worker", ["run", file, m.data, path.join(m.work, "out"), "--profile", trace, ...(process.env.BACKEND ? ["--backend", process.env.BACKEND] : [])]);
  const { otherData, traceEvents } = JSON.parse(fs.readFileSync(trace));
  return { ...otherData, backends: [...new Set(traceEvents.map((e) => e.args.backend).filter((b) => b))].sort() };
}
function theirs(m) {
  if (!library) return null;
  return JSON.parse(text("bench/ort", [library, m.model, "15", ...m.files.flat(), "--", ...m.outputs])).ms;
}
function calibrated(m) {
  const job = path.join(m.work, "job.json");
  fs.writeFileSync(job, JSON.stringify({ kind: "calibrate", model: m.model, data: m.data, quant_config: { model_config: { all_node_type: "int8", activation: { calibration_type: "max" } } } }));
  execFileSync(path.join(build, "ptq-worker"), [job, "--out", path.join(m.work, "calibrated"), "--slots", "1"], { env, stdio: "ignore" });
  return path.join(m.work, "calibrated/calibrated_model.onnx");
}

const peak = Number(text("bench/peak", []));
const kernels = text("bench/peak", ["kernels"]).trim();
const file = path.join(dir, "forward.jsonl");
fs.mkdirSync(dir, { recursive: true });
fs.writeFileSync(file, "");
const columns = ["model", "ours_ms", "ort_ms", "ratio", "fakequant_ratio", "gflops", "share_of_peak", "backend"];
const width = (c) => (c === "model" ? 22 : c.length + 3);
const line = (row) => console.log(columns.map((c) => (c === "model" || c === "backend" ? String(row[c] ?? "-").padEnd(width(c)) : String(row[c] ?? "-").padStart(width(c)))).join(" "));

function measure(model) {
  const m = prepare(model);
  const quantized = calibrated(m);
  const taken = { ours: [], theirs: [], quantized: [] };
  for (let i = 0; i < rounds; i++) {
    taken.ours.push(ours(m, m.model));
    taken.theirs.push(theirs(m));
    taken.quantized.push(ours(m, quantized));
  }
  const ours_ms = median(taken.ours.map((o) => o.forward_ms));
  const ort_ms = library ? median(taken.theirs) : null;
  const gflops = taken.ours[0].gflop / ours_ms * 1e3;
  return {
    model: m.name, ours_ms: Number(ours_ms.toFixed(4)), ort_ms: ort_ms && Number(ort_ms.toFixed(4)), ratio: ort_ms && Number((ort_ms / ours_ms).toFixed(3)),
    backend: taken.ours[0].backends.join("+") || null, kernels, fakequant_ratio: Number((median(taken.quantized.map((o) => o.forward_ms)) / ours_ms).toFixed(3)),
    gflops: Number(gflops.toFixed(1)), share_of_peak: Number((gflops / peak).toFixed(3)), rounds,
  };
}

if (!library) console.log("ONNX Runtime skipped: npm cannot install onnxruntime-node here, or it has no library for this machine");
console.log(`${kernels}; peak of one core ${peak.toFixed(0)} GFLOP/s; ${rounds} interleaved rounds`);
line(Object.fromEntries(columns.map((c) => [c, c])));
const models = process.env.MODELS ? process.env.MODELS.split(/\s+/).filter((m) => m) : defaultModels(collection, dir);
let failed = 0;
for (const model of models) {
  try {
    const row = measure(path.resolve(root, model));
    fs.appendFileSync(file, JSON.stringify(row) + "\n");
    line(row);
  } catch (error) {
    console.log(`${model}: ${error.message.split("\n")[0]}`);
    failed++;
  }
}
process.exitCode = failed ? 1 : 0;
