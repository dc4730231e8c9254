// The three calls of docs/api.md, typed as they stand there.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { root } from "./lib/paths.mjs";
import { eventPointer, ndjson, validate } from "./lib/spec.mjs";
import { CALIBRATE, Server } from "./lib/server.mjs";

let server;
before(async () => (server = await Server.start()));
after(() => server.stop());

// As a shell would: exit status 0, or the test fails with what curl said.
async function shell(command) {
  const { stdout } = await promisify(execFile)("bash", ["-euc", command], { cwd: server.dir, env: { ...process.env, URL: `http://127.0.0.1:${server.port}` }, maxBuffer: 64 << 20 });
  return stdout;
}
const json = async (command) => JSON.parse(await shell(command));

test("three plain curl calls and a stream do the main job", { timeout: 60000 }, async () => {
  for (const [from, to] of [["digits.onnx", "model.onnx"], ["digits.tar.gz", "calibration_data.tar.gz"]]) fs.copyFileSync(path.join(root, "demo", from), path.join(server.dir, to));
  const model = await json("curl -sSf -T model.onnx $URL/v1/models");
  const data = await json("curl -sSf -T calibration_data.tar.gz $URL/v1/datasets");
  fs.writeFileSync(path.join(server.dir, "job.json"), JSON.stringify({ ...CALIBRATE, model: model.id, data: data.id }));
  const job = await json("curl -sSf -d @job.json $URL/v1/jobs");
  const rows = ndjson(await shell(`curl -sSfN $URL/v1/jobs/${job.id}/events`));
  rows.forEach((row) => validate(eventPointer, row, "an event line"));
  assert.deepEqual({ type: rows.at(-1).type, state: rows.at(-1).data.state }, { type: "done", state: "succeeded" });
  const result = await json(`curl -sSf $URL/v1/jobs/${job.id}/results`);
  assert.equal(result.samples, 64);
  await shell(`curl -sSf -O $URL/v1/jobs/${job.id}/artifacts/calibrated_model.onnx`);
  const file = fs.readFileSync(path.join(server.dir, "calibrated_model.onnx"));
  assert.ok(file.includes("HzCalibration"));
});

test("the calls are those that docs/api.md prints", () => {
  const text = fs.readFileSync(path.join(root, "docs/api.md"), "utf8");
  for (const line of ["curl -T model.onnx $URL/v1/models", "curl -T calibration_data.tar.gz $URL/v1/datasets", "curl -d @job.json $URL/v1/jobs", "curl -N $URL/v1/jobs/"]) assert.ok(text.includes(line), line);
});
