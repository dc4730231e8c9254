// Makes npy, tar, zip and ONNX files, also wrong ones.
import zlib from "node:zlib";

export function npy(shape, values, { descr = "<f4", header } = {}) {
  const dims = shape.length === 1 ? `${shape[0]},` : shape.join(", ");
  let text = header ?? `{'descr': '${descr}', 'fortran_order': False, 'shape': (${dims}), }`;
  text = text.padEnd(Math.ceil((10 + text.length + 1) / 64) * 64 - 11) + "\n";
  const head = Buffer.alloc(10);
  head.write("\x93NUMPY\x01\x00", "latin1");
  head.writeUInt16LE(text.length, 8);
  return Buffer.concat([head, Buffer.from(text, "latin1"), values ?? Buffer.alloc(0)]);
}

export const floats = (n, f = (i) => i) => Buffer.from(Float32Array.from({ length: n }, (_, i) => f(i)).buffer);
export const digit = (seed) => npy([1, 1, 8, 8], floats(64, (i) => ((i * 7 + seed * 13) % 17) / 16));

// files: [[name, Buffer, type flag?, link name?]]
export function tar(files) {
  const blocks = files.map(([name, data, type = "0", link = ""]) => {
    const head = Buffer.alloc(512);
    head.write(name, 0, 100);
    head.write("0000644\0" + "0000000\0" + "0000000\0" + data.length.toString(8).padStart(11, "0") + "\0" + "00000000000\0" + "        " + type, 100);
    head.write(link, 157, 100);
    head.write("ustar\x0000", 257);
    head.write([...head].reduce((a, b) => a + b, 0).toString(8).padStart(6, "0") + "\0 ", 148);
    return Buffer.concat([head, data, Buffer.alloc((512 - (data.length % 512)) % 512)]);
  });
  return Buffer.concat([...blocks, Buffer.alloc(1024)]);
}

export const digits = (n, first = 0) => tar(Array.from({ length: n }, (_, i) => [`image/${String(i).padStart(4, "0")}.npy`, digit(first + i)]));

function crc32(data) {
  let crc = ~0;
  for (const byte of data) {
    crc ^= byte;
    for (let k = 0; k < 8; k++) crc = (crc >>> 1) ^ (0xedb88320 & -(crc & 1));
  }
  return ~crc >>> 0;
}

export function zip(files, { crc = crc32 } = {}) {
  const parts = [];
  const directory = [];
  let offset = 0;
  for (const [name, data] of files) {
    const packed = zlib.deflateRawSync(data, { level: 9 });
    const common = Buffer.alloc(26);
    common.writeUInt16LE(20, 0);
    common.writeUInt16LE(8, 4);
    common.writeUInt32LE(crc(data), 10);
    common.writeUInt32LE(packed.length, 14);
    common.writeUInt32LE(data.length, 18);
    common.writeUInt16LE(Buffer.byteLength(name), 22);
    const local = Buffer.concat([Buffer.from("PK\x03\x04"), common, Buffer.from(name), packed]);
    const tail = Buffer.alloc(14);
    tail.writeUInt32LE(offset, 10);
    directory.push(Buffer.concat([Buffer.from("PK\x01\x02\x14\x00"), common, tail, Buffer.from(name)]));
    parts.push(local);
    offset += local.length;
  }
  const list = Buffer.concat(directory);
  const end = Buffer.alloc(22);
  end.write("PK\x05\x06", "latin1");
  end.writeUInt16LE(files.length, 8);
  end.writeUInt16LE(files.length, 10);
  end.writeUInt32LE(list.length, 12);
  end.writeUInt32LE(offset, 16);
  return Buffer.concat([...parts, list, end]);
}

// Protocol buffers' wire format, as far as ONNX needs it.
function varint(n) {
  const bytes = [];
  let v = BigInt.asUintN(64, BigInt(n));
  do {
    bytes.push(Number(v & 127n) | (v > 127n ? 128 : 0));
    v >>= 7n;
  } while (v > 0n);
  return Buffer.from(bytes);
}
const int = (field, n) => Buffer.concat([varint(field * 8), varint(n)]);
const bytes = (field, data) => {
  const b = Buffer.from(data);
  return Buffer.concat([varint(field * 8 + 2), varint(b.length), b]);
};
const message = (field, ...parts) => bytes(field, Buffer.concat(parts));

