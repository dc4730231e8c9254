// A calibration, run by ptq-worker, gives the very bits of ONNX Runtime's QuantizeLinear and
// DequantizeLinear: fakequant.mjs PTQ_WORKER DIR. Symmetric and affine int8, int16; per tensor and
// along every axis; ties, infinities, zeros of both signs and values far outside.
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Fs, encodeModel, tensor } from './onnx.mjs';

const [worker, dir] = process.argv.slice(2);
const dims = [2, 6, 5, 32];
const count = dims.reduce((a, b) => a * b);
const f32 = Math.fround;

// The same numbers in every run.
let state = 12345;
const random = () => ((state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32);

/** Scale and zero point as spec and code have them, in float32. */
function params({ qtype, lo, hi, t }) {
  if (t !== undefined) return { scale: f32(f32(t) / (qtype === 'int16' ? 32767 : 127)), zero: 0 };
  const scale = f32(f32(f32(hi) - f32(lo)) / 255);
  const q = f32(f32(hi) / scale);
  const half = Math.floor(q) + 0.5 === q;
  return { scale, zero: 127 - (half ? 2 * Math.round(q / 2) : Math.round(q)) };
}

function values(scales) {
  const odd = [0, -0, Infinity, -Infinity, 1e30, -1e30, 1e-40, 3.4e38];
  return Array.from({ length: count }, (_, i) => {
    const scale = scales[i % scales.length];
    if (i % 211 < odd.length) return odd[i % 211];
    if (i % 3 === 0) return f32(f32(Math.floor(random() * 300 - 150) + 0.5) * scale); // ties
    return f32((random() * 2 - 1) * scale * 180 * (i % 7 ? 1 : 300));
  });
}

function npy(data) {
  const head = `{'descr': '<f4', 'fortran_order': False, 'shape': (${dims.join(', ')}), }`;
  const text = head.padEnd(Math.ceil((head.length + 11) / 64) * 64 - 11) + '\n';
  const start = Buffer.from([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0, text.length & 255, text.length >> 8]);
  return Buffer.concat([start, Buffer.from(text), data]);
}

/** [name, calibration's thresholds, axis or undefined, qtype, per channel {t} or {lo, hi}] */
function cases() {
  const list = [];
  for (const t of [1, 0.3333333, 6.1, 127, 1e-5, 5000.7]) {
    list.push({ name: `int8 T=${t}`, qtype: 'int8', of: [{ t }] }, { name: `int16 T=${t}`, qtype: 'int16', of: [{ t }] });
  }
  for (const [lo, hi] of [[-1, 2], [0, 6.1], [-3.3, 0], [-0.1, 9.7], [-128, 127]]) {
    list.push({ name: `affine [${lo}, ${hi}]`, qtype: 'int8', of: [{ lo, hi }] });
  }
  for (const axis of [0, 1, 2, 3]) {
    for (const qtype of ['int8', 'int16']) {
      list.push({ name: `${qtype} along axis ${axis}`, qtype, axis, of: Array.from({ length: dims[axis] }, () => ({ t: f32(random() * 9 + 0.01) })) });
    }
  }
  return list;
}

function ours(c) {
  const all = c.of.flatMap((k) => (k.t !== undefined ? [k.t] : [k.lo, k.hi]));
  const attrs = { qtype: c.qtype, thresholds: Fs(...all), switch: 'ON', info_strings: ['feature', c.axis === undefined ? 'per-tensor' : 'per-channel', 'scale'] };
  if (c.axis !== undefined) attrs.axis = c.axis;
  return encodeModel({ nodes: [{ op: 'HzCalibration', domain: 'horizon', in: ['x'], out: ['y'], attrs }], inputs: [{ name: 'x', type: 'f32', dims }], outputs: [{ name: 'y', type: 'f32', dims }] }, 21, ['horizon']);
}

function theirs(c) {
  const type = c.qtype === 'int16' ? 'i16' : 'i8';
  const p = c.of.map((k) => params({ qtype: c.qtype, ...k }));
  const shape = c.axis === undefined ? [] : [p.length];
  const attrs = c.axis === undefined ? {} : { axis: c.axis };
  return encodeModel({
    nodes: [{ op: 'QuantizeLinear', in: ['x', 's', 'z'], out: ['q'], attrs }, { op: 'DequantizeLinear', in: ['q', 's', 'z'], out: ['y'], attrs }],
    inputs: [{ name: 'x', type: 'f32', dims }], outputs: [{ name: 'y', type: 'f32', dims }],
    init: { s: tensor('f32', shape, p.map((v) => v.scale)), z: tensor(type, shape, p.map((v) => v.zero)) },
  }, 21);
}

function runOurs(c, raw) {
  const at = join(dir, 'case');
  rmSync(at, { recursive: true, force: true });
  mkdirSync(join(at, 'data', 'x'), { recursive: true });
  writeFileSync(join(at, 'm.onnx'), ours(c));
  writeFileSync(join(at, 'data', 'x', '0.npy'), npy(raw));
  const r = spawnSync(worker, ['run', join(at, 'm.onnx'), join(at, 'data'), join(at, 'out')], { encoding: 'utf8' });
  if (r.status !== 0) throw new Error(`${c.name}: ptq-worker: ${r.stderr}`);
  const file = readFileSync(join(at, 'out', 'x', '0.npy'));
  return file.subarray(file.length - count * 4);
}

const ort = await import('onnxruntime-node');
let passed = 0, failed = 0;
for (const c of cases()) {
  const data = Float32Array.from(values(c.of.map((k) => params({ qtype: c.qtype, ...k }).scale)));
  const raw = Buffer.from(data.buffer);
  const session = await ort.InferenceSession.create(theirs(c), { graphOptimizationLevel: 'disabled', intraOpNumThreads: 1, executionProviders: ['cpu'] });
  const { y } = await session.run({ x: new ort.Tensor('float32', data, dims) });
  const want = new Uint32Array(y.data.buffer, y.data.byteOffset, count);
  const bytes = Buffer.from(runOurs(c, raw));
  const have = new Uint32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + count * 4));
  const at = want.findIndex((v, i) => v !== have[i]);
  if (at < 0) { passed++; continue; }
  failed++;
  const bits = (v) => new Float32Array(Uint32Array.of(v).buffer)[0];
  console.log(`FAILED ${c.name}: element ${at} of x = ${data[at]} is ${bits(have[at])}, ONNX Runtime's is ${bits(want[at])}`);
}
console.log(`fake-quant against ONNX Runtime, ${count} values each: ${passed} passed, ${failed} failed, 0 skipped`);
process.exit(failed ? 1 : 0);
