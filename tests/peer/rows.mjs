// From the rows of cases/*.mjs to cases: {name, opset, graph, inputs: [{name, tensor}]}.
//
// A row: { op, attrs, in, outs, types, since, until, name, opsets }
//   in     one text an input: "T[2,3]" random, "T[2,3] 0.1..2" random in a range, "i64[2]=1,-1"
//          given values ("i64[0]" is empty, "f32[]=2" a scalar); "" is an absent input. T stands
//          for each of the row's types.
//   outs   the outputs' types, ["T"] by default; "" is an absent output.
//   opsets every version in which the operator changed, from since (7) until (23), and the last.
// At the last opset a row is run once more with all inputs but the first as initializers.
import { TYPES, tensor } from './onnx.mjs';
import { VERSIONS } from './versions.mjs';

const FIRST = 7, LAST = 23;

// ---- random numbers that depend on the case alone ----

function seeded(text) {
  let h = 2166136261;
  for (const c of text) h = Math.imul(h ^ c.charCodeAt(0), 16777619);
  return () => {
    h = (h + 0x6d2b79f5) | 0;
    let t = Math.imul(h ^ (h >>> 15), 1 | h);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}
const RANGES = { f32: [-3, 3], f16: [-3, 3], f64: [-3, 3], bool: [0, 1], i8: [-9, 9], i16: [-99, 99], i32: [-99, 99], i64: [-99, 99], u8: [0, 15], u16: [0, 99], u32: [0, 99], u64: [0, 99] };

function values(type, count, range, random) {
  const [lo, hi] = range ?? RANGES[type];
  const whole = !type.startsWith('f');
  return Array.from({ length: count }, () => (whole ? lo + Math.floor(random() * (hi - lo + 1)) : lo + random() * (hi - lo)));
}

const SPEC = /^(\w+)\[([\d,]*)\](?:=(.*)| (\S+)\.\.(\S+))?$/;
const named = { nan: NaN, inf: Infinity, '-inf': -Infinity };
/** A tensor of an input's text. */
function fill(text, T, random) {
  const m = SPEC.exec(text);
  if (!m) throw new Error(`not an input: ${text}`);
  const type = m[1] === 'T' ? T : m[1];
  if (!TYPES[type]) throw new Error(`not a type: ${text}`);
  const dims = m[2] === '' ? [] : m[2].split(',').map(Number);
  const count = dims.reduce((a, b) => a * b, 1);
  const given = m[3] === undefined ? undefined : m[3].split(',').map((s) => named[s] ?? Number(s));
  if (given && given.length !== count) throw new Error(`${text}: ${given.length} values for ${count}`);
  return tensor(type, dims, given ?? values(type, count, m[4] && [Number(m[4]), Number(m[5])], random));
}

// ---- cases ----

function opsetsOf(row) {
  const since = row.since ?? FIRST, until = row.until ?? LAST;
  if (row.opsets) return row.opsets;
  const versions = VERSIONS[row.op];
  if (!versions) throw new Error(`no versions of ${row.op}`);
  const first = Math.max(since, versions[0], FIRST);
  return [...new Set([first, ...versions.filter((v) => v >= first && v <= until), until])];
}

const short = (v) => {
  if (v.float !== undefined) return v.float;
  if (v.floats) return v.floats.join(',');
  if (v.graph || v.tensor) return 'x';
  return Array.isArray(v) ? v.join(',') : v;
};
const label = (row) => row.name ?? (Object.entries(row.attrs ?? {}).map(([k, v]) => `${k}=${short(v)}`).join('_') || 'plain');
const shapes = (row) => row.in.map((s) => (SPEC.exec(s)?.[2] ?? '').replaceAll(',', 'x')).join('_');
const clean = (s) => s.replace(/[^\w=,.+-]/g, '-').slice(0, 150);

/** The graph of one node; those of the inputs that `constant` accepts are initializers. */
export function graphOf(c, constant = () => false) {
  const inputs = c.inputs.filter((v) => v.tensor);
  return {
    nodes: [{ op: c.row.op, domain: c.row.domain, attrs: c.row.attrs, in: c.inputs.map((v) => (v.tensor ? v.name : '')), out: c.outs.map((t, i) => (t ? `y${i}` : '')) }],
    init: Object.fromEntries(inputs.filter(constant).map((v) => [v.name, v.tensor])),
    inputs: inputs.filter((v) => !constant(v)).map((v) => ({ name: v.name, type: v.tensor.type, dims: v.tensor.dims })),
    outputs: c.outs.flatMap((t, i) => (t ? [{ name: `y${i}`, type: t === 'T' ? c.T : t }] : [])),
  };
}

function caseOf(row, T, opset, taken) {
  const stem = clean(`${row.op}-${opset}-${T}-${label(row)}-${shapes(row)}`);
  const n = (taken.get(stem) ?? 0) + 1;
  taken.set(stem, n);
  const name = n > 1 ? `${stem}.${n}` : stem;
  const random = seeded(name);
  const inputs = row.in.map((text, i) => ({ name: `x${i}`, text, tensor: text ? fill(text, T, random) : null }));
  return { name, row, T, opset, inputs, outs: row.outs ?? ['T'] };
}

/** All cases of the rows. */
export function casesOf(rows) {
  const taken = new Map();
  return rows.flatMap((row) =>
    (row.types ?? ['f32']).flatMap((T) => {
      const opsets = opsetsOf(row);
      const list = opsets.map((opset) => {
        const c = caseOf(row, T, opset, taken);
        return { ...c, graph: row.graph ? row.graph(c) : graphOf(c), feeds: c.inputs.filter((v) => v.tensor) };
      });
      const last = list[list.length - 1];
      if (row.graph || last.feeds.length < 2) return list;
      const constant = (v) => v.name !== last.feeds[0].name;
      list.push({ ...last, name: `${last.name}-const`, graph: graphOf(last, constant), feeds: [last.feeds[0]], constant });
      return list;
    }));
}

// ---- the same case in a wider type, for what the peer has no kernel of ----

const WIDER = { f16: ['f32'], f64: ['f32'], bool: ['u8', 'i32', 'f32'], i8: ['i32', 'i64', 'f32'], u8: ['i32', 'i64', 'f32'], i16: ['i32', 'i64', 'f32'], u16: ['i32', 'i64', 'f32'], i32: ['i64', 'f32', 'f64'], u32: ['i64', 'f32', 'f64'], i64: ['i32', 'f32', 'f64'], u64: ['i64', 'f32', 'f64'] };

// Graphs that compute the case's outputs by casting what is of type T to a wider type.
function widened(c) {
  if (c.row.graph || c.row.exact) return [];
  return (WIDER[c.T] ?? []).map((W) => {
    const g = structuredClone({ inputs: c.graph.inputs, init: c.graph.init, outputs: c.graph.outputs });
    const node = { ...c.graph.nodes[0] };
    const isT = (name) => c.inputs.find((v) => v.name === name)?.text.startsWith('T');
    const before = [], after = [];
    node.in = node.in.map((name) => {
      if (!name || !isT(name)) return name;
      before.push({ op: 'Cast', in: [name], out: [`${name}_wide`], attrs: { to: TYPES[W].id } });
      return `${name}_wide`;
    });
    node.out = node.out.map((name, i) => {
      if (!name || c.outs[i] !== 'T') return name;
      after.push({ op: 'Cast', in: [`${name}_wide`], out: [name], attrs: { to: TYPES[c.T].id } });
      return `${name}_wide`;
    });
    return { graph: { ...c.graph, init: c.graph.init, inputs: g.inputs, outputs: g.outputs, nodes: [...before, node, ...after] } };
  });
}

/** What the peer is asked, in order: the case itself; what differs from it only by name. */
export function questions(c) {
  // Opset 22 gave operators bfloat16 and nothing else; the peer has not followed with all of them.
  const opsets = [c.opset, ...(c.opset >= 22 && VERSIONS[c.row.op]?.includes(22) && VERSIONS[c.row.op][0] < 22 ? [21] : [])];
  return [c, ...widened(c)].flatMap(({ graph }) => opsets.map((opset) => ({ graph, opset, as: graph === c.graph ? 'itself' : 'wider' })));
}
