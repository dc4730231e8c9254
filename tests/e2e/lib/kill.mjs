// A job that is disturbed must end as the undisturbed one does.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import path from "node:path";
import { Server } from "./server.mjs";
import { convModel, images } from "./files.mjs";

// Work for some seconds: `samples` tasks or more, each of some ten milliseconds.
export async function uploadWork(server, samples) {
  return { model: await server.upload("models", convModel()), data: await server.upload("datasets", images(samples)) };
}
export const work = (ids) => ({ kind: "calibrate", ...ids, quant_config: { model_config: { activation: { calibration_type: "kl" } } } });

// What the job's inputs determine: the result's bytes, the artifacts' digests, the lasting events.
export async function outcome(server, id) {
  const result = await server.expect(200, "GET", `/v1/jobs/${id}/results`);
  const artifacts = (await server.get(`/v1/jobs/${id}/artifacts`)).json.items.map(({ name, sha256 }) => ({ name, sha256 }));
  const { rows } = await server.events(`/v1/jobs/${id}/events?follow=false`);
  assert.equal(rows.filter((r) => r.type === "done").length, 1);
  assert.equal(rows.at(-1).type, "done");
  // A warning with a code is about what happened to the worker, not about the model.
  const events = rows.filter((r) => !["progress", "state", "log"].includes(r.type) && !r.data.code).map(({ type, data }) => ({ type, data }));
  return { result: result.body.toString(), artifacts, events };
}

export async function undisturbed(samples) {
  const server = await Server.start();
  const { id } = await server.submit(work(await uploadWork(server, samples)));
  const { engine } = await server.succeeded(id, 300);
  const end = await outcome(server, id);
  await server.stop();
  return { ...end, engine };
}

// Resolves when the job has told that at least `n` tasks are done, and not yet all.
export async function progressed(server, id, n) {
  const told = (row) => row.type === "progress" && row.data.done >= n;
  const { rows } = await server.events(`/v1/jobs/${id}/events`, { enough: (all) => all.some(told) });
  const row = rows.find(told);
  assert.ok(row && row.data.done < row.data.total, `the job was too quick: ${JSON.stringify(rows.at(-1))}`);
}

// The stored task results, as they lie in the database.
export const tasks = (server) =>
  JSON.parse(
    execFileSync("sqlite3", ["-json", path.join(server.data, "ptqd.sqlite"), "SELECT hex(digest) AS digest, kind, hex(result) AS result, blob, attempt FROM tasks ORDER BY digest"], { encoding: "utf8", maxBuffer: 256 << 20 }) || "[]",
  );
