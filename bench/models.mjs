// Which models are measured, and on what data.
import fs from "node:fs";
import path from "node:path";
import { npy } from "../tests/e2e/lib/files.mjs";

// The generated models of build/bench/models and the collection.
export function defaultModels(collection, dir) {
  const found = [];
  if (fs.existsSync(collection)) for (const name of fs.readdirSync(collection)) found.push(path.join(collection, name, "model.onnx"));
  const generated = path.join(dir, "models");
  if (fs.existsSync(generated)) for (const name of fs.readdirSync(generated)) if (name.endsWith(".onnx")) found.push(path.join(generated, name));
  return found.filter((file) => fs.existsSync(file)).sort();
}

export const nameOf = (model) => (path.basename(model) === "model.onnx" ? path.basename(path.dirname(model)) : path.basename(model, ".onnx"));

// Numbers from -1 to 1 that are the same in every run.
function noise(count, seed) {
  let state = seed;
  return Buffer.from(Float32Array.from({ length: count }, () => (state = (state * 48271) % 2147483647) / 1073741823.5 - 1).buffer);
}
// The first calibration samples beside the model, or noise of the model's shape, as files in folder.
export function samplesOf(model, input, folder, n) {
  const beside = path.join(path.dirname(model), "calibration_data", input.name);
  fs.mkdirSync(folder, { recursive: true });
  const files = Array.from({ length: n }, (_, i) => path.join(folder, `${String(i).padStart(4, "0")}.npy`));
  if (fs.existsSync(beside)) {
    const found = fs.readdirSync(beside).filter((name) => name.endsWith(".npy")).sort((a, b) => parseInt(a) - parseInt(b));
    files.forEach((to, i) => fs.copyFileSync(path.join(beside, found[i % found.length]), to));
    return files;
  }
  if (input.type !== "float32") throw new Error(`${model}: no sample for input ${input.name} of type ${input.type}`);
  const shape = input.shape.map((d) => (typeof d === "number" && d > 0 ? d : 1));
  files.forEach((to, i) => fs.writeFileSync(to, npy(shape, noise(shape.reduce((a, b) => a * b, 1), i + 1))));
  return files;
}

