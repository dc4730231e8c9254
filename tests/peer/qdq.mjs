// Exported models in ONNX Runtime, without its optimizations, against our own integers at every
// pair: qdq.mjs QDQ PTQ MODELS DIR [TEXT]. Each model is calibrated in the ways below, exported,
// and run on its samples twice: with every pair given our integers behind it ("pair by pair"), and
// as it is ("whole"). Pair by pair 99.9 % of the elements may differ by one step at most, the others
// by two, the neighbour of a rounding tie. The whole run is told: there a tie that falls to the other
// side goes on through all that follows.
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import ort from 'onnxruntime-node';

const WAYS = {
  int8: {},
  asymmetric: { model_config: { activation: { calibration_type: 'max', asymmetric: true } } },
  per_channel: { model_config: { activation: { calibration_type: 'max', per_channel: true } } },
  int16: { model_config: { all_node_type: 'int16' } },
};
const SAMPLES = 3, SHARE = 0.999;
ort.env.logLevel = 'fatal';

const arrays = { int8: Int8Array, uint8: Uint8Array, int16: Int16Array };
const shift = { int8: 0, uint8: -128, int16: 0 }; // ours has no uint8: the same values from -128 on

function npy(path) {
  const file = readFileSync(path), head = file.readUInt16LE(8), text = file.toString('latin1', 10, 10 + head);
  const dims = /'shape': \(([^)]*)\)/.exec(text)[1].split(',').filter((d) => d.trim()).map(Number);
  const [array, type] = { '<f4': [Float32Array, 'float32'], '<i8': [BigInt64Array, 'int64'], '|u1': [Uint8Array, 'uint8'] }[/'descr': '([^']*)'/.exec(text)[1]];
  return new ort.Tensor(type, new array(file.buffer.slice(file.byteOffset + 10 + head, file.byteOffset + file.length)), dims);
}

const folderOf = (data, input) => join(data, readdirSync(data).find((f) => f === input || decodeURIComponent(f) === input));
function feedsOf(data, inputs, sample) {
  return Object.fromEntries(inputs.map((name) => {
    const folder = folderOf(data, name), files = readdirSync(folder).sort();
    return [name, npy(join(folder, files[sample]))];
  }));
}

const integers = (pair, sample, dir) => {
  const raw = readFileSync(join(dir, `${sample}_${pair.pair}.bin`));
  return new Int32Array(raw.buffer, raw.byteOffset, raw.length / 4);
};

/** How many elements differ by 0, 1, 2, more steps. */
function compare(pair, ours, theirs) {
  const by = [0, 0, 0, 0];
  if (ours.length !== theirs.length) throw new Error(`${pair.calibration}: ${theirs.length} elements, ours are ${ours.length}`);
  for (let i = 0; i < ours.length; i++) by[Math.min(3, Math.abs(theirs[i] + shift[pair.type] - ours[i]))]++;
  return by;
}

const open = (path) => ort.InferenceSession.create(path, { graphOptimizationLevel: 'disabled', intraOpNumThreads: 1, executionProviders: ['cpu'], logSeverityLevel: 4 });

/** Our integers behind a pair as what the peer takes. */
const givenOf = (pair, ours, dims) => new ort.Tensor(pair.type, arrays[pair.type].from(ours, (v) => v - shift[pair.type]), dims);

async function measure(dir, data, samples) {
  const pairs = readFileSync(join(dir, 'pairs.jsonl'), 'utf8').trim().split('\n').map(JSON.parse);
  const live = pairs.filter((p) => !p.constant && existsSync(join(dir, `0_${p.pair}.bin`))), constants = pairs.filter((p) => p.constant);
  const found = { types: count(pairs.map((p) => p.type)), whole: [0, 0, 0, 0], cut: [0, 0, 0, 0], bad: [] };
  const [whole, cut] = [await open(join(dir, 'whole.onnx')), await open(join(dir, 'cut.onnx'))];
  for (let s = 0; s < samples; s++) {
    const feeds = feedsOf(data, whole.inputNames, s), out = { whole: await whole.run(feeds) };
    const given = Object.fromEntries(live.map((p) => [p.given, givenOf(p, integers(p, s, dir), out.whole[p.tensor].dims)]));
    out.cut = await cut.run({ ...Object.fromEntries(Object.entries({ ...feeds, ...given }).filter(([n]) => cut.inputNames.includes(n))) });
    for (const p of s ? live : pairs) {
      const ours = integers(p, p.constant ? -1 : s, dir);
      for (const how of ['whole', 'cut']) {
        if (p.constant || live.includes(p)) {
          const by = compare(p, ours, out[how][p.tensor].data), n = ours.length;
          by.forEach((c, i) => { found[how][i] += c; });
          if (how === 'cut' && (by[3] || by[0] + by[1] < SHARE * n)) found.bad.push(`${p.calibration}, sample ${s}: ${by.join('/')} of ${n}`);
        }
      }
    }
  }
  await whole.release();
  await cut.release();
  if (constants.length + live.length !== pairs.length) console.log(`${pairs.length - live.length - constants.length} pairs are not run: they are folded`);
  return found;
}
const count = (list) => Object.entries(list.reduce((o, t) => ({ ...o, [t]: (o[t] ?? 0) + 1 }), {})).map(([t, n]) => `${n} ${t}`).join(', ');