const FLOAT = 1;
const value = (field, { name, shape }) =>
  message(field, bytes(1, name), message(2, message(1, int(1, FLOAT), message(2, ...shape.map((d) => message(1, typeof d === "string" ? bytes(2, d) : int(1, d)))))));
// ints: attributes that are one integer.
const node = ({ op, inputs, outputs, name = "", domain = "", ints = {} }) =>
  message(1, ...inputs.map((i) => bytes(1, i)), ...outputs.map((o) => bytes(2, o)), bytes(3, name), bytes(4, op),
    ...Object.entries(ints).map(([k, v]) => message(5, bytes(1, k), int(3, v), int(20, 2))), bytes(7, domain));
const tensor = ({ name, shape, data, external }) =>
  message(5, ...shape.map((d) => int(1, d)), int(2, FLOAT), bytes(8, name),
    ...(external ? [...Object.entries(external).map(([k, v]) => message(13, bytes(1, k), bytes(2, String(v)))), int(14, 1)] : [bytes(9, data)]));

// An ONNX file from {nodes, inputs, outputs, tensors}, opset 13.
export function onnx({ nodes, inputs, outputs, tensors = [], opset = 13 }) {
  const graph = message(7, ...nodes.map(node), bytes(2, "g"), ...tensors.map(tensor), ...inputs.map((v) => value(11, v)), ...outputs.map((v) => value(12, v)));
  return Buffer.concat([int(1, 8), bytes(2, "e2e"), graph, message(8, bytes(1, ""), int(2, opset))]);
}

// x [1, n] · w [n, n] → y, Relu; w inside or in an external file.
export function matmulModel(n, { external, weights = floats(n * n, (i) => Math.sin(i)) } = {}) {
  return onnx({
    nodes: [{ op: "MatMul", name: "mm", inputs: ["x", "w"], outputs: ["m"] }, { op: "Relu", name: "act", inputs: ["m"], outputs: ["y"] }],
    inputs: [{ name: "x", shape: [1, n] }],
    outputs: [{ name: "y", shape: [1, n] }],
    tensors: [{ name: "w", shape: [n, n], data: weights, external }],
  });
}

// x [1, c, s, s] through `layers` 3×3 convolutions of `width` channels: work of a chosen size.
export function convModel({ channels = 8, size = 64, width = 64, layers = 8 } = {}) {
  const spread = (n, k) => floats(n, (i) => (((i * 2654435761 + k * 97) % 1000) / 1000 - 0.5) / Math.sqrt(width * 2));
  const nodes = [];
  const tensors = [];
  for (let k = 0; k < layers; k++) {
    const shape = [width, k ? width : channels, 3, 3];
    tensors.push({ name: `w${k}`, shape, data: spread(shape.reduce((a, b) => a * b), k) });
    nodes.push({ op: "Conv", name: `conv${k}`, inputs: [k ? `a${k - 1}` : "x", `w${k}`], outputs: [`c${k}`] }, { op: "Relu", name: `relu${k}`, inputs: [`c${k}`], outputs: [`a${k}`] });
  }
  nodes.push({ op: "GlobalAveragePool", name: "pool", inputs: [`a${layers - 1}`], outputs: ["y"] });
  return onnx({ nodes, tensors, inputs: [{ name: "x", shape: [1, channels, size, size] }], outputs: [{ name: "y", shape: [1, width, 1, 1] }] });
}

export const images = (n, { channels = 8, size = 64 } = {}) =>
  tar(Array.from({ length: n }, (_, i) => [`x/${String(i).padStart(4, "0")}.npy`, npy([1, channels, size, size], floats(channels * size * size, (k) => Math.sin(k * 0.01 + i)))]));
