// ONNX's wire format, written by hand: tensors, nodes, graphs, models.

// The element types: number in TensorProto, size, the name ONNX Runtime gives it, how one is put
// into a DataView. Values are Numbers; 64-bit integers are widened here.
const half = new Map();
export const TYPES = {
  f32: { id: 1, size: 4, ort: 'float32', array: Float32Array, put: (d, o, v) => d.setFloat32(o, v, true) },
  u8: { id: 2, size: 1, ort: 'uint8', array: Uint8Array, put: (d, o, v) => d.setUint8(o, v) },
  i8: { id: 3, size: 1, ort: 'int8', array: Int8Array, put: (d, o, v) => d.setInt8(o, v) },
  u16: { id: 4, size: 2, ort: 'uint16', array: Uint16Array, put: (d, o, v) => d.setUint16(o, v, true) },
  i16: { id: 5, size: 2, ort: 'int16', array: Int16Array, put: (d, o, v) => d.setInt16(o, v, true) },
  i32: { id: 6, size: 4, ort: 'int32', array: Int32Array, put: (d, o, v) => d.setInt32(o, v, true) },
  i64: { id: 7, size: 8, ort: 'int64', array: BigInt64Array, put: (d, o, v) => d.setBigInt64(o, BigInt(v), true) },
  bool: { id: 9, size: 1, ort: 'bool', array: Uint8Array, put: (d, o, v) => d.setUint8(o, v ? 1 : 0) },
  f16: { id: 10, size: 2, ort: 'float16', array: globalThis.Float16Array ?? Uint16Array, put: (d, o, v) => d.setUint16(o, toHalf(v), true) },
  f64: { id: 11, size: 8, ort: 'float64', array: Float64Array, put: (d, o, v) => d.setFloat64(o, v, true) },
  u32: { id: 12, size: 4, ort: 'uint32', array: Uint32Array, put: (d, o, v) => d.setUint32(o, v, true) },
  u64: { id: 13, size: 8, ort: 'uint64', array: BigUint64Array, put: (d, o, v) => d.setBigUint64(o, BigInt(v), true) },
};
export const typeOfOrt = (name) => Object.keys(TYPES).find((t) => TYPES[t].ort === name);

// The nearest half, ties to even.
function toHalf(v) {
  if (half.has(v)) return half.get(v);
  const sign = v < 0 || Object.is(v, -0) ? 0x8000 : 0;
  const a = Math.abs(v);
  let bits;
  if (Number.isNaN(v)) bits = 0x7e00;
  else if (a >= 65520) bits = 0x7c00;
  else {
    const e = Math.max(Math.floor(Math.log2(a || 1e-30)), -14);
    const steps = a / 2 ** (e - 10);
    let n = Math.floor(steps);
    const rest = steps - n;
    if (rest > 0.5 || (rest === 0.5 && n % 2)) n++;
    bits = e === -14 && n < 1024 ? n : ((e + 15) << 10) + (n - 1024);
  }
  half.set(v, sign | bits);
  return sign | bits;
}

/** A tensor {type, dims, raw} from Numbers. */
export function tensor(type, dims, values) {
  const { size, put } = TYPES[type];
  const raw = Buffer.alloc(values.length * size);
  const view = new DataView(raw.buffer, raw.byteOffset, raw.length);
  values.forEach((v, i) => put(view, i * size, v));
  return { type, dims, raw };
}

// ---- the wire ----

function varint(v) {
  const bytes = [];
  let n = BigInt.asUintN(64, BigInt(v));
  do {
    bytes.push(Number(n & 127n) | (n > 127n ? 128 : 0));
    n >>= 7n;
  } while (n);
  return Buffer.from(bytes);
}
const number = (field, v) => Buffer.concat([varint(field << 3), varint(v)]);
const bytes = (field, b) => {
  const body = typeof b === 'string' ? Buffer.from(b) : b;
  return Buffer.concat([varint((field << 3) | 2), varint(body.length), body]);
};
const float = (field, v) => {
  const b = Buffer.alloc(4);
  b.writeFloatLE(v);
  return Buffer.concat([varint((field << 3) | 5), b]);
};
const join = (...parts) => Buffer.concat(parts.flat());