// Debian's python3-onnx, where it is installed: its checker knows opsets up to 17.
const hasChecker = spawnSync('/usr/bin/python3', ['-c', 'import onnx; onnx.load']).status === 0;
let checked = 0;
function check(path) {
  const r = spawnSync('/usr/bin/python3', ['-c', 'import onnx, sys; onnx.checker.check_model(sys.argv[1])', path]);
  if (r.status) throw new Error(`onnx.checker: ${r.stderr.toString().trim().split('\n').pop()}`);
  checked++;
}

async function one(tools, models, dir, name, way, opset21) {
  const data = join(models, name, 'calibration_data'), here = join(dir, `${name}-${way}${opset21 ? '-21' : ''}`);
  const calibrated = join(dir, `${name}-${way}.onnx`), config = join(dir, `${way}.json`);
  writeFileSync(config, JSON.stringify(WAYS[way]));
  if (!existsSync(calibrated)) execFileSync(tools.ptq, ['calibrate', join(models, name, 'model.onnx'), data, '-c', config, '-o', calibrated, '--samples', '8', '--local'], { stdio: 'pipe' });
  rmSync(here, { recursive: true, force: true });
  const samples = Math.min(SAMPLES, readdirSync(join(data, readdirSync(data)[0])).length);
  try {
    execFileSync(tools.qdq, [...(opset21 ? ['--opset21'] : []), calibrated, data, String(samples), here], { stdio: 'pipe' });
  } catch (e) {
    if (e.status === 3) return { refused: e.stderr.toString().trim() };
    throw new Error(e.stderr.toString());
  }
  if (hasChecker && !opset21) check(join(here, 'whole.onnx'));
  const found = await measure(here, data, samples);
  rmSync(here, { recursive: true, force: true });
  return found;
}

async function main(qdq, ptq, models, dir, text = '') {
  mkdirSync(dir, { recursive: true });
  const names = readdirSync(models).filter((n) => existsSync(join(models, n, 'model.onnx')));
  const result = { passed: 0, failed: 0, skipped: 0 };
  console.log('| model | export | pairs (with constants) | elements | pair by pair: equal | 1 step | 2 | more | whole: equal | 1 step | 2 | more |\n|---|---|---|---|---|---|---|---|---|---|---|---|');
  for (const name of names) for (const [way, opset21] of [...Object.keys(WAYS).map((w) => [w, false]), ['int16', true]]) {
    const label = `${way}${opset21 ? ', opset 21' : ''}`;
    if (!`${name} ${label}`.includes(text)) continue;
    let r;
    try { r = await one({ qdq, ptq }, models, dir, name, way, opset21); } catch (e) { r = { error: e.message }; }
    if (r.refused) { result.skipped++; console.log(`| ${name} | ${label} | refused: ${r.refused} | | | | | | | | | |`); continue; }
    if (r.error) console.log(`FAILED ${name}, ${label}: ${r.error}`);
    else {
      const n = r.cut.reduce((a, b) => a + b), share = (v) => (v ? `${(100 * v / n).toFixed(4)} %` : '0');
      console.log(`| ${name} | ${label} | ${r.types} | ${n} | ${[...r.cut, ...r.whole].map(share).join(' | ')} |`);
    }
    const bad = r.error ? [r.error] : r.bad;
    for (const b of r.error ? [] : bad) console.log(`FAILED ${name}, ${label}: ${b}`);
    result[bad.length ? 'failed' : 'passed']++;
  }
  console.log(hasChecker ? `${checked} files passed python3-onnx's checker` : 'python3-onnx is not there: its checker was not asked');
  console.log(`${result.passed} passed, ${result.failed} failed, ${result.skipped} skipped`);
  process.exitCode = result.failed ? 1 : 0;
}
await main(...process.argv.slice(2));
