// Runs ONNX Runtime on every case and writes what it computed in the layout of ONNX's node tests:
// run.mjs DIR REFUSED [TEXT] – what the peer refuses goes to the file REFUSED; only the cases whose
// name holds TEXT. A case that ends the process is named, and the rest goes on in another one.
import { fork } from 'node:child_process';
import { appendFileSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { TYPES, encodeModel, encodeTensor, typeOfOrt } from './onnx.mjs';
import { casesOf, questions } from './rows.mjs';

const here = dirname(fileURLToPath(import.meta.url));

async function allCases(text) {
  const files = readdirSync(join(here, 'cases')).filter((f) => f.endsWith('.mjs')).sort();
  const rows = (await Promise.all(files.map((f) => import(`./cases/${f}`)))).flatMap((m) => m.default);
  const list = casesOf(rows).filter((c) => c.name.includes(text));
  const names = new Set(list.map((c) => c.name));
  if (names.size !== list.length) throw new Error('two cases have one name');
  return list;
}

// ---- one process: cases from `first` on ----

const aligned = (t) => new TYPES[t.type].array(t.raw.buffer.slice(t.raw.byteOffset, t.raw.byteOffset + t.raw.length));

async function infer(ort, { graph, opset }, c) {
  const options = { graphOptimizationLevel: 'disabled', intraOpNumThreads: 1, interOpNumThreads: 1, logSeverityLevel: 4, executionProviders: ['cpu'] };
  const session = await ort.InferenceSession.create(encodeModel(graph, opset), options);
  const feeds = Object.fromEntries(c.feeds.map((v) => [v.name, new ort.Tensor(TYPES[v.tensor.type].ort, aligned(v.tensor), v.tensor.dims)]));
  try {
    const out = await session.run(feeds);
    return graph.outputs.map(({ name }) => {
      const { type, dims, data } = out[name];
      return { type: typeOfOrt(type), dims, raw: Buffer.from(data.buffer, data.byteOffset, data.byteLength) };
    });
  } finally {
    await session.release();
  }
}

/** The outputs, and whether a wider type computed them; an error when the peer refuses. */
async function answer(ort, c) {
  let refusal;
  for (const q of questions(c)) {
    try {
      return { outputs: await infer(ort, q, c), wide: q.as === 'wider' };
    } catch (e) {
      refusal ??= e;
      if (!/implementation|NOT_IMPLEMENTED|not supported/i.test(e.message)) break;
    }
  }
  throw refusal;
}

function save(dir, c, outputs) {
  const set = join(dir, c.name, 'test_data_set_0');
  mkdirSync(set, { recursive: true });
  writeFileSync(join(dir, c.name, 'model.onnx'), encodeModel(c.graph, c.opset));
  c.feeds.forEach((v, i) => writeFileSync(join(set, `input_${i}.pb`), encodeTensor(v.tensor, v.name)));
  outputs.forEach((t, i) => writeFileSync(join(set, `output_${i}.pb`), encodeTensor(t, c.graph.outputs[i].name)));
}

async function runFrom(dir, text, first) {
  const ort = await import('onnxruntime-node');
  ort.env.logLevel = 'fatal';
  const list = await allCases(text);
  for (let i = first; i < list.length; i++) {
    process.send({ at: i });
    try {
      const a = await answer(ort, list[i]);
      save(dir, list[i], a.outputs);
      process.send({ done: i, wide: a.wide });
    } catch (e) {
      process.send({ refused: i, why: e.message });
    }
  }
  process.disconnect();
}

// ---- the process that counts ----

/** Starts at `first`; resolves to the case at which the process ended, or the number of cases. */
function part(argv, first, total, seen) {
  return new Promise((resolve) => {
    let at = first - 1, finished = false;
    const child = fork(fileURLToPath(import.meta.url), [...argv, String(first)], { stdio: ['ignore', 'ignore', 'pipe', 'ipc'] });
    child.stderr.resume();
    child.on('message', (m) => {
      at = m.at ?? at;
      seen(m);
    });
    child.on('disconnect', () => { finished = at === total - 1; });
    child.on('close', (code, signal) => {
      if (code === 0) return resolve(total);
      if (at < first) throw new Error(`the peer does not start (${signal ?? code})`);
      seen({ refused: at, why: `ends the process (${signal ?? code})` });
      resolve(at + 1);
    });
  });
}

async function main(dir, log, text = '') {
  const list = await allCases(text);
  rmSync(dir, { recursive: true, force: true });
  mkdirSync(dir, { recursive: true });
  const refused = [];
  let wide = 0;
  const seen = (m) => {
    if (m.wide) wide++;
    if (m.refused !== undefined) refused.push(`${list[m.refused].name}: ${m.why.replace(/\s+/g, ' ').slice(0, 200)}`);
  };
  for (let first = 0; first < list.length;) first = await part(['--from', dir, text], first, list.length, seen);
  writeFileSync(log, refused.map((r) => `${r}\n`).join(''));
  console.log(`${list.length} cases: peer computes ${list.length - refused.length} (${wide} of them in a wider type), peer refuses ${refused.length} (named in ${log})`);
}

const args = process.argv.slice(2);
if (process.send && args[0] === '--from') await runFrom(args[1], args[2], Number(args[3]));
else await main(...args);
