// Writes the seeds of corpus/ anew: node tests/fuzz/seeds.mjs
import fs from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import zlib from "node:zlib";
import { convModel, digit, floats, matmulModel, npy, onnx, tar, zip } from "../e2e/lib/files.mjs";

const corpus = path.join(path.dirname(fileURLToPath(import.meta.url)), "corpus");
const two = [["image/0.npy", digit(0)], ["image/1.npy", digit(1)]];
const labels = ["labels.npy", npy([2], Buffer.alloc(16), { descr: "<i8" })];
const x = { inputs: [{ name: "x", shape: ["N", 4] }], outputs: [{ name: "y", shape: ["N", 4] }] };
const seeds = {
  model: {
    matmul: matmulModel(2),
    external: matmulModel(4, { external: { location: "w", offset: 0, length: 64 } }),
    conv: convModel({ channels: 1, size: 8, width: 2, layers: 2 }),
    add: onnx({ ...x, nodes: [{ op: "Add", inputs: ["x", "x"], outputs: ["s"] }, { op: "Softmax", inputs: ["s"], outputs: ["y"] }] }),
    reshape: onnx({ ...x, nodes: [{ op: "Shape", inputs: ["x"], outputs: ["s"] }, { op: "Reshape", inputs: ["x", "s"], outputs: ["r"] }, { op: "Transpose", inputs: ["r"], outputs: ["t"] }, { op: "Concat", inputs: ["x", "t"], outputs: ["y"] }] }),
  },
  dataset: { "two.tar": tar(two), "labels.tar": tar([...two, labels]), "two.zip": zip(two), "two.npz": zip([["image.npy", npy([2, 4], floats(8))]]), "one.npy": digit(0), "two.tar.gz": zlib.gzipSync(tar(two)) },
  npy: { f32: digit(0), i64: npy([2], Buffer.alloc(16), { descr: "<i8" }), scalar: npy([], floats(1)) },
  config: {
    chapter: "quant_config = {\n  'model_config': {'activation': {'calibration_type': 'max', 'per_channel': True,},},\n  # raised\n  'node_config': {'Conv_1': {'qtype': 'int16', \"input1\": 'int8'}, 'Conv_1': {'qtype': 'int16', 'input1': 'int8'}},\n}",
    levels: '{"op_config": {"Lut": {"qtype": "int16"}}, "subgraph_config": {"h": {"inputs": ["Conv_1"], "outputs": ["Mul_2"], "qtype": "float16"}}}',
    search: '{"model_config": {"modelwise_search": {"metric": "mse"}, "activation": {"calibration_type": ["max", "kl"], "max_percentile": [0.99995, 1.0], "num_bin": 2048}}} // end',
  },
  json: {
    job: JSON.stringify({ kind: "calibrate", model: "mdl_", quant_config: { model_config: { all_node_type: "int8" } }, options: { samples: 1 } }),
    numbers: "[0,-1,1e5,1.25,1e-300,9223372036854775807,true,false,null]",
    text: '{"\\u00fc\\ud83d\\ude00":"\\n\\"","":[[[]]]}',
  },
};
for (const [target, files] of Object.entries(seeds)) {
  fs.mkdirSync(path.join(corpus, target), { recursive: true });
  for (const [name, data] of Object.entries(files)) fs.writeFileSync(path.join(corpus, target, name), data);
}
