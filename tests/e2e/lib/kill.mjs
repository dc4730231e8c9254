// A job that is disturbed must end as the undisturbed one does.
import assert from "node:assert/strict";
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
  const events = rows.filter((r) => !["progress", "state", "log"].includes(r.type)).map(({ type, data }) => ({ type, data }));
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

// Resolves when the job has told at least `n` more progress rows than it had.
export const progressed = (server, id, after, n) => server.events(`/v1/jobs/${id}/events?after=${after}`, { enough: (rows) => rows.filter((r) => r.type === "progress").length >= n });