export const encodeTensor = (t, name = '') =>
  join(t.dims.map((d) => number(1, d)), number(2, TYPES[t.type].id), name ? bytes(8, name) : [], bytes(9, t.raw));

// ---- attributes: an integer is INT, other numbers FLOAT; F() makes any number FLOAT ----

export const F = (v) => ({ float: v });
export const Fs = (...v) => ({ floats: v });
export const T = (type, dims, values) => ({ tensor: tensor(type, dims, values) });
/** A sparse tensor: the values at linear indices. */
export const S = (type, dims, values, indices) => ({ sparse: { dims, values: tensor(type, [values.length], values), indices: tensor('i64', [indices.length], indices) } });
export const G = (graph) => ({ graph });

const kinds = [
  { id: 1, is: (v) => v.float !== undefined, body: (v) => float(2, v.float) },
  { id: 6, is: (v) => v.floats !== undefined, body: (v) => v.floats.map((x) => float(7, x)) },
  { id: 4, is: (v) => v.tensor !== undefined, body: (v) => bytes(5, encodeTensor(v.tensor)) },
  { id: 11, is: (v) => v.sparse !== undefined, body: ({ sparse: s }) => bytes(22, join(bytes(1, encodeTensor(s.values)), bytes(2, encodeTensor(s.indices)), s.dims.map((d) => number(3, d)))) },
  { id: 5, is: (v) => v.graph !== undefined, body: (v) => bytes(6, encodeGraph(v.graph)) },
  { id: 3, is: (v) => typeof v === 'string', body: (v) => bytes(4, v) },
  { id: 8, is: (v) => Array.isArray(v) && typeof v[0] === 'string', body: (v) => v.map((x) => bytes(9, x)) },
  { id: 7, is: (v) => Array.isArray(v), body: (v) => v.map((x) => number(8, x)) },
  { id: 2, is: (v) => Number.isInteger(v), body: (v) => number(3, v) },
  { id: 1, is: () => true, body: (v) => float(2, v) },
];
function attribute([name, v]) {
  const kind = kinds.find((k) => k.is(v));
  return bytes(5, join(bytes(1, name), kind.body(v), number(20, kind.id)));
}

// ---- graphs ----

const valueInfo = (v) => {
  if (!v.type) return bytes(1, v.name);
  const dims = v.dims && bytes(2, join(v.dims.map((d) => bytes(1, typeof d === 'string' ? bytes(2, d) : number(1, d)))));
  return join(bytes(1, v.name), bytes(2, bytes(1, join(number(1, TYPES[v.type].id), dims ?? []))));
};
const node = (n, i) =>
  join(n.in.map((s) => bytes(1, s)), n.out.map((s) => bytes(2, s)), bytes(3, i ? `${n.op}_${i}` : n.op), bytes(4, n.op),
    Object.entries(n.attrs ?? {}).map(attribute), n.domain ? bytes(7, n.domain) : []);

/** {nodes: [{op, in, out, attrs}], inputs: [{name, type, dims}], outputs: [...], init: {name: tensor}} */
function encodeGraph(g) {
  return join(g.nodes.map((n, i) => bytes(1, node(n, i))), bytes(2, 'g'),
    Object.entries(g.init ?? {}).map(([name, t]) => bytes(5, encodeTensor(t, name))),
    (g.inputs ?? []).map((v) => bytes(11, valueInfo(v))), g.outputs.map((v) => bytes(12, valueInfo(v))));
}

const irVersion = (opset) => (opset >= 23 ? 11 : opset >= 21 ? 10 : opset >= 19 ? 9 : 8);

/** domains: names of others, at version 1. */
export const encodeModel = (graph, opset, domains = []) =>
  join(number(1, irVersion(opset)), bytes(7, encodeGraph(graph)), bytes(8, join(bytes(1, ''), number(2, opset))),
    domains.map((d) => bytes(8, join(bytes(1, d), number(2, 1)))));
